//! A machine to deploy to, reached by a real ssh: a Debian 13 in a container, and a
//! checkout whose deploy.toml knows it.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::containers::{Ran, build, docker, docker_ok, root};

pub(crate) const BARE: &str = "dental-test-host:bare";
/// With an engine.
pub(crate) const ENGINE: &str = "dental-test-host";
/// What a container needs to run containers, a line each.
const RIGHTS: &str = include_str!("../host/rights");

/// A machine on a port of this one, gone when dropped, and a checkout whose
/// deploy.toml knows it as `spare`.
pub(crate) struct Spare {
    pub(crate) container: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Spare {
    /// `bare`, `containerd` or `classic`.
    pub(crate) fn start(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        let public = fs::read_to_string(folder.path().join("key.pub")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (authorized, publish) = (
            format!("AUTHORIZED_KEY={}", public.trim()),
            format!("127.0.0.1:{port}:22"),
        );
        let run = [
            "run",
            "--detach",
            "--env",
            &authorized,
            "--publish",
            &publish,
        ];
        let rights: Vec<&str> = RIGHTS.lines().collect();
        let image = if kind == "bare" { BARE } else { ENGINE };
        let container = docker_ok(&[&run, &rights[..], &[image, kind]].concat());
        let spare = Self {
            container,
            folder,
            port,
        };
        if kind == "bare" {
            spare.marks();
        } else {
            spare.copy();
        }
        spare.know_the_host();
        spare
    }

    /// With an engine that answers, the stack's folder, and settings of its own for
    /// a small demo in `.env.spare`; nothing is committed and nothing deployed.
    pub(crate) fn furnished(kind: &str) -> Self {
        build(ENGINE, "host", &[]);
        let spare = Self::start(kind);
        spare.introduce();
        spare.ready();
        let folder = ["install", "-d", "-o", "ubuntu", "-m", "750", "/srv/dental"];
        let made = spare.there("root", &folder);
        assert_eq!(made.status, Some(0), "{}", made.stderr);
        assert_eq!(spare.xtask(&["env"]).status, Some(0));
        let env = fs::read_to_string(spare.tree().join(".env")).unwrap();
        fs::write(spare.tree().join(".env.spare"), env).unwrap();
        spare.set("COMPOSE_PROJECT_NAME", "dental-there");
        spare.set("DEMO_SCALE", "0.05");
        // `env` looks for ports that are free here, where somebody's own stack may run.
        for (name, port) in [
            ("AIRFLOW_WEBSERVER_PORT", "8080"),
            ("POSTGRES_HOST_PORT", "5432"),
            ("MYSQL_HOST_PORT", "3306"),
        ] {
            spare.set(name, port);
        }
        spare
    }

    /// One of the host's settings, in `.env.spare`.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let path = self.tree().join(".env.spare");
        let lead = format!("{name}=");
        let text = fs::read_to_string(&path).unwrap();
        let kept = text.lines().filter(|line| !line.starts_with(&lead));
        let own = format!("{lead}{value}");
        let lines: Vec<&str> = kept.chain([own.as_str()]).collect();
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }

    /// What [`Self::set`] wrote last, or what was there.
    pub(crate) fn setting(&self, name: &str) -> String {
        let text = fs::read_to_string(self.tree().join(".env.spare")).unwrap();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().to_owned()
    }

    /// All of the checkout that git would bring, and what is not committed.
    pub(crate) fn copy(&self) {
        let script = "mkdir $2 && tar -C $1 --exclude=./target --exclude=./.cache --exclude=./.env \
                      --exclude=./.git -c . | tar -C $2 -x";
        let copied = Command::new("sh")
            .args(["-c", script, "copy"])
            .args([root(), self.tree()])
            .status();
        assert!(copied.unwrap().success());
    }

    /// As little of a checkout as `provision` reads.
    pub(crate) fn marks(&self) {
        let tree = self.tree();
        fs::create_dir_all(tree.join("xtask")).unwrap();
        for file in [
            "docker-compose.yml",
            "Dockerfile.airflow",
            "xtask/Cargo.toml",
        ] {
            fs::write(tree.join(file), "").unwrap();
        }
    }

    pub(crate) fn know_the_host(&self) {
        let at = self.folder.path().display();
        let config =
            format!("Host clinic\n  HostName 127.0.0.1\n  UserKnownHostsFile {at}/known_hosts\n");
        fs::write(self.folder.path().join("ssh_config"), config).unwrap();
        let own = fs::read_to_string(root().join("deploy.toml")).unwrap();
        let port = self.port;
        let host = format!(
            "\n[hosts.spare]\nssh = \"clinic\"\nuser = \"ubuntu\"\nport = {port}\n\
             identity = \"{at}/key\"\nssh_config = \"{at}/ssh_config\"\n\
             directory = \"/srv/dental\"\nenv_file = \".env.spare\"\n"
        );
        fs::write(self.tree().join("deploy.toml"), own + &host).unwrap();
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// A command on the machine, not by ssh.
    pub(crate) fn there(&self, user: &str, command: &[&str]) -> Ran {
        let exec = ["exec", "--user", user, &self.container];
        docker(&[&exec, command].concat())
    }

    /// Its key becomes known, as when a person accepts it; it listens by then.
    pub(crate) fn introduce(&self) {
        let started = Instant::now();
        let key = loop {
            let key = self.there("root", &["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]);
            if key.status == Some(0) && !key.stdout.is_empty() {
                break key.stdout;
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{}",
                key.stderr
            );
            thread::sleep(Duration::from_millis(100));
        };
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        fs::write(self.folder.path().join("known_hosts"), line).unwrap();
    }

    /// What a command of the checkout has in its environment.
    pub(crate) fn variables(&self) -> [(&str, &str); 1] {
        [("XDG_RUNTIME_DIR", self.folder.path().to_str().unwrap())]
    }

    /// The program, to be run in the checkout.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(args)
            .current_dir(self.tree())
            .envs(self.variables());
        command
    }

    pub(crate) fn xtask(&self, args: &[&str]) -> Ran {
        eprintln!("$ cargo xtask {}", args.join(" "));
        let ran = Ran::from(self.command(args).output().unwrap());
        eprint!("{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Until its engine answers the user.
    pub(crate) fn ready(&self) {
        let started = Instant::now();
        while self.there("ubuntu", &["docker", "version"]).status != Some(0) {
            assert!(started.elapsed() < Duration::from_secs(120));
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The tree becomes a repository with all of it committed; later, one with what
    /// changed since.
    pub(crate) fn commit(&self) {
        for args in [
            &["init", "--quiet"][..],
            &["add", "--all"],
            &[
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@localhost",
                "commit",
                "--quiet",
                "--message",
                "x",
            ],
        ] {
            let git = Command::new("git")
                .args(args)
                .current_dir(self.tree())
                .status();
            assert!(git.unwrap().success(), "{args:?}");
        }
    }

    /// What a command prints on standard output as JSON, and its exit status.
    pub(crate) fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let ran = self.xtask(args);
        let value = serde_json::from_str(&ran.stdout);
        (
            ran.status,
            value.unwrap_or_else(|error| panic!("{error}: {}", ran.stderr)),
        )
    }

    pub(crate) fn change(&self, path: &str, before: &str, after: &str) {
        let path = self.tree().join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(before), "{before}");
        fs::write(path, text.replace(before, after)).unwrap();
    }

    /// What the containers of the stack are, by service.
    pub(crate) fn containers(&self) -> Vec<String> {
        let list = "docker ps --filter label=com.docker.compose.project=dental-there \
                    --format '{{.ID}} {{.Names}}' | sort -k 2";
        let ran = self.there("ubuntu", &["sh", "-c", list]);
        ran.stdout.lines().map(str::to_owned).collect()
    }

    /// What a query of Airflow's database gives, a line for each row.
    pub(crate) fn metadata(&self, query: &str) -> Vec<String> {
        let ask = format!(
            "docker exec $(docker ps --quiet --filter label=com.docker.compose.service=postgres) \
             sh -c 'psql -U $POSTGRES_USER -d $AIRFLOW_DB_NAME -Atc \"{}\"'",
            query.replace('\'', "'\\''")
        );
        let mut ran = self.there("ubuntu", &["sh", "-c", &ask]);
        // The engine's own word for a command that it could not start: it was not asked.
        for _ in 0..3 {
            if ran.status != Some(126) {
                break;
            }
            eprintln!("{}{}", ran.stdout, ran.stderr);
            thread::sleep(Duration::from_secs(1));
            ran = self.there("ubuntu", &["sh", "-c", &ask]);
        }
        assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
        ran.stdout.lines().map(str::to_owned).collect()
    }

    /// How Airflow itself describes the DAG.
    pub(crate) fn tags(&self) -> String {
        self.metadata("select name from dag_tag where dag_id = 'etl_pipeline' order by 1")
            .join(" ")
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
    }
}

/// The names of the phases that `--json` told of, with how each ended.
pub(crate) fn phases(told: &Value) -> Vec<String> {
    let phase = |p: &Value| {
        format!(
            "{} {}",
            p["phase"].as_str().unwrap(),
            p["state"].as_str().unwrap()
        )
    };
    told["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(phase)
        .collect()
}
