//! What Ctrl-C means while a tool runs.
//!
//! A captured tool runs in a process group of its own, which the terminal does
//! not reach: it is ended from here. A tool that owns the terminal is reached
//! by the terminal itself, and is given the time to end well.

use std::io::{IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static CLIENTS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static ON_TERMINAL: AtomicUsize = AtomicUsize::new(0);

/// How often Ctrl-C was met.
static MET: AtomicUsize = AtomicUsize::new(0);
/// A tool may have been ended by somebody else's SIGINT, which we never meet.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

type Deed = Box<dyn FnOnce() + Send>;
static AT_END: Mutex<Vec<(usize, Deed)>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);

static LAST_WORD: Mutex<Option<String>> = Mutex::new(None);
static INTERRUPTED_AT: Mutex<Option<String>> = Mutex::new(None);

/// The status that shells give a program ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Installs the handler. Called once, at start.
pub(crate) fn forward_interrupts() -> anyhow::Result<()> {
    // It runs on a thread that waits for signals, not in a signal handler: it
    // may lock and print.
    ctrlc::set_handler(|| {
        let ends = ON_TERMINAL.load(Ordering::SeqCst) == 0;
        let word = LAST_WORD.lock().ok().and_then(|word| word.clone());
        // Kept to the end, so that nothing is drawn below the last word.
        let _silence = match &word {
            Some(word) if ends => Some(say_last(word)),
            _ => None,
        };
        if let Ok(mut at) = INTERRUPTED_AT.lock() {
            *at = word;
        }
        if let Ok(groups) = GROUPS.lock() {
            for group in groups.iter() {
                end(*group);
            }
        }
        MET.fetch_add(1, Ordering::SeqCst);
        if let Ok(clients) = CLIENTS.lock() {
            for client in clients.iter() {
                kill_process(*client, Signal::TERM).ok();
            }
        }
        if ends {
            // Held to the exit: the command that was interrupted waits for it where it
            // drops what has a deed, and does not end this process in the middle of one.
            let mut left = AT_END.lock();
            if let Ok(left) = &mut left {
                for (_, deed) in left.drain(..) {
                    deed();
                }
            }
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    Ok(())
}

/// The last word of the command that Ctrl-C met while a tool owned the
/// terminal; for where that tool's end became the command's.
pub(crate) fn interrupted() -> Option<String> {
    INTERRUPTED_AT.lock().ok().and_then(|mut at| at.take())
}

/// Whether Ctrl-C was met: what has not begun by now is not wanted any more.
pub(crate) fn met() -> bool {
    MET.load(Ordering::SeqCst) > 0
}

fn say_last(word: &str) -> std::io::StderrLock<'static> {
    let mut out = std::io::stderr().lock();
    if out.is_terminal() {
        // Over the `^C`, and whatever line was moving there.
        write!(out, "\r\x1b[2K").ok();
    }
    writeln!(out, "{word}").ok();
    out
}

/// While it lives, a command that Ctrl-C ends says this: what goes on without
/// it, and how to come back.
#[must_use]
pub(crate) struct LastWord(());

impl LastWord {
    pub(crate) fn set(word: impl Into<String>) -> Self {
        Self::replace(Some(word.into()));
        Self(())
    }

    fn replace(word: Option<String>) {
        if let Ok(mut last) = LAST_WORD.lock() {
            *last = word;
        }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        Self::replace(None);
    }
}

/// Does something when it is dropped, or when Ctrl-C ends the command before.
#[must_use]
#[derive(Debug)]
pub(crate) struct AtEnd(usize);

impl AtEnd {
    pub(super) fn of(deed: impl FnOnce() + Send + 'static) -> Self {
        let id = NEXT.fetch_add(1, Ordering::SeqCst);
        if let Ok(mut all) = AT_END.lock() {
            all.push((id, Box::new(deed)));
        }
        Self(id)
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        let own = AT_END.lock().ok().and_then(|mut all| {
            let at = all.iter().position(|(id, _)| *id == self.0)?;
            Some(all.remove(at).1)
        });
        if let Some(deed) = own {
            deed();
        }
    }
}

/// Ends a process group; one that is gone already is no error.
pub(super) fn end(group: Pid) {
    kill_process_group(group, Signal::TERM).ok();
}

/// Kills a process group that did not end when asked.
pub(super) fn kill(group: Pid) {
    kill_process_group(group, Signal::KILL).ok();
}

/// While it lives, Ctrl-C ends this process group.
pub(super) struct Group(Pid);

impl Group {
    pub(super) fn enter(pid: Pid) -> Self {
        if let Ok(mut groups) = GROUPS.lock() {
            groups.push(pid);
        }
        Self(pid)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(mut groups) = GROUPS.lock() {
            groups.retain(|pid| *pid != self.0);
        }
    }
}

/// While it lives, a signal that meets this program ends that one: a client without a
/// terminal, which no Ctrl-C may reach.
pub(super) struct Client(Pid);

impl Client {
    pub(super) fn enter(pid: Pid) -> Self {
        if let Ok(mut clients) = CLIENTS.lock() {
            clients.push(pid);
        }
        if met() {
            kill_process(pid, Signal::TERM).ok();
        }
        Self(pid)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Ok(mut clients) = CLIENTS.lock() {
            clients.retain(|pid| *pid != self.0);
        }
    }
}

/// While it lives, Ctrl-C is the tool's own business.
pub(super) struct OnTerminal {
    /// How often Ctrl-C was met before.
    met: usize,
}

impl OnTerminal {
    pub(super) fn enter() -> Self {
        ON_TERMINAL.fetch_add(1, Ordering::SeqCst);
        Self {
            met: MET.load(Ordering::SeqCst),
        }
    }

    /// The tool has ended. Where Ctrl-C ended it, it met us too, and may not have
    /// been told to us yet: the command's end waits for that. ssh gives Ctrl-C the
    /// status of a connection that failed, or dies of it; both become that of Ctrl-C.
    pub(super) fn leave(self, status: ExitStatus, over_ssh: bool) -> ExitStatus {
        let by_signal = status.signal() == Some(Signal::INT.as_raw());
        let by_ssh = over_ssh && (by_signal || status.code() == Some(super::ssh::FAILED));
        let by_interrupt = by_signal || by_ssh || status.code() == Some(INTERRUPTED.into());
        let started = Instant::now();
        while by_interrupt
            && MET.load(Ordering::SeqCst) == self.met
            && started.elapsed() < TOLD_WITHIN
        {
            thread::sleep(Duration::from_millis(1));
        }
        match by_ssh && MET.load(Ordering::SeqCst) != self.met {
            true => ExitStatus::from_raw(i32::from(INTERRUPTED) << 8),
            false => status,
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        ON_TERMINAL.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_ssh_tells_of_ctrl_c_it_is_ctrl_c() {
        let by_signal = ExitStatus::from_raw(Signal::INT.as_raw());
        let failed = ExitStatus::from_raw(super::super::ssh::FAILED << 8);
        let three = ExitStatus::from_raw(3 << 8);
        for (status, over_ssh, code) in [
            (by_signal, true, Some(130)),
            (failed, true, Some(130)),
            (three, true, Some(3)),
            (by_signal, false, None),
            (failed, false, Some(255)),
        ] {
            let owner = OnTerminal::enter();
            MET.fetch_add(1, Ordering::SeqCst);
            assert_eq!(owner.leave(status, over_ssh).code(), code);
        }
    }
}
