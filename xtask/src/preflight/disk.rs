//! Room where the engine stores images and volumes.

use std::fs;
use std::path::Path;

use super::check::{Check, gib};
use super::daemon::Daemon;

const GIB: u64 = 1 << 30;
/// Measured on a first start: bases 0.9 GiB (upstream's: 2.1), the image 0.5,
/// build cache 2.2, volumes and logs 0.3; twice the image while it is unpacked.
const FIRST: Limits = Limits {
    fail: 6 * GIB,
    warn: 12 * GIB,
    inodes: 150_000,
};
/// The image is there: what grows is data and logs, and the next image's layers.
const LATER: Limits = Limits {
    fail: GIB,
    warn: 4 * GIB,
    inodes: 30_000,
};

#[derive(Debug)]
struct Limits {
    fail: u64,
    warn: u64,
    /// An image holds about 27,000 files, and so does each base.
    inodes: u64,
}

/// What is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes that a user may write.
    bytes: u64,
    /// `None` where the file system makes them as needed.
    inodes: Option<u64>,
}

/// Looks at the folder that the engine names; `None` where that is on another
/// machine (Docker Desktop's, say) and not to be seen from here.
pub(super) fn read(daemon: &Daemon) -> Option<Space> {
    let here = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    if here.is_some_and(|name| name.trim() != daemon.name) {
        return None;
    }
    let found = rustix::fs::statvfs(Path::new(&daemon.root)).ok()?;
    Some(Space {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// Whether there is room; `built` where the image is there already.
pub(super) fn check(space: Option<&Space>, daemon: &Daemon, built: bool) -> Check {
    let Some(space) = space else {
        let says = format!(
            "{} on {} cannot be seen from here",
            daemon.root, daemon.name
        );
        return Check::warn("disk", says).fix("look there: docker system df");
    };
    let limits = if built { LATER } else { FIRST };
    let what = if built { "to run" } else { "to build and run" };
    let says = format!("{} free in {}", gib(space.bytes), daemon.root);
    let fix = "cargo xtask prune, then: docker system prune (it asks; volumes stay)";
    if space.inodes.is_some_and(|left| left < limits.inodes) {
        let left = space.inodes.unwrap_or_default();
        let says = format!(
            "{says}, but only {left} inodes; {} are needed {what}",
            limits.inodes
        );
        return Check::fail("disk", says).fix(fix);
    }
    if space.bytes < limits.fail {
        let says = format!("{says}; {} are needed {what}", gib(limits.fail));
        return Check::fail("disk", says).fix(fix);
    }
    if space.bytes < limits.warn {
        let says = format!("{says}; {} would be comfortable", gib(limits.warn));
        return Check::warn("disk", says).fix(fix);
    }
    Check::pass("disk", says)
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    fn state(bytes: u64, inodes: Option<u64>, built: bool) -> State {
        let daemon = Daemon {
            version: "28.0.0".into(),
            root: "/var/lib/docker".into(),
            name: "here".into(),
            memory: 0,
            ahead: None,
        };
        check(Some(&Space { bytes, inodes }), &daemon, built).state
    }

    #[test]
    fn a_first_start_needs_more_than_a_later_one() {
        for (bytes, first, later) in [
            (GIB - 1, State::Fail, State::Fail),
            (GIB, State::Fail, State::Warn),
            (4 * GIB, State::Fail, State::Pass),
            (6 * GIB, State::Warn, State::Pass),
            (12 * GIB, State::Pass, State::Pass),
        ] {
            assert_eq!(state(bytes, None, false), first, "{bytes}");
            assert_eq!(state(bytes, None, true), later, "{bytes}");
        }
    }

    #[test]
    fn a_disk_without_inodes_is_full() {
        assert_eq!(state(100 * GIB, Some(149_999), false), State::Fail);
        assert_eq!(state(100 * GIB, Some(150_000), false), State::Pass);
        assert_eq!(state(100 * GIB, Some(30_000), true), State::Pass);
    }
}
