//! Following a DAG run: its tasks as a live tree, its state as the result.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::api::{Api, DagRun, TaskInstance};
use crate::exec::{Term, millis};

const POLL: Duration = Duration::from_millis(1000);

/// What to follow.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    /// The DAG's id.
    pub(crate) dag: &'a str,
    /// The run's id.
    pub(crate) run: &'a str,
    /// Its tasks in order.
    pub(crate) order: &'a [String],
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The run, with its last state.
    pub(crate) run: DagRun,
    /// Its tasks in order, with theirs.
    pub(crate) tasks: Vec<TaskInstance>,
}

impl Outcome {
    /// The run's own verdict.
    pub(crate) fn is_success(&self) -> bool {
        self.run.state == "success"
    }

    /// The first task that failed by itself.
    pub(crate) fn first_failed(&self) -> Option<&TaskInstance> {
        self.tasks
            .iter()
            .find(|task| task.state.as_deref() == Some("failed"))
    }
}

/// Follows a run to its end. On a terminal the tree is drawn in place;
/// elsewhere each change of state is a line.
pub(crate) fn follow(api: &Api, term: &Term, what: &Follow<'_>) -> Result<Outcome> {
    let mut drawn = 0;
    let mut before: Vec<TaskInstance> = Vec::new();
    loop {
        // The run first: tasks read after a final state are final as well.
        let run = api.run(what.dag, what.run)?;
        let tasks = in_order(api.tasks(what.dag, what.run)?, what.order);
        let ended = ["success", "failed"].contains(&run.state.as_str());
        if term.is_live() {
            drawn = draw(term, &run, &tasks, drawn);
        } else {
            for line in changes(&before, &tasks) {
                term.say(&line);
            }
        }
        if ended {
            return Ok(Outcome { run, tasks });
        }
        before = tasks;
        thread::sleep(POLL);
    }
}

fn in_order(mut tasks: Vec<TaskInstance>, order: &[String]) -> Vec<TaskInstance> {
    tasks.sort_by_key(|task| {
        order
            .iter()
            .position(|id| *id == task.task_id)
            .unwrap_or(usize::MAX)
    });
    tasks
}

/// Draws over the `drawn` lines of the last time; gives how many it drew.
fn draw(term: &Term, run: &DagRun, tasks: &[TaskInstance], drawn: usize) -> usize {
    let mut lines = vec![format!("{}  {}", term.bold(&run.dag_run_id), run.state)];
    for (at, task) in tasks.iter().enumerate() {
        let branch = if at + 1 == tasks.len() {
            "└─"
        } else {
            "├─"
        };
        lines.push(format!("{branch} {}", row(term, task)));
    }
    let mut out = std::io::stderr().lock();
    if drawn > 0 {
        write!(out, "\x1b[{drawn}A").ok();
    }
    for line in &lines {
        writeln!(out, "\x1b[2K{line}").ok();
    }
    lines.len()
}

fn row(term: &Term, task: &TaskInstance) -> String {
    let state = word(task);
    let took = task
        .duration
        .map(|s| millis(Duration::from_secs_f64(s.max(0.0))))
        .unwrap_or_default();
    let name = format!("{:<16}", task.task_id);
    format!("{} {name} {state:<18} {}", mark(&state), term.dim(&took))
}

/// One line for each task whose state is not what it was.
fn changes(before: &[TaskInstance], now: &[TaskInstance]) -> Vec<String> {
    now.iter()
        .filter(|task| task.state.is_some())
        .filter(|task| {
            before
                .iter()
                .find(|b| b.task_id == task.task_id)
                .is_none_or(|b| b.state != task.state)
        })
        .map(|task| {
            let state = word(task);
            let took = match task.duration {
                Some(s) if is_final(&state) => {
                    format!("  {}", millis(Duration::from_secs_f64(s.max(0.0))))
                }
                _ => String::new(),
            };
            format!("{} {:<16} {state}{took}", mark(&state), task.task_id)
        })
        .collect()
}

fn word(task: &TaskInstance) -> String {
    match task.state.as_deref() {
        None => "–".to_owned(),
        Some("up_for_reschedule") => "waiting".to_owned(),
        Some("up_for_retry") => "waiting to retry".to_owned(),
        Some("upstream_failed") => "not run".to_owned(),
        Some(state) => state.to_owned(),
    }
}

fn is_final(word: &str) -> bool {
    ["success", "failed", "skipped", "not run"].contains(&word)
}

fn mark(word: &str) -> &'static str {
    match word {
        "success" => "✓",
        "failed" => "✗",
        "running" => "▶",
        "skipped" | "not run" => "↷",
        _ => "·",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, state: Option<&str>, duration: Option<f64>) -> TaskInstance {
        TaskInstance {
            task_id: id.into(),
            state: state.map(Into::into),
            duration,
            start_date: None,
            try_number: 1,
        }
    }

    #[test]
    fn only_changes_are_told() {
        let before = [
            task("guard", Some("running"), None),
            task("load", None, None),
        ];
        let now = [
            task("guard", Some("success"), Some(1.25)),
            task("load", Some("queued"), Some(0.0)),
            task("dbt", None, None),
        ];
        assert_eq!(
            changes(&before, &now),
            [
                "✓ guard            success  1.2 s",
                "· load             queued"
            ]
        );
        assert_eq!(changes(&now, &now), [""; 0]);
    }

    #[test]
    fn tasks_come_in_the_order_in_which_they_run() {
        let order = ["a".to_owned(), "b".to_owned()];
        let sorted = in_order(
            vec![
                task("new", None, None),
                task("b", None, None),
                task("a", None, None),
            ],
            &order,
        );
        let ids: Vec<_> = sorted.iter().map(|t| t.task_id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "new"]);
    }
}
