//! `prune`: removes images of earlier builds.

use anyhow::Result;
use xshell::cmd;

use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Step, plural};
use crate::image::{self, LABEL_INPUTS};

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
    let images = engine.labelled(LABEL_INPUTS)?;
    let used = engine.images_in_use()?;
    let old = image::prunable(&images, facts.fingerprint.as_ref(), &used);
    let ids: Vec<&str> = old.iter().map(|image| image.id.as_str()).collect();
    if ids.is_empty() {
        context.term.done("no images of earlier builds");
        return Ok(());
    }
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
