//! Talk: what a person reads while xtask works. All of it goes to standard
//! error; nothing moves and nothing is coloured where that is no terminal.

use std::io::{IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Work shorter than this is reported once, when it is done.
const QUIET: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Where talk goes and how much of it.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    verbose: bool,
    live: bool,
    colour: bool,
}

impl Term {
    /// Looks at standard error; colour is left out where `NO_COLOR` is set.
    pub(crate) fn new(verbose: bool) -> Self {
        let live = std::io::stderr().is_terminal();
        Self {
            verbose,
            // A moving line and echoed commands would write over each other.
            live: live && !verbose,
            colour: live && !crate::config::environment::no_colour(),
        }
    }

    /// Whether lines may be rewritten in place.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// One line of talk.
    pub(crate) fn say(&self, line: &str) {
        let mut out = std::io::stderr().lock();
        // Nobody is left to tell when standard error is gone.
        writeln!(out, "{line}").ok();
    }

    /// One line, with `-v` only.
    pub(crate) fn verbose(&self, line: &str) {
        if self.verbose {
            self.say(&self.dim(line));
        }
    }

    /// A line for something that is done or found in order.
    pub(crate) fn done(&self, line: &str) {
        self.say(&format!("{} {line}", self.paint("32", "✓")));
    }

    /// A line for something that a person should look at.
    pub(crate) fn warn(&self, line: &str) {
        self.say(&format!("{} {line}", self.paint("33", "!")));
    }

    /// A line for something that failed.
    pub(crate) fn fail(&self, line: &str) {
        self.say(&format!("{} {line}", self.paint("31", "✗")));
    }

    /// Quieter text.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Stronger text.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Does `work`, showing `what` while it takes time and how long it took.
    pub(crate) fn task<T, E>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let waiting = self.spin(what, started);
        let result = work();
        waiting.stop();
        let took = millis(started.elapsed());
        match &result {
            Ok(_) => self.done(&format!("{what}  {}", self.dim(&took))),
            Err(_) => self.fail(&format!("{what}  {}", self.dim(&took))),
        }
        result
    }

    fn spin(&self, what: &str, started: Instant) -> Spinner {
        let (stop, stopped) = mpsc::channel::<()>();
        let term = self.clone();
        let what = what.to_owned();
        let thread = thread::spawn(move || {
            if !term.live {
                if stopped.recv_timeout(QUIET) == Err(mpsc::RecvTimeoutError::Timeout) {
                    term.say(&format!("… {what}"));
                }
                return;
            }
            for frame in FRAMES.iter().cycle() {
                let mut out = std::io::stderr().lock();
                let took = started.elapsed().as_secs();
                write!(out, "\r\x1b[2K{frame} {what}  {took} s").ok();
                out.flush().ok();
                drop(out);
                if stopped.recv_timeout(TICK) != Err(mpsc::RecvTimeoutError::Timeout) {
                    write!(std::io::stderr(), "\r\x1b[2K").ok();
                    return;
                }
            }
        });
        Spinner { stop, thread }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

struct Spinner {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Spinner {
    fn stop(self) {
        drop(self.stop);
        self.thread.join().ok();
    }
}

/// `340 ms`, `2.1 s`, `3 min 20 s`.
pub(crate) fn millis(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_a_person_says_them() {
        let shown: Vec<String> = [0, 999, 1_000, 59_949, 60_000, 200_000]
            .map(|ms| millis(Duration::from_millis(ms)))
            .to_vec();
        assert_eq!(
            shown,
            [
                "0 ms",
                "999 ms",
                "1.0 s",
                "59.9 s",
                "1 min 0 s",
                "3 min 20 s"
            ]
        );
    }
}
