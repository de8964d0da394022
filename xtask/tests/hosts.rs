//! Another machine, reached by a real ssh: a Debian 13 with nothing of ours on it.
//!
//! Run by `cargo xtask ci`; by hand:
//! `cargo test --test hosts -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it does, and ends where something is wrong"
)]

mod containers;
mod spare;

use std::fs;

use containers::{Ran, build, docker, docker_ok};
use serde_json::Value;
use spare::{BARE, ENGINE, Spare};

#[test]
#[ignore = "needs a container engine; cargo xtask ci runs it"]
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
    let at = spare.folder.path().display();
    let by_hand = format!(
        "\nhint: the host's key is not known yet: ssh -F {at}/ssh_config -l ubuntu -p {} \
         -o IdentityFile={at}/key -o IdentitiesOnly=yes clinic, ",
        spare.port
    );
    assert!(stranger.stderr.contains(&by_hand), "{}", stranger.stderr);
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
        "sudo sh -c 'PATH=$PATH:/usr/sbin; exec start-stop-daemon --start --background --oknodo \
         --output /var/log/docker.log --exec \"$(command -v dockerd)\"'\n",
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

/// It has no name but behind the gate.
#[test]
#[ignore = "needs a container engine; cargo xtask ci runs it"]
fn a_host_behind_another_is_reached_by_a_jump() {
    build(BARE, "host", &["--target", "bare"]);
    let (gate, inner) = (Spare::start("bare"), Spare::start("bare"));
    gate.introduce();
    inner.introduce();
    let address = docker_ok(&[
        "inspect",
        "--format",
        "{{.NetworkSettings.IPAddress}}",
        &inner.container,
    ]);
    let name = format!("echo '{address} behind.clinic' >>/etc/hosts");
    assert_eq!(gate.there("root", &["sh", "-c", &name]).status, Some(0));
    let at = |spare: &Spare, file: &str| spare.folder.path().join(file).display().to_string();
    let known = at(&inner, "known_hosts");
    let own = fs::read_to_string(&known).unwrap();
    let key = own.split_once(' ').unwrap().1;
    let of_gate = fs::read_to_string(at(&gate, "known_hosts")).unwrap();
    fs::write(&known, format!("behind.clinic {key}{of_gate}")).unwrap();
    let config = format!(
        "Host gate\n  HostName 127.0.0.1\n  Port {}\n  User ubuntu\n  IdentityFile {}\n\
         Host *\n  UserKnownHostsFile {known}\n",
        gate.port,
        at(&gate, "key"),
    );
    fs::write(at(&inner, "ssh_config"), config).unwrap();
    inner.change("deploy.toml", "ssh = \"clinic\"", "ssh = \"behind.clinic\"");
    let port = format!("port = {}\n", inner.port);
    inner.change("deploy.toml", &port, "");
    let dry = ["provision", "--host", "spare", "--dry-run"];
    let lost = inner.xtask(&dry);
    assert_eq!(lost.status, Some(1));
    assert!(
        lost.stderr
            .contains("Could not resolve hostname behind.clinic"),
        "{}",
        lost.stderr
    );
    inner.change("deploy.toml", "user = ", "jump = \"gate\"\nuser = ");
    let planned = inner.xtask(&dry);
    assert_eq!(planned.status, Some(0));
    let step = "sudo install -d -o ubuntu -m 750 /srv/dental\n";
    assert!(planned.stderr.contains(step), "{}", planned.stderr);
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
#[ignore = "needs the image; cargo xtask ci runs it"]
fn an_image_arrives_where_images_are_in_containerd() {
    an_image_arrives_layer_by_layer("containerd");
}

#[test]
#[ignore = "needs the image; cargo xtask ci runs it"]
fn an_image_arrives_where_images_are_as_before() {
    an_image_arrives_layer_by_layer("classic");
}
