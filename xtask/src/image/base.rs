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
use super::registry::out_of_reach;
use crate::config::{Bases, Reference, Settings, Workspace, environment};
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
/// Where an image does not say its packages.
const UNKNOWN: &str = "unknown";
/// A pull of a large image on a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(1800);

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
    /// Whether that is the same on every machine. An image that no registry
    /// gave is known by the engine's own id alone.
    pub(crate) resolved: bool,
    /// `linux/amd64`
    pub(crate) platform: String,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

impl Base {
    /// The reference without a digest: the same whether it is pinned or not, so
    /// that a digest which is written down for a base that was used before makes
    /// no other image. What is in it is told by the identity.
    pub(crate) fn name(&self) -> &str {
        let name = self.reference.split('@').next();
        name.unwrap_or(&self.reference)
    }

    /// The digest by which a registry knows it: `sha256:…`.
    pub(crate) fn digest(&self) -> Option<&str> {
        let (_, digest) = self.identity.split_once('@')?;
        Some(digest)
    }
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

    /// Its folder below `bases/`, and its key in `deploy.toml`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Airflow => "airflow",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }

    /// As `deploy.toml` has it.
    pub(crate) fn upstream(self, bases: &Bases) -> &str {
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
    Ok(find_bases(engine, workspace, bases, &[name])?.remove(0))
}

/// The same for several, in their order: the engine is asked once.
pub(crate) fn find_bases(
    engine: &Engine<'_>,
    workspace: &Workspace,
    bases: &Bases,
    names: &[BaseName],
) -> Result<Vec<Option<Base>>> {
    let wanted = names
        .iter()
        .map(|name| Wanted::read(workspace, bases, *name))
        .collect::<Result<Vec<_>>>()?;
    let references: Vec<&str> = wanted.iter().flat_map(Wanted::references).collect();
    let images = engine.images(&references)?;
    Ok(wanted.iter().map(|base| base.among(&images)).collect())
}

/// A base that may or may not be there.
#[derive(Debug)]
pub(super) struct Wanted {
    upstream: String,
    recipe: Recipe,
}

impl Wanted {
    pub(super) fn read(workspace: &Workspace, bases: &Bases, name: BaseName) -> Result<Self> {
        Ok(Self {
            upstream: name.upstream(bases).to_owned(),
            recipe: Recipe::read(workspace, bases, name)?,
        })
    }

    /// The names by which the engine may have it.
    pub(super) fn references(&self) -> [&str; 2] {
        [&self.upstream, &self.recipe.reference]
    }

    /// The one among images that the engine told of.
    pub(super) fn among(&self, images: &[Image]) -> Option<Base> {
        let by_name = |reference: &str| images.iter().find(|image| image.answers_to(reference));
        if let Some(image) = by_name(&self.upstream) {
            let digest = known_as(image, &self.upstream);
            return Some(Base {
                reference: self.upstream.clone(),
                identity: digest.unwrap_or(&image.id).to_owned(),
                resolved: digest.is_some(),
                platform: image.platform(),
                origin: Origin::Upstream,
            });
        }
        by_name(&self.recipe.reference)
            .filter(|image| image.label(LABEL_RECIPE) == Some(&self.recipe.hash.to_string()))
            .map(|image| self.recipe.base(image))
    }
}

/// The `name@digest` by which the registry of `upstream` knows an image: an image
/// that was pushed elsewhere has several.
fn known_as<'i>(image: &'i Image, upstream: &str) -> Option<&'i str> {
    let all = || image.repo_digests.iter().map(String::as_str);
    let of = Reference::parse(upstream);
    let fits = |known: &&str| {
        let (repository, digest) = known.split_once('@').unwrap_or((known, ""));
        of.is_some_and(|of| {
            of.repository == repository && of.digest.is_none_or(|pinned| pinned == digest)
        })
    };
    all().find(fits).or_else(|| all().next())
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
    let all = find_bases(engine, workspace, bases, names)?;
    for (name, found) in names.iter().zip(all) {
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
    match out_of_reach(&captured.stderr) {
        Some(words) => Ok(Pulled::OutOfReach(words.to_owned())),
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
        // It stands for the tag: a digest that is written down changes nothing
        // in it and shall not make it anew.
        let pinned = name.upstream(bases);
        let upstream = Reference::parse(pinned).map_or(pinned, |of| of.tagged);
        let hash = Fingerprint::of(&[("equivalent-of", upstream)], &inputs);
        Ok(Self {
            name,
            reference: format!("{OURS}/{}:{}", name.folder(), hash.tag()),
            folder,
            upstream: upstream.to_owned(),
            hash,
        })
    }

    fn base(&self, image: &Image) -> Base {
        let packages = image.label(LABEL_PACKAGES).unwrap_or(UNKNOWN);
        Base {
            reference: self.reference.clone(),
            identity: format!("equivalent {} packages {packages}", self.hash),
            resolved: packages != UNKNOWN,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Deploy;

    #[test]
    fn a_digest_that_is_written_down_makes_no_other_equivalent() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = Workspace::around(here).unwrap();
        let mut bases = Deploy::read(&workspace).unwrap().bases;
        for name in BaseName::ALL {
            let mut with = |reference: String| {
                match name {
                    BaseName::Airflow => bases.airflow = reference,
                    BaseName::Postgres => bases.postgres = reference,
                    BaseName::Mysql => bases.mysql = reference,
                }
                let wanted = Wanted::read(&workspace, &bases, name).unwrap();
                (wanted.recipe.reference, wanted.recipe.upstream)
            };
            let digest = format!("sha256:{}", "1".repeat(64));
            let (reference, upstream) = with("x:1".to_owned());
            assert_eq!(upstream, "x:1");
            assert_eq!(with(format!("x:1@{digest}")), (reference.clone(), upstream));
            assert_ne!(with("x:2".to_owned()).0, reference);
        }
    }

    #[test]
    fn an_image_is_known_by_the_digest_of_its_own_registry() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let text = format!(
            r#"{{"Id":"i","RepoDigests":["else:5000/x@sha256:{a}","x@sha256:{a}","x@sha256:{b}"],"Config":null}}"#
        );
        let image: Image = serde_json::from_str(&text).unwrap();
        for (upstream, known) in [
            ("x:1".to_owned(), format!("x@sha256:{a}")),
            (format!("x:1@sha256:{b}"), format!("x@sha256:{b}")),
            ("y:1".to_owned(), format!("else:5000/x@sha256:{a}")),
        ] {
            assert_eq!(known_as(&image, &upstream), Some(known.as_str()));
        }
    }
}
