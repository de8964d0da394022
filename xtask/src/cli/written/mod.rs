//! Command lines and errors that are written down somewhere: each command line has to be one,
//! each block of them is run by a test, each error is a fragment of a sentence that a test has
//! seen.

mod docs;
mod errors;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

const PROGRAM: &str = "cargo xtask";
/// Where a command's own words end.
const BEHIND: [&str; 6] = [">>", ">", "<", "|", "&&", "#"];

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap().to_path_buf()
}

/// Text of the files that git knows by a pattern, with their names.
fn files(pattern: &str) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            pattern,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let read = |name: &str| {
        (
            name.to_owned(),
            fs::read_to_string(root().join(name)).unwrap(),
        )
    };
    listed.lines().map(read).collect()
}

/// Why a line is none, where it is none.
fn wrong(line: &str) -> Option<String> {
    let words = shlex::split(line)?;
    let words = words.iter().map(String::as_str);
    let words: Vec<&str> = words.take_while(|word| !BEHIND.contains(word)).collect();
    let argv = std::iter::once(PROGRAM).chain(words.into_iter().skip(2));
    match Cli::try_parse_from(argv) {
        Ok(_) => None,
        // `cargo xtask bench` alone is a name, and --help no mistake.
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => None,
            _ => Some(error.to_string()),
        },
    }
}
