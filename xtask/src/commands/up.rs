//! `up`: from a checkout to an Airflow that is really up.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::phases::{self, UNFINISHED, UP};
use super::{build, env, nightly};
use crate::airflow::{Api, Truth, wait_for_truth};
use crate::cli;
use crate::config::{Deploy, Settings, Store};
use crate::context::Context;
use crate::engine::{Container, Engine};
use crate::exec::{LastWord, Step, millis};
use crate::image::{self, BaseName, folder_fingerprint};
use crate::preflight;
use crate::stack::{Images, Memory, Stack, wait_healthy};

const AIRFLOW: [&str; 2] = ["airflow-webserver", "airflow-scheduler"];
const AIRFLOW_LIMIT: Duration = Duration::from_secs(480);

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
    context.own(&engine, settings.project())?;
    preflight::before_up(context, &engine, &settings)?;
    if args.dry.dry_run {
        return dry_run(context, &engine, &settings, &deploy);
    }
    let _alone = context.alone()?;
    let _word =
        LastWord::set("interrupted; what was started stays: cargo xtask up goes on from there");
    let facts = build::ensure(
        context,
        &engine,
        &deploy,
        &BaseName::of_stack(&settings),
        false,
    )?;
    let images = phases::images(context, &engine, &deploy, &facts)?;
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
    summary(context, &settings, &deploy, &images, &truth);
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
    // One that is interrupted has to go on the next time, whatever runs by then.
    let mut memory = Memory::read(&context.workspace, settings.project());
    memory.done(UNFINISHED, &[("up", String::new())]);
    memory.write(&context.machine, &context.workspace, settings.project())?;
    free_stranded(context, &stack)?;
    phases::prepare_folders(context, settings)?;
    phases::start_databases(context, &stack)?;
    phases::seed_demo(context, &stack)?;
    if !phases::is_initialised(context, &stack)? {
        phases::prepare(context, &stack)?;
    }
    context.term.task("webserver and scheduler healthy", || {
        context.machine.run(&stack.up("start Airflow", &AIRFLOW))?;
        wait_healthy(&stack, &AIRFLOW, AIRFLOW_LIMIT)
    })?;
    let mut memory = Memory::read(&context.workspace, settings.project());
    let parts = up_parts(context, &stack.containers()?, settings, images)?;
    memory.done(UP, &parts);
    memory.forget(UNFINISHED);
    memory.write(&context.machine, &context.workspace, settings.project())
}

/// Containers whose network was removed reach nobody and do not start again:
/// they are made anew. Data is in volumes.
fn free_stranded(context: &Context, stack: &Stack<'_>) -> Result<()> {
    let containers = stack.containers()?;
    let stranded = stack.engine().stranded(&containers)?;
    if stranded.is_empty() {
        return Ok(());
    }
    context
        .term
        .warn("the stack's network is gone: its containers are made anew, data stays");
    let steps = stack.remove_stranded(&stranded);
    context
        .term
        .task("containers without a network removed", || {
            steps.iter().try_for_each(|step| context.machine.run(step))
        })
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
    if containers.is_empty() {
        return Ok(false);
    }
    let healthy = containers
        .iter()
        .filter(|c| !c.is_one_off())
        .all(|c| c.is_up() && c.is_attached());
    let parts = up_parts(context, &containers, settings, images)?;
    Ok(healthy && memory.did(UP, &parts) && !memory.knows(UNFINISHED))
}

/// All that a running stack was made from, and its containers.
fn up_parts(
    context: &Context,
    containers: &[Container],
    settings: &Settings,
    images: &Images,
) -> Result<Vec<(&'static str, String)>> {
    let root = context.workspace.root();
    let mut parts = phases::made_of(context, settings, containers)?;
    parts.extend([
        (
            "bootstrap",
            folder_fingerprint(&root.join("airflow/bootstrap"))?,
        ),
        (
            "demo",
            folder_fingerprint(&root.join("etl_pipeline/opendental_demo"))?,
        ),
        ("images", format!("{images:?}")),
    ]);
    Ok(parts)
}

fn wait_for_the_truth(context: &Context, settings: &Settings, deploy: &Deploy) -> Result<Truth> {
    let api = Api::new(settings);
    let code = context.workspace.dag_code();
    context.term.task(
        "heartbeat fresh, no import errors, expected DAGs there",
        || wait_for_truth(&api, &deploy.airflow.dags, &code, AIRFLOW_LIMIT),
    )
}

fn dry_run(
    context: &Context,
    engine: &Engine<'_>,
    settings: &Settings,
    deploy: &Deploy,
) -> Result<()> {
    let facts = image::observe(engine, &context.workspace, deploy)?;
    build::print_plan(context, engine, &facts, deploy);
    let images = phases::images(context, engine, deploy, &facts)?;
    if is_up(context, engine, settings, &images)? {
        context.term.say("nothing to do: all is up");
        return Ok(());
    }
    let stack = Stack::open(engine, settings, images)?;
    let mut steps = Vec::new();
    let containers = stack.containers()?;
    let stranded = engine.stranded(&containers)?;
    if !stranded.is_empty() {
        steps.extend(stack.remove_stranded(&stranded));
    }
    if !settings.databases().is_empty() {
        steps.push(stack.up("start the databases", &settings.databases()));
    }
    if settings.source() == Store::Ours && !phases::is_seeded(context, &stack)? {
        steps.push(phases::seed_step(&stack));
    }
    if !phases::is_initialised(context, &stack)? {
        steps.push(phases::init_step(&stack));
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
fn summary(
    context: &Context,
    settings: &Settings,
    deploy: &Deploy,
    images: &Images,
    truth: &Truth,
) {
    let paused = if truth.paused.is_empty() {
        String::new()
    } else {
        format!(" (paused: {})", truth.paused.join(", "))
    };
    let next = truth.next_run_text();
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
    let permitted = settings.or("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE", "false") == "true";
    // What to type next is a help; the stack is up either way.
    let active = nightly::active(&Api::new(settings), &deploy.airflow.nightly);
    let flag = match (active.is_ok_and(|run| run.is_some()), permitted) {
        (true, _) => " --follow",
        (false, true) => " --ignore-business-hours",
        (false, false) => "",
    };
    context
        .term
        .say(&format!("  next: cargo xtask nightly{flag}"));
}

/// Opens a page where a person sits.
pub(super) fn open(context: &Context, url: &str) -> Result<()> {
    let opener = ["xdg-open", "open"]
        .iter()
        .find_map(|name| which::which(name).ok());
    match opener {
        Some(program) => context.machine.run(&Step::new(
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
