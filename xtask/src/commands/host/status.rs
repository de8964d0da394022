//! `status --host`: whether a host serves, and what.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super as on_host;
use crate::airflow::central;
use crate::commands::{print, print_json};
use crate::context::Context;
use crate::release::{self, Observed, State};

/// A scheduler that has not been heard of for so long is taken for dead, in
/// seconds: scheduler_health_check_threshold of Airflow.
const DEAD: f64 = 30.0;

pub(in crate::commands) fn run(context: &Context, name: &str, as_json: bool) -> Result<ExitCode> {
    let deploy = context.deploy()?;
    let host = deploy.host(name)?;
    let machine = context.over(name, host)?;
    let observed = release::observe(&machine, host, None, &[])?;
    let healthy = is_healthy(&observed, deploy.dags(host));
    if as_json {
        print_json(&json!({
            "host": name,
            "healthy": healthy,
            "release": observed.serving(),
            "good": observed.good,
            "busy": observed.busy,
            "left_paused": observed.paused,
            "services": observed.served.iter().map(|s| json!({
                "name": s.service, "condition": s.condition(), "image": s.image,
            })).collect::<Vec<_>>(),
            "airflow": observed.state,
        }))?;
    } else {
        print(&table(name, &observed))?;
    }
    Ok(match healthy {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn is_healthy(observed: &Observed, dags: &[String]) -> bool {
    observed.serving().is_some() && ailments(observed, dags).is_empty()
}

/// What is wrong with what serves, a line each.
pub(in crate::commands) fn ailments(observed: &Observed, dags: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(serving) = observed.serving() else {
        return wrong;
    };
    if observed.good != observed.current && observed.busy.is_none() {
        wrong.push("the last deploy did not come to its end".to_owned());
    }
    if !observed.paused.is_empty() {
        let dags = observed.paused.join(", ");
        wrong.push(format!("a deploy left paused: {dags}"));
    }
    let databases = serving.databases.iter().map(String::as_str);
    for name in release::AIRFLOW.into_iter().chain(databases) {
        match observed.service(name) {
            Some(served) if served.is_up() => {}
            Some(served) => wrong.push(format!("{name} is {}", served.condition())),
            None => wrong.push(format!("{name} is not there")),
        }
    }
    let Some(state) = &observed.state else {
        wrong.push("no scheduler answers".to_owned());
        return wrong;
    };
    match state.heartbeat {
        Some(age) if age < DEAD => {}
        Some(age) => wrong.push(format!("the scheduler was last heard of {age:.0} s ago")),
        None => wrong.push("the scheduler was never heard of".to_owned()),
    }
    for error in &state.import_errors {
        wrong.push(format!("{} cannot be imported", error.file));
    }
    for id in dags {
        match state.dags.iter().find(|dag| dag.id == *id) {
            // What a deploy left paused was said before.
            Some(dag) if dag.paused && !observed.paused.contains(id) => {
                wrong.push(format!("{id} is paused: no night will come"));
            }
            Some(_) => {}
            None => wrong.push(format!("there is no DAG {id}")),
        }
    }
    wrong
}

fn table(name: &str, observed: &Observed) -> String {
    let mut lines = vec![format!("host      {name}")];
    match observed.serving() {
        Some(serving) => {
            let dirty = if serving.dirty { ", dirty" } else { "" };
            lines.push(format!(
                "release   {}  by {}{dirty}",
                serving.id, serving.by
            ));
        }
        None => lines.push(format!("release   none: cargo xtask deploy --host {name}")),
    }
    if let Some(who) = &observed.busy {
        lines.push(format!("at work   {}", on_host::at_work(who)));
    } else if observed.good != observed.current {
        lines.push(format!(
            "half-way  the last deploy did not come to its end: cargo xtask deploy --host {name}"
        ));
    }
    for (n, served) in observed.served.iter().enumerate() {
        let lead = if n == 0 { "services" } else { "" };
        lines.push(format!(
            "{lead:<9} {:<18} {:<12} {}",
            served.service,
            served.condition(),
            served.image
        ));
    }
    match &observed.state {
        Some(state) => lines.extend(airflow_lines(state)),
        None if observed.serving().is_some() => {
            lines.push("airflow   no scheduler answers".to_owned());
        }
        None => {}
    }
    if !observed.paused.is_empty() {
        let dags = observed.paused.join(", ");
        lines.push(match observed.busy {
            Some(_) => format!("paused    {dags}, until that has ended"),
            None => format!(
                "paused    {dags} by a deploy that was interrupted: cargo xtask deploy --host {name}"
            ),
        });
    }
    lines.join("\n")
}

fn airflow_lines(state: &State) -> Vec<String> {
    let heartbeat = match state.heartbeat {
        Some(age) if age < DEAD => format!("healthy, heartbeat {age:.0} s ago"),
        Some(age) => format!("not healthy, heartbeat {age:.0} s ago"),
        None => "not healthy, never heard of".to_owned(),
    };
    let dags = state.dags.iter().map(|dag| match dag.paused {
        true => format!("{} (paused)", dag.id),
        false => dag.id.clone(),
    });
    let mut lines = vec![
        format!("scheduler {heartbeat}"),
        format!("dags      {}", dags.collect::<Vec<_>>().join(", ")),
    ];
    for error in &state.import_errors {
        let last = error.error.lines().last().unwrap_or_default();
        lines.push(format!("broken    {}: {last}", error.file));
    }
    for run in &state.last {
        let at = run.ended.as_deref().map(central).unwrap_or_default();
        let failed = run.failed.as_deref();
        let failed = failed.map_or_else(String::new, |task| format!(" in {task}"));
        lines.push(format!(
            "last run  {} of {}: {}{failed}, {at}",
            run.id, run.dag, run.state
        ));
    }
    for run in &state.runs {
        let tasks = state.tasks.iter().filter(|task| task.run == run.id);
        let tasks: Vec<String> = tasks.map(|t| format!("{} {}", t.task, t.state)).collect();
        let what = match (run.suspended, tasks.is_empty()) {
            (true, _) => "waits: its DAG is paused".to_owned(),
            (false, true) => "between two tasks".to_owned(),
            (false, false) => tasks.join(", "),
        };
        lines.push(format!("active    {} of {}: {what}", run.id, run.dag));
    }
    lines
}
