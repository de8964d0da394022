//! `restore --host`: a host's metadata database as a copy has it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::backup;
use super::{self as on_host, There, phases_of};
use crate::airflow::central;
use crate::cli;
use crate::commands::print_json;
use crate::config::environment;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Machine, plural};
use crate::release::{self, Contents, Event, Lost, Observed, Release, Task, Work};

/// Runs that are shown; `--json` has all of them.
const SHOWN: usize = 30;

pub(crate) fn run(context: &Context, args: &cli::Restore) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    let machine = context.over(name, host)?;
    let doing = || format!("failed to restore the metadata database of {name}");
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(&machine, host, None, &[])
    })?;
    on_host::refuse_unready(name, &observed).with_context(doing)?;
    let serving = on_host::serving(name, &observed).with_context(doing)?;
    release::refuse_elsewhere(&machine, host, serving).with_context(doing)?;
    let copies = release::copies(&machine, host)?;
    let from = match args.from.as_deref() {
        Some(file) if Path::new(file).is_file() => {
            release::give(&machine, host, Path::new(file)).with_context(doing)?
        }
        from => backup::choose(name, &copies, from)
            .with_context(doing)?
            .name
            .clone(),
    };
    let (held, live) = context.term.task("copy looked into", || {
        release::look(&machine, host, &serving.project, &from)
    })?;
    let to = Target {
        name,
        observed: &observed,
        serving,
    };
    let target = to
        .choose(&machine, &held, args.release.as_deref())
        .with_context(doing)?;
    let lost = live
        .as_ref()
        .map(|live| release::lost(live, &held))
        .unwrap_or_default();
    let shown = Shown {
        context,
        args,
        from: &from,
        target,
        held: &held,
        lost: &lost,
    };
    shown.say(serving, live.is_some());
    if !args.yes {
        shown.json("planned", &[])?;
        if args.dry_run {
            return Ok(());
        }
        let release = args
            .release
            .as_ref()
            .map(|id| format!(" --release {id}"))
            .unwrap_or_default();
        let what = match lost.len() {
            0 => "no run would be lost".to_owned(),
            count => format!("{} would be lost or taken back", plural(count, "run")),
        };
        return Err(Failure::user(format!("{what}; nothing was changed"))
        .hint(format!(
            "if that is what you want: cargo xtask restore --host {name} --from {from}{release} --yes"
        ))
        .into());
    }
    let command = format!("restore --from {from} --yes");
    on_host::refuse_active(name, &command, &observed, &args.run).with_context(doing)?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let task = Task {
        run: format!("{now}-restore"),
        release: target.clone(),
        old: Some(serving.id.clone()),
        wait: args.run.seconds(),
        who: json!({"by": environment::person(), "command": "restore", "copy": from, "lost": lost.len()}),
        work: Work::Restore { from: from.clone() },
    };
    let there = There {
        name,
        host,
        machine: &machine,
    };
    let (outcome, events) = there.carry_out(context, &task)?;
    shown.json(outcome.name(), &events)?;
    there
        .conclude(context, &command, &task, outcome, started.elapsed())
        .with_context(doing)
}

/// What may serve with the copy.
struct Target<'a> {
    name: &'a str,
    observed: &'a Observed,
    serving: &'a Release,
}

impl<'a> Target<'a> {
    /// The release that is named, which has to be made for the copy's schema; else
    /// the one that serves, which may take an older one forward.
    fn choose(
        &self,
        machine: &Machine,
        held: &Contents,
        release: Option<&str>,
    ) -> Result<&'a Release> {
        let Some(revision) = held.revision.as_deref() else {
            return Err(Failure::user("the copy holds no schema of Airflow's").into());
        };
        let passed = &self.observed.passed;
        let fits = |id: &str| passed.get(id).is_some_and(|made_for| made_for == revision);
        let list = format!("cargo xtask releases --host {}", self.name);
        if let Some(id) = release {
            return match self.observed.release(id) {
                Some(found) if fits(id) => Ok(found),
                Some(_) => Err(Failure::user(format!(
                    "{id} was not made for the copy's schema, {revision}"
                ))
                .hint(list)
                .into()),
                None => Err(Failure::user(format!("{id} is not kept there"))
                    .hint(list)
                    .into()),
            };
        }
        let serving = self.serving;
        if fits(&serving.id) || release::knows(machine, &serving.image, revision)? {
            return Ok(serving);
        }
        let made_for = self.observed.releases.iter().rev().find(|r| fits(&r.id));
        Err(Failure::user(format!(
            "the copy's schema, {revision}, is newer than what the release that serves knows"
        ))
        .hint(made_for.map_or(list, |found| {
            format!(
                "serve with it the release that was made for it: --release {}",
                found.id
            )
        }))
        .into())
    }
}

/// What would be done, for a person and for a script.
struct Shown<'a> {
    context: &'a Context,
    args: &'a cli::Restore,
    from: &'a str,
    target: &'a Release,
    held: &'a Contents,
    lost: &'a [Lost],
}

impl Shown<'_> {
    fn say(&self, serving: &Release, readable: bool) {
        let term = &self.context.term;
        let until = self.held.until.as_deref();
        let until = until.and_then(|at| at.parse::<Timestamp>().ok());
        let age = until.map_or_else(
            || "of an Airflow that never ran".to_owned(),
            |at| format!("as of {}, {}", central(&at.to_string()), backup::ago(at)),
        );
        let then = match self.target.id == serving.id {
            true => "the release that serves goes on with it".to_owned(),
            false => format!("{} serves with it", self.target.id),
        };
        let open = |state: &str| matches!(state, "running" | "queued");
        let open = self.held.runs.iter().filter(|run| open(&run.state)).count();
        let revision = self.held.revision.as_deref().unwrap_or_default();
        let mut lines = vec![
            ("copy", format!("{}, {age}", self.from)),
            ("schema", revision.to_owned()),
            ("then", then),
        ];
        if open > 0 {
            lines.push((
                "active",
                format!("{} in the copy: they go on", plural(open, "run")),
            ));
        }
        for (what, text) in lines {
            term.say(&format!("  {} {text}", term.dim(&format!("{what:<9}"))));
        }
        if !readable {
            term.warn("what would be lost cannot be told: the database there has no schema that can be read");
        }
        for lost in self.lost.iter().rev().take(SHOWN) {
            let at = lost.run.at.as_deref().map(central).unwrap_or_default();
            let becomes = lost
                .becomes
                .as_ref()
                .map_or_else(|| "is lost".to_owned(), |state| format!("is {state} again"));
            term.warn(&format!(
                "{} of {}, {}, {at}: {becomes}",
                lost.run.id, lost.run.dag, lost.run.state
            ));
        }
        if self.lost.len() > SHOWN {
            term.warn(&format!(
                "and {} before these",
                plural(self.lost.len() - SHOWN, "run")
            ));
        }
    }

    fn json(&self, end: &str, events: &[Event]) -> Result<()> {
        if !self.args.json {
            return Ok(());
        }
        print_json(&json!({
            "host": self.args.on.host,
            "copy": self.from,
            "revision": self.held.revision,
            "until": self.held.until,
            "release": self.target,
            "lost": self.lost,
            "end": end,
            "phases": phases_of(events),
        }))
    }
}
