//! All that the stack has on a host.

use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use crate::config::Host;
use crate::exec::{Machine, Step};

const LEAVINGS: &str = include_str!("leavings.sh");
const ANSWER: Duration = Duration::from_secs(60);

/// By name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leavings {
    /// Running or not.
    pub(crate) containers: Vec<String>,
    /// Compose's own.
    pub(crate) networks: Vec<String>,
    /// The data.
    pub(crate) volumes: Vec<String>,
    /// Those that its releases name.
    pub(crate) images: Vec<String>,
    /// Paths: releases, settings, logs.
    pub(crate) files: Vec<String>,
    /// Paths of copies and of the audit log.
    pub(crate) kept: Vec<String>,
}

impl Leavings {
    /// What goes, with what is called what; the kept too where that is asked for.
    pub(crate) fn by_kind(&self, with_kept: bool) -> Vec<(&'static str, &[String])> {
        let mut kinds: Vec<(&'static str, &[String])> = vec![
            ("containers", &self.containers),
            ("networks", &self.networks),
            ("volumes", &self.volumes),
            ("images", &self.images),
            ("files", &self.files),
        ];
        if with_kept {
            kinds.push(("copies", &self.kept));
        }
        kinds
    }

    /// All that goes.
    pub(crate) fn goes(&self, with_kept: bool) -> Vec<&str> {
        let kinds = self.by_kind(with_kept).into_iter();
        kinds
            .flat_map(|(_, names)| names)
            .map(String::as_str)
            .collect()
    }
}

/// Reads; changes nothing. Without a project, files alone are found.
pub(crate) fn leavings(there: &Machine, host: &Host, project: Option<&str>) -> Result<Leavings> {
    let (directory, project) = (&host.directory, project.unwrap_or_default());
    let step = Step::new(
        "list what the stack has there",
        cmd!(there.sh(), "sh -c {LEAVINGS} list {directory} {project}"),
    )
    .limit(ANSWER);
    Ok(parse(&there.read(&step)?))
}

fn parse(told: &str) -> Leavings {
    let mut found = Leavings::default();
    for (kind, name) in told.lines().filter_map(|line| line.split_once(' ')) {
        let names = match kind {
            "container" => &mut found.containers,
            "network" => &mut found.networks,
            "volume" => &mut found.volumes,
            "image" => &mut found.images,
            "file" => &mut found.files,
            "kept" => &mut found.kept,
            _ => continue,
        };
        names.push(name.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_go_only_where_that_is_asked_for() {
        let found = parse(
            "container a\nvolume b\nfile /srv/dental/env/c.env\nkept /srv/dental/audit.jsonl\n",
        );
        assert_eq!(found.goes(false), ["a", "b", "/srv/dental/env/c.env"]);
        assert_eq!(found.goes(true).len(), 4);
    }
}
