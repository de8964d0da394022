//! `env`: writes and checks `.env`.

use anyhow::{Context as _, Result};

use super::host;
use crate::cli;
use crate::config::{self, EnvFile, Settings, Surroundings, settings};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::plural;
use crate::preflight::free_from;

/// The image's own user, for who runs as root.
const IMAGE_UID: u32 = 50_000;

pub(crate) fn run(context: &Context, args: &cli::Env) -> Result<()> {
    match &args.command {
        Some(cli::EnvCommand::Check) => check(context),
        Some(cli::EnvCommand::Diff(args)) => host::env::diff(context, args),
        Some(cli::EnvCommand::Rotate(args)) => host::rotate::run(context, args),
        Some(cli::EnvCommand::Push(args)) => host::env::push(context, args),
        None => {
            if !write(context, args.dry.dry_run)? {
                context.term.done(".env is complete");
            }
            Ok(())
        }
    }
}

/// Writes what `.env` lacks; gives whether it lacked anything, and says nothing
/// where it did not.
pub(crate) fn write(context: &Context, dry_run: bool) -> Result<bool> {
    let template = settings::template(&context.workspace)?;
    let current = Settings::read_unchecked(&context.workspace)?;
    let now = jiff::Zoned::now();
    let central = now
        .in_tz("America/Chicago")
        .context("failed to read the time zone America/Chicago; is tzdata installed?")?;
    let yesterday = central.checked_sub(jiff::Span::new().days(1))?;
    let around = Surroundings {
        project: context.workspace.project_name(),
        uid: match rustix::process::getuid().as_raw() {
            0 => IMAGE_UID,
            uid => uid,
        },
        yesterday: yesterday.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        free_port: &|port| free_from(port, &[]).unwrap_or(port),
        random: &|bytes| {
            getrandom::fill(bytes).map_err(|error| {
                anyhow::anyhow!("failed to read random bytes from the operating system: {error}")
            })
        },
        // Without an engine there are no volumes to lock out of.
        volumes: &|project| match context.engine() {
            Ok(engine) => engine.volumes(project),
            Err(_) => Ok(Vec::new()),
        },
    };
    if let Some(env) = &current {
        notice(context, env)?;
    }
    let made = config::generate(&template, current.as_ref(), &around)?;
    let is_new = current.is_none();
    if current.is_some_and(|current| current.to_string() == made.text) {
        return Ok(false);
    }
    let filled = plural(made.filled.len(), "value");
    let names = made.filled.join(", ");
    let added = match made.added.join(", ") {
        added if added.is_empty() || is_new => String::new(),
        added => format!("; from the template: {added}"),
    };
    if dry_run {
        context.term.say(&format!(
            "would write .env, mode 0600, with {filled} made here: {names}{added}"
        ));
        return Ok(true);
    }
    context
        .machine
        .keep_secret(settings::secrets(&EnvFile::parse(&made.text)));
    context
        .machine
        .write(&context.workspace.env_file(), made.text.as_bytes(), 0o600)?;
    let verb = if is_new { "wrote" } else { "completed" };
    context.term.done(&format!(
        "{verb} .env, mode 0600, with {filled} made here{added}"
    ));
    Ok(true)
}

fn check(context: &Context) -> Result<()> {
    let template = settings::template(&context.workspace)?;
    let Some(env) = Settings::read_unchecked(&context.workspace)? else {
        return Err(Failure::user("failed to read .env: it does not exist")
            .hint("cargo xtask env")
            .into());
    };
    let mut problems = config::check(&template, &env);
    problems.extend(settings::mode_problem(&context.workspace)?);
    for problem in &problems {
        context.term.fail(&format!(
            "{} {}\n    {}",
            problem.name, problem.why, problem.fix
        ));
    }
    notice(context, &env)?;
    if problems.is_empty() {
        context.term.done(".env is complete and well formed");
        return Ok(());
    }
    Err(Failure::user(format!(
        "found {} in .env",
        plural(problems.len(), "problem")
    ))
    .into())
}

/// Says what is allowed in `.env` and hardly meant.
fn notice(context: &Context, env: &EnvFile) -> Result<()> {
    for notice in config::notices(&context.workspace, env)? {
        let (name, why, fix) = (notice.name, notice.why, notice.fix);
        context.term.warn(&format!("{name} {why}\n    {fix}"));
    }
    Ok(())
}
