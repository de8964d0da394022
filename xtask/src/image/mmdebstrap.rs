//! Root file systems from Debian packages, by mmdebstrap, which is unpacked
//! into the project's cache and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use xshell::cmd;

use crate::config::{Workspace, environment};
use crate::error::Failure;
use crate::exec::{Machine, Step};

/// Debian 12, whose Python, PostgreSQL and MariaDB are those of the bases.
const SUITE: &str = "bookworm";
const LIMIT: Duration = Duration::from_secs(1200);
/// Programs of this machine that it takes; all are on every Debian and Ubuntu.
const NEEDED: [&str; 5] = ["apt-get", "dpkg-deb", "perl", "python3", "tar"];

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
///
/// # Errors
/// On a machine that is no Debian or Ubuntu, or whose archive does not answer.
pub(super) fn root_file_system(
    machine: &Machine,
    workspace: &Workspace,
    recipe: &Path,
    name: &str,
) -> Result<RootFs> {
    let tool = unpacked(machine, workspace)?;
    let folder = workspace.cache().join("bases").join(name);
    empty(&folder)?;
    let tar = folder.join("rootfs.tar");
    let lock = recipe.join("packages.lock");
    let step = step(machine, workspace, recipe, &tool, &tar)?;
    // A hook of ours turns the lock into apt pins.
    machine.run(&step.env("PACKAGES_LOCK", &lock))?;
    let listed = installed(machine, &tar)?;
    Ok(RootFs {
        packages_hash: HEXLOWER.encode(&Sha256::digest(listed.as_bytes())),
        moved: moved(&read(&lock)?, &listed),
        folder,
    })
}

/// The list of packages that `recipe/packages.txt` brings in today, for its
/// lock.
pub(super) fn current_packages(
    machine: &Machine,
    workspace: &Workspace,
    recipe: &Path,
    name: &str,
) -> Result<String> {
    let tool = unpacked(machine, workspace)?;
    let folder = workspace.cache().join("lock").join(name);
    empty(&folder)?;
    let tar = folder.join("rootfs.tar");
    machine.run(&step(machine, workspace, recipe, &tool, &tar)?)?;
    let listed = installed(machine, &tar)?;
    fs::remove_dir_all(&folder)
        .with_context(|| format!("failed to remove {}", folder.display()))?;
    Ok(listed)
}

fn step(
    machine: &Machine,
    workspace: &Workspace,
    recipe: &Path,
    tool: &Path,
    tar: &Path,
) -> Result<Step> {
    let packages = words(&read(&recipe.join("packages.txt"))?).join(",");
    let dpkg = workspace.root().join("bases/dpkg.conf");
    let (include, options) = (
        format!("--include={packages}"),
        format!("--dpkgopt={}", dpkg.display()),
    );
    let mut step = Step::new(
        "make a root file system of Debian packages",
        cmd!(
            machine.sh(),
            "{tool} --variant=minbase --quiet {include} {options}"
        ),
    )
    // It starts mmtarfilter, which lies beside it.
    .env(
        "PATH",
        environment::path_after(tool.parent().unwrap_or(tool)),
    )
    // The same times in every root file system of the same packages.
    .env("SOURCE_DATE_EPOCH", "315532800")
    .limit(LIMIT);
    for hooks in [workspace.root().join("bases/hooks"), recipe.join("hooks")] {
        if hooks.is_dir() {
            step = step.arg(format!("--hook-dir={}", hooks.display()));
        }
    }
    Ok(step.arg(SUITE).arg(tar))
}

/// mmdebstrap's own script, unpacked once.
fn unpacked(machine: &Machine, workspace: &Workspace) -> Result<PathBuf> {
    for program in NEEDED {
        if which::which(program).is_err() {
            bail!("{program} is missing, and Debian packages need a Debian or Ubuntu");
        }
    }
    let folder = workspace.cache().join("mmdebstrap");
    let script = folder.join("usr/bin/mmdebstrap");
    if script.is_file() {
        return Ok(script);
    }
    empty(&folder)?;
    let sh = machine.sh();
    let download = || {
        let at = folder.display().to_string();
        let command = "cd \"$1\" && apt-get download --quiet mmdebstrap";
        Step::new("download mmdebstrap", cmd!(sh, "sh -c {command} sh {at}")).limit(LIMIT)
    };
    if machine.run(&download()).is_err() {
        // A machine that never asked its archive knows no packages yet.
        machine.run(
            &Step::new(
                "ask Debian for its packages",
                cmd!(sh, "apt-get update --quiet"),
            )
            .limit(LIMIT),
        )?;
        machine.run(&download())?;
    }
    let package = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .context("failed to find the package of mmdebstrap that apt-get downloaded")?;
    machine.run(&Step::new(
        "unpack mmdebstrap",
        cmd!(sh, "dpkg-deb --extract {package} {folder}"),
    ))?;
    Ok(script)
}

/// `name=version` of each package in the archive, sorted, a line each.
fn installed(machine: &Machine, tar: &Path) -> Result<String> {
    let step = Step::new(
        "read the list of packages",
        cmd!(
            machine.sh(),
            "tar --extract --to-stdout --file {tar} ./var/lib/dpkg/status"
        ),
    );
    Ok(package_list(&machine.read(&step)?))
}

fn package_list(status: &str) -> String {
    let field = |paragraph: &str, name: &str| -> Option<String> {
        let line = paragraph.lines().find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    let mut lines: Vec<String> = status
        .split("\n\n")
        .filter_map(|p| {
            Some(format!(
                "{}={}\n",
                field(p, "Package:")?,
                field(p, "Version:")?
            ))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Names of packages that are not there in their locked version.
fn moved(lock: &str, listed: &str) -> Vec<String> {
    let listed: Vec<&str> = listed.lines().collect();
    words(lock)
        .into_iter()
        .filter(|line| !listed.contains(line))
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .collect()
}

/// The lines of a list without comments.
fn words(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))
}

/// What to do where a base cannot be made from packages.
pub(super) fn cannot_make(name: &str) -> Failure {
    Failure::tool(format!(
        "failed to make an equivalent of the {name} base image"
    ))
    .hint(
        "make the image registry or Debian's archive reachable, or load the base images from\n\
         another machine: docker save apache/airflow:2.7.1-python3.11 postgres:15 mariadb:10.11 | docker load",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_packages_is_read_from_dpkgs_status() {
        let status = "Package: tzdata\nStatus: x\nVersion: 2024a\n\nPackage: apt\nVersion: 2.6\n";
        assert_eq!(package_list(status), "apt=2.6\ntzdata=2024a\n");
    }

    #[test]
    fn packages_that_moved_are_named() {
        let lock = "# locked\napt=2.6\ntzdata=2024a\n";
        assert_eq!(moved(lock, "apt=2.6\ntzdata=2024b\n"), ["tzdata"]);
        assert_eq!(moved(lock, lock), [""; 0]);
    }
}
