//! What tests on real containers share: commands that ran, docker, and the
//! images of the machines that they make.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What one command left behind.
pub(crate) struct Ran {
    /// `None` where a signal ended it.
    pub(crate) status: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap().to_path_buf()
}

/// Files that git knows or would take, as they are now.
pub(crate) fn copy_checkout(to: &Path) {
    let root = root();
    let listed = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success());
    for name in String::from_utf8(listed.stdout).unwrap().split('\0') {
        let from = root.join(name);
        if name.is_empty() || !from.is_file() {
            continue;
        }
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from, target).unwrap();
    }
}

/// Arguments of xtask in the step `name` of a workflow, as the shell of its job would make
/// them with these variables; what stands behind a redirection is the job's.
pub(crate) fn workflow(file: &str, name: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let text = fs::read_to_string(root().join(".github/workflows").join(file)).unwrap();
    let (_, step) = text.split_once(&format!("- name: {name}\n")).unwrap();
    let line = step
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("run: "));
    let mut line = line.unwrap().to_owned();
    for (name, value) in variables {
        line = line.replace(&format!("${name}"), value);
    }
    let words = shlex::split(&line).unwrap();
    assert_eq!(words[..2], ["cargo", "xtask"], "{line}");
    let own = words.into_iter().skip(2).take_while(|word| word != ">>");
    own.collect()
}

/// Ends `client`, which has a command that says `begun` run in a container, as whoever
/// cancels a job does; gives its exit status, once `runs` finds nothing of it.
pub(crate) fn ended_with_its_client(mut client: Command, runs: impl Fn() -> bool) -> Option<i32> {
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = String::new();
    let out = client.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut begun).unwrap();
    assert_eq!(begun, "begun\n");
    assert!(runs(), "what is asked for is not seen");
    let ended = Command::new("kill").arg(client.id().to_string()).status();
    assert!(ended.unwrap().success());
    let status = client.wait().unwrap().code();
    assert!(!runs(), "it goes on without its client");
    status
}

/// A docker command, whatever comes of it.
pub(crate) fn docker(args: &[&str]) -> Ran {
    let output = Command::new("docker").args(args).output().unwrap();
    Ran::from(output)
}

/// Standard output of a docker command that must succeed.
pub(crate) fn docker_ok(args: &[&str]) -> String {
    let ran = docker(args);
    assert_eq!(ran.status, Some(0), "docker {args:?}: {}", ran.stderr);
    ran.stdout.trim().to_owned()
}

/// Builds a folder below `xtask/tests` on the Debian that the stack's Postgres
/// stands on.
pub(crate) fn build(image: &str, folder: &str, more: &[&str]) {
    let bases = docker_ok(&[
        "image",
        "ls",
        "--filter",
        "label=dental.base.recipe",
        "--format",
        "{{.Repository}}:{{.Tag}}",
    ]);
    let base = bases
        .lines()
        .find(|name| name.contains("/postgres:"))
        .unwrap_or("postgres:15");
    let folder = root().join("xtask/tests").join(folder);
    let (argument, folder) = (format!("BASE={base}"), folder.display().to_string());
    let build = ["build", "--quiet", "--build-arg", &argument, "--tag", image];
    let built = Command::new(builder())
        .args([&build, more, &[&folder]].concat())
        .env("DOCKER_BUILDKIT", "1")
        .output();
    let ran = Ran::from(built.unwrap());
    assert_eq!(ran.status, Some(0), "build {image}: {}", ran.stderr);
}

/// The first docker that has BuildKit, as xtask itself takes it: both then share
/// what was built.
pub(crate) fn builder() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join("docker"))
        .find(|docker| {
            let help = Command::new(docker)
                .args(["build", "--help"])
                .env("DOCKER_BUILDKIT", "1")
                .output();
            help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--secret"))
        })
        .unwrap_or_else(|| PathBuf::from("docker"))
}
