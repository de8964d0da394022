//! What an image registry holds, and bringing our image there, by docker's own
//! commands and with the credentials of its own store.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use xshell::cmd;

use crate::engine::{Engine, Image};
use crate::error::Failure;
use crate::exec::{Captured, Step};

/// How long a registry may take to answer a question.
const ANSWER: Duration = Duration::from_secs(60);
/// A first push of the whole image on a slow line.
const PUSH_LIMIT: Duration = Duration::from_secs(3600);
/// Waits before the second and the third try. docker itself tries each layer
/// five times, for about a minute.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// What a registry holds under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Of the manifest: `sha256:…`.
    pub(crate) digest: String,
    /// Of the image's config; an index of several platforms has none.
    pub(crate) config: Option<String>,
}

impl Held {
    /// Whether it is this image. Engines with the containerd store know an image
    /// by its manifest, others by its config.
    pub(crate) fn is(&self, image: &Image) -> bool {
        image.id == self.digest || self.config.as_ref() == Some(&image.id)
    }
}

/// Why a registry did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// There is no such manifest.
    Absent,
    /// It could not be reached, or broke off: worth another try.
    Network,
    /// It wants other credentials, or none will do: another try is none.
    Authentication,
    /// Its certificate is signed by nobody this machine knows.
    Certificate,
    /// Anything else, in docker's words.
    Other,
}

/// Words of docker, in lower case, and what they mean; the first that fits.
const WORDS: [(&str, Fault); 27] = [
    ("no such manifest", Fault::Absent),
    ("manifest unknown", Fault::Absent),
    ("name unknown", Fault::Absent),
    ("x509:", Fault::Certificate),
    ("certificate signed by unknown", Fault::Certificate),
    ("no basic auth credentials", Fault::Authentication),
    ("unauthorized", Fault::Authentication),
    ("authentication required", Fault::Authentication),
    ("access denied", Fault::Authentication),
    ("access to the resource is denied", Fault::Authentication),
    ("access forbidden", Fault::Authentication),
    ("403 forbidden", Fault::Authentication),
    ("no such host", Fault::Network),
    ("server misbehaving", Fault::Network),
    ("connection refused", Fault::Network),
    ("connection reset", Fault::Network),
    ("broken pipe", Fault::Network),
    ("network is unreachable", Fault::Network),
    ("no route to host", Fault::Network),
    ("timeout", Fault::Network),
    ("deadline exceeded", Fault::Network),
    ("eof", Fault::Network),
    ("temporary failure in name resolution", Fault::Network),
    ("500 internal server error", Fault::Network),
    ("502 bad gateway", Fault::Network),
    ("503 service unavailable", Fault::Network),
    ("toomanyrequests", Fault::Network),
];

fn fault(said: &str) -> Fault {
    let said = said.to_lowercase();
    WORDS
        .iter()
        .find(|(words, _)| said.contains(words))
        .map_or(Fault::Other, |(_, fault)| *fault)
}

/// What the registry holds under `reference`, without pulling it.
///
/// # Errors
/// Where it cannot be asked, or refuses; a fault of the network is tried again.
pub(crate) fn held(engine: &Engine<'_>, reference: &str) -> Result<Option<Held>> {
    let docker = engine.docker();
    let mut step = Step::new(
        format!("ask the registry for {reference}"),
        cmd!(engine.sh(), "{docker} manifest inspect --verbose"),
    )
    // 20.10 and older count the command as an experiment.
    .env("DOCKER_CLI_EXPERIMENTAL", "enabled")
    .limit(ANSWER);
    if is_loopback(reference) {
        // As the engine itself does for registries on this machine.
        step = step.arg("--insecure");
    }
    let step = step.arg(reference);
    match persist(engine, &step, reference)? {
        Ok(captured) => Ok(parse(&captured.stdout)),
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
            (Fault::Network, Some(wait)) => {
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
        Fault::Network => failure.hint(format!(
            "see whether {host} is up and reachable, then push again: what arrived is kept"
        )),
        Fault::Absent | Fault::Other => failure,
    }
}

/// The manifest and its config from `docker manifest inspect --verbose`.
fn parse(text: &str) -> Option<Held> {
    let value: Value = serde_json::from_str(text).ok()?;
    let descriptor = |one: &Value| one["Descriptor"]["digest"].as_str().map(str::to_owned);
    let config = |one: &Value| {
        ["SchemaV2Manifest", "OCIManifest"]
            .iter()
            .find_map(|kind| one[kind]["config"]["digest"].as_str())
            .map(str::to_owned)
    };
    Some(Held {
        digest: descriptor(&value)?,
        config: config(&value),
    })
}

/// `host:port` of a reference that names a registry.
pub(crate) fn host(reference: &str) -> &str {
    reference.split('/').next().unwrap_or(reference)
}

fn is_loopback(reference: &str) -> bool {
    let host = host(reference);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart_by_dockers_words() {
        for (said, expected) in [
            ("no such manifest: h:5000/x:1", Fault::Absent),
            ("errors:\nmanifest unknown: manifest unknown", Fault::Absent),
            ("no basic auth credentials", Fault::Authentication),
            (
                "unauthorized: authentication required",
                Fault::Authentication,
            ),
            (
                "denied: requested access to the resource is denied",
                Fault::Authentication,
            ),
            (
                "dial tcp 10.0.0.1:5000: connect: no route to host",
                Fault::Network,
            ),
            ("Put \"https://h/v2/\": EOF", Fault::Network),
            (
                "x509: certificate signed by unknown authority",
                Fault::Certificate,
            ),
            (
                "http: server gave HTTP response to HTTPS client",
                Fault::Other,
            ),
        ] {
            assert_eq!(fault(said), expected, "{said}");
        }
    }

    #[test]
    fn a_manifest_is_read_with_its_config() {
        let text = r#"{"Ref": "h:5000/x:1", "Descriptor": {"digest": "sha256:m", "size": 1},
            "SchemaV2Manifest": {"config": {"digest": "sha256:c"}, "layers": []}}"#;
        let held = parse(text).unwrap();
        assert_eq!(
            (held.digest.as_str(), held.config.as_deref()),
            ("sha256:m", Some("sha256:c"))
        );
        let image = |id: &str| -> Image {
            serde_json::from_str(&format!(r#"{{"Id":"{id}","Config":null}}"#)).unwrap()
        };
        assert!(held.is(&image("sha256:c")) && held.is(&image("sha256:m")));
        assert!(!held.is(&image("sha256:x")));
        assert_eq!(parse("[]"), None);
    }

    #[test]
    fn only_registries_on_this_machine_are_spoken_to_without_tls() {
        for (reference, expected) in [
            ("127.0.0.1:5000/x:1", true),
            ("localhost/x:1", true),
            ("localhost.example/x:1", false),
            ("registry.example:5000/x:1", false),
        ] {
            assert_eq!(is_loopback(reference), expected, "{reference}");
        }
    }
}
