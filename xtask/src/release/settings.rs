//! Settings of a host: those that a release there serves with, and what differs
//! from others.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use xshell::cmd;

use super::code::LIST;
use super::{Code, Release};
use crate::config::{EnvFile, Host};
use crate::exec::{Machine, Step};

const ANSWER: Duration = Duration::from_secs(60);

/// Names alone; never a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Set here and not there.
    pub(crate) added: Vec<String>,
    /// Set there and not here.
    pub(crate) removed: Vec<String>,
    /// Set to something else.
    pub(crate) changed: Vec<String>,
}

impl Difference {
    /// What makes `here` of `there`; empty counts as not set.
    pub(crate) fn between(here: &EnvFile, there: &EnvFile) -> Self {
        let mut found = Self::default();
        let both = here.entries().chain(there.entries());
        let names: BTreeSet<&str> = both.map(|(name, _)| name).collect();
        for name in names {
            let list = match (here.get(name), there.get(name)) {
                (Some(_), None) => &mut found.added,
                (None, Some(_)) => &mut found.removed,
                (here, there) if here != there => &mut found.changed,
                _ => continue,
            };
            list.push(name.to_owned());
        }
        found
    }

    /// Nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// The settings that a release serves with.
pub(crate) fn env_of(there: &Machine, host: &Host, release: &Release) -> Result<EnvFile> {
    let path = format!("{}/env/{}.env", host.directory, release.env);
    let step = Step::new("read the host's settings", cmd!(there.sh(), "cat {path}")).limit(ANSWER);
    Ok(EnvFile::parse(&there.read(&step)?))
}

/// The files of a release as they lie there, and its images by the names of their
/// variables.
pub(crate) fn made_of(
    there: &Machine,
    host: &Host,
    release: &Release,
) -> Result<(Code, Vec<(String, String)>)> {
    let folder = format!("{}/code/releases/{}", host.directory, release.id);
    let script = format!("sed -n 's/^export /export /p' \"$1/.release/compose\" || exit 1\n{LIST}");
    let step = Step::new(
        "list the release that serves",
        cmd!(there.sh(), "sh -c {script} list {folder}"),
    )
    .limit(ANSWER);
    let told = there.read(&step)? + "\n";
    let image = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        name.ends_with("_IMAGE")
            .then(|| (name.to_owned(), value.to_owned()))
    };
    Ok((Code::read(&told), told.lines().filter_map(image).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_compared_by_name() {
        let here = EnvFile::parse("A=1\nB=2\nC=\nE=5\n");
        let there = EnvFile::parse("# by hand\nA=1\nB=secret\nC=3\nD=\n");
        let found = Difference::between(&here, &there);
        assert_eq!(
            (found.added, found.removed, found.changed),
            (vec!["E".into()], vec!["C".into()], vec!["B".into()])
        );
        assert!(Difference::between(&here, &here).is_empty());
    }
}
