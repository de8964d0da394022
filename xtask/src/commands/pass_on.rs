//! `etl`, `dbt`, `airflow`: the tools' own command lines, in the scheduler's
//! container, where the nightly run has them too.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;

use super::{exit_code, phases};
use crate::cli::PassOn;
use crate::config::Store;
use crate::context::Context;
use crate::error::Failure;
use crate::image;
use crate::stack::Stack;

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
    let deploy = context.deploy()?;
    let settings = context.settings()?;
    if settings.source() == Store::External {
        return Err(Failure::user(
            "failed to find a demo source: OPENDENTAL_SOURCE_HOST names a real one",
        )
        .hint("the demo runs where .env says OPENDENTAL_SOURCE_HOST=mysql")
        .into());
    }
    let engine = context.engine()?;
    let facts = image::observe(&engine, &context.workspace, &deploy)?;
    let images = phases::images(context, &engine, &deploy, &facts)?;
    let stack = Stack::open(&engine, &settings, images)?;
    context.running(&stack, "mysql")?;
    let mut command = vec!["python", "-m", "opendental_demo"];
    command.extend(args.args.iter().map(String::as_str));
    if args.args.is_empty() {
        command.push("--help");
    }
    let step = stack.run_once("run the demo source", "demo-seed", &command);
    Ok(exit_code(context.machine.hand_over(&step)?))
}

fn pass_on(context: &Context, what: &str, tool: &[&str], args: &PassOn) -> Result<ExitCode> {
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let container = context.running(&stack, "airflow-scheduler")?;
    let mut command = tool.to_vec();
    command.extend(args.args.iter().map(String::as_str));
    if args.args.is_empty() {
        command.push("--help");
    }
    let step = stack.exec(what, &container, on_terminal(), &command);
    Ok(exit_code(context.machine.hand_over(&step)?))
}

/// Whether a person sits at both ends.
pub(super) fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
