//! What a machine needs before the stack can be brought to it.

use xshell::cmd;

use super::facts::{Facts, Folder, Rights};
use crate::config::Host;
use crate::exec::{Machine, Step};
use crate::preflight::install;

/// For its user and group alone: secrets will lie below it.
const MODE: &str = "750";

/// What is to be done, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Fetches what apt offers; after it, other packages may be named.
    pub(crate) update: Option<Step>,
    /// All the rest.
    pub(crate) steps: Vec<Step>,
    /// What a person has to do, with why.
    pub(crate) by_hand: Vec<String>,
}

impl Plan {
    /// What changes the machine, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Step> {
        self.update.iter().chain(&self.steps)
    }
}

/// Decides. No port is opened and no service is reachable from outside that was
/// not before.
pub(crate) fn plan(machine: &Machine, host: &Host, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let missing = install::missing(&facts.install);
    if facts.install.debian {
        let mut packages = missing;
        if !facts.rsync {
            packages.push("rsync".to_owned());
        }
        if !packages.is_empty() {
            plan.update = Some(install::apt(machine, &facts.install, &["update"]));
            let mut words = vec!["install", "--yes", "--no-install-recommends"];
            words.extend(packages.iter().map(String::as_str));
            plan.steps
                .push(install::apt(machine, &facts.install, &words));
        }
        if !facts.install.answers {
            plan.steps.push(install::start(machine, &facts.install));
        }
    } else {
        plan.by_hand = install::by_hand(&facts.install);
        if !facts.rsync {
            plan.by_hand.push("  rsync".to_owned());
        }
    }
    let engine_comes = facts.install.debian || facts.install.answers;
    if engine_comes && facts.rights != Rights::Root && !facts.member {
        let user = &facts.user;
        let sh = machine.sh();
        plan.steps.push(Step::new(
            "let the user speak to the engine",
            cmd!(sh, "sudo usermod --append --groups docker {user}"),
        ));
    }
    let wanted = Folder {
        owner: facts.user.clone(),
        mode: MODE.to_owned(),
    };
    if facts.folder.as_ref() != Some(&wanted) {
        let (user, directory) = (&facts.user, &host.directory);
        let sudo: &[&str] = match facts.rights {
            Rights::Root => &[],
            _ => &["sudo"],
        };
        let words = [sudo, &["install", "-d", "-o", user, "-m", MODE, directory]].concat();
        let (program, rest) = (words[0], &words[1..]);
        plan.steps.push(Step::new(
            "make the stack's folder",
            cmd!(machine.sh(), "{program} {rest...}"),
        ));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{BARE, READY, facts};
    use super::*;
    use crate::exec::Term;

    fn planned(told: &str) -> (Vec<String>, Vec<String>) {
        let machine = Machine::new(std::path::Path::new("."), Term::new(false)).unwrap();
        let host: Host = toml::from_str("ssh = 'a'\ndirectory = '/srv/dental'\n").unwrap();
        let plan = plan(&machine, &host, &facts(told));
        (plan.all().map(Step::line).collect(), plan.by_hand)
    }

    #[test]
    fn a_bare_machine_gets_all_in_order() {
        let told =
            format!("{BARE}offered docker.io\noffered docker-buildx\noffered docker-compose\n");
        let (steps, by_hand) = planned(&told);
        assert_eq!(
            steps,
            [
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get update",
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
                 --no-install-recommends docker.io docker-buildx docker-compose rsync",
                "sudo sh -c 'PATH=$PATH:/usr/sbin; exec start-stop-daemon --start --background \
                 --oknodo --output /var/log/docker.log --exec \"$(command -v dockerd)\"'",
                "sudo usermod --append --groups docker ubuntu",
                "sudo install -d -o ubuntu -m 750 /srv/dental",
            ]
        );
        assert_eq!(by_hand, [""; 0]);
    }

    #[test]
    fn a_machine_that_has_everything_is_left_alone() {
        assert_eq!(planned(READY), (vec![], vec![]));
    }

    #[test]
    fn what_somebody_else_owns_or_others_can_read_is_mended() {
        let makes = ["sudo install -d -o ubuntu -m 750 /srv/dental"];
        for folder in ["folder root 750", "folder ubuntu 755"] {
            let (steps, _) = planned(&READY.replace("folder ubuntu 750", folder));
            assert_eq!(steps, makes, "{folder}");
        }
    }

    #[test]
    fn another_distribution_is_told_what_it_lacks() {
        let told = BARE.replace("kind debian ", "kind fedora ");
        let (steps, by_hand) = planned(&told);
        assert_eq!(steps, ["sudo install -d -o ubuntu -m 750 /srv/dental"]);
        assert_eq!(by_hand.last().map(String::as_str), Some("  rsync"));
        assert_eq!(by_hand.len(), 5, "{by_hand:?}");
    }
}
