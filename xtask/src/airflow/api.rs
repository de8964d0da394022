//! Airflow's stable REST API, as far as the `Pipeline` role may use it.
//!
//! <https://airflow.apache.org/docs/apache-airflow/2.7.1/stable-rest-api-ref.html>

use std::time::Duration;

use anyhow::{Context, Result};
use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::{Place, Settings};
use crate::error::Failure;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The API of one Airflow.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    agent: ureq::Agent,
    url: String,
    authorization: String,
    place: Place,
}

/// `GET /health`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Health {
    /// Of the metadata database.
    pub(crate) metadatabase: Component,
    /// Of the scheduler.
    pub(crate) scheduler: Scheduler,
}

/// One part of `/health`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Component {
    /// `healthy` or not.
    pub(crate) status: Option<String>,
}

/// The scheduler's part of `/health`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Scheduler {
    /// `healthy` where its last heartbeat is at most 30 s old.
    pub(crate) status: Option<String>,
    /// ISO 8601.
    pub(crate) latest_scheduler_heartbeat: Option<String>,
}

/// An entry of `GET /dags`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dag {
    /// Its id.
    pub(crate) dag_id: String,
    /// A paused DAG is not scheduled.
    pub(crate) is_paused: bool,
    /// ISO 8601; `None` where nothing is due.
    pub(crate) next_dagrun_create_after: Option<String>,
}

/// An entry of `GET /importErrors`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ImportError {
    /// Path in the container.
    pub(crate) filename: String,
    /// Python's traceback.
    pub(crate) stack_trace: String,
    /// When the file was last read, ISO 8601.
    pub(crate) timestamp: Option<String>,
}

/// A DAG run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct DagRun {
    /// `manual__…` or `scheduled__…`
    pub(crate) dag_run_id: String,
    /// `queued`, `running`, `success` or `failed`.
    pub(crate) state: String,
    /// `manual`, `scheduled`, `backfill` or `dataset_triggered`.
    pub(crate) run_type: String,
    /// ISO 8601.
    pub(crate) start_date: Option<String>,
    /// ISO 8601.
    pub(crate) end_date: Option<String>,
}

/// A task instance of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct TaskInstance {
    /// The task's id.
    pub(crate) task_id: String,
    /// `None` while nothing decided about it.
    pub(crate) state: Option<String>,
    /// Seconds of the last try.
    pub(crate) duration: Option<f64>,
    /// ISO 8601; of the last try.
    pub(crate) start_date: Option<String>,
    /// ISO 8601; of the last try.
    pub(crate) end_date: Option<String>,
    /// From 1; 0 before the first. While a task waits to be tried again it is
    /// the try that failed.
    pub(crate) try_number: u32,
}

/// A task as the DAG has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// Its id.
    pub(crate) id: String,
    /// How long after a failed try the next one starts; `None` where that grows
    /// with each try.
    pub(crate) retry_delay: Option<Duration>,
}

impl Api {
    /// The API that `.env` names, by the least-privilege user.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self::at(settings.webserver_url(), settings, Place::default())
    }

    /// The API of a stack with these settings, where this machine reaches it.
    pub(crate) fn at(url: String, settings: &Settings, place: Place) -> Self {
        let login = format!(
            "{}:{}",
            settings.or("AIRFLOW_API_USERNAME", "xtask"),
            settings.or("AIRFLOW_API_PASSWORD", "")
        );
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            // A proxy of the surroundings has no business on loopback.
            .proxy(None)
            .build()
            .into();
        Self {
            agent,
            url,
            authorization: format!("Basic {}", BASE64.encode(login.as_bytes())),
            place,
        }
    }

    /// Whose it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What the webserver says of itself; needs no login.
    pub(crate) fn health(&self) -> Result<Health> {
        self.get("/health", "ask Airflow for its health")
    }

    /// Every active DAG.
    pub(crate) fn dags(&self) -> Result<Vec<Dag>> {
        #[derive(Deserialize)]
        struct Page {
            dags: Vec<Dag>,
        }
        let page: Page = self.get("/api/v1/dags?limit=100&only_active=true", "list the DAGs")?;
        Ok(page.dags)
    }

    /// DAG files that cannot be imported.
    pub(crate) fn import_errors(&self) -> Result<Vec<ImportError>> {
        #[derive(Deserialize)]
        struct Page {
            import_errors: Vec<ImportError>,
        }
        let page: Page = self.get("/api/v1/importErrors?limit=100", "list import errors")?;
        Ok(page.import_errors)
    }

    /// The newest runs of a DAG, newest first.
    pub(crate) fn runs(&self, dag: &str, limit: usize) -> Result<Vec<DagRun>> {
        #[derive(Deserialize)]
        struct Page {
            dag_runs: Vec<DagRun>,
        }
        let path = format!("/api/v1/dags/{dag}/dagRuns?order_by=-start_date&limit={limit}");
        let page: Page = self.get(&path, "list the DAG's runs")?;
        Ok(page.dag_runs)
    }

    /// One run.
    pub(crate) fn run(&self, dag: &str, run: &str) -> Result<DagRun> {
        let path = format!("/api/v1/dags/{dag}/dagRuns/{}", encode(run));
        self.get(&path, "read the run")
    }

    /// The tasks of a run.
    pub(crate) fn tasks(&self, dag: &str, run: &str) -> Result<Vec<TaskInstance>> {
        #[derive(Deserialize)]
        struct Page {
            task_instances: Vec<TaskInstance>,
        }
        let path = format!("/api/v1/dags/{dag}/dagRuns/{}/taskInstances", encode(run));
        let page: Page = self.get(&path, "read the run's tasks")?;
        Ok(page.task_instances)
    }

    /// A DAG's tasks, in the order in which they run.
    pub(crate) fn plan(&self, dag: &str) -> Result<Vec<Task>> {
        #[derive(Deserialize)]
        struct Page {
            tasks: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            task_id: String,
            downstream_task_ids: Vec<String>,
            retry_delay: Option<Delta>,
            #[serde(default)]
            retry_exponential_backoff: bool,
        }
        #[derive(Deserialize)]
        struct Delta {
            days: u64,
            seconds: u64,
        }
        let page: Page = self.get(&format!("/api/v1/dags/{dag}/tasks"), "list the DAG's tasks")?;
        let mut left = page.tasks;
        let mut plan = Vec::new();
        // A task comes when none of those that are left leads to it.
        while let Some(at) = left.iter().position(|task| {
            !left
                .iter()
                .any(|other| other.downstream_task_ids.contains(&task.task_id))
        }) {
            let task = left.remove(at);
            let delay = task.retry_delay.filter(|_| !task.retry_exponential_backoff);
            plan.push(Task {
                id: task.task_id,
                retry_delay: delay
                    .map(|delta| Duration::from_secs(delta.days * 24 * 60 * 60 + delta.seconds)),
            });
        }
        Ok(plan)
    }

    /// Starts a run.
    pub(crate) fn trigger(&self, dag: &str, conf: &Value) -> Result<DagRun> {
        let what = "start the run";
        let response = self
            .agent
            .post(format!("{}/api/v1/dags/{dag}/dagRuns", self.url))
            .header("authorization", &self.authorization)
            .send_json(json!({ "conf": conf }));
        self.read(what, response)
    }

    /// The log of one try of a task, as text.
    pub(crate) fn log(&self, dag: &str, run: &str, task: &str, attempt: u32) -> Result<String> {
        let path = format!(
            "{}/api/v1/dags/{dag}/dagRuns/{}/taskInstances/{task}/logs/{attempt}?full_content=true",
            self.url,
            encode(run)
        );
        let response = self
            .agent
            .get(path)
            .header("authorization", &self.authorization)
            .header("accept", "text/plain")
            .call();
        let mut response =
            response.map_err(|error| self.unreachable("read the task's log", error.into()))?;
        anyhow::ensure!(
            response.status().is_success(),
            "failed to read the task's log: Airflow answers {}",
            response.status().as_u16()
        );
        response
            .body_mut()
            .read_to_string()
            .context("failed to read the task's log")
    }

    fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T> {
        let response = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("authorization", &self.authorization)
            .call();
        self.read(what, response)
    }

    fn read<T: DeserializeOwned>(
        &self,
        what: &str,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let mut response = response.map_err(|error| self.unreachable(what, error.into()))?;
        let status = response.status().as_u16();
        if response.status().is_success() {
            return response.body_mut().read_json().with_context(|| {
                format!("failed to {what}: Airflow's answer is no JSON that fits")
            });
        }
        let body: Value = response.body_mut().read_json().unwrap_or_default();
        let said = body["detail"]
            .as_str()
            .or_else(|| body["title"].as_str())
            .unwrap_or("no reason given");
        let failure = Failure::tool(format!(
            "failed to {what}: Airflow answers {status}, {said}"
        ));
        let place = &self.place;
        Err(match status {
            401 => failure.hint(format!(
                "AIRFLOW_API_PASSWORD in {} is not the one that Airflow knows; {} sets it",
                place.host().map_or(".env", |_| "its settings"),
                place.init()
            )),
            403 => failure.hint(format!(
                "{} gives the API user its role again",
                place.init()
            )),
            404 => failure.hint(place.command("status")),
            _ => failure.hint(format!("{} airflow-webserver", place.command("logs"))),
        }
        .into())
    }

    fn unreachable(&self, what: &str, error: anyhow::Error) -> anyhow::Error {
        let place = &self.place;
        let (at, hint) = match place.host() {
            Some(host) => (
                format!("{host}'s web page"),
                format!("{}; it says what runs", place.command("status")),
            ),
            None => (
                self.url.clone(),
                "cargo xtask up; where that does not mend it: cargo xtask down, then up again"
                    .to_owned(),
            ),
        };
        Failure::tool(format!("failed to {what}: nothing answers at {at}"))
            .hint(hint)
            .because(error)
            .into()
    }
}

/// A run id holds `+` and `:`.
fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
