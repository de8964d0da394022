//! `releases`: what a host keeps.

use anyhow::Result;
use serde_json::json;

use crate::cli;
use crate::commands::{print, print_json};
use crate::context::Context;
use crate::release;

pub(crate) fn run(context: &Context, args: &cli::Releases) -> Result<()> {
    let deploy = context.deploy()?;
    let host = deploy.host(&args.on.host)?;
    let machine = context.over(&args.on.host, host)?;
    let observed = release::observe(&machine, host, None, &[])?;
    let stands = |id: &str| match (
        observed.current.as_deref(),
        observed.passed.contains_key(id),
    ) {
        (Some(current), _) if current == id => "serves",
        (_, true) => "good",
        (_, false) => "failed",
    };
    if args.json {
        let all = observed.releases.iter().map(|release| {
            json!({"release": release, "stands": stands(&release.id),
                   "revision": observed.passed.get(&release.id)})
        });
        return print_json(&all.collect::<Vec<_>>());
    }
    if observed.releases.is_empty() {
        context.term.say(&format!(
            "{} keeps no release: cargo xtask deploy --host {}",
            args.on.host, args.on.host
        ));
        return Ok(());
    }
    let lines: Vec<String> = observed
        .releases
        .iter()
        .rev()
        .map(|release| {
            let dirty = if release.dirty { "  (dirty)" } else { "" };
            format!(
                "{:<7} {}  {}{dirty}",
                stands(&release.id),
                release.id,
                release.by
            )
        })
        .collect();
    print(&lines.join("\n"))
}
