//! `unlock --host`: who is at work on a host, and an end to what hangs.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cli;
use crate::commands::print_json;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::millis;
use crate::release::{self, Holder};

pub(crate) fn run(context: &Context, args: &cli::Unlock) -> Result<()> {
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    let machine = context.over(name, host)?;
    let doing = || format!("failed to unlock {name}");
    let what = format!("{name}, at {}", host.ssh);
    let lock = context
        .term
        .task(&what, || release::lock(&machine, host, args.end))
        .with_context(doing)?;
    if args.json {
        print_json(&lock)?;
    }
    let term = &context.term;
    let Some(holder) = &lock.holder else {
        term.done(&match &lock.left {
            Some(left) => format!("the lock is free; nobody does any more what was noted: {left}"),
            None => "the lock is free".to_owned(),
        });
        return Ok(());
    };
    for (what, text) in lines(holder) {
        term.say(&format!("  {} {text}", term.dim(&format!("{what:<9}"))));
    }
    if !args.end {
        term.say(&format!(
            "  if it hangs: cargo xtask unlock --host {name} --end"
        ));
        return Ok(());
    }
    if !holder.ended {
        let why = match holder.pid {
            Some(pid) => format!("process {pid} there goes on, though it was killed"),
            None => "it is held by a process that is no task of xtask's".to_owned(),
        };
        return Err(Failure::tool(why)
            .hint(format!(
                "look on the host who has the file open: fuser {}/lock",
                host.directory
            ))
            .into());
    }
    let how = if holder.killed { "killed" } else { "ended" };
    term.done(&format!("{how}; the lock is free"));
    let observed = release::observe(&machine, host, None, &[])?;
    if !observed.paused.is_empty() {
        term.warn(&format!(
            "left paused: {}; the next deploy unpauses them",
            observed.paused.join(", ")
        ));
    }
    let next = match (&observed.good, &observed.current) {
        (None, _) => "nothing has served well yet: the next deploy is the first".to_owned(),
        (good, current) if good != current => format!(
            "{} did not come to its end: the next deploy restarts Airflow, and falls back to {}",
            current.as_deref().unwrap_or("a release"),
            good.as_deref().unwrap_or_default()
        ),
        (Some(good), _) => format!("{good} is what serves, or what the next deploy starts again"),
    };
    term.say(&format!("  {next}: cargo xtask deploy --host {name}"));
    Ok(())
}

fn lines(holder: &Holder) -> Vec<(&'static str, String)> {
    let mut lines = vec![("held", format!("since {}", holder.doing))];
    if let (Some(run), Some(pid)) = (&holder.run, holder.pid) {
        lines.push(("task", format!("{run}, process {pid}")));
    }
    if let Some(event) = &holder.event {
        lines.push(("phase", format!("{} {}", event.phase, event.state)));
    }
    if let Some(seconds) = holder.silent {
        let silent = millis(Duration::from_secs(seconds));
        lines.push(("silent", format!("{silent} since its last word")));
    }
    lines
}
