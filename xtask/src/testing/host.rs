//! Another machine with a container engine of its own, inside of this one's.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::config::environment;
use crate::context::Context;
use crate::exec::{Machine, Step};
use crate::image::{BaseName, find_base};

/// Where its Dockerfile is.
const FOLDER: &str = "xtask/tests/host";
pub(super) const IMAGE: &str = "dental-test-host";
/// Until its engine answers.
const LIMIT: Duration = Duration::from_secs(60);
/// Where it has the checkout, as this machine has it, to read.
const SOURCE: &str = "/mnt/source";
/// Where both machines read and write.
const EXCHANGE: &str = "/mnt/exchange";
/// Its own copy of the checkout.
const CHECKOUT: &str = "/srv/checkout";
/// What a container needs to run containers, a line each. Docker's own
/// `--privileged` asks for more than some machines give away.
pub(super) const RIGHTS: &str = include_str!("../../tests/host/rights");

/// Debian 13 with its Docker Engine, which keeps images in containerd; gone with all it holds when dropped.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    machine: &'a Machine,
    docker: PathBuf,
    container: String,
    /// [`EXCHANGE`] on this machine.
    exchange: PathBuf,
}

/// Builds the image of another machine. Gives the docker that built it.
pub(super) fn build_image(context: &Context) -> Result<PathBuf> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let (docker, sh) = (engine.docker(), context.machine.sh());
    let postgres = BaseName::Postgres;
    let base = find_base(&engine, &context.workspace, &deploy.bases, postgres)?
        .context("failed to find the postgres base, on which the host stands")?;
    let argument = format!("BASE={}", base.reference);
    context.term.task("another machine's image", || {
        context.machine.run(
            &Step::new(
                "build the image of another machine",
                cmd!(
                    sh,
                    "{docker} build --build-arg {argument} --tag {IMAGE} {FOLDER}"
                ),
            )
            .env("DOCKER_BUILDKIT", "1"),
        )
    })?;
    Ok(docker.clone())
}

impl<'a> Host<'a> {
    /// Builds its image, starts it, copies the checkout to it, and waits until its
    /// engine answers.
    pub(crate) fn start(context: &'a Context) -> Result<Self> {
        let (docker, sh) = (build_image(context)?, context.machine.sh());
        let exchange = context
            .workspace
            .cache()
            .join(format!("host-{}", std::process::id()));
        fs::create_dir_all(&exchange)
            .with_context(|| format!("failed to make {}", exchange.display()))?;
        // Not by its path, where cargo may have built another one by now.
        fs::copy("/proc/self/exe", exchange.join("xtask"))
            .context("failed to copy this program for the other machine")?;
        let volume = |from: &std::path::Path, to: &str| format!("{}:{to}", from.display());
        let mut run = Step::new(
            "start another machine",
            cmd!(sh, "{docker} run --detach --tmpfs /run --tmpfs /tmp:exec"),
        )
        .args(RIGHTS.lines())
        .args([
            "--volume",
            &volume(context.workspace.root(), &format!("{SOURCE}:ro")),
        ])
        .args(["--volume", &volume(&exchange, EXCHANGE)]);
        if let Some(ca) = environment::ca_bundle() {
            let ca = ca.display().to_string();
            run = run
                .args(["--volume", &format!("{ca}:{ca}:ro")])
                .args(["--env", &format!("SSL_CERT_FILE={ca}")]);
        }
        let container = context.machine.read(&run.args([IMAGE, "containerd"]))?;
        let host = Self {
            machine: &context.machine,
            docker,
            container,
            exchange,
        };
        host.wait()?;
        host.copy_checkout()?;
        Ok(host)
    }

    fn step(&self, what: &str, command: &[&str]) -> Step {
        let (docker, container) = (&self.docker, &self.container);
        Step::new(
            what,
            cmd!(
                self.machine.sh(),
                "{docker} exec --workdir {CHECKOUT} {container} {command...}"
            ),
        )
    }

    /// This program there, at the root of its checkout.
    pub(crate) fn xtask(&self, arguments: &[&str]) -> Step {
        let program = format!("{EXCHANGE}/xtask");
        let what = format!("run xtask {} there", arguments.join(" "));
        self.step(&what, &[&[program.as_str()], arguments].concat())
    }

    /// Gives its engine an image of this machine's.
    pub(crate) fn load(&self, image: &str) -> Result<()> {
        let file = self.save(image, "image.tar")?;
        let there = format!("{EXCHANGE}/image.tar");
        let load = ["docker", "load", "--quiet", "--input", &there];
        self.machine
            .run(&self.step(&format!("load {image}"), &load))?;
        fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))
    }

    /// An image of this machine's as an archive.
    pub(crate) fn save(&self, image: &str, name: &str) -> Result<PathBuf> {
        let (docker, file) = (&self.docker, self.exchange.join(name));
        self.machine.run(&Step::new(
            format!("save {image}"),
            cmd!(self.machine.sh(), "{docker} save --output {file} {image}"),
        ))?;
        Ok(file)
    }

    /// An image of its engine's as an archive on this machine.
    pub(crate) fn fetch(&self, image: &str, name: &str) -> Result<PathBuf> {
        let there = format!("{EXCHANGE}/{name}");
        let save = ["docker", "save", "--output", &there, image];
        self.machine
            .run(&self.step(&format!("save {image} there"), &save))?;
        Ok(self.exchange.join(name))
    }

    fn wait(&self) -> Result<()> {
        let started = Instant::now();
        let docker = &self.docker;
        let container = &self.container;
        let asks = || {
            Step::new(
                "reach the other machine's engine",
                cmd!(
                    self.machine.sh(),
                    "{docker} exec {container} docker version"
                ),
            )
            .limit(LIMIT)
        };
        loop {
            let captured = self.machine.capture(&asks())?;
            if captured.ok() {
                return Ok(());
            }
            if started.elapsed() > LIMIT {
                return Err(self.machine.failed(&asks(), &captured).into());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What a clone would bring, and what is not committed yet.
    fn copy_checkout(&self) -> Result<()> {
        let (docker, container) = (&self.docker, &self.container);
        let script = format!(
            "mkdir -p {CHECKOUT} && tar -C {SOURCE} --exclude=./target --exclude=./.cache --exclude=./.env -c . \
             | tar -C {CHECKOUT} --no-same-owner -x"
        );
        self.machine.run(&Step::new(
            "copy the checkout to the other machine",
            cmd!(
                self.machine.sh(),
                "{docker} exec {container} sh -c {script}"
            ),
        ))
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let (docker, sh, container) = (&self.docker, self.machine.sh(), &self.container);
        // Its files are root's, which this user need not be.
        let empty = ["find", EXCHANGE, "-mindepth", "1", "-delete"];
        self.machine
            .run(&self.step("empty the exchange", &empty))
            .ok();
        let remove = Step::new(
            "remove the other machine",
            cmd!(sh, "{docker} rm --force --volumes {container}"),
        );
        self.machine.run(&remove).ok();
        fs::remove_dir_all(&self.exchange).ok();
    }
}
