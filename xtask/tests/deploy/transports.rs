//! How an image comes to a host other than over ssh: by a registry, or built there.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::containers::{build, docker, docker_ok};
use crate::spare::{ENGINE, Spare};

const REGISTRY: &str = "dental-test-registry";
const PUSH: [&str; 5] = ["push", "--host", "spare", "--allow-dirty", "--json"];
/// Where the host has the CA that its build needs here.
const CA: &str = "/etc/ssl/certs/this-network.pem";

/// An open registry that this machine and a host know by one name; gone when
/// dropped.
pub(crate) struct Registry {
    container: String,
    name: String,
    /// What leads the host there, but for iptables' own verb.
    rule: String,
}

impl Registry {
    pub(crate) fn start(host: &Spare) -> Self {
        build(REGISTRY, "registry", &[]);
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let name = format!("127.0.0.1:{port}");
        let publish = format!("{name}:5000");
        let container = docker_ok(&["run", "--detach", "--publish", &publish, REGISTRY, "plain"]);
        let format = "{{.NetworkSettings.IPAddress}}";
        let to = docker_ok(&["container", "inspect", "--format", format, &container]);
        let rule = format!(
            "OUTPUT --table nat --destination 127.0.0.1 --protocol tcp --dport {port} \
             --jump DNAT --to {to}:5000"
        );
        let registry = Self {
            container,
            name,
            rule,
        };
        let leads = format!(
            "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet && \
             iptables --append {} && \
             iptables --append POSTROUTING --table nat --destination {to} --jump MASQUERADE",
            registry.rule
        );
        as_root(host, &leads);
        let started = Instant::now();
        let asks = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"
        );
        while host.there("root", &["bash", "-c", &asks]).status != Some(0) {
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(200));
        }
        registry
    }

    /// The host's keys with which its images come by it.
    pub(crate) fn keys(&self) -> String {
        format!(
            "transport = \"registry\"\nregistry = \"{}/team\"\n",
            self.name
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
        let images = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).stdout;
        for name in images.lines().filter(|name| name.starts_with(&self.name)) {
            docker(&["image", "rm", name]);
        }
    }
}

fn as_root(host: &Spare, script: &str) -> String {
    let ran = host.there("root", &["sh", "-c", script]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    ran.stdout
}

fn host(kind: &str) -> Spare {
    build(ENGINE, "host", &[]);
    let host = Spare::start(kind);
    host.introduce();
    host.ready();
    as_root(&host, "install -d -o ubuntu -m 750 /srv/dental");
    host
}

/// More keys of the host, which stands last in deploy.toml.
pub(crate) fn know(host: &Spare, keys: &str) {
    let path = host.tree().join("deploy.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text + keys).unwrap();
}

/// It makes its images itself, and gets through to the packages as this machine does.
pub(crate) fn builds_there(host: &Spare) {
    know(host, "transport = \"build\"\n");
    if let Some(ca) = ["SSL_CERT_FILE", "PIP_CERT"]
        .iter()
        .find_map(std::env::var_os)
    {
        let to = format!("{}:{CA}", host.container);
        docker_ok(&["cp", "--follow-link", &ca.to_string_lossy(), &to]);
        know(host, &format!("ca_bundle = \"{CA}\"\n"));
    }
}

/// One layer more; gives the Dockerfile as it was.
fn one_layer_more(host: &Spare) -> String {
    let path = host.tree().join("Dockerfile.airflow");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.clone() + "RUN echo 1 >/opt/airflow/carried\n").unwrap();
    text
}

/// Each image there, by every name, with the hash of its inputs.
fn images(host: &Spare) -> Vec<String> {
    let list = "docker image ls --digests --format '{{.ID}}' | sort -u | xargs -r docker image inspect \
                --format '{{.RepoTags}} {{index .Config.Labels \"dental.image.inputs\"}}'";
    let listed = as_root(host, list);
    listed.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the image; cargo xtask ci runs it"]
fn a_host_pulls_by_digest_what_was_pushed_for_it() {
    let host = host("containerd");
    let registry = Registry::start(&host);

    know(&host, "transport = \"registry\"\n");
    let nowhere = host.xtask(&PUSH);
    assert_eq!(nowhere.status, Some(2));
    assert!(
        nowhere
            .stderr
            .contains("spare gets its images by a registry, and none is named\nhint: registry = "),
        "{}",
        nowhere.stderr
    );

    host.change(
        "deploy.toml",
        "transport = \"registry\"\n",
        &registry.keys(),
    );
    let (status, told) = host.json(&PUSH);
    assert_eq!(status, Some(0));
    let image = told["image"].as_str().unwrap().to_owned();
    let there = images(&host);
    // By the name that Compose uses, and by no other.
    assert_eq!(there.len(), 1, "{there:?}");
    assert!(there[0].starts_with(&format!("[{image}] ")), "{there:?}");
    let (_, again) = host.json(&PUSH);
    assert_eq!(again["layers"], 0);

    // The host cannot reach it: that is said, and nothing is there that was not.
    let text = one_layer_more(&host);
    as_root(&host, &format!("iptables --delete {}", registry.rule));
    let refused = host.xtask(&PUSH);
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains(&format!(
            "hint: see whether {} is up and reachable from the host",
            registry.name
        )),
        "{}",
        refused.stderr
    );
    assert_eq!(images(&host), there);
    as_root(&host, &format!("iptables --append {}", registry.rule));
    let (status, next) = host.json(&PUSH);
    assert_eq!(status, Some(0));
    assert_eq!(images(&host).len(), 2);

    fs::write(host.tree().join("Dockerfile.airflow"), text).unwrap();
    // Every build moves it.
    docker(&["tag", &image, "airflow-dbt-dental:latest"]);
    docker(&["image", "rm", next["image"].as_str().unwrap()]);
}

#[test]
#[ignore = "needs the image; cargo xtask ci runs it"]
fn a_host_builds_the_same_inputs_by_itself() {
    let host = host("classic");
    builds_there(&host);
    let files = |stderr: &str| {
        let line = stderr.lines().find(|line| line.contains(" travelled"));
        let lead = line.filter(|line| line.contains(" file"));
        lead.and_then(|line| line.trim().split(' ').next().map(str::to_owned))
    };
    let first = host.xtask(&PUSH);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    let told: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    let image = told["image"].as_str().unwrap();
    let there = images(&host);
    let ours = docker_ok(&[
        "image",
        "inspect",
        "--format",
        "{{.RepoTags}} {{index .Config.Labels \"dental.image.inputs\"}}",
        image,
    ]);
    let hash = ours.rsplit(' ').next().unwrap();
    assert!(
        there.contains(&format!("[{image}] {hash}")),
        "{hash}: {there:?}"
    );
    let (_, again) = host.json(&PUSH);
    assert_eq!(again["layers"], 0);

    // One input changed: it alone travels, and this machine builds nothing.
    one_layer_more(&host);
    let next = host.xtask(&PUSH);
    assert_eq!(next.status, Some(0), "{}", next.stderr);
    assert_eq!(files(&next.stderr).as_deref(), Some("1"), "{}", next.stderr);
    let told: serde_json::Value = serde_json::from_str(&next.stdout).unwrap();
    let image = told["image"].as_str().unwrap();
    assert_ne!(docker(&["image", "inspect", image]).status, Some(0));
    assert_eq!(images(&host).len(), there.len() + 1);
}
