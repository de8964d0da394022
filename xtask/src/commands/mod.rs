//! One file a command, short enough to read as the story of that command.

mod audit;
mod bench;
mod build;
mod ci;
mod completions;
mod confirm;
mod doctor;
mod down;
mod env;
mod hash;
mod host;
mod init;
mod lock;
mod logs;
mod nightly;
mod pass_on;
mod phases;
mod prune;
mod push;
mod reference;
mod restart;
mod running;
mod shell;
mod sql;
mod status;
mod summary;
mod up;
mod verify;
mod why;

use std::io::Write;
use std::process::{ExitCode, ExitStatus};

use anyhow::Result;
use serde::Serialize;

use crate::cli::{Cli, Command};
use crate::context::Context;

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    // They are asked for by a shell as it starts, wherever that is.
    if let Command::Completions(args) = &cli.command {
        return completions::run(args).map(|()| ExitCode::SUCCESS);
    }
    let context = Context::new(cli.global.verbose)?;
    let done = match cli.command {
        Command::Doctor(args) => return doctor::run(&context, &args),
        Command::Etl(args) => return pass_on::etl(&context, &args),
        Command::Demo(args) => return pass_on::demo(&context, &args),
        Command::Dbt(args) => return pass_on::dbt(&context, &args),
        Command::Airflow(args) => return pass_on::airflow(&context, &args),
        Command::Nightly(args) => return nightly::run(&context, &args),
        Command::Sql(args) => return sql::run(&context, &args),
        Command::Shell(args) => return shell::run(&context, &args),
        Command::Logs(args) => return logs::run(&context, &args),
        Command::Tunnel(args) => return host::tunnel::run(&context, &args),
        Command::Status(args) => return status::run(&context, &args),
        Command::Env(args) => env::run(&context, &args),
        Command::Build(args) => build::run(&context, &args),
        Command::Hash(args) => hash::run(&context, &args),
        Command::Init(args) => init::run(&context, &args),
        Command::Up(args) => up::run(&context, &args),
        Command::Down(args) => down::run(&context, &args),
        Command::Restart(args) => restart::run(&context, &args),
        Command::Lock(args) => lock::run(&context, &args),
        Command::Audit(args) => audit::run(&context, &args),
        Command::Provision(args) => host::provision::run(&context, &args),
        Command::Push(args) => push::run(&context, &args),
        Command::Rollback(args) => host::rollback::run(&context, &args),
        Command::Backup(args) => host::backup::run(&context, &args),
        Command::Destroy(args) => host::destroy::run(&context, &args),
        Command::Unlock(args) => host::unlock::run(&context, &args),
        Command::Restore(args) => host::restore::run(&context, &args),
        Command::Releases(args) => host::releases::run(&context, &args),
        Command::Deploy(args) => host::deploy::run(&context, &args),
        Command::Prune(args) => prune::run(&context, &args),
        Command::Bench(args) => bench::run(&context, &args),
        Command::Ci(args) => ci::run(&context, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Reference(args) => reference::run(&context, &args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Data for a script, on standard output.
fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Data on standard output; a reader that left early is no failure.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The exit status of a tool that had the terminal, as ours.
fn exit_code(status: ExitStatus) -> ExitCode {
    // A tool that a signal ended has no status: 128 + signal, as shells say.
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
