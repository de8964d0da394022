//! `push`: the image of this tree to a registry, under its hash, its git revision
//! and channels.

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use xshell::cmd;

use super::host::bring;
use super::{build, print_json, summary};
use crate::cli;
use crate::context::Context;
use crate::engine::{Engine, Image};
use crate::error::Failure;
use crate::exec::Step;
use crate::image::{self, BuildFacts, GitState, Held};

/// One name in the registry.
#[derive(Debug, Serialize)]
pub(super) struct Pushed {
    pub(super) reference: String,
    #[serde(flatten)]
    pub(super) held: Held,
    /// False where the registry held it already.
    pushed: bool,
}

pub(crate) fn run(context: &Context, args: &cli::Push) -> Result<()> {
    if let Some(host) = &args.host {
        return bring::run(context, args, host);
    }
    let deploy = context.deploy()?;
    let Some(registry) = args.registry.as_ref().or(deploy.image.registry.as_ref()) else {
        return Err(Failure::user("failed to push: no registry is named")
            .hint("cargo xtask push --registry registry.example.com/team\nor --host NAME, a host of deploy.toml\nor registry = \"…\" under [image] in deploy.toml")
            .into());
    };
    let engine = context.engine()?;
    let (facts, git) = build::to_push(context, &engine, &deploy, None, args)?;
    let names = references(registry, &facts, git.as_ref(), &args.channel);
    let Some(image) = facts.present.as_ref().filter(|_| !args.dry.dry_run) else {
        for name in &names {
            context
                .term
                .say(&format!("would push {name}, unless the registry holds it"));
        }
        return Ok(());
    };
    let mut done = Vec::new();
    for name in &names {
        let source = facts.image();
        let is_hash = names.first() == Some(name);
        done.push(push(context, &engine, &source, image, name, is_hash)?);
    }
    let lines = done.iter().map(|one| {
        let what = if one.pushed { "pushed" } else { "was there" };
        format!("{}  {}  {what}", one.reference, one.held.digest)
    });
    let title = format!("{} in {registry}", facts.image());
    summary::page(&title, &lines.collect::<Vec<_>>().join("\n"))?;
    if args.json {
        print_json(&json!({
            "image": facts.image(),
            "tag": facts.fingerprint.as_ref().map(image::Fingerprint::tag),
            "digest": done.first().map(|first| &first.held.digest),
            "pushed": done,
            "git": git,
        }))?;
    }
    Ok(())
}

/// The hash first: the others are other names of it.
fn references(
    registry: &str,
    facts: &BuildFacts,
    git: Option<&GitState>,
    channels: &[String],
) -> Vec<String> {
    let registry = registry.trim_end_matches('/');
    let hash = facts.fingerprint.as_ref().map(image::Fingerprint::tag);
    let tags = hash
        .into_iter()
        .chain(git.map(GitState::tag))
        .chain(channels.iter().cloned());
    tags.map(|tag| format!("{registry}/{}:{tag}", facts.name))
        .collect()
}

/// Brings the image that is `source` here to one name there, unless it is there, and
/// sees that it arrived.
pub(super) fn push(
    context: &Context,
    engine: &Engine<'_>,
    source: &str,
    image: &Image,
    reference: &str,
    is_hash: bool,
) -> Result<Pushed> {
    let before = image::held(engine, reference)?;
    let done = |held: Held, pushed| Pushed {
        reference: reference.to_owned(),
        held,
        pushed,
    };
    if let Some(held) = before {
        if held.is(image) {
            context
                .term
                .done(&format!("{reference} is there already, {}", held.digest));
            return Ok(done(held, false));
        }
        if is_hash {
            // Others run it: a name by hash never moves.
            return Err(Failure::user(format!(
                "failed to push {reference}: the registry holds another build of the same inputs, {}",
                held.digest
            ))
            .hint(format!(
                "use that one: docker pull {reference} && docker tag {reference} {}\nthen push again",
                source
            ))
            .into());
        }
    }
    let docker = engine.docker();
    context.machine.run(&Step::new(
        format!("name the image {reference}"),
        cmd!(engine.sh(), "{docker} tag {source} {reference}"),
    ))?;
    context.term.task(&format!("{reference} pushed"), || {
        image::push(engine, reference)
    })?;
    match image::held(engine, reference)? {
        Some(held) if held.is(image) => {
            context.term.say(&format!("  {}", held.digest));
            Ok(done(held, true))
        }
        other => Err(Failure::tool(format!(
            "failed to find what was pushed: {reference} is {} in the registry",
            other.map_or_else(|| "not there".to_owned(), |held| held.digest)
        ))
        .hint("somebody else pushes to the same name, or a proxy answers from memory: push again")
        .into()),
    }
}
