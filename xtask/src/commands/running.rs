//! A stack that runs, here or on a host: what the everyday commands do with either.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Result;
use data_encoding::HEXLOWER;
use xshell::cmd;

use super::phases;
use crate::airflow::Api;
use crate::config::{Place, Settings, settings};
use crate::context::Context;
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Machine, Passage, Step};
use crate::image;
use crate::release::{self, Served};
use crate::stack::{Images, Stack};

/// How long a container may take to be told.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// As Ctrl-C on a terminal does to all that a command has started.
const INTERRUPT: &str = r#"
    for process in /proc/[0-9]*; do
        tr '\0' '\n' < "$process/environ" 2>/dev/null | grep -qxF "$1" && kill -INT "${process#/proc/}"
    done
"#;

/// One stack.
pub(super) struct Running<'a> {
    pub(super) place: Place,
    pub(super) settings: Settings,
    here: &'a Machine,
    there: Option<Machine>,
    docker: PathBuf,
    /// The beginning of each command of Compose.
    compose: Step,
    containers: Vec<Container>,
    /// Where the web page answers, as its machine sees it.
    web: Option<String>,
}

/// A service's own.
struct Container {
    service: String,
    id: String,
    runs: bool,
    condition: String,
}

impl<'a> Running<'a> {
    /// The stack of this checkout, or what serves on a host of deploy.toml.
    ///
    /// # Errors
    /// A user failure where the host serves nothing.
    pub(super) fn of(context: &'a Context, host: Option<&str>) -> Result<Self> {
        match host {
            Some(name) => Self::there(context, name),
            None => Self::here(context, |_| Ok(Images::default())),
        }
    }

    /// The same, able to make new containers of it.
    pub(super) fn with_images(context: &'a Context, host: Option<&str>) -> Result<Self> {
        match host {
            Some(name) => Self::there(context, name),
            None => Self::here(context, |engine| {
                let deploy = context.deploy()?;
                let facts = image::observe(engine, &context.workspace, &deploy)?;
                phases::images(context, engine, &deploy, &facts)
            }),
        }
    }

    fn here(
        context: &'a Context,
        images: impl FnOnce(&Engine<'_>) -> Result<Images>,
    ) -> Result<Self> {
        let settings = context.settings()?;
        let engine = context.engine()?;
        let images = images(&engine)?;
        let stack = Stack::open(&engine, &settings, images)?;
        let containers = stack.containers()?;
        let (docker, compose) = (engine.docker().clone(), stack.compose("", &[]));
        let port = settings.or("AIRFLOW_WEBSERVER_PORT", "8080");
        Ok(Self {
            place: Place::of(None),
            here: &context.machine,
            there: None,
            docker,
            compose,
            containers: containers
                .into_iter()
                .filter(|container| !container.is_one_off())
                .map(|container| Container {
                    service: container.service().to_owned(),
                    runs: container.state.status == "running",
                    condition: container.condition(),
                    id: container.id,
                })
                .collect(),
            web: Some(format!("127.0.0.1:{port}")),
            settings,
        })
    }

    fn there(context: &'a Context, name: &str) -> Result<Self> {
        let deploy = context.deploy()?;
        let host = deploy.host(name)?;
        let machine = context.over(name, host)?;
        let place = Place::of(Some(name));
        let Some(serving) = release::serving(&machine, host)? else {
            let message = format!("failed to find a stack on {name}: it serves nothing");
            return Err(Failure::user(message).hint(place.up()).into());
        };
        // What is read through the API is shown by this machine.
        let secrets = settings::secrets(serving.settings.env());
        context.machine.keep_secret(secrets);
        let script = format!("{}/code/current/.release/compose", host.directory);
        let own = |served: Served| Container {
            runs: served.status == "running",
            condition: served.condition().to_owned(),
            service: served.service,
            id: served.container,
        };
        Ok(Self {
            place,
            settings: serving.settings,
            here: &context.machine,
            docker: PathBuf::from("docker"),
            compose: Step::new("", cmd!(machine.sh(), "sh {script}")),
            containers: serving.served.into_iter().map(own).collect(),
            web: serving.web,
            there: Some(machine),
        })
    }

    /// Where it runs.
    pub(super) fn machine(&self) -> &Machine {
        self.there.as_ref().unwrap_or(self.here)
    }

    /// Whether it has containers at all.
    pub(super) fn is_there(&self) -> bool {
        !self.containers.is_empty()
    }

    /// The container of a service that has to run.
    pub(super) fn container(&self, service: &str) -> Result<&str> {
        match self.containers.iter().find(|c| c.service == service) {
            Some(container) if container.runs => Ok(&container.id),
            other => {
                let condition = other.map_or("not created", |c| c.condition.as_str());
                Err(Failure::user(format!(
                    "failed to find {service} running: it is {condition}"
                ))
                .hint(self.place.up())
                .into())
            }
        }
    }

    /// A command of Compose.
    pub(super) fn compose(&self, what: &str, args: &[&str]) -> Step {
        self.compose.clone().named(what).args(args.iter().copied())
    }

    /// A command in a service's container; `terminal` for a person at both ends.
    pub(super) fn exec(
        &self,
        what: &str,
        service: &str,
        terminal: bool,
        command: &[&str],
    ) -> Result<Step> {
        let (docker, container) = (&self.docker, self.container(service)?);
        let flags = if terminal { "-it" } else { "-i" };
        let sh = self.machine().sh();
        let step = cmd!(sh, "{docker} exec {flags} {container} {command...}");
        Ok(Step::new(what, step).terminal(terminal))
    }

    /// Runs a command in a service's container for a person: its streams are ours, and
    /// what ends us ends it. A terminal there tells it by itself; without one a mark in
    /// its environment finds it again.
    pub(super) fn hand_over(
        &self,
        what: &str,
        service: &str,
        terminal: bool,
        command: &[&str],
    ) -> Result<ExitStatus> {
        if terminal {
            let step = self.exec(what, service, true, command)?;
            return self.machine().hand_over(&step);
        }
        let (docker, container) = (&self.docker, self.container(service)?);
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("failed to read random bytes: {error}"))?;
        let mark = format!("XTASK_CALL={}", HEXLOWER.encode(&random));
        let sh = self.machine().sh();
        let step = cmd!(sh, "{docker} exec -i --env {mark} {container} {command...}");
        let stop = cmd!(sh, "{docker} exec {container} sh -c {INTERRUPT} sh {mark}");
        let stop = Step::new("end what runs in the container", stop).limit(STOPPED_WITHIN);
        self.machine()
            .hand_over_client(&Step::new(what, step), &stop)
    }

    /// A command in a container of a service that is gone when it ends.
    pub(super) fn run_once(&self, what: &str, service: &str, command: &[&str]) -> Step {
        // A terminal would merge the two streams and colour the output.
        let run = ["run", "--rm", "--no-deps", "-T", service];
        self.compose(what, &[&run, command].concat())
    }

    /// A way to its web page and API, by `port` of this machine's loopback or one that
    /// is free.
    pub(super) fn web(&self, port: Option<u16>) -> Result<Passage> {
        let address = match &self.web {
            Some(address) => address,
            // Says what it is instead.
            None => self.container("airflow-webserver").map(|_| "")?,
        };
        self.machine().reach(address, port)
    }

    /// Its API, by its own account.
    pub(super) fn api(&self, way: &Passage) -> Api {
        let url = format!("http://{}", way.address());
        Api::at(url, &self.settings, self.place.clone())
    }
}
