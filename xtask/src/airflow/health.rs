//! Whether Airflow is really up: `/health` answers 200 with a dead scheduler,
//! so it tells only part.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::api::Api;
use super::clock::central;
use crate::config::Place;
use crate::error::Failure;

const POLL: Duration = Duration::from_millis(500);
/// How long an import error from before a change is waited out: twice the 30 s
/// after which Airflow has read a changed file again (DAG_DIR_LIST_INTERVAL in
/// docker-compose.yml, and Airflow's own min_file_process_interval).
const READ_AGAIN: Duration = Duration::from_secs(60);
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
    /// When the newest of them was met.
    #[serde(skip)]
    pub(crate) last_import_error: Option<Timestamp>,
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
            last_import_error: import_errors
                .iter()
                .filter_map(|e| e.timestamp.as_deref()?.parse().ok())
                .max(),
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
    /// a scheduled run is active.
    pub(crate) fn next_run_text(&self) -> String {
        match &self.next_run {
            Some(at) => central(at),
            None if self.dags.len() == self.paused.len() => "none: every DAG is paused".to_owned(),
            None => "after the active one".to_owned(),
        }
    }

    /// What does not hold, as a failure.
    pub(crate) fn failure(&self, place: &Place) -> Failure {
        if let Some((file, trace)) = self.import_errors.first() {
            return Failure::user(format!(
                "failed to import {file}:\n  | {}",
                trace.replace('\n', "\n  | ")
            ))
            .hint(match place.host() {
                Some(_) => format!("mend the file, then: {}", place.up()),
                None => "mend the file; Airflow reads it again within 30 s: cargo xtask status"
                    .to_owned(),
            });
        }
        let (message, service) = if !self.metadata {
            (
                "failed to reach the metadata database".to_owned(),
                "airflow-webserver",
            )
        } else if !self.scheduler {
            let last = self
                .heartbeat
                .as_deref()
                .map_or("never".to_owned(), central);
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
        Failure::tool(message).hint(format!("{} {service}", place.command("logs")))
    }
}

/// Waits until the truth holds.
///
/// An import error of the files below `code` as they are now ends the wait at
/// once: no time mends it. One from before they last changed may be mended
/// already, which Airflow knows only when it has read them again.
pub(crate) fn wait_for_truth(
    api: &Api,
    expected: &[String],
    code: &[PathBuf],
    limit: Duration,
) -> Result<Truth> {
    let started = Instant::now();
    loop {
        let truth = Truth::read(api, expected);
        match truth {
            Ok(truth) if truth.holds() => return Ok(truth),
            Ok(truth)
                if started.elapsed() > limit
                    || (!truth.import_errors.is_empty()
                        && is_last_word(
                            truth.last_import_error,
                            last_change(code),
                            started.elapsed(),
                        )) =>
            {
                return Err(truth.failure(api.place()).into());
            }
            Err(error) if started.elapsed() > limit => return Err(error),
            _ => thread::sleep(POLL),
        }
    }
}

/// Whether an import error met at `met` tells of the code that was last changed
/// at `changed`, or stands for longer than Airflow needs to read it again.
fn is_last_word(met: Option<Timestamp>, changed: Option<Timestamp>, waited: Duration) -> bool {
    let is_old = met.zip(changed).is_some_and(|(met, changed)| met < changed);
    !is_old || waited > READ_AGAIN
}

/// When Python below any of `folders` was last written, moved, added or
/// removed; `None` where nothing can be read. The time of the inode's change:
/// that of its content is carried over by `mv`, `cp -p` and `rsync`.
fn last_change(folders: &[PathBuf]) -> Option<Timestamp> {
    let changed = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        let nanoseconds = i32::try_from(metadata.ctime_nsec()).ok()?;
        Timestamp::new(metadata.ctime(), nanoseconds).ok()
    };
    let mut newest = None;
    let mut left = folders.to_vec();
    while let Some(path) = left.pop() {
        if path.ends_with("__pycache__") {
            continue;
        }
        // A folder knows of what was removed from it.
        if let Ok(entries) = fs::read_dir(&path) {
            left.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.extension().is_none_or(|extension| extension != "py") {
            continue;
        }
        newest = newest.max(changed(&path));
    }
    newest
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
            last_import_error: None,
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
                "failed to see a fresh scheduler heartbeat; the last was Wed 2025-12-31 18:00 CST",
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
            assert_eq!(truth.failure(&Place::default()).to_string(), message);
        }
    }

    #[test]
    fn an_import_error_from_before_a_change_is_waited_out() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(61));
        for (met, changed, waited, is_last) in [
            (at(100), at(99), soon, true),
            (at(100), at(100), soon, true),
            (at(100), at(101), soon, false),
            (at(100), at(101), late, true),
            // Nothing tells that it is old.
            (None, at(101), soon, true),
            (at(100), None, soon, true),
        ] {
            assert_eq!(
                is_last_word(met, changed, waited),
                is_last,
                "{met:?} {changed:?} {waited:?}"
            );
        }
    }

    #[test]
    fn code_changes_when_python_is_written_moved_or_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dags");
        fs::create_dir_all(folder.join("__pycache__")).unwrap();
        let folders = [folder.clone(), root.path().join("not there")];
        // The kernel stamps files by the ticks of its clock.
        let tick = || thread::sleep(Duration::from_millis(20));
        let mut before = last_change(&folders).unwrap();
        let mut has_changed = || {
            let now = last_change(&folders).unwrap();
            tick();
            let changed = now > before;
            before = now;
            changed
        };
        tick();
        fs::write(folder.join("__pycache__/a.pyc"), "").unwrap();
        assert!(!has_changed());
        fs::write(folder.join("a.py"), "").unwrap();
        assert!(has_changed());
        fs::write(folder.join("a.py"), "import airflow").unwrap();
        assert!(has_changed());
        fs::remove_file(folder.join("a.py")).unwrap();
        assert!(has_changed());
        assert!(!has_changed());
        assert_eq!(last_change(&[root.path().join("not there")]), None);
    }
}
