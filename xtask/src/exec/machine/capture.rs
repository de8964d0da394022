//! Steps whose output is kept: to be read, or to be told where they fail.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::super::signals::{self, Group};
use super::super::ssh;
use super::super::step::Step;
use super::{Machine, cannot_start, child_pid, ended};
use crate::error::Failure;

/// How many of a failed tool's last lines an error repeats.
const LAST_LINES: usize = 15;
/// How long a process group may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// What a captured step left behind.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    /// Standard output, lossily decoded.
    pub(crate) stdout: String,
    /// Standard error, lossily decoded.
    pub(crate) stderr: String,
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
}

impl Captured {
    /// Exit status 0.
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

impl Machine {
    /// Runs a step and keeps what it prints. A non-zero status is not an
    /// error; a program that cannot be started, or a time limit, is.
    pub(crate) fn capture(&self, step: &Step) -> Result<Captured> {
        self.ran(step, Stdio::null(), |_| Ok(()))
    }

    /// The same, with a standard input that `write` fills.
    ///
    /// # Errors
    /// Also where `write` fails though the step succeeds.
    pub(crate) fn feed(
        &self,
        step: &Step,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Captured> {
        self.ran(step, Stdio::piped(), write)
    }

    fn ran(
        &self,
        step: &Step,
        stdin: Stdio,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Captured> {
        self.echo(step);
        let started = Instant::now();
        let mut child = self
            .command(step)?
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_start(step, error))?;
        let group = child_pid(&child)?;
        let _ended_by_interrupt = Group::enter(group);

        let (done, limit_reached) = watch(group, step.time_limit());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let reading = thread::spawn(move || outputs(stdout, stderr));
        // Taken, so that it ends with what is written.
        let written = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| write(&mut stdin));
        let (stdout, stderr) = reading.join().unwrap_or_default();
        let status = child
            .wait()
            .with_context(|| format!("failed to wait for {}", step.program_name()))?;
        drop(done);
        self.verbose(&format!("  {:.2} s", started.elapsed().as_secs_f64()));
        if limit_reached.join().unwrap_or(false) {
            let limit = step.time_limit().unwrap_or_default().as_secs();
            return Err(Failure::tool(format!(
                "failed to {}: {} did not end within {limit} s",
                step.what(),
                step.program_name(),
            ))
            .hint(by_hand(&self.redact(&step.line())))
            .into());
        }
        // A tool that ended early did not read on: its own words say why.
        if status.success() {
            written?;
        }
        Ok(Captured {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code(),
        })
    }

    /// Runs a step and keeps all that it says, both streams as they come together,
    /// without known secrets; and whether it succeeded.
    pub(crate) fn block(&self, step: &Step) -> Result<(String, Result<(), Failure>)> {
        self.echo(step);
        let (mut said, stdout) = std::io::pipe().context("failed to make a pipe")?;
        let stderr = stdout.try_clone().context("failed to share a pipe")?;
        let mut child = self
            .command(step)?
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_start(step, error))?;
        let _ended_by_interrupt = Group::enter(child_pid(&child)?);
        let mut bytes = Vec::new();
        said.read_to_end(&mut bytes)
            .with_context(|| format!("failed to read what {} says", step.program_name()))?;
        let status = child
            .wait()
            .with_context(|| format!("failed to wait for {}", step.program_name()))?;
        let said = self.redact(&String::from_utf8_lossy(&bytes));
        Ok((said, Self::succeeded(step, status)))
    }

    /// Standard output of a step that must succeed, without its last newline.
    pub(crate) fn read(&self, step: &Step) -> Result<String> {
        let captured = self.capture(step)?;
        if captured.ok() {
            Ok(captured.stdout.trim_end_matches('\n').to_owned())
        } else {
            Err(self.failed(step, &captured).into())
        }
    }

    /// Runs a step that must succeed, for what it does.
    pub(crate) fn run(&self, step: &Step) -> Result<()> {
        self.read(step).map(drop)
    }

    /// The error of a captured step that did not succeed, with the tool's last
    /// lines.
    pub(crate) fn failed(&self, step: &Step, captured: &Captured) -> Failure {
        let said = if captured.stderr.trim().is_empty() {
            &captured.stdout
        } else {
            &captured.stderr
        };
        let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = &lines[lines.len().saturating_sub(LAST_LINES)..];
        let unreached = self
            .over
            .as_ref()
            .filter(|_| captured.code == Some(ssh::FAILED));
        let mut message = match unreached {
            Some(ssh) => format!("failed to {}: {} was not reached", step.what(), ssh.name()),
            None => format!(
                "failed to {}: {} {}",
                step.what(),
                step.program_name(),
                ended(captured.code)
            ),
        };
        for line in tail {
            message.push_str("\n  | ");
            message.push_str(&self.redact(line));
        }
        let failure = Failure::tool(message);
        match unreached {
            Some(ssh) => failure.hint(ssh.hint(said)),
            None => failure,
        }
    }
}

/// What a person may try where a step took too long; a script is nothing to paste.
fn by_hand(line: &str) -> String {
    if line.contains('\n') {
        "the machine may be busy: try again; -v shows what runs".to_owned()
    } else {
        format!("try it by hand: {line}")
    }
}

/// Reads both streams at the same time, so that the child never waits on a full
/// pipe.
fn outputs(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> (Vec<u8>, Vec<u8>) {
    let reader = thread::spawn(move || drain(stderr));
    let stdout = drain(stdout);
    (stdout, reader.join().unwrap_or_default())
}

fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).ok();
    }
    bytes
}

/// Ends the group when `limit` passes before the sender is dropped; the thread
/// tells whether it had to.
fn watch(group: Pid, limit: Option<Duration>) -> (mpsc::Sender<()>, thread::JoinHandle<bool>) {
    let (done, waiting) = mpsc::channel::<()>();
    let watcher = thread::spawn(move || {
        let Some(limit) = limit else { return false };
        if waiting.recv_timeout(limit) != Err(mpsc::RecvTimeoutError::Timeout) {
            return false;
        }
        signals::end(group);
        if waiting.recv_timeout(GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signals::kill(group);
        }
        true
    });
    (done, watcher)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::show;
    use crate::exec::Term;
    use xshell::cmd;

    fn machine(folder: &Path) -> Machine {
        Machine::new(folder, Term::new(false)).unwrap()
    }

    #[test]
    fn a_failed_step_says_what_for_and_the_tools_last_lines_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        machine.keep_secret(["hunter2hunter2"]);
        let script = "echo seen >&2; echo password=hunter2hunter2 >&2; exit 3";
        let step = Step::new("try it", cmd!(machine.sh(), "sh -c {script}"));
        let error = machine.read(&step).unwrap_err();
        assert_eq!(
            show(&error).text,
            "error: failed to try it: sh exited with status 3\n  | seen\n  | password=********\n"
        );
    }

    #[test]
    fn a_signal_has_no_exit_status() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let script = "kill -9 $$";
        let step = Step::new("try it", cmd!(machine.sh(), "sh -c {script}"));
        assert_eq!(
            machine.read(&step).unwrap_err().to_string(),
            "failed to try it: sh was ended by a signal"
        );
    }

    #[test]
    fn a_time_limit_ends_the_children_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let script = "(sleep 60; touch late) & wait";
        let step = Step::new("wait", cmd!(machine.sh(), "sh -c {script}"))
            .limit(Duration::from_millis(200));
        let started = Instant::now();
        let error = machine.capture(&step).unwrap_err();
        assert!(error.to_string().contains("did not end within"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn large_outputs_on_both_streams_pass_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let script = "head -c 1048576 /dev/zero >&2; head -c 1048576 /dev/zero";
        let step = Step::new("copy", cmd!(machine.sh(), "sh -c {script}"));
        let captured = machine.capture(&step).unwrap();
        assert_eq!(
            (captured.stdout.len(), captured.stderr.len()),
            (1 << 20, 1 << 20)
        );
    }

    #[test]
    fn a_tool_reads_what_it_is_fed_and_may_end_before() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let much = vec![b'x'; 1 << 20];
        let sh = machine.sh();
        let count = Step::new("count", cmd!(sh, "wc -c"));
        let counted = machine.feed(&count, |to| Ok(to.write_all(&much)?)).unwrap();
        assert_eq!(counted.stdout.trim(), "1048576");
        let script = "echo full >&2; exit 3";
        let ends = Step::new("end", cmd!(sh, "sh -c {script}"));
        let ended = machine.feed(&ends, |to| Ok(to.write_all(&much)?)).unwrap();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), "full\n"));
    }

    #[test]
    fn a_script_is_no_hint() {
        assert_eq!(by_hand("docker ps"), "try it by hand: docker ps");
        assert!(!by_hand("sh -c 'a\nb'").contains("sh -c"));
    }

    #[test]
    fn a_missing_program_points_to_doctor() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let step = Step::new("look", cmd!(machine.sh(), "no-such-program"));
        let shown = show(&machine.capture(&step).unwrap_err());
        assert_eq!(shown.status, 2);
        assert_eq!(
            shown.text,
            "error: failed to look: cannot start no-such-program: No such file or directory \
             (os error 2)\nhint: cargo xtask doctor\n"
        );
    }
}
