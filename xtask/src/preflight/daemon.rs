//! The engine: whether it answers, how old it is, its memory and its clock.
//! All of it from one `docker info`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use xshell::cmd;

use super::check::{Check, gib};
use crate::engine::Engine;
use crate::exec::Step;

/// How long the engine may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// `host-gateway`, by which containers reach this machine, came with 20.10.
pub(crate) const OLDEST: (u32, u32) = (20, 10);
/// Measured: scheduler 390 MiB, webserver 280, MariaDB 150, Postgres 50, and
/// dbt while it runs 300: 1.2 GiB with all of it at work. A machine sold as
/// 2 GB shows about 1.9 GiB.
const MEMORY_NEEDED: u64 = 18 * GIB / 10;
/// A machine sold as 4 GB shows about 3.7 GiB; below, a build beside a running
/// stack begins to swap.
const MEMORY_WANTED: u64 = 36 * GIB / 10;
const GIB: u64 = 1 << 30;
/// Beyond, logs of this machine and of containers no longer line up.
pub(crate) const CLOCK_WARNS: i64 = 5;
/// Beyond, sessions, TLS and a run's schedule go wrong.
pub(crate) const CLOCK_FAILS: i64 = 60;

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Daemon {
    /// `20.10.24+dfsg1`
    pub(super) version: String,
    /// Where it stores images, as it sees it.
    pub(super) root: String,
    /// The name of the machine it runs on.
    pub(super) name: String,
    /// Bytes of memory.
    pub(super) memory: u64,
    /// How many seconds its clock is ahead of ours; `None` where unreadable.
    pub(super) ahead: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    server_errors: Option<Vec<String>>,
    server_version: String,
    docker_root_dir: String,
    name: String,
    mem_total: u64,
    system_time: String,
}

/// Asks once.
///
/// # Errors
/// Docker's own words where the engine does not answer.
pub(super) fn ask(engine: &Engine<'_>) -> Result<Daemon, String> {
    let docker = engine.docker();
    let format = "{{json .}}";
    let step = Step::new(
        "ask the engine about itself",
        cmd!(engine.sh(), "{docker} info --format {format}"),
    )
    .limit(ANSWER);
    let before = Timestamp::now();
    let captured = engine.machine().capture(&step);
    let captured = captured.map_err(|error| error.to_string())?;
    let after = Timestamp::now();
    // The engine looked at its clock somewhere between: half way is the guess.
    let middle = before + after.duration_since(before) / 2;
    read(&captured.stdout, &captured.stderr, middle)
}

/// An engine that is down leaves `ServerErrors`, or words on standard error:
/// that differs between versions of the CLI.
fn read(stdout: &str, stderr: &str, now: Timestamp) -> Result<Daemon, String> {
    let info: Info = serde_json::from_str(stdout).unwrap_or_default();
    let errors = info.server_errors.unwrap_or_default();
    if let Some(error) = errors.first() {
        return Err(error.clone());
    }
    if info.server_version.is_empty() {
        let said = stderr.lines().rfind(|line| !line.trim().is_empty());
        return Err(said.unwrap_or("it says nothing").trim().to_owned());
    }
    let time = info.system_time.parse::<Timestamp>().ok();
    Ok(Daemon {
        version: info.server_version,
        root: info.docker_root_dir,
        name: info.name,
        memory: info.mem_total,
        ahead: time.map(|time| time.duration_since(now).as_secs()),
    })
}

/// Whether it answers and is new enough.
pub(super) fn check(answer: &Result<Daemon, String>, docker_host: Option<&str>) -> Check {
    match answer {
        Err(said) => {
            Check::fail("engine", format!("does not answer: {said}")).fix(mend(said, docker_host))
        }
        Ok(daemon) if is_before(&daemon.version, OLDEST) => Check::fail(
            "engine",
            format!(
                "version {} is too old: containers reach this machine from 20.10 on",
                daemon.version
            ),
        )
        .fix("install a newer engine: your distribution's docker.io or docker-ce"),
        Ok(daemon) => Check::pass("engine", format!("version {}", daemon.version)),
    }
}

/// The command that mends an engine that does not answer.
fn mend(said: &str, docker_host: Option<&str>) -> String {
    if said.contains("permission denied") {
        return "sudo usermod -aG docker $USER, then log in again".to_owned();
    }
    match docker_host {
        Some(host) => format!(
            "DOCKER_HOST is set to {host}: start the engine there, or, for this machine's own: \
             unset DOCKER_HOST"
        ),
        None => "sudo systemctl start docker, or: cargo xtask doctor --fix".to_owned(),
    }
}

/// Whether a version, by its first two numbers, is older.
pub(crate) fn is_before(version: &str, oldest: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < oldest,
        // A version that is no number is a build of somebody's own.
        _ => false,
    }
}

/// Whether its memory holds the stack.
pub(super) fn memory(daemon: &Daemon) -> Check {
    let has = gib(daemon.memory);
    let fix = "give the machine (or Docker Desktop, under Resources) 4 GB or more";
    if daemon.memory < MEMORY_NEEDED {
        let says = format!("{has}; the stack at work needs 1.2 GiB beside the system's own");
        return Check::fail("memory", says).fix(fix);
    }
    if daemon.memory < MEMORY_WANTED {
        let says = format!("{has}; enough to run, tight while an image is built");
        return Check::warn("memory", says).fix(fix);
    }
    Check::pass("memory", has)
}

/// Whether the engine's clock is ours.
pub(super) fn clock(daemon: &Daemon) -> Check {
    let Some(ahead) = daemon.ahead else {
        return Check::warn("clock", "the engine does not tell its time");
    };
    let seconds = ahead.abs();
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let says = format!("the engine's clock is {seconds} s {way} this machine's");
    let fix = "set both by NTP: sudo timedatectl set-ntp true (on Docker Desktop: restart it)";
    match seconds {
        0..=CLOCK_WARNS => Check::pass("clock", "this machine and the engine agree"),
        ..=CLOCK_FAILS => Check::warn("clock", says).fix(fix),
        _ => Check::fail("clock", says).fix(fix),
    }
}

/// Whether the clinic's time zone is known here.
pub(super) fn time_zone() -> Check {
    let zone = "America/Chicago";
    match jiff::tz::TimeZone::get(zone) {
        Ok(_) => Check::pass("time zone", format!("{zone} is known")),
        Err(_) => Check::fail("time zone", format!("{zone} is not known to this machine"))
            .fix("sudo apt-get install tzdata"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    fn daemon() -> Daemon {
        Daemon {
            version: "20.10.24+dfsg1".into(),
            root: "/var/lib/docker".into(),
            name: "here".into(),
            memory: 8 * GIB,
            ahead: Some(0),
        }
    }

    #[test]
    fn what_the_engine_says_is_read() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let said = r#"{"ServerVersion":"20.10.24+dfsg1","DockerRootDir":"/var/lib/docker",
            "Name":"here","MemTotal":8589934592,"SystemTime":"2026-01-01T00:00:00.3Z","Extra":1}"#;
        assert_eq!(read(said, "", now), Ok(daemon()));
        let late = said.replace("00:00:00.3Z", "00:01:07+00:00");
        assert_eq!(read(&late, "", now).unwrap().ahead, Some(67));
    }

    #[test]
    fn an_engine_that_is_down_speaks_in_either_way() {
        let now = Timestamp::now();
        let down = "Cannot connect to the Docker daemon";
        let json = format!(r#"{{"ServerErrors":["{down}"],"ClientInfo":{{"Debug":false}}}}"#);
        assert_eq!(read(&json, "", now), Err(down.to_owned()));
        let empty = r#"{"ServerVersion":"","SystemTime":""}"#;
        let stderr = format!("warning: x\n{down}\n\n");
        assert_eq!(read(empty, &stderr, now), Err(down.to_owned()));
        assert_eq!(read("", "", now), Err("it says nothing".to_owned()));
    }

    #[test]
    fn the_hint_fits_the_reason() {
        for (said, host, expected) in [
            (
                "Cannot connect to the Docker daemon",
                None,
                "sudo systemctl start docker",
            ),
            ("… permission denied …", None, "sudo usermod -aG docker"),
            ("… no such host", Some("tcp://nas:2375"), "DOCKER_HOST is"),
        ] {
            let fix = check(&Err(said.into()), host).fix.unwrap();
            assert!(fix.starts_with(expected), "{said}: {fix}");
        }
    }

    #[test]
    fn an_engine_before_20_10_is_refused() {
        for (version, state) in [
            ("19.03.15", State::Fail),
            ("20.9.0", State::Fail),
            ("20.10.0", State::Pass),
            ("28.2.2", State::Pass),
            ("dev", State::Pass),
        ] {
            let old = Daemon {
                version: version.into(),
                ..daemon()
            };
            assert_eq!(check(&Ok(old), None).state, state, "{version}");
        }
    }

    #[test]
    fn memory_and_clock_have_two_limits() {
        let with_memory = |memory| memory_state(&Daemon { memory, ..daemon() });
        assert_eq!(with_memory(MEMORY_NEEDED - 1), State::Fail);
        assert_eq!(with_memory(MEMORY_NEEDED), State::Warn);
        assert_eq!(with_memory(MEMORY_WANTED), State::Pass);
        let at = |ahead| {
            let ahead = Some(ahead);
            clock(&Daemon { ahead, ..daemon() }).state
        };
        assert_eq!([-5, 5].map(at), [State::Pass; 2]);
        assert_eq!([-6, 60].map(at), [State::Warn; 2]);
        assert_eq!([-61, 61].map(at), [State::Fail; 2]);
    }

    fn memory_state(daemon: &Daemon) -> State {
        memory(daemon).state
    }
}
