//! What Ctrl-C means while a tool runs.
//!
//! A captured tool runs in a process group of its own, which the terminal does
//! not reach: it is ended from here. A tool that owns the terminal is reached
//! by the terminal itself, and is given the time to end well.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};

static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static ON_TERMINAL: AtomicUsize = AtomicUsize::new(0);

/// The status that shells give a program ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Installs the handler. Called once, at start.
pub(crate) fn forward_interrupts() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if let Ok(groups) = GROUPS.lock() {
            for group in groups.iter() {
                end(*group);
            }
        }
        if ON_TERMINAL.load(Ordering::SeqCst) == 0 {
            std::process::exit(INTERRUPTED);
        }
    })?;
    Ok(())
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

/// While it lives, Ctrl-C is the tool's own business.
pub(super) struct OnTerminal;

impl OnTerminal {
    pub(super) fn enter() -> Self {
        ON_TERMINAL.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        ON_TERMINAL.fetch_sub(1, Ordering::SeqCst);
    }
}
