//! Findings held against what is allowed.

use jiff::civil::Date;
use serde::Serialize;

use super::finding::Finding;
use crate::config::Allow;
use crate::image::normalised;

/// Whether a finding may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// With a reason, and its last day has not passed.
    Allowed,
    /// With a reason, whose last day has passed.
    Expired,
    /// No entry names it.
    NotAllowed,
}

/// A finding and the entry that names it.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    /// What was found.
    pub(crate) finding: &'a Finding,
    /// Of several entries, the one with the latest day.
    pub(crate) by: Option<&'a Allow>,
    /// What follows.
    pub(crate) verdict: Verdict,
}

/// Holds each finding against the entries, as of `today`.
pub(crate) fn judge<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    allowed: &'a [Allow],
    today: Date,
) -> Vec<Judged<'a>> {
    let one = |finding: &'a Finding| {
        let entries = allowed.iter().filter(|entry| names(entry, finding));
        let by = entries.max_by_key(|entry| entry.until);
        let verdict = match by {
            None => Verdict::NotAllowed,
            Some(entry) if entry.until < today => Verdict::Expired,
            Some(_) => Verdict::Allowed,
        };
        Judged {
            finding,
            by,
            verdict,
        }
    };
    findings.into_iter().map(one).collect()
}

/// The entries that name none of the findings.
pub(crate) fn unused<'a>(allowed: &'a [Allow], findings: &[&Finding]) -> Vec<&'a Allow> {
    let is_used = |entry: &&Allow| findings.iter().any(|finding| names(entry, finding));
    allowed.iter().filter(|entry| !is_used(entry)).collect()
}

/// By name and package: an advisory may be about several packages, each of which
/// is reached or shielded in its own way.
fn names(entry: &Allow, finding: &Finding) -> bool {
    finding.is(&entry.id) && normalised(&entry.package) == normalised(&finding.package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, package: &str, until: &str) -> Allow {
        Allow {
            id: id.to_owned(),
            package: package.to_owned(),
            until: until.parse().unwrap(),
            reaches: false,
            reason: "because".to_owned(),
        }
    }

    fn finding() -> Finding {
        Finding {
            package: "flask_login".to_owned(),
            version: "1".to_owned(),
            id: "PYSEC-1".to_owned(),
            aliases: vec!["CVE-1".to_owned(), "GHSA-1".to_owned()],
            fixed_in: Vec::new(),
            says: String::new(),
        }
    }

    fn verdict(allowed: &[Allow], today: &str) -> Verdict {
        judge([&finding()], allowed, today.parse().unwrap())[0].verdict
    }

    #[test]
    fn an_entry_names_a_finding_by_any_of_its_ids_and_its_package() {
        for id in ["PYSEC-1", "CVE-1", "GHSA-1"] {
            let allowed = [entry(id, "Flask_Login", "2027-02-28")];
            assert_eq!(verdict(&allowed, "2026-11-23"), Verdict::Allowed, "{id}");
            assert_eq!(unused(&allowed, &[&finding()]), Vec::<&Allow>::new());
        }
        for (id, package) in [("CVE-2", "flask-login"), ("CVE-1", "flask")] {
            let allowed = [entry(id, package, "2027-02-28")];
            assert_eq!(verdict(&allowed, "2026-11-23"), Verdict::NotAllowed, "{id}");
            assert_eq!(unused(&allowed, &[&finding()]), [&allowed[0]]);
        }
    }

    #[test]
    fn an_entry_holds_through_its_last_day_and_the_latest_one_counts() {
        let early = entry("CVE-1", "flask-login", "2027-02-28");
        assert_eq!(
            verdict(std::slice::from_ref(&early), "2027-02-28"),
            Verdict::Allowed
        );
        assert_eq!(
            verdict(std::slice::from_ref(&early), "2027-03-01"),
            Verdict::Expired
        );
        let both = [entry("GHSA-1", "flask-login", "2027-05-31"), early];
        assert_eq!(verdict(&both, "2027-03-01"), Verdict::Allowed);
        assert_eq!(unused(&both, &[&finding()]), Vec::<&Allow>::new());
        assert_eq!(verdict(&[], "2027-03-01"), Verdict::NotAllowed);
    }
}
