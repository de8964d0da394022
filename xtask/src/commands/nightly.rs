//! `nightly`: starts the nightly run and follows it to its end.

use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;

use super::{print_json, status};
use crate::airflow::{Api, DagRun, Follow, Outcome, Truth, follow, foretell};
use crate::cli;
use crate::context::Context;
use crate::error::Failure;

/// Lines of a failed task's log that are shown.
const LOG_LINES: usize = 25;

pub(crate) fn run(context: &Context, args: &cli::Nightly) -> Result<ExitCode> {
    let deploy = context.deploy()?;
    let settings = context.settings()?;
    let api = Api::new(&settings);
    let dag = &deploy.airflow.nightly;
    let truth = Truth::read(&api, &deploy.airflow.dags)?;
    if !truth.holds() {
        return Err(truth.failure().into());
    }
    if truth.paused.contains(dag) {
        return Err(
            Failure::user(format!("failed to start the run: {dag} is paused"))
                .hint(format!("cargo xtask airflow -- dags unpause {dag}"))
                .into(),
        );
    }
    if let Some(active) = active(&api, dag)? {
        let waits = api
            .tasks(dag, &active.dag_run_id)?
            .iter()
            .any(|task| task.state.as_deref() == Some("up_for_reschedule"));
        return Err(is_active(&active, waits).into());
    }
    let conf = json!({
        "ignore_business_hours": args.ignore_business_hours,
        "full_refresh": args.full,
    });
    if args.dry.dry_run {
        let follow = if args.no_wait { "" } else { " and follow it" };
        context
            .term
            .say(&format!("would start {dag} with {conf}{follow}"));
        let permitted = settings.or("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE", "false") == "true";
        if let Some(word) = foretell(Timestamp::now(), args.ignore_business_hours, permitted) {
            context.term.say(&word);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let started = api.trigger(dag, &conf)?;
    let run = started.dag_run_id.as_str();
    context.term.say(&format!(
        "started {run}; see {}/dags/{dag}/grid",
        settings.webserver_url()
    ));
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    if context.term.is_live() {
        context
            .term
            .say(&context.term.dim("Ctrl-C stops watching, not the run"));
    }
    let order = api.task_order(dag)?;
    let what = Follow {
        dag,
        run,
        order: &order,
    };
    let outcome = follow(&api, &context.term, &what)?;
    if args.json {
        print_json(&as_json(&outcome))?;
    }
    if outcome.is_success() {
        context.term.done(&format!("{run} ended in success"));
        return Ok(ExitCode::SUCCESS);
    }
    show_failure(context, &api, dag, &outcome);
    Ok(ExitCode::FAILURE)
}

/// The run that is queued or running, if one is.
fn active(api: &Api, dag: &str) -> Result<Option<DagRun>> {
    let runs = api.runs(dag, 10)?;
    Ok(runs
        .into_iter()
        .find(|run| ["queued", "running"].contains(&run.state.as_str())))
}

fn is_active(run: &DagRun, waits: bool) -> Failure {
    let since = run.start_date.as_deref().map_or_else(
        || "not yet started".to_owned(),
        |at| format!("since {}", status::central(at)),
    );
    let state = if waits {
        "waiting for the night"
    } else {
        &run.state
    };
    let failure = Failure::user(format!(
        "failed to start a run: {} is {state} {since}, and only one may be active",
        run.dag_run_id
    ));
    if waits {
        return failure.hint(
            "let it wait; or, where ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true, let it start within 5 minutes:\n\
             cargo xtask airflow -- variables set ignore_business_hours true\n\
             and afterwards: cargo xtask airflow -- variables delete ignore_business_hours",
        );
    }
    failure.hint("cargo xtask status tells how it goes")
}

fn show_failure(context: &Context, api: &Api, dag: &str, outcome: &Outcome) {
    let run = &outcome.run.dag_run_id;
    let term = &context.term;
    let Some(task) = outcome.first_failed() else {
        term.fail(&format!("{run} ended as {}", outcome.run.state));
        return;
    };
    term.fail(&format!("{run} failed in {}", task.task_id));
    // The log is a help; the run's own state is the result.
    if let Ok(log) = api.log(dag, run, &task.task_id, task.try_number) {
        let lines = essence(&log);
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            term.say(&format!("  | {}", context.machine.redact(line)));
        }
    }
    term.say("hint: airflow/NIGHTLY_RUN.md says what each failing task means and what mends it");
}

/// What a task's log tells a person: the task's own messages and the errors,
/// without Airflow's bookkeeping and the frames of tracebacks.
fn essence(log: &str) -> Vec<&str> {
    const BOOKKEEPING: [&str; 5] = [
        "taskinstance.py",
        "local_task_job_runner.py",
        "standard_task_runner.py",
        "task_command.py",
        "logging_mixin.py",
    ];
    let mut lines: Vec<&str> = Vec::new();
    for line in log.lines().map(str::trim_end) {
        let parts = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] {"));
        let said = match parts.and_then(|(_, rest)| rest.split_once("} ")) {
            Some((source, _)) if BOOKKEEPING.iter().any(|b| source.starts_with(b)) => continue,
            Some((_, said)) => said.split_once(" - ").map_or(said, |(_, words)| words),
            // A line of its own belongs to a traceback or to a message.
            None if line.starts_with(char::is_whitespace) || line.starts_with("Traceback") => {
                continue;
            }
            None => line,
        };
        if !said.is_empty() && !said.starts_with("***") && lines.last() != Some(&said) {
            lines.push(said);
        }
    }
    lines
}

fn as_json(outcome: &Outcome) -> serde_json::Value {
    let tasks: Vec<_> = outcome
        .tasks
        .iter()
        .map(|task| {
            json!({
                "task": task.task_id,
                "state": task.state,
                "seconds": task.duration,
                "tries": task.try_number,
            })
        })
        .collect();
    json!({
        "run": outcome.run.dag_run_id,
        "state": outcome.run.state,
        "started": outcome.run.start_date,
        "ended": outcome.run.end_date,
        "tasks": tasks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_essence_of_a_log_is_what_the_task_said() {
        let log = "*** Found local files:\n\
                   [2026-11-22T21:50:01.000+0000] {taskinstance.py:1308} INFO - Starting attempt 1 of 3\n\
                   [2026-11-22T21:50:01.100+0000] {etl_pipeline_tasks.py:88} INFO - guard: refused: by day\n\
                   [2026-11-22T21:50:01.200+0000] {taskinstance.py:1935} ERROR - Task failed with exception\n\
                   Traceback (most recent call last):\n  \
                   File \"/x.py\", line 1, in poke\n    raise it\n\
                   airflow.exceptions.AirflowFailException: refused: by day\n\
                   hint: wait\n";
        assert_eq!(
            essence(log),
            [
                "guard: refused: by day",
                "airflow.exceptions.AirflowFailException: refused: by day",
                "hint: wait"
            ]
        );
    }
}
