//! `provision`: what a bare host needs before the first deploy.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli;
use crate::config::Host;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Machine, Step};
use crate::host::fitness::{self, Load};
use crate::host::{self, Facts, Plan, Rights};
use crate::preflight::State;

/// How long an engine may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

pub(crate) fn run(context: &Context, args: &cli::Provision) -> Result<()> {
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    let machine = context.over(name, host)?;
    let facts = context.term.task(&format!("{name}, at {}", host.ssh), || {
        host::observe(&machine, host)
    })?;
    describe(context, name, &facts);
    let plan = host::plan(&machine, host, &facts);
    if plan.all().next().is_none() && plan.by_hand.is_empty() {
        context.term.done(&format!("{name} has all it needs"));
        return Ok(());
    }
    for step in plan.all() {
        context
            .term
            .say(&format!("  {}: {}", step.what(), step.line()));
    }
    refuse_by_hand(name, &plan)?;
    if args.dry.dry_run {
        return Ok(());
    }
    refuse_without_rights(name, &facts, &plan)?;
    carry_out(context, &machine, host, plan)?;
    // Groups of a user are those of its login.
    machine.log_in_anew();
    settled(context, &machine, name, host)
}

fn describe(context: &Context, name: &str, facts: &Facts) {
    let gigabytes = |bytes: u64| format!("{} GB", bytes / 1_000_000_000);
    let version = |what: &str, version: &Option<String>| {
        let version = version.as_deref().map(|v| format!("{what} {v}"));
        version.unwrap_or_else(|| format!("no {what}"))
    };
    let line = [
        facts.install.system.clone(),
        facts.architecture.clone(),
        format!("{} memory", gigabytes(facts.memory)),
        format!("{} free", gigabytes(facts.free)),
        version("engine", &facts.engine),
        version("Compose", &facts.compose),
    ];
    context
        .term
        .say(&context.term.dim(&format!("  {}", line.join(", "))));
    // What it lacks is about to come; what it is stays.
    for check in fitness::checks(name, facts, &Load::default()) {
        if check.state != State::Pass && check.name != "engine" && check.name != "Compose" {
            context.term.warn(&check.lines("    "));
        }
    }
}

/// Where xtask installs nothing, it says what is missing and does nothing else.
fn refuse_by_hand(name: &str, plan: &Plan) -> Result<()> {
    if plan.by_hand.is_empty() {
        return Ok(());
    }
    Err(Failure::user(format!("failed to provision {name}"))
        .hint(plan.by_hand.join("\n"))
        .into())
}

fn refuse_without_rights(name: &str, facts: &Facts, plan: &Plan) -> Result<()> {
    let why = match facts.rights {
        Rights::Root | Rights::Sudo => return Ok(()),
        Rights::Asked => "sudo asks for a password there",
        Rights::None => "there is no sudo",
    };
    let lines: Vec<String> = plan.all().map(Step::line).collect();
    let user = &facts.user;
    Err(Failure::user(format!(
        "failed to provision {name}: user {user} cannot become root, {why}"
    ))
    .hint(format!(
        "let somebody who can run these on {name}:\n{}",
        lines.join("\n")
    ))
    .into())
}

fn carry_out(context: &Context, machine: &Machine, host: &Host, plan: Plan) -> Result<()> {
    let mut steps = plan.steps;
    if let Some(update) = &plan.update {
        context.term.task(update.what(), || machine.run(update))?;
        // Only now is known what apt offers.
        steps = host::plan(machine, host, &host::observe(machine, host)?).steps;
    }
    for step in &steps {
        context.term.task(step.what(), || machine.run(step))?;
    }
    Ok(())
}

/// Looks again: what was done is what there is.
fn settled(context: &Context, machine: &Machine, name: &str, host: &Host) -> Result<()> {
    let started = Instant::now();
    loop {
        let facts = host::observe(machine, host)?;
        let plan = host::plan(machine, host, &facts);
        let left: Vec<&str> = plan.all().map(Step::what).collect();
        if left.is_empty() && !facts.install.denied {
            describe(context, name, &facts);
            context.term.done(&format!("{name} has all it needs"));
            return Ok(());
        }
        if started.elapsed() > START_LIMIT {
            let left = match left.is_empty() {
                true => "the engine refuses its user".to_owned(),
                false => format!("it still needs: {}", left.join(", ")),
            };
            return Err(Failure::tool(format!("failed to provision {name}: {left}"))
                .hint(format!("cargo xtask provision --host {name} -v"))
                .into());
        }
        thread::sleep(POLL);
    }
}
