//! Another machine, reached by a real ssh: a Debian 13 with nothing of ours on it.
//!
//! Run by `cargo xtask test`; by hand:
//! `cargo test --test hosts -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says what it does, and ends where something is wrong"
)]

mod containers;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use containers::{Ran, build, docker, docker_ok, root};

const IMAGE: &str = "dental-test-host:bare";
/// What a container needs to run containers, a line each.
const RIGHTS: &str = include_str!("host/rights");

/// A machine on a port of this one, gone when dropped, and a checkout whose
/// deploy.toml knows it as `spare`.
struct Spare {
    container: String,
    folder: tempfile::TempDir,
    port: u16,
}

impl Spare {
    fn start() -> Self {
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
        let container = docker_ok(&[&run, &rights[..], &[IMAGE, "bare"]].concat());
        let spare = Self {
            container,
            folder,
            port,
        };
        spare.checkout();
        spare
    }

    /// As little of a checkout as `provision` reads.
    fn checkout(&self) {
        let tree = self.tree();
        fs::create_dir_all(tree.join("xtask")).unwrap();
        for file in [
            "docker-compose.yml",
            "Dockerfile.airflow",
            "xtask/Cargo.toml",
        ] {
            fs::write(tree.join(file), "").unwrap();
        }
        let at = self.folder.path().display();
        let config =
            format!("Host clinic\n  HostName 127.0.0.1\n  UserKnownHostsFile {at}/known_hosts\n");
        fs::write(self.folder.path().join("ssh_config"), config).unwrap();
        let own = fs::read_to_string(root().join("deploy.toml")).unwrap();
        let port = self.port;
        let host = format!(
            "\n[hosts.spare]\nssh = \"clinic\"\nuser = \"ubuntu\"\nport = {port}\n\
             identity = \"{at}/key\"\nssh_config = \"{at}/ssh_config\"\n\
             directory = \"/srv/dental\"\n"
        );
        fs::write(tree.join("deploy.toml"), own + &host).unwrap();
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// A command on the machine, not by ssh.
    fn there(&self, user: &str, command: &[&str]) -> Ran {
        let exec = ["exec", "--user", user, &self.container];
        docker(&[&exec, command].concat())
    }

    /// Its key becomes known, as when a person accepts it; it listens by then.
    fn introduce(&self) {
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

    fn xtask(&self, args: &[&str]) -> Ran {
        eprintln!("$ cargo xtask {}", args.join(" "));
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(args)
            .current_dir(self.tree())
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .output()
            .unwrap();
        let ran = Ran::from(output);
        eprint!("{}{}", ran.stdout, ran.stderr);
        ran
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
    }
}

#[test]
#[ignore = "needs a container engine; cargo xtask test runs it"]
fn a_bare_host_becomes_ready_once() {
    build(IMAGE, "host", &["--target", "bare"]);
    let spare = Spare::start();
    let provision = ["provision", "--host", "spare"];

    let nobody = spare.xtask(&["provision", "--host", "sapre"]);
    assert_eq!(
        (nobody.status, nobody.stderr.as_str()),
        (
            Some(2),
            "error: failed to find host sapre in deploy.toml\nhint: deploy.toml has spare\n"
        )
    );

    // A key that nobody compared is not taken, and not written down.
    spare.introduce();
    let known = spare.folder.path().join("known_hosts");
    let line = fs::read_to_string(&known).unwrap();
    fs::remove_file(&known).unwrap();
    let stranger = spare.xtask(&provision);
    assert_eq!(stranger.status, Some(1));
    assert!(
        stranger
            .stderr
            .contains("\nhint: the host's key is not known yet: ssh clinic, "),
        "{}",
        stranger.stderr
    );
    assert!(!known.exists());
    // Nor is another one than the known one.
    let key = fs::read_to_string(spare.folder.path().join("key.pub")).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {key}", spare.port)).unwrap();
    let changed = spare.xtask(&provision);
    assert!(
        changed
            .stderr
            .contains("\nhint: another machine answers than the one that was known"),
        "{}",
        changed.stderr
    );
    fs::write(&known, line).unwrap();

    let planned = [
        "sudo env DEBIAN_FRONTEND=noninteractive apt-get update\n",
        "sudo start-stop-daemon --start --background --oknodo --output /var/log/docker.log \
         --exec /usr/sbin/dockerd\n",
        "sudo usermod --append --groups docker ubuntu\n",
        "sudo install -d -o ubuntu -m 750 /srv/dental\n",
    ];
    let dry = spare.xtask(&["provision", "--host", "spare", "--dry-run"]);
    assert_eq!(dry.status, Some(0));
    for step in planned {
        assert!(dry.stderr.contains(step), "{}", dry.stderr);
    }
    assert_ne!(spare.there("root", &["which", "docker"]).status, Some(0));

    let first = spare.xtask(&provision);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    assert!(first.stderr.ends_with("✓ spare has all it needs\n"));
    let user = "ubuntu";
    for command in [
        &["docker", "version"][..],
        &["docker", "compose", "version"],
        &["docker", "buildx", "version"],
        &["rsync", "--version"],
        &["touch", "/srv/dental/mine"],
    ] {
        let ran = spare.there(user, command);
        assert_eq!(ran.status, Some(0), "{command:?}: {}", ran.stderr);
    }
    let folder = spare.there("root", &["stat", "-c", "%U %a", "/srv/dental"]);
    assert_eq!(folder.stdout, "ubuntu 750\n");

    let again = spare.xtask(&provision);
    assert_eq!(again.status, Some(0));
    assert!(again.stderr.ends_with("✓ spare has all it needs\n"));
    assert!(!again.stderr.contains("sudo"), "{}", again.stderr);

    // sudo that asks: the commands are for somebody else.
    let asks = "echo 'ubuntu ALL=(ALL) ALL' >/etc/sudoers.d/ubuntu; rmdir --ignore-fail-on-non-empty /srv/dental; chmod 755 /srv/dental";
    assert_eq!(spare.there("root", &["sh", "-c", asks]).status, Some(0));
    let refused = spare.xtask(&provision);
    assert_eq!(refused.status, Some(2));
    assert!(
        refused.stderr.ends_with(
            "error: failed to provision spare: user ubuntu cannot become root, sudo asks for a \
             password there\nhint: let somebody who can run these on spare:\n      \
             sudo install -d -o ubuntu -m 750 /srv/dental\n"
        ),
        "{}",
        refused.stderr
    );
}
