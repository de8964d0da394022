//! Which revision a tree is, and what in it is not committed.

use anyhow::Result;
use serde::Serialize;
use xshell::cmd;

use crate::exec::{Machine, Step};

/// A tree as git sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GitState {
    /// The full commit id.
    pub(crate) commit: String,
    /// Paths that are not as that commit has them.
    pub(crate) dirty: Vec<String>,
}

impl GitState {
    /// What git tells of these paths; `None` outside of a repository, or where
    /// there is no git.
    pub(crate) fn of(machine: &Machine, paths: &[&str]) -> Result<Option<Self>> {
        if which::which("git").is_err() {
            return Ok(None);
        }
        let sh = machine.sh();
        let status = machine.capture(&Step::new(
            "ask git what is not committed",
            cmd!(
                sh,
                "git status --porcelain=v2 --branch -z --untracked-files=all --ignored=no -- {paths...}"
            ),
        ))?;
        Ok(status.ok().then(|| parse(&status.stdout)).flatten())
    }

    /// `git-1a2b3c4d5e6f`, with `-dirty` where it is not the commit's content.
    pub(crate) fn tag(&self) -> String {
        let short = &self.commit[..12.min(self.commit.len())];
        let dirty = if self.dirty.is_empty() { "" } else { "-dirty" };
        format!("git-{short}{dirty}")
    }
}

/// `None` where there is no commit yet.
fn parse(status: &str) -> Option<GitState> {
    let mut fields = status.split('\0');
    let (mut commit, mut dirty) = (None, Vec::new());
    while let Some(field) = fields.next() {
        let (kind, rest) = field.split_once(' ').unwrap_or((field, ""));
        // A path stands behind a fixed number of words.
        let behind = |words: usize| rest.splitn(words + 1, ' ').nth(words).map(str::to_owned);
        match kind {
            "#" => {
                if let Some(id) = rest.strip_prefix("branch.oid ") {
                    commit = (id != "(initial)").then(|| id.to_owned());
                }
            }
            "1" => dirty.extend(behind(7)),
            "2" => {
                dirty.extend(behind(8));
                // The name that it had before.
                fields.next();
            }
            "u" => dirty.extend(behind(9)),
            "?" => dirty.push(rest.to_owned()),
            _ => {}
        }
    }
    commit.map(|commit| GitState { commit, dirty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_committed_is_named() {
        let status = "# branch.oid 0123456789abcdef\0# branch.head main\0\
                      1 .M N... 100644 100644 100644 aa bb a file.lock\0\
                      2 R. N... 100644 100644 100644 aa bb R100 new name\0old name\0\
                      u UU N... 1 2 3 4 aa bb cc both\0? untracked\0";
        let state = parse(status).unwrap();
        assert_eq!(
            state.dirty,
            ["a file.lock", "new name", "both", "untracked"]
        );
        assert_eq!(state.tag(), "git-0123456789ab-dirty");
        let clean = parse("# branch.oid 0123456789abcdef\0# branch.head main\0").unwrap();
        assert_eq!(
            (clean.tag().as_str(), clean.dirty.len()),
            ("git-0123456789ab", 0)
        );
        assert_eq!(parse("# branch.oid (initial)\0"), None);
    }
}
