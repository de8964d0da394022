//! A MariaDB and a Postgres on a network of their own, gone when dropped.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use xshell::cmd;

use super::TestImage;
use crate::context::Context;
use crate::exec::{AtEnd, Machine, Step};
use crate::image::{BaseName, find_base};

/// A file system of Postgres' own that tests can fill.
const SMALL_DISK: &str = "/small-disk";
const LIMIT: Duration = Duration::from_secs(120);

/// What the servers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Postgres keeps what is committed in memory, as far as it likes.
    Tests,
    /// Defaults, commits on the disk before Postgres says so, as at night; and no way
    /// to the internet, so that no tool waits for its maker's.
    Benchmark,
}

/// The two servers; dropping it removes them with their data, as Ctrl-C does.
#[derive(Debug)]
pub(crate) struct Throwaway<'a> {
    machine: &'a Machine,
    docker: PathBuf,
    name: String,
    password: String,
    _removed: AtEnd,
}

impl<'a> Throwaway<'a> {
    /// Starts both and waits until they answer over TCP.
    pub(crate) fn start(context: &'a Context, purpose: Purpose) -> Result<Self> {
        let deploy = context.deploy()?;
        let engine = context.engine()?;
        let mut random = [0; 12];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("failed to read random bytes: {error}"))?;
        let (docker, sh) = (engine.docker().clone(), context.machine.sh());
        let name = format!("dental-test-{}", std::process::id());
        let containers = ["client", "postgres", "mysql"].map(|one| format!("{name}-{one}"));
        let removed = context.machine.at_end(vec![
            Step::new(
                "remove the throwaway databases",
                cmd!(sh, "{docker} rm --force --volumes {containers...}"),
            ),
            Step::new(
                "remove the test network",
                cmd!(sh, "{docker} network rm {name}"),
            ),
        ]);
        let servers = Self {
            machine: &context.machine,
            docker,
            name,
            password: HEXLOWER.encode(&random),
            _removed: removed,
        };
        context.machine.keep_secret([servers.password.as_str()]);
        let (docker, name) = (&servers.docker, &servers.name);
        let internal: &[&str] = match purpose {
            Purpose::Tests => &[],
            Purpose::Benchmark => &["--internal"],
        };
        context.machine.run(&Step::new(
            "make a network for test databases",
            cmd!(sh, "{docker} network create {internal...} {name}"),
        ))?;
        let small_disk = format!("{SMALL_DISK}:size=64m,mode=1777");
        for (base, service, variable, disk, tail) in [
            (
                BaseName::Postgres,
                "postgres",
                "POSTGRES_PASSWORD",
                &["--tmpfs", small_disk.as_str()][..],
                match purpose {
                    Purpose::Tests => &["-c", "fsync=off"][..],
                    Purpose::Benchmark => &[],
                },
            ),
            (
                BaseName::Mysql,
                "mysql",
                "MYSQL_ROOT_PASSWORD",
                &[][..],
                &["--sql-mode=", "--local-infile=1"][..],
            ),
        ] {
            let image = find_base(&engine, &context.workspace, &deploy.bases, base)?
                .with_context(|| format!("failed to find the {service} base"))?
                .reference;
            let container = format!("{name}-{service}");
            context.machine.run(
                &Step::new(
                    format!("start a throwaway {service}"),
                    cmd!(
                        sh,
                        "{docker} run --detach --rm --name {container} --network {name}
                         --network-alias {service} --env {variable} {disk...} {image} {tail...}"
                    ),
                )
                .secret(variable, &servers.password),
            )?;
        }
        servers.wait("postgres", "pg_isready -q -h 127.0.0.1 -U postgres")?;
        servers.wait(
            "mysql",
            "MYSQL_PWD=$MYSQL_ROOT_PASSWORD mariadb-admin -h 127.0.0.1 -u root ping",
        )?;
        Ok(servers)
    }

    /// Runs a command of the test image beside the servers, told where they are.
    pub(crate) fn join(
        &self,
        context: &Context,
        image: &TestImage,
        what: &str,
        command: &[&str],
    ) -> Step {
        let metadata = format!(
            "postgresql+psycopg2://postgres:{}@postgres:5432/postgres",
            self.password
        );
        let (program, rest) = command.split_first().unwrap_or((&"true", &[]));
        image
            .run(context, &format!("pass {what}"), program)
            .args(["--network", self.name.as_str()])
            .args([
                "--env",
                "TEST_SOURCE_HOST=mysql",
                "--env",
                "TEST_SOURCE_PORT=3306",
            ])
            .args([
                "--env",
                "TEST_SOURCE_USER=root",
                "--env",
                "TEST_SOURCE_PASSWORD",
            ])
            .args([
                "--env",
                "TEST_ANALYTICS_HOST=postgres",
                "--env",
                "TEST_ANALYTICS_PORT=5432",
            ])
            .args([
                "--env",
                "TEST_ANALYTICS_USER=postgres",
                "--env",
                "TEST_ANALYTICS_PASSWORD",
            ])
            .args(["--env", "TEST_ANALYTICS_DB=postgres"])
            .args(["--env", &format!("TEST_ANALYTICS_SMALL_DISK={SMALL_DISK}")])
            .args(["--env", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
            .arg(image.reference())
            .args(rest.iter().copied())
            .secret("TEST_SOURCE_PASSWORD", &self.password)
            .secret("TEST_ANALYTICS_PASSWORD", &self.password)
            .secret("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", metadata)
    }

    /// A container of an image beside the servers, which waits to be told what to do; see
    /// [`Client`]. Passwords come to it as `secrets` say.
    pub(crate) fn client(
        &'a self,
        context: &Context,
        image: &TestImage,
        settings: &[(&str, &str)],
        secrets: &[&str],
    ) -> Result<Client<'a>> {
        let container = format!("{}-client", self.name);
        let mut step = image
            .run(context, "start a client of both databases", "sleep")
            .args(["--detach", "--network", &self.name, "--name", &container])
            .args(["--tmpfs", "/run/bench:mode=1777"]);
        for (name, value) in settings {
            step = step.args(["--env", &format!("{name}={value}")]);
        }
        for name in secrets {
            step = step
                .args(["--env", name])
                .secret(*name, self.password.as_str());
        }
        self.machine
            .run(&step.args([image.reference(), "infinity"]))?;
        Ok(Client {
            servers: self,
            container,
        })
    }

    /// What a script says in a server's container.
    pub(crate) fn inside(&self, service: &str, script: &str) -> Result<String> {
        let (docker, container) = (&self.docker, format!("{}-{service}", self.name));
        self.machine.read(&Step::new(
            format!("look into the throwaway {service}"),
            cmd!(
                self.machine.sh(),
                "{docker} exec {container} sh -c {script}"
            ),
        ))
    }

    fn wait(&self, service: &str, question: &str) -> Result<()> {
        let (docker, container) = (&self.docker, format!("{}-{service}", self.name));
        let ask = Step::new(
            format!("reach the throwaway {service}"),
            cmd!(
                self.machine.sh(),
                "{docker} exec {container} sh -c {question}"
            ),
        );
        let started = Instant::now();
        loop {
            let captured = self.machine.capture(&ask)?;
            if captured.ok() {
                return Ok(());
            }
            if started.elapsed() > LIMIT {
                return Err(self.machine.failed(&ask, &captured).into());
            }
            thread::sleep(Duration::from_millis(300));
        }
    }
}

/// A container with the network of both servers; gone with them.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    servers: &'a Throwaway<'a>,
    container: String,
}

impl Client<'_> {
    /// A command in it, at the root of the checkout.
    pub(crate) fn step(&self, what: &str, command: &[&str]) -> Step {
        let (docker, container) = (&self.servers.docker, &self.container);
        Step::new(
            what,
            cmd!(
                self.servers.machine.sh(),
                "{docker} exec {container} {command...}"
            ),
        )
    }
}
