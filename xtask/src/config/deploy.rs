//! `deploy.toml`: the image and its bases, as a person decided them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::civil::Date;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::hosts::Host;
use super::{Reference, Workspace};
use crate::error::Failure;
use crate::exec::Machine;

/// The whole file. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deploy {
    /// The image that we build.
    pub(crate) image: Image,
    /// The images that it and the databases stand on.
    pub(crate) bases: Bases,
    /// How the requirements are locked. Earlier revisions, which `build --why`
    /// reads too, have none.
    pub(crate) lock: Option<Lock>,
    /// What Airflow has to show.
    pub(crate) airflow: Airflow,
    /// Other machines, by the name that `--host` takes.
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, Host>,
}

/// `[image]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The repository part of the image's name.
    pub(crate) name: String,
    /// The Dockerfile, relative to the root.
    pub(crate) dockerfile: String,
    /// Where `push` brings it: `registry.example.com/team`.
    pub(crate) registry: Option<String>,
}

/// `[bases]`: references as a registry knows them, `name:tag` or
/// `name:tag@sha256:…`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bases {
    /// Base of the Airflow image.
    #[serde(deserialize_with = "reference")]
    pub(crate) airflow: String,
    /// The `postgres` service.
    #[serde(deserialize_with = "reference")]
    pub(crate) postgres: String,
    /// The `mysql` service, the demo source.
    #[serde(deserialize_with = "reference")]
    pub(crate) mysql: String,
}

fn reference<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let text = String::deserialize(value)?;
    match Reference::parse(&text) {
        Some(_) => Ok(text),
        None => Err(D::Error::custom(format!(
            "`{text}` is neither name:tag nor name:tag@sha256:…"
        ))),
    }
}

/// `[lock]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    /// The last day whose packages are looked at.
    #[serde(deserialize_with = "day")]
    pub(crate) until: Date,
}

pub(super) fn day<'de, D: Deserializer<'de>>(value: D) -> Result<Date, D::Error> {
    let text = String::deserialize(value)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("`{text}` is no day as 2026-01-31")))
}

/// `[airflow]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Airflow {
    /// DAGs that have to be there before the stack counts as up.
    pub(crate) dags: Vec<String>,
    /// The DAG of the nightly run.
    pub(crate) nightly: String,
}

impl Deploy {
    /// Reads the workspace's `deploy.toml`.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        Self::parse(&text(workspace)?)
    }

    /// The machine of that name.
    ///
    /// # Errors
    /// A user failure with the names there are, and where its web page would be
    /// shown to strangers.
    pub(crate) fn host(&self, name: &str) -> Result<&Host> {
        let host = self.hosts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.hosts.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                format!(
                    "add to deploy.toml:\n[hosts.{name}]\nssh = \"user@address\"\n\
                     directory = \"/srv/dental\""
                )
            } else {
                format!("deploy.toml has {}", known.join(", "))
            };
            Failure::user(format!("failed to find host {name} in deploy.toml")).hint(hint)
        })?;
        host.web.check(name)?;
        Ok(host)
    }

    /// The DAGs that have to be active on a host.
    pub(crate) fn dags<'d>(&'d self, host: &'d Host) -> &'d [String] {
        host.dags.as_ref().unwrap_or(&self.airflow.dags)
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            Failure::user(format!("failed to read deploy.toml: {}", error.message()))
                .hint("git diff deploy.toml shows what was changed")
                .into()
        })
    }
}

/// One value of `deploy.toml` that a command writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeployEdit {
    /// `bases`
    pub(crate) table: &'static str,
    /// `postgres`
    pub(crate) key: &'static str,
    /// The new text, without quotes.
    pub(crate) value: String,
}

impl DeployEdit {
    /// `deploy.toml` as it would be; nothing is written.
    pub(crate) fn preview(workspace: &Workspace, edits: &[Self]) -> Result<Deploy> {
        Deploy::parse(&edited(&text(workspace)?, edits)?)
    }

    /// Writes the values in place; every other byte of the file stays.
    pub(crate) fn write(machine: &Machine, workspace: &Workspace, edits: &[Self]) -> Result<()> {
        // What a person saved while a command worked is kept as well.
        let text = edited(&text(workspace)?, edits)?;
        machine.write(&path(workspace), text.as_bytes(), 0o644)
    }
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("deploy.toml")
}

fn text(workspace: &Workspace) -> Result<String> {
    let path = path(workspace);
    fs::read_to_string(&path).map_err(|error| {
        Failure::user(format!("failed to read {}: {error}", path.display()))
            .hint("git checkout deploy.toml")
            .into()
    })
}

/// Where each value of each table stands.
type Places = BTreeMap<String, BTreeMap<String, Spanned<toml::Value>>>;

fn edited(text: &str, edits: &[DeployEdit]) -> Result<String> {
    let mut text = text.to_owned();
    for edit in edits {
        let places: Places =
            toml::from_str(&text).context("failed to find the values of deploy.toml")?;
        let place = places
            .get(edit.table)
            .and_then(|table| table.get(edit.key))
            .with_context(|| format!("failed to find {} in deploy.toml", edit.key))?;
        text.replace_range(place.span(), &format!("\"{}\"", edit.value));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_own_file_is_read_whole() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let deploy = Deploy::read(&Workspace::around(here).unwrap()).unwrap();
        assert_eq!(deploy.image.name, "airflow-dbt-dental");
        let base = Reference::parse(&deploy.bases.airflow).unwrap();
        assert_eq!(base.tagged, "apache/airflow:2.7.1-python3.11");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = "[image]\nname='a'\ndockerfile='b'\nnmae='c'\n";
        let error = toml::from_str::<Deploy>(text).unwrap_err();
        assert!(error.message().contains("unknown field `nmae`"), "{error}");
    }

    #[test]
    fn a_reference_without_a_tag_and_a_day_that_is_none_are_errors() {
        let own = "[image]\nname = \"n\"\ndockerfile = \"d\"\n\
                   [bases]\nairflow = \"a:1\"\npostgres = \"postgres:15\"\n\
                   mysql = \"mariadb:10.11\"\n[lock]\nuntil = \"2026-11-21\"\n\
                   [airflow]\ndags = []\nnightly = \"n\"\n";
        assert!(Deploy::parse(own).is_ok());
        for (before, after, said) in [
            (
                "\"postgres:15\"",
                "\"postgres\"",
                "`postgres` is neither name:tag nor name:tag@sha256:…",
            ),
            (
                "\"mariadb:10.11\"",
                "\"mariadb:10.11@sha256:12\"",
                "`mariadb:10.11@sha256:12` is neither name:tag nor name:tag@sha256:…",
            ),
            ("until = \"2", "until = \"x2", "is no day as 2026-01-31"),
        ] {
            assert!(own.contains(before), "{before}");
            let error = Deploy::parse(&own.replace(before, after)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn an_edit_replaces_its_value_and_not_one_byte_more() {
        let text = "# a = \"1\"\n[bases]   # a\nb = 'x:1'\t# stays\na   =   \"x:1\"\n\
                    [other]\na = \"x:1\"\n";
        let edit = |table, key, value: &str| DeployEdit {
            table,
            key,
            value: value.to_owned(),
        };
        assert_eq!(
            edited(
                text,
                &[edit("bases", "b", "y:22"), edit("bases", "a", "z:3")]
            )
            .unwrap(),
            "# a = \"1\"\n[bases]   # a\nb = \"y:22\"\t# stays\na   =   \"z:3\"\n\
             [other]\na = \"x:1\"\n"
        );
        assert_eq!(edited(text, &[]).unwrap(), text);
        assert!(edited(text, &[edit("bases", "c", "")]).is_err());
    }
}
