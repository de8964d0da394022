//! The requirements lock.

use anyhow::Result;

/// Texts of the locks.
#[derive(Debug)]
pub(crate) struct Locks;

/// Compiles.
pub(crate) fn compile() -> Result<Locks> {
    Ok(Locks)
}
