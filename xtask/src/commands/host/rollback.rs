//! `rollback`: an earlier release of a host serves again.

use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::{self as on_host, There, phases_of};
use crate::cli;
use crate::commands::print_json;
use crate::config::environment;
use crate::context::Context;
use crate::error::Failure;
use crate::release::{self, Dump, KEEP, Observed, Release, Task, Way, Work};

pub(crate) fn run(context: &Context, args: &cli::Rollback) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    let machine = context.over(name, host)?;
    let doing = || format!("failed to roll back on {name}");
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(&machine, host, None, &[])
    })?;
    on_host::refuse_unready(name, &observed).with_context(doing)?;
    let target = choose(name, &observed, args.to.as_deref()).with_context(doing)?;
    let way = way(&observed, target);
    refuse_older_schema(name, &observed, target, way, || {
        release::copies(&machine, host)
    })
    .with_context(doing)?;
    let road = match way {
        Way::Code => "switch without a restart",
        _ => "drain, backup, stop, init, start",
    };
    context.term.say(&format!("  to {}: {road}", target.id));
    if args.dry.dry_run {
        return Ok(());
    }
    on_host::refuse_active(name, "rollback", &observed, &args.run).with_context(doing)?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let task = Task {
        run: format!("{now}-rollback"),
        release: target.clone(),
        old: observed.current.clone(),
        wait: args.run.seconds(),
        who: json!({"by": environment::person(), "command": "rollback"}),
        work: Work::Deploy {
            way,
            gated: true,
            dags: deploy.dags(host).to_vec(),
            keep: KEEP,
        },
    };
    let there = There {
        name,
        host,
        machine: &machine,
    };
    let (outcome, events) = there.carry_out(context, &task)?;
    if args.json {
        print_json(&json!({
            "host": name,
            "release": target,
            "way": way.name(),
            "end": outcome.name(),
            "phases": phases_of(&events),
        }))?;
    }
    there
        .conclude(context, "rollback", &task, outcome, started.elapsed())
        .with_context(doing)
}

/// The release that is named, or the last good one before the one that serves.
fn choose<'o>(name: &str, observed: &'o Observed, to: Option<&str>) -> Result<&'o Release> {
    let current = observed.current.as_deref().unwrap_or_default();
    let hint = format!("cargo xtask releases --host {name}");
    let good = |release: &&Release| observed.passed.contains_key(&release.id);
    let Some(id) = to else {
        on_host::serving(name, observed)?;
        let before = |release: &&Release| release.id.as_str() < current;
        let found = observed.releases.iter().rev().filter(good).find(before);
        return found.ok_or_else(|| {
            Failure::user("no good release before the one that serves is kept there")
                .hint(hint)
                .into()
        });
    };
    if id == current {
        return Err(Failure::user(format!("{id} serves already"))
            .hint(hint)
            .into());
    }
    match observed.release(id) {
        Some(release) if good(&release) => Ok(release),
        Some(_) => Err(Failure::user(format!("{id} never served well"))
            .hint(hint)
            .into()),
        None => Err(Failure::user(format!("{id} is not kept there"))
            .hint(hint)
            .into()),
    }
}

fn way(observed: &Observed, target: &Release) -> Way {
    let same = observed.serving().is_some_and(|serving| {
        (&serving.image, &serving.env, &serving.shape)
            == (&target.image, &target.env, &target.shape)
    });
    match same && observed.good == observed.current && observed.paused.is_empty() {
        true => Way::Code,
        false => Way::Restart,
    }
}

/// Airflow refuses a schema that a newer one made; so it is said before anything
/// stops, with the copy that was made before, where there is one.
fn refuse_older_schema(
    name: &str,
    observed: &Observed,
    target: &Release,
    way: Way,
    copies: impl FnOnce() -> Result<Vec<Dump>>,
) -> Result<()> {
    let now = observed.state.as_ref().and_then(|s| s.revision.as_deref());
    let then = observed.passed.get(&target.id).map(String::as_str);
    let (Some(now), Some(then)) = (now, then) else {
        return Ok(());
    };
    if way != Way::Restart || then.is_empty() || now == then {
        return Ok(());
    }
    let copies = copies()?;
    let of_then = copies
        .iter()
        .rev()
        .find(|copy| copy.revision() == Some(then));
    let hint = match of_then {
        Some(copy) => format!(
            "an older Airflow cannot read a newer schema: deploy forward, or go back to the copy of before, and see first what would be lost:\ncargo xtask restore --host {name} --from {} --release {}",
            copy.name, target.id
        ),
        None => "an older Airflow cannot read a newer schema, and no copy of before is kept: deploy forward".to_owned(),
    };
    Err(Failure::user(format!(
        "the metadata database's schema is {now}, {} was made for {then}",
        target.id
    ))
    .hint(hint)
    .into())
}
