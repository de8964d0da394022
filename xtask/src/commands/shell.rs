//! `shell`: a shell in a service's container.

use std::process::ExitCode;

use anyhow::Result;

use super::{exit_code, pass_on};
use crate::cli;
use crate::context::Context;

pub(crate) fn run(context: &Context, args: &cli::Shell) -> Result<ExitCode> {
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let container = context.running(&stack, &args.service)?;
    let step = stack.exec(
        "open a shell",
        &container,
        pass_on::on_terminal(),
        &["bash"],
    );
    Ok(exit_code(context.machine.hand_over(&step)?))
}
