//! `up`: from a checkout to an Airflow that is really up.

use std::fs;
use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{build, env, init, status};
use crate::airflow::{Api, Truth, wait_for_truth};
use crate::cli;
use crate::config::{BOUND_TO_MYSQL, BOUND_TO_POSTGRES, Deploy, Settings, Store};
use crate::context::Context;
use crate::engine::{Container, Engine};
use crate::exec::millis;
use crate::image::{self, BaseName, BuildFacts, folder_fingerprint};
use crate::preflight;
use crate::stack::{Images, Memory, Stack, wait_healthy};

const AIRFLOW: [&str; 2] = ["airflow-webserver", "airflow-scheduler"];
/// How long a first start may take on a slow disk.
const DATABASES_LIMIT: Duration = Duration::from_secs(180);
const AIRFLOW_LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn run(context: &Context, args: &cli::Up) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    env::write(context, args.dry.dry_run)?;
    if args.dry.dry_run && !context.workspace.env_file().is_file() {
        context.term.say("would go on from the new .env");
        return Ok(());
    }
    let settings = context.settings()?;
    let engine = context.engine()?;
    preflight::before_up(context, &engine, &settings)?;
    if args.dry.dry_run {
        return dry_run(context, &engine, &settings, &deploy);
    }
    let facts = build::ensure(
        context,
        &engine,
        &deploy,
        &BaseName::of_stack(&settings),
        false,
    )?;
    let images = images(context, &engine, &deploy, &facts)?;
    let was_up = is_up(context, &engine, &settings, &images)?;
    if !was_up {
        start(context, &engine, &settings, &images)?;
    }
    let truth = wait_for_the_truth(context, &settings, &deploy)?;
    let verdict = if was_up {
        "all is up already"
    } else {
        "all is up"
    };
    context.term.say("");
    context
        .term
        .done(&format!("{verdict}  ({})", millis(started.elapsed())));
    summary(context, &settings, &images, &truth);
    if args.open {
        open(context, &settings.webserver_url())?;
    }
    Ok(())
}

/// Databases, demo source, init, webserver and scheduler, in this order.
fn start(
    context: &Context,
    engine: &Engine<'_>,
    settings: &Settings,
    images: &Images,
) -> Result<()> {
    let stack = Stack::open(engine, settings, images.clone())?;
    prepare_folders(context, settings)?;
    start_databases(context, &stack)?;
    seed_demo(context, &stack)?;
    if !is_initialised(context, &stack)? {
        init::prepare(context, &stack)?;
    }
    context.term.task("webserver and scheduler healthy", || {
        context.machine.run(&stack.up("start Airflow", &AIRFLOW))?;
        wait_healthy(&stack, &AIRFLOW, AIRFLOW_LIMIT)
    })?;
    let mut memory = Memory::read(&context.workspace, settings.project());
    let parts = up_parts(context, &stack.containers()?, settings, images)?;
    memory.done("up", &as_strs(&parts));
    memory.write(&context.machine, &context.workspace, settings.project())
}

/// Whether the containers are those of the last `up`, healthy, and nothing that
/// Compose would recreate them for has changed. Asking Compose itself takes ten
/// times as long.
fn is_up(
    context: &Context,
    engine: &Engine<'_>,
    settings: &Settings,
    images: &Images,
) -> Result<bool> {
    let memory = Memory::read(&context.workspace, settings.project());
    let containers = engine.containers(settings.project())?;
    let healthy = containers
        .iter()
        .filter(|c| !c.is_one_off())
        .all(Container::is_up);
    let parts = up_parts(context, &containers, settings, images)?;
    Ok(healthy && memory.did("up", &as_strs(&parts)))
}

/// All that a running stack was made from, and its containers.
fn up_parts(
    context: &Context,
    containers: &[Container],
    settings: &Settings,
    images: &Images,
) -> Result<Vec<String>> {
    let root = context.workspace.root();
    let compose = image::files_fingerprint(root, &["docker-compose.yml"], &[])?;
    let mut parts = vec![
        compose.to_string(),
        folder_fingerprint(&root.join("airflow/bootstrap"))?,
        folder_fingerprint(&root.join("etl_pipeline/opendental_demo"))?,
        settings.env().to_string(),
        format!("{images:?}"),
    ];
    let services = containers.iter().filter(|c| !c.is_one_off());
    let mut ids: Vec<String> = services.map(|c| c.id.clone()).collect();
    ids.sort();
    parts.extend(ids);
    Ok(parts)
}

/// The image of each service, from what the engine has.
pub(crate) fn images(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    facts: &BuildFacts,
) -> Result<Images> {
    let base = |name| -> Result<Option<String>> {
        let base = image::find_base(engine, &context.workspace, &deploy.bases, name)?;
        Ok(base.map(|base| base.reference))
    };
    Ok(Images {
        airflow: Some(facts.image()),
        postgres: base(BaseName::Postgres)?,
        mysql: base(BaseName::Mysql)?,
    })
}

/// Starts the databases that are ours and waits until they are healthy.
pub(crate) fn start_databases(context: &Context, stack: &Stack<'_>) -> Result<()> {
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
    })?;
    remember_volumes(context, stack)
}

fn seed_demo(context: &Context, stack: &Stack<'_>) -> Result<()> {
    if stack.settings().source() == Store::External {
        return Ok(());
    }
    let parts = seed_parts(context, stack)?;
    let project = stack.settings().project();
    let mut memory = Memory::read(&context.workspace, project);
    if memory.did("seed", &as_strs(&parts)) {
        return Ok(());
    }
    context.term.say("filling the demo source:");
    context
        .machine
        .show(&stack.run_once("fill the demo source", "demo-seed", &[]))?;
    memory.done("seed", &as_strs(&parts));
    memory.write(&context.machine, &context.workspace, project)
}

fn seed_parts(context: &Context, stack: &Stack<'_>) -> Result<Vec<String>> {
    let settings = stack.settings();
    Ok(vec![
        volume_identity(stack, "mysql-data")?,
        settings.or("DEMO_SCALE", "1").to_owned(),
        settings.or("DEMO_SEED", "").to_owned(),
        folder_fingerprint(
            &context
                .workspace
                .root()
                .join("etl_pipeline/opendental_demo"),
        )?,
    ])
}

fn is_initialised(context: &Context, stack: &Stack<'_>) -> Result<bool> {
    let memory = Memory::read(&context.workspace, stack.settings().project());
    Ok(memory.did("init", &as_strs(&init_parts(context, stack)?)))
}

/// Notes that Airflow was prepared with all that it depends on.
pub(crate) fn remember_init(context: &Context, stack: &Stack<'_>) -> Result<()> {
    let project = stack.settings().project();
    let mut memory = Memory::read(&context.workspace, project);
    memory.done("init", &as_strs(&init_parts(context, stack)?));
    memory.write(&context.machine, &context.workspace, project)
}

fn init_parts(context: &Context, stack: &Stack<'_>) -> Result<Vec<String>> {
    Ok(vec![
        volume_identity(stack, "postgres-data")?,
        stack.images().airflow.clone().unwrap_or_default(),
        folder_fingerprint(&context.workspace.root().join("airflow/bootstrap"))?,
        stack.settings().env().to_string(),
    ])
}

/// When the volume was made: a new one by the same name is empty.
fn volume_identity(stack: &Stack<'_>, name: &str) -> Result<String> {
    let full = format!("{}_{name}", stack.settings().project());
    let created = stack.engine().volume_created(&full)?.unwrap_or_default();
    Ok(format!("{full} {created}"))
}

/// Notes with which secrets the volumes were made, so that a later `.env` that
/// does not fit them is found before it locks anyone out.
fn remember_volumes(context: &Context, stack: &Stack<'_>) -> Result<()> {
    let settings = stack.settings();
    let project = settings.project();
    let mut memory = Memory::read(&context.workspace, project);
    for (volume, names) in [
        ("postgres-data", BOUND_TO_POSTGRES.as_slice()),
        ("mysql-data", BOUND_TO_MYSQL.as_slice()),
    ] {
        let full = format!("{project}_{volume}");
        let values: Vec<&str> = names.iter().map(|name| settings.or(name, "")).collect();
        if let Some(created) = stack.engine().volume_created(&full)? {
            memory.volume_holds(&full, &created, &values);
        }
    }
    memory.write(&context.machine, &context.workspace, project)
}

fn wait_for_the_truth(context: &Context, settings: &Settings, deploy: &Deploy) -> Result<Truth> {
    let api = Api::new(settings);
    context.term.task(
        "heartbeat fresh, no import errors, expected DAGs there",
        || wait_for_truth(&api, &deploy.airflow.dags, AIRFLOW_LIMIT),
    )
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

fn dry_run(
    context: &Context,
    engine: &Engine<'_>,
    settings: &Settings,
    deploy: &Deploy,
) -> Result<()> {
    let facts = image::observe(engine, &context.workspace, deploy)?;
    build::print_plan(context, engine, &facts, deploy);
    let images = images(context, engine, deploy, &facts)?;
    let stack = Stack::open(engine, settings, images)?;
    let mut steps = vec![stack.up("start the databases", &settings.databases())];
    if settings.source() == Store::Ours {
        steps.push(stack.run_once("fill the demo source", "demo-seed", &[]));
    }
    if !is_initialised(context, &stack)? {
        steps.push(stack.run_once("prepare Airflow", "airflow-init", &[]));
    }
    steps.push(stack.up("start Airflow", &AIRFLOW));
    for step in steps {
        context.term.say(&format!("would run: {}", step.line()));
    }
    context
        .term
        .say("would wait for a fresh heartbeat, no import errors and the expected DAGs");
    Ok(())
}

/// Where everything is and what to type next.
fn summary(context: &Context, settings: &Settings, images: &Images, truth: &Truth) {
    let paused = if truth.paused.is_empty() {
        String::new()
    } else {
        format!(" (paused: {})", truth.paused.join(", "))
    };
    let next = truth
        .next_run
        .as_deref()
        .map_or_else(|| "none: every DAG is paused".to_owned(), status::central);
    let rows = [
        ("open", settings.webserver_url()),
        (
            "user",
            settings.or("AIRFLOW_ADMIN_USERNAME", "admin").to_owned(),
        ),
        ("password", "AIRFLOW_ADMIN_PASSWORD in .env".to_owned()),
        ("image", images.airflow.clone().unwrap_or_default()),
        ("dags", format!("{}{paused}", truth.dags.join(", "))),
        ("next run", next),
    ];
    for (name, value) in rows {
        context.term.say(&format!(
            "  {} {value}",
            context.term.dim(&format!("{name:<9}"))
        ));
    }
    context.term.say("");
    let flag = match settings.or("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE", "false") {
        "true" => " --ignore-business-hours",
        _ => "",
    };
    context
        .term
        .say(&format!("  next: cargo xtask nightly{flag}"));
}

fn open(context: &Context, url: &str) -> Result<()> {
    let opener = ["xdg-open", "open"]
        .iter()
        .find_map(|name| which::which(name).ok());
    match opener {
        Some(program) => context.machine.run(&crate::exec::Step::new(
            "open the web page",
            xshell::cmd!(context.machine.sh(), "{program} {url}"),
        )),
        None => {
            context.term.warn(&format!(
                "no program to open a page with: open {url} yourself"
            ));
            Ok(())
        }
    }
}

fn as_strs(parts: &[String]) -> Vec<&str> {
    parts.iter().map(String::as_str).collect()
}
