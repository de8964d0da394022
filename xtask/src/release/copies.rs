//! Copies of the metadata database that a host keeps, and what they hold.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use xshell::cmd;

use super::Release;
use crate::config::Host;
use crate::error::Failure;
use crate::exec::{Machine, Step};

const LOOK: &str = include_str!("look.sh");
const ANSWER: Duration = Duration::from_secs(60);
const TRAVEL: Duration = Duration::from_secs(600);

/// One copy, as it lies in `backups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Dump {
    /// `<time>-<revision>.dump`; `given-<hash>.dump` where it was brought from here.
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// When it was written.
    #[serde(serialize_with = "iso")]
    pub(crate) at: Timestamp,
}

impl Dump {
    /// Of Airflow's schema, as its name says.
    pub(crate) fn revision(&self) -> Option<&str> {
        let (time, rest) = self.name.split_once('-')?;
        (time != "given").then(|| rest.trim_end_matches(".dump"))
    }
}

fn iso<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

/// One run of a DAG.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Run {
    /// The DAG's id.
    pub(crate) dag: String,
    /// Its own.
    pub(crate) id: String,
    /// `success`, `running`, …
    pub(crate) state: String,
    /// When it started, ISO 8601.
    pub(crate) at: Option<String>,
}

/// What a metadata database holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Contents {
    /// Of its schema.
    pub(crate) revision: Option<String>,
    /// The last sign of life in it, ISO 8601.
    pub(crate) until: Option<String>,
    /// Every run, oldest first.
    pub(crate) runs: Vec<Run>,
}

/// A run that would be other than it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Lost {
    /// As it is now.
    #[serde(flatten)]
    pub(crate) run: Run,
    /// Its state in the copy; `None` where the copy knows nothing of it.
    pub(crate) becomes: Option<String>,
}

/// The runs that a restore would lose, or take back to an earlier state.
pub(crate) fn lost(live: &Contents, copy: &Contents) -> Vec<Lost> {
    let other = |run: &Run| {
        let then = copy
            .runs
            .iter()
            .find(|then| (&then.dag, &then.id) == (&run.dag, &run.id));
        let becomes = then.map(|then| then.state.clone());
        (becomes.as_ref() != Some(&run.state)).then(|| Lost {
            run: run.clone(),
            becomes,
        })
    };
    live.runs.iter().filter_map(other).collect()
}

/// Refuses where the metadata database is on a server of somebody else.
pub(crate) fn refuse_elsewhere(there: &Machine, host: &Host, release: &Release) -> Result<()> {
    let path = format!("{}/env/{}.env", host.directory, release.env);
    let step = Step::new(
        "look where the metadata database is",
        cmd!(
            there.sh(),
            "grep --quiet '^AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=.*@postgres[:/]' {path}"
        ),
    )
    .limit(ANSWER);
    let looked = there.capture(&step)?;
    match looked.code {
        Some(0) => Ok(()),
        Some(1) => Err(Failure::user(
            "the metadata database is on another server, and not ours to copy",
        )
        .hint("that server has snapshots of its own")
        .into()),
        _ => Err(there.failed(&step, &looked).into()),
    }
}

/// Every copy there, oldest first.
pub(crate) fn copies(there: &Machine, host: &Host) -> Result<Vec<Dump>> {
    let folder = format!("{}/backups", host.directory);
    let script = "[ -d \"$1\" ] || exit 0; find \"$1\" -maxdepth 1 -name '*.dump' -printf '%T@ %s %f\\n' | sort -n";
    let step = Step::new(
        "list the copies",
        cmd!(there.sh(), "sh -c {script} list {folder}"),
    )
    .limit(ANSWER);
    Ok(parse(&there.read(&step)?))
}

fn parse(listing: &str) -> Vec<Dump> {
    let copy = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let seconds = words.next()?.split('.').next()?.parse().ok()?;
        Some(Dump {
            at: Timestamp::from_second(seconds).ok()?,
            bytes: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
        })
    };
    listing.lines().filter_map(copy).collect()
}

/// What a copy holds, and what the database holds now: `None` where it has no
/// schema that could be read.
///
/// # Errors
/// Where the copy cannot be restored, or Postgres does not run.
pub(crate) fn look(
    there: &Machine,
    host: &Host,
    project: &str,
    copy: &str,
) -> Result<(Contents, Option<Contents>)> {
    let directory = &host.directory;
    let step = Step::new(
        "look into the copy",
        cmd!(there.sh(), "sh -c {LOOK} look {directory} {project} {copy}"),
    )
    .limit(TRAVEL);
    let looked = there.capture(&step)?;
    match looked.code {
        Some(0) => {}
        Some(8) => {
            return Err(
                Failure::user(format!("{copy} is no copy that can be restored"))
                    .hint(format!(
                        "what exists: cargo xtask backup --host {} --list",
                        there.name()
                    ))
                    .into(),
            );
        }
        Some(9) => {
            return Err(Failure::user("Postgres does not run on the host")
                .hint(format!(
                    "it is started with the rest: cargo xtask deploy --host {}",
                    there.name()
                ))
                .into());
        }
        _ => return Err(there.failed(&step, &looked).into()),
    }
    let told = |word: &str| {
        let mut lines = looked.stdout.lines();
        let text = lines.find_map(|line| line.strip_prefix(word)).unwrap_or("");
        serde_json::from_str(text)
    };
    let held = told("copy ").context("failed to read what the copy holds")?;
    Ok((held, told("live ").ok()))
}

/// Whether an image's Airflow knows a revision: then that is its own, or an older
/// one that it migrates.
pub(crate) fn knows(there: &Machine, image: &str, revision: &str) -> Result<bool> {
    let python = "import importlib.util, pathlib, re, sys\nfolder = pathlib.Path(importlib.util.find_spec('airflow').origin).parent / 'migrations/versions'\nline = re.compile(r'^revision\\s*=\\s*.' + re.escape(sys.argv[1]) + '.$', re.M)\nsys.exit(0 if any(line.search(file.read_text()) for file in folder.glob('*.py')) else 9)";
    let step = Step::new(
        "ask the image for its schemas",
        cmd!(
            there.sh(),
            "docker run --rm --network none --entrypoint python {image} -P -c {python} {revision}"
        ),
    )
    .limit(ANSWER);
    let asked = there.capture(&step)?;
    match asked.code {
        Some(0) => Ok(true),
        Some(9) => Ok(false),
        _ => Err(there.failed(&step, &asked).into()),
    }
}

/// Brings a copy here, mode 0600, as a whole or not at all.
pub(crate) fn fetch(
    here: &Machine,
    there: &Machine,
    host: &Host,
    copy: &str,
    to: &Path,
) -> Result<()> {
    let Some((rsh, destination)) = there.rsh() else {
        anyhow::bail!("failed to bring the copy here: the host is this machine");
    };
    let from = format!("{destination}:{}/backups/{copy}", host.directory);
    let step = Step::new(
        "bring the copy here",
        cmd!(
            here.sh(),
            "rsync --perms --chmod=F600 --protect-args {from} {to}"
        ),
    )
    .env("RSYNC_RSH", rsh)
    .limit(TRAVEL);
    here.run(&step)
}

/// Takes a copy from here to the host; the content is its name there.
pub(crate) fn give(there: &Machine, host: &Host, from: &Path) -> Result<String> {
    let bytes = fs::read(from).with_context(|| format!("failed to read {}", from.display()))?;
    let hash = HEXLOWER.encode(&Sha256::digest(&bytes));
    let name = format!("given-{}.dump", &hash[..16]);
    let path = format!("{}/backups/{name}", host.directory);
    let script = "set -eu; umask 077; mkdir -p \"$(dirname \"$1\")\"; cat >\"$1.part\"; mv \"$1.part\" \"$1\"";
    let step = Step::new(
        "take the copy to the host",
        cmd!(there.sh(), "sh -c {script} give {path}"),
    )
    .limit(TRAVEL);
    let given = there.feed(&step, |to| Ok(to.write_all(&bytes)?))?;
    if given.ok() {
        Ok(name)
    } else {
        Err(there.failed(&step, &given).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(runs: &[(&str, &str)]) -> Contents {
        let run = |(id, state): &(&str, &str)| Run {
            dag: "etl_pipeline".into(),
            id: (*id).into(),
            state: (*state).into(),
            at: None,
        };
        Contents {
            revision: None,
            until: None,
            runs: runs.iter().map(run).collect(),
        }
    }

    #[test]
    fn a_run_is_lost_that_the_copy_does_not_know_or_knows_in_another_state() {
        let copy = contents(&[("a", "success"), ("b", "running"), ("older", "success")]);
        let live = contents(&[("a", "success"), ("b", "success"), ("c", "failed")]);
        let lost: Vec<(String, Option<String>)> = lost(&live, &copy)
            .into_iter()
            .map(|lost| (lost.run.id, lost.becomes))
            .collect();
        assert_eq!(
            lost,
            [
                ("b".to_owned(), Some("running".to_owned())),
                ("c".to_owned(), None)
            ]
        );
    }

    #[test]
    fn a_copys_name_says_its_revision() {
        let listed = parse(
            "1700000000.5 2048 20231114T221320Z-405de8318b3a.dump\n1700000060.5 1024 given-0123456789abcdef.dump\n",
        );
        assert_eq!(listed[0].at.to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(
            (listed[0].bytes, listed[0].revision()),
            (2048, Some("405de8318b3a"))
        );
        assert_eq!(listed[1].revision(), None);
    }
}
