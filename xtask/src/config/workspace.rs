//! The checkout that a command works on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::error::Failure;

/// What Compose is told in a checkout, and takes there by itself: the stack, and
/// the mounts of the code.
pub(crate) const COMPOSE_FILES: [&str; 2] = ["docker-compose.yml", "docker-compose.override.yml"];

/// Files that make a folder the root of this repository.
const MARKS: [&str; 3] = [
    "docker-compose.yml",
    "Dockerfile.airflow",
    "xtask/Cargo.toml",
];

/// Paths of the checkout; all absolute.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout around the current folder.
    ///
    /// # Errors
    /// A user failure where no parent folder is one.
    pub(crate) fn find() -> Result<Self> {
        let here = std::env::current_dir().context("failed to read the current folder")?;
        Self::around(&here)
    }

    /// The checkout around `folder`.
    pub(crate) fn around(folder: &Path) -> Result<Self> {
        folder
            .ancestors()
            .find(|dir| MARKS.iter().all(|mark| dir.join(mark).is_file()))
            .map(|root| Self {
                root: root.to_path_buf(),
            })
            .ok_or_else(|| {
                Failure::user(format!(
                    "failed to find the repository around {}",
                    folder.display()
                ))
                .hint(
                    "cd into a checkout; its root holds docker-compose.yml and Dockerfile.airflow",
                )
                .into()
            })
    }

    /// A folder that is known to be the root of one.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// The root of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `.env`: this installation's settings and secrets.
    pub(crate) fn env_file(&self) -> PathBuf {
        self.root.join(".env")
    }

    /// `.env.template`: every variable with its meaning.
    pub(crate) fn env_template(&self) -> PathBuf {
        self.root.join(".env.template")
    }

    /// The project that a new `.env` names: the folder's name, as far as Compose
    /// allows it, and four digits of its whole path, for two clones may have one name.
    pub(crate) fn project_name(&self) -> String {
        let folder = self
            .root
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let clean: String = folder
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let path = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        let path = format!("{:02x}{:02x}", path[0], path[1]);
        match clean.trim_matches('-') {
            "" => format!("dental-{path}"),
            clean => format!("dental-{clean}-{path}"),
        }
    }

    /// Folders with the Python that Airflow's containers import DAGs from, as
    /// docker-compose.override.yml mounts them.
    pub(crate) fn dag_code(&self) -> [PathBuf; 3] {
        [
            "airflow/dags",
            "airflow/plugins",
            "etl_pipeline/etl_pipeline",
        ]
        .map(|folder| self.root.join(folder))
    }

    /// The folder of what can be made again: unpacked tools, root file systems.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join(".cache")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_from_any_folder_inside_it() {
        let root = tempfile::tempdir().unwrap();
        for mark in MARKS {
            let path = root.path().join(mark);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let inside = root.path().join("a/b");
        std::fs::create_dir_all(&inside).unwrap();
        assert_eq!(Workspace::around(&inside).unwrap().root(), root.path());
        assert!(Workspace::around(root.path().parent().unwrap()).is_err());
    }
}
