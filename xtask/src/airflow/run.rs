//! Following a DAG run: its tasks as a live tree, its state as the result.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::api::{Api, DagRun, Scheduler, Task, TaskInstance};
use super::clock::{ZONE, central};
use super::log::Essence;
use crate::config::Place;
use crate::exec::{Drawing, Machine, Term, millis};

const POLL: Duration = Duration::from_millis(1000);
/// How often it is asked whether the scheduler lives.
const PULSE: Duration = Duration::from_secs(10);
/// The task that fails in every run that another task made red, after it has
/// told why: `notify` in `airflow/dags/etl_pipeline_tasks.py`.
const TELLER: &str = "notify";

/// What to follow.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    /// The DAG's id.
    pub(crate) dag: &'a str,
    /// The run's id.
    pub(crate) run: &'a str,
    /// The DAG's tasks in order.
    pub(crate) plan: &'a [Task],
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
        first_failed(&self.tasks)
    }

    /// The task that is red only because it tells of the first one.
    pub(crate) fn teller(&self) -> Option<&TaskInstance> {
        let tells = |task: &&TaskInstance| tells_of(task, &self.tasks).is_some();
        self.tasks.iter().find(tells)
    }
}

/// The task of a run that failed first, in the order of the DAG.
pub(crate) fn first_failed_of(api: &Api, dag: &str, run: &str) -> Result<Option<TaskInstance>> {
    let tasks = tasks_of(api, dag, run)?;
    Ok(first_failed(&tasks).cloned())
}

/// The tasks of a run, in the order of the DAG.
pub(crate) fn tasks_of(api: &Api, dag: &str, run: &str) -> Result<Vec<TaskInstance>> {
    Ok(in_order(api.tasks(dag, run)?, &api.plan(dag)?))
}

/// Follows a run to its end. On a terminal the tree is drawn in place;
/// elsewhere each change of state is a line.
pub(crate) fn follow(api: &Api, machine: &Machine, what: &Follow<'_>) -> Result<Outcome> {
    let term = machine.term();
    let mut drawing = Drawing::default();
    let mut reasons = Reasons::default();
    let mut pulse = Pulse::new();
    let mut before: Vec<TaskInstance> = Vec::new();
    loop {
        // The run first: tasks read after a final state are final as well.
        let run = api.run(what.dag, what.run)?;
        let tasks = in_order(api.tasks(what.dag, what.run)?, what.plan);
        let ended = ["success", "failed"].contains(&run.state.as_str());
        reasons.ask(api, machine, what, &tasks);
        let view = View {
            plan: what.plan,
            tasks: &tasks,
            reasons: &reasons,
        };
        let news = pulse.feel(api);
        if term.is_live() {
            let mut lines = view.tree(term, &run);
            lines.extend(pulse.dead.clone());
            drawing.draw(term, &lines);
        } else {
            for line in view.changes(&before).iter().chain(&news) {
                term.say(line);
            }
        }
        if ended {
            return Ok(Outcome { run, tasks });
        }
        before = tasks;
        thread::sleep(POLL);
    }
}

fn in_order(mut tasks: Vec<TaskInstance>, plan: &[Task]) -> Vec<TaskInstance> {
    tasks.sort_by_key(|task| {
        plan.iter()
            .position(|planned| planned.id == task.task_id)
            .unwrap_or(usize::MAX)
    });
    tasks
}

/// The first of them that failed by itself.
pub(crate) fn first_failed(tasks: &[TaskInstance]) -> Option<&TaskInstance> {
    tasks
        .iter()
        .find(|task| task.state.as_deref() == Some("failed"))
}

/// The first failed task, where `task` is the one that failed to tell of it.
fn tells_of<'t>(task: &TaskInstance, tasks: &'t [TaskInstance]) -> Option<&'t TaskInstance> {
    let is_red = task.task_id == TELLER && task.state.as_deref() == Some("failed");
    first_failed(tasks).filter(|first| is_red && first.task_id != TELLER)
}

/// Whether anybody works on the run: without a scheduler it stands still, and no state
/// of it tells.
#[derive(Debug)]
struct Pulse {
    felt: Instant,
    /// What there is to say of a scheduler that is down.
    dead: Option<String>,
}

impl Pulse {
    fn new() -> Self {
        Self {
            felt: Instant::now(),
            dead: None,
        }
    }

    /// Asks now and then; what is new, in a line.
    fn feel(&mut self, api: &Api) -> Option<String> {
        if self.dead.is_none() && self.felt.elapsed() < PULSE {
            return None;
        }
        self.felt = Instant::now();
        // What the run itself says counts; a webserver that is busy is asked again.
        self.hear(api.health().ok()?.scheduler, api.place())
    }

    fn hear(&mut self, scheduler: Scheduler, place: &Place) -> Option<String> {
        if scheduler.status.as_deref() == Some("healthy") {
            return self.dead.take().map(|_| "the scheduler is back".to_owned());
        }
        if self.dead.is_some() {
            return None;
        }
        let last = scheduler.latest_scheduler_heartbeat;
        self.dead = Some(format!(
            "! nothing goes on: the scheduler is down, its last heartbeat {}; start it again, \
             and the run goes on: {}",
            last.as_deref().map_or("never".to_owned(), central),
            place.up()
        ));
        self.dead.clone()
    }
}

/// Why tries failed that are to be repeated, by task and try; asked once each.
#[derive(Debug, Default)]
struct Reasons(HashMap<(String, u32), Option<String>>);

impl Reasons {
    fn ask(&mut self, api: &Api, machine: &Machine, what: &Follow<'_>, tasks: &[TaskInstance]) {
        for task in tasks.iter().filter(|task| waits_to_retry(task)) {
            let attempt = (task.task_id.clone(), task.try_number);
            self.0.entry(attempt).or_insert_with(|| {
                // The log is a help; what counts is the state.
                let log = api
                    .log(what.dag, what.run, &task.task_id, task.try_number)
                    .ok()?;
                let reason = Essence::of(&log).reason()?;
                Some(machine.redact(&reason))
            });
        }
    }

    fn of(&self, task: &TaskInstance) -> Option<&str> {
        if !waits_to_retry(task) {
            return None;
        }
        let attempt = (task.task_id.clone(), task.try_number);
        self.0.get(&attempt)?.as_deref()
    }
}

fn waits_to_retry(task: &TaskInstance) -> bool {
    task.state.as_deref() == Some("up_for_retry")
}

/// A run's tasks as a person sees them.
struct View<'a> {
    plan: &'a [Task],
    tasks: &'a [TaskInstance],
    reasons: &'a Reasons,
}

impl View<'_> {
    /// All of it, the run first.
    fn tree(&self, term: &Term, run: &DagRun) -> Vec<String> {
        let mut lines = vec![format!("{}  {}", term.bold(&run.dag_run_id), run.state)];
        for (at, task) in self.tasks.iter().enumerate() {
            let (branch, trunk) = if at + 1 == self.tasks.len() {
                ("└─", "  ")
            } else {
                ("├─", "│ ")
            };
            lines.push(format!("{branch} {}", self.row(term, task)));
            if let Some(reason) = self.reasons.of(task) {
                lines.push(format!("{trunk}   | {}", term.dim(reason)));
            }
        }
        lines
    }

    fn row(&self, term: &Term, task: &TaskInstance) -> String {
        let (mark, name, words) = (mark(task), &task.task_id, self.words(task));
        match task.duration {
            Some(s) => {
                let took = millis(Duration::from_secs_f64(s.max(0.0)));
                format!("{mark} {name:<16} {words:<18} {}", term.dim(&took))
            }
            None => format!("{mark} {name:<16} {words}"),
        }
    }

    /// One line for each task whose state is not what it was, and one for the
    /// reason of a failed try.
    fn changes(&self, before: &[TaskInstance]) -> Vec<String> {
        let mut lines = Vec::new();
        for task in self.tasks.iter().filter(|task| task.state.is_some()) {
            let was = before.iter().find(|b| b.task_id == task.task_id);
            if was.is_some_and(|was| was.state == task.state) {
                continue;
            }
            let took = match task.duration {
                Some(s) if is_final(task) => {
                    format!("  {}", millis(Duration::from_secs_f64(s.max(0.0))))
                }
                _ => String::new(),
            };
            let (mark, name, words) = (mark(task), &task.task_id, self.words(task));
            lines.push(format!("{mark} {name:<16} {words}{took}"));
            lines.extend(self.reasons.of(task).map(|why| format!("  | {why}")));
        }
        lines
    }

    fn words(&self, task: &TaskInstance) -> String {
        let attempt = task.try_number;
        match task.state.as_deref() {
            None => "–".to_owned(),
            Some("up_for_reschedule") => "waiting".to_owned(),
            Some("up_for_retry") => match self.next_try(task) {
                Some(at) => format!("waiting to retry at {at} (try {attempt} failed)"),
                None => format!("waiting to retry (try {attempt} failed)"),
            },
            Some("running") if attempt > 1 => format!("running (try {attempt})"),
            Some("upstream_failed") => "not run".to_owned(),
            Some(state) => match tells_of(task, self.tasks) {
                Some(first) => format!("{state} (tells of {})", first.task_id),
                None => state.to_owned(),
            },
        }
    }

    /// When a failed try is repeated, by the clinic's clock.
    fn next_try(&self, task: &TaskInstance) -> Option<String> {
        let planned = self.plan.iter().find(|p| p.id == task.task_id)?;
        let ended: Timestamp = task.end_date.as_deref()?.parse().ok()?;
        let delay = SignedDuration::try_from(planned.retry_delay?).ok()?;
        let next = ended.checked_add(delay).ok()?.in_tz(ZONE).ok()?;
        Some(next.strftime("%H:%M %Z").to_string())
    }
}

fn is_final(task: &TaskInstance) -> bool {
    let states = ["success", "failed", "skipped", "upstream_failed"];
    task.state.as_deref().is_some_and(|s| states.contains(&s))
}

fn mark(task: &TaskInstance) -> &'static str {
    match task.state.as_deref() {
        Some("success") => "✓",
        Some("failed") => "✗",
        Some("running") => "▶",
        Some("skipped" | "upstream_failed") => "↷",
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
            end_date: None,
            try_number: 1,
        }
    }

    fn planned(ids: &[&str]) -> Vec<Task> {
        ids.iter()
            .map(|&id| Task {
                id: id.into(),
                retry_delay: Some(Duration::from_secs(300)),
            })
            .collect()
    }

    fn changes(before: &[TaskInstance], now: &[TaskInstance], reasons: &Reasons) -> Vec<String> {
        let view = View {
            plan: &planned(&["load"]),
            tasks: now,
            reasons,
        };
        view.changes(before)
    }

    #[test]
    fn a_scheduler_that_is_down_is_told_once_and_so_is_its_return() {
        let (mut pulse, place) = (Pulse::new(), Place::of(Some("ec2")));
        let mut hear = |status: &str| {
            let scheduler = Scheduler {
                status: Some(status.into()),
                latest_scheduler_heartbeat: Some("2026-11-23T03:00:00+00:00".into()),
            };
            pulse.hear(scheduler, &place)
        };
        assert_eq!(hear("healthy"), None);
        assert_eq!(
            hear("unhealthy").as_deref(),
            Some(
                "! nothing goes on: the scheduler is down, its last heartbeat Sun 2026-11-22 21:00 \
                 CST; start it again, and the run goes on: cargo xtask deploy --host ec2"
            )
        );
        assert_eq!(hear("unhealthy"), None);
        assert_eq!(hear("healthy").as_deref(), Some("the scheduler is back"));
        assert_eq!(hear("healthy"), None);
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
            changes(&before, &now, &Reasons::default()),
            [
                "✓ guard            success  1.2 s",
                "· load             queued"
            ]
        );
        assert_eq!(changes(&now, &now, &Reasons::default()), [""; 0]);
    }

    #[test]
    fn tasks_come_in_the_order_in_which_they_run() {
        let order = planned(&["a", "b"]);
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

    #[test]
    fn a_try_that_is_repeated_tells_when_and_why() {
        let mut retried = task("load", Some("up_for_retry"), Some(1.0));
        retried.end_date = Some("2026-11-23T03:00:01+00:00".into());
        let mut reasons = Reasons::default();
        let why = Some("ValueError: no".to_owned());
        reasons.0.insert(("load".to_owned(), 1), why);
        assert_eq!(
            changes(&[], std::slice::from_ref(&retried), &reasons),
            [
                "· load             waiting to retry at 21:05 CST (try 1 failed)",
                "  | ValueError: no"
            ]
        );
        // As much as is known.
        retried.end_date = None;
        retried.try_number = 2;
        assert_eq!(
            changes(&[], std::slice::from_ref(&retried), &reasons),
            ["· load             waiting to retry (try 2 failed)"]
        );
        retried.state = Some("running".into());
        assert_eq!(
            changes(&[], &[retried], &reasons),
            ["▶ load             running (try 2)"]
        );
    }

    #[test]
    fn the_tree_has_the_reason_below_its_task() {
        let mut reasons = Reasons::default();
        for id in ["load", "dbt"] {
            let why = Some("ValueError: no".to_owned());
            reasons.0.insert((id.to_owned(), 1), why);
        }
        let tasks = ["load", "dbt"].map(|id| task(id, Some("up_for_retry"), None));
        let view = View {
            plan: &[],
            tasks: &tasks,
            reasons: &reasons,
        };
        let run = DagRun {
            dag_run_id: "manual__1".into(),
            state: "running".into(),
            run_type: "manual".into(),
            start_date: None,
            end_date: None,
        };
        assert_eq!(
            view.tree(&Term::new(false), &run),
            [
                "manual__1  running",
                "├─ · load             waiting to retry (try 1 failed)",
                "│    | ValueError: no",
                "└─ · dbt              waiting to retry (try 1 failed)",
                "     | ValueError: no",
            ]
        );
    }

    #[test]
    fn notify_is_no_second_defect() {
        let red = |ids: [(&str, &str); 3]| ids.map(|(id, state)| task(id, Some(state), None));
        let refused = red([
            ("guard", "failed"),
            ("load", "upstream_failed"),
            ("notify", "failed"),
        ]);
        assert_eq!(
            changes(&[], &refused, &Reasons::default()),
            [
                "✗ guard            failed",
                "↷ load             not run",
                "✗ notify           failed (tells of guard)"
            ]
        );
        // Alone it is a defect like any other.
        let alone = red([
            ("guard", "success"),
            ("load", "success"),
            ("notify", "failed"),
        ]);
        assert_eq!(
            changes(&alone[..2], &alone, &Reasons::default()),
            ["✗ notify           failed"]
        );
    }
}
