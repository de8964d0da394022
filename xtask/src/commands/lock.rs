//! `lock`: what a person wrote, resolved and written down with hashes.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{print, summary};
use crate::cli;
use crate::config::{Deploy, DeployEdit, Reference};
use crate::context::Context;
use crate::engine::Engine;
use crate::error::Failure;
use crate::image::{self, Answer, BaseName, Locks, Outdated, Registries, Upgrade};

/// Jaro-Winkler; from here on a name reads like a misspelling of the other.
const ALIKE: f64 = 0.85;

pub(crate) fn run(context: &Context, args: &cli::Lock) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let keeps = args.check || args.dry.dry_run;
    if args.bases {
        let outdated = context
            .term
            .task("Debian packages of the bases resolved", || {
                image::debian(&engine, &context.workspace)
            })?;
        return finish(context, args, &outdated, &[]);
    }
    let upgrade = match &args.upgrade {
        None => Upgrade::No,
        Some(names) if names.is_empty() => Upgrade::All,
        Some(names) => match movable(context, names)? {
            free if free.is_empty() => return print("nothing to upgrade"),
            free => Upgrade::Packages(free),
        },
    };
    let until = until(&deploy, &upgrade)?;
    let mut edits = match upgrade {
        Upgrade::Packages(_) => Vec::new(),
        Upgrade::No | Upgrade::All => pins(context, &engine, &deploy, args)?,
    };
    // The locks are compiled on the base that is going to be written down.
    let deploy = if keeps {
        deploy
    } else {
        DeployEdit::preview(&context.workspace, &edits)?
    };
    let outdated = requirements(context, &engine, &deploy, until, &upgrade)?;
    if let Some(table) = table(&outdated) {
        summary::tell("What moves in the locks", &table)?;
    } else if upgrade != Upgrade::No {
        print("nothing to upgrade")?;
    }
    if upgrade != Upgrade::No && !outdated.is_empty() {
        edits.push(DeployEdit {
            table: "lock",
            key: "until",
            value: until.to_string(),
        });
    }
    finish(context, args, &outdated, &edits)
}

/// The requirements' locks that are not what they would be.
fn requirements(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    until: jiff::civil::Date,
    upgrade: &Upgrade,
) -> Result<Vec<Outdated>> {
    let workspace = &context.workspace;
    let airflow = BaseName::Airflow;
    image::ensure_bases(engine, workspace, &deploy.bases, &[airflow], false)?;
    let base = image::find_base(engine, workspace, &deploy.bases, airflow)?
        .context("failed to find the base image that was just made")?;
    image::compile(engine, workspace, &base, until, upgrade)
}

/// Fails a check that found something; else writes what is to be written.
fn finish(
    context: &Context,
    args: &cli::Lock,
    outdated: &[Outdated],
    edits: &[DeployEdit],
) -> Result<()> {
    let mut names: Vec<String> = outdated.iter().map(named).collect();
    if args.check && !names.is_empty() {
        return Err(
            Failure::user(format!("found outdated locks: {}", names.join(", ")))
                .hint(if args.bases {
                    "cargo xtask lock --bases"
                } else {
                    "cargo xtask lock"
                })
                .into(),
        );
    }
    if !edits.is_empty() && !args.check {
        names.push("deploy.toml".to_owned());
    }
    if names.is_empty() {
        context.term.done("every lock is what it would be");
        return Ok(());
    }
    if args.dry.dry_run {
        context
            .term
            .say(&format!("would write {}", names.join(", ")));
        return Ok(());
    }
    for lock in outdated {
        let path = context.workspace.root().join(&lock.path);
        context.machine.write(&path, lock.text.as_bytes(), 0o644)?;
    }
    if !edits.is_empty() {
        DeployEdit::write(&context.machine, &context.workspace, edits)?;
    }
    context.term.done(&format!("wrote {}", names.join(", ")));
    Ok(())
}

fn named(lock: &Outdated) -> String {
    let path = lock.path.display();
    match lock.moves.len() {
        0 => format!("{path} (no version changed)"),
        _ => path.to_string(),
    }
}

/// The last day that is looked at: what is written, or today where something may
/// be upgraded.
fn until(deploy: &Deploy, upgrade: &Upgrade) -> Result<jiff::civil::Date> {
    let lock = deploy.lock.as_ref().ok_or_else(|| {
        Failure::user("failed to read deploy.toml: [lock] with its `until` is missing")
            .hint("git checkout deploy.toml")
    })?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    Ok(match upgrade {
        Upgrade::No => lock.until,
        // A clock that is behind takes nothing back.
        Upgrade::All | Upgrade::Packages(_) => today.max(lock.until),
    })
}

/// Those of `names` that may move, as they are locked.
fn movable(context: &Context, names: &[String]) -> Result<Vec<String>> {
    let locks = Locks::read(&context.workspace)?;
    let known = locks.packages();
    let mut free = Vec::new();
    for name in names {
        let package = image::normalised(name);
        if !known.contains(package.as_str()) {
            let near: Vec<&str> = near(&package, known.iter().copied());
            let failure = Failure::user(format!("failed to find {name} in any lock"));
            return Err(failure
                .hint(if near.is_empty() {
                    "a new package is named in a requirements-*.txt, then: cargo xtask lock"
                        .to_owned()
                } else {
                    format!("did you mean {}?", near.join(" or "))
                })
                .into());
        }
        if locks.is_the_releases(&package) {
            context.term.warn(&format!(
                "{package} stays: the constraints of Airflow's release decide it \
                 (bases/airflow/requirements.lock)"
            ));
        } else {
            free.push(package);
        }
    }
    Ok(free)
}

/// Up to three names that read alike, the nearest first.
fn near<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Vec<&'k str> {
    let mut alike: Vec<(f64, &str)> = known
        .map(|one| {
            // `airflow` for apache-airflow is an abbreviation, not a slip.
            let part = name.len() > 2 && one.contains(name);
            let alike = strsim::jaro_winkler(name, one);
            (if part { 1.0 } else { alike }, one)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().take(3).map(|(_, one)| one).collect()
}

/// Asks the registries for each base's digest; gives those that `deploy.toml`
/// does not have.
fn pins(
    context: &Context,
    engine: &Engine<'_>,
    deploy: &Deploy,
    args: &cli::Lock,
) -> Result<Vec<DeployEdit>> {
    let term = &context.term;
    let mut registries = Registries::through(engine)?;
    let mut edits = Vec::new();
    let mut unreached = Vec::new();
    for name in BaseName::ALL {
        let written = name.upstream(&deploy.bases);
        let reference = Reference::parse(written)
            .with_context(|| format!("failed to read the reference {written}"))?;
        let tagged = reference.tagged;
        let digest = match registries.digest(&reference) {
            Ok(Answer::Digest(digest)) => digest,
            Ok(Answer::OutOfReach(words)) => {
                unreached.push((words, state(&reference)));
                continue;
            }
            Ok(Answer::Untold(why)) => {
                term.warn(&format!(
                    "{}: {why}. To have it told: docker pull {tagged}, or install docker's buildx \
                     plugin",
                    state(&reference)
                ));
                continue;
            }
            // What is written down does not depend on the registry's mood.
            Err(error) if args.check => {
                term.warn(&format!("{}: {error}", state(&reference)));
                continue;
            }
            Err(error) => return Err(error),
        };
        match (reference.digest, args.check) {
            (Some(written), _) if written == digest => {
                term.done(&format!("{tagged} is {}", short(&digest)));
                continue;
            }
            (Some(written), true) => term.warn(&format!(
                "{tagged} moved from {} to {}; what is written down is used. To follow it: \
                 cargo xtask lock",
                short(written),
                short(&digest)
            )),
            (None, true) => term.warn(&format!(
                "{tagged} is not pinned; it is {} now. To pin it: cargo xtask lock",
                short(&digest)
            )),
            (Some(written), false) => term.done(&format!(
                "{tagged} moved from {} to {}",
                short(written),
                short(&digest)
            )),
            (None, false) => term.done(&format!("{tagged} is {}", short(&digest))),
        }
        edits.push(DeployEdit {
            table: "bases",
            key: name.folder(),
            value: reference.pinned_to(&digest),
        });
    }
    if let Some((words, _)) = unreached.first() {
        let all: Vec<&str> = unreached.iter().map(|(_, state)| state.as_str()).collect();
        term.warn(&format!(
            "the image registry cannot be reached ({words}); {}",
            all.join(", ")
        ));
    }
    Ok(edits)
}

/// What is left of a base whose registry told nothing.
fn state(reference: &Reference<'_>) -> String {
    match reference.digest {
        None => format!("{} is unresolved", reference.tagged),
        Some(digest) => format!("{} stays at {}", reference.tagged, short(digest)),
    }
}

/// `sha256:` and the first 12 hex digits: enough to tell two apart by eye.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// What moved, one line a package and lock; `None` where nothing did.
fn table(outdated: &[Outdated]) -> Option<String> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for lock in outdated {
        let none = || "–".to_owned();
        rows.extend(lock.moves.iter().map(|one| {
            [
                one.package.clone(),
                one.from.clone().unwrap_or_else(none),
                one.to.clone().unwrap_or_else(none),
                lock.path.display().to_string(),
            ]
        }));
    }
    if rows.is_empty() {
        return None;
    }
    rows.sort();
    rows.insert(0, ["package", "from", "to", "lock"].map(str::to_owned));
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max();
    let [a, b, c] = [0, 1, 2].map(|n| width(n).unwrap_or_default());
    let lines: Vec<String> = rows
        .iter()
        .map(|[package, from, to, lock]| format!("{package:<a$}  {from:<b$}  {to:<c$}  {lock}"))
        .collect();
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Move;

    #[test]
    fn the_table_says_what_moved_from_where_to_where() {
        let moved = |package: &str, from: Option<&str>, to: Option<&str>| Move {
            package: package.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let lock = |path: &str, moves| Outdated {
            path: path.into(),
            text: String::new(),
            moves,
        };
        let both = [
            lock(
                "b.lock",
                vec![moved("dbt-core", Some("1.7.8"), Some("1.7.19"))],
            ),
            lock("c.lock", Vec::new()),
            lock(
                "a.lock",
                vec![moved("uv", None, Some("2")), moved("six", Some("1"), None)],
            ),
        ];
        assert_eq!(
            table(&both).unwrap(),
            "package   from   to      lock\n\
             dbt-core  1.7.8  1.7.19  b.lock\n\
             six       1      –       a.lock\n\
             uv        –      2       a.lock"
        );
        assert_eq!(table(&both[1..2]), None);
        assert_eq!(named(&both[1]), "c.lock (no version changed)");
    }

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        let known = ["dbt-core", "dbt-postgres", "agate", "apache-airflow"];
        assert_eq!(near("dbt-cor", known.into_iter())[0], "dbt-core");
        assert_eq!(near("airflow", known.into_iter()), ["apache-airflow"]);
        assert_eq!(near("zzz", known.into_iter()), Vec::<&str>::new());
    }
}
