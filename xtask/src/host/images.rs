//! Images on another machine: which layers it has, and bringing ours there.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use xshell::cmd;

use crate::engine::ImageConfig;
use crate::error::Failure;
use crate::exec::{HowFar, Machine, Step, size};
use crate::image::{Fault, Held, LABEL_INPUTS, Saved, fault};

const ANSWER: Duration = Duration::from_secs(60);
/// A first image on a slow line.
const TRAVEL: Duration = Duration::from_secs(3600);

/// Layers of so many bytes are worth a login of their own.
const MUCH: u64 = 30_000_000;

/// An image that the machine has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct There {
    /// Its id: the digest of its config, or of its manifest.
    #[serde(rename = "Id")]
    pub(crate) id: String,
    #[serde(rename = "RootFS")]
    root: RootFs,
    #[serde(rename = "Config")]
    config: Option<ImageConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct RootFs {
    #[serde(rename = "Layers", default)]
    layers: Vec<String>,
}

/// How an image arrived over ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// On the wire, in bytes.
    pub(crate) bytes: u64,
    /// Layers that travelled.
    pub(crate) layers: usize,
}

/// The image of that name.
pub(crate) fn find(machine: &Machine, name: &str) -> Result<Option<There>> {
    let step = Step::new(
        format!("ask the host for {name}"),
        cmd!(machine.sh(), "docker image inspect {name}"),
    )
    .limit(ANSWER);
    let captured = machine.capture(&step)?;
    if captured.ok() {
        return Ok(read(&captured.stdout)?.into_iter().next());
    }
    if captured.stderr.to_lowercase().contains("no such image") {
        return Ok(None);
    }
    Err(machine.failed(&step, &captured).into())
}

/// Every image.
fn all(machine: &Machine) -> Result<Vec<There>> {
    // An engine without a single image is no failure, one that does not answer is.
    let script = "ids=$(docker image ls --quiet --no-trunc) || exit 1\n\
                  [ -z \"$ids\" ] || docker image inspect $(echo \"$ids\" | sort -u)";
    let step = Step::new(
        "ask the host for its images",
        cmd!(machine.sh(), "sh -c {script}"),
    )
    .limit(ANSWER);
    read(&machine.read(&step)?)
}

/// How many of an image's first layers some image there has.
pub(crate) fn known(machine: &Machine, layers: &[String]) -> Result<usize> {
    let shared = all(machine)?.iter().map(|i| i.shares(layers)).max();
    Ok(shared.unwrap_or(0))
}

fn read(told: &str) -> Result<Vec<There>> {
    if told.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(told).context("failed to read what the host's engine says of its images")
}

impl There {
    /// Whether it is what was saved: the same config, or the manifest that we made
    /// of it, and the same layers.
    pub(crate) fn is(&self, saved: &Saved) -> bool {
        (self.id == saved.config_digest() || self.id == saved.manifest_digest())
            && saved
                .layers()
                .eq(self.root.layers.iter().map(String::as_str))
    }

    /// Whether it is what a registry holds: the same config, or the same manifest.
    pub(crate) fn is_held(&self, held: &Held) -> bool {
        self.id == held.digest || held.config.as_ref() == Some(&self.id)
    }

    /// Whether it was made of the same inputs.
    pub(crate) fn is_made_of(&self, inputs: &str) -> bool {
        let labels = self.config.as_ref().and_then(|c| c.labels.as_ref());
        let own = labels.and_then(|labels| labels.get(LABEL_INPUTS));
        own.is_some_and(|own| own == inputs)
    }

    /// Whether it is made of these layers.
    pub(crate) fn has_layers(&self, layers: &[String]) -> bool {
        self.root.layers == layers
    }

    /// How many of the first layers are the same.
    pub(crate) fn shares(&self, layers: &[String]) -> usize {
        let both = layers.iter().zip(&self.root.layers);
        both.take_while(|(ours, theirs)| ours == theirs).count()
    }
}

/// Lets the engine there pull `source`, a name with its digest, and call it `name`.
/// Its credentials are its own.
///
/// # Errors
/// Where it does not get it, with what mends it.
pub(crate) fn pull(machine: &Machine, source: &str, name: &str) -> Result<()> {
    // By its other name it would stay for ever: nobody prunes that.
    let script = "docker pull --quiet \"$1\" && docker tag \"$1\" \"$2\" && \
                  { docker image rm \"$1\" || :; }";
    let step = Step::new(
        format!("pull {name} on the host"),
        cmd!(machine.sh(), "sh -c {script} pull {source} {name}"),
    )
    .limit(TRAVEL);
    let captured = machine.capture(&step)?;
    if captured.ok() {
        return Ok(());
    }
    let registry = source.split('/').next().unwrap_or(source);
    let failure = machine.failed(&step, &captured);
    Err(match fault(&captured.stderr) {
        Fault::Authentication | Fault::Absent => {
            failure.hint(format!("on the host, as its user: docker login {registry}"))
        }
        Fault::Certificate => failure.hint(format!(
            "give docker on the host the CA of {registry}: /etc/docker/certs.d/{registry}/ca.crt"
        )),
        Fault::OutOfReach(_) | Fault::Broken => failure.hint(format!(
            "see whether {registry} is up and reachable from the host; \
             without a registry: transport = \"ssh\""
        )),
        Fault::Other => failure,
    }
    .into())
}

/// Brings an image there under `name`, without the layers that it has.
///
/// # Errors
/// Where the engine there does not take it, with its words; where what it then
/// has is another image.
pub(crate) fn bring(
    machine: &Machine,
    saved: &Saved,
    name: &str,
    how_far: &HowFar,
) -> Result<Arrived> {
    let layers: Vec<String> = saved.layers().map(str::to_owned).collect();
    let known = known(machine, &layers)?;
    let all = layers.len();
    let mut bytes = 0;
    for known in [known, 0] {
        let (sent, taken) = load(machine, saved, name, known, how_far)?;
        bytes += sent;
        if taken.is_ok() {
            let there = find(machine, name)?;
            if there.is_some_and(|there| there.is(saved)) {
                let layers = all - known;
                return Ok(Arrived { bytes, layers });
            }
        }
        if known > 0 {
            // An engine that pulled the layers keeps them compressed, under other
            // digests: it has them, and still wants them.
            forget(machine, name)?;
            continue;
        }
        taken?;
        break;
    }
    Err(Failure::tool(format!(
        "failed to bring {name} there: the engine took it and has another image by that name"
    ))
    .hint("try again; then remove that image on the host")
    .into())
}

/// Bytes that were sent, and what the engine said to them.
fn load(
    machine: &Machine,
    saved: &Saved,
    name: &str,
    known: usize,
    how_far: &HowFar,
) -> Result<(u64, Result<()>)> {
    let step = Step::new(
        format!("load {name} on the host"),
        cmd!(machine.sh(), "docker load --quiet"),
    )
    .limit(TRAVEL)
    .packed(saved.size(known) > MUCH);
    let (sent, read, all) = (Cell::new(0), Cell::new(0), saved.size(known).max(1));
    let captured = machine.feed(&step, |to| {
        let counted = Counted {
            to,
            bytes: &sent,
            each: &|| {},
        };
        // docker reads compressed archives by itself.
        let mut packed = GzEncoder::new(counted, Compression::fast());
        let each = || {
            let percent = (read.get() * 100 / all).min(100);
            how_far.tell(format!("{}, {percent} %", size(sent.get())));
        };
        let from = Counted {
            to: &mut packed,
            bytes: &read,
            each: &each,
        };
        saved.write(name, known, from)?;
        packed.finish().context("failed to send the image")?;
        Ok(())
    })?;
    let taken = if captured.ok() {
        Ok(())
    } else {
        Err(machine.failed(&step, &captured).into())
    };
    Ok((sent.get(), taken))
}

fn forget(machine: &Machine, name: &str) -> Result<()> {
    let step = Step::new(
        format!("remove what is left of {name}"),
        cmd!(machine.sh(), "docker image rm --force {name}"),
    );
    machine.capture(&step).map(drop)
}

struct Counted<'a, W> {
    to: W,
    bytes: &'a Cell<u64>,
    each: &'a dyn Fn(),
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.bytes.set(self.bytes.get() + n as u64);
        (self.each)();
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(layers: &[&str]) -> There {
        let text = serde_json::json!([{
            "Id": "sha256:c", "RootFS": {"Layers": layers},
            "Config": {"Labels": {"dental.image.inputs": "abc"}},
        }]);
        read(&text.to_string()).unwrap().remove(0)
    }

    #[test]
    fn only_a_common_beginning_is_shared() {
        let ours = ["a", "b", "c"].map(str::to_owned);
        for (theirs, shared) in [
            (&["a", "b", "c"][..], 3),
            (&["a", "b", "x", "c"], 2),
            (&["b", "c"], 0),
            (&[], 0),
        ] {
            assert_eq!(there(theirs).shares(&ours), shared, "{theirs:?}");
        }
        assert!(there(&["a"]).is_made_of("abc"));
        assert!(!there(&["a"]).is_made_of("abd"));
        assert!(there(&["a", "b", "c"]).has_layers(&ours));
        assert!(!there(&["a", "b"]).has_layers(&ours));
        assert!(read(" \n").unwrap().is_empty());
    }
}
