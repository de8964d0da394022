//! `bench`: the figures that the docs quote, measured on this machine.

mod deploy;
mod etl;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use xshell::cmd;

use super::{print, print_json};
use crate::cli;
use crate::config::{COMPOSE_FILES, environment};
use crate::context::Context;
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Step, millis};
use crate::image::{self, BaseName, BuildFacts};
use crate::stack::Compose;
use crate::testing::Registry;

/// The lock whose installation is measured.
const LOCK: &str = "requirements-airflow.lock";
/// Names of what a benchmark leaves in the engine for as long as it takes.
const TAGS: [&str; 5] = [
    "bench-bare",
    "bench-cold",
    "bench-pip",
    "bench-change",
    "bench-compose",
];

/// One row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    what: Cow<'static, str>,
    /// Median of the runs.
    value: f64,
    /// `s`, `bytes`, nothing for a plain number, `none` where there is no value.
    unit: &'static str,
    /// Each run.
    runs: Vec<f64>,
    /// How it compares.
    note: String,
}

pub(crate) fn run(context: &Context, args: &cli::Bench) -> Result<()> {
    let runs = |usual: usize| args.runs.unwrap_or(usual).max(1);
    let figures = match &args.command {
        cli::BenchCommand::Image => image_figures(context, runs(11))?,
        cli::BenchCommand::Deploy => deploy::figures(context, runs(11))?,
        cli::BenchCommand::Etl(own) => {
            let rows = etl::rows(context, own, runs(5))?;
            if args.json {
                return print_json(&rows);
            }
            etl::figures(&rows)
        }
    };
    if args.json {
        return print_json(&figures);
    }
    let rows: Vec<String> = figures.iter().map(row).collect();
    print(&rows.join("\n"))
}

fn row(figure: &Figure) -> String {
    let value = match figure.unit {
        "s" => millis(Duration::from_secs_f64(figure.value)),
        "bytes" if figure.value < 1e6 => format!("{:.1} kB", figure.value / 1e3),
        "" => format!("{:.0}", figure.value),
        "none" => "–".to_owned(),
        _ => format!("{:.2} MB", figure.value / 1e6),
    };
    format!("{:<44} {value:>12}  {}", figure.what, figure.note)
}

pub(super) fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

pub(super) fn seconds(what: impl Into<Cow<'static, str>>, runs: Vec<f64>, note: String) -> Figure {
    figure(what, "s", runs, note)
}

/// The median of the runs.
pub(super) fn figure(
    what: impl Into<Cow<'static, str>>,
    unit: &'static str,
    runs: Vec<f64>,
    note: String,
) -> Figure {
    Figure {
        what: what.into(),
        value: median(&runs),
        unit,
        runs,
        note,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of images are far below 2^52"
)]
pub(super) fn bytes(what: impl Into<Cow<'static, str>>, values: &[u64], note: String) -> Figure {
    let runs = values.iter().map(|value| *value as f64);
    figure(what, "bytes", runs.collect(), note)
}

/// Everything of one run is measured in turns, so that what else the machine does
/// meets all alike.
fn image_figures(context: &Context, runs: usize) -> Result<Vec<Figure>> {
    // Compose reads .env: better missed now than after minutes.
    context.settings()?;
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let facts = super::build::ensure(
        context,
        &engine,
        &deploy,
        &[BaseName::Airflow, BaseName::Postgres],
        false,
    )?;
    let ours = ours(context)?;
    let scratch = Scratch::make(context, &engine, &facts)?;
    let mut figures = Vec::new();

    let compose = compose_build(context, &engine, &facts)?;
    // The first makes its own cache.
    context.term.task("compose build, to fill its cache", || {
        time(context, &compose)
    })?;
    let (mut hash, mut no_op, mut cached) = (Vec::new(), Vec::new(), Vec::new());
    context.term.task("no-op builds", || -> Result<()> {
        for _ in 0..runs {
            hash.push(time(context, &ours(&["hash"]))?);
            no_op.push(time(context, &ours(&["build"]))?);
            cached.push(time(context, &compose)?);
        }
        Ok(())
    })?;
    let times = median(&cached) / median(&no_op);
    figures.push(seconds("hash of the image's inputs", hash, String::new()));
    figures.push(seconds(
        "build, nothing to do",
        no_op,
        format!("{times:.0} times faster than Compose"),
    ));
    figures.push(seconds(
        "docker compose build, all cached",
        cached,
        String::new(),
    ));

    let cold = image::build_from_nothing(&engine, &facts, &scratch.name("bench-cold"));
    let mut from_nothing = Vec::new();
    let (mut by_uv, mut by_pip) = (Vec::new(), Vec::new());
    let bare = scratch.bare(&engine);
    context.machine.run(&bare)?;
    let on_bare = BuildFacts {
        base: facts.base.clone().map(|base| image::Base {
            reference: scratch.name("bench-bare"),
            ..base
        }),
        ..facts.clone()
    };
    let ours_on_bare = image::build_from_nothing(&engine, &on_bare, &scratch.name("bench-cold"));
    let pip_on_bare = scratch.pip(&engine);
    for _ in 0..runs.div_ceil(4) {
        from_nothing.push(context.term.task("cold build", || time(context, &cold))?);
        by_uv.push(
            context
                .term
                .task("the whole lock, by this Dockerfile", || {
                    time_of_last_run(context, &ours_on_bare)
                })?,
        );
        by_pip.push(context.term.task("the whole lock, by pip", || {
            time_of_last_run(context, &pip_on_bare)
        })?);
    }
    let share = median(&by_uv) / median(&by_pip);
    figures.push(seconds(
        "build from nothing, bases there",
        from_nothing,
        String::new(),
    ));
    let note = format!("{share:.2} of pip's");
    figures.push(seconds(
        "  layer of the whole lock on a bare Python",
        by_uv,
        note,
    ));
    figures.push(seconds(
        "  the same by pip install -r",
        by_pip,
        String::new(),
    ));

    let change = scratch.one_requirement_less(&engine, &facts);
    let took = context
        .term
        .task("one requirement changed", || time(context, &change))?;
    figures.push(seconds(
        "build after one requirement changed",
        vec![took],
        String::new(),
    ));

    let registry = context
        .term
        .task("a registry", || Registry::start(context))?;
    let team = format!("{}/team", registry.host);
    let push = ours(&["push", "--allow-dirty", "--registry", &team]);
    let first = context.term.task("first push", || time(context, &push))?;
    let held = registry.holds()?;
    let mut again = Vec::new();
    for _ in 0..runs {
        again.push(time(context, &push)?);
    }
    let changed = format!("{team}/{}:bench-change", facts.name);
    let (docker, source, sh) = (engine.docker(), scratch.name("bench-change"), engine.sh());
    time(
        context,
        &Step::new(
            "name the change",
            cmd!(sh, "{docker} tag {source} {changed}"),
        ),
    )?;
    time(
        context,
        &Step::new("push the change", cmd!(sh, "{docker} push {changed}")),
    )?;
    figures.push(seconds("push, all of it", vec![first], String::new()));
    figures.push(bytes("  bytes that arrived", &[held], String::new()));
    figures.push(seconds(
        "push, nothing to do",
        again,
        "hash and revision".to_owned(),
    ));
    let grown = registry.holds()?.saturating_sub(held);
    figures.push(bytes(
        "  bytes after one requirement changed",
        &[grown],
        String::new(),
    ));
    Ok(figures)
}

/// This very program with other arguments, as a person calls it.
fn ours(context: &Context) -> Result<impl Fn(&[&str]) -> Step> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let sh = context.machine.sh().clone();
    Ok(move |args: &[&str]| {
        Step::new(
            format!("run {}", args.join(" ")),
            cmd!(sh, "{program} {args...}"),
        )
    })
}

/// Wall time of a step that must succeed, in seconds.
pub(super) fn time(context: &Context, step: &Step) -> Result<f64> {
    let started = Instant::now();
    context.machine.run(step)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds that the last `RUN` of a build took by its own account, without what
/// the engine does around it.
fn time_of_last_run(context: &Context, step: &Step) -> Result<f64> {
    let captured = context.machine.capture(step)?;
    if !captured.ok() {
        return Err(context.machine.failed(step, &captured).into());
    }
    last_run(&captured.stderr).context("failed to find how long RUN took in what the builder says")
}

/// `#8 [stage-1 2/2] RUN …`, and later `#8 DONE 12.2s`.
fn last_run(told: &str) -> Option<f64> {
    let lead = told
        .lines()
        .filter(|line| line.contains("] RUN "))
        .filter_map(|line| line.split(' ').next())
        .next_back()?;
    let done = format!("{lead} DONE ");
    let line = told.lines().find_map(|line| line.strip_prefix(&done))?;
    line.trim_end_matches('s').parse().ok()
}

/// `docker-compose build` of the same image by the same engine.
fn compose_build(context: &Context, engine: &Engine<'_>, facts: &BuildFacts) -> Result<Step> {
    let settings = context.settings()?;
    let compose = Compose::find(engine, &[])?;
    let base = facts
        .base
        .as_ref()
        .map_or("", |base| base.reference.as_str());
    // v1 calls the first docker on PATH, which may be one that cannot build.
    let folder = engine.docker().parent().unwrap_or(Path::new("/"));
    Ok(compose
        .step(engine.sh(), "build by Compose")
        .args(["--project-name", settings.project()])
        .args(COMPOSE_FILES.iter().flat_map(|file| ["--file", file]))
        .args(["build", "airflow-webserver"])
        .without(settings.shadowing())
        .env("PATH", environment::path_after(folder))
        .env("DOCKER_BUILDKIT", "1")
        .env("COMPOSE_DOCKER_CLI_BUILD", "1")
        .env("AIRFLOW_BASE_IMAGE", base)
        .env("AIRFLOW_IMAGE", format!("{}:bench-compose", facts.name)))
}

/// Build contexts that go away, and the images made of them.
struct Scratch<'a> {
    context: &'a Context,
    docker: PathBuf,
    folder: PathBuf,
    image: String,
    ca: Vec<String>,
}

impl<'a> Scratch<'a> {
    fn make(context: &'a Context, engine: &Engine<'_>, facts: &BuildFacts) -> Result<Self> {
        let folder = context
            .workspace
            .cache()
            .join(format!("bench-{}", std::process::id()));
        let base = facts
            .base
            .as_ref()
            .map_or("", |base| base.reference.as_str());
        let name = &facts.name;
        let pip = format!(
            "FROM {name}:bench-bare\nCOPY {LOCK} /tmp/\n\
             RUN --mount=type=secret,id=ca,mode=0444 \
             if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
             pip install --user --no-deps --no-cache-dir --disable-pip-version-check \
             --require-hashes -r /tmp/{LOCK}\n"
        );
        let bare = format!("FROM {base}\nUSER root\nRUN rm -rf /home/airflow/.local\nUSER 50000\n");
        for sub in ["bare", "pip", "change"] {
            let to = folder.join(sub);
            fs::create_dir_all(&to).with_context(|| format!("failed to make {}", to.display()))?;
            for path in facts.manifest.files.keys() {
                fs::copy(context.workspace.root().join(path), to.join(path))
                    .with_context(|| format!("failed to copy {path}"))?;
            }
        }
        fs::write(folder.join("pip/Dockerfile"), pip)?;
        fs::write(folder.join("bare/Dockerfile"), bare)?;
        let lock = folder.join("change").join(LOCK);
        let text = fs::read_to_string(&lock)?;
        fs::write(&lock, without_the_last(&text)?)?;
        Ok(Self {
            context,
            docker: engine.docker().clone(),
            folder,
            image: facts.name.clone(),
            ca: environment::ca_bundle()
                .map(|ca| vec!["--secret".to_owned(), format!("id=ca,src={}", ca.display())])
                .unwrap_or_default(),
        })
    }

    fn name(&self, tag: &str) -> String {
        format!("{}:{tag}", self.image)
    }

    /// The base without its packages: what is measured on it is the lock alone.
    fn bare(&self, engine: &Engine<'_>) -> Step {
        self.build(engine, "bare", &[])
    }

    /// The lock as upstream's documentation adds packages. Without --no-deps pip
    /// refuses it: it wants a hash for each extra of a package as well.
    fn pip(&self, engine: &Engine<'_>) -> Step {
        self.build(engine, "pip", &["--no-cache", "--progress", "plain"])
    }

    fn build(&self, engine: &Engine<'_>, what: &str, more: &[&str]) -> Step {
        let (docker, folder) = (&self.docker, self.folder.join(what));
        let name = self.name(&format!("bench-{what}"));
        Step::new(
            format!("build {name}"),
            cmd!(engine.sh(), "{docker} build {more...} --tag {name}"),
        )
        .env("DOCKER_BUILDKIT", "1")
        .args(&self.ca)
        .arg(folder)
    }

    /// Our own Dockerfile on a lock with one package less, with the caches that a
    /// person has.
    fn one_requirement_less(&self, engine: &Engine<'_>, facts: &BuildFacts) -> Step {
        let base = facts
            .base
            .as_ref()
            .map_or("", |base| base.reference.as_str());
        let folder = self.folder.join("change");
        let dockerfile = folder.join(&facts.dockerfile);
        let (docker, name) = (&self.docker, self.name("bench-change"));
        Step::new(
            "build with one requirement less",
            cmd!(
                engine.sh(),
                "{docker} build --file {dockerfile} --tag {name}"
            ),
        )
        .env("DOCKER_BUILDKIT", "1")
        .args(["--build-arg", &format!("BASE_IMAGE={base}")])
        .args(&self.ca)
        .arg(folder)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
        let (docker, sh) = (&self.docker, self.context.machine.sh());
        let names = TAGS.map(|tag| self.name(tag));
        let remove = cmd!(sh, "{docker} image rm --force {names...}");
        self.context
            .machine
            .run(&Step::new("remove the images of the benchmark", remove))
            .ok();
    }
}

/// The lock without its last package.
fn without_the_last(lock: &str) -> Result<String> {
    let starts: Vec<usize> = lock
        .match_indices('\n')
        .map(|(at, _)| at + 1)
        .filter(|at| lock[*at..].starts_with(|c: char| c.is_ascii_alphanumeric()))
        .collect();
    let last = starts.last().ok_or_else(|| {
        Failure::user(format!("failed to find a package in {LOCK}")).hint("cargo xtask lock")
    })?;
    Ok(lock[..*last].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_last_run_is_timed_by_the_builders_own_account() {
        let told = "#7 [installer 3/3] RUN pip\n#8 [stage-1 2/2] RUN uv\n#7 DONE 17.3s\n\
                    #8 6.640  + agate\n#8 DONE 12.2s\n#9 DONE 16.6s\n";
        assert_eq!(last_run(told), Some(12.2));
        assert_eq!(last_run("#8 CACHED\n"), None);
    }

    #[test]
    fn the_lock_loses_its_last_package_with_its_hashes() {
        let lock = "# by a tool\na==1 \\\n    --hash=sha256:1\nb==2 \\\n    --hash=sha256:2\n    # via a\n";
        assert_eq!(
            without_the_last(lock).unwrap(),
            "# by a tool\na==1 \\\n    --hash=sha256:1\n"
        );
    }
}
