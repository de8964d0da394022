//! `doctor`
use std::process::ExitCode;

use anyhow::Result;

use super::context::Context;
use crate::cli;

pub(crate) fn run(_context: &Context, _args: &cli::Doctor) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
