//! `build`: the image, once per hash of its inputs.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::print_json;
use crate::cli;
use crate::config::Deploy;
use crate::context::Context;
use crate::engine::{BUILDKIT_HINT, Engine, clis};
use crate::error::Failure;
use crate::image::{self, BaseName, BuildFacts};

pub(crate) fn run(context: &Context, args: &cli::Build) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
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
            "files": facts.files,
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
    image::ensure_bases(engine, &context.workspace, &deploy.bases, bases, pull)?;
    let facts = image::observe(engine, &context.workspace, deploy)?;
    let steps = image::plan(engine, &facts);
    if facts.present.is_some() {
        for step in &steps {
            context.machine.run(step)?;
        }
        context.term.done(&format!(
            "image {} is there; inputs unchanged",
            facts.image()
        ));
        return Ok(facts);
    }
    refuse_without_buildkit(context)?;
    context.term.say(&format!(
        "building {} from {} files",
        facts.image(),
        facts.files
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
    context
        .term
        .done(&format!("image {} is built", built.image()));
    Ok(built)
}

fn refuse_without_buildkit(context: &Context) -> Result<()> {
    let clis = clis(&context.machine);
    if clis.iter().any(|cli| cli.buildkit.is_ok()) {
        return Ok(());
    }
    let each: Vec<String> = clis
        .iter()
        .filter_map(|cli| Some(format!("{} {}", cli.path.display(), cli.buildkit.err()?)))
        .collect();
    Err(Failure::user(format!(
        "failed to find a docker that builds with BuildKit: {}",
        each.join("; ")
    ))
    .hint(BUILDKIT_HINT))
    .context("failed to build the image")
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
    for step in &steps {
        context.term.say(&format!("would run: {}", step.line()));
    }
}
