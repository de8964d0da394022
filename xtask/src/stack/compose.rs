//! The Compose tool: `docker compose` (v2) or `docker-compose` (v1 ≥ 1.29).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::engine::{Ask, Container, Engine, known, on_path};
use crate::error::Failure;
use crate::exec::{Captured, Machine, Step};

/// v1 knows `service_completed_successfully` and profiles from here on.
pub(crate) const OLDEST_V1: (u32, u32) = (1, 29);

/// A Compose on PATH, whether it will do or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// `/usr/bin/docker compose`
    pub(crate) command: String,
    /// As it says of itself: `1.25.0`.
    pub(crate) version: String,
    /// `None` where it is too old.
    pub(crate) compose: Option<Compose>,
}

/// Each generation recreates every container of the other, Postgres too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Python, `docker-compose`.
    V1,
    /// A plugin of the docker CLI, or the same as a program of its own.
    V2,
}

/// One Compose that works here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compose {
    /// Program and leading arguments.
    argv: Vec<PathBuf>,
    /// Which of the two it is.
    pub(crate) generation: Generation,
    /// As it says of itself: `2.26.1`.
    pub(crate) version: String,
}

impl Compose {
    /// The Compose that made the project's containers, or v2 before v1 where
    /// there are none.
    ///
    /// # Errors
    /// A user failure where none works, or where only the other generation does.
    pub(crate) fn find(engine: &Engine<'_>, containers: &[Container]) -> Result<Self> {
        Self::among(&Self::candidates(engine.machine(), Ask::Once), containers)
    }

    /// The same, among those that were asked already.
    pub(crate) fn among(candidates: &[Candidate], containers: &[Container]) -> Result<Self> {
        let mut all: Vec<Self> = candidates
            .iter()
            .filter_map(|candidate| candidate.compose.clone())
            .collect();
        all.sort_by_key(|compose| compose.generation == Generation::V1);
        choose(all, containers.iter().find_map(maker))
    }

    /// Every Compose on this machine that starts.
    pub(crate) fn candidates(machine: &Machine, how: Ask) -> Vec<Candidate> {
        let plugins = on_path("docker").into_iter();
        let programs = on_path("docker-compose").into_iter();
        plugins
            .map(|docker| vec![docker, PathBuf::from("compose")])
            .chain(programs.map(|program| vec![program]))
            .filter_map(|argv| ask(machine, how, argv))
            .collect()
    }

    /// Whether it made these containers.
    pub(crate) fn made(&self, containers: &[Container]) -> bool {
        containers.iter().find_map(maker) == Some(self.generation)
    }

    /// The beginning of a command.
    pub(crate) fn step(&self, sh: &Shell, what: &str) -> Step {
        start(sh, what, &self.argv)
    }

    /// How a person calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self.generation {
            Generation::V1 => "docker-compose",
            Generation::V2 => "docker compose",
        }
    }
}

fn ask(machine: &Machine, how: Ask, argv: Vec<PathBuf>) -> Option<Candidate> {
    let question = (argv.first()?.as_path(), "compose version");
    let version = known::answer(machine, how, question, || {
        let step = start(machine.sh(), "ask Compose for its version", &argv)
            .args(["version", "--short"])
            .limit(Duration::from_secs(20));
        let captured = machine.capture(&step).ok().filter(Captured::ok)?;
        Some(captured.stdout.trim().trim_start_matches('v').to_owned())
    })?;
    let words: Vec<String> = argv.iter().map(|w| w.display().to_string()).collect();
    Some(Candidate {
        command: words.join(" "),
        compose: generation(&version).map(|generation| Compose {
            argv,
            generation,
            version: version.clone(),
        }),
        version,
    })
}

fn start(sh: &Shell, what: &str, argv: &[PathBuf]) -> Step {
    let (program, rest) = argv
        .split_first()
        .map_or((PathBuf::from("docker-compose"), &[][..]), |(p, r)| {
            (p.clone(), r)
        });
    Step::new(what, cmd!(sh, "{program} {rest...}"))
}

/// `None` where the version is no version or too old.
fn generation(version: &str) -> Option<Generation> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    match major {
        0 => None,
        1 => ((major, minor) >= OLDEST_V1).then_some(Generation::V1),
        _ => Some(Generation::V2),
    }
}

/// The generation that made a container, by the label that it leaves.
fn maker(container: &Container) -> Option<Generation> {
    let labels = &container.config.labels;
    generation(labels.get("com.docker.compose.version")?)
}

fn choose(mut all: Vec<Compose>, made_by: Option<Generation>) -> Result<Compose> {
    let at = match made_by {
        Some(generation) => all.iter().position(|c| c.generation == generation),
        None => (!all.is_empty()).then_some(0),
    };
    match (at, made_by) {
        (Some(at), _) => Ok(all.swap_remove(at)),
        (None, Some(generation)) if !all.is_empty() => {
            let name = match generation {
                Generation::V1 => "v1 (docker-compose)",
                Generation::V2 => "v2 (docker compose)",
            };
            Err(Failure::user(format!(
                "failed to choose a Compose: the running stack was made by {name}, which is not \
                 on this machine; the other would recreate every container"
            ))
            .hint(format!(
                "install Compose {name} again, or take the stack down first, data is kept: cargo xtask down"
            ))
            .into())
        }
        _ => Err(Failure::user(
            "failed to find Compose: neither `docker compose` nor `docker-compose` \
                           (1.29 or newer) works here",
        )
        .hint("cargo xtask doctor --fix")
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(version: &str) -> Compose {
        Compose {
            argv: vec![],
            generation: generation(version).unwrap(),
            version: version.into(),
        }
    }

    #[test]
    fn versions_are_told_apart() {
        for (version, expected) in [
            ("1.29.2", Some(Generation::V1)),
            ("1.28.6", None),
            ("2.26.1-4", Some(Generation::V2)),
            ("5.0.0", Some(Generation::V2)),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(generation(version), expected, "{version}");
        }
    }

    #[test]
    fn a_stack_is_kept_by_the_generation_that_made_it() {
        let both = || vec![compose("2.26.1"), compose("1.29.2")];
        let version = |made_by| choose(both(), made_by).unwrap().version;
        assert_eq!(version(None), "2.26.1");
        assert_eq!(version(Some(Generation::V1)), "1.29.2");
        assert_eq!(version(Some(Generation::V2)), "2.26.1");
    }

    #[test]
    fn the_other_generation_is_refused() {
        let error = choose(vec![compose("2.26.1")], Some(Generation::V1)).unwrap_err();
        assert!(error.to_string().contains("would recreate every container"));
        let error = choose(vec![], None).unwrap_err();
        assert!(error.to_string().contains("failed to find Compose"));
    }
}
