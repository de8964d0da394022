//! `doctor`: looks at everything; with `--fix`, mends what can be mended.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xshell::cmd;

use super::{env, host, phases, print_json};
use crate::cli;
use crate::config::settings;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Step, plural};
use crate::preflight::install::{self, Facts, Plan};
use crate::preflight::{self, Check, State};

/// How long an engine may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

pub(crate) fn run(context: &Context, args: &cli::Doctor) -> Result<ExitCode> {
    if args.fix {
        fix(context, args.dry_run)?;
        if args.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        context.term.say("");
    }
    let checks = match &args.host {
        Some(name) => host::doctor::checks(context, name)?,
        None => preflight::all(context)?,
    };
    if args.json {
        print_json(&checks)?;
    } else {
        table(context, &checks);
    }
    Ok(match failures(&checks) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn failures(checks: &[Check]) -> usize {
    let failed = checks.iter().filter(|check| check.state == State::Fail);
    failed.count()
}

fn table(context: &Context, checks: &[Check]) {
    for check in checks {
        let lines = check.lines("    ");
        match check.state {
            State::Pass => context.term.done(&lines),
            State::Warn => context.term.warn(&lines),
            State::Fail => context.term.fail(&lines),
        }
    }
    let all = plural(checks.len(), "check");
    context.term.say(&match failures(checks) {
        0 => format!("{all}, none failed"),
        failed => format!("{all}, {failed} failed"),
    });
}

/// Installs and starts what is missing, then sees to `.env` and the logs
/// folder. What is in order stays as it is.
fn fix(context: &Context, dry_run: bool) -> Result<()> {
    let facts = install::observe(context)?;
    let plan = install::plan(&context.machine, &facts);
    if plan.steps().next().is_none() {
        if plan.by_hand.is_empty() {
            context.term.done("nothing to install, nothing to start");
        }
    } else if dry_run {
        for step in plan.steps() {
            context.term.say(&format!("would run: {}", step.line()));
        }
    } else {
        become_root(context, &facts, &plan)?;
        carry_out(context, facts, &plan)?;
    }
    for line in &plan.by_hand {
        context.term.say(&format!("by hand: {line}"));
    }
    if !env::write(context, dry_run)? {
        context.term.done(".env is complete");
    }
    close_env(context, dry_run)?;
    make_logs(context, dry_run)
}

/// Lets sudo ask on the terminal before anything starts, or refuses.
fn become_root(context: &Context, facts: &Facts, plan: &Plan) -> Result<()> {
    if facts.is_root() {
        return Ok(());
    }
    let refusal = |why: &str| {
        let lines: Vec<String> = plan.steps().map(Step::line).collect();
        Failure::user(format!("failed to become root: {why}"))
            .hint(format!("run these yourself:\n{}", lines.join("\n")))
    };
    let sh = context.machine.sh();
    if which::which("sudo").is_err() {
        return Err(refusal("there is no sudo").into());
    }
    let ask = Step::new("see whether sudo asks", cmd!(sh, "sudo -n true"));
    if context.machine.capture(&ask)?.ok() {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(refusal("sudo asks for a password and there is no terminal").into());
    }
    context
        .machine
        .show(&Step::new("become root", cmd!(sh, "sudo true")))
}

fn carry_out(context: &Context, facts: Facts, plan: &Plan) -> Result<()> {
    if let Some(update) = &plan.update {
        step(context, update)?;
        // Only now is known what apt offers.
        let facts = facts.updated(&context.machine)?;
        if let Some(install) = install::plan(&context.machine, &facts).install {
            step(context, &install)?;
        }
    }
    if let Some(start) = &plan.start {
        step(context, start)?;
        context
            .term
            .task("the engine answers", || wait_for_engine(context))?;
    }
    Ok(())
}

fn step(context: &Context, step: &Step) -> Result<()> {
    context.term.say(&format!("running: {}", step.line()));
    context.machine.show(step)
}

fn wait_for_engine(context: &Context) -> Result<()> {
    let started = Instant::now();
    loop {
        let Err(error) = context.engine()?.version() else {
            return Ok(());
        };
        // It runs, and lets this user in after the next login only.
        if error.to_string().contains("permission denied") {
            return Ok(());
        }
        if started.elapsed() > START_LIMIT {
            let log = install::LOG;
            return Err(error.context(format!(
                "failed to start the engine; see {log} or: journalctl -u docker"
            )));
        }
        thread::sleep(POLL);
    }
}

fn close_env(context: &Context, dry_run: bool) -> Result<()> {
    let path = context.workspace.env_file();
    if !path.is_file() || settings::mode_problem(&context.workspace)?.is_none() {
        return Ok(());
    }
    if dry_run {
        context.term.say("would run: chmod 600 .env");
        return Ok(());
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .context("failed to close .env to others")?;
    context.term.done("closed .env to others, mode 0600");
    Ok(())
}

fn make_logs(context: &Context, dry_run: bool) -> Result<()> {
    let logs = context.workspace.root().join("airflow/logs");
    if logs.is_dir() {
        return Ok(());
    }
    if dry_run {
        context.term.say("would make airflow/logs");
        return Ok(());
    }
    phases::prepare_folders(context, &preflight::lenient(context)?)?;
    context.term.done("made airflow/logs");
    Ok(())
}
