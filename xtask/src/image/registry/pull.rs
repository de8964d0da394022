//! Our image from a registry, where somebody has pushed it.

use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use super::fault::{Fault, fault};
use crate::engine::Engine;
use crate::exec::Step;

/// The whole image on a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(1800);

/// What came of asking a registry for an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// It is here, under its own name.
    Yes,
    /// Nobody has pushed it.
    Absent,
    /// It was not to be had; in the registry's or the engine's words.
    Failed(String),
}

/// Brings `name` from a registry, if what that holds has the label that it has to have.
///
/// # Errors
/// Where the engine cannot be asked.
pub(crate) fn fetch(
    engine: &Engine<'_>,
    registry: &str,
    name: &str,
    label: (&str, &str),
) -> Result<Fetched> {
    let reference = format!("{}/{name}", registry.trim_end_matches('/'));
    let (docker, sh, machine) = (engine.docker(), engine.sh(), engine.machine());
    let pull = Step::new(
        format!("pull {reference}"),
        cmd!(sh, "{docker} pull --quiet {reference}"),
    )
    .limit(PULL_LIMIT);
    let pulled = machine.capture(&pull)?;
    if !pulled.ok() {
        return Ok(match fault(&pulled.stderr) {
            Fault::Absent => Fetched::Absent,
            _ => Fetched::Failed(pulled.stderr.trim().to_owned()),
        });
    }
    let known = engine.image(&reference)?;
    let same = known.is_some_and(|image| image.label(label.0) == Some(label.1));
    if same {
        machine.run(&Step::new(
            format!("name {reference}"),
            cmd!(sh, "{docker} tag {reference} {name}"),
        ))?;
    }
    // Nobody would prune a second name.
    machine.run(&Step::new(
        format!("take the name {reference} back"),
        cmd!(sh, "{docker} image rm {reference}"),
    ))?;
    Ok(match same {
        true => Fetched::Yes,
        false => Fetched::Failed(format!("{reference} was made of other inputs")),
    })
}
