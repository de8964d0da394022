//! Who holds a host's lock. It is the kernel's: with its holder it is gone, whatever
//! ended that.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use xshell::cmd;

use super::Event;
use crate::config::Host;
use crate::exec::{Machine, Step};

const HOLDER: &str = include_str!("holder.sh");
const ANSWER: Duration = Duration::from_secs(90);

/// What holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Holder {
    /// Since when, and what it does.
    pub(crate) doing: String,
    /// Its folder's name below `deploys`; `None` where it is no task of ours.
    pub(crate) run: Option<String>,
    /// Its process, and its process group.
    pub(crate) pid: Option<u32>,
    /// The last line of its journal.
    pub(crate) event: Option<Event>,
    /// Seconds since it wrote its journal or its log.
    pub(crate) silent: Option<u64>,
    /// It was ended just now.
    pub(crate) ended: bool,
    /// And had to be killed.
    pub(crate) killed: bool,
}

/// The lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Lock {
    /// `None`: it is free.
    pub(crate) holder: Option<Holder>,
    /// A note that somebody works, of which nothing was true; it was removed.
    pub(crate) left: Option<String>,
}

/// Looks, and ends the holder where that is asked for.
pub(crate) fn lock(there: &Machine, host: &Host, end: bool) -> Result<Lock> {
    let (directory, end) = (&host.directory, if end { "end" } else { "look" });
    let step = Step::new(
        "look who holds the lock",
        cmd!(there.sh(), "sh -c {HOLDER} holder {directory} {end}"),
    )
    .limit(ANSWER);
    Ok(parse(&there.read(&step)?))
}

fn parse(told: &str) -> Lock {
    let one = |word: &str| {
        let mut lines = told.lines().filter_map(|line| line.split_once(' '));
        lines.find_map(|(key, value)| (key == word).then(|| value.to_owned()))
    };
    Lock {
        holder: one("held").map(|doing| Holder {
            doing,
            run: one("run"),
            pid: one("pid").and_then(|pid| pid.parse().ok()),
            event: one("event").and_then(|line| serde_json::from_str(&line).ok()),
            silent: one("silent").and_then(|seconds| seconds.parse().ok()),
            ended: one("ended").is_some(),
            killed: one("killed").is_some(),
        }),
        left: one("left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_known_by_its_journal() {
        let lock = parse(
            "held 2026-01-01T00:00:00Z, deploy of r1\nrun r1\npid 42\n\
             event {\"at\":\"2026-01-01T00:00:01Z\",\"phase\":\"init\",\"state\":\"begun\",\"ms\":0}\nsilent 312\n",
        );
        let holder = lock.holder.unwrap();
        assert_eq!((holder.pid, holder.silent), (Some(42), Some(312)));
        assert_eq!(holder.event.unwrap().phase, "init");
        assert!(!holder.ended);
    }

    #[test]
    fn a_free_lock_has_no_holder() {
        let lock = parse("left 2026-01-01T00:00:00Z, deploy of r1\n");
        assert_eq!(lock.holder, None);
        assert_eq!(
            lock.left.as_deref(),
            Some("2026-01-01T00:00:00Z, deploy of r1")
        );
    }
}
