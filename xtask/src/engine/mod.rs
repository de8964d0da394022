//! The container engine and the `docker` CLI that speaks to it.

mod cli;
pub(crate) mod known;
mod objects;

pub(crate) use cli::{
    BUILDKIT_HINT, BuildKit, Cli, ask as ask_buildkit, clis, on_path, require_buildkit,
};
pub(crate) use known::Ask;
pub(crate) use objects::{Container, Image, ImageConfig};

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

/// The engine, spoken to through a chosen CLI.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    machine: &'a Machine,
    docker: PathBuf,
    clis: Vec<Cli>,
}

impl<'a> Engine<'a> {
    /// Speaks through the first `docker` that builds with BuildKit; where none
    /// does, through the first there is.
    ///
    /// # Errors
    /// A user failure where PATH has none.
    pub(crate) fn find(machine: &'a Machine) -> Result<Self> {
        Ok(
            Self::among(machine, clis(machine, Ask::Once)).ok_or_else(|| {
                Failure::user("failed to find docker on PATH").hint("cargo xtask doctor --fix")
            })?,
        )
    }

    /// The same, among CLIs that were asked already; `None` where there is none.
    pub(crate) fn among(machine: &'a Machine, clis: Vec<Cli>) -> Option<Self> {
        let chosen = clis
            .iter()
            .find(|cli| cli.buildkit.builds())
            .or(clis.first())?;
        Some(Self {
            machine,
            docker: chosen.path.clone(),
            clis,
        })
    }

    /// Every `docker` on PATH, as asked when this one was chosen.
    pub(crate) fn clis(&self) -> &[Cli] {
        &self.clis
    }

    /// The program that it speaks through.
    pub(crate) fn docker(&self) -> &PathBuf {
        &self.docker
    }

    /// What that program builds with.
    pub(crate) fn buildkit(&self) -> Option<BuildKit> {
        let own = self.clis.iter().find(|cli| cli.path == self.docker);
        own.map(|cli| cli.buildkit)
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

    /// The first number of its version; 0 where it has none.
    pub(crate) fn major(&self) -> Result<u32> {
        let version = self.version()?;
        let first = version.split('.').next().and_then(|n| n.parse().ok());
        Ok(first.unwrap_or(0))
    }

    /// What the engine knows of each image; absent ones are left out.
    pub(crate) fn images(&self, names: &[&str]) -> Result<Vec<Image>> {
        self.inspect_images(names)
    }

    /// The same, with everything that it tells.
    pub(crate) fn raw_images(&self, names: &[&str]) -> Result<Vec<Value>> {
        self.inspect_images(names)
    }

    fn inspect_images<T: for<'de> Deserialize<'de>>(&self, names: &[&str]) -> Result<Vec<T>> {
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

    /// The running containers that a port of this machine leads into.
    pub(crate) fn publishing(&self, port: u16) -> Result<Vec<Container>> {
        let docker = &self.docker;
        let filter = format!("publish={port}");
        let list = Step::new(
            "list the containers that publish a port",
            cmd!(
                self.sh(),
                "{docker} ps --quiet --no-trunc --filter {filter}"
            ),
        )
        .limit(ANSWER);
        let ids = self.lines(&list)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let inspect = Step::new(
            "inspect the containers that publish a port",
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

    /// The networks of a Compose project, by id.
    pub(crate) fn networks(&self, project: &str) -> Result<Vec<String>> {
        let docker = &self.docker;
        let filter = format!("label=com.docker.compose.project={project}");
        let step = Step::new(
            "list the project's networks",
            cmd!(self.sh(), "{docker} network ls --quiet --filter {filter}"),
        )
        .limit(ANSWER);
        self.lines(&step)
    }

    /// The services among a project's containers whose networks are gone: pruned
    /// while the stack was stopped, say. Asks only where a container is stopped
    /// or detached, for no network that is in use can be removed.
    pub(crate) fn stranded<'c>(&self, containers: &'c [Container]) -> Result<Vec<&'c str>> {
        let own = || containers.iter().filter(|c| !c.is_one_off());
        if own().all(|c| c.state.status == "running" && c.is_attached()) {
            return Ok(Vec::new());
        }
        let docker = &self.docker;
        let step = Step::new(
            "list networks",
            cmd!(self.sh(), "{docker} network ls --quiet --no-trunc"),
        )
        .limit(ANSWER);
        let networks = self.lines(&step)?;
        let lost = own().filter(|c| c.is_stranded(&networks));
        Ok(lost.map(Container::service).collect())
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
        let captured = self.machine.capture(step)?;
        if captured.ok() {
            return Ok(captured.stdout.lines().map(str::to_owned).collect());
        }
        // An engine that does not answer is a failure with a way out.
        self.version()?;
        Err(self.machine.failed(step, &captured).into())
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
