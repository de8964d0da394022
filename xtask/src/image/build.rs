//! Observe → plan → run for the image: built once per hash of its inputs.

use std::path::PathBuf;

use anyhow::Result;
use xshell::cmd;

use super::base::{Base, BaseName, find_base};
use super::fingerprint::Fingerprint;
use super::inputs::image_inputs;
use crate::config::{Deploy, Workspace, environment};
use crate::engine::{Engine, Image};
use crate::exec::Step;

/// The full hash of an image's inputs.
pub(crate) const LABEL_INPUTS: &str = "dental.image.inputs";

/// All that decides what a build has to do.
#[derive(Debug)]
pub(crate) struct BuildFacts {
    /// `airflow-dbt-dental`
    pub(crate) name: String,
    /// The Dockerfile, relative to the root.
    pub(crate) dockerfile: String,
    /// The base that it stands on; `None` where it has to be had first.
    pub(crate) base: Option<Base>,
    /// The hash of the inputs, as soon as the base is known.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// How many files went into it.
    pub(crate) files: usize,
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
    let base = find_base(engine, workspace, &deploy.bases, BaseName::Airflow)?;
    let fingerprint = base.as_ref().map(|base| {
        let settings = [
            ("dockerfile", deploy.image.dockerfile.as_str()),
            ("base", base.identity.as_str()),
            ("platform", base.platform.as_str()),
        ];
        Fingerprint::of(&settings, &inputs)
    });
    let mut facts = BuildFacts {
        name: deploy.image.name.clone(),
        dockerfile: deploy.image.dockerfile.clone(),
        base,
        fingerprint,
        files: inputs.len(),
        present: None,
        ca: environment::ca_bundle(),
    };
    if let Some(fingerprint) = &facts.fingerprint {
        // The label is the truth; a tag can be moved by hand.
        facts.present = engine
            .image(&facts.image())?
            .filter(|image| image.label(LABEL_INPUTS) == Some(&fingerprint.to_string()));
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
    let dockerfile = &facts.dockerfile;
    let base = facts
        .base
        .as_ref()
        .map_or("<base>", |base| base.reference.as_str());
    let hash = facts
        .fingerprint
        .as_ref()
        .map_or_else(|| "<hash of inputs>".to_owned(), ToString::to_string);
    let labels = [
        format!("{LABEL_INPUTS}={hash}"),
        format!("org.opencontainers.image.title={}", facts.name),
        format!("org.opencontainers.image.base.name={base}"),
    ];
    let mut step = Step::new(
        "build the image",
        cmd!(
            sh,
            "{docker} build --file {dockerfile} --tag {image} --tag {latest}"
        ),
    )
    .env("DOCKER_BUILDKIT", "1")
    .arg("--build-arg")
    .arg(format!("BASE_IMAGE={base}"));
    for label in labels {
        step = step.arg("--label").arg(label);
    }
    if let Some(ca) = &facts.ca {
        step = step
            .arg("--secret")
            .arg(format!("id=ca,src={}", ca.display()));
    }
    vec![step.arg(".")]
}

/// Images that neither this tree nor a container uses: none of their names is
/// in `kept`, their id not in `used`.
pub(crate) fn prunable<'i>(
    images: &'i [Image],
    kept: &[String],
    used: &[String],
) -> Vec<&'i Image> {
    images
        .iter()
        .filter(|image| !image.repo_tags.iter().any(|tag| kept.contains(tag)))
        .filter(|image| !used.contains(&image.id))
        .collect()
}
