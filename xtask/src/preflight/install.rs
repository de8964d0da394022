//! What `doctor --fix` installs and starts: the distribution's own engine and
//! Compose, on Debian, Ubuntu and what is made of them.

use xshell::cmd;

pub(crate) use super::system::{Facts, observe};
use crate::exec::{Machine, Step};

/// Where an engine that no systemd looks after writes its log.
pub(crate) const LOG: &str = "/var/log/docker.log";

/// What is to be done, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Fetches what apt offers; after it, `install` may name other packages.
    pub(crate) update: Option<Step>,
    /// Installs what is missing.
    pub(crate) install: Option<Step>,
    /// Starts the engine.
    pub(crate) start: Option<Step>,
    /// What a person has to do, with why.
    pub(crate) by_hand: Vec<String>,
}

impl Plan {
    /// What changes the machine, in order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        [&self.update, &self.install, &self.start]
            .into_iter()
            .flatten()
    }
}

/// Decides; `None` as `offered` leaves named placeholders.
pub(crate) fn plan(machine: &Machine, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let missing = missing(facts);
    if !facts.debian {
        plan.by_hand = by_hand(facts);
        return plan;
    }
    if !missing.is_empty() {
        plan.update = Some(apt(machine, facts, &["update"]));
        let mut arguments = vec!["install", "--yes"];
        arguments.extend(missing.iter().map(String::as_str));
        plan.install = Some(apt(machine, facts, &arguments));
    }
    if !facts.answers && !facts.elsewhere {
        plan.start = Some(start(machine, facts));
    }
    if facts.elsewhere && !facts.answers {
        plan.by_hand.push(
            "DOCKER_HOST names an engine that does not answer: start it there, or: unset DOCKER_HOST"
                .to_owned(),
        );
    }
    if !facts.root && (facts.denied || plan.start.is_some()) {
        plan.by_hand.push(
            "to use docker without sudo: sudo usermod -aG docker $USER, then log in again"
                .to_owned(),
        );
    }
    plan
}

/// Packages to install. Debian 12 has Compose v1 and BuildKit inside its CLI;
/// Debian 13 and Ubuntu have Compose v2, and BuildKit in a package of its own.
pub(crate) fn missing(facts: &Facts) -> Vec<String> {
    let offers = |name: &str| {
        let offered = facts.offered.as_ref()?;
        offered.iter().any(|o| o == name).then(|| name.to_owned())
    };
    let first = |names: &[&str], unknown: &str| match facts.offered {
        None => Some(unknown.to_owned()),
        Some(_) => names.iter().find_map(|name| offers(name)),
    };
    let no_engine = !facts.dockerd && !facts.answers && !facts.elsewhere;
    let mut names = Vec::new();
    if no_engine {
        names.push("docker.io".to_owned());
    }
    if !facts.docker {
        names.extend(offers("docker-cli"));
    }
    if !facts.buildkit {
        // A docker of docker.com's takes its plugin from there as well.
        names.extend(offers("docker-buildx-plugin").or_else(|| offers("docker-buildx")));
    }
    if !facts.compose {
        let unknown = "<docker-compose-v2 or docker-compose, as apt offers>";
        names.extend(first(&["docker-compose-v2", "docker-compose"], unknown));
    }
    names
}

/// apt-get as root, without questions.
pub(crate) fn apt(machine: &Machine, facts: &Facts, arguments: &[&str]) -> Step {
    let what = match arguments {
        ["update"] => "ask for the packages that there are",
        _ => "install what is missing",
    };
    let sh = machine.sh();
    if facts.root {
        return Step::new(what, cmd!(sh, "apt-get {arguments...}"))
            .env("DEBIAN_FRONTEND", "noninteractive");
    }
    let quiet = "DEBIAN_FRONTEND=noninteractive";
    Step::new(what, cmd!(sh, "sudo env {quiet} apt-get {arguments...}"))
}

/// By systemd, or detached with a log of its own: `start-stop-daemon` is part
/// of dpkg, and does nothing where the engine runs.
pub(crate) fn start(machine: &Machine, facts: &Facts) -> Step {
    // Debian has dockerd in /usr/sbin, which may be on nobody's PATH; Ubuntu and docker.com
    // have it in /usr/bin.
    let detached = format!(
        "PATH=$PATH:/usr/sbin; exec start-stop-daemon --start --background --oknodo \
         --output {LOG} --exec \"$(command -v dockerd)\""
    );
    let words = match facts.systemd {
        true => ["systemctl", "enable", "--now", "docker"].as_slice(),
        false => &["sh", "-c", &detached],
    };
    let sudo = if facts.root { &[][..] } else { &["sudo"] };
    let words = [sudo, words].concat();
    let (program, rest) = (words[0], &words[1..]);
    Step::new(
        "start the engine",
        cmd!(machine.sh(), "{program} {rest...}"),
    )
}

/// What is missing on a system whose packages xtask does not know.
pub(crate) fn by_hand(facts: &Facts) -> Vec<String> {
    let system = &facts.system;
    let mut lines = Vec::new();
    if !facts.docker || !facts.compose || !facts.buildkit {
        lines.push(format!(
            "on {system} xtask installs nothing; install these with the system's own packages, or \
             see https://docs.docker.com/engine/install/"
        ));
    }
    for (there, what) in [
        (facts.docker, "  a docker engine, 20.10 or newer"),
        (facts.buildkit, "  docker's buildx plugin"),
        (facts.compose, "  Compose v2, docker's compose plugin"),
    ] {
        if !there {
            lines.push(what.to_owned());
        }
    }
    if facts.docker && !facts.answers {
        lines.push("start the engine: sudo systemctl start docker, or Docker Desktop".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Term;

    /// A Debian with nothing of docker on it, as root.
    fn bare() -> Facts {
        Facts {
            system: "Debian".into(),
            debian: true,
            systemd: true,
            root: true,
            docker: false,
            dockerd: false,
            buildkit: false,
            compose: false,
            denied: false,
            answers: false,
            elsewhere: false,
            offered: None,
        }
    }

    fn offers(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn lines(facts: &Facts) -> Vec<String> {
        let machine = Machine::new(std::path::Path::new("."), Term::new(false)).unwrap();
        plan(&machine, facts).steps().map(Step::line).collect()
    }

    fn packages(offered: &[&str]) -> Vec<String> {
        missing(&Facts {
            offered: offers(offered),
            ..bare()
        })
    }

    #[test]
    fn each_distribution_gets_its_own_packages() {
        assert_eq!(
            packages(&["docker.io", "docker-compose"]),
            ["docker.io", "docker-compose"],
            "Debian 12"
        );
        assert_eq!(
            packages(&["docker.io", "docker-cli", "docker-buildx", "docker-compose"]),
            ["docker.io", "docker-cli", "docker-buildx", "docker-compose"],
            "Debian 13"
        );
        assert_eq!(
            packages(&[
                "docker.io",
                "docker-buildx",
                "docker-compose-v2",
                "docker-compose"
            ]),
            ["docker.io", "docker-buildx", "docker-compose-v2"],
            "Ubuntu"
        );
    }

    #[test]
    fn a_bare_machine_is_installed_and_started() {
        assert_eq!(
            lines(&bare()),
            [
                "DEBIAN_FRONTEND=noninteractive apt-get update",
                "DEBIAN_FRONTEND=noninteractive apt-get install --yes docker.io \
                 '<docker-compose-v2 or docker-compose, as apt offers>'",
                "systemctl enable --now docker",
            ]
        );
        let user = Facts {
            root: false,
            systemd: false,
            offered: offers(&["docker.io", "docker-compose"]),
            ..bare()
        };
        assert_eq!(
            lines(&user),
            [
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get update",
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes docker.io \
                 docker-compose",
                "sudo sh -c 'PATH=$PATH:/usr/sbin; exec start-stop-daemon --start --background \
                 --oknodo --output /var/log/docker.log --exec \"$(command -v dockerd)\"'",
            ]
        );
    }

    #[test]
    fn what_is_there_stays() {
        let complete = Facts {
            docker: true,
            dockerd: true,
            buildkit: true,
            compose: true,
            answers: true,
            ..bare()
        };
        assert_eq!(lines(&complete), [""; 0]);
        let stopped = Facts {
            answers: false,
            ..complete.clone()
        };
        assert_eq!(lines(&stopped), ["systemctl enable --now docker"]);
        let remote = Facts {
            elsewhere: true,
            ..stopped
        };
        assert_eq!(
            lines(&remote),
            [""; 0],
            "an engine of somebody's own choice"
        );
        let without_buildx = Facts {
            buildkit: false,
            offered: offers(&["docker-buildx", "docker-buildx-plugin"]),
            ..complete
        };
        assert_eq!(missing(&without_buildx), ["docker-buildx-plugin"]);
    }

    #[test]
    fn other_systems_are_told_and_left_alone() {
        let fedora = Facts {
            debian: false,
            docker: true,
            ..bare()
        };
        assert_eq!(lines(&fedora), [""; 0]);
        assert_eq!(by_hand(&fedora).len(), 4);
    }
}
