//! Talk: what a person reads while xtask works. All of it goes to standard
//! error; nothing moves and nothing is coloured where that is no terminal.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, mpsc};
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

    /// Columns and rows of the terminal; `None` where nothing tells them.
    fn size(&self) -> Option<Size> {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
        // A pseudo-terminal that nobody has sized says 0.
        (size.ws_col > 0 && size.ws_row > 0).then(|| Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
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
        self.task_telling(what, |_| work())
    }

    /// The same, for work that tells how far it is; that is shown on a terminal alone.
    pub(crate) fn task_telling<T, E>(
        &self,
        what: &str,
        work: impl FnOnce(&HowFar) -> Result<T, E>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let how_far = HowFar::default();
        let shown = self.spin(what, started, how_far.clone());
        let result = work(&how_far);
        drop(shown);
        let took = millis(started.elapsed());
        match &result {
            Ok(_) => self.done(&format!("{what}  {}", self.dim(&took))),
            Err(_) => self.fail(&format!("{what}  {}", self.dim(&took))),
        }
        result
    }

    /// Shows `what` while it takes time, until what is given is dropped; for work whose
    /// end comes from elsewhere.
    pub(crate) fn shown(&self, what: &str) -> Shown {
        self.spin(what, Instant::now(), HowFar::default())
    }

    fn spin(&self, what: &str, started: Instant, how_far: HowFar) -> Shown {
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
                let mut line = format!("{frame} {what}  {took} s{}", how_far.told());
                // `\r` leads back over one row only.
                if let Some(size) = term.size() {
                    line = clip(&line, size.columns);
                }
                write!(out, "\r\x1b[2K{line}").ok();
                out.flush().ok();
                drop(out);
                if stopped.recv_timeout(TICK) != Err(mpsc::RecvTimeoutError::Timeout) {
                    write!(std::io::stderr(), "\r\x1b[2K").ok();
                    return;
                }
            }
        });
        Shown(Some((stop, thread)))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// How far some work is, as it says itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct HowFar(Arc<Mutex<String>>);

impl HowFar {
    /// `34 MB, 41 %`
    pub(crate) fn tell(&self, text: String) {
        if let Ok(mut told) = self.0.lock() {
            *told = text;
        }
    }

    fn told(&self) -> String {
        match self.0.lock() {
            Ok(told) if !told.is_empty() => format!("  {told}"),
            _ => String::new(),
        }
    }
}

/// Of a terminal, in characters.
#[derive(Debug, Clone, Copy)]
struct Size {
    columns: usize,
    rows: usize,
}

/// Lines at the end of the terminal that are drawn over again and again.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    /// Visible characters of each line of the last time.
    widths: Vec<usize>,
}

impl Drawing {
    /// Draws `lines` over those of the last time.
    pub(crate) fn draw(&mut self, term: &Term, lines: &[String]) {
        let text = self.frame(lines, term.size());
        let mut out = std::io::stderr().lock();
        // Nobody is left to tell when standard error is gone.
        out.write_all(text.as_bytes()).ok();
    }

    /// What to write for it: each line on one row of the terminal, and no more
    /// of them than it has, because the cursor has to find back to the first.
    fn frame(&mut self, lines: &[String], size: Option<Size>) -> String {
        let (columns, rows) = size.map_or((usize::MAX, usize::MAX), |s| (s.columns, s.rows));
        let fitting = rows.saturating_sub(1).max(1);
        let lines: Vec<String> = lines[lines.len().saturating_sub(fitting)..]
            .iter()
            .map(|line| clip(line, columns))
            .collect();
        // A terminal that became narrower has wrapped what stood there.
        let up: usize = self
            .widths
            .iter()
            .map(|width| width.div_ceil(columns).max(1))
            .sum();
        let mut text = String::new();
        if up > 0 {
            text.push_str(&format!("\x1b[{up}A"));
        }
        for line in &lines {
            text.push_str(&format!("\x1b[2K{line}\n"));
        }
        text.push_str("\x1b[J");
        self.widths = lines.iter().map(|line| width(line)).collect();
        text
    }
}

/// The characters of `line` that a terminal shows.
fn width(line: &str) -> usize {
    visible(line).filter(|(_, shown)| *shown).count()
}

/// `line` in at most `columns` characters, the last one `…` where there were
/// more. Escape sequences stay, so that a colour which began also ends.
fn clip(line: &str, columns: usize) -> String {
    if width(line) <= columns {
        return line.to_owned();
    }
    let mut clipped = String::new();
    let mut room = columns;
    for (c, shown) in visible(line) {
        match (shown, room) {
            (false, _) => clipped.push(c),
            (true, 0) => {}
            (true, 1) => {
                clipped.push('…');
                room = 0;
            }
            (true, _) => {
                clipped.push(c);
                room -= 1;
            }
        }
    }
    clipped
}

/// Each character, and whether it is one that shows: not part of `ESC [ … m`.
fn visible(line: &str) -> impl Iterator<Item = (char, bool)> {
    let mut escaped = false;
    line.chars().map(move |c| {
        let shown = !escaped && c != '\x1b';
        escaped = (escaped || c == '\x1b') && c != 'm';
        (c, shown)
    })
}

/// Work that is shown; the line is gone when this is dropped.
pub(crate) struct Shown(Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>);

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            thread.join().ok();
        }
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

/// `34 kB`, `187 MB`; thousands, as on a network.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        ..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{} MB", bytes / 1_000_000),
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

    const SIX_BY_THREE: Option<Size> = Some(Size {
        columns: 6,
        rows: 3,
    });

    #[test]
    fn a_line_that_is_too_long_ends_in_an_ellipsis_and_in_its_own_colour() {
        for (line, columns, clipped) in [
            ("├─ one", 6, "├─ one"),
            ("├─ four", 6, "├─ fo…"),
            ("\x1b[1mbold\x1b[0m", 4, "\x1b[1mbold\x1b[0m"),
            ("\x1b[1mbold\x1b[0m word", 3, "\x1b[1mbo…\x1b[0m"),
            ("é", 1, "é"),
            ("two", 1, "…"),
        ] {
            assert_eq!(clip(line, columns), clipped);
        }
    }

    #[test]
    fn a_drawing_takes_one_row_a_line_and_finds_back_to_its_first() {
        let lines = |texts: &[&str]| -> Vec<String> { texts.iter().map(|&t| t.into()).collect() };
        let mut drawing = Drawing::default();
        assert_eq!(
            drawing.frame(&lines(&["a longer one", "b"]), SIX_BY_THREE),
            "\x1b[2Ka lon…\n\x1b[2Kb\n\x1b[J"
        );
        assert_eq!(
            drawing.frame(&lines(&["a"]), SIX_BY_THREE),
            "\x1b[2A\x1b[2Ka\n\x1b[J"
        );
        // Of more lines than rows, the last ones.
        assert_eq!(
            drawing.frame(&lines(&["1", "2", "3"]), SIX_BY_THREE),
            "\x1b[1A\x1b[2K2\n\x1b[2K3\n\x1b[J"
        );
        // Nothing is known of the terminal: nothing is left out.
        assert_eq!(
            drawing.frame(&lines(&["a longer one"]), None),
            "\x1b[2A\x1b[2Ka longer one\n\x1b[J"
        );
        // It became narrower: the line stands on two rows now.
        assert_eq!(
            drawing.frame(&lines(&["a"]), SIX_BY_THREE),
            "\x1b[2A\x1b[2Ka\n\x1b[J"
        );
    }

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
