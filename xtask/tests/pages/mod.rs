//! Command blocks of README and docs, run as somebody pastes them into a shell. The fence
//! names the test that runs it: "```sh run=night".

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::containers::{Ran, root};

/// Every page that has blocks, in the order in which somebody new reads them.
const PAGES: [&str; 5] = [
    "README.md",
    "dbt_dental_models/README.md",
    "docs/tutorial.md",
    "docs/runbook.md",
    "CONTRIBUTING.md",
];

/// One fenced block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// `sh`, `sql`, `dotenv` or `toml`.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The blocks whose fences say `run=TEST`, page by page.
pub(crate) fn blocks(test: &str) -> Vec<Block> {
    let mark = format!("run={test}");
    let mut found = Vec::new();
    for page in PAGES {
        let page = fs::read_to_string(root().join(page)).unwrap();
        for block in page.split("```").skip(1).step_by(2) {
            let (info, text) = block.split_once('\n').unwrap();
            if let Some((language, mark_there)) = info.split_once(' ')
                && mark_there == mark
            {
                found.push(Block {
                    language: language.to_owned(),
                    text: text.to_owned(),
                });
            }
        }
    }
    assert!(!found.is_empty(), "no block says {mark}");
    found
}

impl Block {
    /// With what stands for a person's own in the page, each of which has to be there.
    pub(crate) fn with(mut self, own: &[(&str, &str)]) -> Self {
        for (there, here) in own {
            assert!(self.text.contains(there), "{there}: {}", self.text);
            self.text = self.text.replace(there, here);
        }
        self
    }

    /// As a shell reads it that stands in `folder` and stops at the first failure; a line whose
    /// comment foretells an exit status has to end so.
    pub(crate) fn run(&self, folder: &Path, variables: &[(&str, &str)]) -> Ran {
        assert_eq!(self.language, "sh");
        let bin = tempfile::tempdir().unwrap();
        let cargo = format!(
            "#!/bin/sh\n[ \"$1\" = xtask ] && shift && exec '{}' \"$@\"\n",
            env!("CARGO_BIN_EXE_xtask")
        );
        let path = bin.path().join("cargo");
        fs::write(&path, cargo).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        eprintln!("{}", self.text);
        let foretold = |line: &str| match line.split_once("exit status ") {
            Some((_, status)) if line.contains('#') => {
                let status = &status[..1];
                format!("{{ {line}\n}} || [ $? = {status} ]\n")
            }
            _ => format!("{line}\n"),
        };
        let text: String = self.text.lines().map(foretold).collect();
        let output = Command::new("sh")
            .args(["-e", "-c", &text])
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", bin.path().display()))
            .envs(variables.iter().copied())
            .output();
        let ran = Ran::from(output.unwrap());
        eprint!("{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// The same, where every command has to succeed.
    pub(crate) fn ok(&self, folder: &Path, variables: &[(&str, &str)]) -> Ran {
        let ran = self.run(folder, variables);
        assert_eq!(ran.status, Some(0), "{}", self.text);
        ran
    }
}
