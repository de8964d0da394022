//! The Python half: pip-audit over the image's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::finding::{Finding, Looked, Missed};
use crate::config::Workspace;
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Captured, Step};
use crate::image::{locked_versions, normalised, tool};

/// What the image installs.
pub(crate) const LOCK: &str = "requirements-airflow.lock";
/// What pip-audit itself consists of.
const TOOL_LOCK: &str = "requirements-audit.lock";
const TOOL: &str = "pip-audit";
/// Seconds that the service may take for one answer.
const TIMEOUT: &str = "30";

/// Who is asked for advisories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The package index.
    Pypi,
    /// The database that gathers those of all languages.
    Osv,
}

impl Service {
    /// As pip-audit names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Osv => "osv",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Pypi => Self::Osv,
            Self::Osv => Self::Pypi,
        }
    }

    /// What to do where it does not answer.
    pub(crate) fn hint(self) -> String {
        format!(
            "this machine has to reach the service over HTTPS; the other one may answer: \
             cargo xtask audit --service {}",
            self.other().name()
        )
    }
}

/// pip-audit, ready to be run.
#[derive(Debug)]
pub(crate) struct Python<'a> {
    engine: &'a Engine<'a>,
    workspace: &'a Workspace,
    folder: PathBuf,
    service: Service,
}

impl<'a> Python<'a> {
    /// It works on copies in a folder of its own.
    pub(crate) fn new(engine: &'a Engine<'a>, workspace: &'a Workspace, service: Service) -> Self {
        Self {
            engine,
            workspace,
            folder: workspace.cache().join("audit"),
            service,
        }
    }

    /// Installing it, then asking, each in a container of the image `base`.
    pub(crate) fn steps(&self, base: &str) -> [Step; 2] {
        let (engine, folder) = (self.engine, &self.folder);
        let path = format!("PYTHONPATH={}", tool::path_of(TOOL));
        [
            tool::install(engine, folder, base, TOOL, TOOL_LOCK),
            tool::with_environment(
                engine,
                "ask for advisories about the Python packages",
                folder,
                base,
                "python",
                &[&path],
            )
            .args(["-m", "pip_audit", "--requirement", LOCK])
            // The lock is the whole resolution: nothing is resolved again.
            .args(["--disable-pip", "--require-hashes"])
            .args(["--vulnerability-service", self.service.name()])
            .args(["--timeout", TIMEOUT])
            .args(["--format", "json", "--progress-spinner", "off"]),
        ]
    }

    /// Asks about every package of the lock.
    ///
    /// # Errors
    /// Where the tool cannot be installed or ends without an answer. A package
    /// that it skipped or left out is no error but [`Missed`].
    pub(crate) fn look(&self, base: &str) -> Result<Looked> {
        tool::working_copy(self.workspace, &self.folder, [LOCK, TOOL_LOCK])?;
        let path = self.folder.join(LOCK);
        let lock = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let [install, ask] = self.steps(base);
        let machine = self.engine.machine();
        machine.run(&install)?;
        let said = machine.capture(&ask)?;
        // 1 is both «something was found» and «it failed»: only the former has
        // something to read.
        let answered = matches!(said.code, Some(0 | 1)) && !said.stdout.trim().is_empty();
        if !answered {
            let words = last_words(said);
            return Err(machine
                .failed(&ask, &words)
                .hint(self.service.hint())
                .into());
        }
        read(&said.stdout, &locked_versions(&lock))
    }
}

/// Of a Python program that fell over, the line that says why.
fn last_words(mut said: Captured) -> Captured {
    if said.stderr.contains("Traceback (most recent call last)") {
        let last = said.stderr.lines().rfind(|line| !line.trim().is_empty());
        said.stderr = last.unwrap_or_default().to_owned();
    }
    said
}

/// `pip-audit --format json`.
#[derive(Debug, Deserialize)]
struct Report {
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Dependency {
    Skipped {
        name: String,
        skip_reason: String,
    },
    LookedAt {
        name: String,
        version: String,
        vulns: Vec<Vulnerability>,
    },
}

#[derive(Debug, Deserialize)]
struct Vulnerability {
    id: String,
    fix_versions: Vec<String>,
    aliases: Vec<String>,
    description: String,
}

/// The report, held against the packages of the lock.
fn read(report: &str, locked: &BTreeMap<String, String>) -> Result<Looked> {
    let report: Report = serde_json::from_str(report)
        .map_err(anyhow::Error::new)
        .map_err(|error| {
            Failure::tool("failed to read pip-audit's report")
                .hint("cargo xtask audit -v shows the command that wrote it")
                .because(error)
        })?;
    let mut looked = Looked {
        packages: locked.len(),
        ..Looked::default()
    };
    let mut told = BTreeSet::new();
    for dependency in report.dependencies {
        match dependency {
            Dependency::Skipped { name, skip_reason } => {
                told.insert(normalised(&name));
                looked.missed.push(Missed {
                    package: normalised(&name),
                    why: skip_reason,
                });
            }
            Dependency::LookedAt {
                name,
                version,
                vulns,
            } => {
                told.insert(normalised(&name));
                looked.findings.extend(vulns.into_iter().map(|one| Finding {
                    package: normalised(&name),
                    version: version.clone(),
                    id: one.id,
                    aliases: one.aliases,
                    fixed_in: one.fix_versions,
                    says: one.description,
                }));
            }
        }
    }
    let untold = locked.keys().filter(|name| !told.contains(*name));
    looked.missed.extend(untold.map(|name| Missed {
        package: name.clone(),
        why: "pip-audit's report does not name it".to_owned(),
    }));
    looked.missed.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(looked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked() -> BTreeMap<String, String> {
        locked_versions("Flask_Login==1 \\\nidna==3.4 \\\nsix==1.16 \\\n")
    }

    #[test]
    fn a_package_that_was_skipped_or_is_not_told_of_was_missed() {
        let report = r#"{"dependencies": [
            {"name": "flask-login", "skip_reason": "not found"},
            {"name": "idna", "version": "3.4", "vulns": [{"id": "PYSEC-2024-60",
             "fix_versions": ["3.7"], "aliases": ["CVE-2024-3651"], "description": "slow"}]}
            ], "fixes": []}"#;
        let looked = read(report, &locked()).unwrap();
        let missed: Vec<(&str, &str)> = looked
            .missed
            .iter()
            .map(|one| (one.package.as_str(), one.why.as_str()))
            .collect();
        assert_eq!(
            missed,
            [
                ("flask-login", "not found"),
                ("six", "pip-audit's report does not name it")
            ]
        );
        assert_eq!(looked.packages, 3);
        assert_eq!(
            looked.findings,
            [Finding {
                package: "idna".to_owned(),
                version: "3.4".to_owned(),
                id: "PYSEC-2024-60".to_owned(),
                aliases: vec!["CVE-2024-3651".to_owned()],
                fixed_in: vec!["3.7".to_owned()],
                says: "slow".to_owned(),
            }]
        );
    }

    #[test]
    fn a_report_of_another_shape_is_an_error() {
        for report in ["{}", "[]", r#"{"dependencies": [{"name": "six"}]}"#] {
            assert!(read(report, &locked()).is_err(), "{report}");
        }
    }

    #[test]
    fn of_a_traceback_the_last_line_is_told() {
        let said = |stderr: &str| Captured {
            stdout: String::new(),
            stderr: stderr.to_owned(),
            code: Some(1),
        };
        let fell = "Traceback (most recent call last):\n  File \"a\"\nOSError: no route\n\n";
        assert_eq!(last_words(said(fell)).stderr, "OSError: no route");
        assert_eq!(last_words(said("two\nlines\n")).stderr, "two\nlines\n");
    }
}
