//! What this checkout built last: tells an image that was pruned from one that
//! was never built. Nothing depends on it being there.

use std::fs;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use crate::config::Workspace;
use crate::exec::Machine;

/// `.cache/last-build.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastBuild {
    /// `airflow-dbt-dental:<12 hex>`
    pub(crate) image: String,
    /// What it was made of.
    pub(crate) manifest: Manifest,
}

impl LastBuild {
    /// `None` where nothing was built here, or the file is not readable.
    pub(crate) fn read(workspace: &Workspace) -> Option<Self> {
        let bytes = fs::read(path(workspace)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps it, where it is not what is kept already.
    pub(crate) fn keep(&self, machine: &Machine, workspace: &Workspace) -> Result<()> {
        if Self::read(workspace).as_ref() == Some(self) {
            return Ok(());
        }
        fs::create_dir_all(workspace.cache())?;
        let text = serde_json::to_vec_pretty(self)?;
        machine.write(&path(workspace), &text, 0o644)
    }
}

fn path(workspace: &Workspace) -> std::path::PathBuf {
    workspace.cache().join("last-build.json")
}
