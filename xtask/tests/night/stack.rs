//! A stack of the test's own, and what is to be seen of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::containers::{Ran, copy_checkout, docker_ok};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// A stack in a copy of the checkout; dropping it takes everything away.
pub(crate) struct Stack {
    folder: tempfile::TempDir,
}

impl Stack {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("night")
            .rand_bytes(8)
            .tempdir()
            .unwrap();
        let stack = Self { folder };
        copy_checkout(stack.root());
        stack
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        eprintln!("$ cargo xtask {}", args.join(" "));
        let output = Command::new(XTASK)
            .args(args)
            .current_dir(self.root())
            .output()
            .unwrap();
        let ran = Ran::from(output);
        // What is asked again and again would bury the rest.
        if args[0] != "status" {
            eprint!("{}{}", ran.stdout, ran.stderr);
        }
        ran
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(0), "cargo xtask {}", args.join(" "));
        ran
    }

    /// Runs a command that must fail, and say why and what mends it.
    pub(crate) fn fails(&self, args: &[&str], says: &str, hints: &str) {
        let ran = self.run(args);
        assert!(matches!(ran.status, Some(1 | 2)), "{:?}", ran.status);
        assert!(ran.stderr.contains(says), "{says:?} is not in what it says");
        assert!(
            ran.stderr.contains(hints),
            "{hints:?} is not in what it says"
        );
        assert!(!ran.stderr.contains("panicked"));
    }

    /// The first line of a query's result, without decoration.
    pub(crate) fn query(&self, database: &str, sql: &str) -> String {
        let ran = self.ok(&["sql", database, "--command", sql]);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        // psql: header, rule, row; mariadb in batch mode: header, row, where a
        // header has as many lines as the query.
        let row = if database == "source" {
            lines[lines.len() - 1]
        } else {
            lines[2]
        };
        row.split(['|', '\t'])
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) fn env_file(&self) -> PathBuf {
        self.root().join(".env")
    }

    /// Changes one variable of `.env`; gives what stood there.
    pub(crate) fn set(&self, name: &str, value: &str) -> String {
        let text = fs::read_to_string(self.env_file()).unwrap();
        let lead = format!("{name}=");
        let old = text
            .lines()
            .find_map(|line| line.strip_prefix(&lead))
            .unwrap_or_else(|| panic!("{name} is not in .env"))
            .to_owned();
        let text: String = text
            .lines()
            .map(|line| {
                if line.starts_with(&lead) {
                    format!("{lead}{value}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        fs::write(self.env_file(), text).unwrap();
        old
    }

    /// The running container of a service.
    pub(crate) fn container(&self, service: &str) -> String {
        docker_ok(&[
            "ps",
            "--quiet",
            "--filter",
            &format!("label=com.docker.compose.project={}", self.project()),
            "--filter",
            &format!("label=com.docker.compose.service={service}"),
        ])
    }

    pub(crate) fn project(&self) -> String {
        let text = fs::read_to_string(self.env_file()).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("COMPOSE_PROJECT_NAME="))
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if thread::panicking() {
            self.run(&["logs", "--tail", "60"]);
        }
        let project = self.project();
        self.run(&["down", "--volumes", "--yes"]);
        if project.is_empty() || thread::panicking() {
            return;
        }
        for kind in ["container", "volume", "network"] {
            assert_eq!(left_behind(kind, &project), "", "{kind}s are left behind");
        }
    }
}

pub(crate) fn left_behind(kind: &str, project: &str) -> String {
    let filter = format!("label=com.docker.compose.project={project}");
    let mut command = Command::new("docker");
    command.args([kind, "ls", "--quiet", "--filter", &filter]);
    if kind == "container" {
        command.arg("--all");
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

pub(crate) fn service_is(stack: &Stack, name: &str, condition: &str) -> bool {
    status(stack)["services"]
        .as_array()
        .unwrap()
        .iter()
        .any(|service| service["name"] == name && service["condition"] == condition)
}

pub(crate) fn status(stack: &Stack) -> Value {
    serde_json::from_str(&stack.run(&["status", "--json"]).stdout).unwrap()
}

/// The images of the running services, by the variables that Compose knows.
pub(crate) fn images(stack: &Stack) -> Vec<(&'static str, String)> {
    let status = status(stack);
    let services = status["services"].as_array().unwrap();
    [
        ("POSTGRES_IMAGE", "postgres"),
        ("MYSQL_IMAGE", "mysql"),
        ("AIRFLOW_IMAGE", "airflow-scheduler"),
    ]
    .map(|(variable, name)| {
        let service = services.iter().find(|s| s["name"] == name).unwrap();
        (variable, service["image"].as_str().unwrap().to_owned())
    })
    .to_vec()
}
