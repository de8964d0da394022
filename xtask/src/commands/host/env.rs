//! `env diff --host` and `env push --host`: the settings of a host, alone.

use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::deploy::{Target, calling, env_text, needs, target};
use super::rotate::refuse_begun;
use super::{self as on_host, There, phases_of};
use crate::cli;
use crate::commands::print_json;
use crate::config::{self, EnvFile, environment, settings};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::Term;
use crate::release::{self, Code, Difference, KEEP, Observed, Release, Task, Way, Work};

/// The variables that name images, as the compose files read them.
const IMAGES: [&str; 3] = ["AIRFLOW_IMAGE", "POSTGRES_IMAGE", "MYSQL_IMAGE"];

/// Names what differs between the settings here and those that serve.
pub(in crate::commands) fn diff(context: &Context, args: &cli::EnvDiff) -> Result<()> {
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    let machine = context.over(name, host)?;
    let doing = || format!("failed to compare the settings of {name}");
    let here = EnvFile::parse(&env_text(context, &machine, host).with_context(doing)?);
    let problems = config::check(&settings::template(&context.workspace)?, &here);
    let observed = release::observe(&machine, host, None, &[])?;
    let serving = on_host::serving(name, &observed).with_context(doing)?;
    let there = release::env_of(&machine, host, serving).with_context(doing)?;
    let found = Difference::between(&here, &there);
    if args.json {
        let problems: Vec<_> = problems
            .iter()
            .map(|p| json!({"name": p.name, "why": p.why}))
            .collect();
        return print_json(&json!({
            "host": name, "release": serving.id, "problems": problems,
            "added": found.added, "removed": found.removed, "changed": found.changed,
        }));
    }
    let term = &context.term;
    for problem in &problems {
        term.fail(&format!("{} {}", problem.name, problem.why));
    }
    say(term, &found);
    if found.is_empty() {
        term.done(&format!("{name} serves with the settings that are here"));
    } else {
        term.say(&format!("  cargo xtask env push --host {name}"));
    }
    Ok(())
}

fn say(term: &Term, found: &Difference) {
    for (what, names) in [
        ("added", &found.added),
        ("removed", &found.removed),
        ("changed", &found.changed),
    ] {
        if !names.is_empty() {
            let names = names.join(", ");
            term.say(&format!("  {} {names}", term.dim(&format!("{what:<9}"))));
        }
    }
}

/// Refuses where what serves is not known to serve well.
pub(in crate::commands) fn refuse_half_way(name: &str, observed: &Observed) -> Result<()> {
    if observed.good == observed.current && observed.paused.is_empty() {
        return Ok(());
    }
    Err(Failure::user("the last deploy did not come to its end")
        .hint(format!("cargo xtask deploy --host {name}"))
        .into())
}

/// The release that serves, with the settings that are here: a release of its own,
/// by the road that restarts.
pub(in crate::commands) fn push(context: &Context, args: &cli::EnvPush) -> Result<()> {
    let started = Instant::now();
    let deploy = context.deploy()?;
    let name = args.on.host.as_str();
    let doing = || format!("failed to push the settings of {name}");
    refuse_begun(context, name, deploy.host(name)?).with_context(doing)?;
    let target = target(context, &deploy, name).with_context(doing)?;
    let (host, machine) = (target.host, &target.machine);
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(machine, host, None, &[])
    })?;
    on_host::refuse_unready(name, &observed).with_context(doing)?;
    let serving = on_host::serving(name, &observed).with_context(doing)?;
    refuse_half_way(name, &observed).with_context(doing)?;
    let found = Difference::between(
        target.settings.env(),
        &release::env_of(machine, host, serving).with_context(doing)?,
    );
    if found.is_empty() {
        context
            .term
            .done(&format!("{name} serves with these settings already"));
        return Ok(());
    }
    say(&context.term, &found);
    let made = Made::of(&target, &observed, serving).with_context(doing)?;
    context.term.say(&format!(
        "  {} gate, drain, backup, stop, init, start, verify, resume",
        context.term.dim("then     ")
    ));
    if args.dry.dry_run {
        return Ok(());
    }
    on_host::refuse_active(name, "env push", &observed, &args.run).with_context(doing)?;
    made.ship(context, &target, serving)?;
    let release = made.release;
    let task = Task {
        run: release.id.clone(),
        release: release.clone(),
        old: observed.good.clone(),
        wait: args.run.seconds(),
        who: json!({"by": release.by, "command": "env push"}),
        work: Work::Deploy {
            way: Way::Restart,
            gated: false,
            dags: deploy.dags(host).to_vec(),
            keep: KEEP,
        },
    };
    let there = There {
        name,
        host,
        machine,
    };
    let (outcome, events) = there.carry_out(context, &task)?;
    if args.json {
        print_json(&json!({
            "host": name, "release": release,
            "added": found.added, "removed": found.removed, "changed": found.changed,
            "end": outcome.name(), "phases": phases_of(&events),
        }))?;
    }
    there
        .conclude(context, "env push", &task, outcome, started.elapsed())
        .with_context(doing)
}

/// The release that serves, with other settings.
pub(in crate::commands) struct Made {
    pub(in crate::commands) release: Release,
    code: Code,
    compose: String,
}

impl Made {
    /// With those of `target`.
    ///
    /// # Errors
    /// A user failure where these settings ask for more than other settings.
    pub(in crate::commands) fn of(
        target: &Target<'_>,
        observed: &Observed,
        serving: &Release,
    ) -> Result<Self> {
        let name = target.name;
        if serving.project != target.settings.project() {
            return Err(needs_a_deploy(name, "another COMPOSE_PROJECT_NAME"));
        }
        let (code, images) = release::made_of(&target.machine, target.host, serving)?;
        if code.digest() != serving.code {
            return Err(Failure::user(format!(
                "the files of {} are not what they were when it was shipped",
                serving.id
            ))
            .hint(format!("cargo xtask deploy --host {name}"))
            .into());
        }
        let images: Vec<(&'static str, String)> = IMAGES
            .into_iter()
            .filter(|variable| needs(&target.settings, variable))
            .map(|variable| {
                let found = images.iter().find(|(name, _)| name == variable);
                let (_, image) = found.ok_or_else(|| needs_a_deploy(name, variable))?;
                Ok((variable, image.clone()))
            })
            .collect::<Result<_>>()?;
        let calling = calling(target, observed, &images);
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let rest = serving.id.split_once('-').map_or("", |(_, rest)| rest);
        let id = format!("{now}-{rest}");
        let databases = target.settings.databases().into_iter();
        Ok(Self {
            compose: calling.script(&id, &target.env),
            release: Release {
                id,
                by: environment::person(),
                databases: databases.map(str::to_owned).collect(),
                env: target.env.clone(),
                shape: calling.shape(&code),
                ..serving.clone()
            },
            code,
        })
    }

    /// Makes its folder there, of links to the files that serve.
    pub(in crate::commands) fn ship(
        &self,
        context: &Context,
        target: &Target<'_>,
        serving: &Release,
    ) -> Result<()> {
        let text = target.settings.env().bare().to_string();
        release::write_env(&target.machine, target.host, &target.env, &text)?;
        let files = [
            ("release.json", serde_json::to_string(&self.release)?),
            ("compose", self.compose.clone()),
        ];
        release::ship(
            &context.machine,
            &target.machine,
            target.host,
            &self.release,
            &self.code,
            Some(&serving.id),
            &files,
        )?;
        Ok(())
    }
}

fn needs_a_deploy(name: &str, what: &str) -> anyhow::Error {
    Failure::user(format!(
        "these settings need {what}, which the release that serves has not"
    ))
    .hint(format!("cargo xtask deploy --host {name}"))
    .into()
}
