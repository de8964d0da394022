//! The checks that stand before a command changes anything.
//!
//! Facts are read first, each tool asked once; every decision is a function
//! over them. What is wrong is told all at once, each with what mends it.

mod check;
mod daemon;
mod database;
mod disk;
mod environment;
mod folder;
mod image;
pub(crate) mod install;
mod port;
mod probe;
mod program;
mod system;
mod volume;

pub(crate) use check::{Check, State, gib};
pub(crate) use daemon::{CLOCK_FAILS, CLOCK_WARNS, OLDEST, is_before};
pub(crate) use port::{Wanted, free_from, wanted};

use std::thread;

use anyhow::Result;

use crate::config::{self, EnvFile, Settings, settings};
use crate::context::Context;
use crate::engine::{Ask, Container, Engine, clis};
use crate::error::Failure;
use crate::exec::{Machine, plural};
use crate::image as images;
use crate::stack::{Candidate, Compose};
use daemon::Daemon;

/// The engine and what it told.
struct Seen<'a> {
    engine: &'a Engine<'a>,
    answer: Result<Daemon, String>,
    /// The project's own; empty where the engine does not answer.
    containers: Vec<Container>,
}

impl<'a> Seen<'a> {
    fn quick(engine: &'a Engine<'a>, project: &str) -> Result<Self> {
        let answer = daemon::ask(engine);
        let containers = match &answer {
            Ok(_) => engine.containers(project)?,
            Err(_) => Vec::new(),
        };
        Ok(Self {
            engine,
            answer,
            containers,
        })
    }

    /// Asks engine and Compose at the same time: Compose v1 takes as long to
    /// start as all the rest together.
    fn with_compose(
        context: &Context,
        engine: &'a Engine<'a>,
        project: &str,
    ) -> Result<(Self, Vec<Candidate>)> {
        let (root, term) = (context.workspace.root(), context.term.clone());
        thread::scope(|scope| {
            let asking = scope.spawn(move || {
                Machine::new(root, term).map(|machine| Compose::candidates(&machine, Ask::Again))
            });
            let seen = Self::quick(engine, project)?;
            let candidates = asking.join().unwrap_or_else(|_| Ok(Vec::new()))?;
            Ok((seen, candidates))
        })
    }

    fn engine_check(&self) -> Check {
        daemon::check(&self.answer, config::environment::docker_host().as_deref())
    }

    /// For questions that are worth asking only where it answers.
    fn answering(&self) -> Option<&'a Engine<'a>> {
        self.answer.is_ok().then_some(self.engine)
    }
}

/// What `up` needs. Warnings are printed, failures are one error.
///
/// # Errors
/// A user failure that names every check that failed, each with its fix.
pub(crate) fn before_up(context: &Context, engine: &Engine<'_>, settings: &Settings) -> Result<()> {
    let seen = Seen::quick(engine, settings.project())?;
    let mut checks = vec![seen.engine_check()];
    let candidates = Compose::candidates(&context.machine, Ask::Once);
    checks.push(program::compose(&candidates, &seen.containers));
    checks.extend(logs(context, settings));
    checks.extend(port::checks(
        &port::wanted(settings),
        &seen.containers,
        seen.answering(),
    ));
    if let Ok(daemon) = &seen.answer {
        checks.extend(build_check(context, &seen)?);
        // Containers of ours are there: so is their image.
        let built = !seen.containers.is_empty();
        checks.push(disk::check(disk::read(daemon).as_ref(), daemon, built));
        checks.push(daemon::memory(daemon));
        checks.push(daemon::clock(daemon));
        checks.push(volume::check(
            &context.workspace,
            engine,
            settings,
            &seen.containers,
        )?);
    }
    for check in checks.iter().filter(|check| check.state == State::Warn) {
        context.term.warn(&check.lines("    "));
    }
    refuse(&checks)
}

/// Only where no CLI can build does it matter whether the image is there.
fn build_check(context: &Context, seen: &Seen<'_>) -> Result<Option<Check>> {
    let engine = seen.engine;
    if engine.clis().iter().any(|cli| cli.buildkit.builds()) {
        return Ok(None);
    }
    let deploy = context.deploy()?;
    let facts = images::observe(engine, &context.workspace, &deploy)?;
    Ok(facts
        .present
        .is_none()
        .then(|| program::docker(engine.clis(), Some(engine))))
}

fn logs(context: &Context, settings: &Settings) -> Option<Check> {
    let uid = settings.or("AIRFLOW_UID", "50000").parse().ok()?;
    let me = rustix::process::getuid().as_raw();
    let folder = context.workspace.root().join("airflow/logs");
    Some(match folder::read(&folder) {
        Ok(found) => folder::check(&found, uid, me),
        Err(error) => Check::unanswered("logs", &error),
    })
}

fn refuse(checks: &[Check]) -> Result<()> {
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| check.state == State::Fail)
        .map(|check| format!("\n  {}", check.lines("      ")))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::user(format!(
        "failed to start: {} in the way{}",
        plural(failed.len(), "thing"),
        failed.concat()
    ))
    .hint("cargo xtask doctor looks at everything")
    .into())
}

/// Every check, for `doctor`.
///
/// # Errors
/// Only where the checkout itself cannot be read.
pub(crate) fn all(context: &Context) -> Result<Vec<Check>> {
    let env = Settings::read_unchecked(&context.workspace)?;
    let settings = lenient(context)?;
    let clis = clis(&context.machine, Ask::Again);
    let engine = Engine::among(&context.machine, clis.clone());
    let mut checks = vec![program::docker(&clis, engine.as_ref())];
    let (seen, candidates) = match &engine {
        Some(engine) => {
            let (seen, candidates) = Seen::with_compose(context, engine, settings.project())?;
            (Some(seen), candidates)
        }
        None => (None, Compose::candidates(&context.machine, Ask::Again)),
    };
    checks.extend(seen.as_ref().map(Seen::engine_check));
    let own = seen.as_ref().map_or(&[][..], |seen| &seen.containers);
    checks.push(program::compose(&candidates, own));
    if let Some(seen) = &seen {
        with_engine(context, &settings, env.is_some(), seen, &mut checks);
    }
    here(context, &settings, env.as_ref(), seen.as_ref(), &mut checks)?;
    if seen.is_none_or(|seen| seen.answer.is_err()) {
        checks.push(Check::warn(
            "not looked at",
            "disk, memory, clock, volumes, bases, image and databases: that takes the engine",
        ));
    }
    Ok(checks)
}

/// What this machine tells without an engine.
fn here(
    context: &Context,
    settings: &Settings,
    env: Option<&EnvFile>,
    seen: Option<&Seen<'_>>,
    checks: &mut Vec<Check>,
) -> Result<()> {
    checks.extend(environment::read(&context.workspace, env)?);
    checks.push(daemon::time_zone());
    if env.is_some() {
        checks.extend(logs(context, settings));
        let own = seen.map_or(&[][..], |seen| &seen.containers);
        let engine = seen.and_then(Seen::answering);
        checks.extend(port::checks(&port::wanted(settings), own, engine));
    }
    Ok(())
}

/// What the engine tells; a question that fails is a check that failed.
fn with_engine(
    context: &Context,
    settings: &Settings,
    has_env: bool,
    seen: &Seen<'_>,
    checks: &mut Vec<Check>,
) {
    let Ok(daemon) = &seen.answer else { return };
    let engine = seen.engine;
    let found = context
        .deploy()
        .and_then(|deploy| image::read(engine, &context.workspace, &deploy, settings));
    let image = found.as_ref().ok().and_then(|found| found.image.clone());
    let built = image.is_some();
    checks.push(disk::check(disk::read(daemon).as_ref(), daemon, built));
    checks.push(daemon::memory(daemon));
    checks.push(daemon::clock(daemon));
    match found {
        Ok(found) => checks.extend(found.checks),
        Err(error) => checks.push(Check::unanswered("image", &error)),
    }
    let volumes = if has_env {
        volume::check(&context.workspace, engine, settings, &seen.containers)
    } else {
        volume::without_env(engine, settings.project())
    };
    checks.push(volumes.unwrap_or_else(|error| Check::unanswered("volumes", &error)));
    match volume::try_logins(engine, settings, &seen.containers) {
        Ok(logins) => checks.extend(logins),
        Err(error) => checks.push(Check::unanswered("logins", &error)),
    }
    checks.extend(databases(
        engine,
        settings,
        &seen.containers,
        image.as_deref(),
    ));
}

fn databases(
    engine: &Engine<'_>,
    settings: &Settings,
    containers: &[Container],
    image: Option<&str>,
) -> Vec<Check> {
    let external = database::external(settings);
    if external.is_empty() {
        return Vec::new();
    }
    match probe::knock(engine, containers, image, &external) {
        Ok(answers) => external
            .iter()
            .enumerate()
            .map(|(at, one)| {
                let answer = answers.as_ref().and_then(|answers| answers.get(at));
                database::check(one, answer)
            })
            .collect(),
        Err(error) => vec![Check::unanswered("databases", &error)],
    }
}

/// What `.env` says, right or wrong, or the defaults where there is none. Its
/// secrets stay out of every output from here on.
pub(crate) fn lenient(context: &Context) -> Result<Settings> {
    let mut env = Settings::read_unchecked(&context.workspace)?.unwrap_or_default();
    if env.get("COMPOSE_PROJECT_NAME").is_none() {
        env.set("COMPOSE_PROJECT_NAME", &context.workspace.project_name());
    }
    context.machine.keep_secret(settings::secrets(&env));
    Ok(Settings::unchecked(env))
}
