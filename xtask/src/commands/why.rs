//! `build --why`: what makes the image of this tree another one.

use anyhow::Result;
use serde::Serialize;

use super::{print_json, summary};
use crate::config::Deploy;
use crate::context::Context;
use crate::engine::Engine;
use crate::error::Failure;
use crate::image::{self, BuildFacts, Change, LastBuild, Manifest, Revision};

/// What a tree is held against.
#[derive(Debug)]
struct Earlier {
    /// For a person: `the image that runs`.
    what: String,
    /// Its name.
    image: String,
    manifest: Manifest,
}

/// The answer, as JSON.
#[derive(Debug, Serialize)]
struct Why<'a> {
    /// The image of this tree.
    image: String,
    /// Whether the engine has it.
    present: bool,
    /// It was built here and is gone from the engine.
    pruned: bool,
    /// What it was held against.
    since: Option<&'a str>,
    since_image: Option<&'a str>,
    changes: &'a [Change],
}

/// Explains; builds nothing.
pub(super) fn explain(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    since: Option<&str>,
    json: bool,
) -> Result<()> {
    let facts = image::observe(engine, &context.workspace, deploy)?;
    let last = LastBuild::read(&context.workspace);
    let earlier = match since {
        None => match running(context, engine)? {
            Some(running) => Some(running),
            None => latest(engine, deploy, last.as_ref())?,
        },
        Some("running") => Some(running(context, engine)?.ok_or_else(|| {
            Failure::user("failed to find an image that runs: the stack is down, or its image does not say what it was made of")
                .hint("cargo xtask build --why --since last")
        })?),
        Some("last") => latest(engine, deploy, last.as_ref())?,
        Some(name) => Some(named(context, engine, deploy, name)?),
    };
    let changes = earlier
        .as_ref()
        .map(|e| facts.manifest.changes_since(&e.manifest));
    let changes = changes.unwrap_or_default();
    let why = Why {
        image: facts.image(),
        present: facts.present.is_some(),
        pruned: is_pruned(&facts, last.as_ref()),
        since: earlier.as_ref().map(|e| e.what.as_str()),
        since_image: earlier.as_ref().map(|e| e.image.as_str()),
        changes: &changes,
    };
    if json {
        return print_json(&why);
    }
    summary::tell("What moved the image", &text(&why))
}

fn text(why: &Why<'_>) -> String {
    let mut lines = Vec::new();
    match (why.since, why.since_image) {
        (Some(what), Some(image)) if why.changes.is_empty() => {
            lines.push(format!("inputs are those of {what}, {image}"));
        }
        (Some(what), Some(image)) => {
            lines.push(format!("since {what}, {image}:"));
            lines.extend(why.changes.iter().map(|change| format!("  {change}")));
        }
        _ => lines.push("nothing was built from this checkout before".to_owned()),
    }
    let image = &why.image;
    lines.push(if why.present {
        format!("{image} is there")
    } else if why.pruned {
        format!("{image} was built before and is gone from the engine: cargo xtask build")
    } else {
        format!("{image} is not built yet: cargo xtask build")
    });
    lines.join("\n")
}

fn is_pruned(facts: &BuildFacts, last: Option<&LastBuild>) -> bool {
    facts.present.is_none() && last.is_some_and(|last| last.image == facts.image())
}

/// The image that the stack's containers run.
fn running(context: &Context, engine: &Engine<'_>) -> Result<Option<Earlier>> {
    // Without a valid .env there is no stack to ask.
    let Ok(settings) = context.settings() else {
        return Ok(None);
    };
    let containers = engine.containers(settings.project())?;
    let ours = containers
        .iter()
        .find(|c| c.service().starts_with("airflow-") && c.state.status == "running");
    let Some(container) = ours else {
        return Ok(None);
    };
    let found = engine.image(&container.image)?;
    Ok(found
        .as_ref()
        .and_then(image::manifest_of)
        .map(|manifest| Earlier {
            what: "the image that runs".to_owned(),
            image: container.config.image.clone(),
            manifest,
        }))
}

/// The image of the last build; where the engine lost it, what was noted of it.
fn latest(
    engine: &Engine<'_>,
    deploy: &Deploy,
    last: Option<&LastBuild>,
) -> Result<Option<Earlier>> {
    let what = "the last build".to_owned();
    if let Some(last) = last {
        return Ok(Some(Earlier {
            what,
            image: last.image.clone(),
            manifest: last.manifest.clone(),
        }));
    }
    let name = format!("{}:latest", deploy.image.name);
    let found = engine.image(&name)?;
    Ok(found
        .as_ref()
        .and_then(image::manifest_of)
        .map(|manifest| Earlier {
            what,
            image: name,
            manifest,
        }))
}

/// An image by tag or whole name, else a git revision.
fn named(context: &Context, engine: &Engine<'_>, deploy: &Deploy, name: &str) -> Result<Earlier> {
    let tagged = format!("{}:{name}", deploy.image.name);
    for candidate in [tagged.as_str(), name] {
        let found = engine.image(candidate).ok().flatten();
        if let Some(manifest) = found.as_ref().and_then(image::manifest_of) {
            return Ok(Earlier {
                what: "the image".to_owned(),
                image: candidate.to_owned(),
                manifest,
            });
        }
    }
    if let Some(revision) = Revision::unpack(&context.machine, &context.workspace, name)? {
        let facts = image::observe(engine, &revision.workspace, &revision.deploy()?)?;
        return Ok(Earlier {
            what: format!(
                "revision {}",
                &revision.commit[..12.min(revision.commit.len())]
            ),
            image: facts.image(),
            manifest: facts.manifest,
        });
    }
    Err(Failure::user(format!(
        "failed to find {name}: it is neither an image that says what it was made of nor a git revision"
    ))
    .hint(format!("docker image ls {}", deploy.image.name))
    .into())
}
