//! `push` to real registries: open and closed, and one that dies in the middle.
//!
//! Run by `cargo xtask ci`; by hand:
//! `cargo test --test push -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says what it does, and ends where something is wrong"
)]

mod containers;
mod pages;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use containers::{Ran, build, copy_checkout, docker, docker_ok, root, workflow};
use serde_json::Value;

/// Bcrypt of [`WORD`], as htpasswd has it.
const HTPASSWD: &str = "$2y$05$FfA9KVFFmxuiRaxf3vu6HOeUPlGuqef0wBClq6P.jH6FNYzi.MpDG";
const WORD: &str = "a-word-for-tests";
const IMAGE: &str = "dental-test-registry";

/// A registry on a port of this machine, gone when dropped.
struct Registry {
    container: String,
    host: String,
}

impl Registry {
    /// `plain` or `closed`: with TLS and a login.
    fn start(kind: &str) -> Self {
        let password = format!("HTPASSWD={HTPASSWD}");
        // A port of its own choice would be another one after a restart.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let host = format!("127.0.0.1:{port}");
        let publish = format!("{host}:5000");
        let container = docker_ok(&[
            "run",
            "--detach",
            "--env",
            &password,
            "--publish",
            &publish,
            IMAGE,
            kind,
        ]);
        let registry = Self { container, host };
        registry.wait();
        registry
    }

    /// Until it answers.
    fn wait(&self) {
        let started = Instant::now();
        while answers(&self.host).is_empty() {
            let log = docker(&["logs", &self.container]);
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{}",
                log.stdout
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Bytes that arrived so far.
    fn holds(&self) -> u64 {
        let told = docker(&["exec", &self.container, "du", "-sk", "/var/lib/registry"]);
        let first = told.stdout.split_whitespace().next();
        first.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

/// What a registry says to docker: nothing while it does not listen yet.
fn answers(host: &str) -> String {
    let ran = docker(&[
        "manifest",
        "inspect",
        "--insecure",
        &format!("{host}/no/such:image"),
    ]);
    let silent = ["EOF", "refused", "reset"];
    if silent.iter().any(|word| ran.stderr.contains(word)) {
        String::new()
    } else {
        ran.stderr
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
        for name in docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])
            .stdout
            .lines()
            .filter(|name| name.starts_with(&self.host))
        {
            docker(&["image", "rm", name]);
        }
    }
}

/// `cargo xtask push` with docker's own store in `config`.
fn push(config: &Path, registry: &str, more: &[&str]) -> Ran {
    let target = format!("{registry}/team");
    xtask(
        config,
        &[&["push", "--allow-dirty", "--registry", &target][..], more].concat(),
    )
}

fn xtask(config: &Path, args: &[&str]) -> Ran {
    xtask_in(&root(), config, args)
}

fn xtask_in(folder: &Path, config: &Path, args: &[&str]) -> Ran {
    eprintln!("$ cargo xtask {}", args.join(" "));
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .current_dir(folder)
        .env("DOCKER_CONFIG", config)
        .output()
        .unwrap();
    let ran = Ran::from(output);
    eprint!("{}{}", ran.stdout, ran.stderr);
    ran
}

fn login(config: &Path, host: &str) {
    let mut child = Command::new("docker")
        .args(["login", "--username", "pusher", "--password-stdin", host])
        .env("DOCKER_CONFIG", config)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(WORD.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// Image, tag and digest, and whether each name was pushed.
fn told(ran: &Ran) -> (String, Vec<(String, bool)>) {
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    let names = value["pushed"].as_array().unwrap().iter().map(|one| {
        let reference = one["reference"].as_str().unwrap();
        let tag = reference.rsplit(':').next().unwrap();
        (tag.to_owned(), one["pushed"].as_bool().unwrap())
    });
    (
        value["digest"].as_str().unwrap().to_owned(),
        names.collect(),
    )
}

/// A checkout whose deploy.toml names the registry takes what was pushed, on an engine that
/// does not know it by its name.
fn is_fetched_where_it_is_not(config: &Path, registry: &Registry, pushed: &Ran) {
    let pushed: Value = serde_json::from_str(&pushed.stdout).unwrap();
    let name = pushed["image"].as_str().unwrap();
    let id = |name: &str| docker_ok(&["image", "inspect", "--format", "{{.Id}}", name]);
    let (before, kept) = (id(name), "dental-test-kept:push");
    let tree = tempfile::tempdir().unwrap();
    copy_checkout(tree.path());
    let deploy = tree.path().join("deploy.toml");
    let text = fs::read_to_string(&deploy).unwrap();
    let named = format!("[image]\nregistry = \"{}/team\"\n", registry.host);
    fs::write(&deploy, text.replace("[image]\n", &named)).unwrap();
    docker_ok(&["tag", name, kept]);
    docker_ok(&["image", "rm", name]);
    let ran = xtask_in(tree.path(), config, &["build"]);
    let after = docker(&["image", "inspect", "--format", "{{.Id}}", name]).stdout;
    docker_ok(&["tag", kept, name]);
    docker_ok(&["image", "rm", kept]);
    let fetched = format!("✓ {name}, from {}/team  ", registry.host);
    assert!(ran.stderr.starts_with(&fetched), "{}", ran.stderr);
    assert_eq!((ran.status, after.trim()), (Some(0), before.as_str()));
}

#[test]
#[ignore = "needs the image and real registries; cargo xtask ci runs it"]
fn an_image_arrives_once_and_whole() {
    build(IMAGE, "registry", &[]);
    let config = tempfile::tempdir().unwrap();

    // Closed: without a login nothing is tried twice.
    let closed = Registry::start("closed");
    let started = Instant::now();
    let refused = push(config.path(), &closed.host, &[]);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused.stderr.contains("hint: docker login 127.0.0.1:"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("once more"), "{}", refused.stderr);
    assert!(started.elapsed() < Duration::from_secs(30));
    login(config.path(), &closed.host);
    let (digest, names) = told(&push(config.path(), &closed.host, &["--json"]));
    assert!(
        digest.starts_with("sha256:") && digest.len() == 71,
        "{digest}"
    );
    assert!(names.iter().all(|(_, pushed)| *pushed), "{names:?}");
    let (again, names) = told(&push(config.path(), &closed.host, &["--json"]));
    assert_eq!(again, digest);
    assert!(names.iter().all(|(_, pushed)| !pushed), "{names:?}");
    let target = format!("{}/team", closed.host);
    let line = workflow("main.yml", "The image", &[("REGISTRY", &target)]);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let page = config.path().join("page.md");
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(&line)
        .arg("--allow-dirty")
        .current_dir(root())
        .env("DOCKER_CONFIG", config.path())
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", &page)
        .output();
    let (digest, names) = told(&Ran::from(output.unwrap()));
    let page = fs::read_to_string(page).unwrap();
    let channel = format!("{target}/airflow-dbt-dental:main  {digest}  pushed\n```\n");
    assert!(page.contains(&channel), "{page}");
    let new: Vec<&str> = names
        .iter()
        .filter(|(_, p)| *p)
        .map(|(tag, _)| tag.as_str())
        .collect();
    assert_eq!(new, ["main"]);
    // The page's own lines find all of it there but the channel.
    let [block] = pages::blocks("push").try_into().unwrap();
    let target = format!("{target} --allow-dirty");
    let block = block.with(&[("registry.example.com/team", &target)]);
    let store = config.path().to_str().unwrap();
    let ran = block.ok(&root(), &[("DOCKER_CONFIG", store)]);
    assert!(ran.stderr.contains(":stable"), "{}", ran.stderr);
    drop(closed);

    // Open, and it dies while layers arrive.
    let open = Registry::start("plain");
    let (container, host) = (open.container.clone(), open.host.clone());
    let folder = config.path().to_path_buf();
    let pushing = thread::spawn(move || push(&folder, &host, &["--json"]));
    let started = Instant::now();
    while open.holds() < 1 << 20 {
        assert!(started.elapsed() < Duration::from_secs(120) && !pushing.is_finished());
        thread::sleep(Duration::from_millis(50));
    }
    docker_ok(&["kill", &container]);
    thread::sleep(Duration::from_secs(3));
    docker_ok(&["start", &container]);
    let ran = pushing.join().unwrap();
    assert_eq!(told(&ran).0, digest, "the same manifest everywhere");
    is_fetched_where_it_is_not(config.path(), &open, &ran);
    drop(open);
    docker(&["image", "rm", IMAGE]);
}
