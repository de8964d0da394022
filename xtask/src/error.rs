//! Failures that a person reads: what was being done, then how to mend it.

use std::fmt;

/// What kind of failure it was; it decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something the person can mend before we start: exit status 2.
    User,
    /// A tool or a service failed: exit status 1.
    Tool,
}

/// A failure with the command that mends it.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<anyhow::Error>,
}

impl Failure {
    /// A mistake in what a person wrote or has; lowercase fragment.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::User,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// A tool or service that failed; lowercase fragment.
    pub(crate) fn tool(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Tool,
            ..Self::user(message)
        }
    }

    /// The command or change that mends it, printed on a `hint:` line.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it is the person's to mend.
    pub(crate) fn is_user(&self) -> bool {
        self.kind == Kind::User
    }

    /// The error below this one.
    #[must_use]
    pub(crate) fn because(mut self, source: anyhow::Error) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(AsRef::as_ref)
    }
}

/// How an error is shown: its chain as one line, then its hint, and the exit
/// status of the process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `error: …` and, where there is one, `hint: …`; ends with a newline.
    pub(crate) text: String,
    /// 2 for a person's mistake, 1 for all else.
    pub(crate) status: u8,
}

/// Renders `error` for the terminal.
pub(crate) fn show(error: &anyhow::Error) -> Shown {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let failures = || error.chain().filter_map(|e| e.downcast_ref::<Failure>());
    let status = match failures().next().map(|f| f.kind) {
        Some(Kind::User) => 2,
        Some(Kind::Tool) | None => 1,
    };
    let mut text = format!("error: {}\n", chain.join(": "));
    if let Some(hint) = failures().find_map(|f| f.hint.as_deref()) {
        for (n, line) in hint.lines().enumerate() {
            let lead = if n == 0 { "hint: " } else { "      " };
            text.push_str(&format!("{lead}{line}\n"));
        }
    }
    Shown { text, status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_chain_then_the_outermost_hint() {
        let inner = anyhow::Error::new(Failure::user("no such file").hint("create it"));
        let error = anyhow::Error::new(
            Failure::tool("failed to read .env")
                .hint("cargo xtask env")
                .because(inner),
        );
        assert_eq!(
            show(&error),
            Shown {
                text: "error: failed to read .env: no such file\nhint: cargo xtask env\n".into(),
                status: 1
            }
        );
    }

    #[test]
    fn a_plain_error_has_status_one_and_no_hint() {
        let error = anyhow::anyhow!("inner").context("failed to build");
        assert_eq!(
            show(&error),
            Shown {
                text: "error: failed to build: inner\n".into(),
                status: 1
            }
        );
    }

    #[test]
    fn a_users_mistake_keeps_its_status_under_context() {
        let error = anyhow::Error::new(Failure::user("bad key").hint("mend\nit")).context("doing");
        assert_eq!(
            show(&error),
            Shown {
                text: "error: doing: bad key\nhint: mend\n      it\n".into(),
                status: 2
            }
        );
    }
}
