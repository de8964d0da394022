//! `lock`: what a person wrote, resolved and written down with hashes.

use anyhow::{Context as _, Result};

use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::image::{self, BaseName};

pub(crate) fn run(context: &Context, args: &cli::Lock) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let workspace = &context.workspace;
    let outdated = if args.bases {
        context
            .term
            .task("Debian packages of the bases resolved", || {
                image::debian(&engine, workspace)
            })?
    } else {
        image::ensure_bases(
            &engine,
            workspace,
            &deploy.bases,
            &[BaseName::Airflow],
            false,
        )?;
        let base = image::find_base(&engine, workspace, &deploy.bases, BaseName::Airflow)?
            .context("failed to find the base image that was just made")?;
        context.term.task("requirements resolved", || {
            image::compile(&engine, workspace, &base)
        })?
    };
    let names: Vec<String> = outdated
        .iter()
        .map(|lock| lock.path.display().to_string())
        .collect();
    if names.is_empty() {
        context.term.done("every lock is what it would be");
        return Ok(());
    }
    if args.check {
        return Err(
            Failure::user(format!("found outdated locks: {}", names.join(", ")))
                .hint(if args.bases {
                    "cargo xtask lock --bases"
                } else {
                    "cargo xtask lock"
                })
                .into(),
        );
    }
    for lock in &outdated {
        let path = workspace.root().join(&lock.path);
        context.machine.write(&path, lock.text.as_bytes(), 0o644)?;
    }
    context.term.done(&format!("wrote {}", names.join(", ")));
    Ok(())
}
