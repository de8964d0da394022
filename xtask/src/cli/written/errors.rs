//! Errors and their hints.

use super::{PROGRAM, files, wrong};

/// With what a fragment may begin in a capital.
const NAMES: [&str; 3] = ["Airflow", "Compose", "Postgres"];

/// Errors that no test makes, by what would have to be there for one.
const UNSEEN: [(&str, &[&str]); 6] = [
    (
        "an engine, a registry or a builder that does other than it says",
        &[
            "xtask/src/commands/ci/parts.rs: failed to make the same files on two engines: {} differ",
            "xtask/src/commands/host/bring.rs: failed to bring {image} to {}: what has that name there is not what was to come",
            "xtask/src/commands/push.rs: failed to find what was pushed: {reference} is {} in the registry",
            "xtask/src/commands/verify.rs: failed to build the same image twice: its layers are equal, its fields {fields} are not",
            "xtask/src/commands/verify.rs: failed to build the same layers twice",
            "xtask/src/host/images.rs: failed to bring {name} there: the engine took it and has another image by that name",
            "xtask/src/image/registry/push.rs: failed to read {reference} in the registry: {what}",
            "xtask/src/release/ship.rs: failed to ship the code: what arrived is not what was listed here",
        ],
    ),
    (
        "two machines that build the same inputs, not reproducibly, and push to one registry",
        &[
            "xtask/src/commands/push.rs: failed to push {reference}: the registry holds another build of the same inputs, {}",
        ],
    ),
    (
        "a host or an Airflow that goes away for good in the middle; the fault tests bring it back",
        &[
            "xtask/src/commands/host/mod.rs: the host ended it half-way: it was started anew, or somebody ended the process",
            "xtask/src/commands/nightly.rs: failed to watch the run, which goes on",
            "xtask/src/release/critical.rs: failed to follow the host: it is not reached any more; it goes on by itself",
        ],
    ),
    (
        "a host without BuildKit, or whose records or copies were made by hand",
        &[
            "xtask/src/commands/host/bring.rs: failed to build {image} on {}: its docker has no BuildKit",
            "xtask/src/commands/host/env.rs: the last deploy did not come to its end",
            "xtask/src/commands/host/restore.rs: the copy holds no schema of Airflow's",
            "xtask/src/release/copies.rs: Postgres does not run on the host",
        ],
    ),
    (
        "a person who is not root, where the tests may be",
        &[
            "xtask/src/commands/doctor.rs: failed to become root: {why}",
            "xtask/src/image/inputs.rs: failed to read the folder {}: {error}",
        ],
    ),
    (
        "what is asked before: these are second locks on a door",
        &[
            "xtask/src/commands/bench/deploy.rs: failed to find the image that push told of",
            "xtask/src/commands/bench/mod.rs: failed to find a package in {LOCK}",
            "xtask/src/release/code.rs: failed to list the code: this is no git repository",
        ],
    ),
];

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

/// What tests say, as they mean it: their literals without escapes.
fn tests() -> String {
    let mut all = String::new();
    for (_, text) in files("xtask/tests/*.rs") {
        all.push_str(&text);
    }
    for (name, text) in files("xtask/src/*.rs") {
        if !name.contains("/written/")
            && let Some((_, own)) = text.split_once("#[cfg(test)]")
        {
            all.push_str(own);
        }
    }
    let mut lines = all.split("\\\n");
    let first = lines.next().unwrap().to_owned();
    let joined = lines.fold(first, |text, line| text + line.trim_start());
    joined.replace("\\\"", "\"").replace("\\n", "\n")
}

/// The pieces of a message that are the same whatever is wrong, if they are long enough to
/// tell it from others; else the longest.
fn lasting(message: &str) -> Vec<&str> {
    const TELLS: usize = 20;
    let pieces = message.split('{').enumerate().map(|(n, piece)| match n {
        0 => piece,
        _ => piece.split_once('}').map_or(piece, |(_, rest)| rest),
    });
    let pieces: Vec<&str> = pieces
        .map(|piece| piece.trim_matches([' ', ':', ',']))
        .collect();
    let longest = pieces.iter().map(|piece| piece.len()).max().unwrap();
    let tells = |piece: &&str| piece.len() >= TELLS.min(longest);
    pieces.into_iter().filter(tells).collect()
}

#[test]
fn every_error_is_one_that_a_test_has_seen() {
    let tests = tests();
    let (mut found, mut unseen) = (0, Vec::new());
    for opener in ["Failure::user(", "Failure::tool("] {
        for (file, message) in literals(opener) {
            found += 1;
            if !lasting(&message).iter().any(|piece| tests.contains(piece)) {
                unseen.push(format!("{file}: {message}"));
            }
        }
    }
    unseen.sort();
    let known = UNSEEN.iter().flat_map(|(_, messages)| *messages);
    let mut known: Vec<String> = known.map(|message| (*message).to_owned()).collect();
    known.sort();
    assert_eq!(unseen, known);
    assert!(found > 100, "{found}");
}
