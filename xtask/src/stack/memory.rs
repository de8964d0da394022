//! What this checkout knows of its volumes from the last time: which settings
//! they were made with, and what was done in them. It saves work; nothing
//! depends on it being there.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Workspace;
use crate::exec::Machine;

/// `.cache/stack-<project>.json`, mode 0600.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// Random, so that a fingerprint tells nothing about a short password.
    salt: String,
    /// Volume name → what it was made with.
    volumes: BTreeMap<String, Volume>,
    /// `deed: part` → fingerprint of that part, for all that a deed (`init`,
    /// `seed`, `up`) depends on.
    deeds: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Volume {
    /// See [`super::data::identity`].
    identity: String,
    /// Variable → fingerprint of its value.
    secrets: BTreeMap<String, String>,
}

impl Memory {
    /// What is known of `project`; nothing where the file is gone or unreadable.
    pub(crate) fn read(workspace: &Workspace, project: &str) -> Self {
        fs::read(path(workspace, project))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Keeps it.
    pub(crate) fn write(
        &self,
        machine: &Machine,
        workspace: &Workspace,
        project: &str,
    ) -> Result<()> {
        fs::create_dir_all(workspace.cache())?;
        let text = serde_json::to_vec_pretty(self)?;
        machine.write(&path(workspace, project), &text, 0o600)
    }

    /// The parts that are not as they were when `deed` was last done; `None`
    /// where it is not known to have been done with each of them.
    pub(crate) fn changed<'p>(
        &self,
        deed: &str,
        parts: &[(&'p str, String)],
    ) -> Option<Vec<&'p str>> {
        parts
            .iter()
            .map(|(name, value)| {
                let known = self.deeds.get(&part_of(deed, name))?;
                Some((*known != self.fingerprint(&[value])).then_some(*name))
            })
            .collect::<Option<Vec<_>>>()
            .map(|names| names.into_iter().flatten().collect())
    }

    /// Whether `deed` was done with exactly these parts.
    pub(crate) fn did(&self, deed: &str, parts: &[(&str, String)]) -> bool {
        self.changed(deed, parts).is_some_and(|c| c.is_empty())
    }

    /// Notes that `deed` was done with these parts, and with no others.
    pub(crate) fn done(&mut self, deed: &str, parts: &[(&str, String)]) {
        self.salt_once();
        self.forget(deed);
        for (name, value) in parts {
            let fingerprint = self.fingerprint(&[value]);
            self.deeds.insert(part_of(deed, name), fingerprint);
        }
    }

    /// Whether `deed` is noted with anything.
    pub(crate) fn knows(&self, deed: &str) -> bool {
        let lead = part_of(deed, "");
        self.deeds.keys().any(|name| name.starts_with(&lead))
    }

    /// As though `deed` had never been done.
    pub(crate) fn forget(&mut self, deed: &str) {
        let lead = part_of(deed, "");
        self.deeds.retain(|name, _| !name.starts_with(&lead));
    }

    /// Notes which secrets, by variable and value, a volume was made with.
    pub(crate) fn volume_holds(&mut self, name: &str, identity: &str, secrets: &[(&str, &str)]) {
        self.salt_once();
        let mut volume = self
            .volumes
            .remove(name)
            .filter(|volume| volume.identity == identity)
            .unwrap_or_else(|| Volume {
                identity: identity.to_owned(),
                secrets: BTreeMap::new(),
            });
        for (variable, value) in secrets {
            volume
                .secrets
                .insert((*variable).to_owned(), self.fingerprint(&[value]));
        }
        self.volumes.insert(name.to_owned(), volume);
    }

    /// The variables whose value is not the one that the volume is known to
    /// have been made with, and the identity of its data. Asks nobody: whether it
    /// is still that volume is for the caller to see.
    pub(crate) fn volume_differs<'v>(
        &self,
        name: &str,
        secrets: &[(&'v str, &str)],
    ) -> Option<(&str, Vec<&'v str>)> {
        let volume = self.volumes.get(name)?;
        let differing: Vec<&str> = secrets
            .iter()
            .filter(|(variable, value)| {
                let known = volume.secrets.get(*variable);
                known.is_some_and(|known| *known != self.fingerprint(&[value]))
            })
            .map(|(variable, _)| *variable)
            .collect();
        (!differing.is_empty()).then_some((volume.identity.as_str(), differing))
    }

    fn salt_once(&mut self) {
        if self.salt.is_empty() {
            let mut bytes = [0; 16];
            // Without randomness the salt is constant: weaker, not wrong.
            getrandom::fill(&mut bytes).ok();
            self.salt = HEXLOWER.encode(&bytes);
        }
    }

    fn fingerprint(&self, parts: &[&str]) -> String {
        let mut hash = Sha256::new();
        for part in std::iter::once(&self.salt.as_str()).chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        HEXLOWER.encode(&hash.finalize())
    }
}

fn part_of(deed: &str, part: &str) -> String {
    format!("{deed}: {part}")
}

fn path(workspace: &Workspace, project: &str) -> std::path::PathBuf {
    workspace.cache().join(format!("stack-{project}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_known_by_each_of_its_secrets() {
        let mut memory = Memory::default();
        memory.volume_holds("v", "monday", &[("A", "1"), ("B", "2")]);
        let differs = |memory: &Memory, secrets: &[(&'static str, &str)]| {
            memory
                .volume_differs("v", secrets)
                .map(|(identity, names)| (identity.to_owned(), names))
        };
        assert_eq!(differs(&memory, &[("A", "1"), ("B", "2")]), None);
        assert_eq!(
            differs(&memory, &[("B", "2")]),
            None,
            "one that is no longer ours"
        );
        assert_eq!(
            differs(&memory, &[("C", "3")]),
            None,
            "one that was never seen"
        );
        let changed = differs(&memory, &[("A", "1"), ("B", "3")]);
        assert_eq!(changed, Some(("monday".to_owned(), vec!["B"])));
        memory.volume_holds("v", "tuesday", &[("A", "9")]);
        assert_eq!(
            differs(&memory, &[("A", "9"), ("B", "3")]),
            None,
            "a new volume"
        );
        assert_eq!(
            memory.volume_differs("w", &[("A", "1")]),
            None,
            "another volume"
        );
    }

    #[test]
    fn a_deed_of_named_parts_tells_which_of_them_changed() {
        let parts = |env: &str, compose: &str| {
            vec![("a file", env.to_owned()), ("another", compose.to_owned())]
        };
        let mut memory = Memory::default();
        assert_eq!(memory.changed("up", &parts("1", "2")), None);
        memory.done("up", &parts("1", "2"));
        assert_eq!(memory.changed("up", &parts("1", "2")), Some(vec![]));
        assert_eq!(
            memory.changed("up", &parts("1", "3")),
            Some(vec!["another"])
        );
        assert_eq!(memory.changed("down", &parts("1", "2")), None);
        assert!(memory.did("up", &parts("1", "2")) && !memory.did("up", &parts("1", "3")));
        memory.done("up", &parts("1", "2")[..1]);
        assert_eq!(memory.changed("up", &parts("1", "2")), None, "a part fewer");
        assert!(memory.knows("up") && !memory.knows("u"));
        memory.forget("up");
        assert!(!memory.knows("up"));
        assert_eq!(memory.changed("up", &parts("1", "2")[..1]), None);
    }
}
