//! `build`: the image, once per hash of its inputs.

use anyhow::Result;
use serde_json::json;

use super::{print_json, verify, why};
use crate::cli;
use crate::config::{Deploy, Host, Transport};
use crate::context::Context;
use crate::engine::{Engine, require_buildkit};
use crate::error::Failure;
use crate::image::{self, BaseName, BuildFacts, Fetched, GitState, LastBuild};

/// Files that decide an image without being in it.
const DECIDING: [&str; 3] = [".dockerignore", "bases", "deploy.toml"];

pub(crate) fn run(context: &Context, args: &cli::Build) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    if args.why {
        return why::explain(context, &engine, &deploy, args.since.as_deref(), args.json);
    }
    if let Some(platform) = &args.platform {
        let bases = &deploy.bases;
        let base = image::find_base(&engine, &context.workspace, bases, BaseName::Airflow)?;
        image::refuse_other_platform(&engine, platform, base.as_ref())?;
    }
    if args.verify {
        return verify::run(context, &engine, &deploy, args.json);
    }
    let facts = if args.dry.dry_run {
        let facts = image::observe(&engine, &context.workspace, &deploy)?;
        print_plan(context, &engine, &facts, &deploy);
        facts
    } else {
        ensure(context, &engine, &deploy, &[BaseName::Airflow], args.pull)?
    };
    if args.json {
        print_json(&json!({
            "image": facts.image(),
            "inputs": facts.fingerprint.as_ref().map(ToString::to_string),
            "files": facts.manifest.files.len(),
            "base": facts.base.as_ref().map(|b| &b.reference),
            "present": facts.present.is_some(),
        }))?;
    }
    Ok(())
}

/// Sees to it that the engine has the bases and the image of this tree.
pub(crate) fn ensure(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    bases: &[BaseName],
    pull: bool,
) -> Result<BuildFacts> {
    let mut facts = on_bases(context, engine, deploy, bases, pull)?;
    if facts.present.is_none() && fetched(context, engine, deploy, &facts)? {
        facts = image::observe(engine, &context.workspace, deploy)?;
    }
    let steps = image::plan(engine, &facts);
    if facts.present.is_some() {
        for step in &steps {
            context.machine.run(step)?;
        }
        remember(context, &facts)?;
        context.term.done(&format!(
            "image {} is there; inputs unchanged",
            facts.image()
        ));
        name_what_is_dirty(context, &facts)?;
        return Ok(facts);
    }
    require_buildkit(&context.machine)?;
    context.term.say(&format!(
        "building {} from {} files",
        facts.image(),
        facts.manifest.files.len()
    ));
    for step in &steps {
        context.machine.show(step)?;
    }
    let built = image::observe(engine, &context.workspace, deploy)?;
    if built.fingerprint != facts.fingerprint {
        return Err(
            Failure::user("failed to build the image: an input changed during the build")
                .hint("cargo xtask build")
                .into(),
        );
    }
    if built.present.is_none() {
        return Err(Failure::tool(format!(
            "failed to find {} in the engine after its build: the selected builder kept it to itself",
            built.image()
        ))
        .hint("docker buildx use default")
        .into());
    }
    remember(context, &built)?;
    context
        .term
        .done(&format!("image {} is built", built.image()));
    if let Some(base) = &built.base {
        let own = image::layer_sizes(engine, &built.image())?;
        let below = image::layer_sizes(engine, &base.reference)?;
        let summary = image::size_summary(&own, below.len());
        context.term.say(&context.term.dim(&format!("  {summary}")));
    }
    name_what_is_dirty(context, &built)?;
    Ok(built)
}

/// Whether the image of this tree came from the registry of deploy.toml. One that cannot
/// be asked keeps nobody from building.
fn fetched(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    facts: &BuildFacts,
) -> Result<bool> {
    let (Some(registry), Some(inputs)) = (&deploy.image.registry, &facts.fingerprint) else {
        return Ok(false);
    };
    let name = facts.image();
    let inputs = inputs.to_string();
    let label = (image::LABEL_INPUTS, inputs.as_str());
    let what = format!("{name}, from {registry}");
    let term = &context.term;
    match term.task(&what, || image::fetch(engine, registry, &name, label))? {
        Fetched::Yes => return Ok(true),
        Fetched::Absent => term.say(&term.dim("  nobody has pushed it yet")),
        Fetched::Failed(why) => term.warn(&format!("it is built here: {why}")),
    }
    Ok(false)
}

/// Sees to it that the engine has the bases; with the Airflow base the image of this
/// tree has its name, built or not.
pub(super) fn on_bases(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    bases: &[BaseName],
    pull: bool,
) -> Result<BuildFacts> {
    let facts = image::observe(engine, &context.workspace, deploy)?;
    // The Airflow base alone was looked at with the image.
    if pull || facts.base.is_none() || bases != [BaseName::Airflow] {
        image::ensure_bases(engine, &context.workspace, &deploy.bases, bases, pull)?;
        if pull || facts.base.is_none() {
            return image::observe(engine, &context.workspace, deploy);
        }
    }
    Ok(facts)
}

/// The image of this tree for a host, with the bases: built here, unless the host
/// builds it by itself.
pub(super) fn for_host(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    host: &Host,
    bases: &[BaseName],
) -> Result<BuildFacts> {
    match host.transport {
        Transport::Build => on_bases(context, engine, deploy, bases, false),
        Transport::Ssh | Transport::Registry => ensure(context, engine, deploy, bases, false),
    }
}

/// The image of this tree, to be brought elsewhere, and what git tells of it. A
/// dry run builds nothing.
///
/// # Errors
/// Where inputs are not committed, unless that is allowed.
pub(super) fn to_push(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    host: Option<&Host>,
    args: &cli::Push,
) -> Result<(BuildFacts, Option<GitState>)> {
    let observed = image::observe(engine, &context.workspace, deploy)?;
    let git = git_state(context, &observed)?;
    refuse_dirty(git.as_ref(), args.allow_dirty)?;
    let bases = [BaseName::Airflow];
    let facts = match (args.dry.dry_run, host) {
        (true, _) => observed,
        (false, None) => ensure(context, engine, deploy, &bases, false)?,
        (false, Some(host)) => for_host(context, engine, deploy, host, &bases)?,
    };
    Ok((facts, git))
}

/// A name that says which commit it is must be of that commit.
fn refuse_dirty(git: Option<&GitState>, allowed: bool) -> Result<()> {
    let Some(git) = git.filter(|git| !git.dirty.is_empty() && !allowed) else {
        return Ok(());
    };
    Err(Failure::user(format!(
        "failed to push: not committed: {}",
        git.dirty.join(", ")
    ))
    .hint("commit, or push it as it is: cargo xtask push --allow-dirty")
    .into())
}

/// What git tells of the inputs of the image.
pub(super) fn git_state(context: &Context, facts: &BuildFacts) -> Result<Option<GitState>> {
    let files = facts.manifest.files.keys().map(String::as_str);
    let paths: Vec<&str> = files.chain(DECIDING).collect();
    GitState::of(&context.machine, &paths)
}

fn name_what_is_dirty(context: &Context, facts: &BuildFacts) -> Result<()> {
    let git = git_state(context, facts)?;
    if let Some(git) = git.filter(|git| !git.dirty.is_empty()) {
        context
            .term
            .warn(&format!("not committed: {}", git.dirty.join(", ")));
    }
    Ok(())
}

fn remember(context: &Context, facts: &BuildFacts) -> Result<()> {
    let last = LastBuild {
        image: facts.image(),
        manifest: facts.manifest.clone(),
    };
    last.keep(&context.machine, &context.workspace)
}

pub(crate) fn print_plan(
    context: &Context,
    engine: &Engine<'_>,
    facts: &BuildFacts,
    deploy: &Deploy,
) {
    let steps = image::plan(engine, facts);
    if facts.base.is_none() {
        context.term.say(&format!(
            "would pull {}, or make an equivalent where the registry cannot be reached",
            deploy.bases.airflow
        ));
    }
    if steps.is_empty() {
        context
            .term
            .say(&format!("nothing to build: {} is there", facts.image()));
    }
    if let Some(registry) = deploy
        .image
        .registry
        .as_ref()
        .filter(|_| facts.present.is_none())
    {
        context.term.say(&format!(
            "would pull {} from {registry}, if it is there; else:",
            facts.image()
        ));
    }
    for step in &steps {
        context.term.say(&format!("would run: {}", step.line()));
    }
}
