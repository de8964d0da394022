//! `deploy`: this tree, serving on a host.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use xshell::cmd;

use super::alone;
use super::bring::{Bring, Road, registry_of};
use super::rotate::refuse_begun;
use super::{self as on_host, There, phases_of};
use crate::cli;
use crate::commands::{build, phases, print_json};
use crate::config::{Deploy, EnvFile, EnvSource, Host, Settings, environment, settings};
use crate::context::Context;
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Machine, Step, millis, plural};
use crate::host::fitness::{self, Load};
use crate::image::{self, BaseName, BuildFacts, GitState};
use crate::preflight::State;
use crate::release::{
    self, Calling, Code, Event, KEEP, Observed, Plan, ROOTS, Release, Task, Wanted, Way, Work,
};

pub(crate) fn run(context: &Context, args: &cli::Deploy) -> Result<()> {
    let deploy = context.deploy()?;
    // Before anything is done to the first, each name has to be one.
    for name in &args.host {
        registry_of(&deploy, deploy.host(name)?, name)?;
    }
    for name in &args.host {
        one(context, &deploy, name, args).with_context(|| format!("failed to deploy to {name}"))?;
    }
    Ok(())
}

/// One host, and all that a deploy to it is made of.
pub(in crate::commands) struct Target<'a> {
    pub(in crate::commands) name: &'a str,
    pub(in crate::commands) host: &'a Host,
    pub(in crate::commands) machine: Machine,
    /// Its settings and secrets, and the name of their file there.
    pub(in crate::commands) settings: Settings,
    pub(in crate::commands) env: String,
}

fn one(context: &Context, deploy: &Deploy, name: &str, args: &cli::Deploy) -> Result<()> {
    let started = Instant::now();
    let engine = context.engine()?;
    let git = committed(context, &engine, deploy, args.allow_dirty)?;
    refuse_begun(context, name, deploy.host(name)?)?;
    let target = target(context, deploy, name)?;
    let databases = BaseName::of_stack(&target.settings);
    let facts = match args.dry_run {
        true => image::observe(&engine, &context.workspace, deploy)?,
        false => build::for_host(context, &engine, deploy, target.host, &databases)?,
    };
    let images = phases::images(context, &engine, deploy, &facts)?;
    let names: Vec<(&'static str, String)> = [
        ("AIRFLOW_IMAGE", images.airflow),
        ("POSTGRES_IMAGE", images.postgres),
        ("MYSQL_IMAGE", images.mysql),
    ]
    .into_iter()
    .filter_map(|(variable, image)| Some((variable, image?)))
    .filter(|(variable, _)| needs(&target.settings, variable))
    .collect();
    let observed = context
        .term
        .task(&format!("{name}, at {}", target.host.ssh), || {
            let names: Vec<String> = names.iter().map(|(_, image)| image.clone()).collect();
            release::observe(
                &target.machine,
                target.host,
                Some(target.settings.project()),
                &names,
            )
        })?;
    on_host::refuse_unready_for(name, &observed, !args.print_docker_run)?;
    let bring = Bring {
        context,
        engine: &engine,
        deploy,
        name,
        host: target.host,
        machine: &target.machine,
        facts: &facts,
    };
    let wanted = wanted(context, &target, &observed, &git, &bring, &names)?;
    let plan = release::plan(&wanted, &observed);
    let roads = plan.bring.iter().map(|image| bring.road(image));
    let shown = Shown {
        context,
        args,
        name,
        wanted: &wanted,
        plan: &plan,
        roads: roads.collect::<Result<_>>()?,
    };
    if plan.way == Way::Nothing && args.print_docker_run {
        let id = observed.current.as_deref().unwrap_or_default();
        return print_docker_run(
            context,
            &engine,
            &target,
            &calling(&target, &observed, &names),
            id,
        );
    }
    if plan.way == Way::Nothing {
        context.term.done(&format!(
            "{name} serves this tree already, release {}  ({})",
            observed.current.as_deref().unwrap_or_default(),
            millis(started.elapsed())
        ));
        return shown.json("nothing", &[]);
    }
    shown.say();
    refuse_unfit(
        context,
        &target,
        &observed,
        &wanted,
        &plan,
        &facts,
        args.print_docker_run,
    )?;
    if args.dry_run {
        return shown.json("planned", &[]);
    }
    if plan.way != Way::First && !args.print_docker_run {
        on_host::refuse_active(name, "deploy", &observed, &args.run)?;
    }
    for needed in &wanted.images {
        if plan.bring.contains(&needed.name) {
            bring.bring(needed)?;
        }
    }
    ship(context, &target, &wanted, &plan, &observed, &names)?;
    if args.print_docker_run {
        let calling = calling(&target, &observed, &names);
        return print_docker_run(context, &engine, &target, &calling, &wanted.release.id);
    }
    let task = task(deploy, target.host, &wanted, &plan, args);
    let there = There {
        name,
        host: target.host,
        machine: &target.machine,
    };
    let (outcome, events) = there.carry_out(context, &task)?;
    shown.json(outcome.name(), &events)?;
    there.conclude(context, "deploy", &task, outcome, started.elapsed())
}

/// Which commit this is.
///
/// # Errors
/// A user failure outside of a repository, and where files are not committed,
/// unless that is allowed.
fn committed(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    allow_dirty: bool,
) -> Result<GitState> {
    let Some(mut git) = GitState::of(&context.machine, &ROOTS)? else {
        return Err(Failure::user(
            "failed to name the release: this is no git repository with a commit",
        )
        .hint("deploy from a clone")
        .into());
    };
    let image = image::observe(engine, &context.workspace, deploy)?;
    if let Some(of_image) = build::git_state(context, &image)? {
        git.dirty.extend(of_image.dirty);
    }
    if git.dirty.is_empty() || allow_dirty {
        return Ok(git);
    }
    Err(Failure::user(format!(
        "failed to name the release: not committed: {}",
        git.dirty.join(", ")
    ))
    .hint("commit, or deploy it as it is, marked as dirty: --allow-dirty")
    .into())
}

pub(in crate::commands) fn target<'a>(
    context: &Context,
    deploy: &'a Deploy,
    name: &'a str,
) -> Result<Target<'a>> {
    let host = deploy.host(name)?;
    let machine = context.over(name, host)?;
    let text = env_text(context, &machine, host)?;
    let env = EnvFile::parse(&text);
    for secret_of in [&context.machine, &machine] {
        secret_of.keep_secret(settings::secrets(&env));
    }
    let fingerprint = fingerprint(&env);
    let settings = Settings::of(&context.workspace, env)
        .with_context(|| format!("failed to take the settings of {name}"))?;
    Ok(Target {
        name,
        host,
        machine,
        settings,
        env: fingerprint,
    })
}

/// The name of settings: what they are.
pub(in crate::commands) fn fingerprint(env: &EnvFile) -> String {
    HEXLOWER.encode(&Sha256::digest(env.meaning()))[..16].to_owned()
}

/// Settings and secrets of a host, from where deploy.toml says.
pub(in crate::commands) fn env_text(
    context: &Context,
    there: &Machine,
    host: &Host,
) -> Result<String> {
    match host.env_source()? {
        EnvSource::File(file) => {
            let path = context.workspace.root().join(file);
            fs::read_to_string(&path).map_err(|error| {
                Failure::user(format!(
                    "failed to read {file}, the host's env_file: {error}"
                ))
                .hint("make it as docs/runbook.md, \"Its settings\", says")
                .into()
            })
        }
        EnvSource::Command(words) => {
            let sh = context.machine.sh();
            let (program, rest) = words.split_first().context("env_command is empty")?;
            let step = Step::new("get the host's settings", cmd!(sh, "{program} {rest...}"))
                .limit(Duration::from_secs(60));
            context.machine.read(&step)
        }
        EnvSource::There => {
            let path = format!("{}/.env", host.directory);
            let step = Step::new("read the host's .env", cmd!(there.sh(), "cat {path}"))
                .limit(Duration::from_secs(60));
            let read = there.capture(&step)?;
            if read.ok() {
                return Ok(read.stdout);
            }
            if read.stderr.contains("No such file") {
                return Err(Failure::user(format!(
                    "failed to read {path} on the host: it is not there"
                ))
                .hint("name its settings in deploy.toml: env_file = \".env.NAME\", or env_command = [\"program\", …]")
                .into());
            }
            Err(there.failed(&step, &read).into())
        }
    }
}

/// Whether a service of this installation runs that image.
pub(in crate::commands) fn needs(settings: &Settings, variable: &str) -> bool {
    match variable {
        "AIRFLOW_IMAGE" => true,
        "POSTGRES_IMAGE" => settings.databases().contains(&"postgres"),
        _ => settings.databases().contains(&"mysql"),
    }
}

fn wanted(
    context: &Context,
    target: &Target<'_>,
    observed: &Observed,
    git: &GitState,
    bring: &Bring<'_>,
    names: &[(&'static str, String)],
) -> Result<Wanted> {
    let code = Code::of(&context.machine, context.workspace.root())?;
    let images = names.iter().map(|(_, name)| bring.needed(name));
    let facts = bring.facts;
    let hash = facts.fingerprint.as_ref().map(image::Fingerprint::tag);
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let commit = &git.commit[..git.commit.len().min(7)];
    let release = Release {
        id: format!("{time}-{commit}-{}", hash.unwrap_or_default()),
        by: environment::person(),
        commit: git.commit.clone(),
        dirty: !git.dirty.is_empty(),
        code: code.digest(),
        image: facts.image(),
        project: target.settings.project().to_owned(),
        databases: target
            .settings
            .databases()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        env: target.env.clone(),
        shape: calling(target, observed, names).shape(&code),
    };
    Ok(Wanted {
        release,
        code,
        images: images.collect::<Result<_>>()?,
    })
}

pub(in crate::commands) fn calling<'a>(
    target: &'a Target<'_>,
    observed: &Observed,
    names: &'a [(&'static str, String)],
) -> Calling<'a> {
    Calling {
        host: target.name,
        directory: &target.host.directory,
        mount: &target.host.project_mount,
        project: target.settings.project(),
        // Root may give its folders to the image's own user.
        uid: match observed.facts.uid {
            0 => 50_000,
            uid => uid,
        },
        plugin: observed.facts.compose_is_plugin,
        images: names,
        web: &target.host.web,
        port: target.settings.or("AIRFLOW_WEBSERVER_PORT", "8080"),
        dags: target.host.dags.as_deref(),
        variables: &target.host.variables,
    }
}

/// Before anything travels: all that is wrong with the machine itself.
fn refuse_unfit(
    context: &Context,
    target: &Target<'_>,
    observed: &Observed,
    wanted: &Wanted,
    plan: &Plan,
    facts: &BuildFacts,
    without_compose: bool,
) -> Result<()> {
    let platform = facts.base.as_ref().map(|base| base.platform.as_str());
    let load = Load {
        architecture: platform.and_then(|platform| platform.split('/').nth(1)),
        databases: &wanted.release.databases,
        images: !plan.bring.is_empty(),
        address: target.host.web.address(),
        without_compose,
    };
    let checks = fitness::checks(target.name, &observed.facts, &load);
    for check in checks.iter().filter(|check| check.state == State::Warn) {
        context.term.warn(&check.lines("    "));
    }
    fitness::refuse(target.name, &checks)
}

fn print_docker_run(
    context: &Context,
    engine: &Engine<'_>,
    target: &Target<'_>,
    calling: &Calling<'_>,
    release: &str,
) -> Result<()> {
    let stack = alone::Stack {
        host: target.host,
        machine: &target.machine,
        settings: &target.settings,
        calling,
    };
    stack.print(context, engine, release)
}

fn ship(
    context: &Context,
    target: &Target<'_>,
    wanted: &Wanted,
    plan: &Plan,
    observed: &Observed,
    names: &[(&'static str, String)],
) -> Result<()> {
    if plan.way != Way::Code {
        let text = target.settings.env().bare().to_string();
        release::write_env(&target.machine, target.host, &target.env, &text)?;
    }
    let script = calling(target, observed, names).script(&wanted.release.id, &target.env);
    let files = [
        ("release.json", serde_json::to_string(&wanted.release)?),
        ("compose", script),
    ];
    let shipped = context.term.task("code shipped", || {
        release::ship(
            &context.machine,
            &target.machine,
            target.host,
            &wanted.release,
            &wanted.code,
            plan.like.as_deref(),
            &files,
        )
    })?;
    context.term.say(&context.term.dim(&format!(
        "  {} of {} travelled",
        plural(shipped.changed, "file"),
        wanted.code.len()
    )));
    Ok(())
}

fn task(deploy: &Deploy, host: &Host, wanted: &Wanted, plan: &Plan, args: &cli::Deploy) -> Task {
    let release = &wanted.release;
    Task {
        run: release.id.clone(),
        release: release.clone(),
        old: plan.old.clone(),
        wait: args.run.seconds(),
        who: json!({"by": release.by, "commit": release.commit, "dirty": release.dirty}),
        work: Work::Deploy {
            way: plan.way,
            gated: false,
            dags: deploy.dags(host).to_vec(),
            keep: KEEP,
        },
    }
}

/// The plan, for a person and for a script.
struct Shown<'a> {
    context: &'a Context,
    args: &'a cli::Deploy,
    name: &'a str,
    wanted: &'a Wanted,
    plan: &'a Plan,
    /// By which each image of the plan comes.
    roads: Vec<Road>,
}

impl Shown<'_> {
    fn say(&self) {
        let term = &self.context.term;
        let (wanted, plan) = (self.wanted, self.plan);
        let bring = match plan.bring.is_empty() {
            true => "nothing travels".to_owned(),
            false => {
                let each = plan.bring.iter().zip(&self.roads);
                let each = each.map(|(image, road)| format!("{image} {road}"));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        let road = match plan.way {
            Way::First => "databases, gate, init, start, verify".to_owned(),
            Way::Restart => "gate, drain, backup, stop, init, start, verify, resume".to_owned(),
            Way::Code => "gate, drain, switch without a restart, verify, resume".to_owned(),
            Way::Nothing => String::new(),
        };
        for (what, text) in [
            ("release", wanted.release.id.clone()),
            ("because", plan.why.join("; ")),
            ("images", bring),
            ("code", plural(wanted.code.len(), "file")),
            ("then", road),
            (
                "falls to",
                plan.old
                    .clone()
                    .unwrap_or_else(|| "nothing: all is removed again".to_owned()),
            ),
        ] {
            term.say(&format!("  {} {text}", term.dim(&format!("{what:<9}"))));
        }
    }

    fn json(&self, end: &str, events: &[Event]) -> Result<()> {
        if !self.args.json {
            return Ok(());
        }
        print_json(&json!({
            "host": self.name,
            "way": self.plan.way.name(),
            "why": self.plan.why,
            "bring": self.plan.bring,
            "roads": self.roads.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "old": self.plan.old,
            "release": self.wanted.release,
            "end": end,
            "phases": phases_of(events),
        }))
    }
}
