//! `down`: stops the stack; data stays unless it is given up.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;

use crate::cli;
use crate::context::Context;
use crate::error::Failure;

pub(crate) fn run(context: &Context, args: &cli::Down) -> Result<()> {
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let project = settings.project();
    let volumes = engine.volumes(project)?;
    let containers = stack.containers()?.len();
    if containers == 0 && (volumes.is_empty() || !args.volumes) {
        context.term.done("nothing runs");
        return Ok(());
    }
    let mut arguments = vec!["down", "--remove-orphans"];
    if args.volumes {
        arguments.push("--volumes");
    }
    let step = stack.compose("stop the stack", &arguments);
    if args.dry.dry_run {
        context.term.say(&format!("would run: {}", step.line()));
        return Ok(());
    }
    if args.volumes && !args.yes {
        confirm(context, project, &volumes)?;
    }
    context
        .term
        .task("stack is down", || context.machine.run(&step))?;
    let kept = engine.volumes(project)?;
    if !kept.is_empty() {
        context
            .term
            .say(&format!("  data is kept in {}", kept.join(", ")));
    }
    Ok(())
}

fn confirm(context: &Context, project: &str, volumes: &[String]) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::user("failed to ask: standard input is no terminal")
                .hint("cargo xtask down --volumes --yes")
                .into(),
        );
    }
    context
        .term
        .warn(&format!("this removes all data in {}", volumes.join(", ")));
    write!(std::io::stderr(), "type {project} to go on: ")?;
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == project {
        Ok(())
    } else {
        Err(Failure::user("nothing was removed: the name was not typed").into())
    }
}
