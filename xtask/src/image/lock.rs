//! The locks: whole resolutions as a tool writes them, from what a person wrote.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::cmd;

use super::base::{Base, BaseName};
use super::mmdebstrap;
use crate::config::{Workspace, environment};
use crate::engine::Engine;
use crate::exec::Step;

/// Wheels for the oldest C library that the bases have.
const PLATFORM: &str = "x86_64-manylinux_2_28";
/// When Airflow 2.7.1 had just come out: what was current then is what it was
/// tested with.
const RELEASE: &str = "2023-09-12";
/// Nothing published later is looked at, so that the same requirements give the
/// same locks on any day. Moved by whoever upgrades.
const TODAY: &str = "2026-11-21";
/// Where the working copy is mounted.
const AT: &str = "/lock";

/// One lock and what it is compiled from.
struct Compilation {
    from: &'static str,
    lock: &'static str,
    /// A lock whose versions this one keeps.
    under: Option<&'static str>,
    /// Nothing newer than this day.
    until: &'static str,
}

/// In the order in which they build on each other.
const COMPILATIONS: [Compilation; 4] = [
    // The release's own constraints: what was current when 2.7.1 came out.
    Compilation {
        from: "bases/airflow/requirements.txt",
        lock: "bases/airflow/requirements.lock",
        under: None,
        until: RELEASE,
    },
    Compilation {
        from: "requirements-airflow.txt",
        lock: "requirements-airflow.lock",
        under: Some("bases/airflow/requirements.lock"),
        until: TODAY,
    },
    Compilation {
        from: "requirements-dev.txt",
        lock: "requirements-dev.lock",
        under: Some("requirements-airflow.lock"),
        until: TODAY,
    },
    Compilation {
        from: "requirements-installer.txt",
        lock: "requirements-installer.lock",
        under: None,
        until: TODAY,
    },
];

/// A lock whose text would change.
#[derive(Debug)]
pub(crate) struct Outdated {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// What it would hold.
    pub(crate) text: String,
}

/// Compiles every lock in containers of the base image, on a copy; gives those
/// that differ from the tree's.
pub(crate) fn compile(
    engine: &Engine<'_>,
    workspace: &Workspace,
    base: &Base,
) -> Result<Vec<Outdated>> {
    let folder = workspace.cache().join("lock/python");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    for file in COMPILATIONS.iter().flat_map(|c| [c.from, c.lock]) {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().unwrap_or(&folder))
            .and_then(|()| fs::copy(workspace.root().join(file), &to))
            .with_context(|| format!("failed to copy {file} to {}", to.display()))?;
    }
    engine.machine().run(&install_uv(engine, &folder, base))?;
    let mut outdated = Vec::new();
    for compilation in &COMPILATIONS {
        engine
            .machine()
            .run(&compile_one(engine, &folder, base, compilation))?;
        let read = |at: &Path| {
            let path = at.join(compilation.lock);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let text = read(&folder)?;
        if text != read(workspace.root())? {
            outdated.push(Outdated {
                path: PathBuf::from(compilation.lock),
                text,
            });
        }
    }
    Ok(outdated)
}

/// The locks of the bases' Debian packages that differ from today's archive.
pub(crate) fn debian(engine: &Engine<'_>, workspace: &Workspace) -> Result<Vec<Outdated>> {
    let mut outdated = Vec::new();
    for name in BaseName::ALL {
        let path = Path::new("bases").join(name.folder()).join("packages.lock");
        let recipe = workspace.root().join("bases").join(name.folder());
        let text =
            mmdebstrap::current_packages(engine.machine(), workspace, &recipe, name.folder())?;
        let full = workspace.root().join(&path);
        let locked = fs::read_to_string(&full)
            .with_context(|| format!("failed to read {}", full.display()))?;
        if text != locked {
            outdated.push(Outdated { path, text });
        }
    }
    Ok(outdated)
}

fn install_uv(engine: &Engine<'_>, folder: &Path, base: &Base) -> Step {
    container(engine, "install uv by its lock", folder, base, "python").args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--target",
        "/lock/uv",
        "-r",
        "requirements-installer.lock",
    ])
}

fn compile_one(engine: &Engine<'_>, folder: &Path, base: &Base, what: &Compilation) -> Step {
    let mut step = container(
        engine,
        &format!("compile {}", what.lock),
        folder,
        base,
        "/lock/uv/bin/uv",
    )
    .args(["pip", "compile", "--quiet", "--no-cache"])
    .args(["--python-version", "3.11", "--python-platform", PLATFORM])
    .args([
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
    ])
    .args(["--custom-compile-command", "cargo xtask lock"])
    .args(["--exclude-newer", what.until]);
    if let Some(lock) = what.under {
        step = step.args(["--constraints", lock]);
    }
    step.args(["--output-file", what.lock, what.from])
}

/// A program in a container of the base, working in the copy, as ourselves.
fn container(engine: &Engine<'_>, what: &str, folder: &Path, base: &Base, program: &str) -> Step {
    let docker = engine.docker();
    let mount = format!("{}:{AT}", folder.display());
    let user = format!("{}:0", rustix::process::getuid().as_raw());
    let mut step = Step::new(
        what,
        cmd!(
            engine.sh(),
            "{docker} run --rm --volume {mount} --workdir {AT} --user {user} --entrypoint {program}"
        ),
    )
    .args(["--env", "PIP_USER=false", "--env", "HOME=/tmp"]);
    if let Some(ca) = environment::ca_bundle() {
        step = step
            .arg("--volume")
            .arg(format!("{}:/ca.crt:ro", ca.display()))
            .args([
                "--env",
                "SSL_CERT_FILE=/ca.crt",
                "--env",
                "PIP_CERT=/ca.crt",
            ]);
    }
    step.arg(&base.reference)
}
