//! The container engine and the `docker` CLI that speaks to it.
//!
//! Several `docker` programs can be on PATH, and the first may be one that
//! cannot build with BuildKit (28.x without the buildx plugin, say): the choice
//! goes by what each can do, not by its place.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::error::Failure;
use crate::exec::{Machine, Step};

/// How long a question to the engine may take.
const ANSWER: Duration = Duration::from_secs(20);

/// One `docker` on PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cli {
    /// The program.
    pub(crate) path: PathBuf,
    /// Why it can build with BuildKit, or why not.
    pub(crate) buildkit: Result<&'static str, &'static str>,
}

/// The engine, spoken to through a chosen CLI.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    machine: &'a Machine,
    docker: PathBuf,
}

/// What `docker image inspect` tells, as far as we ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Image {
    /// The engine's id of the image.
    pub(crate) id: String,
    /// `name@sha256:…` where a registry gave it.
    #[serde(default)]
    pub(crate) repo_digests: Vec<String>,
    /// `name:tag` of each name.
    #[serde(default)]
    pub(crate) repo_tags: Vec<String>,
    /// Bytes on disk.
    #[serde(default)]
    pub(crate) size: u64,
    /// `linux`
    #[serde(default)]
    pub(crate) os: String,
    /// `amd64`
    #[serde(default)]
    pub(crate) architecture: String,
    /// Settings baked in.
    pub(crate) config: Option<ImageConfig>,
}

/// `Config` of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageConfig {
    /// Its labels; null in JSON where there are none.
    pub(crate) labels: Option<std::collections::BTreeMap<String, String>>,
}

impl Image {
    /// The label's value.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let labels = self.config.as_ref()?.labels.as_ref()?;
        labels.get(name).map(String::as_str)
    }

    /// `linux/amd64`
    pub(crate) fn platform(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

/// A container, as far as we ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    /// Its full id.
    pub(crate) id: String,
    /// The id of the image that it runs.
    pub(crate) image: String,
    /// What it is doing.
    pub(crate) state: State,
    /// Settings and labels.
    pub(crate) config: ContainerConfig,
}

/// `Config` of a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerConfig {
    /// The image as it was named.
    pub(crate) image: String,
    /// Labels, Compose's among them.
    #[serde(default)]
    pub(crate) labels: std::collections::BTreeMap<String, String>,
}

/// `State` of a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    /// `running`, `exited`, `restarting`, …
    pub(crate) status: String,
    /// Of its main process.
    #[serde(default)]
    pub(crate) exit_code: i64,
    /// Only where a healthcheck is set.
    pub(crate) health: Option<Health>,
}

/// `State.Health`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub(crate) status: String,
}

impl Container {
    /// Compose's name of the service.
    pub(crate) fn service(&self) -> &str {
        self.config
            .labels
            .get("com.docker.compose.service")
            .map_or("", String::as_str)
    }

    /// Whether it is a `run` of a service and not the service itself.
    pub(crate) fn is_one_off(&self) -> bool {
        self.config
            .labels
            .get("com.docker.compose.oneoff")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Running, and healthy where that can be told.
    pub(crate) fn is_up(&self) -> bool {
        self.state.status == "running"
            && self
                .state
                .health
                .as_ref()
                .is_none_or(|health| health.status == "healthy")
    }

    /// `healthy`, `starting`, `exited (1)`: one word for a table.
    pub(crate) fn condition(&self) -> String {
        match (&self.state.status, &self.state.health) {
            (status, Some(health)) if status == "running" => health.status.clone(),
            (status, _) if status == "exited" => format!("exited ({})", self.state.exit_code),
            (status, _) => status.clone(),
        }
    }
}

/// Every program by that name on PATH, in order, each once: /bin is often a
/// link to /usr/bin.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    which::which_all(name)
        .into_iter()
        .flatten()
        .filter(|path| {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let new = !seen.contains(&real);
            seen.push(real);
            new
        })
        .collect()
}

/// Every `docker` on PATH, in order, with what it can build.
pub(crate) fn clis(machine: &Machine) -> Vec<Cli> {
    on_path("docker")
        .into_iter()
        .map(|path| Cli {
            buildkit: buildkit(machine, &path),
            path,
        })
        .collect()
}

/// Asks the CLI itself: only one that builds with BuildKit knows `--secret`.
fn buildkit(machine: &Machine, docker: &PathBuf) -> Result<&'static str, &'static str> {
    let ask = Step::new(
        "ask docker what it can build",
        cmd!(machine.sh(), "{docker} build --help"),
    )
    .env("DOCKER_BUILDKIT", "1")
    .limit(ANSWER);
    let Ok(help) = machine.capture(&ask) else {
        return Err("does not start");
    };
    if !help.stdout.contains("--secret") {
        return Err("has no BuildKit: its buildx plugin is missing");
    }
    if help.stdout.contains("buildx") {
        Ok("builds with its buildx plugin")
    } else {
        Ok("has BuildKit built in")
    }
}

/// What to install where no CLI builds with BuildKit.
pub(crate) const BUILDKIT_HINT: &str = "install the docker-buildx-plugin package of your docker's distribution, or: \
     cargo xtask doctor --fix";

impl<'a> Engine<'a> {
    /// Speaks through the first `docker` that builds with BuildKit; where none
    /// does, through the first there is.
    ///
    /// # Errors
    /// A user failure where PATH has none.
    pub(crate) fn find(machine: &'a Machine) -> Result<Self> {
        let clis = clis(machine);
        let chosen = clis
            .iter()
            .find(|cli| cli.buildkit.is_ok())
            .or(clis.first())
            .ok_or_else(|| {
                Failure::user("failed to find docker on PATH").hint("cargo xtask doctor --fix")
            })?;
        Ok(Self {
            machine,
            docker: chosen.path.clone(),
        })
    }

    /// The program that it speaks through.
    pub(crate) fn docker(&self) -> &PathBuf {
        &self.docker
    }

    /// The machine whose engine it is.
    pub(crate) fn machine(&self) -> &'a Machine {
        self.machine
    }

    /// The factory for `cmd!`.
    pub(crate) fn sh(&self) -> &'a Shell {
        self.machine.sh()
    }

    /// The engine's version, which also tells that it answers.
    ///
    /// # Errors
    /// Where the engine does not answer, with docker's own words.
    pub(crate) fn version(&self) -> Result<String> {
        let docker = &self.docker;
        let format = "{{.Server.Version}}";
        let step = Step::new(
            "reach the docker engine",
            cmd!(self.sh(), "{docker} version --format {format}"),
        )
        .limit(ANSWER);
        let captured = self.machine.capture(&step)?;
        if captured.ok() {
            return Ok(captured.stdout.trim().to_owned());
        }
        let said = &captured.stderr;
        let hint = if said.contains("permission denied") {
            "sudo usermod -aG docker $USER, then log in again"
        } else {
            "sudo systemctl start docker, or: cargo xtask doctor --fix"
        };
        Err(self.machine.failed(&step, &captured).hint(hint).into())
    }

    /// What the engine knows of each image; absent ones are left out.
    pub(crate) fn images(&self, names: &[&str]) -> Result<Vec<Image>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let docker = &self.docker;
        let step = Step::new(
            "ask the engine for images",
            cmd!(self.sh(), "{docker} image inspect {names...}"),
        )
        .limit(ANSWER);
        self.inspected(&step)
    }

    /// What the engine knows of one image.
    pub(crate) fn image(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.images(&[name])?.into_iter().next())
    }

    /// Every image that carries the label, by `name:tag`.
    pub(crate) fn labelled(&self, label: &str) -> Result<Vec<Image>> {
        let docker = &self.docker;
        let filter = format!("label={label}");
        let list = Step::new(
            "list images",
            cmd!(
                self.sh(),
                "{docker} image ls --quiet --no-trunc --filter {filter}"
            ),
        )
        .limit(ANSWER);
        let mut ids: Vec<String> = self.lines(&list)?;
        ids.sort();
        ids.dedup();
        self.images(&ids.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Ids of the images that containers use, stopped ones as well.
    pub(crate) fn images_in_use(&self) -> Result<Vec<String>> {
        let docker = &self.docker;
        let list = Step::new(
            "list containers",
            cmd!(self.sh(), "{docker} ps --all --quiet --no-trunc"),
        )
        .limit(ANSWER);
        let ids = self.lines(&list)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let inspect = Step::new(
            "inspect containers",
            cmd!(self.sh(), "{docker} container inspect {ids...}"),
        )
        .limit(ANSWER);
        let containers: Vec<Container> = self.inspected(&inspect)?;
        Ok(containers.into_iter().map(|c| c.image).collect())
    }

    /// The containers of a Compose project, stopped ones as well.
    pub(crate) fn containers(&self, project: &str) -> Result<Vec<Container>> {
        let docker = &self.docker;
        let filter = format!("label=com.docker.compose.project={project}");
        let list = Step::new(
            "list the project's containers",
            cmd!(
                self.sh(),
                "{docker} ps --all --quiet --no-trunc --filter {filter}"
            ),
        )
        .limit(ANSWER);
        let ids = self.lines(&list)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let inspect = Step::new(
            "inspect the project's containers",
            cmd!(self.sh(), "{docker} container inspect {ids...}"),
        )
        .limit(ANSWER);
        self.inspected(&inspect)
    }

    /// The volumes of a Compose project, by full name.
    pub(crate) fn volumes(&self, project: &str) -> Result<Vec<String>> {
        let docker = &self.docker;
        let filter = format!("label=com.docker.compose.project={project}");
        let step = Step::new(
            "list the project's volumes",
            cmd!(self.sh(), "{docker} volume ls --quiet --filter {filter}"),
        )
        .limit(ANSWER);
        self.lines(&step)
    }

    /// When a volume was made, as the engine writes it.
    pub(crate) fn volume_created(&self, name: &str) -> Result<Option<String>> {
        let docker = &self.docker;
        let step = Step::new(
            "inspect a volume",
            cmd!(self.sh(), "{docker} volume inspect {name}"),
        )
        .limit(ANSWER);
        let volumes: Vec<Value> = self.inspected(&step)?;
        Ok(volumes
            .first()
            .and_then(|volume| volume["CreatedAt"].as_str())
            .map(str::to_owned))
    }

    /// The last lines that a container printed, both streams.
    pub(crate) fn last_lines(&self, container: &str, lines: usize) -> Result<Vec<String>> {
        let docker = &self.docker;
        let lines = lines.to_string();
        let step = Step::new(
            "read a container's log",
            cmd!(self.sh(), "{docker} logs --tail {lines} {container}"),
        )
        .limit(ANSWER);
        let captured = self.machine.capture(&step)?;
        let all = format!("{}{}", captured.stdout, captured.stderr);
        Ok(all.lines().map(|line| self.machine.redact(line)).collect())
    }

    fn lines(&self, step: &Step) -> Result<Vec<String>> {
        Ok(self
            .machine
            .read(step)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// The JSON list of an `inspect`. It exits 1 where one of several is not
    /// there and prints the others all the same.
    fn inspected<T: for<'de> Deserialize<'de>>(&self, step: &Step) -> Result<Vec<T>> {
        let captured = self.machine.capture(step)?;
        let absent = captured.stderr.to_lowercase().contains("no such");
        if !captured.ok() && !absent {
            self.version()?;
            return Err(self.machine.failed(step, &captured).into());
        }
        if captured.stdout.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&captured.stdout)
            .with_context(|| format!("failed to read what docker said to {}", step.what()))
    }
}
