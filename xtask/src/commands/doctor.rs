//! `doctor`
use std::process::ExitCode;

use anyhow::Result;

use crate::cli;
use crate::context::Context;

pub(crate) fn run(_context: &Context, _args: &cli::Doctor) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
