//! Where steps run: this machine, or another over ssh.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Pid;
use xshell::Shell;

use super::signals::{self, AtEnd, Group, OnTerminal};
use super::ssh::{self, Ssh};
use super::step::Step;
use super::term::Term;
use crate::error::Failure;

/// How many of a failed tool's last lines an error repeats.
const LAST_LINES: usize = 15;
/// How long a process group may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How many free ports are tried: another program may take one between the look and
/// the use.
const PORTS: usize = 5;

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

    /// Runs a step whose output is the person's: it owns the terminal, its
    /// standard output stays ours. Gives its exit status.
    ///
    /// # Errors
    /// Where the connection to another machine ended before it did.
    pub(crate) fn hand_over(&self, step: &Step) -> Result<ExitStatus> {
        let status = self.on_terminal(step, Stdio::inherit())?;
        self.still_reached(step, status)
    }

    /// The same, line by line, each with its end: what `shown` makes of it, without
    /// known secrets. Its standard error passes as it is. Its standard input
    /// says nothing and ends with this process, so that a step on another machine can
    /// end with it too.
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

    /// A way to `to`, `address:port` as this machine sees it, by a port of the loopback
    /// where xtask runs: `port`, or one that is free. Another machine's leads through
    /// the shared connection and is taken back when dropped.
    pub(crate) fn reach(&self, to: &str, port: Option<u16>) -> Result<Passage> {
        let Some(ssh) = &self.over else {
            return Ok(Passage {
                address: to.to_owned(),
                _taken_back: None,
            });
        };
        let mut said = String::new();
        for _ in 0..PORTS {
            let own = match port {
                Some(port) => port,
                None => free_port().context("failed to find a free port")?,
            };
            match ssh.forward(own, to) {
                Ok(()) => {
                    let (ssh, to) = (ssh.clone(), to.to_owned());
                    return Ok(Passage {
                        address: format!("127.0.0.1:{own}"),
                        _taken_back: Some(AtEnd::of(move || ssh.cancel(own, &to))),
                    });
                }
                Err(words) => said = words,
            }
            if port.is_some() {
                break;
            }
        }
        let message = format!("failed to reach {to} on {}: {said}", ssh.name());
        Err(Failure::tool(message).hint(ssh.hint(&said)).into())
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

/// A way to a port of a machine, open while it lives.
pub(crate) struct Passage {
    address: String,
    _taken_back: Option<AtEnd>,
}

impl Passage {
    /// `127.0.0.1:8080`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// A port of the loopback that nobody holds at this moment.
fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

struct Hush<'a>(&'a Cell<bool>);

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        self.0.set(false);
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
    use super::*;
    use crate::error::show;
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
