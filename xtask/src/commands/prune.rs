//! `prune`: removes images of earlier builds.

use anyhow::Result;
use xshell::cmd;

use crate::cli;
use crate::config::Deploy;
use crate::context::Context;
use crate::engine::{Engine, Image};
use crate::error::Failure;
use crate::exec::{Step, plural};
use crate::image::{self, BaseName, BuildFacts, LABEL_INPUTS, LABEL_RECIPE};
use crate::testing::{RIVALS, TESTS, TestImage};

pub(crate) fn run(context: &Context, args: &cli::DryRun) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let facts = image::observe(&engine, &context.workspace, &deploy)?;
    if facts.fingerprint.is_none() {
        return Err(Failure::user(
            "failed to tell the image of this tree from those of earlier builds: its base is not here",
        )
        .hint("cargo xtask build")
        .into());
    }
    // Test images carry the label of the image below them.
    let mut images = engine.labelled(LABEL_INPUTS)?;
    images.extend(engine.labelled(LABEL_RECIPE)?);
    images.sort_by(|a, b| a.id.cmp(&b.id));
    images.dedup_by(|a, b| a.id == b.id);
    let kept = kept(context, &engine, &deploy, &facts)?;
    let old = image::prunable(&images, &deploy.image.name, &kept, &engine.images_in_use()?);
    if old.is_empty() {
        context.term.done("no images of earlier builds");
        return Ok(());
    }
    for image in &old {
        context.term.say(&format!("  {}", names(image)));
    }
    let ids: Vec<&str> = old.iter().map(|image| image.id.as_str()).collect();
    let done = format!("{} removed", plural(ids.len(), "image"));
    let docker = engine.docker();
    let step = Step::new(
        "remove images of earlier builds",
        cmd!(engine.sh(), "{docker} image rm --force {ids...}"),
    );
    if args.dry_run {
        context.term.say(&format!("would run: {}", step.line()));
        return Ok(());
    }
    context.term.task(&done, || context.machine.run(&step))
}

/// The names of this tree's own image, of those on top of it, and of its bases.
fn kept(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    facts: &BuildFacts,
) -> Result<Vec<String>> {
    let mut kept = vec![facts.image()];
    for recipe in [TESTS, RIVALS] {
        kept.push(TestImage::of(context, facts, recipe)?.0);
    }
    for name in BaseName::ALL {
        let base = image::find_base(engine, &context.workspace, &deploy.bases, name)?;
        kept.extend(base.map(|base| base.reference));
    }
    Ok(kept)
}

/// As `docker image ls` shows it.
fn names(image: &Image) -> String {
    match image.repo_tags.as_slice() {
        [] => format!("{} (no name)", image.id),
        tags => tags.join(", "),
    }
}
