//! `audit.toml`: advisories that are known and may stay, each with its reason and
//! a last day.

use std::fs;

use jiff::civil::Date;
use serde::Deserialize;

use super::{Workspace, deploy};
use crate::error::Failure;

/// The whole file. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allowed {
    /// Each `[[allow]]`, in the order of the file.
    #[serde(default)]
    pub(crate) allow: Vec<Allow>,
}

/// `[[allow]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allow {
    /// The advisory, by any of its names: CVE, GHSA, PYSEC, RUSTSEC.
    pub(crate) id: String,
    /// The package that it is about.
    pub(crate) package: String,
    /// The last day on which it is allowed; after it somebody looks again.
    #[serde(deserialize_with = "deploy::day")]
    pub(crate) until: Date,
    /// Whether what it describes can happen in this set-up.
    pub(crate) reaches: bool,
    /// By what it reaches the set-up, or what shields that.
    pub(crate) reason: String,
}

impl Allowed {
    /// Reads the workspace's `audit.toml`.
    ///
    /// # Errors
    /// A user failure where it is missing, malformed, or an entry has no reason.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self, Failure> {
        let path = workspace.root().join("audit.toml");
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::user(format!("failed to read {}: {error}", path.display()))
                .hint("git checkout audit.toml")
        })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let failed = |why: &str| {
            Failure::user(format!("failed to read audit.toml: {why}"))
                .hint("git diff audit.toml shows what was changed")
        };
        let all: Self = toml::from_str(text).map_err(|error| failed(error.message()))?;
        match all.allow.iter().find(|one| one.reason.trim().is_empty()) {
            Some(one) => Err(failed(&format!(
                "the reason of {} for {} is empty",
                one.id, one.package
            ))),
            None => Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[allow]]\nid = \"CVE-2024-1\"\npackage = \"idna\"\nuntil = \"2027-02-28\"\n\
                       reaches = false\nreason = \"nobody calls it\"\n";

    #[test]
    fn the_repositorys_own_file_is_read_whole() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let allowed = Allowed::read(&Workspace::around(here).unwrap()).unwrap();
        for (n, one) in allowed.allow.iter().enumerate() {
            let same = |other: &Allow| other.id == one.id && other.package == one.package;
            assert!(!allowed.allow[..n].iter().any(same), "{} twice", one.id);
        }
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert_eq!(Allowed::parse("# none\n").unwrap().allow, []);
        assert_eq!(Allowed::parse(ONE).unwrap().allow.len(), 1);
    }

    #[test]
    fn a_key_too_many_or_too_few_and_an_empty_reason_are_errors() {
        for (before, after, said) in [
            ("id =", "idd =", "unknown field `idd`"),
            ("[[allow]]", "[[alow]]", "unknown field `alow`"),
            ("reaches = false\n", "", "missing field `reaches`"),
            (
                "\"2027-02-28\"",
                "\"soon\"",
                "`soon` is no day as 2026-01-31",
            ),
            (
                "nobody calls it",
                " ",
                "the reason of CVE-2024-1 for idna is empty",
            ),
        ] {
            assert!(ONE.contains(before), "{before}");
            let error = Allowed::parse(&ONE.replace(before, after)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
