//! Another machine, reached by a real ssh: a Debian 13 with nothing of ours on it.
//!
//! Run by `cargo xtask test`; by hand:
//! `cargo test --test hosts -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
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
use serde_json::Value;

const BARE: &str = "dental-test-host:bare";
/// With an engine.
const ENGINE: &str = "dental-test-host";
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
    /// `bare`, `containerd` or `classic`.
    fn start(kind: &str) -> Self {
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

    /// All of the checkout that git would bring, and what is not committed.
    fn copy(&self) {
        let script = "mkdir $2 && tar -C $1 --exclude=./target --exclude=./.cache --exclude=./.env \
                      --exclude=./.git -c . | tar -C $2 -x";
        let copied = Command::new("sh")
            .args(["-c", script, "copy"])
            .args([root(), self.tree()])
            .status();
        assert!(copied.unwrap().success());
    }

    /// As little of a checkout as `provision` reads.
    fn marks(&self) {
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

    fn know_the_host(&self) {
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
    build(BARE, "host", &["--target", "bare"]);
    let spare = Spare::start("bare");
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

impl Spare {
    /// Until its engine answers the user.
    fn ready(&self) {
        let started = Instant::now();
        while self.there("ubuntu", &["docker", "version"]).status != Some(0) {
            assert!(started.elapsed() < Duration::from_secs(120));
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The tree becomes a repository with all of it committed; later, one with what
    /// changed since.
    fn commit(&self) {
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
    fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let ran = self.xtask(args);
        let value = serde_json::from_str(&ran.stdout);
        (
            ran.status,
            value.unwrap_or_else(|error| panic!("{error}: {}", ran.stderr)),
        )
    }

    fn change(&self, path: &str, before: &str, after: &str) {
        let path = self.tree().join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(before), "{before}");
        fs::write(path, text.replace(before, after)).unwrap();
    }

    /// What the containers of the stack are, by service.
    fn containers(&self) -> Vec<String> {
        let list = "docker ps --filter label=com.docker.compose.project=dental-there \
                    --format '{{.ID}} {{.Names}}' | sort -k 2";
        let ran = self.there("ubuntu", &["sh", "-c", list]);
        ran.stdout.lines().map(str::to_owned).collect()
    }

    /// How Airflow itself describes a DAG.
    fn tags(&self) -> String {
        let query =
            "select string_agg(name, ' ' order by name) from dag_tag where dag_id = 'etl_pipeline'";
        let ask = format!(
            "docker exec $(docker ps --quiet --filter label=com.docker.compose.service=postgres) \
             sh -c 'psql -U $POSTGRES_USER -d $AIRFLOW_DB_NAME -Atc \"{}\"'",
            query.replace('\'', "'\\''")
        );
        let ran = self.there("ubuntu", &["sh", "-c", &ask]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        ran.stdout.trim().to_owned()
    }
}

/// The names of the phases that `--json` told of, with how each ended.
fn phases(told: &Value) -> Vec<String> {
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

#[test]
#[ignore = "needs the images; cargo xtask test runs it"]
fn a_tree_is_deployed_changed_and_rolled_back() {
    build(ENGINE, "host", &[]);
    let spare = Spare::start("containerd");
    spare.introduce();
    spare.ready();
    let made = spare.there(
        "root",
        &["install", "-d", "-o", "ubuntu", "-m", "750", "/srv/dental"],
    );
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    assert_eq!(spare.xtask(&["env"]).status, Some(0));
    let env = fs::read_to_string(spare.tree().join(".env")).unwrap();
    let own = "\nCOMPOSE_PROJECT_NAME=dental-there\nDEMO_SCALE=0.05\n";
    let kept = env.lines().filter(|line| {
        !line.starts_with("COMPOSE_PROJECT_NAME=") && !line.starts_with("DEMO_SCALE=")
    });
    let kept: Vec<&str> = kept.collect();
    fs::write(spare.tree().join(".env.spare"), kept.join("\n") + own).unwrap();
    let deploy = ["deploy", "--host", "spare", "--json"];

    // Without a commit, or with files that are not committed, there is no release.
    let nothing = spare.xtask(&deploy);
    assert_eq!(nothing.status, Some(2), "{}", nothing.stderr);
    spare.commit();
    spare.change("docker-compose.host.yml", "# The code", "#  The code");
    let dirty = spare.xtask(&deploy);
    assert_eq!(dirty.status, Some(2));
    assert!(
        dirty.stderr.starts_with("error: failed to deploy to spare: failed to name the release: not committed: docker-compose.host.yml\n"),
        "{}",
        dirty.stderr
    );
    spare.commit();

    let (status, first) = spare.json(&deploy);
    assert_eq!(
        (status, first["way"].as_str(), first["end"].as_str()),
        (Some(0), Some("first"), Some("done"))
    );
    assert_eq!(
        phases(&first),
        [
            "images done",
            "switch done",
            "databases done",
            "demo source done",
            "gate done",
            "init done",
            "start done",
            "verify done",
            "resume done",
            "prune done"
        ]
    );
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    assert_eq!(serves["release"], first["release"]);
    assert_eq!(spare.tags(), "dbt etl nightly");
    let containers = spare.containers();
    assert_eq!(containers.len(), 4, "{containers:?}");
    // Secrets lie in one file, for the user alone.
    let files = "find /srv/dental/env /srv/dental/audit.jsonl -type f -printf '%m %P\n'; \
                 grep -rl \"$(sed -n s/^AIRFLOW_API_PASSWORD=//p /srv/dental/env/*.env)\" /srv/dental/code /srv/dental/deploys";
    let files = spare.there("root", &["sh", "-c", files]);
    let found: Vec<&str> = files.stdout.lines().collect();
    assert!(
        found.len() == 2 && found[0].starts_with("600 "),
        "{found:?}"
    );

    let (_, again) = spare.json(&deploy);
    assert_eq!(again["end"], "nothing");

    // An edit of a DAG, a new one and a file that goes: nothing restarts.
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "tags=[\"etl\",",
        "tags=[\"changed\", \"etl\",",
    );
    spare.commit();
    let (status, code) = spare.json(&deploy);
    assert_eq!(
        (status, code["way"].as_str(), code["end"].as_str()),
        (Some(0), Some("code"), Some("done"))
    );
    assert_eq!(
        phases(&code),
        [
            "gate done",
            "drain done",
            "switch done",
            "live done",
            "resume done",
            "prune done"
        ]
    );
    assert_eq!(spare.tags(), "changed dbt etl nightly");
    assert_eq!(spare.containers(), containers);

    // What cannot be imported never serves.
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "with DAG(",
        "with DAG(((",
    );
    spare.commit();
    let refused = spare.xtask(&deploy);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused
            .stderr
            .contains("the release was refused, and nothing was changed:"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("SyntaxError"), "{}", refused.stderr);
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, &serves["release"]), (Some(0), &code["release"]));

    let (status, back) = spare.json(&["rollback", "--host", "spare", "--json"]);
    assert_eq!((status, back["end"].as_str()), (Some(0), Some("done")));
    assert_eq!(back["release"], first["release"]);
    assert_eq!(spare.tags(), "dbt etl nightly");
    assert_eq!(spare.containers(), containers);
    let (_, releases) = spare.json(&["releases", "--host", "spare", "--json"]);
    let stands: Vec<&str> = releases
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["stands"].as_str().unwrap())
        .collect();
    assert_eq!(stands, ["serves", "good"]);

    // Settings that changed restart Airflow, with a copy of its database before.
    let own = "ETL_PIPELINE_SCHEDULE='30 21 * * *'\n";
    let text = fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    fs::write(spare.tree().join(".env.spare"), text + own).unwrap();
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "with DAG(((",
        "with DAG(",
    );
    spare.commit();
    let (status, restart) = spare.json(&deploy);
    assert_eq!(
        (status, restart["way"].as_str(), restart["end"].as_str()),
        (Some(0), Some("restart"), Some("done"))
    );
    assert_eq!(
        phases(&restart),
        [
            "images done",
            "gate done",
            "drain done",
            "backup done",
            "databases done",
            "stop done",
            "switch done",
            "init done",
            "start done",
            "verify done",
            "resume done",
            "prune done"
        ]
    );
    assert_ne!(spare.containers(), containers);
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    assert_eq!(serves["airflow"]["dags"][0]["paused"], false);
}

/// What `push --host` says it brought.
fn brought(ran: &Ran) -> (String, u64, u64) {
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    (
        told["image"].as_str().unwrap().to_owned(),
        told["layers"].as_u64().unwrap(),
        told["bytes"].as_u64().unwrap(),
    )
}

fn an_image_arrives_layer_by_layer(kind: &str) {
    build(ENGINE, "host", &[]);
    let spare = Spare::start(kind);
    spare.introduce();
    spare.ready();
    let push = ["push", "--host", "spare", "--allow-dirty", "--json"];
    let runs = |image: &str| {
        let run = [
            "docker",
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "dbt",
            image,
        ];
        let ran = spare.there("ubuntu", &[&run, &["--version"][..]].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains("postgres: "), "{}", ran.stdout);
    };

    let (image, all, bytes) = brought(&spare.xtask(&push));
    assert!(
        all >= 2 && bytes > 50_000_000,
        "{all} layers, {bytes} bytes"
    );
    runs(&image);
    assert_eq!(brought(&spare.xtask(&push)), (image.clone(), 0, 0));

    // One layer more: it alone travels.
    let dockerfile = spare.tree().join("Dockerfile.airflow");
    let text = fs::read_to_string(&dockerfile).unwrap();
    fs::write(&dockerfile, text.clone() + "RUN echo 1 >/opt/airflow/one\n").unwrap();
    let (next, layers, bytes) = brought(&spare.xtask(&push));
    assert_ne!(next, image);
    assert!(
        layers == 1 && bytes < 100_000,
        "{layers} layers, {bytes} bytes"
    );
    runs(&next);

    if kind == "containerd" {
        // It lists a layer that it no longer has as such, as after a pull: all travels.
        let list =
            "ctr --address /run/docker/containerd/containerd.sock --namespace moby content ls";
        let layer = format!("{list} --quiet | head -n 1");
        let ids = docker_ok(&[
            "image",
            "inspect",
            "--format",
            "{{join .RootFS.Layers \" \"}}",
            &image,
        ]);
        let first = ids.split(' ').next().unwrap();
        let gone = format!("{} rm {first} || {layer}", list.trim_end_matches(" ls"));
        let ran = spare.there("root", &["sh", "-c", &gone]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        fs::write(&dockerfile, text + "RUN echo 2 >/opt/airflow/two\n").unwrap();
        let (last, layers, bytes) = brought(&spare.xtask(&push));
        assert_eq!(layers, all + 1);
        assert!(bytes > 50_000_000, "{bytes} bytes");
        runs(&last);
        docker(&["image", "rm", &last]);
    }
    // Every build moves it.
    docker(&["tag", &image, "airflow-dbt-dental:latest"]);
    docker(&["image", "rm", &next]);
}

#[test]
#[ignore = "needs the image; cargo xtask test runs it"]
fn an_image_arrives_where_images_are_in_containerd() {
    an_image_arrives_layer_by_layer("containerd");
}

#[test]
#[ignore = "needs the image; cargo xtask test runs it"]
fn an_image_arrives_where_images_are_as_before() {
    an_image_arrives_layer_by_layer("classic");
}
