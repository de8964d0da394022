//! `env rotate --host`: new passwords and keys, here and there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::deploy::{Target, fingerprint, target};
use super::env::{Made, refuse_half_way};
use super::{self as on_host, There, phases_of};
use crate::cli;
use crate::commands::print_json;
use crate::config::{
    self, EnvFile, EnvSource, Host, ROTATED, Settings, Store, environment, settings,
};
use crate::context::Context;
use crate::error::Failure;
use crate::release::{self, Difference, Observed, Outcome, Release, Task, Work};

pub(in crate::commands) fn run(context: &Context, args: &cli::EnvRotate) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    let name = args.on.host.as_str();
    let doing = || format!("failed to rotate the secrets of {name}");
    let file = file(context, deploy.host(name)?).with_context(doing)?;
    let old = target(context, &deploy, name).with_context(doing)?;
    let ours = names(name, &old.settings, &args.names).with_context(doing)?;
    let draft = Draft::of(&file)?;
    let (host, machine) = (old.host, &old.machine);
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(machine, host, None, &[])
    })?;
    on_host::refuse_unready(name, &observed).with_context(doing)?;
    let good = good(name, &observed).with_context(doing)?;
    let there = release::env_of(machine, host, good).with_context(doing)?;
    if draft.begun.is_none() {
        refuse_half_way(name, &observed).with_context(doing)?;
        refuse_different(name, &old.settings, &there).with_context(doing)?;
    }
    let env = draft.values(context, &old.settings, &ours)?;
    let new = Target {
        name,
        host,
        machine: context.over(name, host)?,
        env: fingerprint(&env),
        settings: Settings::of(&context.workspace, env.clone())?,
    };
    let difference = Difference::between(&env, old.settings.env());
    if draft.begun.is_some() {
        refuse_edited(&draft, &file, &difference).with_context(doing)?;
    }
    let changed = difference.changed;
    let shown: Vec<&str> = match draft.begun {
        Some(_) => changed.iter().map(String::as_str).collect(),
        None => ours,
    };
    let what = match draft.begun {
        Some(_) => "goes on  ",
        None => "new      ",
    };
    context.term.say(&format!(
        "  {} {}",
        context.term.dim(what),
        shown.join(", ")
    ));
    if args.dry.dry_run {
        return Ok(());
    }
    on_host::refuse_active(name, "env rotate", &observed, &args.run).with_context(doing)?;

    for secret_of in [&context.machine, machine] {
        secret_of.keep_secret(settings::secrets(&env));
    }
    // It may have come to its end without our seeing it.
    let made = match good.env == new.env {
        true => None,
        false => Some(Made::of(&new, &observed, good).with_context(doing)?),
    };
    // Before anything changes there: whatever becomes of this machine's command, no
    // password is known to the host alone.
    context
        .machine
        .write(&draft.path, env.to_string().as_bytes(), 0o600)?;
    if let Some(made) = &made {
        made.ship(context, &new, good).with_context(doing)?;
    }
    let release = made.map_or_else(|| good.clone(), |made| made.release);
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let task = Task {
        run: format!("{now}-rotate"),
        release,
        old: Some(good.id.clone()),
        wait: args.run.seconds(),
        who: json!({"by": environment::person(), "command": "env rotate", "names": shown}),
        work: Work::Rotate {
            env_old: good.env.clone(),
            names: changed.clone(),
            resumed: draft.begun.is_some(),
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
    draft.conclude(context, &file, outcome)?;
    if args.json {
        print_json(&json!({
            "host": name, "names": shown, "release": task.release,
            "end": outcome.name(), "phases": phases_of(&events),
        }))?;
    }
    there
        .conclude(context, "env rotate", &task, outcome, started.elapsed())
        .with_context(doing)
}

/// The release that served last, and well.
fn good<'o>(name: &str, observed: &'o Observed) -> Result<&'o Release> {
    let good = observed.good.as_deref().and_then(|id| observed.release(id));
    good.map_or_else(|| on_host::serving(name, observed), Ok)
}

/// Refuses where the host would come to serve more than new secrets.
fn refuse_different(name: &str, here: &Settings, there: &EnvFile) -> Result<()> {
    if Difference::between(here.env(), there).is_empty() {
        return Ok(());
    }
    Err(Failure::user("the settings here are not those that serve")
        .hint(format!(
            "look, then push them: cargo xtask env diff --host {name}"
        ))
        .into())
}

/// Refuses where the settings were edited since a rotation was cut short: they would be
/// lost.
fn refuse_edited(draft: &Draft, file: &Path, found: &Difference) -> Result<()> {
    let own = |name: &&String| {
        ROTATED.contains(&name.as_str()) || *name == "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    };
    let all = found.added.iter().chain(&found.removed);
    let others: Vec<&str> = all
        .chain(found.changed.iter().filter(|name| !own(name)))
        .map(String::as_str)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let (draft, file) = (draft.path.display(), file.display());
    Err(Failure::user(format!(
        "{file} was edited since the rotation was cut short: {}",
        others.join(", ")
    ))
    .hint(format!("let {draft} have the same there, then again"))
    .into())
}

/// Refuses where the host may have secrets that only a rotation's draft knows.
pub(in crate::commands) fn refuse_begun(context: &Context, name: &str, host: &Host) -> Result<()> {
    let EnvSource::File(file) = host.env_source()? else {
        return Ok(());
    };
    let draft = Draft::of(&context.workspace.root().join(file))?;
    if draft.begun.is_none() {
        return Ok(());
    }
    Err(Failure::user(format!(
        "a rotation of its secrets was cut short: {} has values that it may have taken",
        draft.path.display()
    ))
    .hint(format!(
        "go on with it: cargo xtask env rotate --host {name}"
    ))
    .into())
}

/// The new values of a rotation, beside the file that they will be written into.
struct Draft {
    path: PathBuf,
    /// Those of a rotation that was cut short.
    begun: Option<EnvFile>,
}

impl Draft {
    fn of(file: &Path) -> Result<Self> {
        let mut path = file.to_path_buf().into_os_string();
        path.push(".next");
        let path = PathBuf::from(path);
        let begun = match std::fs::read_to_string(&path) {
            Ok(text) => Some(EnvFile::parse(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        Ok(Self { path, begun })
    }

    /// Those that were begun with; else the settings with new values for `names`.
    fn values(&self, context: &Context, old: &Settings, names: &[&str]) -> Result<EnvFile> {
        if let Some(begun) = &self.begun {
            context.term.warn(&format!(
                "a rotation was cut short: it goes on with the values of {}",
                self.path.display()
            ));
            return Ok(begun.clone());
        }
        config::renew(old.env(), names, &|bytes| {
            getrandom::fill(bytes).map_err(|error| {
                anyhow::anyhow!("failed to read random bytes from the operating system: {error}")
            })
        })
    }

    /// The file takes the new values, or they are thrown away where the host has none
    /// of them.
    fn conclude(&self, context: &Context, file: &Path, outcome: Outcome) -> Result<()> {
        let untouched = match outcome {
            Outcome::Done => {
                std::fs::rename(&self.path, file)
                    .with_context(|| format!("failed to write {}", file.display()))?;
                let said = format!("{} has the new values", file.display());
                context.term.done(&said);
                return Ok(());
            }
            Outcome::Reverted => true,
            Outcome::Refused | Outcome::Active | Outcome::Busy => self.begun.is_none(),
            Outcome::Failed | Outcome::Lost => false,
        };
        if untouched {
            return std::fs::remove_file(&self.path)
                .with_context(|| format!("failed to remove {}", self.path.display()));
        }
        context.term.warn(&format!(
            "the new values are kept in {}: the host may have taken them",
            self.path.display()
        ));
        Ok(())
    }
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
fn names(host: &str, settings: &Settings, asked: &[String]) -> Result<Vec<&'static str>> {
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
            .hint(format!("change the password on its server and the others in the settings, then: cargo xtask env push --host {host}"))
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
