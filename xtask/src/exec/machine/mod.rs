//! Where steps run: this machine, or another over ssh.

mod capture;
mod passage;
mod terminal;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::process::Pid;
use xshell::Shell;

pub(crate) use self::capture::Captured;
pub(crate) use self::passage::Passage;
use super::signals::AtEnd;
use super::ssh::Ssh;
use super::step::Step;
use super::term::Term;
use crate::error::Failure;

/// A machine: runs steps, echoes them where asked, keeps secrets out of what it
/// shows. This one runs them at the root of the repository; another one in the
/// home folder of its user.
#[derive(Debug)]
pub(crate) struct Machine {
    sh: Shell,
    /// How it is reached; `None` is this machine.
    over: Option<Ssh>,
    term: Term,
    secrets: RefCell<Vec<String>>,
    hushed: Cell<bool>,
}

impl Machine {
    /// This machine, whose steps run in `root`.
    pub(crate) fn new(root: &Path, term: Term) -> Result<Self> {
        Self::reached(root, term, None)
    }

    /// Another machine.
    pub(crate) fn over(root: &Path, term: Term, ssh: Ssh) -> Result<Self> {
        Self::reached(root, term, Some(ssh))
    }

    /// The same machine with the same secrets, for another thread.
    pub(crate) fn again(&self) -> Result<Self> {
        let other = Self::reached(&self.root(), self.term.clone(), self.over.clone())?;
        other.secrets.replace(self.secrets.borrow().clone());
        Ok(other)
    }

    fn reached(root: &Path, term: Term, over: Option<Ssh>) -> Result<Self> {
        let sh = Shell::new().context("failed to read the current folder")?;
        sh.change_dir(root);
        Ok(Self {
            sh,
            over,
            term,
            secrets: RefCell::default(),
            hushed: Cell::default(),
        })
    }

    /// The factory of commands for `xshell::cmd!`.
    pub(crate) fn sh(&self) -> &Shell {
        &self.sh
    }

    /// Ends the connection to another machine, so that the next step logs in anew.
    pub(crate) fn log_in_anew(&self) {
        if let Some(ssh) = &self.over {
            ssh.close();
        }
    }

    /// For a tool that calls ssh by itself, as rsync does: ssh's command, and where
    /// to; `None` for this machine.
    pub(crate) fn rsh(&self) -> Option<(String, String)> {
        self.over.as_ref().map(Ssh::rsh)
    }

    /// Where steps run.
    pub(crate) fn root(&self) -> PathBuf {
        self.sh.current_dir()
    }

    /// Of another machine, as deploy.toml calls it; nothing for this one.
    pub(crate) fn name(&self) -> &str {
        self.over.as_ref().map(Ssh::name).unwrap_or_default()
    }

    /// The terminal that talk goes to.
    pub(crate) fn term(&self) -> &Term {
        &self.term
    }

    /// Values that no message may show from now on.
    pub(crate) fn keep_secret<'a>(&self, values: impl IntoIterator<Item = &'a str>) {
        let mut secrets = self.secrets.borrow_mut();
        // A short value would blank out ordinary words.
        secrets.extend(
            values
                .into_iter()
                .filter(|v| v.len() >= 6)
                .map(str::to_owned),
        );
        secrets.sort_by_key(|v| std::cmp::Reverse(v.len()));
        secrets.dedup();
    }

    /// `text` with every known secret replaced.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets
            .borrow()
            .iter()
            .fold(text.to_owned(), |text, secret| {
                text.replace(secret.as_str(), "********")
            })
    }

    /// From here on steps are no longer shown by `-v`, until the guard is dropped:
    /// the tenth time of the same question tells nobody anything.
    pub(crate) fn hush(&self) -> impl Drop {
        self.hushed.set(true);
        Hush(&self.hushed)
    }

    /// Runs steps on this machine when the guard is dropped, or when Ctrl-C ends the
    /// command before; whether they succeed or not.
    pub(crate) fn at_end(&self, steps: Vec<Step>) -> AtEnd {
        let term = self.term.clone();
        AtEnd::of(move || {
            for step in steps {
                term.verbose(&format!("$ {}", step.line()));
                // In a group of its own: another Ctrl-C does not reach it.
                let run = step
                    .command()
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .process_group(0)
                    .status();
                run.ok();
            }
        })
    }

    fn succeeded(step: &Step, status: ExitStatus) -> Result<(), Failure> {
        if status.success() {
            return Ok(());
        }
        Err(Failure::tool(format!(
            "failed to {}: {} {}; its own words stand above",
            step.what(),
            step.program_name(),
            ended(status.code())
        )))
    }

    /// Writes a file as a whole or not at all; `mode` as in chmod.
    /// This machine's files alone.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        if let Some(ssh) = &self.over {
            anyhow::bail!(
                "failed to write {}: {} is another machine",
                path.display(),
                ssh.name()
            );
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".{name}.{}", std::process::id()));
        let written = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&draft)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        written()
            .inspect_err(|_| {
                fs::remove_file(&draft).ok();
            })
            .with_context(|| format!("failed to write {}", path.display()))
    }

    fn command(&self, step: &Step) -> Result<Command> {
        match &self.over {
            None => Ok(step.command()),
            // What follows ssh's options can be read by everybody on both machines.
            Some(_) if step.has_secrets() => Err(anyhow::anyhow!(
                "failed to {}: its secrets would stand on a command line",
                step.what()
            )),
            Some(ssh) if step.is_packed() => Ok(ssh.unpacked(&step.line())),
            Some(ssh) => Ok(ssh.command(&step.line(), step.wants_terminal())),
        }
    }

    fn echo(&self, step: &Step) {
        let there = self.name();
        self.verbose(&format!("{there}$ {}", self.redact(&step.line())));
    }

    fn verbose(&self, line: &str) {
        if !self.hushed.get() {
            self.term.verbose(line);
        }
    }
}

struct Hush<'a>(&'a Cell<bool>);

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// `exited with status 3`, or what a signal did.
fn ended(code: Option<i32>) -> String {
    code.map_or_else(
        || "was ended by a signal".to_owned(),
        |code| format!("exited with status {code}"),
    )
}

fn cannot_start(step: &Step, error: std::io::Error) -> anyhow::Error {
    Failure::user(format!(
        "failed to {}: cannot start {}: {error}",
        step.what(),
        step.program_name()
    ))
    .hint("cargo xtask doctor")
    .into()
}

fn child_pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("failed to read a child's process id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(folder: &Path) -> Machine {
        Machine::new(folder, Term::new(false)).unwrap()
    }

    #[test]
    fn a_written_file_has_its_mode_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let machine = machine(folder.path());
        machine.write(&path, b"one", 0o600).unwrap();
        machine.write(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
