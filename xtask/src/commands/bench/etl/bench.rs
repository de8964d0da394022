//! Both servers and the container in which everything runs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Copier, Run, Wrong};
use crate::context::Context;
use crate::testing::{Client, TestImage, Throwaway};

/// What copiers.py has prepared, as a command.
pub(super) const PREPARED: &str = "exec bash /run/bench/command";
const FOLDER: &str = "etl_pipeline/bench";
/// Seconds after which a copier is ended: it would never be worth its figure.
const LIMIT: &str = "7200";
/// Nanoseconds by cgroup v1, or the lines of v2; the v1 file first, for a machine that
/// has both counts by that.
const CPU: &str = "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null \
                   || cat /sys/fs/cgroup/cpu,cpuacct/cpuacct.usage 2>/dev/null \
                   || cat /sys/fs/cgroup/cpu.stat";
const SETTINGS: [(&str, &str); 19] = [
    ("OPENDENTAL_SOURCE_HOST", "mysql"),
    ("OPENDENTAL_SOURCE_PORT", "3306"),
    ("OPENDENTAL_SOURCE_DB", "opendental"),
    ("OPENDENTAL_SOURCE_USER", "root"),
    ("DEMO_SOURCE_HOST", "mysql"),
    ("DEMO_SOURCE_PORT", "3306"),
    ("DEMO_SOURCE_DB", "opendental"),
    ("DEMO_SOURCE_USER", "root"),
    ("POSTGRES_ANALYTICS_HOST", "postgres"),
    ("POSTGRES_ANALYTICS_PORT", "5432"),
    ("POSTGRES_ANALYTICS_DB", "postgres"),
    ("POSTGRES_ANALYTICS_USER", "postgres"),
    ("PGHOST", "postgres"),
    ("PGPORT", "5432"),
    ("PGDATABASE", "postgres"),
    ("PGUSER", "postgres"),
    ("LANG", "C.UTF-8"),
    ("TZ", "UTC"),
    ("PYTHONUNBUFFERED", "1"),
];
const SECRETS: [&str; 5] = [
    "OPENDENTAL_SOURCE_PASSWORD",
    "DEMO_SOURCE_PASSWORD",
    "POSTGRES_ANALYTICS_PASSWORD",
    "MYSQL_PWD",
    "PGPASSWORD",
];

pub(super) struct Bench<'a> {
    pub(super) context: &'a Context,
    servers: &'a Throwaway<'a>,
    client: Client<'a>,
}

/// What measure.py says.
#[derive(Debug, Deserialize)]
struct Measured {
    seconds: f64,
    cpu: f64,
    peak_rss: u64,
    status: i64,
    late: bool,
    said: String,
}

impl<'a> Bench<'a> {
    pub(super) fn start(
        context: &'a Context,
        servers: &'a Throwaway<'a>,
        image: &TestImage,
    ) -> Result<Self> {
        Ok(Self {
            context,
            servers,
            client: servers.client(context, image, &SETTINGS, &SECRETS)?,
        })
    }

    /// Fills the source with a whole clinic; a fixed seed, the same rows each time.
    pub(super) fn fill(&self, scale: f64) -> Result<()> {
        self.asked::<u64>("make a database", "data.py", &["create"])?;
        let scale = scale.to_string();
        self.demo(&[
            "load",
            "--profile",
            "clinic",
            "--seed",
            "1",
            "--scale",
            &scale,
        ])
    }

    /// A hundredth of the rows of all tables that a practice works on changes.
    pub(super) fn advance(&self) -> Result<()> {
        self.demo(&["advance", "--percent", "1"])
    }

    fn demo(&self, arguments: &[&str]) -> Result<()> {
        let command = [&["python", "-m", "opendental_demo"], arguments].concat();
        let step = self
            .client
            .step(&format!("{} the clinic", arguments[0]), &command);
        self.context.machine.run(&step)
    }

    /// Takes out of the texts what the floor cannot carry.
    pub(super) fn plain(&self, tables: &[&str]) -> Result<()> {
        let arguments = [&["plain"], tables].concat();
        self.asked::<u64>("make texts plain", "data.py", &arguments)
            .map(drop)
    }

    /// Repeats a table's rows until it has `rows`.
    pub(super) fn grow(&self, table: &str, rows: u64) -> Result<()> {
        self.asked::<u64>(
            "grow a table",
            "data.py",
            &["grow", table, &rows.to_string()],
        )
        .map(drop)
    }

    /// A hundredth of a table's rows changes; how many that are.
    pub(super) fn touch(&self, table: &str) -> Result<u64> {
        self.asked("change a table", "data.py", &["touch", table, "1"])
    }

    /// All tables that a run copies.
    pub(super) fn tables(&self) -> Result<Vec<String>> {
        self.asked("list the source's tables", "data.py", &["tables"])
    }

    pub(super) fn copiers(&self) -> Result<BTreeMap<String, Copier>> {
        self.asked("find the copiers", "copiers.py", &["names"])
    }

    /// Rows of each table of `source` or `raw`; `None` where it is missing.
    pub(super) fn rows(
        &self,
        side: &str,
        tables: &[&str],
    ) -> Result<BTreeMap<String, Option<u64>>> {
        let arguments = [&["rows", side], tables].concat();
        self.asked("count rows", "copiers.py", &arguments)
    }

    /// Rows of a table of `source` or `raw`, and the sum of each of its amounts.
    pub(super) fn sums(&self, side: &str, table: &str) -> Result<Vec<i64>> {
        self.asked("add up a table", "copiers.py", &["sums", side, table])
    }

    /// Empties the target and makes the copier's command [`PREPARED`].
    pub(super) fn prepare(&self, copier: &str, tables: &[&str]) -> Result<()> {
        let program = format!("{FOLDER}/copiers.py");
        let command = [&["python", program.as_str(), "prepare", copier], tables].concat();
        let what = format!("prepare {copier}");
        self.context.machine.run(&self.client.step(&what, &command))
    }

    /// Lets Postgres do what it does by itself in the day between two nights.
    pub(super) fn rest(&self) -> Result<()> {
        let program = format!("{FOLDER}/copiers.py");
        let command = ["python", program.as_str(), "rest"];
        self.context
            .machine
            .run(&self.client.step("rest for a day", &command))
    }

    /// One run of a shell command. Its copy counts as wrong until [`Run::lacks`] says
    /// what it lacks.
    pub(super) fn measured(&self, what: &str, command: &str) -> Result<Run> {
        let before = self.servers_cpu()?;
        let arguments = [LIMIT, "bash", "-c", command];
        let measured: Measured =
            self.asked(&format!("measure {what}"), "measure.py", &arguments)?;
        let after = self.servers_cpu()?;
        let said = self.context.machine.redact(&measured.said);
        let took = format!("  {what}: {:.2} s by itself", measured.seconds);
        self.context.term.verbose(&took);
        Ok(Run {
            seconds: measured.seconds,
            client_cpu: measured.cpu,
            mariadb_cpu: after.0 - before.0,
            postgres_cpu: after.1 - before.1,
            peak_rss: measured.peak_rss,
            status: measured.status,
            wrong: Some(Wrong {
                what: if measured.late {
                    format!("ended after {LIMIT} s")
                } else {
                    "its rows were not counted".to_owned()
                },
                said,
            }),
        })
    }

    /// CPU seconds of MariaDB and of Postgres so far.
    fn servers_cpu(&self) -> Result<(f64, f64)> {
        let of = |service: &str| -> Result<f64> {
            let told = self.servers.inside(service, CPU)?;
            cpu_seconds(&told)
                .with_context(|| format!("failed to read the CPU time of {service}: {told}"))
        };
        Ok((of("mysql")?, of("postgres")?))
    }

    /// What a script of the benchmark prints, as JSON.
    fn asked<T: DeserializeOwned>(
        &self,
        what: &str,
        script: &str,
        arguments: &[&str],
    ) -> Result<T> {
        let program = format!("{FOLDER}/{script}");
        let command = [&["python", program.as_str()], arguments].concat();
        let told = self
            .context
            .machine
            .read(&self.client.step(what, &command))?;
        serde_json::from_str(&told).with_context(|| format!("failed to {what}: it said {told:?}"))
    }
}

/// Of what a container's cgroup says, of either version.
#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a benchmark are far below 2^52"
)]
fn cpu_seconds(told: &str) -> Option<f64> {
    if let Ok(nanoseconds) = told.trim().parse::<u64>() {
        return Some(nanoseconds as f64 / 1e9);
    }
    let usage = told
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    usage
        .trim()
        .parse::<u64>()
        .ok()
        .map(|microseconds| microseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_reads_alike_from_both_cgroups() {
        assert_eq!(cpu_seconds("1500000000\n"), Some(1.5));
        let v2 = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n";
        assert_eq!(cpu_seconds(v2), Some(1.5));
        assert_eq!(cpu_seconds("cat: no such file"), None);
    }
}
