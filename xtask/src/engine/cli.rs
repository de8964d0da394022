//! The `docker` programs on PATH.
//!
//! Several can be there, and the first may be one that cannot build with
//! BuildKit (28.x without the buildx plugin, say): the choice goes by what each
//! can do, not by its place.

use std::path::PathBuf;

use xshell::cmd;

use super::ANSWER;
use crate::exec::{Machine, Step};

/// One `docker` on PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cli {
    /// The program.
    pub(crate) path: PathBuf,
    /// Why it can build with BuildKit, or why not.
    pub(crate) buildkit: Result<&'static str, &'static str>,
}

/// Every program by that name on PATH, in order, each once: /bin is often a
/// link to /usr/bin.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    which::which_all(name)
        .into_iter()
        .flatten()
        .filter(|path| {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let new = !seen.contains(&real);
            seen.push(real);
            new
        })
        .collect()
}

/// Every `docker` on PATH, in order, with what it can build.
pub(crate) fn clis(machine: &Machine) -> Vec<Cli> {
    on_path("docker")
        .into_iter()
        .map(|path| Cli {
            buildkit: buildkit(machine, &path),
            path,
        })
        .collect()
}

/// Asks the CLI itself: only one that builds with BuildKit knows `--secret`.
fn buildkit(machine: &Machine, docker: &PathBuf) -> Result<&'static str, &'static str> {
    let ask = Step::new(
        "ask docker what it can build",
        cmd!(machine.sh(), "{docker} build --help"),
    )
    .env("DOCKER_BUILDKIT", "1")
    .limit(ANSWER);
    let Ok(help) = machine.capture(&ask) else {
        return Err("does not start");
    };
    if !help.stdout.contains("--secret") {
        return Err("has no BuildKit: its buildx plugin is missing");
    }
    if help.stdout.contains("buildx") {
        Ok("builds with its buildx plugin")
    } else {
        Ok("has BuildKit built in")
    }
}

/// What to install where no CLI builds with BuildKit.
pub(crate) const BUILDKIT_HINT: &str = "install the docker-buildx-plugin package of your docker's distribution, or: \
     cargo xtask doctor --fix";
