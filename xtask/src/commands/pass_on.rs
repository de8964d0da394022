//! `etl`, `dbt`, `airflow`: the tools' own command lines, in the scheduler's
//! container, where the nightly run has them too.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;

use super::exit_code;
use super::running::Running;
use crate::cli::PassOn;
use crate::config::Store;
use crate::context::Context;
use crate::error::Failure;

pub(crate) fn etl(context: &Context, args: &PassOn) -> Result<ExitCode> {
    pass_on(
        context,
        "run the ETL",
        &["python", "-m", "etl_pipeline"],
        args,
    )
}

pub(crate) fn dbt(context: &Context, args: &PassOn) -> Result<ExitCode> {
    pass_on(context, "run dbt", &["dbt"], args)
}

pub(crate) fn airflow(context: &Context, args: &PassOn) -> Result<ExitCode> {
    pass_on(context, "run airflow", &["airflow"], args)
}

/// In a container of its own: only it has the account that may write.
pub(crate) fn demo(context: &Context, args: &PassOn) -> Result<ExitCode> {
    let stack = Running::with_images(context, args.at.host.as_deref())?;
    if stack.settings.source() == Store::External {
        let whose = stack
            .place
            .host()
            .map_or(".env says", |_| "its settings say");
        return Err(Failure::user(
            "failed to find a demo source: OPENDENTAL_SOURCE_HOST names a real one",
        )
        .hint(format!(
            "the demo runs where {whose} OPENDENTAL_SOURCE_HOST=mysql"
        ))
        .into());
    }
    stack.container("mysql")?;
    let command = command(&["python", "-m", "opendental_demo"], args);
    let step = stack.run_once("run the demo source", "demo-seed", &command);
    Ok(exit_code(stack.machine().hand_over(&step)?))
}

fn pass_on(context: &Context, what: &str, tool: &[&str], args: &PassOn) -> Result<ExitCode> {
    let stack = Running::of(context, args.at.host.as_deref())?;
    let command = command(tool, args);
    let ended = stack.hand_over(what, "airflow-scheduler", on_terminal(), &command)?;
    Ok(exit_code(ended))
}

/// What was asked of the tool, or its help.
fn command<'a>(tool: &[&'a str], args: &'a PassOn) -> Vec<&'a str> {
    let mut command = tool.to_vec();
    command.extend(args.args.iter().map(String::as_str));
    if args.args.is_empty() {
        command.push("--help");
    }
    command
}

/// Whether a person sits at both ends.
pub(super) fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
