//! A host: one file for each command that changes one or looks at one. Here is what
//! they have in common: refusing what cannot go well, following the host, and telling
//! how it ended.

pub(super) mod alone;
pub(super) mod backup;
pub(super) mod bring;
pub(super) mod deploy;
pub(super) mod destroy;
pub(super) mod doctor;
pub(super) mod env;
pub(super) mod provision;
pub(super) mod releases;
pub(super) mod restore;
pub(super) mod rollback;
pub(super) mod rotate;
pub(super) mod status;
pub(super) mod tunnel;
pub(super) mod unlock;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::airflow::central;
use crate::cli;
use crate::commands::summary;
use crate::config::Host;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{LastWord, Machine, millis};
use crate::release::{self, ActiveRun, Event, Follow, Observed, Outcome, Release, Task, Work};

/// Refuses a host that cannot carry the stack, or on which somebody is at work.
pub(super) fn refuse_unready(name: &str, observed: &Observed) -> Result<()> {
    refuse_unready_for(name, observed, true)
}

/// The same; where Compose is not needed, it may be absent.
pub(super) fn refuse_unready_for(name: &str, observed: &Observed, compose: bool) -> Result<()> {
    let facts = &observed.facts;
    let lacks: Vec<&str> = [
        (facts.engine.is_none(), "an engine that answers its user"),
        (compose && facts.compose.is_none(), "Compose"),
        (!facts.rsync, "rsync"),
        (facts.folder.is_none(), "its folder"),
    ]
    .into_iter()
    .filter_map(|(lacks, what)| lacks.then_some(what))
    .collect();
    if !lacks.is_empty() {
        return Err(Failure::user(format!("it lacks {}", lacks.join(", ")))
            .hint(format!("cargo xtask provision --host {name}"))
            .into());
    }
    refuse_busy(name, observed)
}

/// Refuses a host on which somebody is at work.
pub(super) fn refuse_busy(name: &str, observed: &Observed) -> Result<()> {
    match &observed.busy {
        Some(who) => Err(refused_for_busy(name, who)),
        None => Ok(()),
    }
}

/// The release that serves.
///
/// # Errors
/// A user failure where none does.
pub(super) fn serving<'o>(name: &str, observed: &'o Observed) -> Result<&'o Release> {
    observed.serving().ok_or_else(|| {
        Failure::user("nothing serves there")
            .hint(format!("cargo xtask deploy --host {name}"))
            .into()
    })
}

/// `deploy of …, since Fri 2026-11-27 10:23 CST`, of what a host's part writes: an
/// instant, and what is done.
pub(super) fn at_work(who: &str) -> String {
    match who.split_once(", ") {
        Some((since, doing)) => format!("{doing}, since {}", central(since)),
        None => who.to_owned(),
    }
}

fn refused_for_busy(name: &str, who: &str) -> anyhow::Error {
    Failure::user(format!("the host is at work: {}", at_work(who)))
        .hint(format!("wait for it: cargo xtask status --host {name}"))
        .into()
}

/// Refuses before anything travels; the host asks again, under its lock.
pub(super) fn refuse_active(
    name: &str,
    command: &str,
    observed: &Observed,
    args: &cli::ActiveRun,
) -> Result<()> {
    let runs = observed.state.iter().flat_map(|state| &state.runs);
    let active: Vec<&ActiveRun> = runs.filter(|run| !run.suspended).collect();
    match active.first() {
        Some(run) if args.seconds() == Some(0) => Err(refused_for_run(
            name,
            command,
            &format!("{} of {} is active", run.id, run.dag),
        )),
        _ => Ok(()),
    }
}

fn refused_for_run(name: &str, command: &str, what: &str) -> anyhow::Error {
    Failure::user(format!("{what}; nothing was changed"))
        .hint(format!(
            "cargo xtask {command} --host {name} --wait-for-run\nor, whatever becomes of the run: --now"
        ))
        .into()
}

/// Phases that have ended, for `--json`; times in milliseconds.
pub(super) fn phases_of(events: &[Event]) -> Vec<Value> {
    let phase = |e: &Event| json!({"phase": e.phase, "state": e.state, "ms": e.ms});
    events.iter().map(phase).collect()
}

/// A host that carries something out by itself.
pub(super) struct There<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a Host,
    pub(super) machine: &'a Machine,
}

impl There<'_> {
    /// Gives the host its part and shows each phase as it ends.
    pub(super) fn carry_out(
        &self,
        context: &Context,
        task: &Task,
    ) -> Result<(Outcome, Vec<Event>)> {
        release::start(self.machine, self.host, task)?;
        let (term, name) = (&context.term, self.name);
        let _word = LastWord::set(match &task.work {
            Work::Rotate { .. } => format!(
                "stopped watching; {name} goes on by itself; to its end here too: cargo xtask env rotate --host {name}"
            ),
            _ => format!(
                "stopped watching; {name} goes on by itself: cargo xtask status --host {name}"
            ),
        });
        if term.is_live() {
            term.say(&term.dim("Ctrl-C stops watching, not the host"));
        }
        let mut events: Vec<Event> = Vec::new();
        let mut shown = None;
        let follow = Follow::new(self.machine, self.host, &task.run);
        let outcome = follow.to_end(|event| {
            // Gone before another line is written.
            drop(shown.take());
            let took = term.dim(&millis(Duration::from_millis(event.ms)));
            match event.state.as_str() {
                "begun" => {
                    shown = Some(term.shown(&event.phase));
                    return;
                }
                "done" => term.done(&format!("{}  {took}", event.phase)),
                _ => term.fail(&format!("{}  {took}", event.phase)),
            }
            events.push(event.clone());
        })?;
        let lines = events.iter().map(|event| {
            let took = millis(Duration::from_millis(event.ms));
            format!("{:<9} {:<7} {took}", event.phase, event.state)
        });
        let title = format!("{name}: {}, {}", task.release.id, outcome.name());
        summary::page(&title, &lines.collect::<Vec<_>>().join("\n"))?;
        Ok((outcome, events))
    }

    /// Says how it ended; `command` is what was asked for.
    ///
    /// # Errors
    /// Unless it was done, with the end of the host's log and what mends it.
    pub(super) fn conclude(
        &self,
        context: &Context,
        command: &str,
        task: &Task,
        outcome: Outcome,
        took: Duration,
    ) -> Result<()> {
        let name = self.name;
        let failed = |what: &str| -> Result<()> {
            let follow = Follow::new(self.machine, self.host, &task.run);
            let lines = follow.last_lines().unwrap_or_default();
            let tail: String = lines.iter().map(|line| format!("\n  | {line}")).collect();
            let log = format!("{}/deploys/{}/log", self.host.directory, task.run);
            Err(Failure::tool(format!("{what}{tail}"))
                .hint(format!("all of it is on {name}, in {log}"))
                .into())
        };
        match outcome {
            Outcome::Done => {
                context.term.done(&format!(
                    "{name} serves {}  ({})",
                    task.release.id,
                    millis(took)
                ));
                Ok(())
            }
            Outcome::Active => Err(refused_for_run(name, command, "a run is active")),
            Outcome::Busy => Err(refused_for_busy(name, "another deploy or the like runs")),
            Outcome::Refused => failed(match &task.work {
                Work::Deploy { .. } => "the release was refused, and nothing was changed:",
                _ => "it failed before anything was changed:",
            }),
            Outcome::Reverted => failed(match &task.old {
                Some(_) => "it failed, and what served before serves again:",
                None => "it failed, and what it had made is removed again:",
            }),
            Outcome::Failed => failed("it failed, and what serves has to be looked at:"),
            Outcome::Lost => Err(Failure::tool(
                "the host ended it half-way: it was started anew, or somebody ended the process",
            )
            .hint(match &task.work {
                Work::Rotate { .. } => {
                    format!("go on with it: cargo xtask env rotate --host {name}")
                }
                _ => format!(
                    "deploy again, which goes on from what is there: cargo xtask deploy --host {name}"
                ),
            })
            .into()),
        }
    }
}
