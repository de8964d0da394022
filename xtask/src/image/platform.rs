//! For which machines an engine can build.

use anyhow::Result;
use xshell::cmd;

use super::base::Base;
use crate::engine::{BuildKit, Engine};
use crate::error::Failure;
use crate::exec::Step;

/// Refuses a platform (`linux/arm64`) that the engine cannot build for, and one
/// that the base is not for.
///
/// # Errors
/// A user failure with the ways out.
pub(crate) fn refuse_other(engine: &Engine<'_>, wanted: &str, base: Option<&Base>) -> Result<()> {
    let known = known(engine)?;
    if !known.iter().any(|one| one == wanted) {
        return Err(Failure::user(format!(
            "failed to build for {wanted}: this engine builds for {} alone",
            known.join(", ")
        ))
        .hint(format!(
            "build on a machine of that kind: a checkout there, then cargo xtask build or push\n\
             or by emulation, many times slower: install qemu-user-static and binfmt-support, \
             restart docker, and see whether docker buildx inspect names {wanted}"
        ))
        .into());
    }
    match base {
        Some(base) if base.platform != wanted => Err(Failure::user(format!(
            "failed to build for {wanted}: the base {} is here for {}",
            base.reference, base.platform
        ))
        .hint(format!(
            "docker pull --platform {wanted} {}",
            base.reference
        ))
        .into()),
        _ => Ok(()),
    }
}

fn known(engine: &Engine<'_>) -> Result<Vec<String>> {
    let (docker, sh) = (engine.docker(), engine.sh());
    let format = "{{.Server.Os}}/{{.Server.Arch}}";
    let (step, read): (Step, fn(&str) -> Vec<String>) = match engine.buildkit() {
        Some(BuildKit::Plugin) => (
            Step::new(
                "ask the builder for its platforms",
                cmd!(sh, "{docker} buildx inspect"),
            ),
            platforms,
        ),
        _ => (
            Step::new(
                "ask the engine for its platform",
                cmd!(sh, "{docker} version --format {format}"),
            ),
            |told| vec![told.trim().to_owned()],
        ),
    };
    Ok(read(&engine.machine().read(&step)?))
}

/// `Platforms: linux/amd64, linux/amd64/v2*` of `docker buildx inspect`.
fn platforms(told: &str) -> Vec<String> {
    let line = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("Platforms:"));
    let each = line.unwrap_or_default().split(',');
    each.map(|one| one.trim().trim_end_matches('*').to_owned())
        .filter(|one| !one.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builders_platforms_are_read() {
        let told = "Name:   default\nNodes:\nName:      default\nPlatforms: linux/amd64*, linux/amd64/v2, linux/386\n";
        assert_eq!(
            platforms(told),
            ["linux/amd64", "linux/amd64/v2", "linux/386"]
        );
        assert_eq!(platforms("nothing"), [""; 0]);
    }
}
