//! The Rust half: cargo-audit, which holds `Cargo.lock` against RustSec's
//! database.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;
use xshell::cmd;

use super::finding::{Finding, Looked};
use crate::error::Failure;
use crate::exec::{Machine, Step};

/// cargo-audit, ready to be run.
#[derive(Debug)]
pub(crate) struct Crates<'a> {
    machine: &'a Machine,
}

impl<'a> Crates<'a> {
    /// # Errors
    /// A user failure where it is not on PATH.
    pub(crate) fn find(machine: &'a Machine) -> Result<Self> {
        match which::which("cargo-audit") {
            Ok(_) => Ok(Self { machine }),
            Err(_) => Err(Failure::user("failed to find cargo-audit on PATH")
                .hint("cargo install cargo-audit --locked")
                .into()),
        }
    }

    /// Asking.
    pub(crate) fn step(&self) -> Step {
        Step::new(
            "ask for advisories about the crates",
            // A yanked version is no advisory, and where the index of crates
            // cannot be asked cargo-audit says nothing about it.
            cmd!(
                self.machine.sh(),
                "cargo-audit audit --json --no-yanked --file Cargo.lock"
            ),
        )
    }

    /// Asks about every crate of the lock.
    ///
    /// # Errors
    /// Where the database cannot be fetched or holds nothing, or cargo-audit's
    /// own settings leave out a part.
    pub(crate) fn look(&self) -> Result<Looked> {
        let step = self.step();
        let said = self.machine.capture(&step)?;
        // As pip-audit's, its 1 has two meanings.
        if !matches!(said.code, Some(0 | 1)) || said.stdout.trim().is_empty() {
            return Err(self
                .machine
                .failed(&step, &said)
                .hint("it fetches its database by git; try it by hand: cargo audit")
                .into());
        }
        read(&said.stdout)
    }
}

/// `cargo audit --json`.
#[derive(Debug, Deserialize)]
struct Report {
    database: Database,
    lockfile: Lockfile,
    settings: Settings,
    vulnerabilities: Vulnerabilities,
    /// By kind: unmaintained, unsound, notice.
    warnings: BTreeMap<String, Vec<Hit>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Database {
    advisory_count: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lockfile {
    dependency_count: usize,
}

/// What a person may have set in cargo-audit's own file.
#[derive(Debug, Deserialize)]
struct Settings {
    ignore: Vec<String>,
    severity: Option<String>,
    target_arch: Vec<String>,
    target_os: Vec<String>,
}

impl Settings {
    fn leaves_out(&self) -> Option<String> {
        let lists = [
            ("ignore", &self.ignore),
            ("target arch", &self.target_arch),
            ("target os", &self.target_os),
        ];
        let set = |(name, list): (&str, &Vec<String>)| {
            (!list.is_empty()).then(|| format!("{name}: {}", list.join(", ")))
        };
        let severity = self.severity.as_ref();
        severity
            .map(|least| format!("severity below {least}"))
            .or_else(|| lists.into_iter().find_map(set))
    }
}

#[derive(Debug, Deserialize)]
struct Vulnerabilities {
    list: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    /// A yanked crate has none.
    advisory: Option<Advisory>,
    versions: Option<Versions>,
    package: Package,
}

#[derive(Debug, Deserialize)]
struct Advisory {
    id: String,
    title: String,
    aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Versions {
    patched: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
}

fn read(report: &str) -> Result<Looked> {
    let report: Report = serde_json::from_str(report)
        .map_err(anyhow::Error::new)
        .map_err(|error| {
            Failure::tool("failed to read cargo-audit's report")
                .hint("cargo install cargo-audit --locked brings the current one")
                .because(error)
        })?;
    if report.database.advisory_count == 0 {
        return Err(Failure::tool(
            "failed to ask for advisories about the crates: cargo-audit's database holds none",
        )
        .hint("remove it, so that it is fetched again: rm -r ~/.cargo/advisory-db")
        .into());
    }
    if let Some(part) = report.settings.leaves_out() {
        return Err(Failure::user(format!(
            "failed to ask for all advisories about the crates: cargo-audit's own settings leave \
             out a part ({part})"
        ))
        .hint("remove that from .cargo/audit.toml or ~/.cargo/audit.toml; what may stay is in audit.toml")
        .into());
    }
    let warnings = report.warnings.into_values().flatten();
    let hits = report.vulnerabilities.list.into_iter().chain(warnings);
    Ok(Looked {
        packages: report.lockfile.dependency_count,
        missed: Vec::new(),
        findings: hits.filter_map(finding).collect(),
    })
}

fn finding(hit: Hit) -> Option<Finding> {
    let advisory = hit.advisory?;
    Some(Finding {
        package: hit.package.name,
        version: hit.package.version,
        id: advisory.id,
        aliases: advisory.aliases,
        fixed_in: hit.versions.map(|v| v.patched).unwrap_or_default(),
        says: advisory.title,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(database: usize, settings: &str) -> String {
        let hit = |id: &str| {
            format!(
                r#"{{"kind": "unsound", "advisory": {{"id": "{id}", "title": "t", "aliases": ["CVE-1"]}},
                "versions": {{"patched": [">=0.3.1"], "unaffected": []}},
                "package": {{"name": "ansi_term", "version": "0.3.0"}}}}"#
            )
        };
        let nothing = r#""ignore": [], "severity": null, "target_arch": [], "target_os": []"#;
        let settings = if settings.is_empty() {
            nothing
        } else {
            settings
        };
        format!(
            r#"{{"database": {{"advisory-count": {database}, "last-commit": null}},
            "lockfile": {{"dependency-count": 127}}, "settings": {{{settings}}},
            "vulnerabilities": {{"found": true, "count": 1, "list": [{}]}},
            "warnings": {{"unsound": [{}], "yanked": [{{"advisory": null, "versions": null,
            "package": {{"name": "a", "version": "1"}}}}]}}}}"#,
            hit("RUSTSEC-1"),
            hit("RUSTSEC-2")
        )
    }

    #[test]
    fn advisories_that_only_warn_are_findings_as_well() {
        let looked = read(&report(900, "")).unwrap();
        let ids: Vec<&str> = looked.findings.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["RUSTSEC-1", "RUSTSEC-2"]);
        assert_eq!((looked.packages, looked.missed.len()), (127, 0));
        assert_eq!(looked.findings[0].package, "ansi_term");
        assert_eq!(looked.findings[0].fixed_in, [">=0.3.1"]);
    }

    #[test]
    fn an_empty_database_and_settings_that_leave_something_out_are_errors() {
        for (database, settings, said) in [
            (
                0,
                "",
                "failed to ask for advisories about the crates: cargo-audit's database holds none",
            ),
            (
                9,
                r#""ignore": ["RUSTSEC-1"], "severity": null, "target_arch": [], "target_os": []"#,
                "failed to ask for all advisories about the crates: cargo-audit's own settings leave out \
                 a part (ignore: RUSTSEC-1)",
            ),
            (
                9,
                r#""ignore": [], "severity": "high", "target_arch": [], "target_os": []"#,
                "(severity below high)",
            ),
            (
                9,
                r#""ignore": [], "severity": null, "target_arch": [], "target_os": ["linux"]"#,
                "(target os: linux)",
            ),
        ] {
            let error = read(&report(database, settings)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
