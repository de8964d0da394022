//! `reference`: every command with its help, as a page of the docs.

use std::fs;

use anyhow::Result;
use clap::{Command, CommandFactory};

use crate::cli;
use crate::context::Context;
use crate::error::Failure;

const PAGE: &str = "docs/reference.md";
/// Columns, whatever terminal it is made on.
const WIDTH: usize = 100;
const HEAD: &str = "\
# Command line

What `--help` says of each command, made by `cargo xtask reference`; changed in `xtask/src/cli`.

| exit status | means |
|---|---|
| 0 | done, or nothing to do |
| 1 | a tool, a check or a run failed; its last words are in the error |
| 2 | a mistake in what was asked or configured; a `hint:` says what mends it |
| 130 | Ctrl-C |

`etl`, `dbt`, `airflow`, `demo`, `sql`, `shell` and `logs` have the status of the tool that they run.
";

pub(crate) fn run(context: &Context, args: &cli::Reference) -> Result<()> {
    let path = context.workspace.root().join(PAGE);
    let page = page();
    let same = fs::read_to_string(&path).is_ok_and(|there| there == page);
    if args.check && !same {
        let message = format!("failed to find in {PAGE} what the commands say of themselves");
        return Err(Failure::tool(message).hint("cargo xtask reference").into());
    }
    if !same {
        context.machine.write(&path, page.as_bytes(), 0o644)?;
    }
    let word = if same { "is up to date" } else { "written" };
    context.term.done(&format!("{PAGE} {word}"));
    Ok(())
}

fn page() -> String {
    let mut all = cli::Cli::command().term_width(WIDTH);
    all.build();
    let mut page = HEAD.to_owned();
    for command in all.get_subcommands_mut() {
        add(command, "", &mut page);
    }
    page
}

/// A command, then its own.
fn add(command: &mut Command, before: &str, page: &mut String) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{before}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    *page += &format!(
        "\n## {name}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    for inner in command.get_subcommands_mut() {
        add(inner, &format!("{name} "), page);
    }
}
