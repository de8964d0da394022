//! `push --host`: the image of this tree to another machine, without a registry.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use xshell::cmd;

use super::{build, print_json, verify};
use crate::cli;
use crate::context::Context;
use crate::engine::Engine;
use crate::exec::{Machine, Step, plural};
use crate::host::images::{self, Arrived};
use crate::image::{Saved, Scratch};

pub(super) fn run(context: &Context, args: &cli::Push, name: &str) -> Result<()> {
    let deploy = context.deploy()?;
    let host = deploy.host(name)?;
    let engine = context.engine()?;
    let (facts, _) = build::to_push(context, &engine, &deploy, args)?;
    let image = facts.image();
    let told = |layers: usize, bytes: u64| {
        if args.json {
            print_json(&json!({"image": image, "host": name, "layers": layers, "bytes": bytes}))
        } else {
            Ok(())
        }
    };
    let ours = engine.raw_images(&[&image])?;
    let layers = ours.first().map(verify::layers).unwrap_or_default();
    if layers.is_empty() {
        context
            .term
            .say(&format!("would build {image} and bring it to {name}"));
        return Ok(());
    }
    let machine = context.over(name, host)?;
    let inputs = facts.fingerprint.as_ref().map(ToString::to_string);
    let there = images::find(&machine, &image)?;
    if there.is_some_and(|there| there.is_made_of(&layers, &inputs.unwrap_or_default())) {
        context.term.done(&format!("{name} has {image} already"));
        return told(0, 0);
    }
    if args.dry.dry_run {
        let lacks = layers.len() - images::known(&machine, &layers)?;
        context.term.say(&format!(
            "would bring {image} to {name}: {} of {}",
            plural(lacks, "layer"),
            layers.len()
        ));
        return Ok(());
    }
    let arrived = carry(context, &engine, &machine, &image, name, layers.len())?;
    told(arrived.layers, arrived.bytes)
}

/// Takes an image out of this engine and brings it to the host `name`.
pub(super) fn carry(
    context: &Context,
    engine: &Engine<'_>,
    machine: &Machine,
    image: &str,
    name: &str,
    layers: usize,
) -> Result<Arrived> {
    let folder = format!("bring-{}", std::process::id());
    let scratch = Scratch::make(context.workspace.cache().join(folder))?;
    let archive = scratch.path().join("image.tar");
    let docker = engine.docker();
    let save = cmd!(engine.sh(), "{docker} save --output {archive} {image}");
    let saved = context
        .term
        .task(&format!("{image}, out of the engine"), || {
            context.machine.run(&Step::new("save the image", save))?;
            Saved::read(&archive, scratch.path())
        })?;
    let started = Instant::now();
    let arrived = context.term.task(&format!("{image} to {name}"), || {
        images::bring(machine, &saved, image)
    })?;
    let size = match arrived.bytes {
        bytes @ ..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        bytes => format!("{} MB", bytes / 1_000_000),
    };
    context.term.done(&format!(
        "{name} has {image}: {} of {} travelled, {size} in {:.1} s",
        plural(arrived.layers, "layer"),
        layers,
        started.elapsed().as_secs_f64()
    ));
    Ok(arrived)
}
