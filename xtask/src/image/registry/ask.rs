//! The question to a registry without a pull: `docker manifest inspect --verbose`.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use xshell::cmd;

use crate::engine::Engine;
use crate::exec::Step;

/// docker itself gives up on a registry after 30 s, and tries some steps twice.
pub(super) const ANSWER: Duration = Duration::from_secs(120);

/// What is printed, as far as we ask.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Inspected {
    /// An index: one manifest for each platform, and nothing of the whole.
    Index(Vec<Manifest>),
    /// Of an image for one platform.
    One(Manifest),
}

/// One image of one platform.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Manifest {
    #[serde(rename = "Descriptor")]
    pub(super) descriptor: Descriptor,
    #[serde(rename = "SchemaV2Manifest", alias = "OCIManifest")]
    content: Option<Content>,
}

/// By what a registry knows a manifest.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Descriptor {
    /// `sha256:…`
    pub(super) digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Content {
    config: Option<Config>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Config {
    digest: String,
}

impl Manifest {
    /// The digest of the image's config.
    pub(super) fn config(&self) -> Option<&str> {
        let config = self.content.as_ref()?.config.as_ref()?;
        Some(&config.digest)
    }
}

impl std::fmt::Display for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.platform {
            Some(at) => write!(f, "{}/{}: {}", at.os, at.architecture, self.digest),
            None => f.write_str(&self.digest),
        }
    }
}

/// The question about `reference`, to be put by `docker`.
pub(super) fn inspect(
    engine: &Engine<'_>,
    docker: &Path,
    what: impl Into<String>,
    reference: &str,
) -> Step {
    let step = Step::new(
        what,
        cmd!(engine.sh(), "{docker} manifest inspect --verbose"),
    )
    // 20.10 and older count the command as an experiment.
    .env("DOCKER_CLI_EXPERIMENTAL", "enabled")
    .limit(ANSWER);
    // The engine speaks plain HTTP to registries of this machine; the CLI has to
    // be told.
    let step = if is_loopback(reference) {
        step.arg("--insecure")
    } else {
        step
    };
    step.arg(reference)
}

/// `host:port` of a reference that names a registry.
pub(super) fn host(reference: &str) -> &str {
    reference.split('/').next().unwrap_or(reference)
}

fn is_loopback(reference: &str) -> bool {
    let Some((host, _)) = reference.split_once('/') else {
        return false;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_on_this_machine_are_spoken_to_without_tls() {
        for (reference, expected) in [
            ("127.0.0.1:5000/x:1", true),
            ("localhost/x:1", true),
            ("localhost:1", false),
            ("localhost.example/x:1", false),
            ("registry.example:5000/x:1", false),
        ] {
            assert_eq!(is_loopback(reference), expected, "{reference}");
        }
    }
}
