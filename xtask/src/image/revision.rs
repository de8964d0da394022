//! The tree as it was at a git revision.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::config::{Deploy, Workspace};
use crate::exec::{Machine, Step};

/// A revision's files in a folder of their own, gone when dropped.
#[derive(Debug)]
pub(crate) struct Revision {
    /// The full commit id.
    pub(crate) commit: String,
    /// The folder, as a checkout.
    pub(crate) workspace: Workspace,
    folder: PathBuf,
}

impl Revision {
    /// Unpacks what `name` names; `None` where git knows no such revision, or
    /// where there is no git.
    pub(crate) fn unpack(
        machine: &Machine,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Option<Self>> {
        let Some(commit) = commit(machine, name)? else {
            return Ok(None);
        };
        let folder = workspace
            .cache()
            .join(format!("revision-{}-{commit}", std::process::id()));
        let unpacked = Self {
            commit: commit.clone(),
            workspace: Workspace::at(&folder),
            folder: folder.clone(),
        };
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let (sh, archive) = (machine.sh(), folder.join("tree.tar"));
        machine.run(&Step::new(
            format!("read the tree of {name}"),
            cmd!(sh, "git archive --format=tar --output {archive} {commit}"),
        ))?;
        machine.run(&Step::new(
            format!("unpack the tree of {name}"),
            cmd!(sh, "tar --extract --file {archive} --directory {folder}"),
        ))?;
        Ok(Some(unpacked))
    }

    /// Its `deploy.toml`.
    pub(crate) fn deploy(&self) -> Result<Deploy> {
        Deploy::read(&self.workspace)
            .with_context(|| format!("failed to read what {} was built from", self.commit))
    }
}

impl Drop for Revision {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// The commit that `name` stands for.
fn commit(machine: &Machine, name: &str) -> Result<Option<String>> {
    if which::which("git").is_err() {
        return Ok(None);
    }
    let full = format!("{name}^{{commit}}");
    let captured = machine.capture(&Step::new(
        "ask git for a revision",
        cmd!(
            machine.sh(),
            "git rev-parse --verify --quiet --end-of-options {full}"
        ),
    ))?;
    Ok(captured.ok().then(|| captured.stdout.trim().to_owned()))
}
