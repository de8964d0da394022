//! What is known of another machine; all of it read, in one round trip.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use xshell::cmd;

use crate::config::Host;
use crate::exec::{Machine, Step};
use crate::preflight::install;

const PROBE: &str = include_str!("probe.sh");
const ANSWER: Duration = Duration::from_secs(60);

/// How its user becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// It is root.
    Root,
    /// By sudo, without a question.
    Sudo,
    /// By sudo, which asks for a password.
    Asked,
    /// Not at all.
    None,
}

/// A folder that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Its owner's name.
    pub(crate) owner: String,
    /// As chmod takes it: `750`.
    pub(crate) mode: String,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// What decides about the engine and its tools, as on this machine.
    pub(crate) install: install::Facts,
    /// The name of the user that ssh logs in.
    pub(crate) user: String,
    /// Its number.
    pub(crate) uid: u32,
    /// How that becomes root.
    pub(crate) rights: Rights,
    /// It is in group docker, from the next login on at the latest.
    pub(crate) member: bool,
    /// rsync is there.
    pub(crate) rsync: bool,
    /// The engine's version, where it answers.
    pub(crate) engine: Option<String>,
    /// Compose's version.
    pub(crate) compose: Option<String>,
    /// It is a plugin of the docker CLI, `docker compose`.
    pub(crate) compose_is_plugin: bool,
    /// The stack's folder.
    pub(crate) folder: Option<Folder>,
    /// `x86_64`
    pub(crate) architecture: String,
    /// In bytes; 0 where unknown.
    pub(crate) memory: u64,
    /// Where the stack's folder is or will be, in bytes.
    pub(crate) free: u64,
    /// Where the engine keeps images, in bytes, where that is another file system.
    pub(crate) free_for_images: Option<u64>,
    /// Its IPv4 addresses but loopback's; none where it does not tell.
    pub(crate) addresses: Vec<String>,
    /// Seconds since 1970.
    pub(crate) clock: i64,
    /// Seconds by which its clock is ahead of this machine's, at the least; 0 where
    /// they agree as far as one round trip can tell.
    pub(crate) ahead: i64,
}

/// Reads; changes nothing.
///
/// # Errors
/// Where the machine is not reached, with what mends it.
pub(crate) fn observe(machine: &Machine, host: &Host) -> Result<Facts> {
    Ok(observe_and(machine, host, "", &[])?.0)
}

/// The same, and what `more` says in the same round trip: a script that has the
/// functions of the probe, the stack's folder as its first argument, and then
/// `arguments`.
pub(crate) fn observe_and(
    machine: &Machine,
    host: &Host,
    more: &str,
    arguments: &[String],
) -> Result<(Facts, Told)> {
    let (folder, script) = (&host.directory, format!("{PROBE}{more}"));
    let step = Step::new(
        "look at the host",
        cmd!(machine.sh(), "sh -c {script} probe {folder} {arguments...}"),
    )
    .limit(ANSWER);
    let before = Timestamp::now().as_second();
    let told = Told(machine.read(&step)?);
    let mut facts = parse(&told);
    facts.ahead = ahead(facts.clock, before, Timestamp::now().as_second());
    Ok((facts, told))
}

/// How far a clock is off that was read between two moments of ours.
fn ahead(clock: i64, before: i64, after: i64) -> i64 {
    match clock {
        0 => 0,
        _ => clock - clock.clamp(before, after),
    }
}

/// What a script said: lines of a word and a value.
#[derive(Debug, Clone)]
pub(crate) struct Told(String);

impl Told {
    /// What a host said.
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The values behind a word; empty ones are not said.
    pub(crate) fn all<'t>(&'t self, word: &'t str) -> impl Iterator<Item = &'t str> {
        self.0.lines().filter_map(move |line| {
            let (key, value) = line.split_once(' ')?;
            (key == word && !value.is_empty()).then_some(value)
        })
    }

    /// The first of them.
    pub(crate) fn one<'t>(&'t self, word: &'t str) -> Option<&'t str> {
        self.all(word).next()
    }
}

/// What a machine said, as facts.
pub(crate) fn parse(told: &Told) -> Facts {
    let one = |word: &str| told.one(word).map(str::to_owned);
    let is = |word: &str| one(word).is_some();
    let text = |word: &str| one(word).unwrap_or_default();
    let kibibytes = |word: &str| text(word).parse::<u64>().unwrap_or(0) * 1024;
    let debian = text("kind")
        .split_whitespace()
        .any(|id| id == "debian" || id == "ubuntu");
    let offered: Vec<String> = told.all("offered").map(str::to_owned).collect();
    Facts {
        install: install::Facts {
            system: text("system"),
            debian: debian && is("apt"),
            systemd: is("systemd"),
            root: is("root"),
            docker: is("docker"),
            dockerd: is("dockerd"),
            buildkit: is("buildkit"),
            compose: is("compose"),
            denied: is("denied"),
            answers: is("engine") || is("denied"),
            elsewhere: false,
            offered: (!offered.is_empty()).then_some(offered),
        },
        user: text("user"),
        uid: text("uid").parse().unwrap_or(0),
        rights: match (is("root"), is("sudo-unasked"), is("sudo")) {
            (true, _, _) => Rights::Root,
            (_, true, _) => Rights::Sudo,
            (_, _, true) => Rights::Asked,
            _ => Rights::None,
        },
        member: is("member"),
        rsync: is("rsync"),
        engine: one("engine"),
        compose: one("compose"),
        compose_is_plugin: is("compose-plugin"),
        folder: one("folder").and_then(|told| {
            let (owner, mode) = told.split_once(' ')?;
            Some(Folder {
                owner: owner.to_owned(),
                mode: mode.to_owned(),
            })
        }),
        architecture: text("architecture"),
        memory: kibibytes("memory"),
        free: kibibytes("free"),
        free_for_images: is("free-for-images").then(|| kibibytes("free-for-images")),
        addresses: text("addresses")
            .split_whitespace()
            .filter(|address| address.parse::<Ipv4Addr>().is_ok())
            .map(str::to_owned)
            .collect(),
        clock: text("clock").parse().unwrap_or(0),
        ahead: 0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a bare Debian 13 says to user `ubuntu`.
    pub(crate) const BARE: &str = "system Debian GNU/Linux 13 (trixie)\nkind debian \n\
        architecture x86_64\nclock 1700000000\nmemory 4000000\nuser ubuntu\nsudo yes\n\
        sudo-unasked yes\napt yes\nfree 20000000\n";
    /// What it says once everything is there.
    pub(crate) const READY: &str = "system Debian GNU/Linux 13 (trixie)\nkind debian \n\
        architecture x86_64\nclock 1700000000\nmemory 4000000\nuser ubuntu\nsudo yes\n\
        sudo-unasked yes\nmember yes\nsystemd yes\napt yes\nrsync yes\ndockerd yes\ndocker yes\n\
        buildkit yes\naddresses 10.0.0.5 172.18.0.1 \ncompose 2.26.1\nengine 26.1.5\nfolder ubuntu 750\nfree 20000000\n\
        offered docker.io\noffered rsync\n";

    pub(crate) fn facts(told: &str) -> Facts {
        parse(&Told::of(told))
    }

    #[test]
    fn a_clock_is_off_by_what_the_round_trip_does_not_explain() {
        let off = |clock| ahead(clock, 1000, 1004);
        assert_eq!([1000, 1003, 1004].map(off), [0, 0, 0]);
        assert_eq!([990, 1010, 0].map(off), [-10, 6, 0]);
    }

    #[test]
    fn a_word_that_is_not_said_is_not_so() {
        let bare = facts(BARE);
        assert_eq!(bare.rights, Rights::Sudo);
        assert!(bare.install.debian && !bare.install.answers && !bare.rsync && !bare.member);
        assert_eq!(
            (bare.engine, bare.folder, bare.install.offered),
            (None, None, None)
        );
        assert_eq!((bare.memory, bare.free), (4_096_000_000, 20_480_000_000));
        let ready = facts(READY);
        assert!(ready.install.answers && ready.rsync && ready.member);
        assert_eq!(ready.engine.as_deref(), Some("26.1.5"));
        let folder = ready.folder.unwrap();
        assert_eq!(
            (folder.owner.as_str(), folder.mode.as_str()),
            ("ubuntu", "750")
        );
        let asks = facts(&BARE.replace("sudo-unasked yes\n", ""));
        assert_eq!(asks.rights, Rights::Asked);
        let fedora = facts(&BARE.replace("kind debian ", "kind fedora rhel"));
        assert!(!fedora.install.debian);
    }
}
