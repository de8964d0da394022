//! `deploy.toml`: the image and its bases, as a person decided them.

use std::fs;

use anyhow::Result;
use serde::Deserialize;

use super::Workspace;
use crate::error::Failure;

/// The whole file. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deploy {
    /// The image that we build.
    pub(crate) image: Image,
    /// The images that it and the databases stand on.
    pub(crate) bases: Bases,
    /// What Airflow has to show.
    pub(crate) airflow: Airflow,
}

/// `[image]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The repository part of the image's name.
    pub(crate) name: String,
    /// The Dockerfile, relative to the root.
    pub(crate) dockerfile: String,
}

/// `[bases]`: references as a registry knows them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bases {
    /// Base of the Airflow image.
    pub(crate) airflow: String,
    /// The `postgres` service.
    pub(crate) postgres: String,
    /// The `mysql` service, the demo source.
    pub(crate) mysql: String,
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
        let path = workspace.root().join("deploy.toml");
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::user(format!("failed to read {}: {error}", path.display()))
                .hint("git checkout deploy.toml")
        })?;
        toml::from_str(&text).map_err(|error| {
            Failure::user(format!("failed to read deploy.toml: {}", error.message()))
                .hint("git diff deploy.toml shows what was changed")
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_own_file_is_read_whole() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let deploy = Deploy::read(&Workspace::around(here).unwrap()).unwrap();
        assert_eq!(deploy.image.name, "airflow-dbt-dental");
        assert_eq!(deploy.bases.airflow, "apache/airflow:2.7.1-python3.11");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = "[image]\nname='a'\ndockerfile='b'\nnmae='c'\n";
        let error = toml::from_str::<Deploy>(text).unwrap_err();
        assert!(error.message().contains("unknown field `nmae`"), "{error}");
    }
}
