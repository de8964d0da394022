//! What `up` and `init` have in common: databases, demo source, bootstrap, and
//! the memory of what was done.

use std::fs;
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::{COMPOSE_FILES, Deploy, Settings, Store};
use crate::context::Context;
use crate::engine::{Container, Engine};
use crate::exec::Step;
use crate::image::{self, BaseName, BuildFacts, folder_fingerprint};
use crate::stack::{Images, Memory, Stack, data, wait_healthy};

/// How long a first start may take on a slow disk.
const DATABASES_LIMIT: Duration = Duration::from_secs(180);

// The deeds in a stack's memory.
pub(super) const UP: &str = "up";
/// An `up` that has begun and not ended well.
pub(super) const UNFINISHED: &str = "unfinished";
const INIT: &str = "init";
const SEED: &str = "seed";

/// What a person may have changed since a stack was made, and the containers
/// that were made of it.
pub(super) fn made_of(
    context: &Context,
    settings: &Settings,
    containers: &[Container],
) -> Result<Vec<(&'static str, String)>> {
    let services = containers.iter().filter(|c| !c.is_one_off());
    let mut ids: Vec<&str> = services.map(|c| c.id.as_str()).collect();
    ids.sort_unstable();
    let mut parts = vec![
        ("containers", ids.join(" ")),
        (".env", settings.env().meaning()),
    ];
    for file in COMPOSE_FILES {
        let text = image::files_fingerprint(context.workspace.root(), &[file], &[])?;
        parts.push((file, text.to_string()));
    }
    Ok(parts)
}

/// The files that changed since these containers were started by `up`; none
/// where somebody else started them.
pub(super) fn changed_since_up(
    context: &Context,
    settings: &Settings,
    containers: &[Container],
) -> Result<Vec<&'static str>> {
    let memory = Memory::read(&context.workspace, settings.project());
    let parts = made_of(context, settings, containers)?;
    let changed = memory.changed(UP, &parts).unwrap_or_default();
    Ok(match changed.first() {
        Some(&"containers") => Vec::new(),
        _ => changed,
    })
}

/// Whether the last `up` failed or was interrupted on its way.
pub(super) fn is_unfinished(context: &Context, settings: &Settings) -> bool {
    Memory::read(&context.workspace, settings.project()).knows(UNFINISHED)
}

/// Whether the demo source holds what `.env` asks for, as far as is known.
pub(super) fn is_seeded(context: &Context, stack: &Stack<'_>) -> Result<bool> {
    let memory = Memory::read(&context.workspace, stack.settings().project());
    Ok(memory.did(SEED, &seed_parts(context, stack)?))
}

/// The image of each service, from what the engine has.
pub(super) fn images(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    facts: &BuildFacts,
) -> Result<Images> {
    let names = [BaseName::Postgres, BaseName::Mysql];
    let bases = image::find_bases(engine, &context.workspace, &deploy.bases, &names)?;
    let mut references = bases
        .into_iter()
        .map(|base| base.map(|base| base.reference));
    Ok(Images {
        airflow: Some(facts.image()),
        postgres: references.next().flatten(),
        mysql: references.next().flatten(),
    })
}

/// Starts the databases that are ours and waits until they are healthy.
pub(super) fn start_databases(context: &Context, stack: &Stack<'_>) -> Result<()> {
    let databases = stack.settings().databases();
    if databases.is_empty() {
        return Ok(());
    }
    let what = format!("{} healthy", databases.join(", "));
    context.term.task(&what, || {
        context
            .machine
            .run(&stack.up("start the databases", &databases))?;
        wait_healthy(stack, &databases, DATABASES_LIMIT)
    })
}

/// Fills the demo source, unless that was done or the source is a real one.
pub(super) fn seed_demo(context: &Context, stack: &Stack<'_>) -> Result<()> {
    if stack.settings().source() == Store::External {
        return Ok(());
    }
    let parts = seed_parts(context, stack)?;
    let project = stack.settings().project();
    let mut memory = Memory::read(&context.workspace, project);
    if memory.did(SEED, &parts) {
        return Ok(());
    }
    context.term.say("filling the demo source:");
    context.machine.show_lines(&seed_step(stack), is_news)?;
    memory.done(SEED, &parts);
    memory.write(&context.machine, &context.workspace, project)
}

/// The demo source's loader, in a container of its own.
pub(super) fn seed_step(stack: &Stack<'_>) -> Step {
    stack.run_once("fill the demo source", "demo-seed", &[])
}

fn seed_parts(context: &Context, stack: &Stack<'_>) -> Result<Vec<(&'static str, String)>> {
    let settings = stack.settings();
    let demo = context
        .workspace
        .root()
        .join("etl_pipeline/opendental_demo");
    let mut parts = vec![
        ("scale", settings.or("DEMO_SCALE", "1").to_owned()),
        ("seed", settings.or("DEMO_SEED", "").to_owned()),
        ("loader", folder_fingerprint(&demo)?),
    ];
    parts.extend(data_part(stack, "mysql-data")?);
    Ok(parts)
}

/// Whether Airflow was prepared with all that it depends on as it is now.
pub(super) fn is_initialised(context: &Context, stack: &Stack<'_>) -> Result<bool> {
    let memory = Memory::read(&context.workspace, stack.settings().project());
    Ok(memory.did(INIT, &init_parts(context, stack)?))
}

/// Notes that Airflow was prepared with all that it depends on.
fn remember_init(context: &Context, stack: &Stack<'_>) -> Result<()> {
    let project = stack.settings().project();
    let mut memory = Memory::read(&context.workspace, project);
    memory.done(INIT, &init_parts(context, stack)?);
    memory.write(&context.machine, &context.workspace, project)
}

fn init_parts(context: &Context, stack: &Stack<'_>) -> Result<Vec<(&'static str, String)>> {
    let bootstrap = context.workspace.root().join("airflow/bootstrap");
    let mut parts = vec![
        ("image", stack.images().airflow.clone().unwrap_or_default()),
        ("bootstrap", folder_fingerprint(&bootstrap)?),
        (".env", stack.settings().env().meaning()),
    ];
    parts.extend(data_part(stack, "postgres-data")?);
    Ok(parts)
}

/// The data that a deed was done in. A database that is down is taken for the one
/// it was: a dry run cannot ask it, and to start it tells.
fn data_part(stack: &Stack<'_>, volume: &str) -> Result<Option<(&'static str, String)>> {
    let found = data::identity(stack.engine(), &stack.containers()?, volume)?;
    let project = stack.settings().project();
    let is_gone = || -> Result<bool> {
        let there = stack.engine().volumes(project)?;
        Ok(!there.contains(&format!("{project}_{volume}")))
    };
    Ok(match found {
        Some(identity) => Some(("data", identity)),
        None if is_gone()? => Some(("data", String::new())),
        None => None,
    })
}

/// Notes with which secrets the volumes work, so that a later `.env` that does
/// not fit them is found before it locks anyone out.
fn remember_volumes(context: &Context, stack: &Stack<'_>) -> Result<()> {
    let settings = stack.settings();
    let project = settings.project();
    let mut memory = Memory::read(&context.workspace, project);
    let containers = stack.containers()?;
    for (volume, secrets) in settings.bound() {
        if let Some(identity) = data::identity(stack.engine(), &containers, volume)? {
            memory.volume_holds(&format!("{project}_{volume}"), &identity, &secrets);
        }
    }
    memory.write(&context.machine, &context.workspace, project)
}

/// Folders that are mounted and written: they have to be there, and writable
/// for the container's user, before the engine makes them as root.
pub(super) fn prepare_folders(context: &Context, settings: &Settings) -> Result<()> {
    let logs = context.workspace.root().join("airflow/logs");
    fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
    let uid: u32 = settings
        .or("AIRFLOW_UID", "50000")
        .parse()
        .unwrap_or(50_000);
    if rustix::process::getuid().is_root() {
        chown(&logs, Some(uid), Some(0))
            .with_context(|| format!("failed to give {} to user {uid}", logs.display()))?;
    }
    Ok(())
}

/// Runs the bootstrap in a container of its own; its lines are shown as they
/// come, its failure is ours.
pub(super) fn prepare(context: &Context, stack: &Stack<'_>) -> Result<()> {
    context.machine.show_lines(&init_step(stack), is_news)?;
    remember_volumes(context, stack)?;
    remember_init(context, stack)
}

/// The bootstrap's container.
pub(super) fn init_step(stack: &Stack<'_>) -> Step {
    stack.run_once("prepare Airflow", "airflow-init", &[])
}

/// Not what Compose says of a container that it makes for one command: `Creating
/// x_run ... done` and the bare exit status of v1, `Container x Created` of v2.
fn is_news(line: &str) -> bool {
    let line = line.trim();
    let v1 = line.starts_with("Creating ") && line.contains("_run ...");
    let status = !line.is_empty() && line.chars().all(|c| c.is_ascii_digit());
    let v2 = line.starts_with("Container ") && line.contains("-run-");
    !(v1 || status || v2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compose_says_of_its_own_work_is_no_news() {
        for line in [
            "Creating dental_airflow-init_run ... ",
            "Creating dental_airflow-init_run ... done",
            "1",
            " Container dental-airflow-init-run-1a2b3c  Created",
        ] {
            assert!(!is_news(line), "{line}");
        }
        for line in ["error: 1 thing", "create the user admin (Admin)", ""] {
            assert!(is_news(line), "{line}");
        }
    }
}
