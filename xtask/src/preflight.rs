//! The checks that stand before a command changes anything.

use anyhow::Result;

use crate::config::Settings;
use crate::context::Context;
use crate::engine::Engine;

/// What `up` needs.
pub(crate) fn before_up(_c: &Context, engine: &Engine<'_>, _s: &Settings) -> Result<()> {
    engine.version().map(drop)
}
