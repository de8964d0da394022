//! `shell`: a shell in a service's container.

use std::process::ExitCode;

use anyhow::Result;

use super::running::Running;
use super::{exit_code, pass_on};
use crate::cli;
use crate::context::Context;

pub(crate) fn run(context: &Context, args: &cli::Shell) -> Result<ExitCode> {
    let stack = Running::of(context, args.at.host.as_deref())?;
    let (terminal, shell) = match &args.command {
        // What it prints may be a file of any kind: a terminal would change its lines.
        Some(command) => (false, vec!["bash", "-c", command]),
        None => (pass_on::on_terminal(), vec!["bash"]),
    };
    let ended = stack.hand_over("open a shell", &args.service, terminal, &shell)?;
    Ok(exit_code(ended))
}
