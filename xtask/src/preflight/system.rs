//! What is known of the machine that `doctor --fix` mends.
//!
//! It is asked by steps (`cat /etc/os-release`, `test -d …`), as any machine
//! that steps run on can be.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use crate::config::environment;
use crate::context::Context;
use crate::engine::{Ask, Engine, clis, on_path};
use crate::exec::{Machine, Step};
use crate::stack::Compose;

const ANSWER: Duration = Duration::from_secs(20);
/// Debian's own path; sbin may not be on a user's PATH.
const DOCKERD: &str = "/usr/sbin/dockerd";
/// Everything that may be worth installing, for one question to apt.
const PACKAGES: [&str; 6] = [
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-buildx-plugin",
    "docker-compose-v2",
    "docker-compose",
];

/// What is known of the machine; all of it read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `PRETTY_NAME`, for messages.
    pub(crate) system: String,
    /// Debian, Ubuntu, or made of one of them.
    pub(crate) debian: bool,
    /// systemd is in charge.
    pub(crate) systemd: bool,
    /// Root, and so in need of no sudo.
    pub(crate) root: bool,
    pub(crate) docker: bool,
    pub(crate) dockerd: bool,
    pub(crate) buildkit: bool,
    pub(crate) compose: bool,
    /// It runs, but refuses this user.
    pub(crate) denied: bool,
    /// The engine answers, or refuses only this user.
    pub(crate) answers: bool,
    /// Someone's own choice of engine: not ours to start.
    pub(crate) elsewhere: bool,
    /// Packages of [`PACKAGES`] that apt can install; `None` before its first
    /// `update`.
    pub(crate) offered: Option<Vec<String>>,
}

impl Facts {
    /// The same, after apt fetched what it offers.
    pub(crate) fn updated(self, machine: &Machine) -> Result<Self> {
        Ok(Self {
            offered: offered(machine)?,
            ..self
        })
    }

    /// Whether steps run as root without sudo.
    pub(crate) fn is_root(&self) -> bool {
        self.root
    }
}

/// Reads; changes nothing.
pub(crate) fn observe(context: &Context) -> Result<Facts> {
    let machine = &context.machine;
    let sh = machine.sh();
    let ask = |what: &str, step| -> Result<Option<String>> {
        let captured = machine.capture(&Step::new(what, step).limit(ANSWER))?;
        Ok(captured.ok().then_some(captured.stdout))
    };
    let release = ask("read which system this is", cmd!(sh, "cat /etc/os-release"))?;
    let release = release.unwrap_or_default();
    let debian = is_debian(&release) && !on_path("apt-get").is_empty();
    let clis = clis(machine, Ask::Again);
    let engine = Engine::among(machine, clis.clone());
    let answer = engine.as_ref().map(Engine::version);
    let denied =
        matches!(&answer, Some(Err(error)) if error.to_string().contains("permission denied"));
    let elsewhere = environment::docker_host().is_some();
    let offered = match debian {
        true => offered(machine)?,
        false => None,
    };
    Ok(Facts {
        system: field(&release, "PRETTY_NAME").unwrap_or_else(|| "this system".to_owned()),
        debian,
        systemd: ask("ask for systemd", cmd!(sh, "test -d /run/systemd/system"))?.is_some(),
        root: ask("ask who runs this", cmd!(sh, "id -u"))?.is_some_and(|id| id.trim() == "0"),
        docker: !clis.is_empty(),
        dockerd: !on_path("dockerd").is_empty() || Path::new(DOCKERD).is_file(),
        buildkit: clis.iter().any(|cli| cli.buildkit.builds()),
        compose: Compose::candidates(machine, Ask::Again)
            .iter()
            .any(|c| c.compose.is_some()),
        answers: denied || matches!(answer, Some(Ok(_))),
        denied,
        elsewhere,
        offered,
    })
}

/// What `apt-cache policy` has a candidate for; `None` where it knows none, as
/// before the first `apt-get update`.
fn offered(machine: &Machine) -> Result<Option<Vec<String>>> {
    let step = Step::new(
        "ask apt what it offers",
        cmd!(machine.sh(), "apt-cache policy").args(PACKAGES),
    )
    .env("LC_ALL", "C")
    .limit(ANSWER);
    Ok(candidates(&machine.read(&step)?))
}

/// Names whose `Candidate:` is a version. apt has no JSON; this layout is that
/// of apt-cache(8) in the C locale.
fn candidates(policy: &str) -> Option<Vec<String>> {
    let mut name = "";
    let mut found = Vec::new();
    for line in policy.lines() {
        if let Some(package) = line.strip_suffix(':').filter(|l| !l.starts_with(' ')) {
            name = package;
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            found.push(name.to_owned());
        }
    }
    (!found.is_empty()).then_some(found)
}

fn is_debian(release: &str) -> bool {
    let ids = [field(release, "ID"), field(release, "ID_LIKE")];
    ids.into_iter()
        .flatten()
        .any(|ids| ids.split(' ').any(|id| id == "debian" || id == "ubuntu"))
}

/// A field of os-release(5), without its quotes.
fn field(release: &str, name: &str) -> Option<String> {
    release.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key == name).then(|| value.trim_matches(['"', '\'']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_ubuntu_and_what_is_made_of_them_are_known() {
        for (release, expected) in [
            ("ID=debian\n", true),
            ("ID=ubuntu\nID_LIKE=debian\n", true),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", true),
            ("ID=fedora\n", false),
            ("ID=arch\nNAME=debianish\n", false),
            ("", false),
        ] {
            assert_eq!(is_debian(release), expected, "{release}");
        }
    }

    #[test]
    fn candidates_are_read_as_apt_prints_them() {
        let policy = "docker.io:\n  Installed: (none)\n  Candidate: 20.10.24\n  Version table:\n     \
             20.10.24 500\ndocker-cli:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(candidates(policy), Some(vec!["docker.io".to_owned()]));
        assert_eq!(candidates(""), None);
    }
}
