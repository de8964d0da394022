//! The containers of a checkout, through Compose.

mod compose;
pub(crate) mod data;
mod memory;
mod wait;

pub(crate) use compose::{Candidate, Compose, OLDEST_V1};
pub(crate) use memory::Memory;
pub(crate) use wait::wait_healthy;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{COMPOSE_FILES, Settings};
use crate::engine::{Container, Engine};
use crate::exec::Step;

/// The checkout that Compose made them from, where that is another one and still there.
pub(crate) fn made_by_another(containers: &[Container], root: &Path) -> Option<PathBuf> {
    let folders = containers
        .iter()
        .filter_map(|container| container.config.labels.get(WORKING_DIR));
    let mut others = folders.map(PathBuf::from).filter(|folder| {
        // By another way to the same folder it is the same.
        folder.join(".env").is_file() && folder.canonicalize().ok() != root.canonicalize().ok()
    });
    others.next()
}

/// The image of each service, by the name that Compose is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    /// Webserver, scheduler, init and demo-seed.
    pub(crate) airflow: Option<String>,
    /// `postgres`
    pub(crate) postgres: Option<String>,
    /// `mysql`
    pub(crate) mysql: Option<String>,
}

/// What Compose, old and new, writes on a container: the folder of its first file.
const WORKING_DIR: &str = "com.docker.compose.project.working_dir";

/// One Compose project.
#[derive(Debug)]
pub(crate) struct Stack<'a> {
    engine: &'a Engine<'a>,
    compose: Compose,
    settings: &'a Settings,
    images: Images,
}

impl<'a> Stack<'a> {
    /// The project that `.env` names, spoken to by the generation of Compose
    /// that made its containers.
    pub(crate) fn open(
        engine: &'a Engine<'a>,
        settings: &'a Settings,
        images: Images,
    ) -> Result<Self> {
        let containers = engine.containers(settings.project())?;
        let compose = Compose::find(engine, &containers)?;
        Ok(Self {
            engine,
            compose,
            settings,
            images,
        })
    }

    /// The engine that it runs on.
    pub(crate) fn engine(&self) -> &'a Engine<'a> {
        self.engine
    }

    /// Its settings.
    pub(crate) fn settings(&self) -> &'a Settings {
        self.settings
    }

    /// The images of its services.
    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// Its containers as they are now.
    pub(crate) fn containers(&self) -> Result<Vec<Container>> {
        self.engine.containers(self.settings.project())
    }

    /// The service's own container, where there is one.
    pub(crate) fn service(&self, name: &str) -> Result<Option<Container>> {
        Ok(self
            .containers()?
            .into_iter()
            .find(|c| c.service() == name && !c.is_one_off()))
    }

    /// `docker-compose <args>` for this project. Every profile is active: which
    /// services take part is said by name.
    pub(crate) fn compose(&self, what: &str, args: &[&str]) -> Step {
        let project = self.settings.project();
        let shadowing = self.settings.shadowing();
        let images = [
            ("AIRFLOW_IMAGE", &self.images.airflow),
            ("POSTGRES_IMAGE", &self.images.postgres),
            ("MYSQL_IMAGE", &self.images.mysql),
        ];
        self.compose
            .step(self.engine.sh(), what)
            .args(["--project-name", project])
            .args(COMPOSE_FILES.iter().flat_map(|file| ["--file", file]))
            .args(["--profile", "demo", "--profile", "init"])
            .args(args.iter().copied())
            .without(shadowing)
            .envs(
                images
                    .into_iter()
                    .filter_map(|(n, v)| v.as_ref().map(|v| (n, v))),
            )
    }

    /// Creates and starts services; what already runs as configured stays.
    pub(crate) fn up(&self, what: &str, services: &[&str]) -> Step {
        let mut args = vec!["up", "--detach", "--no-deps", "--no-build"];
        args.extend(services);
        self.compose(what, &args)
    }

    /// Stops and removes containers that reach nobody any more; volumes stay. A
    /// scheduler without its database would wait out its whole grace for tasks
    /// that cannot end.
    pub(crate) fn remove_stranded(&self, services: &[&str]) -> [Step; 2] {
        let stop = [&["stop", "--timeout", "20"], services].concat();
        let remove = [&["rm", "--force"], services].concat();
        [
            self.compose("stop containers", &stop),
            self.compose("remove containers", &remove),
        ]
    }

    /// A one-off container of a service, gone when it ends.
    pub(crate) fn run_once(&self, what: &str, service: &str, command: &[&str]) -> Step {
        let mut args = vec!["run", "--rm", "--no-deps"];
        // A terminal would merge the two streams and colour the output.
        args.push("-T");
        args.push(service);
        args.extend(command);
        self.compose(what, &args)
    }

    /// `docker exec` in a running container of the project; `tty` for a person
    /// at a terminal.
    pub(crate) fn exec(&self, what: &str, container: &str, tty: bool, command: &[&str]) -> Step {
        let docker: &PathBuf = self.engine.docker();
        let sh = self.engine.sh();
        let flags = if tty { "-it" } else { "-i" };
        Step::new(
            what,
            xshell::cmd!(sh, "{docker} exec {flags} {container} {command...}"),
        )
    }
}
