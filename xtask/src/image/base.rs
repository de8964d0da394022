//! The images that ours stand on: upstream's, or equivalents made here where
//! the registry cannot be reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use xshell::cmd;

use super::fingerprint::Fingerprint;
use super::inputs::{folder_inputs, named};
use super::mmdebstrap::{self, RootFs};
use crate::config::{Bases, Settings, Workspace, environment};
use crate::engine::{Engine, Image};
use crate::exec::Step;

/// Equivalents stand under `localhost/`: no registry serves that name, so none
/// of them can ever be taken for upstream's.
const OURS: &str = "localhost/airflow-dbt-dental-base";
/// What an equivalent stands for, as a reference.
const LABEL_EQUIVALENT: &str = "dental.base.equivalent-of";
/// The hash of its recipe.
pub(crate) const LABEL_RECIPE: &str = "dental.base.recipe";
/// The sha256 of the list of its packages with their versions.
const LABEL_PACKAGES: &str = "dental.base.packages";
/// A pull of a large image on a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(1800);
/// What docker says when the registry itself is out of reach, as opposed to
/// one that answers no.
const OUT_OF_REACH: [&str; 9] = [
    "no such host",
    "server misbehaving",
    "connection refused",
    "network is unreachable",
    "no route to host",
    "i/o timeout",
    "tls handshake timeout",
    "client.timeout",
    "temporary failure in name resolution",
];

/// What installs the Airflow base's packages.
const INSTALLER: &str = "requirements-installer.lock";

/// Which base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseName {
    /// Of the Airflow image.
    Airflow,
    /// The `postgres` service.
    Postgres,
    /// The `mysql` service.
    Mysql,
}

/// Where a base comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The registry.
    Upstream,
    /// `bases/`, made here.
    Equivalent,
}

/// A base that the engine has.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// By which the engine knows it.
    pub(crate) reference: String,
    /// What decides its content: upstream's digest, or an equivalent's recipe
    /// and packages.
    pub(crate) identity: String,
    /// `linux/amd64`
    pub(crate) platform: String,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

impl BaseName {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Airflow, Self::Postgres, Self::Mysql];

    /// The bases that a stack with these settings needs.
    pub(crate) fn of_stack(settings: &Settings) -> Vec<Self> {
        let mut names = vec![Self::Airflow];
        for service in settings.databases() {
            names.push(if service == "mysql" {
                Self::Mysql
            } else {
                Self::Postgres
            });
        }
        names
    }

    /// Its folder below `bases/`.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Airflow => "airflow",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }

    fn upstream(self, bases: &Bases) -> &str {
        match self {
            Self::Airflow => &bases.airflow,
            Self::Postgres => &bases.postgres,
            Self::Mysql => &bases.mysql,
        }
    }
}

/// The base as the engine has it: upstream's before an equivalent.
pub(crate) fn find_base(
    engine: &Engine<'_>,
    workspace: &Workspace,
    bases: &Bases,
    name: BaseName,
) -> Result<Option<Base>> {
    let upstream = name.upstream(bases);
    let recipe = Recipe::read(workspace, bases, name)?;
    let found = engine.images(&[upstream, &recipe.reference])?;
    let by_name = |reference: &str| {
        found
            .iter()
            .find(|image| image.repo_tags.iter().any(|tag| tag == reference))
    };
    if let Some(image) = by_name(upstream) {
        return Ok(Some(Base {
            reference: upstream.to_owned(),
            identity: image.repo_digests.first().unwrap_or(&image.id).clone(),
            platform: image.platform(),
            origin: Origin::Upstream,
        }));
    }
    Ok(by_name(&recipe.reference)
        .filter(|image| image.label(LABEL_RECIPE) == Some(&recipe.hash.to_string()))
        .map(|image| recipe.base(image)))
}

/// Sees to it that the engine has each of `names`: what it has is used, what it
/// lacks is pulled, and where the registry is out of reach an equivalent is
/// made. `pull` asks the registry even where an equivalent is there.
pub(crate) fn ensure_bases(
    engine: &Engine<'_>,
    workspace: &Workspace,
    bases: &Bases,
    names: &[BaseName],
    pull: bool,
) -> Result<()> {
    let term = engine.machine().term();
    let mut unreachable = false;
    for name in names {
        let found = find_base(engine, workspace, bases, *name)?;
        let has_upstream = found.as_ref().is_some_and(|b| b.origin == Origin::Upstream);
        if has_upstream || (found.is_some() && !pull) {
            continue;
        }
        let upstream = name.upstream(bases);
        // One registry for all three: asked once when it is out of reach.
        if !unreachable {
            match pull_image(engine, upstream)? {
                Pulled::Yes => continue,
                Pulled::OutOfReach(said) => {
                    unreachable = true;
                    term.warn(&format!(
                        "the image registry cannot be reached ({said}); \
                         equivalents of the base images are made from Debian and PyPI packages, \
                         see bases/README.md"
                    ));
                }
            }
        }
        if found.is_none() {
            make(engine, workspace, bases, *name)?;
        }
    }
    Ok(())
}

enum Pulled {
    Yes,
    OutOfReach(String),
}

fn pull_image(engine: &Engine<'_>, reference: &str) -> Result<Pulled> {
    let docker = engine.docker();
    let step = Step::new(
        format!("pull {reference}"),
        cmd!(engine.sh(), "{docker} pull --quiet {reference}"),
    )
    .limit(PULL_LIMIT);
    let term = engine.machine().term();
    let captured = engine.machine().capture(&step)?;
    if captured.ok() {
        term.done(&format!("pulled {reference}"));
        return Ok(Pulled::Yes);
    }
    let said = captured.stderr.to_lowercase();
    match OUT_OF_REACH.iter().find(|words| said.contains(**words)) {
        Some(words) => Ok(Pulled::OutOfReach((*words).to_owned())),
        None => Err(engine
            .machine()
            .failed(&step, &captured)
            .hint(format!("try it by hand: docker pull {reference}"))
            .into()),
    }
}

/// What an equivalent is made from.
#[derive(Debug)]
struct Recipe {
    name: BaseName,
    folder: PathBuf,
    upstream: String,
    hash: Fingerprint,
    reference: String,
}

impl Recipe {
    fn read(workspace: &Workspace, bases: &Bases, name: BaseName) -> Result<Self> {
        let folder = workspace.root().join("bases").join(name.folder());
        let mut inputs = folder_inputs(&folder)?;
        for shared in shared_inputs(name) {
            inputs.extend(named(workspace.root(), Path::new(shared))?);
        }
        let upstream = name.upstream(bases).to_owned();
        let hash = Fingerprint::of(&[("equivalent-of", &upstream)], &inputs);
        Ok(Self {
            name,
            reference: format!("{OURS}/{}:{}", name.folder(), hash.tag()),
            folder,
            upstream,
            hash,
        })
    }

    fn base(&self, image: &Image) -> Base {
        let packages = image.label(LABEL_PACKAGES).unwrap_or("unknown");
        Base {
            reference: self.reference.clone(),
            identity: format!("equivalent {} packages {packages}", self.hash),
            platform: image.platform(),
            origin: Origin::Equivalent,
        }
    }
}

/// Files outside of a recipe's folder that it is made from.
fn shared_inputs(name: BaseName) -> &'static [&'static str] {
    match name {
        BaseName::Airflow => &["bases/dpkg.conf", "bases/hooks", INSTALLER],
        BaseName::Postgres | BaseName::Mysql => &["bases/dpkg.conf", "bases/hooks"],
    }
}

/// Makes one equivalent: a root file system of Debian packages, then the image.
fn make(engine: &Engine<'_>, workspace: &Workspace, bases: &Bases, name: BaseName) -> Result<()> {
    let recipe = Recipe::read(workspace, bases, name)?;
    let term = engine.machine().term();
    let label = name.folder();
    let root = term.task(
        &format!("root file system of the {label} base, from Debian packages"),
        || {
            mmdebstrap::root_file_system(engine.machine(), workspace, &recipe.folder, label)
                .map_err(|error| mmdebstrap::cannot_make(label).because(error))
        },
    )?;
    if !root.moved.is_empty() {
        term.warn(&format!(
            "Debian no longer has the locked version of {}; built with the current one. \
             To lock that one: cargo xtask lock --bases",
            root.moved.join(", ")
        ));
    }
    let context = build_context(workspace, &recipe, &root)?;
    let step = build_step(engine, &recipe, &root, &context);
    term.task(&format!("{label} base image {}", recipe.reference), || {
        engine.machine().run(&step)
    })?;
    fs::remove_dir_all(&context).with_context(|| format!("failed to remove {}", context.display()))
}

/// A folder with all that the recipe's Dockerfile reads.
fn build_context(workspace: &Workspace, recipe: &Recipe, root: &RootFs) -> Result<PathBuf> {
    let context = root.folder.clone();
    for input in folder_inputs(&recipe.folder)? {
        copy(&recipe.folder.join(&input.path), &context.join(&input.path))?;
    }
    if recipe.name == BaseName::Airflow {
        copy(&workspace.root().join(INSTALLER), &context.join(INSTALLER))?;
    }
    Ok(context)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent)
        .and_then(|()| fs::copy(from, to))
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn build_step(engine: &Engine<'_>, recipe: &Recipe, root: &RootFs, context: &Path) -> Step {
    let (docker, reference) = (engine.docker(), &recipe.reference);
    let labels = [
        format!("{LABEL_EQUIVALENT}={}", recipe.upstream),
        format!("{LABEL_RECIPE}={}", recipe.hash),
        format!("{LABEL_PACKAGES}={}", root.packages_hash),
    ];
    let mut step = Step::new(
        format!("build the {} base", recipe.name.folder()),
        cmd!(engine.sh(), "{docker} build --tag {reference}"),
    )
    .env("DOCKER_BUILDKIT", "1");
    for label in labels {
        step = step.arg("--label").arg(label);
    }
    if let Some(ca) = environment::ca_bundle() {
        step = step
            .arg("--secret")
            .arg(format!("id=ca,src={}", ca.display()));
    }
    step.arg(context)
}
