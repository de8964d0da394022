//! What only `doctor` asks a machine.

use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use super::facts::{Folder, Told};
use crate::config::Host;
use crate::exec::{Machine, Step};

const CLOSER: &str = include_str!("closer.sh");
const ANSWER: Duration = Duration::from_secs(60);

/// Who listens on a port there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// It can be had.
    Nobody,
    /// A container, by Compose's project, which may be empty, and its own name.
    Container {
        /// Compose's project; empty where another tool made it.
        project: String,
        /// Its name.
        name: String,
    },
    /// A program.
    Program,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Closer {
    /// Files of settings and secrets, by path.
    pub(crate) settings: Vec<(String, Folder)>,
    /// Each port that was asked for.
    pub(crate) ports: Vec<(u16, Holder)>,
}

/// Reads; changes nothing.
///
/// # Errors
/// Where the machine is not reached.
pub(crate) fn look_closer(machine: &Machine, host: &Host, ports: &[u16]) -> Result<Closer> {
    let folder = &host.directory;
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let step = Step::new(
        "look closer at the host",
        cmd!(machine.sh(), "sh -c {CLOSER} closer {folder} {ports...}"),
    )
    .limit(ANSWER);
    Ok(parse(&Told::of(&machine.read(&step)?)))
}

fn parse(told: &Told) -> Closer {
    let settings = told.all("settings").filter_map(|line| {
        let (mode, rest) = line.split_once(' ')?;
        let (owner, path) = rest.split_once(' ')?;
        let (owner, mode) = (owner.to_owned(), mode.to_owned());
        Some((path.to_owned(), Folder { owner, mode }))
    });
    let ports = told.all("port").filter_map(|line| {
        let (port, holder) = line.split_once(' ').unwrap_or((line, ""));
        let holder = match holder.split_once(' ') {
            None if holder.is_empty() => Holder::Nobody,
            Some(("-", _)) => Holder::Program,
            // One that Compose did not make has no project before its name.
            None => Holder::Container {
                project: String::new(),
                name: holder.to_owned(),
            },
            Some((project, name)) => Holder::Container {
                project: project.to_owned(),
                name: name.to_owned(),
            },
        };
        Some((port.parse().ok()?, holder))
    });
    Closer {
        settings: settings.collect(),
        ports: ports.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closer_look_is_read() {
        let told = "settings 600 ubuntu /srv/dental/env/a.env\n\
                    port 8080\nport 5432 dental dental-postgres-1\nport 3306 - -\nport 80  web\n";
        let container = |project: &str, name: &str| Holder::Container {
            project: project.into(),
            name: name.into(),
        };
        let folder = Folder {
            owner: "ubuntu".into(),
            mode: "600".into(),
        };
        assert_eq!(
            parse(&Told::of(told)),
            Closer {
                settings: vec![("/srv/dental/env/a.env".into(), folder)],
                ports: vec![
                    (8080, Holder::Nobody),
                    (5432, container("dental", "dental-postgres-1")),
                    (3306, Holder::Program),
                    (80, container("", "web")),
                ],
            }
        );
    }
}
