//! `status`: services, image, heartbeat, last run, freshness.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::running::Running;
use super::{host, phases, print, print_json};
use crate::airflow::{Api, DagRun, Essence, Truth, central, first_failed_of};
use crate::cli;
use crate::config::{Deploy, Settings};
use crate::context::Context;
use crate::exec::plural;
use crate::image;
use crate::stack::Stack;

/// How long the ETL may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Tables that are named in one line.
const NAMES_SHOWN: usize = 5;

/// Before what mends it.
const LOG_OF_IT: &str = "all it said: cargo xtask logs --task; ";

/// The condition of a container whose network was removed.
const NO_NETWORK: &str = "no network";

/// Everything that `status` shows; its JSON.
#[derive(Debug, Serialize)]
struct Status {
    /// The whole stack is up and runs the image of this tree.
    healthy: bool,
    project: String,
    url: String,
    services: Vec<Service>,
    /// Files that changed since `up` started these services.
    changed_since_up: Vec<&'static str>,
    /// The last `up` failed or was interrupted.
    unfinished_up: bool,
    /// Services that should run and do not.
    down: Vec<&'static str>,
    /// `airflow-dbt-dental:<hash>` of the tree as it is now.
    image_of_tree: String,
    airflow: Option<Truth>,
    /// Why Airflow could not be asked.
    airflow_error: Option<String>,
    last_run: Option<Run>,
    /// What the ETL says of its own runs: last run, rows, freshness.
    etl: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Service {
    name: String,
    condition: String,
    image: String,
    /// For services of our image: whether it is the tree's.
    current: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Run {
    id: String,
    state: String,
    kind: String,
    started: Option<String>,
    ended: Option<String>,
    /// Of a failed run: the task that failed first.
    failed_task: Option<String>,
    /// Why, in one line of its log.
    failed_why: Option<String>,
}

impl Run {
    /// The newest run of the nightly DAG.
    fn last(context: &Context, api: &Api, dag: &str) -> Option<Self> {
        let run = api.runs(dag, 1).ok()?.into_iter().next()?;
        let failed = (run.state == "failed")
            .then(|| first_failed_of(api, dag, &run.dag_run_id).ok())
            .flatten()
            .flatten();
        let failed = failed.map(|task| {
            // The log is a help; what counts is the state.
            let log = api.log(dag, &run.dag_run_id, &task.task_id, task.try_number);
            let why = log.ok().and_then(|log| Essence::of(&log).reason());
            (task.task_id, why.map(|why| context.machine.redact(&why)))
        });
        Some(Self::new(run, failed))
    }

    fn new(run: DagRun, failed: Option<(String, Option<String>)>) -> Self {
        let (failed_task, failed_why) = match failed {
            Some((task, why)) => (Some(task), why),
            None => (None, None),
        };
        Self {
            failed_task,
            failed_why,
            id: run.dag_run_id,
            state: run.state,
            kind: run.run_type,
            started: run.start_date,
            ended: run.end_date,
        }
    }
}

pub(crate) fn run(context: &Context, args: &cli::Status) -> Result<ExitCode> {
    if let Some(host) = &args.at.host {
        return host::status::run(context, host, args.json);
    }
    let deploy = context.deploy()?;
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let status = read(context, &stack, &settings, &deploy)?;
    if args.json {
        print_json(&status)?;
    } else {
        print(&table(&status))?;
    }
    Ok(if status.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(
    context: &Context,
    stack: &Stack<'_>,
    settings: &Settings,
    deploy: &Deploy,
) -> Result<Status> {
    let tree = image::observe(stack.engine(), &context.workspace, deploy)?;
    let image_of_tree = tree.image();
    let containers = stack.containers()?;
    let changed_since_up = phases::changed_since_up(context, settings, &containers)?;
    let stranded = stack.engine().stranded(&containers)?;
    let mut services: Vec<Service> = containers
        .iter()
        .filter(|c| !c.is_one_off())
        .map(|c| Service {
            name: c.service().to_owned(),
            condition: if stranded.contains(&c.service()) {
                NO_NETWORK.to_owned()
            } else {
                c.condition()
            },
            current: c.service().starts_with("airflow-").then(|| {
                tree.present
                    .as_ref()
                    .is_some_and(|image| image.id == c.image)
            }),
            image: c.config.image.clone(),
        })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let api = Api::new(settings);
    let (airflow, airflow_error) = match Truth::read(&api, &deploy.airflow.dags) {
        Ok(truth) => (Some(truth), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let last_run = airflow
        .as_ref()
        .and_then(|_| Run::last(context, &api, &deploy.airflow.nightly));
    let running = |name: &str| {
        services
            .iter()
            .any(|s| s.name == name && s.condition == "healthy")
    };
    let runs = |name: &str| {
        let is_up = |s: &&Service| !s.condition.starts_with("exited") && s.condition != "created";
        services
            .iter()
            .filter(|s| s.name == name)
            .any(|s| is_up(&s))
    };
    let mut expected = settings.databases();
    expected.extend(["airflow-webserver", "airflow-scheduler"]);
    let down: Vec<&'static str> = expected
        .iter()
        .copied()
        .filter(|name| !runs(name))
        .collect();
    Ok(Status {
        healthy: airflow.as_ref().is_some_and(Truth::holds)
            && expected.iter().all(|name| running(name))
            && services.iter().all(|s| s.current != Some(false)),
        project: settings.project().to_owned(),
        url: settings.webserver_url(),
        etl: running("airflow-scheduler")
            .then(|| etl(context, stack))
            .flatten(),
        services,
        changed_since_up,
        unfinished_up: phases::is_unfinished(context, settings),
        down,
        image_of_tree,
        airflow,
        airflow_error,
        last_run,
    })
}

/// The ETL's own tracking; `None` before its first run, or where the analytics
/// database does not answer.
fn etl(context: &Context, stack: &Stack<'_>) -> Option<Value> {
    let container = context.running(stack, "airflow-scheduler").ok()?;
    let command = ["python", "-m", "etl_pipeline", "status", "--json"];
    let step = stack
        .exec("ask the ETL for its status", &container, false, &command)
        .limit(ANSWER);
    let captured = context.machine.capture(&step).ok()?;
    serde_json::from_str(&captured.stdout).ok()
}

/// The same of any stack.
pub(super) fn etl_of(stack: &Running<'_>) -> Option<Value> {
    let command = ["python", "-m", "etl_pipeline", "status", "--json"];
    let step = stack
        .exec(
            "ask the ETL for its status",
            "airflow-scheduler",
            false,
            &command,
        )
        .ok()?
        .limit(ANSWER);
    let captured = stack.machine().capture(&step).ok()?;
    serde_json::from_str(&captured.stdout).ok()
}

/// What the last load changed and what there is since, in one line.
pub(super) fn loaded(etl: &Value) -> Option<String> {
    let changed = etl["last_run"]["rows_written"].as_u64()?;
    let tables = etl["tables"].as_array()?;
    let rows = row_count(tables);
    Some(format!("{} rows changed; {rows}", thousands(changed)))
}

fn table(status: &Status) -> String {
    let mut lines = vec![format!("project   {}", status.project)];
    if status.services.is_empty() {
        lines.push("services  none; start them: cargo xtask up".to_owned());
    }
    for (n, service) in status.services.iter().enumerate() {
        let lead = if n == 0 { "services" } else { "" };
        let note = match service.current {
            _ if service.condition == NO_NETWORK => "  (its network is gone: cargo xtask up)",
            Some(false) => "  (not the image of this tree: cargo xtask up)",
            _ => "",
        };
        lines.push(format!(
            "{lead:<9} {:<18} {:<12} {}{note}",
            service.name, service.condition, service.image
        ));
    }
    if status.unfinished_up {
        lines.push("up        the last one did not end well: cargo xtask up".to_owned());
    } else if !status.services.is_empty() && !status.down.is_empty() {
        let down = status.down.join(", ");
        lines.push(format!("down      {down}; start again: cargo xtask up"));
    }
    lines.push(format!("tree      {}", status.image_of_tree));
    if !status.changed_since_up.is_empty() {
        lines.push(format!(
            "changed   {} since the stack started: cargo xtask up",
            status.changed_since_up.join(", ")
        ));
    }
    match (&status.airflow, &status.airflow_error) {
        (Some(truth), _) => {
            let dead = status.down.contains(&"airflow-scheduler");
            lines.extend(airflow_lines(truth, dead));
        }
        (None, Some(error)) => lines.push(format!("airflow   {error}")),
        (None, None) => {}
    }
    match &status.last_run {
        Some(run) => lines.extend(last_run_lines(run)),
        None if status.airflow.is_some() => {
            lines.push("last run  none yet: cargo xtask nightly".to_owned());
        }
        None => {}
    }
    if let Some(etl) = &status.etl {
        lines.extend(etl_lines(etl));
    }
    lines.join("\n")
}

fn last_run_lines(run: &Run) -> Vec<String> {
    let when = run
        .started
        .as_deref()
        .map_or("not started".to_owned(), central);
    let mut lines = vec![format!("last run  {}  {}  {when}", run.state, run.id)];
    if run.state == "failed" {
        let (what, more) = match (&run.failed_task, &run.failed_why) {
            (Some(task), Some(why)) => (format!("{task} failed first: {why}"), LOG_OF_IT),
            (Some(task), None) => (format!("{task} failed first"), LOG_OF_IT),
            (None, _) => ("no task failed by itself".to_owned(), ""),
        };
        lines.push(format!("          {what}"));
        lines.push(format!(
            "          {more}airflow/NIGHTLY_RUN.md says what mends it"
        ));
    }
    lines
}

/// A scheduler that is `dead` is healthy to the webserver until its heartbeat is old.
fn airflow_lines(truth: &Truth, dead: bool) -> Vec<String> {
    let heartbeat = truth
        .heartbeat
        .as_deref()
        .map_or("never".to_owned(), central);
    let scheduler = match (dead, truth.scheduler) {
        (true, _) => "down, its last",
        (false, true) => "healthy,",
        (false, false) => "not healthy,",
    };
    let mut lines = vec![format!("scheduler {scheduler} heartbeat {heartbeat}")];
    let mut dags = truth.dags.join(", ");
    if !truth.paused.is_empty() {
        dags.push_str(&format!("  (paused: {})", truth.paused.join(", ")));
    }
    if !truth.missing_dags.is_empty() {
        dags.push_str(&format!("  (missing: {})", truth.missing_dags.join(", ")));
    }
    lines.push(format!("dags      {dags}"));
    for (file, trace) in &truth.import_errors {
        let last = trace.lines().last().unwrap_or_default();
        lines.push(format!("broken    {file}: {last}"));
    }
    lines.push(format!("next run  {}", truth.next_run_text()));
    lines
}

fn etl_lines(etl: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(run) = etl.get("last_run").filter(|run| run.is_object()) {
        let text = |name: &str| run[name].as_str().unwrap_or("–").to_owned();
        let rows = thousands(run["rows_written"].as_u64().unwrap_or_default());
        lines.push(format!(
            "last load {}  {} rows changed  {}",
            text("status"),
            rows,
            run["finished_at"].as_str().map_or("–".to_owned(), central)
        ));
    }
    lines.extend(freshness(etl));
    lines.extend(left_behind(etl));
    lines
}

/// How many rows there are, how old the oldest load of a table is, and the
/// newest change that the source is known to have had.
fn freshness(etl: &Value) -> Option<String> {
    let tables = etl["tables"]
        .as_array()
        .filter(|tables| !tables.is_empty())?;
    let oldest = tables
        .iter()
        .filter_map(|table| table["hours_since_load"].as_f64())
        .fold(0.0, f64::max);
    let newest = tables
        .iter()
        .filter_map(|table| table["watermark"].as_str())
        .max()
        .map_or("none known".to_owned(), |stamp| {
            central(&format!("{stamp}Z"))
        });
    Some(format!(
        "freshness {}, each loaded within {oldest:.1} h; newest change {newest}",
        row_count(tables)
    ))
}

/// The tables that the last run could not load, with the age of what is there.
fn left_behind(etl: &Value) -> Option<String> {
    let tables = etl["tables"].as_array()?;
    let stale: Vec<String> = tables
        .iter()
        .filter(|table| table["error"].is_string())
        .filter_map(|table| {
            let hours = table["hours_since_load"].as_f64()?;
            Some(format!(
                "{} (what is there is {hours:.1} h old)",
                table["table"].as_str()?
            ))
        })
        .collect();
    let more = match stale.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = &stale[..stale.len().min(NAMES_SHOWN)];
    (!stale.is_empty()).then(|| {
        format!(
            "failed    {}{more}; why: cargo xtask etl status",
            shown.join(", ")
        )
    })
}

/// The rows of all tables; where the ETL has not counted every one, of how many.
fn row_count(tables: &[Value]) -> String {
    let counts: Vec<u64> = tables
        .iter()
        .filter_map(|table| table["rows"].as_u64())
        .collect();
    let (of, rows) = (
        plural(tables.len(), "table"),
        thousands(counts.iter().sum()),
    );
    match counts.len() {
        0 => format!("{of}, rows not counted yet"),
        all if all == tables.len() => format!("{of}, {rows} rows"),
        some => format!("{rows} rows counted in {some} of {of}"),
    }
}

/// `1,234,567`, as the ETL itself writes it.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_that_of_the_stalest_table_and_the_newest_change() {
        let etl = serde_json::json!({"rows": 140506, "tables": [
            {"hours_since_load": 0.5, "watermark": "2026-01-02 03:04:05.000000", "rows": 140000},
            {"hours_since_load": 25.0, "watermark": "2025-12-31 00:00:00.000000", "rows": 506},
            {"hours_since_load": 1.0, "watermark": null, "rows": 0},
        ]});
        assert_eq!(
            freshness(&etl).as_deref(),
            Some(
                "freshness 3 tables, 140,506 rows, each loaded within 25.0 h; newest change Thu 2026-01-01 21:04 CST"
            )
        );
        assert_eq!(freshness(&serde_json::json!({"tables": []})), None);
        assert_eq!(left_behind(&etl), None);
    }

    #[test]
    fn a_table_that_was_not_loaded_is_named_with_its_age() {
        let stale = |n: usize| serde_json::json!({"table": format!("t{n}"), "hours_since_load": 25.04, "error": "no"});
        let etl = serde_json::json!({"tables": [stale(0)]});
        let lead = "failed    t0 (what is there is 25.0 h old)";
        let why = "; why: cargo xtask etl status";
        assert_eq!(left_behind(&etl), Some(format!("{lead}{why}")));
        let etl = serde_json::json!({"tables": (0..7).map(stale).collect::<Vec<_>>()});
        let told = left_behind(&etl).unwrap();
        assert!(told.ends_with(&format!("t4 (what is there is 25.0 h old) and 2 more{why}")));
    }

    #[test]
    fn a_failed_run_tells_where_and_what_mends_it() {
        let run = |state: &str, failed: Option<(&str, Option<&str>)>| {
            let run = DagRun {
                dag_run_id: "manual__1".into(),
                state: state.into(),
                run_type: "manual".into(),
                start_date: None,
                end_date: None,
            };
            let own = failed.map(|(task, why)| (task.into(), why.map(Into::into)));
            last_run_lines(&Run::new(run, own))
        };
        let lead = "last run  failed  manual__1  not started";
        let mends = "          airflow/NIGHTLY_RUN.md says what mends it";
        let log = "          all it said: cargo xtask logs --task; airflow/NIGHTLY_RUN.md says what mends it";
        for (task, what, hint) in [
            (
                Some(("verify", Some("DataError: 2 tables differ"))),
                "          verify failed first: DataError: 2 tables differ",
                log,
            ),
            (Some(("guard", None)), "          guard failed first", log),
            (None, "          no task failed by itself", mends),
        ] {
            assert_eq!(run("failed", task), [lead, what, hint]);
        }
        assert_eq!(
            run("success", None),
            ["last run  success  manual__1  not started"]
        );
    }

    #[test]
    fn what_was_not_counted_is_said_and_never_guessed() {
        let table = |rows: Option<u64>| serde_json::json!({"rows": rows});
        for (tables, text) in [
            (vec![table(Some(7))], "1 table, 7 rows"),
            (
                vec![table(Some(140_000)), table(None), table(Some(506))],
                "140,506 rows counted in 2 of 3 tables",
            ),
            (
                vec![table(None), table(None)],
                "2 tables, rows not counted yet",
            ),
        ] {
            assert_eq!(row_count(&tables), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        let shown = [0, 999, 1_000, 100_000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "100,000", "1,234,567"]);
    }
}
