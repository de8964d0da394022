//! Observe → plan → run for the image: built once per hash of its inputs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xshell::{Shell, cmd};

use super::base::{Base, BaseName, Wanted};
use super::fingerprint::Fingerprint;
use super::inputs::image_inputs;
use super::manifest::Manifest;
use crate::config::{Deploy, Workspace, environment};
use crate::engine::{BuildKit, Engine, Image};
use crate::exec::Step;

/// The full hash of an image's inputs.
pub(crate) const LABEL_INPUTS: &str = "dental.image.inputs";
/// Its parts, as JSON.
const LABEL_MANIFEST: &str = "dental.image.manifest";
/// The lock that was installed: the first 16 hex digits of its sha256.
const LABEL_LOCK: &str = "dental.image.lock";
/// What is hashed, and how.
const LABEL_SCHEME: &str = "dental.image.scheme";
/// The time of everything that a build makes, in seconds since 1970: the first
/// of January 1980, before which a zip archive cannot name a day.
const EPOCH: &str = "315532800";
/// The packages of the image, with their hashes.
const LOCK: &str = "requirements-airflow.lock";

/// All that decides what a build has to do.
#[derive(Debug, Clone)]
pub(crate) struct BuildFacts {
    /// `airflow-dbt-dental`
    pub(crate) name: String,
    /// The Dockerfile, relative to the root.
    pub(crate) dockerfile: String,
    /// The base that it stands on; `None` where it has to be had first.
    pub(crate) base: Option<Base>,
    /// The hash of the inputs, as soon as the base is known.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Its parts; without a base they are not complete.
    pub(crate) manifest: Manifest,
    /// The engine's image by that hash.
    pub(crate) present: Option<Image>,
    /// A CA bundle that only this machine knows.
    pub(crate) ca: Option<PathBuf>,
}

impl BuildFacts {
    /// `airflow-dbt-dental:<12 hex>`, or a named placeholder.
    pub(crate) fn image(&self) -> String {
        let tag = self
            .fingerprint
            .as_ref()
            .map_or_else(|| "<hash of inputs>".to_owned(), Fingerprint::tag);
        format!("{}:{tag}", self.name)
    }

    /// The name by which Compose finds it without xtask.
    pub(crate) fn latest(&self) -> String {
        format!("{}:latest", self.name)
    }

    fn is_latest(&self) -> bool {
        self.present
            .as_ref()
            .is_some_and(|image| image.repo_tags.contains(&self.latest()))
    }
}

/// Reads the inputs and what the engine has; changes nothing.
pub(crate) fn observe(
    engine: &Engine<'_>,
    workspace: &Workspace,
    deploy: &Deploy,
) -> Result<BuildFacts> {
    let inputs = image_inputs(workspace.root(), &deploy.image.dockerfile)?;
    let wanted = Wanted::read(workspace, &deploy.bases, BaseName::Airflow)?;
    let latest = format!("{}:latest", deploy.image.name);
    // The image of the last build is nearly always the one that is wanted.
    let [upstream, equivalent] = wanted.references();
    let images = engine.images(&[upstream, equivalent, &latest])?;
    let base = wanted.among(&images);
    let mut settings = vec![
        ("build-arg SOURCE_DATE_EPOCH", EPOCH),
        ("dockerfile", deploy.image.dockerfile.as_str()),
    ];
    if let Some(base) = &base {
        settings.extend([
            ("base", base.name()),
            ("base content", base.identity.as_str()),
            ("platform", base.platform.as_str()),
        ]);
    }
    let (manifest, fingerprint) = Manifest::of(&settings, &inputs);
    let mut facts = BuildFacts {
        name: deploy.image.name.clone(),
        dockerfile: deploy.image.dockerfile.clone(),
        fingerprint: base.is_some().then_some(fingerprint),
        base,
        manifest,
        present: None,
        ca: environment::ca_bundle(),
    };
    if let Some(fingerprint) = &facts.fingerprint {
        let (name, hash) = (facts.image(), fingerprint.to_string());
        // The label is the truth; a tag can be moved by hand.
        let is_it =
            |image: &Image| image.answers_to(&name) && image.label(LABEL_INPUTS) == Some(&hash);
        facts.present = match images.into_iter().find(is_it) {
            Some(image) => Some(image),
            None => engine.image(&name)?.filter(is_it),
        };
    }
    Ok(facts)
}

/// The steps that make the facts right; none where they are.
pub(crate) fn plan(engine: &Engine<'_>, facts: &BuildFacts) -> Vec<Step> {
    let (docker, sh) = (engine.docker(), engine.sh());
    let (image, latest) = (facts.image(), facts.latest());
    if facts.is_latest() {
        return Vec::new();
    }
    if facts.present.is_some() {
        return vec![Step::new(
            "tag the image",
            cmd!(sh, "{docker} tag {image} {latest}"),
        )];
    }
    vec![here(engine, facts, &[&image, &latest], &[])]
}

/// A build that uses nothing from before: no layer, and no package that was
/// fetched already.
pub(crate) fn build_from_nothing(engine: &Engine<'_>, facts: &BuildFacts, name: &str) -> Step {
    let cold = [
        "--no-cache",
        "--progress",
        "plain",
        "--build-arg",
        "CACHE=/mnt/cold",
    ];
    here(engine, facts, &[name], &cold)
}

fn here(engine: &Engine<'_>, facts: &BuildFacts, names: &[&str], more: &[&str]) -> Step {
    let by = Builder {
        sh: engine.sh(),
        docker: engine.docker(),
        buildkit: engine.buildkit(),
        folder: ".",
        ca: facts.ca.as_deref(),
    };
    build_step(&by, facts, names, more)
}

/// What builds, and where.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    /// The factory for `cmd!`.
    pub(crate) sh: &'a Shell,
    /// The program.
    pub(crate) docker: &'a Path,
    /// What it builds with.
    pub(crate) buildkit: Option<BuildKit>,
    /// Where the inputs are.
    pub(crate) folder: &'a str,
    /// A CA bundle that only that machine knows.
    pub(crate) ca: Option<&'a Path>,
}

/// The build of the image under `names`.
pub(crate) fn build_step(
    by: &Builder<'_>,
    facts: &BuildFacts,
    names: &[&str],
    more: &[&str],
) -> Step {
    let (docker, folder) = (by.docker, by.folder);
    let dockerfile = match folder {
        "." => facts.dockerfile.clone(),
        folder => format!("{folder}/{}", facts.dockerfile),
    };
    let base = facts
        .base
        .as_ref()
        .map_or("<base>", |base| base.reference.as_str());
    let mut step = Step::new(
        "build the image",
        cmd!(by.sh, "{docker} build --file {dockerfile}"),
    )
    .env("DOCKER_BUILDKIT", "1");
    for name in names {
        step = step.args(["--tag", name]);
    }
    step = step
        .arg("--build-arg")
        .arg(format!("BASE_IMAGE={base}"))
        .arg("--build-arg")
        .arg(format!("SOURCE_DATE_EPOCH={EPOCH}"))
        .args(more.iter().copied());
    if by.buildkit == Some(BuildKit::Plugin) {
        // An attestation names the time of the build, and would be part of the digest.
        step = step.arg("--provenance=false");
    }
    for label in labels(facts, base) {
        step = step.arg("--label").arg(label);
    }
    if let Some(ca) = by.ca {
        step = step
            .arg("--secret")
            .arg(format!("id=ca,src={}", ca.display()));
    }
    step.arg(folder)
}

/// All of them follow from the inputs: the same inputs give the same image at
/// any commit.
fn labels(facts: &BuildFacts, base: &str) -> Vec<String> {
    let hash = facts
        .fingerprint
        .as_ref()
        .map_or_else(|| "<hash of inputs>".to_owned(), ToString::to_string);
    let name = facts.base.as_ref().map_or(base, Base::name);
    let mut labels = vec![
        format!("{LABEL_INPUTS}={hash}"),
        format!("{LABEL_SCHEME}={}", facts.manifest.scheme),
        format!("{LABEL_MANIFEST}={}", facts.manifest.to_json()),
        format!("org.opencontainers.image.title={}", facts.name),
        format!("org.opencontainers.image.base.name={name}"),
    ];
    if let Some(lock) = facts.manifest.files.get(LOCK) {
        let hash = lock.split(' ').next_back().unwrap_or(lock);
        labels.push(format!("{LABEL_LOCK}={hash}"));
    }
    let digest = facts.base.as_ref().and_then(Base::digest);
    labels.extend(digest.map(|digest| format!("org.opencontainers.image.base.digest={digest}")));
    labels
}

/// The parts that an image was made of, where it says so.
pub(crate) fn manifest_of(image: &Image) -> Option<Manifest> {
    serde_json::from_str(image.label(LABEL_MANIFEST)?).ok()
}

/// Images that neither this tree nor a container uses: none of their names is
/// in `kept`, their id not in `used`. What somebody has named otherwise than after
/// `ours` is theirs.
pub(crate) fn prunable<'i>(
    images: &'i [Image],
    ours: &str,
    kept: &[String],
    used: &[String],
) -> Vec<&'i Image> {
    images
        .iter()
        .filter(|image| !image.repo_tags.iter().any(|tag| kept.contains(tag)))
        .filter(|image| !used.contains(&image.id))
        .filter(|image| image.repo_tags.iter().all(|tag| tag.contains(ours)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_by_itself_builds_with_the_same_time() {
        let dockerfile = include_str!("../../../Dockerfile.airflow");
        assert!(dockerfile.contains(&format!("\nARG SOURCE_DATE_EPOCH={EPOCH}\n")));
    }
}
