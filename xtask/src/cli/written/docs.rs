//! Pages and workflows.

use std::fs;

use super::{PROGRAM, files, root, wrong};
use crate::config::Deploy;

/// Blocks that no test runs: the page, how they begin, and why not.
const BY_HAND: [(&str, &str, &str); 3] = [
    (
        "CONTRIBUTING.md",
        "cargo xtask ci --fast",
        "it is what runs the tests",
    ),
    (
        "README.md",
        "cargo install cargo-audit",
        "what it says depends on the day; `ci` has `audit` as a part",
    ),
    (
        "bases/README.md",
        "# mmdebstrap is unpacked",
        "`build` runs just these, with a package list in the place of <…>",
    ),
];

#[test]
fn every_command_of_the_docs_is_one() {
    let (mut found, mut mistakes) = (0, Vec::new());
    for (name, text) in files("*.md") {
        let fenced = text.split("```").skip(1).step_by(2).filter_map(|block| {
            let (language, lines) = block.split_once('\n')?;
            (language.split(' ').next() == Some("sh")).then_some(lines)
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
fn every_block_of_the_docs_is_run_by_a_test() {
    let tests: Vec<(String, String)> = ["xtask/tests/*.rs", "etl_pipeline/tests/*.py"]
        .into_iter()
        .flat_map(files)
        .collect();
    let has = |text: &str| tests.iter().any(|(_, test)| test.contains(text));
    let (mut run, mut by_hand) = (0, Vec::new());
    for (name, text) in files("*.md") {
        for block in text.split("```").skip(1).step_by(2) {
            let (info, lines) = block.split_once('\n').unwrap();
            let (language, who) = info.split_once(' ').unwrap_or((info, ""));
            let first = lines.lines().next().unwrap();
            match (language, who.strip_prefix("run=")) {
                ("sh" | "sql" | "dotenv", Some(test)) => {
                    run += 1;
                    let takes = has(&format!("blocks(\"{test}\")"))
                        || has(&format!("```{language} run={test}\\n"));
                    assert!(takes, "{name}: no test runs {info}: {first}");
                }
                ("sh", None) if who == "by-hand" => by_hand.push((name.clone(), first.to_owned())),
                // What is shown and not typed, or has a test of its own.
                ("text" | "mermaid" | "toml" | "dotenv", None) => assert_eq!(who, "", "{name}"),
                _ => panic!("{name}: {info}: nobody runs what begins with {first}"),
            }
        }
    }
    let expected = BY_HAND.iter();
    assert_eq!(by_hand.len(), BY_HAND.len(), "{by_hand:?}");
    for ((name, first), (page, begins, _)) in by_hand.iter().zip(expected) {
        assert!(name == page && first.starts_with(begins), "{name}: {first}");
    }
    assert!(run > 20, "{run}");
}

/// Whatever deploy.toml is shown to hold, it may hold.
#[test]
fn every_setting_of_a_host_in_the_docs_is_one() {
    let own = fs::read_to_string(root().join("deploy.toml")).unwrap();
    let mut found = 0;
    for (name, text) in files("docs/*.md") {
        for block in text.split("```toml\n").skip(1) {
            for shown in choices(block.split("```").next().unwrap()) {
                found += 1;
                let read = toml::from_str::<Deploy>(&format!("{own}\n{shown}"));
                assert!(read.is_ok(), "{name}: {shown}{read:?}");
            }
        }
    }
    assert!(found > 9, "{found}");
}

/// A block as it stands, and with each line that it has as a comment; of lines without a
/// table's name, each by itself. What a host has to have is there.
fn choices(block: &str) -> Vec<String> {
    const HOST: &str = "[hosts.ec2]\nssh = \"ec2\"\ndirectory = \"/srv/dental\"\n";
    let lines: Vec<&str> = block.lines().map(str::trim_start).collect();
    let settings = || lines.iter().map(|line| line.trim_start_matches("# "));
    if !lines[0].starts_with('[') {
        return settings().map(|line| format!("{HOST}{line}\n")).collect();
    }
    let before = if lines[0] == "[hosts.ec2]" { "" } else { HOST };
    let whole = format!("{before}{}\n", lines.join("\n"));
    let hidden = lines.iter().filter_map(|line| line.strip_prefix("# "));
    let with = hidden.map(|line| format!("{whole}{line}\n"));
    std::iter::once(whole.clone()).chain(with).collect()
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
