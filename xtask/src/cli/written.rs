//! Command lines and errors that are written down somewhere: each command line has to be one,
//! each error a fragment of a sentence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

const PROGRAM: &str = "cargo xtask";
/// With what a fragment may begin in a capital.
const NAMES: [&str; 3] = ["Airflow", "Compose", "Postgres"];
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

#[test]
fn every_command_of_the_docs_is_one() {
    let (mut found, mut mistakes) = (0, Vec::new());
    for (name, text) in files("*.md") {
        let fenced = text.split("```").skip(1).step_by(2).filter_map(|block| {
            let (language, lines) = block.split_once('\n')?;
            ["sh", "console"].contains(&language).then_some(lines)
        });
        let outside = text.split("```").step_by(2);
        let spans = outside.flat_map(|text| text.split('`').skip(1).step_by(2));
        // A placeholder for more of the same is for people.
        let lines = fenced.flat_map(str::lines).chain(spans);
        for line in lines.filter(|line| line.starts_with(PROGRAM) && !line.contains(['…', '['])) {
            found += 1;
            mistakes.extend(wrong(line).map(|why| format!("{name}: {line}\n{why}")));
        }
    }
    assert_eq!(mistakes, Vec::<String>::new());
    assert!(found > 60, "{found}");
}

#[test]
fn a_workflow_runs_nothing_but_commands() {
    let mut found = 0;
    for (name, text) in files(".github/workflows/*.yml") {
        for line in text.lines() {
            let line = line.trim_start().trim_start_matches("- ");
            let Some(command) = line.strip_prefix("run:").map(str::trim) else {
                continue;
            };
            found += 1;
            if command == "cargo install cargo-audit --locked" {
                continue;
            }
            assert!(command.starts_with(PROGRAM), "{name}: {line}");
            assert_eq!(wrong(command), None, "{name}: {line}");
            // What an event says reaches a command by the environment, never as its text.
            assert!(!command.contains("${{"), "{name}: {line}");
        }
    }
    assert!(found > 6, "{found}");
}

#[test]
fn a_line_with_an_unknown_flag_is_none() {
    assert_eq!(wrong("cargo xtask ci --fast # quick"), None);
    assert!(wrong("cargo xtask ci --quick").is_some());
    assert!(wrong("cargo xtask test").is_some());
}

/// The string literals that stand first behind `opener` in this program, tests apart, with
/// the files that have them: of `f("…")` and of `f(format!("…", …))`.
fn literals(opener: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, text) in files("xtask/src/*.rs") {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for rest in code.split(opener).skip(1) {
            let rest = rest.trim_start();
            let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
            if let Some(literal) = rest.strip_prefix('"') {
                found.push((name.clone(), unquoted(literal)));
            }
        }
    }
    found
}

/// A literal's text up to its closing quote, as the compiler reads it.
fn unquoted(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('\n') => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                Some(other) => text.push(other),
                None => break,
            },
            _ => text.push(c),
        }
    }
    text
}

#[test]
fn every_error_is_a_fragment() {
    let (mut found, mut mistakes) = (0, Vec::new());
    for opener in [
        "Failure::user(",
        "Failure::tool(",
        "context(",
        "with_context(||",
        "bail!(",
    ] {
        for (file, message) in literals(opener) {
            found += 1;
            // One stands behind the other: "failed to deploy to ec2: nothing serves there".
            let name_of_something = NAMES.iter().any(|name| message.starts_with(name));
            let sentence = message.starts_with(char::is_uppercase) && !name_of_something;
            if sentence || message.ends_with(['.', '!', '\n']) {
                mistakes.push(format!("{file}: {message}"));
            }
        }
    }
    assert_eq!(mistakes, Vec::<String>::new());
    assert!(found > 200, "{found}");
}

#[test]
fn every_hint_that_names_a_command_names_one() {
    let (mut found, mut mistakes) = (0, Vec::new());
    for (name, hint) in literals(".hint(") {
        for rest in hint.split(PROGRAM).skip(1) {
            found += 1;
            let sentence = rest.split(['\n', ';', ',']).next().unwrap();
            let words: Vec<String> = sentence.split_whitespace().map(filled).collect();
            // Words of its own go on behind it: the longest beginning that is a command
            // has to have all the flags.
            let is_one =
                |n: &usize| wrong(&format!("{PROGRAM} {}", words[..*n].join(" "))).is_none();
            let behind = (1..=words.len()).rev().find(is_one).map(|n| &words[n..]);
            if behind.is_none_or(|words| words.iter().any(|word| word.starts_with('-'))) {
                mistakes.push(format!("{name}: {hint}"));
            }
        }
    }
    assert_eq!(mistakes, Vec::<String>::new());
    assert!(found > 25, "{found}");
}

/// A placeholder as something that may stand for a command, a name, a tag or a number.
fn filled(word: &str) -> String {
    if word == "{command}" {
        return "deploy".to_owned();
    }
    match word.split_once('{') {
        Some((before, rest)) => format!("{before}1{}", rest.split_once('}').unwrap().1),
        None => word.to_owned(),
    }
}
