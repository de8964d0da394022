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
#[serde(default, deny_unknown_fields)]
pub(crate) struct Memory {
    /// Random, so that a fingerprint tells nothing about a short password.
    salt: String,
    /// Volume name → what it was made with.
    volumes: BTreeMap<String, Volume>,
    /// Name of a deed (`init`, `seed`) → fingerprint of all that it depends on.
    deeds: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Volume {
    created: String,
    secrets: String,
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

    /// Whether `deed` was done with exactly these `parts`.
    pub(crate) fn did(&self, deed: &str, parts: &[&str]) -> bool {
        self.deeds.get(deed) == Some(&self.fingerprint(parts))
    }

    /// Notes that `deed` was done with these `parts`.
    pub(crate) fn done(&mut self, deed: &str, parts: &[&str]) {
        self.salt_once();
        let fingerprint = self.fingerprint(parts);
        self.deeds.insert(deed.to_owned(), fingerprint);
    }

    /// Notes which secrets a volume was made with.
    pub(crate) fn volume_holds(&mut self, name: &str, created: &str, secrets: &[&str]) {
        self.salt_once();
        let volume = Volume {
            created: created.to_owned(),
            secrets: self.fingerprint(secrets),
        };
        self.volumes.insert(name.to_owned(), volume);
    }

    /// Whether a volume is known to have been made with other secrets.
    pub(crate) fn volume_differs(&self, name: &str, created: &str, secrets: &[&str]) -> bool {
        self.volumes
            .get(name)
            .is_some_and(|v| v.created == created && v.secrets != self.fingerprint(secrets))
    }

    /// When the volume was made that is known to hold other secrets. Asks
    /// nobody: whether it is still that volume is for the caller to see.
    pub(crate) fn volume_in_doubt(&self, name: &str, secrets: &[&str]) -> Option<&str> {
        let created = self.volumes.get(name)?.created.as_str();
        self.volume_differs(name, created, secrets)
            .then_some(created)
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

fn path(workspace: &Workspace, project: &str) -> std::path::PathBuf {
    workspace.cache().join(format!("stack-{project}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_known_by_its_birth_and_its_secrets() {
        let mut memory = Memory::default();
        memory.volume_holds("v", "monday", &["a", "b"]);
        assert!(!memory.volume_differs("v", "monday", &["a", "b"]));
        assert!(memory.volume_differs("v", "monday", &["a", "c"]));
        assert!(memory.volume_differs("v", "monday", &["ab", ""]));
        assert!(
            !memory.volume_differs("v", "tuesday", &["a", "c"]),
            "another volume by the same name"
        );
        assert!(!memory.volume_differs("w", "monday", &["a"]), "never seen");
    }

    #[test]
    fn a_deed_counts_only_with_the_same_parts() {
        let mut memory = Memory::default();
        assert!(!memory.did("init", &["x"]));
        memory.done("init", &["x"]);
        assert!(memory.did("init", &["x"]));
        assert!(!memory.did("init", &["y"]));
    }
}
