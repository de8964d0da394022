//! Whether a machine can carry the stack: decided from facts alone, so that all who
//! ask say the same.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::facts::Facts;
use crate::error::Failure;
use crate::exec::plural;
use crate::preflight::{CLOCK_FAILS, CLOCK_WARNS, Check, OLDEST, State, gib, is_before};
use crate::stack::OLDEST_V1;

const MIB: u64 = 1 << 20;
/// Measured on a host that serves the demo: scheduler 390 MiB, webserver 280.
const AIRFLOW: u64 = 670 * MIB;
/// dbt while it runs; a deploy's gate, beside a stack that serves, is no larger.
const NIGHT: u64 = 300 * MIB;
/// Debian itself, sshd and the engine.
const SYSTEM: u64 = 300 * MIB;
/// Measured, at rest and with small caches: Postgres 50 MiB, MariaDB 150.
const DATABASES: [(&str, u64); 2] = [("postgres", 50 * MIB), ("mysql", 150 * MIB)];
/// Releases, logs and copies of the metadata database, in bytes.
const FOLDER: u64 = 1_000_000_000;
/// An image unpacked, and while it is: our largest is half of it.
const IMAGES: u64 = 3_000_000_000;

/// What a machine would have to carry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load<'a> {
    /// The image's architecture as docker calls it (`amd64`); `None` where it is
    /// built there, or not yet.
    pub(crate) architecture: Option<&'a str>,
    /// Databases that are services of the stack.
    pub(crate) databases: &'a [String],
    /// Images have to travel.
    pub(crate) images: bool,
    /// Where the web page is to be found beside loopback.
    pub(crate) address: Option<Ipv4Addr>,
    /// Nothing there is started by Compose.
    pub(crate) without_compose: bool,
}

/// Every check of the host of that name. What it does not tell is not held against it.
pub(crate) fn checks(name: &str, facts: &Facts, load: &Load<'_>) -> Vec<Check> {
    let mut checks = vec![engine(name, facts)];
    if !load.without_compose {
        checks.push(compose(name, facts));
    }
    checks.extend(architecture(facts, load));
    checks.push(memory(facts, load));
    checks.extend(disk(facts, load));
    checks.push(clock(facts));
    checks.extend(address(facts, load));
    checks
}

/// Refuses a machine that fails one of them; `name` is what `--host` takes.
///
/// # Errors
/// A user failure with all that is in the way, each with what mends it.
pub(crate) fn refuse(name: &str, checks: &[Check]) -> Result<()> {
    let failed: Vec<&Check> = checks.iter().filter(|c| c.state == State::Fail).collect();
    let failure = match failed.as_slice() {
        [] => return Ok(()),
        [one] => Failure::user(format!(
            "it cannot carry the stack: {}: {}",
            one.name, one.says
        ))
        .hint(one.fix.as_deref().unwrap_or_default()),
        several => {
            let lines = several.iter().map(|c| format!("\n  {}", c.lines("      ")));
            Failure::user(format!(
                "it cannot carry the stack, {} are in the way:{}",
                plural(several.len(), "thing"),
                lines.collect::<String>()
            ))
            .hint(format!(
                "cargo xtask doctor --host {name}, once they are mended"
            ))
        }
    };
    Err(failure.into())
}

fn engine(name: &str, facts: &Facts) -> Check {
    let (major, minor) = OLDEST;
    match &facts.engine {
        None => Check::fail("engine", "none answers the user")
            .fix(format!("cargo xtask provision --host {name}")),
        Some(version) if is_before(version, OLDEST) => Check::fail(
            "engine",
            format!("version {version}; containers reach their host from {major}.{minor:02} on"),
        )
        .fix("upgrade it there: sudo apt-get install docker.io, or docker-ce where that is used"),
        Some(version) => Check::pass("engine", format!("version {version}")),
    }
}

fn compose(name: &str, facts: &Facts) -> Check {
    match facts.compose.as_deref() {
        None => Check::fail("Compose", "is not there")
            .fix(format!("cargo xtask provision --host {name}")),
        Some(version) if is_before(version.trim_start_matches('v'), OLDEST_V1) => Check::fail(
            "Compose",
            format!("version {version}; 1.29 is the oldest that will do"),
        )
        .fix("upgrade it there: sudo apt-get install docker-compose"),
        Some(version) => Check::pass("Compose", format!("version {version}")),
    }
}

/// What the kernel calls a machine, as docker calls it.
fn dockers_word(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" | "arm64" => "arm64",
        "armv7l" => "arm",
        other => other,
    }
}

fn architecture(facts: &Facts, load: &Load<'_>) -> Option<Check> {
    let name = "architecture";
    let there = dockers_word(&facts.architecture);
    let image = load.architecture.filter(|image| !image.is_empty())?;
    if there == image || there.is_empty() {
        return Some(Check::pass(name, there));
    }
    let says = format!("it is {there}, the image is for {image}");
    Some(Check::fail(name, says).fix(format!(
        "deploy from a machine that is {there}, or to one that is {image}"
    )))
}

fn memory(facts: &Facts, load: &Load<'_>) -> Check {
    let own = load.databases.iter().filter_map(|name| {
        let known = DATABASES.iter().find(|(known, _)| known == name);
        known.map(|(_, bytes)| bytes)
    });
    let needed = SYSTEM + AIRFLOW + NIGHT + own.sum::<u64>();
    let has = gib(facts.memory);
    if facts.memory == 0 || facts.memory >= needed {
        return Check::pass("memory", has);
    }
    let says = format!(
        "{has}; the stack at work and the system need {}",
        gib(needed)
    );
    Check::fail("memory", says)
        .fix("take a machine with 2 GB or more, 4 GB where dbt has much to do")
}

fn disk(facts: &Facts, load: &Load<'_>) -> Vec<Check> {
    let images = if load.images { IMAGES } else { 0 };
    let check = |name: &str, free: u64, needed: u64, fix: &str| match free >= needed {
        true => Check::pass(name, format!("{} free", gib(free))),
        false => Check::fail(
            name,
            format!("{} free, a deploy needs {}", gib(free), gib(needed)),
        )
        .fix(fix),
    };
    let look = "look there for what fills it: df -h and docker system df";
    match facts.free_for_images {
        None => vec![check("disk", facts.free, FOLDER + images, look)],
        Some(free) => vec![
            check(
                "disk",
                facts.free,
                FOLDER,
                "look there for what fills it: df -h",
            ),
            check("disk of the engine", free, images, look),
        ],
    }
}

fn clock(facts: &Facts) -> Check {
    let seconds = facts.ahead.abs();
    let way = if facts.ahead < 0 {
        "behind"
    } else {
        "ahead of"
    };
    let says = format!("its clock is {seconds} s {way} this machine's");
    let fix = "nights start and TLS is checked by it; set the wrong one: sudo timedatectl set-ntp true \
               (chronyc makestep, where chrony keeps it)";
    match seconds {
        0..=CLOCK_WARNS => Check::pass("clock", "agrees with this machine's"),
        ..=CLOCK_FAILS => Check::warn("clock", says).fix(fix),
        _ => Check::fail("clock", says).fix(fix),
    }
}

fn address(facts: &Facts, load: &Load<'_>) -> Option<Check> {
    let wanted = load.address?.to_string();
    if facts.addresses.is_empty() || facts.addresses.contains(&wanted) {
        return Some(Check::pass("web", wanted));
    }
    let says = format!(
        "{wanted} is no address of the host, which has {}",
        facts.addresses.join(", ")
    );
    Some(Check::fail("web", says).fix("bind in deploy.toml, or bring that network up there first"))
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{READY, facts};
    use super::*;

    fn failed(facts: &Facts, load: &Load<'_>) -> Vec<String> {
        let failed = checks("ec2", facts, load).into_iter();
        failed
            .filter(|c| c.state == State::Fail)
            .map(|c| format!("{}: {}", c.name, c.says))
            .collect()
    }

    #[test]
    fn a_machine_that_has_it_all_passes_and_so_does_what_it_does_not_tell() {
        let databases = ["postgres".to_owned(), "mysql".to_owned()];
        let load = Load {
            architecture: Some("amd64"),
            databases: &databases,
            images: true,
            ..Load::default()
        };
        assert_eq!(failed(&facts(READY), &load), [""; 0]);
        let silent = READY
            .replace("memory 4000000\n", "")
            .replace("architecture x86_64\n", "");
        assert_eq!(failed(&facts(&silent), &load), [""; 0]);
        let arm = READY.replace("x86_64", "aarch64");
        let load = Load {
            architecture: Some("arm64"),
            ..load
        };
        assert_eq!(failed(&facts(&arm), &load), [""; 0]);
    }

    #[test]
    fn everything_in_the_way_is_said_at_once() {
        let mut facts = facts(
            &READY
                .replace("memory 4000000", "memory 1310000")
                .replace("free 20000000", "free 2000000\nfree-for-images 1000000")
                .replace("engine 26.1.5", "engine 19.03.8")
                .replace("compose 2.26.1", "compose 1.25.0"),
        );
        facts.ahead = -3600;
        let databases = ["postgres".to_owned(), "mysql".to_owned()];
        let load = Load {
            architecture: Some("arm64"),
            databases: &databases,
            images: true,
            ..Load::default()
        };
        let expected = [
            "engine: version 19.03.8; containers reach their host from 20.10 on",
            "Compose: version 1.25.0; 1.29 is the oldest that will do",
            "architecture: it is amd64, the image is for arm64",
            "memory: 1.2 GiB; the stack at work and the system need 1.4 GiB",
            "disk of the engine: 0.9 GiB free, a deploy needs 2.7 GiB",
            "clock: its clock is 3600 s behind this machine's",
        ];
        assert_eq!(failed(&facts, &load), expected);
        let error = refuse("ec2", &checks("ec2", &facts, &load)).unwrap_err();
        let shown = crate::error::show(&error);
        assert!(
            expected.iter().all(|line| shown.text.contains(line)),
            "{}",
            shown.text
        );
        assert_eq!(shown.status, 2);
        assert!(
            shown
                .text
                .starts_with("error: it cannot carry the stack, 6 things are in the way:")
        );
    }

    #[test]
    fn who_has_no_database_there_needs_less() {
        let facts = facts(&READY.replace("memory 4000000", "memory 1310000"));
        assert_eq!(failed(&facts, &Load::default()), [""; 0]);
    }

    #[test]
    fn one_thing_in_the_way_has_its_own_hint() {
        let mut facts = facts(READY);
        facts.ahead = 61;
        let error = refuse("ec2", &checks("ec2", &facts, &Load::default())).unwrap_err();
        let shown = crate::error::show(&error).text;
        assert!(
            shown.contains("clock: its clock is 61 s ahead of this machine's\nhint: "),
            "{shown}"
        );
        facts.ahead = 60;
        assert!(refuse("ec2", &checks("ec2", &facts, &Load::default())).is_ok());
        let warned = checks("ec2", &facts, &Load::default());
        assert!(
            warned
                .iter()
                .any(|c| c.name == "clock" && c.state == State::Warn)
        );
    }

    #[test]
    fn room_for_images_counts_where_they_are_kept() {
        let told = READY.replace("free 20000000", "free 2000000");
        let travels = Load {
            images: true,
            ..Load::default()
        };
        assert_eq!(failed(&facts(&told), &Load::default()), [""; 0]);
        assert_eq!(
            failed(&facts(&told), &travels),
            ["disk: 1.9 GiB free, a deploy needs 3.7 GiB"]
        );
        let elsewhere = told.replace("free 2000000", "free 2000000\nfree-for-images 20000000");
        assert_eq!(failed(&facts(&elsewhere), &travels), [""; 0]);
    }

    #[test]
    fn the_page_can_only_be_where_the_host_is() {
        let load = |last| Load {
            address: Some(Ipv4Addr::new(10, 0, 0, last)),
            ..Load::default()
        };
        let there = facts(READY);
        assert_eq!(failed(&there, &load(5)), [""; 0]);
        assert_eq!(
            failed(&there, &load(6)),
            ["web: 10.0.0.6 is no address of the host, which has 10.0.0.5, 172.18.0.1"]
        );
        let silent = facts(&READY.replace("addresses 10.0.0.5 172.18.0.1 \n", ""));
        assert_eq!(failed(&silent, &load(6)), [""; 0]);
    }
}
