//! `init`: migrate, users, Variables, pools, connections.

use anyhow::Result;

use super::{build, phases};
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
        let images = phases::images(context, &engine, &deploy, &facts)?;
        let stack = Stack::open(&engine, &settings, images)?;
        context
            .term
            .say(&format!("would run: {}", phases::init_step(&stack).line()));
        return Ok(());
    }
    let _alone = context.alone()?;
    let facts = build::ensure(
        context,
        &engine,
        &deploy,
        &BaseName::of_stack(&settings),
        false,
    )?;
    let images = phases::images(context, &engine, &deploy, &facts)?;
    let stack = Stack::open(&engine, &settings, images)?;
    phases::start_databases(context, &stack)?;
    phases::prepare(context, &stack)
}
