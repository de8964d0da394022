//! One thing that was looked at, and what mends it.

use serde::Serialize;

use crate::error;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it has to be.
    Pass,
    /// Works, or is not there yet; worth a look.
    Warn,
    /// Has to be mended.
    Fail,
}

/// A check with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at: `port 8080`.
    pub(crate) name: String,
    /// How it came out.
    pub(crate) state: State,
    /// What was found.
    pub(crate) says: String,
    /// The command or change that mends it.
    pub(crate) fix: Option<String>,
}

impl Check {
    /// As it has to be.
    pub(crate) fn pass(name: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Pass,
            says: says.into(),
            fix: None,
        }
    }

    /// Worth a look.
    pub(crate) fn warn(name: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            state: State::Warn,
            ..Self::pass(name, says)
        }
    }

    /// To be mended.
    pub(crate) fn fail(name: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            ..Self::pass(name, says)
        }
    }

    /// What mends it.
    #[must_use]
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A question that could not be answered, with the error's own hint.
    pub(crate) fn unanswered(name: impl Into<String>, why: &anyhow::Error) -> Self {
        let shown = error::show(why).text;
        let shown = shown.trim_start_matches("error: ").trim_end();
        match shown.split_once("\nhint: ") {
            Some((says, hint)) => Self::fail(name, says).fix(hint.replace("\n      ", "\n")),
            None => Self::fail(name, shown),
        }
    }

    /// `name: says`, then the fix; every further line is indented.
    pub(crate) fn lines(&self, indent: &str) -> String {
        let mut text = format!("{}: {}", self.name, self.says);
        for line in self.fix.iter() {
            text.push('\n');
            text.push_str(line);
        }
        text.replace('\n', &format!("\n{indent}"))
    }
}

/// Bytes as a person says them: `11.4 GiB`.
pub(crate) fn gib(bytes: u64) -> String {
    // Tenths, in whole numbers: no float can round a limit away.
    let tenths = bytes.saturating_mul(10) / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn an_error_becomes_a_check_with_its_hint() {
        let error = Failure::user("failed to look").hint("first\nsecond");
        assert_eq!(
            Check::unanswered("bases", &error.into()),
            Check::fail("bases", "failed to look").fix("first\nsecond")
        );
    }

    #[test]
    fn sizes_are_rounded_down() {
        let shown = [0, (1 << 30) - 1, 1 << 30, 12_240_656_794].map(gib);
        assert_eq!(shown, ["0.0 GiB", "0.9 GiB", "1.0 GiB", "11.4 GiB"]);
    }
}
