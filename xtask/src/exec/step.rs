//! An argv as data, with what it is for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One command that a plan may run. Built from `xshell::cmd!`, so the argv is
/// checked at compile time and never passes through a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    what: String,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    secrets: Vec<(OsString, OsString)>,
    unset: Vec<OsString>,
    folder: PathBuf,
    limit: Option<Duration>,
    terminal: bool,
    packed: bool,
}

impl Step {
    /// `what` completes "failed to …": `"build the image"`.
    pub(crate) fn new(what: impl Into<String>, cmd: xshell::Cmd<'_>) -> Self {
        let command = Command::from(cmd);
        Self {
            what: what.into(),
            program: command.get_program().to_owned(),
            args: command.get_args().map(OsStr::to_owned).collect(),
            env: Vec::new(),
            secrets: Vec::new(),
            unset: Vec::new(),
            folder: command
                .get_current_dir()
                .map_or_else(|| PathBuf::from("."), Path::to_path_buf),
            limit: None,
            terminal: false,
            packed: false,
        }
    }

    /// One more argument.
    #[must_use]
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// An environment variable; shown by `-v`, so never a secret.
    #[must_use]
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Several environment variables; shown by `-v`, so never secrets.
    #[must_use]
    pub(crate) fn envs<N: Into<OsString>, V: Into<OsString>>(
        self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        pairs.into_iter().fold(self, |step, (n, v)| step.env(n, v))
    }

    /// An environment variable that is never shown.
    #[must_use]
    pub(crate) fn secret(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.secrets.push((name.into(), value.into()));
        self
    }

    /// Variables of our own environment that the command shall not see.
    #[must_use]
    pub(crate) fn without<N: Into<OsString>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.unset.extend(names.into_iter().map(Into::into));
        self
    }

    /// How long it may take; then its whole process group is ended.
    #[must_use]
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// It wants a terminal of its own, also on another machine: for a person at both
    /// ends.
    #[must_use]
    pub(crate) fn terminal(mut self, wants: bool) -> Self {
        self.terminal = wants;
        self
    }

    /// What it is fed is much, and packed already: on another machine it gets a
    /// connection of its own, which does not pack it again.
    #[must_use]
    pub(crate) fn packed(mut self, is: bool) -> Self {
        self.packed = is;
        self
    }

    /// The same command for something else: completes "failed to …".
    #[must_use]
    pub(crate) fn named(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// What it is for: completes "failed to …".
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The program's name without its folder, for messages.
    pub(crate) fn program_name(&self) -> String {
        Path::new(&self.program).file_name().map_or_else(
            || self.program.to_string_lossy().into_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// The command as a person would paste it into a shell. Folders are not
    /// part of it: every step runs at the root of the repository.
    pub(crate) fn line(&self) -> String {
        let mut words = Vec::new();
        if !self.unset.is_empty() {
            words.push("env".to_owned());
        }
        for name in &self.unset {
            words.extend(["-u".to_owned(), quote(name)]);
        }
        words.extend(
            self.env
                .iter()
                .map(|(name, value)| format!("{}={}", name.to_string_lossy(), quote(value))),
        );
        words.extend(
            self.secrets
                .iter()
                .map(|(name, _)| format!("{}=********", name.to_string_lossy())),
        );
        words.push(quote(&self.program));
        words.extend(self.args.iter().map(quote));
        words.join(" ")
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for name in &self.unset {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(self.secrets.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder);
        command
    }

    pub(super) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    pub(super) fn wants_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn is_packed(&self) -> bool {
        self.packed
    }

    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.limit
    }
}

/// Quotes one word for a POSIX shell. The one function that does.
pub(crate) fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xshell::{Shell, cmd};

    #[test]
    fn a_step_shows_as_a_line_to_paste() {
        let sh = Shell::new().unwrap();
        let label = "a b";
        let step = Step::new("build", cmd!(sh, "docker build --label {label} ."))
            .env("DOCKER_BUILDKIT", "1")
            .arg("it's")
            .limit(Duration::from_secs(1));
        assert_eq!(
            step.line(),
            r"DOCKER_BUILDKIT=1 docker build --label 'a b' . 'it'\''s'"
        );
    }

    #[test]
    fn quoted_words_survive_a_real_shell() {
        let sh = Shell::new().unwrap();
        for word in [
            "", "a", "a b", "$HOME", "it's", "\"", "a\nb", "*", "\\", "é", "-n",
        ] {
            let script = format!("printf %s {}", quote(word));
            let out = cmd!(sh, "sh -c {script}").quiet().read().unwrap();
            assert_eq!(out, word);
        }
    }
}
