//! `env rotate --host`: new passwords and keys, here and there.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::deploy::{Target, fingerprint, target};
use super::env_host::{Made, refuse_half_way};
use super::on_host::{self, There, phases_of};
use super::print_json;
use crate::cli;
use crate::config::{self, EnvSource, Host, ROTATED, Settings, Store, environment, settings};
use crate::context::Context;
use crate::error::Failure;
use crate::release::{self, Difference, Outcome, Task, Work};

pub(super) fn run(context: &Context, args: &cli::EnvRotate) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    let name = args.host.as_str();
    let doing = || format!("failed to rotate the secrets of {name}");
    let file = file(context, deploy.host(name)?).with_context(doing)?;
    let old = target(context, &deploy, name).with_context(doing)?;
    let names = names(&old.settings, &args.names).with_context(doing)?;
    let (host, machine) = (old.host, &old.machine);
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(machine, host, None, &[])
    })?;
    on_host::refuse_unready(name, &observed).with_context(doing)?;
    let serving = on_host::serving(name, &observed).with_context(doing)?;
    refuse_half_way(name, &observed).with_context(doing)?;
    let there = release::env_of(machine, host, serving).with_context(doing)?;
    if !Difference::between(old.settings.env(), &there).is_empty() {
        return Err(Failure::user("the settings here are not those that serve")
            .hint(format!(
                "look, then push them: cargo xtask env diff --host {name}"
            ))
            .into());
    }
    context
        .term
        .say(&format!("  new       {}", names.join(", ")));
    if args.dry.dry_run {
        return Ok(());
    }
    on_host::refuse_active(name, "env rotate", &observed, &args.run).with_context(doing)?;

    let env = config::renew(old.settings.env(), &names, &|bytes| {
        getrandom::fill(bytes).map_err(|error| {
            anyhow::anyhow!("failed to read random bytes from the operating system: {error}")
        })
    })?;
    for secret_of in [&context.machine, machine] {
        secret_of.keep_secret(settings::secrets(&env));
    }
    // Before anything changes there: whatever becomes of this machine's command, no
    // password is known to the host alone.
    let mut draft = file.clone().into_os_string();
    draft.push(".next");
    let draft = PathBuf::from(draft);
    context
        .machine
        .write(&draft, env.to_string().as_bytes(), 0o600)?;
    let new = Target {
        name,
        host,
        machine: context.over(name, host)?,
        env: fingerprint(&env),
        settings: Settings::of(&context.workspace, env)?,
    };
    let made = Made::of(&new, &observed, serving).with_context(doing)?;
    made.ship(context, &new, serving).with_context(doing)?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let task = Task {
        run: format!("{now}-rotate"),
        release: made.release,
        old: Some(serving.id.clone()),
        wait: args.run.seconds(),
        who: json!({"by": environment::person(), "command": "env rotate", "names": names}),
        work: Work::Rotate {
            env_old: serving.env.clone(),
            names: Difference::between(new.settings.env(), &there).changed,
            mysql: new.settings.source() == Store::Ours,
            dags: deploy.dags(host).to_vec(),
        },
    };
    let there = There {
        name,
        host,
        machine,
    };
    let (outcome, events) = there.carry_out(context, &task)?;
    match outcome {
        Outcome::Done => {
            std::fs::rename(&draft, &file)
                .with_context(|| format!("failed to write {}", file.display()))?;
            context
                .term
                .done(&format!("{} has the new values", file.display()));
        }
        // The host may still take either.
        Outcome::Failed | Outcome::Lost => context.term.warn(&format!(
            "the new values are kept in {}: the host may have taken them",
            draft.display()
        )),
        _ => std::fs::remove_file(&draft)
            .with_context(|| format!("failed to remove {}", draft.display()))?,
    }
    if args.json {
        print_json(&json!({
            "host": name, "names": names, "release": task.release,
            "end": outcome.name(), "phases": phases_of(&events),
        }))?;
    }
    there
        .conclude(context, "env rotate", &task, outcome, started.elapsed())
        .with_context(doing)
}

/// The file here that new values can be written into.
///
/// # Errors
/// A user failure where the settings come from elsewhere.
fn file(context: &Context, host: &Host) -> Result<PathBuf> {
    let refused = |what: &str| {
        Err(Failure::user(format!("{what}: xtask cannot write new values there"))
            .hint(format!(
                "name an env_file in deploy.toml for the rotation, and put the new values back where they come from; they are those of {}",
                ROTATED.join(", ")
            ))
            .into())
    };
    match host.env_source()? {
        EnvSource::File(file) => Ok(context.workspace.root().join(file)),
        EnvSource::Command(_) => refused("the settings come from a program, env_command"),
        EnvSource::There => refused("the settings are a file that is kept on the host by hand"),
    }
}

/// Those that are asked for, or all that are ours.
///
/// # Errors
/// A user failure for a name that is none, or that another server decides.
fn names(settings: &Settings, asked: &[String]) -> Result<Vec<&'static str>> {
    let ours = |name: &&str| match *name {
        // Without a name there is no such account.
        "AIRFLOW_OPERATOR_PASSWORD" => !settings.or("AIRFLOW_OPERATOR_USERNAME", "").is_empty(),
        "AIRFLOW_DB_PASSWORD" => settings.metadata() == Store::Ours,
        "POSTGRES_ANALYTICS_PASSWORD" => settings.analytics() == Store::Ours,
        "MYSQL_ROOT_PASSWORD" | "DEMO_SOURCE_PASSWORD" | "OPENDENTAL_SOURCE_PASSWORD" => {
            settings.source() == Store::Ours
        }
        _ => true,
    };
    if settings.metadata() != Store::Ours {
        return Err(Failure::user("the metadata database is on another server, which has no way back to before")
            .hint("change the password on its server and the others in the settings, then: cargo xtask env push --host NAME")
            .into());
    }
    let all: Vec<&'static str> = ROTATED.into_iter().filter(ours).collect();
    if asked.is_empty() {
        return Ok(all);
    }
    asked
        .iter()
        .map(|name| {
            all.iter()
                .copied()
                .find(|known| known == name)
                .ok_or_else(|| {
                    Failure::user(format!("{name} is no secret that is made here"))
                        .hint(format!("one of {}", all.join(", ")))
                        .into()
                })
        })
        .collect()
}
