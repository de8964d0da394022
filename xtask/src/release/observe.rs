//! What a host holds of the stack; read in one round trip.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Release;
use crate::config::Host;
use crate::exec::Machine;
use crate::host::{self, Facts, Told, images::There};

const OBSERVE: &str = include_str!("observe.sh");

/// A container of the stack that is meant to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    /// As docker-compose.yml names it.
    pub(crate) service: String,
    /// Its id.
    pub(crate) container: String,
    /// `running`, `exited`, …
    pub(crate) status: String,
    /// `healthy`, `starting`, …; `-` where nothing checks it.
    pub(crate) health: String,
    /// The image by the name that it was started with.
    pub(crate) image: String,
    /// The image's id.
    pub(crate) image_id: String,
}

impl Served {
    /// It runs, and is healthy where that is checked.
    pub(crate) fn is_up(&self) -> bool {
        self.status == "running" && matches!(self.health.as_str(), "healthy" | "-")
    }

    /// `healthy`, `starting`, `exited`.
    pub(crate) fn condition(&self) -> &str {
        match (self.status.as_str(), self.health.as_str()) {
            ("running", "-") => "running",
            ("running", health) => health,
            (status, _) => status,
        }
    }
}

/// What Airflow says of itself; `airflow/release/metadata.py state` prints it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct State {
    /// The metadata database's clock, ISO 8601.
    pub(crate) now: String,
    /// Of the metadata schema; `None` where there is none yet.
    pub(crate) revision: Option<String>,
    /// Seconds since the scheduler's last heartbeat.
    pub(crate) heartbeat: Option<f64>,
    /// DAGs that the scheduler has read.
    pub(crate) dags: Vec<Dag>,
    /// DAG files that cannot be imported.
    pub(crate) import_errors: Vec<ImportError>,
    /// Runs that are queued or running.
    pub(crate) runs: Vec<ActiveRun>,
    /// What runs in them.
    #[serde(default)]
    pub(crate) tasks: Vec<ActiveTask>,
    /// Of each DAG, the run that ended last; a release of before does not tell.
    #[serde(default)]
    pub(crate) last: Vec<EndedRun>,
}

/// One DAG.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Dag {
    /// Its id.
    pub(crate) id: String,
    /// Nothing of it is started.
    pub(crate) paused: bool,
}

/// One DAG file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ImportError {
    /// Its path in the container.
    pub(crate) file: String,
    /// The end of the traceback.
    pub(crate) error: String,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ActiveRun {
    /// Its DAG.
    pub(crate) dag: String,
    /// Its id.
    pub(crate) id: String,
    /// Its DAG is paused and nothing of it runs: it goes on when that ends.
    pub(crate) suspended: bool,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct EndedRun {
    /// Its DAG.
    pub(crate) dag: String,
    /// Its id.
    pub(crate) id: String,
    /// `success` or `failed`.
    pub(crate) state: String,
    /// When, ISO 8601.
    pub(crate) began: Option<String>,
    /// When, ISO 8601.
    pub(crate) ended: Option<String>,
    /// The task that failed first.
    pub(crate) failed: Option<String>,
}

/// One task instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ActiveTask {
    /// The run's id.
    pub(crate) run: String,
    /// Its name in the DAG.
    pub(crate) task: String,
    /// `running`, `queued`, …
    pub(crate) state: String,
}

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// The machine itself.
    pub(crate) facts: Facts,
    /// The release that `current` leads to.
    pub(crate) current: Option<String>,
    /// The last one that was seen to serve well.
    pub(crate) good: Option<String>,
    /// Every release there, oldest first.
    pub(crate) releases: Vec<Release>,
    /// Those that have served well, with the revision of Airflow's schema then;
    /// empty where that is not ours to know.
    pub(crate) passed: BTreeMap<String, String>,
    /// DAGs that a deploy paused and did not come to unpause.
    pub(crate) paused: Vec<String>,
    /// Who holds the lock.
    pub(crate) busy: Option<String>,
    /// Those of the images asked for that the engine has, by name.
    pub(crate) images: BTreeMap<String, There>,
    /// Containers that are meant to stay.
    pub(crate) served: Vec<Served>,
    /// `None` where no scheduler answers.
    pub(crate) state: Option<State>,
}

impl Observed {
    /// The release that serves.
    pub(crate) fn serving(&self) -> Option<&Release> {
        self.release(self.current.as_deref()?)
    }

    /// The release of that id.
    pub(crate) fn release(&self, id: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == id)
    }

    /// The service's own container.
    pub(crate) fn service(&self, name: &str) -> Option<&Served> {
        self.served.iter().find(|served| served.service == name)
    }
}

/// Reads; changes nothing. `images` are the names to look for; without a project,
/// that of the release that serves.
///
/// # Errors
/// Where the machine is not reached, with what mends it.
pub(crate) fn observe(
    machine: &Machine,
    host: &Host,
    project: Option<&str>,
    images: &[String],
) -> Result<Observed> {
    let project = project.unwrap_or_default().to_owned();
    let own = [host.project_mount.clone(), project];
    let arguments = [&own, images].concat();
    let (facts, told) = host::observe_and(machine, host, OBSERVE, &arguments)?;
    parse(facts, &told)
}

fn parse(facts: Facts, told: &Told) -> Result<Observed> {
    let one = |word| told.one(word).map(str::to_owned);
    let mut releases = Vec::new();
    for text in told.all("release") {
        let release: Release =
            serde_json::from_str(text).context("failed to read a release of the host")?;
        releases.push(release);
    }
    releases.sort_by(|a, b| a.id.cmp(&b.id));
    let mut images = BTreeMap::new();
    for (name, text) in told.all("image").filter_map(|line| line.split_once(' ')) {
        let there = serde_json::from_str(text)
            .with_context(|| format!("failed to read what the host says of {name}"))?;
        images.insert(name.to_owned(), there);
    }
    // The engine lists them by the time at which each was made.
    let mut served: Vec<Served> = told.all("container").filter_map(served).collect();
    served.sort_by(|one, other| one.service.cmp(&other.service));
    let state = told.one("state").map(serde_json::from_str).transpose();
    Ok(Observed {
        facts,
        current: one("current"),
        good: one("good"),
        releases,
        passed: told
            .all("passed")
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            .map(|(id, revision)| (id.to_owned(), revision.to_owned()))
            .collect(),
        paused: told
            .one("paused")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        busy: one("busy"),
        images,
        served,
        state: state.context("failed to read what Airflow says of itself on the host")?,
    })
}

pub(super) fn served(line: &str) -> Option<Served> {
    let words: Vec<&str> = line.split(' ').collect();
    let &[service, one_off, container, status, health, image, image_id] = words.as_slice() else {
        return None;
    };
    // v1 writes True, v2 too; both write False for a service's own.
    (one_off == "False").then(|| Served {
        service: service.to_owned(),
        container: container.to_owned(),
        status: status.to_owned(),
        health: health.to_owned(),
        image: image.to_owned(),
        image_id: image_id.to_owned(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a host says that serves a release well.
    pub(crate) const SERVES: &str = "current 20260101T000000Z-abc-1\n\
        good 20260101T000000Z-abc-1\n\
        release {\"id\":\"20260101T000000Z-abc-1\",\"by\":\"me@here\",\"commit\":\"abc\",\"dirty\":false,\
        \"code\":\"c\",\"image\":\"airflow:1\",\"project\":\"dental\",\"databases\":[\"postgres\"],\
        \"env\":\"e\",\"shape\":\"s\"}\n\
        passed 20260101T000000Z-abc-1 405de8318b3a\n\
        image airflow:1 {\"Id\":\"sha256:1\",\"RootFS\":{\"Layers\":[\"sha256:a\",\"sha256:b\"]},\"Config\":{\"Labels\":null}}\n\
        container airflow-webserver False c1 running healthy airflow:1 sha256:1\n\
        container airflow-scheduler False c2 running healthy airflow:1 sha256:1\n\
        container postgres False c3 running healthy postgres:15 sha256:2\n\
        container airflow-init True c4 exited - airflow:1 sha256:1\n\
        state {\"now\":\"2026-01-01T00:00:00+00:00\",\"revision\":\"405de8318b3a\",\"heartbeat\":1.5,\
        \"dags\":[{\"id\":\"etl_pipeline\",\"paused\":false,\"hash\":\"h\",\"parsed\":null}],\
        \"import_errors\":[],\"runs\":[],\"tasks\":[]}\n";

    pub(crate) fn observed(told: &str) -> Observed {
        let told = Told::of(told);
        parse(host::parse(&told), &told).unwrap()
    }

    #[test]
    fn what_a_host_says_is_read_whole() {
        let serves = observed(SERVES);
        assert_eq!(serves.serving().unwrap().image, "airflow:1");
        assert_eq!(serves.passed["20260101T000000Z-abc-1"], "405de8318b3a");
        let names: Vec<&str> = serves.served.iter().map(|s| s.service.as_str()).collect();
        assert_eq!(
            names,
            ["airflow-scheduler", "airflow-webserver", "postgres"]
        );
        assert!(serves.served.iter().all(Served::is_up));
        assert!(serves.images["airflow:1"].has_layers(&["sha256:a".into(), "sha256:b".into()]));
        let state = serves.state.unwrap();
        assert_eq!((state.heartbeat, state.dags[0].paused), (Some(1.5), false));
    }

    #[test]
    fn an_empty_host_says_nothing() {
        let empty = observed("");
        assert!(empty.serving().is_none() && empty.good.is_none() && empty.state.is_none());
        assert!(empty.releases.is_empty() && empty.served.is_empty() && empty.busy.is_none());
    }
}
