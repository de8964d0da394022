//! Bringing our image to a registry, and what that holds under a name.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use xshell::cmd;

use super::ask::{Inspected, host, inspect};
use super::fault::{Fault, fault};
use crate::engine::{Engine, Image};
use crate::error::Failure;
use crate::exec::{Captured, Step};

/// A first push of the whole image on a slow line.
const PUSH_LIMIT: Duration = Duration::from_secs(3600);
/// Waits before the second and the third try. docker itself tries each layer
/// five times, for about a minute.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// What a registry holds under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Held {
    /// Of the manifest: `sha256:…`.
    pub(crate) digest: String,
    /// Of the image's config.
    #[serde(skip)]
    pub(crate) config: Option<String>,
}

impl Held {
    /// Whether it is this image. Engines with the containerd store know an image
    /// by its manifest, others by its config.
    pub(crate) fn is(&self, image: &Image) -> bool {
        image.id == self.digest || self.config.as_ref() == Some(&image.id)
    }
}

/// What the registry holds under `reference`, without pulling it.
///
/// # Errors
/// Where it cannot be asked, or refuses; a fault of the network is tried again.
/// Where it holds something that is no image for one platform: to take that for
/// nothing would be to replace it.
pub(crate) fn held(engine: &Engine<'_>, reference: &str) -> Result<Option<Held>> {
    let what = format!("ask the registry for {reference}");
    let step = inspect(engine, engine.docker(), what, reference);
    match persist(engine, &step, reference)? {
        Ok(captured) => parse(&captured.stdout, reference).map(Some),
        // docker says so of some refusals too; the push that follows names them, and
        // asking the engine instead would take credentials into our own hands.
        Err((Fault::Absent, _)) => Ok(None),
        Err((fault, captured)) => Err(failure(engine, &step, &captured, fault, reference).into()),
    }
}

/// Brings an image that the engine has by that name to the registry.
///
/// # Errors
/// As for [`held`].
pub(crate) fn push(engine: &Engine<'_>, reference: &str) -> Result<()> {
    let docker = engine.docker();
    let step = Step::new(
        format!("push {reference}"),
        cmd!(engine.sh(), "{docker} push {reference}"),
    )
    .limit(PUSH_LIMIT);
    match persist(engine, &step, reference)? {
        Ok(_) => Ok(()),
        Err((fault, captured)) => Err(failure(engine, &step, &captured, fault, reference).into()),
    }
}

type Tried = std::result::Result<Captured, (Fault, Captured)>;

/// Runs a step, again after a fault of the network.
fn persist(engine: &Engine<'_>, step: &Step, reference: &str) -> Result<Tried> {
    let machine = engine.machine();
    for wait in BACKOFF.into_iter().map(Some).chain([None]) {
        let captured = machine.capture(step)?;
        if captured.ok() {
            return Ok(Ok(captured));
        }
        let fault = fault(&format!(
            "{}\n{}",
            captured.stderr,
            last_line(&captured.stdout)
        ));
        match (fault, wait) {
            (Fault::OutOfReach(_) | Fault::Broken, Some(wait)) => {
                let host = host(reference);
                let seconds = wait.as_secs();
                machine.term().warn(&format!(
                    "{host} could not be reached or broke off; once more in {seconds} s"
                ));
                thread::sleep(wait);
            }
            _ => return Ok(Err((fault, captured))),
        }
    }
    // The last round has no wait and returns.
    Err(anyhow::anyhow!("failed to {}", step.what()))
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

fn failure(
    engine: &Engine<'_>,
    step: &Step,
    captured: &Captured,
    fault: Fault,
    reference: &str,
) -> Failure {
    let host = host(reference);
    let failure = engine.machine().failed(step, captured);
    match fault {
        Fault::Authentication => failure.hint(format!(
            "docker login {host}\nwith an account that may push to it"
        )),
        Fault::Certificate => failure.hint(format!(
            "give docker the CA of {host}: /etc/docker/certs.d/{host}/ca.crt, and the same for this \
             machine's own store"
        )),
        Fault::OutOfReach(_) | Fault::Broken => failure.hint(format!(
            "see whether {host} is up and reachable, then push again: what arrived is kept"
        )),
        Fault::Absent | Fault::Other => failure,
    }
}

/// The manifest and its config, of an image for one platform.
fn parse(text: &str, reference: &str) -> Result<Held> {
    let refuse = |what: &str| {
        Failure::user(format!(
            "failed to read {reference} in the registry: {what}"
        ))
        .hint(format!(
            "see what stands under that name: docker manifest inspect {reference}"
        ))
    };
    match serde_json::from_str(text) {
        Ok(Inspected::One(one)) => Ok(Held {
            config: one.config().map(str::to_owned),
            digest: one.descriptor.digest,
        }),
        Ok(Inspected::Index(_)) => {
            Err(refuse("it is an index of several platforms, which no push of ours made").into())
        }
        Err(_) => Err(refuse("docker's answer is none that is known").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_with_its_config() {
        let text = r#"{"Ref": "h:5000/x:1", "Descriptor": {"digest": "sha256:m", "size": 1},
            "SchemaV2Manifest": {"config": {"digest": "sha256:c"}, "layers": []}}"#;
        let held = parse(text, "h:5000/x:1").unwrap();
        assert_eq!(
            (held.digest.as_str(), held.config.as_deref()),
            ("sha256:m", Some("sha256:c"))
        );
        let image = |id: &str| -> Image {
            serde_json::from_str(&format!(r#"{{"Id":"{id}","Config":null}}"#)).unwrap()
        };
        assert!(held.is(&image("sha256:c")) && held.is(&image("sha256:m")));
        assert!(!held.is(&image("sha256:x")));
    }

    #[test]
    fn what_is_no_image_of_one_platform_is_not_taken_for_nothing() {
        let index = r#"[{"Descriptor": {"digest": "sha256:m", "platform": {"os": "linux",
            "architecture": "arm64"}}}]"#;
        for (text, said) in [
            (index, "an index of several platforms"),
            ("[]", "an index of several platforms"),
            ("{}", "none that is known"),
            ("", "none that is known"),
        ] {
            let error = parse(text, "h:5000/x:1").unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
