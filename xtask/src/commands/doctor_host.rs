//! `doctor --host`: whether a host can carry the stack, and carries it.

use anyhow::Result;
use jiff::Timestamp;

use super::deploy::{IMAGE_ROOM, ROOM, env_text};
use super::status_host::ailments;
use crate::config::{EnvFile, Host, Settings, settings};
use crate::context::Context;
use crate::exec::Machine;
use crate::host::{self, Closer, Facts, Folder, Holder};
use crate::image;
use crate::preflight::{self, Check, Wanted, gib};
use crate::release::{self, Observed};
use crate::stack::Compose;

/// Every check; one that cannot be made is one that failed.
///
/// # Errors
/// Only where deploy.toml does not tell of the host.
pub(super) fn checks(context: &Context, name: &str) -> Result<Vec<Check>> {
    let deploy = context.deploy()?;
    let host = deploy.host(name)?;
    let machine = context.over(name, host)?;
    let before = Timestamp::now();
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(&machine, host, None, &[])
    });
    let after = Timestamp::now();
    let observed = match observed {
        Ok(observed) => observed,
        Err(error) => return Ok(vec![Check::unanswered("reached", &error)]),
    };
    let facts = &observed.facts;
    let system = &facts.install.system;
    let mut checks = vec![Check::pass(
        "reached",
        format!("as {}: {system}", facts.user),
    )];
    checks.extend(tools(name, facts));
    checks.push(rsync_here());
    checks.push(folder(name, host, facts));
    checks.push(architecture(context, &facts.architecture));
    checks.push(preflight::memory_of(facts.memory));
    // It looked at its clock somewhere between: half way is the guess.
    let middle = before + after.duration_since(before) / 2;
    checks.push(preflight::clock_of(name, facts.clock - middle.as_second()));
    let settings = read_settings(context, &machine, host, name);
    let wanted = settings
        .as_ref()
        .map_or_else(|_| Vec::new(), preflight::wanted);
    checks.push(match &settings {
        Ok(_) => Check::pass("settings", "complete and well formed"),
        Err(error) => Check::unanswered("settings", error),
    });
    let ports: Vec<u16> = wanted.iter().map(|one| one.port).collect();
    match host::look_closer(&machine, host, &ports) {
        Ok(closer) => {
            let project = settings.as_ref().map_or("", Settings::project);
            checks.extend(disks(host, &observed, &closer));
            checks.push(secrets(name, facts, &closer));
            let holder = |one: &Wanted| closer.ports.iter().find(|(port, _)| *port == one.port);
            let port = |one: &Wanted| Some(port(name, one, &holder(one)?.1, project));
            checks.extend(wanted.iter().filter_map(port));
        }
        Err(error) => checks.push(Check::unanswered("disk, secrets and ports", &error)),
    }
    checks.push(stack(name, &observed, &deploy.airflow.dags));
    Ok(checks)
}

fn provision(name: &str) -> String {
    format!("cargo xtask provision --host {name}")
}

/// The engine, Compose and rsync there.
fn tools(name: &str, facts: &Facts) -> Vec<Check> {
    let engine = match &facts.engine {
        Some(version) if preflight::is_old(version) => {
            Check::fail("engine", format!("version {version} is too old"))
                .fix("install a newer engine there: the distribution's docker.io or docker-ce")
        }
        Some(version) => Check::pass("engine", format!("version {version}")),
        None if facts.install.denied => {
            Check::fail("engine", format!("refuses user {}", facts.user)).fix(provision(name))
        }
        None if facts.install.docker => {
            Check::fail("engine", "does not answer").fix(provision(name))
        }
        None => Check::fail("engine", "is not there").fix(provision(name)),
    };
    let compose = match &facts.compose {
        Some(version) if Compose::is_fit(version) => {
            Check::pass("Compose", format!("version {version}"))
        }
        Some(version) => Check::fail("Compose", format!("version {version} is too old"))
            .fix("install Compose 1.29 or newer there"),
        None => Check::fail("Compose", "is not there").fix(provision(name)),
    };
    let rsync = match facts.rsync {
        true => Check::pass("rsync", "is there"),
        false => Check::fail("rsync", "is not there").fix(provision(name)),
    };
    vec![engine, compose, rsync]
}

/// Both ends need it.
fn rsync_here() -> Check {
    match which::which("rsync") {
        Ok(_) => Check::pass("rsync here", "is on this machine"),
        Err(_) => {
            Check::fail("rsync here", "is not on this machine").fix("sudo apt-get install rsync")
        }
    }
}

/// Secrets lie below it: for its user alone to write, for no others to see.
fn folder(name: &str, host: &Host, facts: &Facts) -> Check {
    let path = &host.directory;
    let Some(Folder { owner, mode }) = &facts.folder else {
        return Check::fail("folder", format!("{path} is not there")).fix(provision(name));
    };
    let says = format!("{path} is {owner}'s, mode {mode}");
    match *owner == facts.user && mode.ends_with('0') {
        true => Check::pass("folder", says),
        false => Check::fail(
            "folder",
            format!("{says}; it has to be {}'s alone", facts.user),
        )
        .fix(provision(name)),
    }
}

/// Whether the image that is built here runs there.
fn architecture(context: &Context, there: &str) -> Check {
    let built_for = || -> Result<Option<String>> {
        let engine = context.engine()?;
        let facts = image::observe(&engine, &context.workspace, &context.deploy()?)?;
        Ok(facts.base.map(|base| base.platform))
    };
    match built_for() {
        Ok(Some(platform)) => same_architecture(&platform, there),
        Ok(None) => Check::warn(
            "architecture",
            format!("{there}; no base image is here to compare it with"),
        )
        .fix("cargo xtask build"),
        Err(error) => Check::unanswered("architecture", &error),
    }
}

fn same_architecture(platform: &str, there: &str) -> Check {
    // As `uname -m` has it, as the engine has it.
    let known = match there {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let says = format!("{there}; the image is for {platform}");
    match platform.split('/').nth(1) == Some(known) {
        true => Check::pass("architecture", says),
        false => Check::fail("architecture", says).fix(format!(
            "deploy from a machine of that kind, or build for it: cargo xtask build --platform linux/{known}"
        )),
    }
}

fn read_settings(context: &Context, there: &Machine, host: &Host, name: &str) -> Result<Settings> {
    let env = EnvFile::parse(&env_text(context, there, host)?);
    for machine in [&context.machine, there] {
        machine.keep_secret(settings::secrets(&env));
    }
    Settings::of(&context.workspace, env)
        .map_err(|error| error.context(format!("failed to take the settings of {name}")))
}

/// Room for the stack's folder and for images, which may be two file systems.
fn disks(host: &Host, observed: &Observed, closer: &Closer) -> Vec<Check> {
    let serves = observed.serving().is_some();
    let fix = "see there what fills it: df -h, docker system df";
    let check = |name: &str, path: &str, free: u64, needed: u64, wanted: u64| {
        let says = format!("{} free in {path}", gib(free));
        if free < needed {
            let says = format!("{says}; a deploy needs {}", gib(needed));
            return Check::fail(name, says).fix(fix);
        }
        match free < wanted {
            true => Check::warn(
                name,
                format!(
                    "{says}; an image beside the one to fall back to needs {}",
                    gib(wanted)
                ),
            )
            .fix(fix),
            false => Check::pass(name, says),
        }
    };
    let image = ROOM + IMAGE_ROOM;
    let needed = if serves { ROOM } else { image };
    let mut checks = vec![check(
        "disk",
        &host.directory,
        observed.facts.free,
        needed,
        image,
    )];
    if let Some((path, free)) = &closer.root {
        checks.push(check("disk of images", path, *free, needed, image));
    }
    checks
}

/// Files that hold secrets: the user's alone.
fn secrets(name: &str, facts: &Facts, closer: &Closer) -> Check {
    let open: Vec<&(String, Folder)> = closer
        .settings
        .iter()
        .filter(|(_, file)| {
            file.owner != facts.user || !matches!(file.mode.as_str(), "600" | "400")
        })
        .collect();
    if open.is_empty() {
        return Check::pass(
            "secrets",
            match closer.settings.len() {
                0 => "none are there yet".to_owned(),
                _ => format!("for {} alone", facts.user),
            },
        );
    }
    let says: Vec<String> = open
        .iter()
        .map(|(path, file)| format!("{path} is {}'s, mode {}", file.owner, file.mode))
        .collect();
    let paths: Vec<&str> = open.iter().map(|(path, _)| path.as_str()).collect();
    let paths = paths.join(" ");
    let user = &facts.user;
    Check::fail("secrets", says.join("; ")).fix(format!(
        "on {name}: sudo chown {user} {paths} && sudo chmod 600 {paths}"
    ))
}

fn port(name: &str, wanted: &Wanted, holder: &Holder, project: &str) -> Check {
    let (check, variable) = (format!("port {}", wanted.port), wanted.variable);
    let other = format!("another {variable} in the host's settings, or free it");
    match holder {
        Holder::Nobody => Check::pass(check, format!("is free for {variable}")),
        Holder::Container { project: own, .. } if own == project => {
            Check::pass(check, "is held by this stack's own container")
        }
        Holder::Container { name, .. } => {
            Check::fail(check, format!("is held by container {name}"))
                .fix(format!("{other}: docker stop {name}"))
        }
        Holder::Program => Check::fail(check, "is held by a program").fix(format!(
            "{other}; whose it is, on {name}: sudo ss -ltnp 'sport = :{}'",
            wanted.port
        )),
    }
}

fn stack(name: &str, observed: &Observed, dags: &[String]) -> Check {
    let deploy = format!("cargo xtask deploy --host {name}");
    let Some(serving) = observed.serving() else {
        return Check::warn("stack", "nothing serves yet").fix(deploy);
    };
    let wrong = ailments(observed, dags);
    match (&observed.busy, wrong.is_empty()) {
        (Some(who), _) => Check::warn("stack", format!("the host is at work: {who}"))
            .fix(format!("wait for it: cargo xtask status --host {name}")),
        (None, true) => Check::pass("stack", format!("{} serves, healthy", serving.id)),
        (None, false) => Check::fail("stack", format!("{}: {}", serving.id, wrong.join("; "))).fix(
            format!("cargo xtask logs --host {name}\nor, which starts what is down: {deploy}"),
        ),
    }
}
