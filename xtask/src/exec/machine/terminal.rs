//! Steps whose output is the person's, as it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};

use anyhow::{Context, Result};

use super::super::signals::{self, Client, Group, OnTerminal};
use super::super::ssh;
use super::super::step::Step;
use super::{Machine, cannot_start, child_pid};
use crate::error::Failure;

impl Machine {
    /// Runs a step whose output is the person's: it owns the terminal, its
    /// standard output stays ours. Gives its exit status.
    ///
    /// # Errors
    /// Where the connection to another machine ended before it did.
    pub(crate) fn hand_over(&self, step: &Step) -> Result<ExitStatus> {
        let status = self.on_terminal(step, Stdio::inherit())?;
        self.still_reached(step, status)
    }

    /// The same of a client without a terminal, as `docker exec` is: what it has started
    /// elsewhere does not end with it. Where a signal ends this program, `stop` ends that.
    pub(crate) fn hand_over_client(&self, step: &Step, stop: &Step) -> Result<ExitStatus> {
        let owner = OnTerminal::enter();
        let mut child = self.spawn(step, Stdio::inherit(), Stdio::inherit())?;
        let client = child_pid(&child).map(Client::enter);
        let status = self.wait(&mut child, step, owner)?;
        drop(client);
        if signals::met() {
            // Whoever ended us waits for nothing; what is left is left.
            self.capture(stop).ok();
        }
        self.still_reached(step, status)
    }

    /// The same as [`Self::hand_over`], line by line, each with its end: what `shown`
    /// makes of it, without known secrets. Its standard error passes as it is. Its
    /// standard input says nothing and ends with this process, so that a step on another
    /// machine can end with it too.
    pub(crate) fn hand_over_lines(
        &self,
        step: &Step,
        shown: impl Fn(&str) -> Option<&str>,
    ) -> Result<ExitStatus> {
        let owner = OnTerminal::enter();
        self.echo(step);
        let mut child = self
            .command(step)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| cannot_start(step, error))?;
        let held = child.stdin.take();
        self.pass_on(child.stdout.take(), std::io::stdout(), &shown);
        let status = self.wait(&mut child, step, owner)?;
        drop(held);
        self.still_reached(step, status)
    }

    /// Whether the connection held to the step's end.
    fn still_reached(&self, step: &Step, status: ExitStatus) -> Result<ExitStatus> {
        match &self.over {
            Some(ssh) if status.code() == Some(ssh::FAILED) => {
                let message = format!(
                    "failed to {}: the connection to {} ended",
                    step.what(),
                    ssh.name()
                );
                Err(Failure::tool(message).hint(ssh.hint("")).into())
            }
            _ => Ok(status),
        }
    }

    /// Runs a step and hands on each line of its standard output as it comes,
    /// without its end. Gives its exit status; `None` where a signal ended it.
    pub(crate) fn follow(&self, step: &Step, mut each: impl FnMut(&str)) -> Result<Option<i32>> {
        self.echo(step);
        let mut child = self
            .command(step)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_start(step, error))?;
        let _ended_by_interrupt = Group::enter(child_pid(&child)?);
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                match line {
                    Ok(line) => each(&self.redact(&line)),
                    Err(_) => break,
                }
            }
        }
        let status = child
            .wait()
            .with_context(|| format!("failed to wait for {}", step.program_name()))?;
        Ok(status.code())
    }

    /// Runs a step that must succeed and whose output is talk: all of it goes
    /// to standard error, live.
    pub(crate) fn show(&self, step: &Step) -> Result<()> {
        let stderr = std::io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .context("failed to share standard error")?;
        let status = self.on_terminal(step, Stdio::from(stderr))?;
        Ok(Self::succeeded(step, status)?)
    }

    /// The same, without the lines of its standard error that `keep` turns down.
    pub(crate) fn show_lines(&self, step: &Step, keep: impl Fn(&str) -> bool) -> Result<()> {
        let stderr = std::io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .context("failed to share standard error")?;
        let owner = OnTerminal::enter();
        let mut child = self.spawn(step, Stdio::from(stderr), Stdio::piped())?;
        self.pass_on(child.stderr.take(), std::io::stderr(), &|line| {
            keep(line.trim_end()).then_some(line)
        });
        let status = self.wait(&mut child, step, owner)?;
        Ok(Self::succeeded(step, status)?)
    }

    fn on_terminal(&self, step: &Step, stdout: Stdio) -> Result<ExitStatus> {
        let owner = OnTerminal::enter();
        let mut child = self.spawn(step, stdout, Stdio::inherit())?;
        self.wait(&mut child, step, owner)
    }

    fn wait(&self, child: &mut Child, step: &Step, owner: OnTerminal) -> Result<ExitStatus> {
        let status = child
            .wait()
            .with_context(|| format!("failed to wait for {}", step.program_name()))?;
        Ok(owner.leave(status, self.over.is_some()))
    }

    fn spawn(&self, step: &Step, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        self.echo(step);
        let mut command = self.command(step)?;
        command.stdout(stdout).stderr(stderr);
        command.spawn().map_err(|error| cannot_start(step, error))
    }

    /// Copies lines until the pipe ends or nobody reads on.
    fn pass_on(
        &self,
        pipe: Option<impl Read>,
        mut to: impl Write,
        shown: &impl Fn(&str) -> Option<&str>,
    ) {
        let Some(pipe) = pipe else { return };
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            let passed = shown(&text).is_none_or(|text| {
                let text = self.redact(text);
                to.write_all(text.as_bytes())
                    .and_then(|()| to.flush())
                    .is_ok()
            });
            if !passed {
                return;
            }
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::exec::Term;

    fn machine(folder: &Path) -> Machine {
        Machine::new(folder, Term::new(false)).unwrap()
    }

    #[test]
    fn lines_pass_as_they_come_but_for_those_turned_down() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        machine.keep_secret(["hunter2hunter2"]);
        let mut passed = Vec::new();
        let said: &[u8] = b"one\nnoise 1\nhunter2hunter2\r\nlast";
        machine.pass_on(Some(said), &mut passed, &|line| {
            (!line.starts_with("noise")).then_some(line)
        });
        assert_eq!(String::from_utf8_lossy(&passed), "one\n********\r\nlast");
    }
}
