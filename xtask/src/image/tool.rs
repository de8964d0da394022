//! Python tools that nobody has to install: each by its own lock, in a throwaway
//! container of the Airflow base, on a copy of the files that it needs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::config::{Workspace, environment};
use crate::engine::Engine;
use crate::exec::Step;

/// Where the working copy is mounted.
const AT: &str = "/lock";
/// Where the tools look for a CA bundle, each by a variable of its own.
const CA: [&str; 3] = [
    "SSL_CERT_FILE=/ca.crt",
    "PIP_CERT=/ca.crt",
    "REQUESTS_CA_BUNDLE=/ca.crt",
];

/// Empties `folder` and copies `files` of the workspace there, under their names.
///
/// # Errors
/// Where one is missing, or the folder cannot be written.
pub(crate) fn working_copy<'f>(
    workspace: &Workspace,
    folder: &Path,
    files: impl IntoIterator<Item = &'f str>,
) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    for file in files {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().unwrap_or(folder))
            .and_then(|()| fs::copy(workspace.root().join(file), &to))
            .with_context(|| format!("failed to copy {file} to {}", to.display()))?;
    }
    Ok(())
}

/// Installs what `lock` holds into the working copy, for [`path_of`].
pub(crate) fn install(
    engine: &Engine<'_>,
    folder: &Path,
    base: &str,
    tool: &str,
    lock: &str,
) -> Step {
    container(
        engine,
        &format!("install {tool} by its lock"),
        folder,
        base,
        "python",
    )
    .args([
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
    ])
    .arg(path_of(tool))
    .args(["-r", lock])
}

/// Where an installed tool is, in a container.
pub(crate) fn path_of(tool: &str) -> String {
    format!("{AT}/{tool}")
}

/// A program in a container of the base image, working in the copy, as ourselves.
/// Arguments that are added are the program's.
pub(crate) fn container(
    engine: &Engine<'_>,
    what: &str,
    folder: &Path,
    base: &str,
    program: &str,
) -> Step {
    with_environment(engine, what, folder, base, program, &[])
}

/// The same, with variables of the program's own: `NAME=value`, never a secret.
pub(crate) fn with_environment(
    engine: &Engine<'_>,
    what: &str,
    folder: &Path,
    base: &str,
    program: &str,
    variables: &[&str],
) -> Step {
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
    let ca = environment::ca_bundle();
    if let Some(ca) = &ca {
        step = step
            .arg("--volume")
            .arg(format!("{}:/ca.crt:ro", ca.display()));
    }
    let of_ca: &[&str] = if ca.is_some() { &CA } else { &[] };
    for variable in of_ca.iter().chain(variables) {
        step = step.args(["--env", variable]);
    }
    step.arg(base)
}
