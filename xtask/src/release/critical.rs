//! What the host runs by itself, and following it.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use xshell::cmd;

use super::{Release, Way};
use crate::config::Host;
use crate::error::Failure;
use crate::exec::{Machine, Step, quote};

const COMMON: &str = include_str!("critical/common.sh");
const DEPLOY: &str = include_str!("critical/deploy.sh");
const BACKUP: &str = include_str!("critical/backup.sh");
const RESTORE: &str = include_str!("critical/restore.sh");
const ROTATE: &str = include_str!("critical/rotate.sh");
const DESTROY: &str = include_str!("critical/destroy.sh");
/// Lines that a failure repeats; common.sh keeps as many.
const LAST_LINES: usize = 30;
const ANSWER: Duration = Duration::from_secs(60);
/// How often a connection that broke is made again, while the host goes on.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_secs(3);

/// What the host is to do, under its lock, to the end.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its folder's name below `deploys`.
    pub(crate) run: String,
    /// What is to serve.
    pub(crate) release: Release,
    /// The release to fall back to.
    pub(crate) old: Option<String>,
    /// Seconds to wait for a run that is active; `None`: do not ask.
    pub(crate) wait: Option<u64>,
    /// Who asks, for the audit log.
    pub(crate) who: serde_json::Value,
    /// What is to be done.
    pub(crate) work: Work,
}

/// Each has a script of its own, after the one that all share.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// The release comes to serve.
    Deploy {
        /// The road.
        way: Way,
        /// It passed its gate before.
        gated: bool,
        /// DAGs that have to be there.
        dags: Vec<String>,
        /// How many releases stay.
        keep: usize,
    },
    /// The metadata database is copied, while the release serves.
    Backup,
    /// The metadata database becomes what a copy has, and the release serves.
    Restore {
        /// The copy's name in `backups`.
        from: String,
    },
    /// Databases take the passwords of the release's settings, Airflow's secrets are
    /// written anew by its key, and it serves.
    Rotate {
        /// The settings that serve.
        env_old: String,
        /// The settings that have new values.
        names: Vec<String>,
        /// A rotation with these values was cut short.
        resumed: bool,
        /// The demo source is of this stack.
        mysql: bool,
        /// DAGs that have to be there.
        dags: Vec<String>,
    },
    /// All goes but the copies and the audit log.
    Destroy {
        /// The metadata database is copied before.
        copy: bool,
    },
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Event {
    /// `gate`, `drain`, `switch`, …, `end`.
    pub(crate) phase: String,
    /// `begun`, `done`, `failed`; how it ended for `end`.
    pub(crate) state: String,
    /// How long it took.
    pub(crate) ms: u64,
}

/// How the host's part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The release serves.
    Done,
    /// It did not pass its gate; nothing was changed.
    Refused,
    /// A run is active; nothing was changed.
    Active,
    /// It failed, and what served before serves again.
    Reverted,
    /// It failed, and what serves has to be looked at.
    Failed,
    /// Somebody else's deploy runs.
    Busy,
    /// The host ended it: it was started anew, say.
    Lost,
}

impl Task {
    fn script(&self, name: &str, host: &Host) -> String {
        let directory = &host.directory;
        let (way, doing, own, script) = self.work.script(directory, &self.release.id);
        let shared = [
            ("host", name.to_owned()),
            ("home", directory.clone()),
            ("run", format!("{directory}/deploys/{}", self.run)),
            ("doing", doing),
            ("way", way.to_owned()),
            ("id", self.release.id.clone()),
            ("old", self.old.clone().unwrap_or_default()),
            ("env", self.release.env.clone()),
            ("mount", host.project_mount.clone()),
            ("project", self.release.project.clone()),
            ("databases", self.release.databases.join(" ")),
            (
                "wait",
                self.wait.map_or("now".to_owned(), |wait| wait.to_string()),
            ),
            ("who", self.who.to_string()),
        ];
        let lines = shared.into_iter().chain(own);
        let lines: String = lines
            .map(|(name, value)| format!("{name}={}\n", quote(&value)))
            .collect();
        lines + COMMON + script
    }
}

/// A name that a script reads, and its value.
type Given = (&'static str, String);

impl Work {
    /// For the audit log in a word, and for a person; what its script is given, and
    /// the script.
    fn script(
        &self,
        directory: &str,
        release: &str,
    ) -> (&'static str, String, Vec<Given>, &'static str) {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        match self {
            Self::Deploy {
                way,
                gated,
                dags,
                keep,
            } => (
                way.name(),
                format!("deploy of {release}"),
                vec![
                    ("gated", yes(*gated)),
                    ("dags", dags.join(" ")),
                    ("keep", keep.to_string()),
                ],
                DEPLOY,
            ),
            Self::Backup => ("backup", "backup".to_owned(), vec![], BACKUP),
            Self::Restore { from } => (
                "restore",
                format!("restore of {from}"),
                vec![("from", format!("{directory}/backups/{from}"))],
                RESTORE,
            ),
            Self::Rotate {
                env_old,
                names,
                resumed,
                mysql,
                dags,
            } => (
                "rotate",
                "rotation of secrets".to_owned(),
                vec![
                    ("env_old", env_old.clone()),
                    ("rotated", names.join(" ")),
                    ("resumed", yes(*resumed)),
                    ("mysql", yes(*mysql)),
                    ("dags", dags.join(" ")),
                ],
                ROTATE,
            ),
            Self::Destroy { copy } => (
                "destroy",
                "removal of the stack".to_owned(),
                vec![("copy", yes(*copy))],
                DESTROY,
            ),
        }
    }
}

/// Gives the host its part; it runs from here on, whatever becomes of us.
pub(crate) fn start(there: &Machine, host: &Host, task: &Task) -> Result<()> {
    let folder = format!("{}/deploys/{}", host.directory, task.run);
    let script = "set -eu; umask 027; mkdir -p \"$1\" \"$2/airflow/logs\" \"$2/airflow/certs\"; : >\"$1/journal\"; : >\"$1/log\"\n\
                  cat >\"$1/run\"; touch \"$2/lock\"\n\
                  setsid --fork sh -c 'echo $$ >\"$1/pid\"; exec sh \"$1/run\"' run \"$1\" </dev/null >>\"$1/log\" 2>&1";
    let directory = &host.directory;
    let step = Step::new(
        "start the host's part",
        cmd!(there.sh(), "sh -c {script} start {folder} {directory}"),
    )
    .limit(ANSWER);
    let text = task.script(there.name(), host);
    let begun = there.feed(&step, |to| Ok(to.write_all(text.as_bytes())?))?;
    if begun.ok() {
        Ok(())
    } else {
        Err(there.failed(&step, &begun).into())
    }
}

/// The journal of a deploy, as the host writes it.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    there: &'a Machine,
    folder: String,
}

impl<'a> Follow<'a> {
    /// Of the deploy `run`.
    pub(crate) fn new(there: &'a Machine, host: &Host, run: &str) -> Self {
        Self {
            there,
            folder: format!("{}/deploys/{run}", host.directory),
        }
    }

    /// Hands on each event until the end. A connection that breaks is made again:
    /// the host goes on meanwhile.
    ///
    /// # Errors
    /// Where the host is not reached for a minute.
    pub(crate) fn to_end(&self, mut each: impl FnMut(&Event)) -> Result<Outcome> {
        // Ended, or waiting for a parent that never asks, or another process by now: all
        // are the end.
        let script = "cd \"$1\" || exit 1; n=0\n\
                      until [ -s pid ]; do sleep 0.05; n=$((n + 1)); [ $n -lt 200 ] || exit 1; done\n\
                      tail --lines \"+$2\" --sleep-interval 0.1 -f journal & shown=$!\n\
                      runs() { grep -qsF \"$1/run\" \"/proc/$(cat pid)/cmdline\"; }\n\
                      while runs \"$1\"; do sleep 0.1; done\n\
                      sleep 0.3; kill $shown";
        let folder = &self.folder;
        let (mut seen, mut tries) = (0_usize, 0);
        let mut outcome = None;
        loop {
            let from = (seen + 1).to_string();
            let step = Step::new(
                "follow the host",
                cmd!(self.there.sh(), "sh -c {script} follow {folder} {from}"),
            );
            let before = seen;
            let code = self.there.follow(&step, |line| {
                seen += 1;
                if let Ok(event) = serde_json::from_str::<Event>(line) {
                    if event.phase == "end" {
                        outcome = Some(Outcome::named(&event.state));
                    } else {
                        each(&event);
                    }
                }
            })?;
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if code == Some(0) {
                return Ok(Outcome::Lost);
            }
            tries = if seen > before { 0 } else { tries + 1 };
            if tries > TRIES {
                return Err(Failure::tool(
                    "failed to follow the host: it is not reached any more; it goes on by itself",
                )
                .hint(format!(
                    "cargo xtask status --host {}, once it is reached again",
                    self.there.name()
                ))
                .into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What the tools of the phase that failed said last; of the last phase, where
    /// none did.
    pub(crate) fn last_lines(&self) -> Result<Vec<String>> {
        let folder = &self.folder;
        let script =
            format!("cat \"$1/failed\" 2>/dev/null || tail --lines {LAST_LINES} \"$1/log\"");
        let step = Step::new(
            "read the host's log",
            cmd!(self.there.sh(), "sh -c {script} last {folder}"),
        )
        .limit(ANSWER);
        let told = self.there.read(&step)?;
        Ok(told.lines().map(|line| self.there.redact(line)).collect())
    }
}

impl Outcome {
    fn named(state: &str) -> Self {
        match state {
            "done" => Self::Done,
            "refused" => Self::Refused,
            "active" => Self::Active,
            "reverted" => Self::Reverted,
            "busy" => Self::Busy,
            _ => Self::Failed,
        }
    }

    /// As `--json` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Active => "active",
            Self::Reverted => "reverted",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::super::observe::tests::{SERVES, observed};
    use super::*;

    #[test]
    fn every_task_is_a_script_that_a_shell_reads_whole() {
        let host: Host = toml::from_str("ssh = 'a'\ndirectory = '/srv/den tal'\n").unwrap();
        let text = |text: &str| text.to_owned();
        let works = [
            Work::Deploy {
                way: Way::Restart,
                gated: false,
                dags: vec![text("a"), text("b")],
                keep: 5,
            },
            Work::Backup,
            Work::Restore {
                from: text("it's.dump"),
            },
            Work::Rotate {
                env_old: text("e"),
                resumed: false,
                names: vec![],
                mysql: true,
                dags: vec![],
            },
            Work::Destroy { copy: true },
        ];
        for work in works {
            let task = Task {
                run: text("r"),
                release: observed(SERVES).releases.remove(0),
                old: None,
                wait: Some(0),
                who: serde_json::json!({"by": "o'brien"}),
                work,
            };
            let script = task.script("spare", &host);
            assert!(
                script
                    .starts_with("host=spare\nhome='/srv/den tal'\nrun='/srv/den tal/deploys/r'\n")
            );
            let mut sh = Command::new("sh");
            let mut sh = sh.args(["-n"]).stdin(Stdio::piped()).spawn().unwrap();
            let mut stdin = sh.stdin.take().unwrap();
            stdin.write_all(script.as_bytes()).unwrap();
            drop(stdin);
            assert!(sh.wait().unwrap().success(), "{:?}", task.work);
        }
    }
}
