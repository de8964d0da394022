//! What Compose makes of its files, in a checkout and on a host. It only renders
//! them, so no engine is needed, but every generation that is on PATH is asked.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVICES: [&str; 6] = [
    "airflow-init",
    "airflow-scheduler",
    "airflow-webserver",
    "demo-seed",
    "mysql",
    "postgres",
];
/// A variable of the host alone that is neither a path nor a command.
const AT_ONCE: &str = "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL";
/// How a host's page is reached; a checkout's, by Airflow's own defaults.
const WEB: [&str; 6] = [
    "AIRFLOW__WEBSERVER__BASE_URL",
    "AIRFLOW__WEBSERVER__COOKIE_SAMESITE",
    "AIRFLOW__WEBSERVER__COOKIE_SECURE",
    "AIRFLOW__WEBSERVER__ENABLE_PROXY_FIX",
    "AIRFLOW__WEBSERVER__PROXY_FIX_X_HOST",
    "AIRFLOW__WEBSERVER__PROXY_FIX_X_PREFIX",
];

/// Path of keys → scalar, for all of a rendering.
type Scalars = BTreeMap<String, String>;

/// A checkout and a host's folder, each with the same `.env`.
struct Places {
    folder: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Self { folder };
        let (tree, release) = (places.tree(), places.host().join("code/releases/abc"));
        for to in [&tree, &release] {
            fs::create_dir_all(to).unwrap();
            for name in [
                "docker-compose.yml",
                "docker-compose.override.yml",
                "docker-compose.host.yml",
                "docker-compose.web.yml",
            ] {
                fs::copy(root().join(name), to.join(name)).unwrap();
            }
        }
        symlink("releases/abc", places.host().join("code/current")).unwrap();
        let template = fs::read_to_string(root().join(".env.template")).unwrap();
        let env: String = template
            .lines()
            .map(|line| match line.split_once("=<") {
                // A number is a port, a user, a password and a name alike.
                Some((name, _)) if !line.starts_with('#') => format!("{name}=4711\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        for to in [tree, places.host()] {
            fs::write(to.join(".env"), &env).unwrap();
        }
        places
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn host(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    /// As xtask and a person call it in a checkout.
    fn checkout(&self, compose: &[&str], files: &[&str]) -> Scalars {
        let files: Vec<&str> = files.iter().flat_map(|file| ["--file", file]).collect();
        render(compose, &self.tree(), &files, &[])
    }

    fn on_host(&self, compose: &[&str], env: &[(&str, &str)]) -> Scalars {
        let host = self.host();
        let mut args = vec![
            "--file",
            "code/current/docker-compose.yml",
            "--file",
            "code/current/docker-compose.host.yml",
            "--project-directory",
            host.to_str().unwrap(),
        ];
        if env.iter().any(|(name, _)| *name == "WEB_ADDRESS") {
            args.extend(["--file", "code/current/docker-compose.web.yml"]);
        }
        let own = [
            ("HOST_NAME", "ec2"),
            ("WEB_BASE_URL", "http://localhost:4711"),
        ];
        let own = own
            .into_iter()
            .filter(|(name, _)| env.iter().all(|(n, _)| n != name));
        let own: Vec<(&str, &str)> = own.collect();
        render(compose, &host, &args, &[env, &own].concat())
    }
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap().to_path_buf()
}

/// Each Compose of this machine.
fn generations() -> Vec<&'static [&'static str]> {
    let all: [&[&str]; 2] = [&["docker-compose"], &["docker", "compose"]];
    let answers = |compose: &&[&str]| {
        let mut version = Command::new(compose[0]);
        version.args(&compose[1..]).arg("version");
        version.output().is_ok_and(|output| output.status.success())
    };
    let found: Vec<_> = all.into_iter().filter(answers).collect();
    assert!(!found.is_empty(), "there is no Compose: cargo xtask doctor");
    found
}

fn render(compose: &[&str], folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Scalars {
    let output = Command::new(compose[0])
        .args(&compose[1..])
        .args(args)
        .args(["--profile", "demo", "--profile", "init", "config"])
        .current_dir(folder)
        // What a shell sets would come before .env.
        .env_clear()
        .envs(["PATH", "HOME"].map(|name| (name, std::env::var(name).unwrap_or_default())))
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{compose:?} {args:?}: {said}");
    let folder = folder.to_str().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    scalars(&text.replace(folder, "<folder>"))
}

/// Reads the YAML that Compose writes: blocks alone, with long words folded.
fn scalars(yaml: &str) -> Scalars {
    let mut found = Scalars::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    for line in yaml.lines() {
        let mut text = line.trim_start();
        let mut column = line.len() - text.len();
        let item = text.strip_prefix("- ");
        if let Some(item) = item {
            // An item may stand as far left as the name of its list.
            let depth = 2 * column + 1;
            let before = path.iter().find(|(at, _)| *at == depth);
            let next = before.map_or(0, |(_, index)| index.parse::<usize>().unwrap() + 1);
            path.retain(|(at, _)| *at < depth);
            path.push((depth, next.to_string()));
            (text, column) = (item, column + 2);
        }
        let entry = text
            .split_once(": ")
            .or_else(|| Some((text.strip_suffix(':')?, "")));
        if let Some((name, _)) = entry {
            path.retain(|(at, _)| *at < 2 * column);
            path.push((2 * column, name.to_owned()));
        }
        let keys: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
        let value = found.entry(keys.join("/")).or_default();
        if item.is_none() && entry.is_none() {
            value.push(' ');
        }
        value.push_str(
            entry
                .map_or(text, |(_, value)| value)
                .trim_matches(['"', '\'']),
        );
    }
    found
}

/// Where a service finds code and what it tells people to type: its command,
/// those of its variables, and its mounts. Chosen by value, so that what is added
/// is among them.
fn code(rendered: &Scalars) -> String {
    let mut lines = Vec::new();
    for service in SERVICES {
        let below = |part: &str| {
            let lead = format!("services/{service}/{part}/");
            rendered
                .iter()
                .filter_map(move |(key, value)| Some((key.strip_prefix(&lead)?.to_owned(), value)))
        };
        let command: Vec<&str> = below("command").map(|(_, word)| word.as_str()).collect();
        lines.push(format!("{service}: {}", command.join(" ")));
        for (name, value) in below("environment") {
            if is_about_code(&name, value) {
                lines.push(format!("  {name}={value}"));
            }
        }
        let mut mounts: BTreeMap<String, Scalars> = BTreeMap::new();
        for (key, value) in below("volumes") {
            let (index, field) = key.split_once('/').unwrap_or((&key, "short"));
            let mount = mounts.entry(index.to_owned()).or_default();
            mount.insert(field.to_owned(), value.clone());
        }
        let mut mounts: Vec<String> = mounts.into_values().map(|m| mount(&m)).collect();
        mounts.sort();
        lines.extend(mounts.into_iter().map(|mount| format!("  {mount}")));
    }
    lines.join("\n")
}

fn is_about_code(name: &str, value: &str) -> bool {
    let is_state = value.starts_with("/opt/airflow/state/");
    name == AT_ONCE || value.contains("xtask ") || (value.starts_with('/') && !is_state)
}

/// `source:target`, and `:ro` where it is; v1 writes that itself, v2 each part.
fn mount(fields: &Scalars) -> String {
    if let Some(short) = fields.get("short") {
        return short.trim_end_matches(":rw").to_owned();
    }
    let is_read_only = fields.get("read_only").is_some_and(|flag| flag == "true");
    let mode = if is_read_only { ":ro" } else { "" };
    format!("{}:{}{mode}", fields["source"], fields["target"])
}

/// What becomes of a service that ended, and of one that was stopped before a reboot.
fn restarts(rendered: &Scalars) -> String {
    let lines = rendered.iter().filter_map(|(key, policy)| {
        let service = key.strip_prefix("services/")?.strip_suffix("/restart")?;
        Some(format!("{service} {policy}\n"))
    });
    lines.collect()
}

/// All else of the services.
fn rest(rendered: &Scalars) -> Scalars {
    let is_rest = |key: &str, value: &str| {
        let parts: Vec<&str> = key.split('/').collect();
        match parts.as_slice() {
            ["services", "airflow-init", "command", ..]
            | ["services", _, "volumes" | "restart", ..] => false,
            ["services", _, "environment", name] => {
                let of_host = WEB.contains(name) || name.starts_with("BOOTSTRAP_");
                !is_about_code(name, value) && !of_host
            }
            ["services", ..] => true,
            _ => false,
        }
    };
    let rest = rendered.iter().filter(|(key, value)| is_rest(key, value));
    rest.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The expectation: what Airflow's services share, and what stands apart.
fn expected(init: &str, airflow: &str, seed: &str, initdb: &str) -> String {
    format!(
        "airflow-init: python {init}\n{airflow}\n\
         airflow-scheduler: scheduler\n{airflow}\n\
         airflow-webserver: webserver\n{airflow}\n\
         demo-seed: python -m opendental_demo load\n{seed}\n\
         mysql: --sql-mode= --character-set-server=utf8mb3 --local-infile=1\n\
         \x20 <folder>/{initdb}mysql/initdb.d:/docker-entrypoint-initdb.d:ro\n\
         \x20 mysql-data:/var/lib/mysql\n\
         postgres: \n\
         \x20 <folder>/{initdb}postgres/initdb.d:/docker-entrypoint-initdb.d:ro\n\
         \x20 postgres-data:/var/lib/postgresql/data"
    )
}

#[test]
fn a_checkouts_containers_have_each_folder_of_it() {
    let places = Places::new();
    for compose in generations() {
        let by_hand = places.checkout(compose, &[]);
        let by_xtask = &["docker-compose.yml", "docker-compose.override.yml"];
        assert_eq!(places.checkout(compose, by_xtask), by_hand);
        let airflow = "  DBT_COMMAND=cargo xtask dbt --
  DBT_PROFILES_DIR=/opt/airflow/dbt_dental_clinic/dbt_dental_models
  DBT_PROJECT_DIR=/opt/airflow/dbt_dental_clinic/dbt_dental_models
  ETL_COMMAND=cargo xtask etl --
  NIGHTLY_COMMAND=cargo xtask nightly
  PYTHONPATH=/opt/airflow/dbt_dental_clinic/etl_pipeline
  SQL_COMMAND=cargo xtask sql
  <folder>/airflow/bootstrap:/opt/airflow/bootstrap:ro
  <folder>/airflow/certs:/opt/airflow/certs:ro
  <folder>/airflow/dags:/opt/airflow/dags:ro
  <folder>/airflow/logs:/opt/airflow/logs
  <folder>/airflow/plugins:/opt/airflow/plugins:ro
  <folder>/dbt_dental_models:/opt/airflow/dbt_dental_clinic/dbt_dental_models:ro
  <folder>/etl_pipeline:/opt/airflow/dbt_dental_clinic/etl_pipeline:ro
  airflow-state:/opt/airflow/state";
        let seed = "  DEMO_COMMAND=cargo xtask demo --
  NIGHTLY_COMMAND=cargo xtask nightly --ignore-business-hours
  PYTHONPATH=/opt/airflow/dbt_dental_clinic/etl_pipeline
  <folder>/etl_pipeline:/opt/airflow/dbt_dental_clinic/etl_pipeline:ro";
        let init = "/opt/airflow/bootstrap/bootstrap.py";
        assert_eq!(code(&by_hand), expected(init, airflow, seed, ""));
    }
}

#[test]
fn a_hosts_containers_have_the_folder_around_the_link_and_go_through_it() {
    let places = Places::new();
    let airflow = "  AIRFLOW__CORE__DAGS_FOLDER=<mount>/current/airflow/dags
  AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL=0
  AIRFLOW__CORE__PLUGINS_FOLDER=<mount>/current/airflow/plugins
  DBT_COMMAND=cargo xtask dbt --host ec2 --
  DBT_PROFILES_DIR=<mount>/current/dbt_dental_models
  DBT_PROJECT_DIR=<mount>/current/dbt_dental_models
  ETL_COMMAND=cargo xtask etl --host ec2 --
  NIGHTLY_COMMAND=cargo xtask nightly --host ec2
  PROJECT_ROOT=<mount>/current
  PYTHONPATH=<mount>/current/etl_pipeline
  SQL_COMMAND=cargo xtask sql --host ec2
  <folder>/airflow/certs:/opt/airflow/certs:ro
  <folder>/airflow/logs:/opt/airflow/logs
  <folder>/code:<mount>:ro
  airflow-state:/opt/airflow/state";
    let seed = "  DEMO_COMMAND=cargo xtask demo --host ec2 --
  NIGHTLY_COMMAND=cargo xtask nightly --host ec2 --ignore-business-hours
  PYTHONPATH=<mount>/current/etl_pipeline
  <folder>/code:<mount>:ro";
    let init = "<mount>/current/airflow/bootstrap/bootstrap.py";
    let expected = expected(init, airflow, seed, "code/current/");
    for compose in generations() {
        let checkout = places.checkout(compose, &[]);
        for (mount, env) in [
            ("/opt/dbt_dental_clinic", &[][..]),
            ("/elsewhere", &[("PROJECT_MOUNT", "/elsewhere")]),
        ] {
            let host = places.on_host(compose, env);
            assert_eq!(code(&host), expected.replace("<mount>", mount));
            assert_eq!(
                restarts(&host),
                "airflow-init no\nairflow-scheduler always\nairflow-webserver always\n\
                 mysql always\npostgres always\n"
            );
            assert_eq!(
                rest(&host),
                rest(&checkout),
                "no more than the code differs"
            );
        }
    }
}

/// The page's own settings, by name, and where it is published.
fn web(rendered: &Scalars) -> (Vec<String>, Vec<String>) {
    let service = "services/airflow-webserver";
    let values = WEB.iter().filter_map(|name| {
        let value = rendered.get(&format!("{service}/environment/{name}"))?;
        Some(format!(
            "{}={value}",
            name.trim_start_matches("AIRFLOW__WEBSERVER__")
        ))
    });
    let ports = (0..3).filter_map(|at| {
        let at = format!("{service}/ports/{at}");
        // v1 writes one word, v2 each part.
        let short = rendered
            .get(&at)
            .map(|port| port.trim_end_matches("/tcp").to_owned());
        short.or_else(|| {
            let part = |name: &str| rendered.get(&format!("{at}/{name}"));
            Some(format!(
                "{}:{}:{}",
                part("host_ip")?,
                part("published")?,
                part("target")?
            ))
        })
    });
    (values.collect(), ports.collect())
}

#[test]
fn a_hosts_page_is_where_deploy_toml_says_and_on_loopback() {
    let places = Places::new();
    for compose in generations() {
        let checkout = web(&places.checkout(compose, &[]));
        let loopback = ["127.0.0.1:4711:8080".to_owned()];
        assert_eq!(
            checkout,
            (
                vec!["BASE_URL=http://localhost:4711".to_owned()],
                loopback.to_vec()
            )
        );
        let (values, ports) = web(&places.on_host(compose, &[]));
        let by_default = [
            "BASE_URL=http://localhost:4711",
            "COOKIE_SAMESITE=Lax",
            "COOKIE_SECURE=False",
            "ENABLE_PROXY_FIX=False",
            "PROXY_FIX_X_HOST=0",
            "PROXY_FIX_X_PREFIX=0",
        ];
        assert_eq!(
            (values, ports),
            (by_default.map(str::to_owned).to_vec(), loopback.to_vec())
        );
        let env = [
            ("WEB_ADDRESS", "10.0.0.5"),
            ("WEB_BASE_URL", "https://airflow.example.com"),
            ("WEB_COOKIE_SECURE", "True"),
            ("WEB_PROXY_FIX", "True"),
        ];
        let rendered = places.on_host(compose, &env);
        let (values, ports) = web(&rendered);
        for value in [
            "BASE_URL=https://airflow.example.com",
            "COOKIE_SECURE=True",
            "ENABLE_PROXY_FIX=True",
        ] {
            assert!(values.iter().any(|v| v == value), "{values:?}");
        }
        assert_eq!(ports, ["127.0.0.1:4711:8080", "10.0.0.5:4711:8080"]);
        // Databases stay on loopback whatever.
        for database in ["postgres", "mysql"] {
            let lead = format!("services/{database}/ports/");
            let ports: Vec<&String> = rendered
                .iter()
                .filter_map(|(key, value)| key.starts_with(&lead).then_some(value))
                .collect();
            assert!(!ports.is_empty() && ports.iter().all(|port| !port.contains("10.0.0.5")));
        }
    }
}
