//! `hash`: the hash of the image's inputs, and its parts.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::{print, print_json};
use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::image::{self, BuildFacts, Origin};

pub(crate) fn run(context: &Context, args: &cli::Hash) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let facts = image::observe(&engine, &context.workspace, &deploy)?;
    if args.json {
        return print_json(&as_json(&facts));
    }
    let Some(fingerprint) = &facts.fingerprint else {
        return Err(Failure::user(format!(
            "failed to hash the image's inputs: the base {} is not here, and its content is one of them",
            deploy.bases.airflow
        ))
        .hint("cargo xtask build")
        .into());
    };
    let mut text = fingerprint.to_string();
    if args.files {
        let manifest = &facts.manifest;
        for (name, value) in &manifest.settings {
            write!(text, "\n  {name:<13} {value}")?;
        }
        for (path, content) in &manifest.files {
            let (kind, hash) = content.split_once(' ').unwrap_or(("", content));
            write!(text, "\n  {kind:<13} {hash}  {path}")?;
        }
    }
    print(&text)
}

fn as_json(facts: &BuildFacts) -> serde_json::Value {
    json!({
        "hash": facts.fingerprint.as_ref().map(ToString::to_string),
        "image": facts.fingerprint.as_ref().map(|_| facts.image()),
        "scheme": facts.manifest.scheme,
        "settings": facts.manifest.settings,
        "files": facts.manifest.files,
        "base": facts.base.as_ref().map(|base| json!({
            "reference": base.reference,
            "content": base.identity,
            "resolved": base.resolved,
            "origin": match base.origin {
                Origin::Upstream => "registry",
                Origin::Equivalent => "equivalent",
            },
        })),
        "not_pinned": not_pinned(facts),
    })
}

/// What may differ between two builds of one hash.
fn not_pinned(facts: &BuildFacts) -> Vec<String> {
    let mut all = Vec::new();
    match &facts.base {
        None => all.push("the base: unresolved, it is not here yet".to_owned()),
        Some(base) if !base.resolved => all.push(format!(
            "the base {}: unresolved, no registry told its digest; known by this engine's id alone",
            base.reference
        )),
        Some(_) => {}
    }
    all.push(
        "the engine's builder: its version decides the image's config and history, not its layers"
            .to_owned(),
    );
    all
}
