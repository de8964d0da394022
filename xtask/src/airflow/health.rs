//! Whether Airflow is really up: `/health` answers 200 with a dead scheduler,
//! so it tells only part.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::api::Api;
use crate::error::Failure;

const POLL: Duration = Duration::from_millis(500);
/// Lines of a traceback that a failure repeats.
const TRACE_LINES: usize = 6;

/// What has to hold before the stack counts as up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Truth {
    /// The metadata database answers the webserver.
    pub(crate) metadata: bool,
    /// The scheduler's last heartbeat is fresh.
    pub(crate) scheduler: bool,
    /// When that was, ISO 8601.
    pub(crate) heartbeat: Option<String>,
    /// File and last lines of the traceback of each DAG file that fails.
    pub(crate) import_errors: Vec<(String, String)>,
    /// Expected DAGs that are not there.
    pub(crate) missing_dags: Vec<String>,
    /// DAGs that are there.
    pub(crate) dags: Vec<String>,
    /// Those of them that are paused.
    pub(crate) paused: Vec<String>,
    /// When the first of the expected DAGs is due, ISO 8601.
    pub(crate) next_run: Option<String>,
}

impl Truth {
    /// Asks for all of it.
    pub(crate) fn read(api: &Api, expected: &[String]) -> Result<Self> {
        let health = api.health()?;
        let dags = api.dags()?;
        let import_errors = api.import_errors()?;
        let healthy = |status: &Option<String>| status.as_deref() == Some("healthy");
        Ok(Self {
            metadata: healthy(&health.metadatabase.status),
            scheduler: healthy(&health.scheduler.status),
            heartbeat: health.scheduler.latest_scheduler_heartbeat,
            import_errors: import_errors
                .into_iter()
                .map(|e| (e.filename, last_lines(&e.stack_trace)))
                .collect(),
            missing_dags: expected
                .iter()
                .filter(|id| !dags.iter().any(|dag| dag.dag_id == **id))
                .cloned()
                .collect(),
            next_run: dags
                .iter()
                .filter(|dag| !dag.is_paused && expected.contains(&dag.dag_id))
                .filter_map(|dag| dag.next_dagrun_create_after.clone())
                .min(),
            paused: dags
                .iter()
                .filter(|dag| dag.is_paused)
                .map(|dag| dag.dag_id.clone())
                .collect(),
            dags: dags.into_iter().map(|dag| dag.dag_id).collect(),
        })
    }

    /// All of it holds.
    pub(crate) fn holds(&self) -> bool {
        self.metadata
            && self.scheduler
            && self.import_errors.is_empty()
            && self.missing_dags.is_empty()
    }

    /// When the next run is due, by the clinic's clock; Airflow names none while
    /// a run is active.
    pub(crate) fn next_run_text(&self, central: impl Fn(&str) -> String) -> String {
        match &self.next_run {
            Some(at) => central(at),
            None if self.dags.len() == self.paused.len() => "none: every DAG is paused".to_owned(),
            None => "after the active one".to_owned(),
        }
    }

    /// What does not hold, as a failure.
    pub(crate) fn failure(&self) -> Failure {
        if let Some((file, trace)) = self.import_errors.first() {
            return Failure::user(format!(
                "failed to import {file}:\n  | {}",
                trace.replace('\n', "\n  | ")
            ))
            .hint("mend the file; Airflow reads it again within 30 s: cargo xtask status");
        }
        let (message, service) = if !self.metadata {
            (
                "failed to reach the metadata database".to_owned(),
                "airflow-webserver",
            )
        } else if !self.scheduler {
            let last = self.heartbeat.as_deref().unwrap_or("never");
            (
                format!("failed to see a fresh scheduler heartbeat; the last was {last}"),
                "airflow-scheduler",
            )
        } else {
            (
                format!("failed to find the DAGs {}", self.missing_dags.join(", ")),
                "airflow-scheduler",
            )
        };
        Failure::tool(message).hint(format!("cargo xtask logs {service}"))
    }
}

/// Waits until the truth holds.
///
/// An import error ends the wait at once: no time mends it.
pub(crate) fn wait_for_truth(api: &Api, expected: &[String], limit: Duration) -> Result<Truth> {
    let started = Instant::now();
    loop {
        let truth = Truth::read(api, expected);
        match truth {
            Ok(truth) if truth.holds() => return Ok(truth),
            Ok(truth) if !truth.import_errors.is_empty() || started.elapsed() > limit => {
                return Err(truth.failure().into());
            }
            Err(error) if started.elapsed() > limit => return Err(error),
            _ => thread::sleep(POLL),
        }
    }
}

fn last_lines(trace: &str) -> String {
    let lines: Vec<&str> = trace.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TRACE_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Truth {
        Truth {
            metadata: true,
            scheduler: true,
            heartbeat: Some("2026-01-01T00:00:00+00:00".into()),
            import_errors: vec![],
            missing_dags: vec![],
            dags: vec!["etl_pipeline".into()],
            paused: vec![],
            next_run: None,
        }
    }

    #[test]
    fn each_part_has_to_hold_and_names_itself() {
        assert!(well().holds());
        let cases = [
            (
                Truth {
                    metadata: false,
                    ..well()
                },
                "failed to reach the metadata database",
            ),
            (
                Truth {
                    scheduler: false,
                    ..well()
                },
                "failed to see a fresh scheduler heartbeat; the last was 2026-01-01T00:00:00+00:00",
            ),
            (
                Truth {
                    import_errors: vec![("a.py".into(), "SyntaxError: x\nline".into())],
                    ..well()
                },
                "failed to import a.py:\n  | SyntaxError: x\n  | line",
            ),
            (
                Truth {
                    missing_dags: vec!["etl_pipeline".into()],
                    ..well()
                },
                "failed to find the DAGs etl_pipeline",
            ),
        ];
        for (truth, message) in cases {
            assert!(!truth.holds());
            assert_eq!(truth.failure().to_string(), message);
        }
    }
}
