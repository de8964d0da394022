//! The programs on PATH: which `docker` and which Compose, and why.

use super::check::Check;
use crate::engine::{BUILDKIT_HINT, Cli, Container, Engine};
use crate::stack::{Candidate, Compose};

/// Every `docker`, what it can do, which is used and why.
pub(super) fn docker(clis: &[Cli], engine: Option<&Engine<'_>>) -> Check {
    let Some(engine) = engine else {
        return Check::fail("docker", "no docker on PATH").fix("cargo xtask doctor --fix");
    };
    let is_used = |cli: &&Cli| cli.path == *engine.docker();
    let says = |cli: &Cli| format!("{} {}", cli.path.display(), cli.buildkit.says());
    let Some(used) = clis.iter().find(is_used) else {
        return Check::fail("docker", "no docker on PATH").fix("cargo xtask doctor --fix");
    };
    let others: Vec<String> = clis
        .iter()
        .filter(|cli| !is_used(cli))
        .map(|cli| format!("\nnot used: {}", says(cli)))
        .collect();
    let text = format!("{}{}", says(used), others.concat());
    if used.buildkit.builds() {
        Check::pass("docker", text)
    } else {
        Check::fail("docker", text).fix(BUILDKIT_HINT)
    }
}

/// Every Compose, which is used and why.
pub(super) fn compose(candidates: &[Candidate], containers: &[Container]) -> Check {
    let used = match Compose::among(candidates, containers) {
        Ok(used) => used,
        Err(error) => {
            let mut check = Check::unanswered("compose", &error);
            check.says.push_str(&not_used(candidates, None));
            return check;
        }
    };
    let command = candidates
        .iter()
        .find(|candidate| candidate.compose.as_ref() == Some(&used))
        .map_or(used.name(), |candidate| candidate.command.as_str());
    let why = if used.made(containers) {
        ", the generation that made this project's containers"
    } else {
        ""
    };
    let others = not_used(candidates, Some(&used));
    Check::pass(
        "compose",
        format!("{command} {}{why}{others}", used.version),
    )
}

fn not_used(candidates: &[Candidate], used: Option<&Compose>) -> String {
    candidates
        .iter()
        .filter(|candidate| used.is_none() || candidate.compose.as_ref() != used)
        .map(|candidate| {
            let old = match candidate.compose {
                Some(_) => "",
                None => ", too old: 1.29 is the oldest that will do",
            };
            format!(
                "\nnot used: {} {}{old}",
                candidate.command, candidate.version
            )
        })
        .collect()
}
