//! `build --verify`: whether the same inputs give the same image.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use xshell::cmd;

use super::print_json;
use crate::config::Deploy;
use crate::context::Context;
use crate::engine::{Engine, require_buildkit};
use crate::error::Failure;
use crate::exec::{Step, plural};
use crate::image::{self, BaseName, Difference};

/// Differing files that are shown.
const SHOWN: usize = 20;
/// What the engine notes of an image beside what the image is.
const NOTES: [&str; 6] = [
    "Id",
    "RepoTags",
    "RepoDigests",
    "Metadata",
    "Descriptor",
    "GraphDriver",
];
/// Engines from here on set the image's own time to `SOURCE_DATE_EPOCH`.
const SETS_TIME: u32 = 23;

/// How two builds compare; the JSON.
#[derive(Debug, Serialize)]
struct Verdict {
    /// `airflow-dbt-dental:<12 hex>` of the inputs.
    image: String,
    /// Both builds have the same layers.
    layers_equal: bool,
    /// And the same id, the digest of the image's config or manifest.
    digests_equal: bool,
    /// The ids, in the order of the builds.
    digests: [String; 2],
    /// Digests of the layers that stand on the base's.
    own_layers: Vec<String>,
    /// The engine's image of these inputs has the same layers; null where it has
    /// none.
    same_as_built: Option<bool>,
    /// Fields of the image that differ, layers and files apart.
    fields: Vec<String>,
    /// Layers and files that differ.
    differences: Vec<String>,
    /// Wall time of each build.
    seconds: [f64; 2],
}

/// Builds twice with nothing from before and compares.
///
/// # Errors
/// Where the layers differ, or where the digests do though the engine could
/// have made them equal.
pub(super) fn run(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    json: bool,
) -> Result<()> {
    require_buildkit(&context.machine)?;
    let bases = [BaseName::Airflow];
    image::ensure_bases(engine, &context.workspace, &deploy.bases, &bases, false)?;
    let facts = image::observe(engine, &context.workspace, deploy)?;
    let names = ["verify-1", "verify-2"].map(|tag| format!("{}:{tag}", facts.name));
    let mut seconds = [0.0; 2];
    for (n, name) in names.iter().enumerate() {
        let step = image::build_from_nothing(engine, &facts, name);
        let what = format!("build {} of 2, from nothing", n + 1);
        let started = Instant::now();
        context.term.task(&what, || context.machine.run(&step))?;
        seconds[n] = started.elapsed().as_secs_f64();
    }
    let found = engine.raw_images(&[&names[0], &names[1], &facts.image()])?;
    let base = facts.base.as_ref().map(|base| base.reference.as_str());
    let base = engine.raw_images(&base.into_iter().collect::<Vec<_>>())?;
    let [a, b] = [0, 1].map(|at| found.get(at).cloned().unwrap_or_default());
    let differing: Vec<usize> = {
        let (a, b) = (layers(&a), layers(&b));
        (0..a.len().max(b.len()))
            .filter(|n| a.get(*n) != b.get(*n))
            .collect()
    };
    let differences = if differing.is_empty() {
        Vec::new()
    } else {
        explain(context, engine, &names, &differing)?
    };
    let below = base.first().map_or(0, |base| layers(base).len());
    let verdict = Verdict {
        image: facts.image(),
        layers_equal: differing.is_empty(),
        digests_equal: id(&a) == id(&b),
        digests: [id(&a), id(&b)],
        own_layers: layers(&a).split_off(below.min(layers(&a).len())),
        same_as_built: found.get(2).map(|built| layers(built) == layers(&a)),
        fields: fields(&a, &b),
        differences: differences.iter().map(ToString::to_string).collect(),
        seconds,
    };
    forget(context, engine, &names)?;
    if json {
        print_json(&verdict)?;
    }
    judge(context, &verdict, engine.major()?)
}

fn judge(context: &Context, verdict: &Verdict, engine: u32) -> Result<()> {
    let own = plural(verdict.own_layers.len(), "layer");
    let [first, second] = verdict.seconds;
    let took = context
        .term
        .dim(&format!("  {first:.1} s and {second:.1} s"));
    if !verdict.layers_equal {
        if verdict.differences.is_empty() {
            context
                .term
                .say("  the same files, packed in another order or with other headers");
        }
        for line in verdict.differences.iter().take(SHOWN) {
            context.term.say(&format!("  {line}"));
        }
        let left = verdict.differences.len().saturating_sub(SHOWN);
        if left > 0 {
            context.term.say(&format!("  … and {left} more"));
        }
        return Err(Failure::tool("failed to build the same layers twice")
            .hint("the files above depend on more than the image's inputs; Dockerfile.airflow says how to keep them from it")
            .into());
    }
    if verdict.same_as_built == Some(false) {
        context.term.warn(&format!(
            "{} in the engine has other layers than both: it was built on another copy of the base; \
             docker image rm {} and cargo xtask build make it anew",
            verdict.image, verdict.image
        ));
    }
    if verdict.digests_equal {
        context.term.done(&format!(
            "two builds from nothing are one image, {}; {own} on the base{took}",
            verdict.digests[0]
        ));
        return Ok(());
    }
    let fields = verdict.fields.join(", ");
    if engine < SETS_TIME && verdict.fields == ["Created"] {
        context.term.done(&format!(
            "two builds from nothing have the same layers; {own} on the base{took}"
        ));
        context.term.say(&format!(
            "  the image's digest differs by its field Created alone, which engines before {SETS_TIME} \
             set to the time of the build: layers were compared"
        ));
        return Ok(());
    }
    Err(Failure::tool(format!(
        "failed to build the same image twice: its layers are equal, its fields {fields} are not"
    ))
    .into())
}

/// The layers' files, held against each other in archives of both images.
fn explain(
    context: &Context,
    engine: &Engine<'_>,
    names: &[String; 2],
    layers: &[usize],
) -> Result<Vec<Difference>> {
    let folder = context
        .workspace
        .cache()
        .join(format!("verify-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let archives = names.each_ref().map(|name| {
        let tag = name.rsplit(':').next().unwrap_or(name);
        folder.join(format!("{tag}.tar"))
    });
    let docker = engine.docker();
    let found = context.term.task("layers compared file by file", || {
        for (name, archive) in names.iter().zip(&archives) {
            context.machine.run(&Step::new(
                format!("save {name}"),
                cmd!(engine.sh(), "{docker} save --output {archive} {name}"),
            ))?;
        }
        image::differences(&archives[0], &archives[1], layers)
    });
    fs::remove_dir_all(&folder)
        .with_context(|| format!("failed to remove {}", folder.display()))?;
    found
}

fn forget(context: &Context, engine: &Engine<'_>, names: &[String; 2]) -> Result<()> {
    let docker = engine.docker();
    context.machine.run(&Step::new(
        "remove the two builds",
        cmd!(engine.sh(), "{docker} image rm {names...}"),
    ))
}

/// Digests of its layers, the base's first.
pub(super) fn layers(image: &Value) -> Vec<String> {
    let list = image["RootFS"]["Layers"].as_array();
    let text = |layer: &Value| layer.as_str().map(str::to_owned);
    list.into_iter().flatten().filter_map(text).collect()
}

fn id(image: &Value) -> String {
    image["Id"].as_str().unwrap_or_default().to_owned()
}

/// Names of the fields that differ, but for the engine's own notes and layers.
fn fields(a: &Value, b: &Value) -> Vec<String> {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return Vec::new();
    };
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| {
        !NOTES.contains(&name.as_str()) && *name != "RootFS" && a.get(*name) != b.get(*name)
    };
    names.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_engine_notes_is_no_field_of_the_image() {
        let image = |id: &str, created: &str, user: &str| {
            json!({
                "Id": id, "RepoTags": [id], "Created": created, "Metadata": {"LastTagTime": id},
                "Config": {"User": user}, "RootFS": {"Layers": ["sha256:1", "sha256:2"]},
            })
        };
        let (a, b) = (image("a", "1", "u"), image("b", "1", "u"));
        assert_eq!(fields(&a, &b), [""; 0]);
        assert_eq!(fields(&a, &image("c", "2", "u")), ["Created"]);
        assert_eq!(fields(&a, &image("c", "2", "v")), ["Config", "Created"]);
        assert_eq!(layers(&a), ["sha256:1", "sha256:2"]);
    }
}
