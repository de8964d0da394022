//! `nightly`: starts the nightly run, or finds the one that is active, and
//! follows it to its end.

use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;

use super::running::Running;
use super::{print_json, status};
use crate::airflow::{Api, DagRun, Essence, Follow, Outcome, Truth, central, follow, foretell};
use crate::cli;
use crate::config::{Place, Settings};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::LastWord;

/// Lines of a failed task's log that are shown.
const LOG_LINES: usize = 25;

/// The task that may be done again at any hour, in the run that it failed in.
const READS_NO_SOURCE: &str = "dbt_build";

/// The command that comes back to a run that goes on.
fn follow_command(place: &Place) -> String {
    format!("{} --follow", place.command("nightly"))
}

pub(crate) fn run(context: &Context, args: &cli::Nightly) -> Result<ExitCode> {
    let deploy = context.deploy()?;
    let stack = Running::of(context, args.at.host.as_deref())?;
    let way = stack.web(None)?;
    let api = stack.api(&way);
    let dag = &deploy.airflow.nightly;
    let truth = Truth::read(&api, &deploy.airflow.dags)?;
    let run = if args.follow {
        Some(join(context, &api, dag, &truth)?)
    } else {
        start(context, &api, &stack.settings, dag, &truth, args)?
    };
    let Some(run) = run else {
        return Ok(ExitCode::SUCCESS);
    };
    let (verb, run) = (
        if args.follow { "following" } else { "started" },
        run.dag_run_id.as_str(),
    );
    let page = match stack.place.host() {
        Some(_) => stack.place.command("tunnel"),
        None => format!("{}/dags/{dag}/grid", stack.settings.webserver_url()),
    };
    context.term.say(&format!("{verb} {run}; see {page}"));
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = watch(context, &api, dag, run)?;
    if args.json {
        print_json(&as_json(&outcome))?;
    }
    if outcome.is_success() {
        context.term.done(&format!("{run} ended in success"));
        if let Some(said) = status::etl_of(&stack).as_ref().and_then(status::loaded) {
            context.term.say(&format!("  {said}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    show_failure(context, &api, dag, &outcome);
    Ok(ExitCode::FAILURE)
}

/// The run that is active.
fn join(context: &Context, api: &Api, dag: &str, truth: &Truth) -> Result<DagRun> {
    let place = api.place();
    let Some(run) = active(api, dag)? else {
        return Err(
            Failure::user("failed to follow a run: none is queued or running")
                .hint(format!(
                    "{} starts one; {} tells of the last",
                    place.command("nightly"),
                    place.command("status")
                ))
                .into(),
        );
    };
    // What stops a run from going on does not stop anyone from looking.
    if !truth.holds() {
        context.term.warn(&truth.failure(place).to_string());
    }
    if truth.paused.iter().any(|paused| paused == dag) {
        context.term.warn(&format!(
            "{dag} is paused; the run goes on after: {} -- dags unpause {dag}",
            place.command("airflow")
        ));
    }
    Ok(run)
}

/// Starts a run; `None` where it would only be started.
fn start(
    context: &Context,
    api: &Api,
    settings: &Settings,
    dag: &str,
    truth: &Truth,
    args: &cli::Nightly,
) -> Result<Option<DagRun>> {
    if !truth.holds() {
        return Err(truth.failure(api.place()).into());
    }
    if truth.paused.iter().any(|paused| paused == dag) {
        return Err(
            Failure::user(format!("failed to start the run: {dag} is paused"))
                .hint(format!(
                    "{} -- dags unpause {dag}",
                    api.place().command("airflow")
                ))
                .into(),
        );
    }
    if let Some(active) = active(api, dag)? {
        let waits = api
            .tasks(dag, &active.dag_run_id)?
            .iter()
            .any(|task| task.state.as_deref() == Some("up_for_reschedule"));
        return Err(is_active(&active, waits, api.place()).into());
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
        let (now, asked) = (Timestamp::now(), args.ignore_business_hours);
        let permitted = settings.or("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE", "false") == "true";
        if let Some(word) = foretell(now, asked, permitted, api.place()) {
            context.term.say(&word);
        }
        return Ok(None);
    }
    api.trigger(dag, &conf).map(Some)
}

fn watch(context: &Context, api: &Api, dag: &str, run: &str) -> Result<Outcome> {
    let _word = LastWord::set(format!(
        "stopped watching; the run goes on: {}",
        follow_command(api.place())
    ));
    if context.term.is_live() {
        context
            .term
            .say(&context.term.dim("Ctrl-C stops watching, not the run"));
    }
    let plan = api.plan(dag)?;
    let what = Follow {
        dag,
        run,
        plan: &plan,
    };
    follow(api, &context.machine, &what).map_err(|error| {
        Failure::tool("failed to watch the run, which goes on")
            .hint(follow_command(api.place()))
            .because(error)
            .into()
    })
}

/// The run that is queued or running, if one is.
pub(super) fn active(api: &Api, dag: &str) -> Result<Option<DagRun>> {
    let runs = api.runs(dag, 10)?;
    Ok(runs
        .into_iter()
        .find(|run| ["queued", "running"].contains(&run.state.as_str())))
}

fn is_active(run: &DagRun, waits: bool, place: &Place) -> Failure {
    let since = run.start_date.as_deref().map_or_else(
        || "not yet started".to_owned(),
        |at| format!("since {}", central(at)),
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
        return failure.hint(format!(
            "let it wait ({});\n\
             or, where ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true, let it start within 5 minutes:\n\
             {airflow} -- variables set ignore_business_hours true\n\
             and afterwards: {airflow} -- variables delete ignore_business_hours",
            follow_command(place),
            airflow = place.command("airflow")
        ));
    }
    failure.hint(follow_command(place))
}

fn show_failure(context: &Context, api: &Api, dag: &str, outcome: &Outcome) {
    let run = &outcome.run.dag_run_id;
    let term = &context.term;
    let Some(task) = outcome.first_failed() else {
        term.fail(&format!("{run} ended as {}", outcome.run.state));
        return;
    };
    let id = &task.task_id;
    let by_design = outcome.teller().map_or_else(String::new, |teller| {
        format!("; {} tells of it and ends red by design", teller.task_id)
    });
    term.fail(&format!("{run} failed in {id}{by_design}"));
    // The log is a help; the run's own state is the result.
    if let Ok(log) = api.log(dag, run, id, task.try_number) {
        let essence = Essence::of(&log);
        let (lines, left_out) = essence.told(LOG_LINES);
        for line in lines {
            term.say(&format!("  | {}", context.machine.redact(line)));
        }
        if left_out > 0 {
            term.say(&format!("  … {left_out} more in the log of {id}"));
        }
    }
    term.say("hint: airflow/NIGHTLY_RUN.md says what each failing task means and what mends it");
    if id == READS_NO_SOURCE {
        let (airflow, nightly) = (api.place().command("airflow"), follow_command(api.place()));
        term.say(&format!(
            "      marts are those of the night before; once it is mended, by day too:\n      \
             {airflow} -- tasks clear {dag} -t '^{id}$' --only-failed --yes && {nightly}"
        ));
    }
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
    use crate::error::show;

    #[test]
    fn an_active_run_is_there_to_be_followed() {
        let run = DagRun {
            dag_run_id: "manual__1".into(),
            state: "running".into(),
            run_type: "manual".into(),
            start_date: Some("2026-11-23T03:00:00+00:00".into()),
            end_date: None,
        };
        let (here, there) = (Place::default(), Place::of(Some("ec2")));
        let since = "since Sun 2026-11-22 21:00 CST, and only one may be active";
        let lead = "error: failed to start a run: manual__1 is";
        assert_eq!(
            show(&is_active(&run, false, &here).into()).text,
            format!("{lead} running {since}\nhint: cargo xtask nightly --follow\n")
        );
        assert_eq!(
            show(&is_active(&run, false, &there).into()).text,
            format!("{lead} running {since}\nhint: cargo xtask nightly --host ec2 --follow\n")
        );
        let waiting = show(&is_active(&run, true, &here).into()).text;
        let expected = format!(
            "{lead} waiting for the night {since}\nhint: let it wait (cargo xtask nightly --follow);\n"
        );
        assert!(waiting.starts_with(&expected), "{waiting}");
    }
}
