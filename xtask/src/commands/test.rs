//! `test`: every test, the same here and in CI. Parts go on after a failure, so
//! that one run tells everything.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::cmd;

use super::{build, lock, verify};
use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Step, millis, plural};
use crate::image::{self, BaseName};
use crate::testing::{Host, Purpose, TESTS, TestImage, Throwaway};

/// The test that makes them all.
const EVERY_FAULT: &str = "every_fault";

pub(crate) fn run(context: &Context, args: &cli::Test) -> Result<()> {
    if let Some(cli::Suite::Faults) = args.suite {
        images(context)?;
        let step = on_containers(context, "the faults of a deploy", "deploy", &[EVERY_FAULT]);
        return context.machine.show(&step);
    }
    let within = args.within.map(|minutes| Duration::from_secs(minutes * 60));
    let mut report = Report::new(context, args.only.as_deref(), within);
    for (what, usual, step) in rust_steps(context) {
        report.part(what, usual, || context.machine.show(&step));
    }
    if args.fast {
        report.leave_out("Python, DAG, dbt and end-to-end tests: they need containers");
        return report.verdict();
    }
    let mut image = None;
    report.ground("images", || {
        image = Some(images(context)?);
        Ok(())
    });
    if let Some(image) = image {
        // What has the last word on a stack comes first: --within may leave out the rest.
        python(context, &image, &mut report);
        for (what, usual, test, chapter) in [
            ("one night, end to end", 340, "night", ""),
            ("deploy, changes and rollback", 260, "deploy", "life::"),
            ("deploy, one fault of each kind", 430, "deploy", "faults::"),
            ("deploy, work with a host", 150, "deploy", "operate::"),
            ("deploy, copies and secrets", 330, "deploy", "data::"),
            (
                "deploy, a newer Airflow and back",
                330,
                "deploy",
                "schema::",
            ),
            ("deploy, how a host is reached", 180, "deploy", "reach::"),
            ("deploy, other transports", 180, "deploy", "transports::"),
            ("hosts, over ssh", 300, "hosts", ""),
            ("image, to real registries", 90, "push", ""),
        ] {
            report.part(what, usual, || {
                let which = ["--skip", EVERY_FAULT, chapter];
                let which = &which[..if chapter.is_empty() { 2 } else { 3 }];
                context
                    .machine
                    .show(&on_containers(context, what, test, which))
            });
        }
        report.part("locks", 40, || {
            let check = cli::Lock {
                check: true,
                ..cli::Lock::default()
            };
            lock::run(context, &check)
        });
        report.part("image, twice from nothing", 90, || twice(context));
        report.part("image, on another machine with a newer engine", 150, || {
            elsewhere(context)
        });
    }
    report.verdict()
}

/// Formatting, lints, unit and command-line tests, with the seconds that each usually
/// takes.
fn rust_steps(context: &Context) -> Vec<(&'static str, u64, Step)> {
    let sh = context.machine.sh();
    [
        ("format (rustfmt)", 2, cmd!(sh, "cargo fmt --check")),
        (
            "lint (clippy)",
            45,
            cmd!(
                sh,
                "cargo clippy --quiet --all-targets --locked -- --deny warnings"
            ),
        ),
        (
            "unit and command-line tests (Rust)",
            90,
            cmd!(sh, "cargo test --quiet --locked"),
        ),
    ]
    .map(|(what, usual, cmd)| (what, usual, Step::new(format!("pass {what}"), cmd)))
    .to_vec()
}

fn images(context: &Context) -> Result<TestImage> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let bases = [BaseName::Airflow, BaseName::Postgres, BaseName::Mysql];
    let facts = build::ensure(context, &engine, &deploy, &bases, false)?;
    TestImage::ensure(context, &engine, &facts, TESTS)
}

/// What runs in the image, with the same Python and packages as at night.
fn python(context: &Context, image: &TestImage, report: &mut Report<'_>) {
    let lints: [(&str, u64, &[&str]); 3] = [
        (
            "format (ruff)",
            2,
            &["ruff", "format", "--check", "--no-cache", "."],
        ),
        ("lint (ruff)", 2, &["ruff", "check", "--no-cache", "."]),
        (
            "lint (sqlfluff)",
            30,
            &[
                "sqlfluff",
                "lint",
                "--disable-progress-bar",
                "dbt_dental_models",
            ],
        ),
    ];
    for (what, usual, command) in lints {
        report.part(what, usual, || {
            context.machine.show(&image.alone(context, what, command))
        });
    }
    let suites: [(&str, u64, &[&str]); 2] = [
        (
            "ETL tests (MariaDB, Postgres)",
            250,
            &[
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "etl_pipeline/tests",
            ],
        ),
        (
            "DAG and bootstrap tests (Airflow)",
            280,
            &["pytest", "-q", "-p", "no:cacheprovider", "airflow/tests"],
        ),
    ];
    if !suites.iter().any(|(what, ..)| report.wants(what)) {
        return;
    }
    let mut databases = None;
    report.ground("throwaway databases", || {
        databases = Some(Throwaway::start(context, Purpose::Tests)?);
        Ok(())
    });
    let Some(databases) = databases else { return };
    for (what, usual, command) in suites {
        report.part(what, usual, || {
            context
                .machine
                .show(&databases.join(context, image, what, command))
        });
    }
}

/// The same inputs give the same image.
fn twice(context: &Context) -> Result<()> {
    let (deploy, engine) = (context.deploy()?, context.engine()?);
    verify::run(context, &engine, &deploy, false)
}

/// A newer engine makes one image of the same inputs, digest and all, and its
/// files are those that this machine's engine made.
fn elsewhere(context: &Context) -> Result<()> {
    let (deploy, engine) = (context.deploy()?, context.engine()?);
    let facts = image::observe(&engine, &context.workspace, &deploy)?;
    let base = facts
        .base
        .as_ref()
        .context("failed to find the Airflow base, which the image stands on")?;
    let host = Host::start(context)?;
    let term = &context.term;
    term.task("the base, brought there", || host.load(&base.reference))?;
    for arguments in [&["build"][..], &["build", "--verify"]] {
        context.machine.show(&host.xtask(arguments))?;
    }
    let name = facts.image();
    let differences = term.task("files of both images compared", || -> Result<_> {
        let archives = [
            host.save(&name, "here.tar")?,
            host.fetch(&name, "there.tar")?,
        ];
        let found = engine.raw_images(&[&base.reference, &name])?;
        let layers: Vec<usize> = found
            .iter()
            .map(|image| verify::layers(image).len())
            .collect();
        let &[below, all] = layers.as_slice() else {
            bail!("failed to find both {} and {name} here", base.reference);
        };
        let own: Vec<usize> = (below..all).collect();
        ensure!(!own.is_empty(), "failed to find a layer of ours in {name}");
        image::differences(&archives[0], &archives[1], &own)
    })?;
    for difference in &differences {
        term.say(&format!("  {difference}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::tool(format!(
        "failed to make the same files on two engines: {} differ",
        differences.len()
    ))
    .into())
}

/// Tests of a file that cargo leaves alone by itself, as `which` says to its harness.
fn on_containers(context: &Context, what: &str, test: &str, which: &[&str]) -> Step {
    let sh = context.machine.sh();
    Step::new(
        format!("pass {what}"),
        cmd!(
            sh,
            "cargo test --quiet --locked --test {test} -- --ignored --nocapture --test-threads=1 {which...}"
        ),
    )
}

/// How much slower this machine is than the one on which the usual times were taken.
#[derive(Debug, Default)]
struct Pace {
    usual: Duration,
    took: Duration,
}

impl Pace {
    fn took(&mut self, usual: Duration, took: Duration) {
        self.usual += usual;
        self.took += took;
    }

    fn foretell(&self, usual: Duration) -> Duration {
        let slower = self.took.as_secs_f64() / self.usual.as_secs_f64().max(1.0);
        usual.mul_f64(slower.max(1.0))
    }
}

/// What passed and what did not.
struct Report<'a> {
    context: &'a Context,
    /// Words of the names of the parts that are wanted.
    only: &'a str,
    /// No part begins that would end later than this.
    within: Option<Duration>,
    begun: Instant,
    pace: Pace,
    /// There is one.
    found: bool,
    passed: usize,
    failed: Vec<String>,
    left_out: Vec<String>,
    lines: Vec<(String, Duration, bool)>,
}

impl<'a> Report<'a> {
    fn new(context: &'a Context, only: Option<&'a str>, within: Option<Duration>) -> Self {
        Self {
            context,
            only: only.unwrap_or_default(),
            within,
            begun: Instant::now(),
            pace: Pace::default(),
            found: false,
            passed: 0,
            failed: Vec::new(),
            left_out: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn wants(&self, what: &str) -> bool {
        what.to_lowercase().contains(&self.only.to_lowercase())
    }

    /// One part, and the seconds that it usually takes: on two cores, with the images
    /// there.
    fn part(&mut self, what: &str, usual: u64, work: impl FnOnce() -> Result<()>) {
        if !self.wants(what) {
            return;
        }
        self.found = true;
        let (begun, usual) = (self.begun.elapsed(), Duration::from_secs(usual));
        let end = begun + self.pace.foretell(usual);
        if self.within.is_some_and(|within| end > within) {
            return self.leave_out(&format!(
                "{what}: it would have ended after {}",
                millis(end)
            ));
        }
        self.ground(what, work);
        self.pace.took(usual, self.begun.elapsed() - begun);
    }

    /// A part that others stand on: always wanted.
    fn ground(&mut self, what: &str, work: impl FnOnce() -> Result<()>) {
        let term = &self.context.term;
        term.say(&format!("\n{}", term.bold(&format!("── {what}"))));
        let started = Instant::now();
        let result = work();
        self.lines
            .push((what.to_owned(), started.elapsed(), result.is_ok()));
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                term.say(crate::error::show(&error).text.trim_end());
                self.failed.push(what.to_owned());
            }
        }
    }

    fn leave_out(&mut self, what: &str) {
        self.left_out.push(what.to_owned());
    }

    fn verdict(self) -> Result<()> {
        let term = &self.context.term;
        term.say("");
        for (what, took, passed) in &self.lines {
            let line = format!("{what}  {}", term.dim(&millis(*took)));
            if *passed {
                term.done(&line)
            } else {
                term.fail(&line)
            }
        }
        for what in &self.left_out {
            term.warn(&format!("left out: {what}"));
        }
        if !self.found {
            return Err(Failure::user(format!(
                "failed to find a part with {:?} in its name",
                self.only
            ))
            .hint("cargo xtask test")
            .into());
        }
        super::print(&format!(
            "{} passed, {} failed",
            self.passed,
            self.failed.len()
        ))?;
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(Failure::tool(format!(
            "{} failed: {}",
            plural(self.failed.len(), "part"),
            self.failed.join(", ")
        ))
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_takes_longer_for_what_is_left_too() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let mut pace = Pace::default();
        assert_eq!(pace.foretell(minutes(2)), minutes(2));
        pace.took(minutes(1), minutes(3));
        pace.took(minutes(3), minutes(5));
        assert_eq!(pace.foretell(minutes(2)), minutes(4));
        // A quick one had something of it already.
        pace.took(minutes(10), minutes(1));
        assert_eq!(pace.foretell(minutes(2)), minutes(2));
    }
}
