//! What GitHub Actions shows beside a change: groups in the log, findings at their
//! lines, a table in the run's summary. Elsewhere nothing of it.
//!
//! <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>

use anyhow::Result;

use super::outcome::Outcome;
use crate::commands::summary;
use crate::config::environment;
use crate::exec::millis;

/// A title and the words under it, for a part that has passed.
pub(super) fn passed(title: &str, said: &str) -> String {
    if environment::github_actions() {
        format!("::group::{title}\n{said}\n::endgroup::")
    } else {
        format!("\n{title}\n{said}").trim_end().to_owned()
    }
}

/// The words of what has failed.
pub(super) fn failed(title: &str, said: &str) -> String {
    if environment::github_actions() {
        annotated(title, said)
    } else {
        said.to_owned()
    }
}

/// A tool's command, for one that has a way of its own to speak to GitHub and none in
/// which a place and its words stand on one line.
pub(super) fn spoken(command: &[&'static str]) -> Vec<&'static str> {
    let own: &[&str] = match command.first() {
        Some(&"sqlfluff") if environment::github_actions() => {
            &["--format", "github-annotation-native"]
        }
        _ => &[],
    };
    [command, own].concat()
}

/// A table for the summary of the run.
pub(super) fn summary(outcome: &Outcome) -> Result<()> {
    summary::append(&table(outcome))
}

fn table(outcome: &Outcome) -> String {
    let mut text = String::from("| part | | |\n|---|---|---|\n");
    for done in &outcome.done {
        let word = if done.passed { "passed" } else { "**failed**" };
        text += &format!("| {} | {word} | {} |\n", done.what, millis(done.took));
    }
    for what in &outcome.left_out {
        text += &format!("| {what} | left out | |\n");
    }
    text
}

/// With its findings at their lines, or else its last words.
fn annotated(title: &str, said: &str) -> String {
    let mut text = said.to_owned();
    let mut before = "";
    let mut found = false;
    for line in said.lines() {
        if let Some(finding) = Finding::of(line, before) {
            text += &format!("\n{}", finding.command());
            found = true;
        }
        before = line;
    }
    if !found {
        let last = said.lines().last().unwrap_or_default();
        text += &format!("\n::error title={}::{}", property(title), message(last));
    }
    text
}

/// A tool's word about a line of a file.
#[derive(Debug, PartialEq, Eq)]
struct Finding<'a> {
    level: &'static str,
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    words: &'a str,
}

impl<'a> Finding<'a> {
    /// Of one line, in any of the ways in which the tools of this pipeline write:
    /// `file:1:2: words` (ruff, shellcheck, hadolint), `--> file:1:2` under the words
    /// (rustc), `FAILED file::test - words` (pytest).
    fn of(line: &'a str, before: &'a str) -> Option<Self> {
        if let Some(place) = line.trim_start().strip_prefix("--> ") {
            let (file, line, column, _) = placed(place)?;
            return Some(Self::new(file, line, column, before));
        }
        if let Some(rest) = line.strip_prefix("FAILED ") {
            let (file, _) = rest.split_once("::")?;
            return Some(Self {
                level: "error",
                file,
                line: None,
                column: None,
                words: rest,
            });
        }
        // GNU's way has the tool's own name before the place.
        let line = line.strip_prefix("hadolint:").unwrap_or(line);
        let (file, line, column, words) = placed(line)?;
        (!words.is_empty()).then(|| Self::new(file, line, column, words))
    }

    fn new(file: &'a str, line: u32, column: Option<u32>, words: &'a str) -> Self {
        let level = match words {
            _ if words.starts_with("warning") => "warning",
            _ if words.starts_with("note") || words.starts_with("info") => "notice",
            _ => "error",
        };
        Self {
            level,
            file,
            line: Some(line),
            column,
            words,
        }
    }

    fn command(&self) -> String {
        let mut text = format!("::{} file={}", self.level, property(self.file));
        if let Some(line) = self.line {
            text += &format!(",line={line}");
        }
        if let Some(column) = self.column {
            text += &format!(",col={column}");
        }
        text + "::" + &message(self.words)
    }
}

/// `file:line:column: words`, column and words where they are there.
fn placed(text: &str) -> Option<(&str, u32, Option<u32>, &str)> {
    let (file, rest) = text.split_once(':')?;
    // A time of day, or a sentence.
    if file.is_empty() || file.contains(char::is_whitespace) || !file.contains(['.', '/']) {
        return None;
    }
    let (line, rest) = rest.split_once(':').unwrap_or((rest, ""));
    let line = line.trim().parse().ok()?;
    let (column, words) = match rest.split_once(':') {
        Some((column, words)) if column.trim().parse::<u32>().is_ok() => {
            (column.trim().parse().ok(), words)
        }
        _ => match rest.trim().parse() {
            Ok(column) => (Some(column), ""),
            Err(_) => (None, rest),
        },
    };
    Some((file, line, column, words.trim()))
}

fn message(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::outcome::Done;
    use super::*;

    #[test]
    fn findings_stand_at_their_lines_however_a_tool_writes_them() {
        for (line, before, command) in [
            (
                "dags/a.py:3:7: F401 `os` imported but unused",
                "",
                "::error file=dags/a.py,line=3,col=7::F401 `os` imported but unused",
            ),
            (
                "x/deploy.sh:128:5: warning: serving appears unused. [SC2034]",
                "",
                "::warning file=x/deploy.sh,line=128,col=5::warning: serving appears unused. [SC2034]",
            ),
            (
                "hadolint:Dockerfile.airflow:36: DL4006 warning: 100 % of a, b",
                "",
                "::error file=Dockerfile.airflow,line=36::DL4006 warning: 100 %25 of a, b",
            ),
            (
                "   --> xtask/src/main.rs:9:1",
                "warning: unused import",
                "::warning file=xtask/src/main.rs,line=9,col=1::warning: unused import",
            ),
            (
                "FAILED etl_pipeline/tests/test_a.py::test_b - assert 1 == 2",
                "",
                "::error file=etl_pipeline/tests/test_a.py::etl_pipeline/tests/test_a.py::test_b - assert 1 == 2",
            ),
        ] {
            let finding = Finding::of(line, before).unwrap();
            assert_eq!(finding.command(), command);
        }
        for line in [
            "",
            "error: failed to pass lint: docker exited with status 1",
            "12:30:01 a time of day",
            "see docs/a.md: it says more",
            "http://localhost:8080: no",
        ] {
            assert_eq!(Finding::of(line, ""), None, "{line}");
        }
    }

    #[test]
    fn what_failed_without_a_place_has_its_last_words() {
        assert_eq!(
            annotated("deploy, data: all", "one\ntwo"),
            "one\ntwo\n::error title=deploy%2C data%3A all::two"
        );
        assert_eq!(
            annotated("lint", "a.py:3:7: F401 unused\nfound 1"),
            "a.py:3:7: F401 unused\nfound 1\n::error file=a.py,line=3,col=7::F401 unused"
        );
    }

    #[test]
    fn the_summary_has_a_line_for_each_part() {
        let done = |what: &str, passed| Done {
            what: what.into(),
            took: Duration::from_secs(61),
            passed,
        };
        let outcome = Outcome {
            done: vec![done("locks", true), done("one night", false)],
            left_out: vec!["hosts: there are no images".into()],
        };
        assert_eq!(
            table(&outcome),
            "| part | | |\n|---|---|---|\n\
             | locks | passed | 1 min 1 s |\n\
             | one night | **failed** | 1 min 1 s |\n\
             | hosts: there are no images | left out | |\n"
        );
    }
}
