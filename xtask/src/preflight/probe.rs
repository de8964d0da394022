//! One connection to each of several databases, tried from inside a container.

use std::time::Duration;

use anyhow::{Context, Result};
use xshell::cmd;

use super::database::{Answer, External, HOST};
use crate::engine::{Container, Engine};
use crate::exec::Step;

/// Plain Python: every image of ours has that, few have a client of both kinds.
const SCRIPT: &str = include_str!("probe.py");
/// Containers whose network and host names are the pipeline's own.
const FROM: [&str; 2] = ["airflow-scheduler", "airflow-webserver"];
/// Five seconds for each connection, and the start of a container.
const LIMIT: Duration = Duration::from_secs(40);

/// Knocks at each place from the running scheduler, else from a container of
/// `image` that is gone afterwards; `None` where there is neither.
pub(super) fn knock(
    engine: &Engine<'_>,
    containers: &[Container],
    image: Option<&str>,
    places: &[External],
) -> Result<Option<Vec<Answer>>> {
    let docker = engine.docker();
    let running = FROM.iter().find_map(|service| {
        containers
            .iter()
            .find(|c| c.service() == *service && !c.is_one_off() && c.state.status == "running")
    });
    let what = "try the databases from inside a container";
    let step = match (running, image) {
        (Some(container), _) => {
            let id = &container.id;
            Step::new(what, cmd!(engine.sh(), "{docker} exec {id} python3"))
        }
        (None, Some(image)) => {
            let host = format!("{HOST}:host-gateway");
            Step::new(
                what,
                cmd!(
                    engine.sh(),
                    "{docker} run --rm --add-host {host} --entrypoint python3 {image}"
                ),
            )
        }
        (None, None) => return Ok(None),
    };
    let words = places.iter().flat_map(|database| {
        let (host, port) = database.target();
        [host, port.to_string(), database.kind().to_owned()]
    });
    let step = step.args(["-c", SCRIPT]).args(words).limit(LIMIT);
    let said = engine.machine().read(&step)?;
    let answers = serde_json::from_str(&said)
        .with_context(|| format!("failed to read what came of the attempt to {what}"))?;
    Ok(Some(answers))
}
