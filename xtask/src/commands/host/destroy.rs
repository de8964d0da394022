//! `destroy --host`: all that the stack has on a host goes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;
use xshell::cmd;

use super::{self as on_host, There};
use crate::cli;
use crate::commands::{confirm, print_json};
use crate::config::{Host, environment};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Machine, Step, millis, plural};
use crate::release::{self, Leavings, Observed, Outcome, Release, Task, Work};

const ANSWER: Duration = Duration::from_secs(120);

pub(crate) fn run(context: &Context, args: &cli::Destroy) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    refuse_another_name(args)?;
    let machine = context.over(name, host)?;
    let doing = || format!("failed to remove the stack of {name}");
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(&machine, host, None, &[])
    })?;
    on_host::refuse_busy(name, &observed).with_context(doing)?;
    let release = observed.serving().or(observed.releases.last());
    let leavings = release::leavings(&machine, host, release.map(|r| r.project.as_str()))?;
    let copy = copies_before(args, &leavings, &observed, &machine, host)?;
    if args.json {
        print_json(&json!({
            "host": name, "removes": leavings.goes(args.with_backups),
            "keeps": if args.with_backups { &[] } else { leavings.kept.as_slice() },
            "copies_before": copy, "dry_run": args.dry.dry_run,
        }))?;
    }
    if leavings.goes(args.with_backups).is_empty() {
        context
            .term
            .done(&format!("nothing of the stack is on {name}"));
        return Ok(());
    }
    say(context, args, &leavings, copy);
    if args.dry.dry_run {
        return Ok(());
    }
    on_host::refuse_active(name, "destroy", &observed, &args.run).with_context(doing)?;
    confirm_here(context, args).with_context(doing)?;
    if let Some(release) = release {
        carry_out(context, args, host, &machine, release, copy, started).with_context(doing)?;
    } else {
        let step = sweep(
            &machine,
            host,
            "rm -rf code env run build airflow good paused busy",
        );
        machine.run(&step).with_context(doing)?;
    }
    if args.with_backups {
        let step = sweep(&machine, host, "rm -rf backups audit.jsonl deploys lock");
        machine.run(&step).with_context(doing)?;
    }
    let kept = match args.with_backups {
        true => "nothing is kept".to_owned(),
        false => format!("kept: {}/backups and audit.jsonl", host.directory),
    };
    context.term.done(&format!(
        "nothing of the stack is on {name} any more; {kept}  ({})",
        millis(started.elapsed())
    ));
    Ok(())
}

/// A last copy is made wherever there is something to copy.
fn copies_before(
    args: &cli::Destroy,
    leavings: &Leavings,
    observed: &Observed,
    machine: &Machine,
    host: &Host,
) -> Result<bool> {
    let data = leavings
        .volumes
        .iter()
        .any(|v| v.ends_with("_postgres-data"));
    let Some(serving) = observed
        .serving()
        .filter(|_| data && !args.no_backup && !args.with_backups)
    else {
        return Ok(false);
    };
    match release::refuse_elsewhere(machine, host, serving) {
        Ok(()) => Ok(true),
        // On another server it stays as it is.
        Err(error)
            if error
                .downcast_ref::<Failure>()
                .is_some_and(Failure::is_user) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn say(context: &Context, args: &cli::Destroy, leavings: &Leavings, copy: bool) {
    let term = &context.term;
    let verb = if args.dry.dry_run {
        "would remove"
    } else {
        "removes"
    };
    for (what, names) in leavings.by_kind(args.with_backups) {
        if !names.is_empty() {
            let names = names.join(", ");
            term.say(&format!("  {verb} {what} {names}"));
        }
    }
    if copy {
        term.say("  after a last copy of the metadata database");
    }
    if !args.with_backups && !leavings.kept.is_empty() {
        term.say(&format!(
            "  keeps {}: copies of the metadata database, and the audit log",
            plural(leavings.kept.len(), "file")
        ));
    }
}

fn refuse_another_name(args: &cli::Destroy) -> Result<()> {
    let name = args.on.host.as_str();
    match args.confirm.as_deref() {
        Some(given) if given != name => Err(Failure::user(format!(
            "nothing was removed: {given} is not the host's name"
        ))
        .hint(unasked(name))
        .into()),
        _ => Ok(()),
    }
}

/// Where no name was given, a person types it.
fn confirm_here(context: &Context, args: &cli::Destroy) -> Result<()> {
    let name = args.on.host.as_str();
    if args.confirm.is_some() {
        return Ok(());
    }
    let goes = format!("this removes the stack of {name}, and all its data");
    confirm::by_name(context, &goes, name, &unasked(name))
}

fn unasked(name: &str) -> String {
    format!("cargo xtask destroy --host {name} --confirm {name}")
}

fn carry_out(
    context: &Context,
    args: &cli::Destroy,
    host: &Host,
    machine: &Machine,
    release: &Release,
    copy: bool,
    started: Instant,
) -> Result<()> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let task = Task {
        run: format!("{now}-destroy"),
        release: release.clone(),
        old: None,
        wait: args.run.seconds(),
        who: json!({"by": environment::person(), "command": "destroy"}),
        work: Work::Destroy { copy },
    };
    let there = There {
        name: &args.on.host,
        host,
        machine,
    };
    let (outcome, _) = there.carry_out(context, &task)?;
    match outcome {
        Outcome::Done => Ok(()),
        _ => there.conclude(context, "destroy", &task, outcome, started.elapsed()),
    }
}

/// What no release is needed for, under the same lock.
fn sweep(machine: &Machine, host: &Host, script: &str) -> Step {
    let directory = &host.directory;
    let script = format!("cd \"$1\" || exit 0; flock --nonblock lock {script}");
    Step::new(
        "remove what is left",
        cmd!(machine.sh(), "sh -c {script} sweep {directory}"),
    )
    .limit(ANSWER)
}
