//! `init`: migrate, users, Variables, pools, connections.

use anyhow::Result;

use super::{build, up};
use crate::cli;
use crate::context::Context;
use crate::image::{self, BaseName};
use crate::stack::Stack;

pub(crate) fn run(context: &Context, args: &cli::DryRun) -> Result<()> {
    let deploy = context.deploy()?;
    let settings = context.settings()?;
    let engine = context.engine()?;
    if args.dry_run {
        let facts = image::observe(&engine, &context.workspace, &deploy)?;
        let images = up::images(context, &engine, &deploy, &facts)?;
        let stack = Stack::open(&engine, &settings, images)?;
        context
            .term
            .say(&format!("would run: {}", step(&stack).line()));
        return Ok(());
    }
    let facts = build::ensure(
        context,
        &engine,
        &deploy,
        &BaseName::of_stack(&settings),
        false,
    )?;
    let images = up::images(context, &engine, &deploy, &facts)?;
    let stack = Stack::open(&engine, &settings, images)?;
    up::start_databases(context, &stack)?;
    prepare(context, &stack)
}

/// Runs the bootstrap in a container of its own; its lines are shown as they
/// come, its failure is ours.
pub(crate) fn prepare(context: &Context, stack: &Stack<'_>) -> Result<()> {
    context.machine.show(&step(stack))?;
    up::remember_init(context, stack)
}

fn step(stack: &Stack<'_>) -> crate::exec::Step {
    stack.run_once("prepare Airflow", "airflow-init", &[])
}
