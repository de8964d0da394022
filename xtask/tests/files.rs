//! Files that have to agree with each other.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Variables by which xtask names images and a host; no installation's settings.
const GIVEN: [&str; 12] = [
    "AIRFLOW_BASE_IMAGE",
    "AIRFLOW_IMAGE",
    "BOOTSTRAP_DAGS",
    "BOOTSTRAP_VARIABLES",
    "HOST_NAME",
    "MYSQL_IMAGE",
    "POSTGRES_IMAGE",
    "PROJECT_MOUNT",
    "WEB_ADDRESS",
    "WEB_BASE_URL",
    "WEB_COOKIE_SECURE",
    "WEB_PROXY_FIX",
];
/// On for the demo that the template describes; off where nobody said anything.
const MEANT_TO_DIFFER: [&str; 1] = ["ETL_ALLOW_BUSINESS_HOURS_OVERRIDE"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Name → default of every `${NAME…}` in the compose files.
fn read_by_compose() -> BTreeMap<String, Option<String>> {
    let files = ["", "override.", "host.", "web."].map(|part| {
        let name = format!("docker-compose.{part}yml");
        fs::read_to_string(root().join(name)).unwrap()
    });
    files
        .concat()
        .split("${")
        .skip(1)
        .map(|rest| {
            let inside = rest.split('}').next().unwrap();
            match inside.split_once(":-") {
                Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                None => (inside.split(':').next().unwrap().to_owned(), None),
            }
        })
        .collect()
}

/// Name → value of every line of the template.
fn template() -> BTreeMap<String, String> {
    fs::read_to_string(root().join(".env.template"))
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

#[test]
fn the_template_names_every_variable_that_compose_reads_and_no_other() {
    let mut read: Vec<String> = read_by_compose().into_keys().collect();
    read.retain(|name| !GIVEN.contains(&name.as_str()));
    read.push("COMPOSE_PROJECT_NAME".to_owned());
    read.sort();
    let named: Vec<String> = template().into_keys().collect();
    assert_eq!(named, read);
}

#[test]
fn composes_defaults_are_the_templates() {
    let template = template();
    let mut compared = 0;
    for (name, default) in read_by_compose() {
        let (Some(default), Some(value)) = (default, template.get(&name)) else {
            continue;
        };
        if value.starts_with('<') || MEANT_TO_DIFFER.contains(&name.as_str()) {
            continue;
        }
        assert_eq!(&default, value, "{name}");
        compared += 1;
    }
    assert!(compared > 20, "{compared} variables were compared");
}

#[test]
fn compose_and_deploy_toml_name_the_same_bases() {
    let deploy = fs::read_to_string(root().join("deploy.toml")).unwrap();
    let read = read_by_compose();
    for name in ["AIRFLOW_BASE_IMAGE", "MYSQL_IMAGE", "POSTGRES_IMAGE"] {
        let default = read[name].as_deref().unwrap();
        // By hand it is the tag, in deploy.toml perhaps its digest as well.
        let plain = deploy.contains(&format!("\"{default}\""));
        let pinned = deploy.contains(&format!("\"{default}@sha256:"));
        assert!(plain || pinned, "{name} is {default}");
    }
    let dockerfile = fs::read_to_string(root().join("Dockerfile.airflow")).unwrap();
    let base = read["AIRFLOW_BASE_IMAGE"].as_deref().unwrap();
    assert!(dockerfile.contains(&format!("ARG BASE_IMAGE={base}\n")));
}
