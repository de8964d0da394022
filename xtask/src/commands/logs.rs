//! `logs`: what the services say.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;

use super::exit_code;
use crate::cli;
use crate::context::Context;

pub(crate) fn run(context: &Context, args: &cli::Logs) -> Result<ExitCode> {
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let tail = args.tail.to_string();
    let mut arguments = vec!["logs", "--timestamps", "--tail", tail.as_str()];
    if !std::io::stdout().is_terminal() {
        // v1 colours its output even into a file.
        arguments.push("--no-color");
    }
    if args.follow {
        arguments.push("--follow");
    }
    arguments.extend(args.services.iter().map(String::as_str));
    let step = stack.compose("read the logs", &arguments);
    Ok(exit_code(context.machine.hand_over(&step)?))
}
