//! `down`: stops the stack; data stays unless it is given up.

use anyhow::Result;
use xshell::cmd;

use super::confirm;
use crate::cli;
use crate::config::{Settings, Workspace};
use crate::context::Context;
use crate::engine::Engine;
use crate::exec::Step;

pub(crate) fn run(context: &Context, args: &cli::Down) -> Result<()> {
    let engine = context.engine()?;
    let project = project(context)?;
    context.own(&engine, &project)?;
    let volumes = engine.volumes(&project)?;
    let containers = engine.containers(&project)?.len();
    if containers == 0 && (volumes.is_empty() || !args.volumes) {
        context.term.done("nothing runs");
        return Ok(());
    }
    let steps = match by_compose(context, &engine, args.volumes) {
        Ok(step) => vec![step],
        // A stack can be stopped whatever became of .env or Compose.
        Err(_) => by_label(&engine, &project, args.volumes)?,
    };
    if args.dry.dry_run {
        for step in &steps {
            context.term.say(&format!("would run: {}", step.line()));
        }
        if args.volumes && !volumes.is_empty() {
            context
                .term
                .warn(&format!("would remove all data in {}", volumes.join(", ")));
        }
        return Ok(());
    }
    if args.volumes && !args.yes {
        confirm::by_name(
            context,
            &format!("this removes all data in {}", volumes.join(", ")),
            &project,
            "cargo xtask down --volumes --yes",
        )?;
    }
    let _alone = context.alone()?;
    context.term.task("stack is down", || {
        steps.iter().try_for_each(|step| context.machine.run(step))
    })?;
    let kept = engine.volumes(&project)?;
    if !kept.is_empty() {
        context
            .term
            .say(&format!("  data is kept in {}", kept.join(", ")));
    }
    Ok(())
}

/// The name in `.env`, right or wrong as the rest of it may be, or the one that
/// `env` would choose.
fn project(context: &Context) -> Result<String> {
    let workspace: &Workspace = &context.workspace;
    let env = Settings::read_unchecked(workspace)?.unwrap_or_default();
    Ok(env
        .get("COMPOSE_PROJECT_NAME")
        .map_or_else(|| workspace.project_name(), str::to_owned))
}

fn by_compose(context: &Context, engine: &Engine<'_>, volumes: bool) -> Result<Step> {
    let settings = context.settings()?;
    let stack = context.stack(engine, &settings)?;
    let mut arguments = vec!["down", "--remove-orphans"];
    if volumes {
        arguments.push("--volumes");
    }
    Ok(stack.compose("stop the stack", &arguments))
}

/// The same by docker alone, which knows the project by its labels.
fn by_label(engine: &Engine<'_>, project: &str, volumes: bool) -> Result<Vec<Step>> {
    let (docker, sh) = (engine.docker(), engine.sh());
    let mut steps = Vec::new();
    let ids: Vec<String> = engine
        .containers(project)?
        .into_iter()
        .map(|c| c.id)
        .collect();
    if !ids.is_empty() {
        let stop = cmd!(sh, "{docker} stop --time 60").args(&ids);
        steps.push(Step::new("stop the containers", stop));
        let remove = cmd!(sh, "{docker} rm --force").args(&ids);
        steps.push(Step::new("remove the containers", remove));
    }
    let networks = engine.networks(project)?;
    if !networks.is_empty() {
        let remove = cmd!(sh, "{docker} network rm").args(&networks);
        steps.push(Step::new("remove the networks", remove));
    }
    let data = engine.volumes(project)?;
    if volumes && !data.is_empty() {
        let remove = cmd!(sh, "{docker} volume rm").args(&data);
        steps.push(Step::new("remove the volumes", remove));
    }
    Ok(steps)
}
