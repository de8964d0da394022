//! An open registry on this machine, gone when dropped.

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::context::Context;
use crate::exec::{Machine, Step};
use crate::image::{BaseName, find_base};

const LIMIT: Duration = Duration::from_secs(60);
/// Where its Dockerfile is.
const FOLDER: &str = "xtask/tests/registry";

/// Debian's registry in a container; dropping it removes it with all it holds.
#[derive(Debug)]
pub(crate) struct Registry<'a> {
    machine: &'a Machine,
    docker: PathBuf,
    container: String,
    /// `127.0.0.1:<port>`
    pub(crate) host: String,
}

impl<'a> Registry<'a> {
    /// Builds its image, starts it, and waits until it answers.
    pub(crate) fn start(context: &'a Context) -> Result<Self> {
        let deploy = context.deploy()?;
        let engine = context.engine()?;
        let (docker, sh) = (engine.docker().clone(), context.machine.sh());
        let base = find_base(
            &engine,
            &context.workspace,
            &deploy.bases,
            BaseName::Postgres,
        )?
        .context("failed to find the postgres base, on which the registry stands")?;
        let (image, argument) = ("dental-test-registry", format!("BASE={}", base.reference));
        context.machine.run(&Step::new(
            "build a registry",
            cmd!(
                sh,
                "{docker} build --quiet --build-arg {argument} --tag {image} {FOLDER}"
            ),
        ))?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("failed to find a free port")?
            .port();
        let host = format!("127.0.0.1:{port}");
        let publish = format!("{host}:5000");
        let container = context.machine.read(&Step::new(
            "start a registry",
            cmd!(
                sh,
                "{docker} run --detach --publish {publish} {image} plain"
            ),
        ))?;
        let registry = Self {
            machine: &context.machine,
            docker,
            container,
            host,
        };
        registry.wait()?;
        Ok(registry)
    }

    /// Where containers on the engine's own bridge reach it.
    pub(crate) fn address(&self) -> Result<String> {
        let (docker, container) = (&self.docker, &self.container);
        let format = "{{.NetworkSettings.IPAddress}}";
        self.machine.read(&Step::new(
            "ask where the registry is",
            cmd!(
                self.machine.sh(),
                "{docker} container inspect --format {format} {container}"
            ),
        ))
    }

    /// Bytes of all that it holds.
    pub(crate) fn holds(&self) -> Result<u64> {
        let (docker, container) = (&self.docker, &self.container);
        let told = self.machine.read(&Step::new(
            "ask the registry what it holds",
            cmd!(
                self.machine.sh(),
                "{docker} exec {container} du --summarize --bytes /var/lib/registry"
            ),
        ))?;
        let bytes = told.split_whitespace().next();
        bytes
            .and_then(|bytes| bytes.parse().ok())
            .context("failed to read what du says")
    }

    fn wait(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let answers = ureq::get(format!("http://{}/v2/", self.host)).call();
            match answers {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > LIMIT => {
                    return Err(error).context("failed to reach the registry that was started");
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let (docker, sh, container) = (&self.docker, self.machine.sh(), &self.container);
        let remove = Step::new(
            "remove the registry",
            cmd!(sh, "{docker} rm --force --volumes {container}"),
        );
        self.machine.run(&remove).ok();
        // Names that led to it lead nowhere now.
        let reference = format!("{}/*/*", self.host);
        let names = "{{.Repository}}:{{.Tag}}";
        let list = Step::new(
            "list images of the registry",
            cmd!(
                sh,
                "{docker} image ls --filter reference={reference} --format {names}"
            ),
        );
        let names = self.machine.read(&list).unwrap_or_default();
        let names: Vec<&str> = names.lines().collect();
        if !names.is_empty() {
            let remove = cmd!(sh, "{docker} image rm {names...}");
            self.machine
                .run(&Step::new("forget the registry's images", remove))
                .ok();
        }
    }
}
