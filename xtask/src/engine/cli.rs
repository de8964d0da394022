//! The `docker` programs on PATH.
//!
//! Several can be there, and the first may be one that cannot build with
//! BuildKit (28.x without the buildx plugin, say): the choice goes by what each
//! can do, not by its place.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use xshell::cmd;

use super::ANSWER;
use super::known::{self, Ask};
use crate::error::Failure;
use crate::exec::{Machine, Step};

/// One `docker` on PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cli {
    /// The program.
    pub(crate) path: PathBuf,
    /// What it can build.
    pub(crate) buildkit: BuildKit,
}

/// Whether a `docker` builds with BuildKit, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BuildKit {
    /// As up to 20.10.
    BuiltIn,
    /// `docker-buildx`.
    Plugin,
    /// From 23 on, where the plugin is not installed.
    Missing,
    /// It cannot even be asked.
    DoesNotStart,
}

impl BuildKit {
    /// Whether it can build our image.
    pub(crate) fn builds(self) -> bool {
        matches!(self, Self::BuiltIn | Self::Plugin)
    }

    /// Completes "/usr/bin/docker …".
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::BuiltIn => "has BuildKit built in",
            Self::Plugin => "builds with its buildx plugin",
            Self::Missing => "has no BuildKit: its buildx plugin is missing",
            Self::DoesNotStart => "does not start",
        }
    }
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
pub(crate) fn clis(machine: &Machine, how: Ask) -> Vec<Cli> {
    let one = |path: PathBuf| {
        let question = (path.as_path(), "buildkit");
        let known = known::answer(machine, how, question, || ask(machine, &path));
        Cli {
            buildkit: known.unwrap_or(BuildKit::DoesNotStart),
            path,
        }
    };
    on_path("docker").into_iter().map(one).collect()
}

/// Asks the CLI itself: only one that builds with BuildKit knows `--secret`.
pub(crate) fn ask(machine: &Machine, docker: &Path) -> Option<BuildKit> {
    let step = Step::new(
        "ask docker what it can build",
        cmd!(machine.sh(), "{docker} build --help"),
    )
    .env("DOCKER_BUILDKIT", "1")
    .limit(ANSWER);
    let help = machine.capture(&step).ok()?.stdout;
    Some(match (help.contains("--secret"), help.contains("buildx")) {
        (false, _) => BuildKit::Missing,
        (true, true) => BuildKit::Plugin,
        (true, false) => BuildKit::BuiltIn,
    })
}

/// Sees that one of them builds with BuildKit, asked anew.
///
/// # Errors
/// A user failure that says of each why it does not.
pub(crate) fn require_buildkit(machine: &Machine) -> Result<()> {
    let clis = clis(machine, Ask::Again);
    if clis.iter().any(|cli| cli.buildkit.builds()) {
        return Ok(());
    }
    let each: Vec<String> = clis
        .iter()
        .map(|cli| format!("{} {}", cli.path.display(), cli.buildkit.says()))
        .collect();
    Err(Failure::user(format!(
        "failed to find a docker that builds with BuildKit: {}",
        each.join("; ")
    ))
    .hint(BUILDKIT_HINT))
    .context("failed to build the image")
}

/// What to install where no CLI builds with BuildKit.
pub(crate) const BUILDKIT_HINT: &str = "install the docker-buildx-plugin package of your docker's distribution, or: \
     cargo xtask doctor --fix";
