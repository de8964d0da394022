//! `logs`: what the services say.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;

use super::running::Running;
use super::{exit_code, print};
use crate::airflow::{first_failed, tasks_of};
use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Machine, Step};

pub(crate) fn run(context: &Context, args: &cli::Logs) -> Result<ExitCode> {
    let stack = Running::of(context, args.at.host.as_deref())?;
    if let Some(task) = &args.task {
        let asked = Some(task.as_str()).filter(|name| !name.is_empty());
        return of_task(context, &stack, asked, args.tail);
    }
    if !stack.is_there() {
        return Err(Failure::user(format!(
            "failed to read the logs: {} has no containers",
            stack.settings.project()
        ))
        .hint(stack.place.up())
        .into());
    }
    let tail = args.tail.to_string();
    let mut arguments = vec!["logs", "--timestamps", "--tail", tail.as_str()];
    if !std::io::stdout().is_terminal() {
        // v1 colours its output even into a file.
        arguments.push("--no-color");
    }
    if args.follow {
        arguments.push("--follow");
    }
    arguments.extend(args.services.iter().map(String::as_str));
    let mut step = stack.compose("read the logs", &arguments);
    if args.follow && stack.place.host().is_some() {
        step = while_heard(stack.machine(), &step);
    }
    let status = stack.machine().hand_over_lines(&step, news)?;
    Ok(exit_code(status))
}

/// What a task of the last run said in its last try.
fn of_task(
    context: &Context,
    stack: &Running<'_>,
    asked: Option<&str>,
    tail: u32,
) -> Result<ExitCode> {
    let dag = &context.deploy()?.airflow.nightly;
    let way = stack.web(None)?;
    let api = stack.api(&way);
    let Some(run) = api.runs(dag, 1)?.into_iter().next() else {
        return Err(
            Failure::user(format!("failed to read a log: {dag} never ran"))
                .hint(stack.place.command("nightly"))
                .into(),
        );
    };
    let run = run.dag_run_id;
    let tasks = tasks_of(&api, dag, &run)?;
    let names: Vec<&str> = tasks.iter().map(|task| task.task_id.as_str()).collect();
    let task = match asked {
        Some(name) => tasks.iter().find(|task| task.task_id == name),
        None => first_failed(&tasks),
    };
    let Some(task) = task else {
        let what = asked.map_or_else(
            || format!("no task of {run} failed"),
            |name| format!("{run} has no task {name}"),
        );
        return Err(Failure::user(format!("failed to read a log: {what}"))
            .hint(format!("--task with one of {}", names.join(", ")))
            .into());
    };
    let log = api.log(dag, &run, &task.task_id, task.try_number)?;
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(usize::try_from(tail)?);
    context.term.say(&format!(
        "{} of {run}, try {}",
        task.task_id, task.try_number
    ));
    print(&context.machine.redact(&lines[from..].join("\n")))?;
    Ok(ExitCode::SUCCESS)
}

/// The step in a group of its own that is ended with its standard input: a step that
/// nobody listens to any more learns of it only when it has something to say.
fn while_heard(machine: &Machine, step: &Step) -> Step {
    let (sh, line) = (machine.sh(), step.line());
    Step::new(
        step.what(),
        xshell::cmd!(sh, "sh -c {WHILE_HEARD} logs {line}"),
    )
}

const WHILE_HEARD: &str = r#"exec 3<&0
setsid sh -c "$1" </dev/null 3<&- & logs=$!
setsid sh -c 'cat; kill -- "-$1"' heard "$logs" <&3 3<&- >/dev/null 2>&1 & heard=$!
exec 3<&-
wait "$logs"; status=$?
kill -- "-$heard" 2>/dev/null
exit "$status""#;

/// `docker compose` 2.26 clears the line before each of its own, even in a file.
const CLEARED: &str = "\x1b[2K";

/// What is worth showing of a line.
fn news(line: &str) -> Option<&str> {
    is_news(line).then(|| line.strip_prefix(CLEARED).unwrap_or(line))
}

/// Not the healthchecks of webserver and scheduler, which come from inside their
/// containers and say the same every 5 seconds.
fn is_news(line: &str) -> bool {
    !(line.contains(" 127.0.0.1 - - [") && line.contains("] \"GET /health HTTP/1.1\" 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_healthchecks_that_went_well_are_left_out() {
        let line = |from: &str, what: &str, status: u16| {
            format!(
                "airflow-scheduler_1  | 2026-01-01T00:00:00Z {from} - - [01/Jan/2026:00:00:00 \
                 +0000] \"GET {what} HTTP/1.1\" {status} 318 \"-\" \"curl/7.88.1\""
            )
        };
        assert!(!is_news(&line("127.0.0.1", "/health", 200)));
        assert!(is_news(&line("127.0.0.1", "/health", 500)));
        assert!(is_news(&line("172.18.0.1", "/health", 200)));
        assert!(is_news(&line("127.0.0.1", "/home", 200)));
        assert_eq!(news("\x1b[2Kpostgres-1  | x\n"), Some("postgres-1  | x\n"));
    }
}
