//! How images come to a host, by the transport that `deploy.toml` names; and
//! `push --host`, which brings the image of this tree alone.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use xshell::cmd;

use crate::cli;
use crate::commands::{build, print_json, push, verify};
use crate::config::{Deploy, Host, Reference, Transport};
use crate::context::Context;
use crate::engine::{Engine, ask_buildkit};
use crate::error::Failure;
use crate::exec::{Machine, Step, plural, size};
use crate::host::images;
use crate::image::{self, Base, BaseName, BuildFacts, Builder, Origin, Saved, Scratch};
use crate::release::{self, Code, Needed};

/// A first build on a small host.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

pub(in crate::commands) fn run(context: &Context, args: &cli::Push, name: &str) -> Result<()> {
    let deploy = context.deploy()?;
    let host = deploy.host(name)?;
    registry_of(&deploy, host, name)?;
    let engine = context.engine()?;
    let (facts, _) = build::to_push(context, &engine, &deploy, Some(host), args)?;
    let machine = context.over(name, host)?;
    let bring = Bring {
        context,
        engine: &engine,
        deploy: &deploy,
        name,
        host,
        machine: &machine,
        facts: &facts,
    };
    let image = facts.image();
    let road = bring.road(&image)?;
    let told = |arrived: Arrived| {
        if args.json {
            print_json(&json!({
                "image": image, "host": name, "road": road.to_string(),
                "layers": arrived.layers, "bytes": arrived.bytes,
            }))
        } else {
            Ok(())
        }
    };
    let needed = bring.needed(&image)?;
    if needed.layers.is_empty() && needed.inputs.is_none() {
        context
            .term
            .say(&format!("would build {image} and bring it to {name}"));
        return Ok(());
    }
    let there = images::find(&machine, &image)?;
    let inputs = facts.fingerprint.as_ref().map(ToString::to_string);
    let is_it = |there: images::There| {
        needed.is(&there) && there.is_made_of(&inputs.clone().unwrap_or_default())
    };
    if there.is_some_and(is_it) {
        context.term.done(&format!("{name} has {image} already"));
        return told(Arrived::nothing());
    }
    if args.dry.dry_run {
        let what = match &road {
            Road::Ssh => {
                let lacks = needed.layers.len() - images::known(&machine, &needed.layers)?;
                let layers = plural(lacks, "layer");
                format!("{layers} of {}", needed.layers.len())
            }
            road => road.to_string(),
        };
        context
            .term
            .say(&format!("would bring {image} to {name}: {what}"));
        return Ok(());
    }
    told(bring.bring(&needed)?)
}

/// The way of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) enum Road {
    /// Over ssh, from this machine.
    Ssh,
    /// By its name in a registry of ours, where it is brought first.
    Registry(String),
    /// By its digest from where this machine has it from.
    Upstream(String),
    /// It is built there.
    Build,
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh => write!(f, "over ssh"),
            Self::Registry(name) => write!(f, "by {name}"),
            Self::Upstream(name) => write!(f, "from {name}"),
            Self::Build => write!(f, "built there"),
        }
    }
}

/// What travelled, as far as this machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) struct Arrived {
    layers: Option<usize>,
    bytes: Option<u64>,
}

impl Arrived {
    fn nothing() -> Self {
        Self {
            layers: Some(0),
            bytes: Some(0),
        }
    }

    fn unknown() -> Self {
        Self {
            layers: None,
            bytes: None,
        }
    }
}

/// Brings images to one host.
pub(in crate::commands) struct Bring<'a> {
    pub(in crate::commands) context: &'a Context,
    pub(in crate::commands) engine: &'a Engine<'a>,
    pub(in crate::commands) deploy: &'a Deploy,
    pub(in crate::commands) name: &'a str,
    pub(in crate::commands) host: &'a Host,
    pub(in crate::commands) machine: &'a Machine,
    /// The image of this tree.
    pub(in crate::commands) facts: &'a BuildFacts,
}

impl Bring<'_> {
    /// By which way an image comes: the image of this tree, or one of the databases.
    ///
    /// # Errors
    /// A user failure where it comes by a registry and none is named.
    pub(in crate::commands) fn road(&self, image: &str) -> Result<Road> {
        match self.host.transport {
            Transport::Ssh => Ok(Road::Ssh),
            Transport::Registry => {
                let registry = registry_of(self.deploy, self.host, self.name)?;
                Ok(Road::Registry(in_registry(registry, image)))
            }
            Transport::Build if image == self.facts.image() => Ok(Road::Build),
            Transport::Build => self.of_base(image),
        }
    }

    /// A base comes to a host that builds from where this machine has it from: an
    /// equivalent was made here.
    fn of_base(&self, image: &str) -> Result<Road> {
        let workspace = &self.context.workspace;
        let bases = image::find_bases(self.engine, workspace, &self.deploy.bases, &BaseName::ALL)?;
        let base = bases.into_iter().flatten().find(|b| b.reference == image);
        Ok(base.map_or(Road::Ssh, |base| by_origin(&base)))
    }

    /// How to know an image that a service needs.
    pub(in crate::commands) fn needed(&self, image: &str) -> Result<Needed> {
        let inputs = match (self.host.transport, &self.facts.fingerprint) {
            (Transport::Build, Some(inputs)) if image == self.facts.image() => {
                Some(inputs.to_string())
            }
            _ => None,
        };
        let found = match inputs {
            Some(_) => Vec::new(),
            None => self.engine.raw_images(&[image])?,
        };
        Ok(Needed {
            name: image.to_owned(),
            layers: found.first().map(verify::layers).unwrap_or_default(),
            inputs,
        })
    }

    /// Brings one image, and sees that what is there then is what was to come.
    pub(in crate::commands) fn bring(&self, needed: &Needed) -> Result<Arrived> {
        let image = &needed.name;
        match self.road(image)? {
            Road::Ssh => self.carry(needed),
            Road::Registry(name) => self.by_registry(needed, &name),
            Road::Upstream(source) => self.pulled(needed, &source),
            Road::Build => self.built(needed),
        }
    }

    /// Takes it out of this engine and gives it to the one there.
    fn carry(&self, needed: &Needed) -> Result<Arrived> {
        let (context, engine, image) = (self.context, self.engine, &needed.name);
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
        let arrived = context
            .term
            .task_telling(&format!("{image} to {}", self.name), |how_far| {
                images::bring(self.machine, &saved, image, how_far)
            })?;
        context.term.done(&format!(
            "{} has {image}: {} of {} travelled, {} in {:.1} s",
            self.name,
            plural(arrived.layers, "layer"),
            needed.layers.len(),
            size(arrived.bytes),
            started.elapsed().as_secs_f64()
        ));
        Ok(Arrived {
            layers: Some(arrived.layers),
            bytes: Some(arrived.bytes),
        })
    }

    /// Brings it to the registry, and lets the host pull just that.
    fn by_registry(&self, needed: &Needed, reference: &str) -> Result<Arrived> {
        let (context, image) = (self.context, &needed.name);
        let ours = self.engine.image(image)?;
        let ours = ours.with_context(|| format!("failed to find {image} in this engine"))?;
        // A tag of upstream's moves, a hash never does.
        let is_hash = *image == self.facts.image();
        let pushed = push::push(context, self.engine, image, &ours, reference, is_hash)?;
        let repository = Reference::parse(reference).map_or(reference, |of| of.repository);
        let source = format!("{repository}@{}", pushed.held.digest);
        self.pulled(needed, &source)?;
        let there = images::find(self.machine, image)?;
        if there.is_some_and(|there| there.is_held(&pushed.held)) {
            return Ok(Arrived::unknown());
        }
        Err(self.another(image))
    }

    fn pulled(&self, needed: &Needed, source: &str) -> Result<Arrived> {
        let image = &needed.name;
        self.context
            .term
            .task(&format!("{} pulls {source}", self.name), || {
                images::pull(self.machine, source, image)
            })?;
        let there = images::find(self.machine, image)?;
        if there.is_some_and(|there| needed.is(&there)) {
            return Ok(Arrived::unknown());
        }
        Err(self.another(image))
    }

    /// Ships what it is made of, and has it built there on the same base.
    fn built(&self, needed: &Needed) -> Result<Arrived> {
        let (context, machine, image) = (self.context, self.machine, &needed.name);
        let base = self.facts.base.as_ref();
        let base = base.context("failed to find the base that the image stands on")?;
        let below = Needed {
            name: base.name().to_owned(),
            layers: self.needed(&base.reference)?.layers,
            inputs: None,
        };
        let there = images::find(machine, &below.name)?;
        if !there.is_some_and(|there| below.is(&there)) {
            match by_origin(base) {
                Road::Upstream(source) => self.pulled(&below, &source)?,
                _ => self.carry(&below)?,
            };
        }
        let files = self.facts.manifest.files.keys().map(String::as_str);
        let code = Code::of_files(context.workspace.root(), files.chain([".dockerignore"]))?;
        let what = format!("what {image} is made of, shipped");
        let (folder, shipped) = context.term.task(&what, || {
            release::ship_inputs(&context.machine, machine, self.host, &code)
        })?;
        context.term.say(&context.term.dim(&format!(
            "  {} of {} travelled",
            plural(shipped.changed, "file"),
            code.len()
        )));
        let docker = Path::new("docker");
        let by = Builder {
            sh: machine.sh(),
            docker,
            buildkit: ask_buildkit(machine, docker),
            folder: &folder,
            ca: self.host.ca_bundle.as_deref().map(Path::new),
        };
        if !by.buildkit.is_some_and(|kit| kit.builds()) {
            return Err(Failure::user(format!(
                "failed to build {image} on {}: its docker has no BuildKit",
                self.name
            ))
            .hint(format!("cargo xtask provision --host {}", self.name))
            .into());
        }
        let step = image::build_step(&by, self.facts, &[image], &[]).limit(BUILD_LIMIT);
        let what = format!("{image}, built on {}", self.name);
        context.term.task(&what, || machine.run(&step))?;
        let there = images::find(machine, image)?;
        if there.is_some_and(|there| needed.is(&there)) {
            return Ok(Arrived::unknown());
        }
        Err(self.another(image))
    }

    fn another(&self, image: &str) -> anyhow::Error {
        Failure::tool(format!(
            "failed to bring {image} to {}: what has that name there is not what was to come",
            self.name
        ))
        .hint("try again; then remove that image on the host")
        .into()
    }
}

/// The registry of a host that gets its images by one; nothing where it does not.
///
/// # Errors
/// A user failure where none is named.
pub(in crate::commands) fn registry_of<'d>(
    deploy: &'d Deploy,
    host: &'d Host,
    name: &str,
) -> Result<&'d str> {
    let named = host.registry.as_ref().or(deploy.image.registry.as_ref());
    match (host.transport, named) {
        (Transport::Registry, None) => Err(Failure::user(format!(
            "{name} gets its images by a registry, and none is named"
        ))
        .hint(format!(
            "registry = \"registry.example.com/team\" under [hosts.{name}] or [image] in deploy.toml"
        ))
        .into()),
        (_, named) => Ok(named.map_or("", String::as_str)),
    }
}

fn by_origin(base: &Base) -> Road {
    let repository = Reference::parse(base.name()).map(|of| of.repository);
    match (base.origin, repository, base.digest()) {
        (Origin::Upstream, Some(repository), Some(digest)) => {
            Road::Upstream(format!("{repository}@{digest}"))
        }
        _ => Road::Ssh,
    }
}

/// Under what name a registry of ours has an image: without the one that it has now.
fn in_registry(registry: &str, image: &str) -> String {
    let registry = registry.trim_end_matches('/');
    let tagged = image.split('@').next().unwrap_or(image);
    let name = match tagged.split_once('/') {
        Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => name,
        _ => tagged,
    };
    format!("{registry}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_its_own_name_in_a_registry() {
        for (image, name) in [
            (
                "airflow-dbt-dental:abc",
                "r:5000/team/airflow-dbt-dental:abc",
            ),
            (
                "localhost/base/postgres:abc",
                "r:5000/team/base/postgres:abc",
            ),
            ("postgres:15", "r:5000/team/postgres:15"),
            ("apache/airflow:2@sha256:0", "r:5000/team/apache/airflow:2"),
            ("h.example.com/x/y:1", "r:5000/team/x/y:1"),
        ] {
            assert_eq!(in_registry("r:5000/team/", image), name);
        }
    }
}
