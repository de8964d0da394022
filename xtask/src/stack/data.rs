//! Which data a database holds: a volume made anew has the name of the old one.

use anyhow::Result;
use xshell::cmd;

use crate::engine::{Container, Engine};
use crate::exec::Step;

/// What the first start of each database makes and no later one touches.
const FIRSTBORN: [(&str, &str, &str); 2] = [
    (
        "postgres-data",
        "postgres",
        "/var/lib/postgresql/data/PG_VERSION",
    ),
    ("mysql-data", "mysql", "/var/lib/mysql/mysql"),
];

/// Tells the data of `volume` from any other's: inode and time of birth of the
/// first thing in it. `None` where its database does not run. The engine's own
/// `CreatedAt` will not do, it moves with each start of the database.
pub(crate) fn identity(
    engine: &Engine<'_>,
    containers: &[Container],
    volume: &str,
) -> Result<Option<String>> {
    let Some((_, service, path)) = FIRSTBORN.iter().find(|(name, _, _)| *name == volume) else {
        return Ok(None);
    };
    let running = containers
        .iter()
        .find(|c| c.service() == *service && !c.is_one_off() && c.state.status == "running");
    let Some(container) = running else {
        return Ok(None);
    };
    let (docker, id, format) = (engine.docker(), &container.id, "%i %W");
    let step = Step::new(
        format!("ask {service} for the age of its data"),
        cmd!(engine.sh(), "{docker} exec {id} stat -c {format} {path}"),
    );
    let captured = engine.machine().capture(&step)?;
    let told = captured.stdout.trim();
    Ok((captured.ok() && !told.is_empty()).then(|| told.to_owned()))
}
