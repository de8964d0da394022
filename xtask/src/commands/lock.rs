//! `lock`
use anyhow::Result;

use super::context::Context;
use crate::cli;

pub(crate) fn run(_context: &Context, _args: &cli::Lock) -> Result<()> {
    Ok(())
}
