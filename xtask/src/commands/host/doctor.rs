//! `doctor --host`: whether a host can carry the stack, and carries it.

use anyhow::Result;

use super::deploy::env_text;
use super::status::ailments;
use crate::config::{EnvFile, Host, Settings, settings};
use crate::context::Context;
use crate::exec::Machine;
use crate::host::fitness::{self, Load};
use crate::host::{self, Closer, Facts, Folder, Holder};
use crate::image;
use crate::preflight::{self, Check, Wanted};
use crate::release::{self, Observed};

/// Every check; one that cannot be made is one that failed.
///
/// # Errors
/// Only where deploy.toml does not tell of the host.
pub(in crate::commands) fn checks(context: &Context, name: &str) -> Result<Vec<Check>> {
    let deploy = context.deploy()?;
    let host = deploy.host(name)?;
    let machine = context.over(name, host)?;
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(&machine, host, None, &[])
    });
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
    let settings = read_settings(context, &machine, host, name);
    checks.extend(fit(context, host, name, &observed, settings.as_ref().ok()));
    checks.push(rsync(name, facts));
    checks.push(rsync_here());
    checks.push(folder(name, host, facts));
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
            checks.push(secrets(name, facts, &closer));
            let holder = |one: &Wanted| closer.ports.iter().find(|(port, _)| *port == one.port);
            let port = |one: &Wanted| Some(port(name, one, &holder(one)?.1, project));
            checks.extend(wanted.iter().filter_map(port));
        }
        Err(error) => checks.push(Check::unanswered("secrets and ports", &error)),
    }
    checks.push(stack(name, &observed, deploy.dags(host)));
    Ok(checks)
}

fn provision(name: &str) -> String {
    format!("cargo xtask provision --host {name}")
}

/// What a deploy would ask of the machine, with room for an image beside the one to
/// fall back to.
fn fit(
    context: &Context,
    host: &Host,
    name: &str,
    observed: &Observed,
    settings: Option<&Settings>,
) -> Vec<Check> {
    let databases: Vec<String> = settings
        .map(|settings| {
            settings
                .databases()
                .into_iter()
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    // Without an engine here nothing is built, and so nothing to compare with.
    let platform = platform(context).ok().flatten();
    let load = Load {
        architecture: platform.as_deref().and_then(|p| p.split('/').nth(1)),
        databases: &databases,
        images: true,
        address: host.web.address(),
        without_compose: observed.facts.compose.is_none() && !observed.served.is_empty(),
    };
    fitness::checks(name, &observed.facts, &load)
}

/// For which machines the image is built here.
fn platform(context: &Context) -> Result<Option<String>> {
    let engine = context.engine()?;
    let facts = image::observe(&engine, &context.workspace, &context.deploy()?)?;
    Ok(facts.base.map(|base| base.platform))
}

fn rsync(name: &str, facts: &Facts) -> Check {
    match facts.rsync {
        true => Check::pass("rsync", "is there"),
        false => Check::fail("rsync", "is not there").fix(provision(name)),
    }
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

fn read_settings(context: &Context, there: &Machine, host: &Host, name: &str) -> Result<Settings> {
    let env = EnvFile::parse(&env_text(context, there, host)?);
    for machine in [&context.machine, there] {
        machine.keep_secret(settings::secrets(&env));
    }
    Settings::of(&context.workspace, env)
        .map_err(|error| error.context(format!("failed to take the settings of {name}")))
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
        (Some(who), _) => Check::warn(
            "stack",
            format!("the host is at work: {}", super::at_work(who)),
        )
        .fix(format!("wait for it: cargo xtask status --host {name}")),
        (None, true) => Check::pass("stack", format!("{} serves, healthy", serving.id)),
        (None, false) => Check::fail("stack", format!("{}: {}", serving.id, wrong.join("; "))).fix(
            format!("cargo xtask logs --host {name}\nor, which starts what is down: {deploy}"),
        ),
    }
}
