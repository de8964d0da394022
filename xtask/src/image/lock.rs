//! The locks: whole resolutions as a tool writes them, from what a person wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::civil::Date;

use super::base::{Base, BaseName};
use super::{mmdebstrap, tool};
use crate::config::Workspace;
use crate::engine::Engine;
use crate::exec::Step;

/// Wheels for the oldest C library that the bases have.
const PLATFORM: &str = "x86_64-manylinux_2_28";
/// When Airflow 2.7.1 had just come out: what was current then is what it was
/// tested with.
const RELEASE: &str = "2023-09-12";
/// The release's own constraints.
const RELEASE_LOCK: &str = "bases/airflow/requirements.lock";
/// One lock and what it is compiled from.
struct Compilation {
    /// The step's name.
    name: &'static str,
    /// What it resolves, for a person.
    what: &'static str,
    from: &'static str,
    lock: &'static str,
    /// A lock whose versions this one keeps.
    under: Option<&'static str>,
    /// Nothing newer than this day; `None` where deploy.toml says the day.
    until: Option<&'static str>,
}

/// In the order in which they build on each other.
const COMPILATIONS: [Compilation; 5] = [
    Compilation {
        name: "release",
        what: "Airflow 2.7.1's constraints",
        from: "bases/airflow/requirements.txt",
        lock: RELEASE_LOCK,
        under: None,
        until: Some(RELEASE),
    },
    Compilation {
        name: "airflow",
        what: "the image's packages, dbt among them, under the release's constraints",
        from: "requirements-airflow.txt",
        lock: "requirements-airflow.lock",
        under: Some(RELEASE_LOCK),
        until: None,
    },
    Compilation {
        name: "dev",
        what: "what tests and linters need, under the image's packages",
        from: "requirements-dev.txt",
        lock: "requirements-dev.lock",
        under: Some("requirements-airflow.lock"),
        until: None,
    },
    Compilation {
        name: "installer",
        what: "what installs the packages",
        from: "requirements-installer.txt",
        lock: "requirements-installer.lock",
        under: None,
        until: None,
    },
    Compilation {
        name: "audit",
        what: "what looks for advisories",
        from: "requirements-audit.txt",
        lock: "requirements-audit.lock",
        under: None,
        until: None,
    },
];

/// What may leave its locked version although that still fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// Nothing.
    No,
    /// Every package.
    All,
    /// These.
    Packages(Vec<String>),
}

/// A lock whose text would change.
#[derive(Debug)]
pub(crate) struct Outdated {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// What it would hold.
    pub(crate) text: String,
    /// Packages whose version that changes.
    pub(crate) moves: Vec<Move>,
}

/// A package that is locked in another version than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    /// Its normalised name.
    pub(crate) package: String,
    /// The version before; `None` where it was not there.
    pub(crate) from: Option<String>,
    /// The version now; `None` where it is gone.
    pub(crate) to: Option<String>,
}

/// The requirements' locks as they are in the tree.
#[derive(Debug)]
pub(crate) struct Locks(BTreeMap<&'static str, BTreeMap<String, String>>);

impl Locks {
    /// Reads them.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let mut locks = BTreeMap::new();
        for Compilation { lock, .. } in COMPILATIONS {
            let path = workspace.root().join(lock);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            locks.insert(lock, versions(&text));
        }
        Ok(Self(locks))
    }

    /// Every package that one of them has, by its normalised name.
    pub(crate) fn packages(&self) -> BTreeSet<&str> {
        let locks = self.0.values();
        locks.flat_map(|l| l.keys().map(String::as_str)).collect()
    }

    /// Whether the release decides its version wherever it is locked.
    pub(crate) fn is_the_releases(&self, package: &str) -> bool {
        let mut having = COMPILATIONS
            .iter()
            .filter(|c| self.0.get(c.lock).is_some_and(|l| l.contains_key(package)));
        let of_release = |c: &Compilation| c.lock == RELEASE_LOCK || c.under.is_some();
        let in_release = self.0.get(RELEASE_LOCK);
        in_release.is_some_and(|l| l.contains_key(package)) && having.all(of_release)
    }
}

/// The name under which a package is locked: `Flask_Login` is `flask-login`.
pub(crate) fn normalised(package: &str) -> String {
    let words = package.split(['-', '_', '.']).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Normalised name → version of each `name==version` line of a lock's text.
pub(crate) fn versions(lock: &str) -> BTreeMap<String, String> {
    let one = |line: &str| {
        let (name, rest) = line.split_once("==")?;
        // Comments, hashes and options are indented or begin otherwise.
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let name = name.split('[').next().unwrap_or(name);
        let version = rest.split([' ', ';', '\\']).next()?;
        Some((normalised(name.trim()), version.to_owned()))
    };
    lock.lines().filter_map(one).collect()
}

fn moves(before: &str, now: &str) -> Vec<Move> {
    let (before, now) = (versions(before), versions(now));
    let packages: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    packages
        .into_iter()
        .filter(|package| before.get(*package) != now.get(*package))
        .map(|package| Move {
            package: package.clone(),
            from: before.get(package).cloned(),
            to: now.get(package).cloned(),
        })
        .collect()
}

/// Compiles every lock in containers of the base image, on a copy, each as a step
/// of its own; gives those that differ from the tree's. Nothing published after
/// `until` is looked at.
pub(crate) fn compile(
    engine: &Engine<'_>,
    workspace: &Workspace,
    base: &Base,
    until: Date,
    upgrade: &Upgrade,
) -> Result<Vec<Outdated>> {
    let folder = workspace.cache().join("lock/python");
    let files = COMPILATIONS.iter().flat_map(|c| [c.from, c.lock]);
    tool::working_copy(workspace, &folder, files)?;
    let machine = engine.machine();
    let term = machine.term();
    term.task("uv, by its own lock", || {
        machine.run(&tool::install(
            engine,
            &folder,
            &base.reference,
            "uv",
            "requirements-installer.lock",
        ))
    })?;
    let mut outdated = Vec::new();
    for compilation in &COMPILATIONS {
        let Compilation { name, what, .. } = compilation;
        let until = compilation
            .until
            .map_or_else(|| until.to_string(), str::to_owned);
        term.task(&format!("{name}: {what}, as of {until}"), || {
            machine.run(&compile_one(
                engine,
                &folder,
                base,
                compilation,
                &until,
                upgrade,
            ))
        })?;
        let read = |at: &Path| {
            let path = at.join(compilation.lock);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let (before, text) = (read(workspace.root())?, read(&folder)?);
        if text != before {
            outdated.push(Outdated {
                path: PathBuf::from(compilation.lock),
                moves: moves(&before, &text),
                text,
            });
        }
    }
    Ok(outdated)
}

/// The locks of the bases' Debian packages that differ from today's archive.
pub(crate) fn debian(engine: &Engine<'_>, workspace: &Workspace) -> Result<Vec<Outdated>> {
    let mut outdated = Vec::new();
    for name in BaseName::ALL {
        let path = Path::new("bases").join(name.folder()).join("packages.lock");
        let recipe = workspace.root().join("bases").join(name.folder());
        let text =
            mmdebstrap::current_packages(engine.machine(), workspace, &recipe, name.folder())?;
        let full = workspace.root().join(&path);
        let locked = fs::read_to_string(&full)
            .with_context(|| format!("failed to read {}", full.display()))?;
        if text != locked {
            outdated.push(Outdated {
                path,
                text,
                moves: Vec::new(),
            });
        }
    }
    Ok(outdated)
}

fn compile_one(
    engine: &Engine<'_>,
    folder: &Path,
    base: &Base,
    what: &Compilation,
    until: &str,
    upgrade: &Upgrade,
) -> Step {
    let mut step = tool::container(
        engine,
        &format!("compile {}", what.lock),
        folder,
        &base.reference,
        &format!("{}/bin/uv", tool::path_of("uv")),
    )
    .args(["pip", "compile", "--quiet", "--no-cache"])
    .args(["--python-version", "3.11", "--python-platform", PLATFORM])
    .args([
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
    ])
    .args(["--custom-compile-command", "cargo xtask lock"])
    .args(["--exclude-newer", until]);
    // What was current at the release does not change any more.
    match upgrade {
        Upgrade::All if what.until.is_none() => step = step.arg("--upgrade"),
        Upgrade::Packages(packages) if what.until.is_none() => {
            for package in packages {
                step = step.args(["--upgrade-package", package]);
            }
        }
        _ => {}
    }
    if let Some(lock) = what.under {
        step = step.args(["--constraints", lock]);
    }
    step.args(["--output-file", what.lock, what.from])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "# made by a tool\nagate==1.7.1 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n    \
                        # via dbt-core==1.7.8\nFlask_Login[x]==0.6.2 ; python_version > '3'\nuv==1\n";

    fn moved(package: &str, from: Option<&str>, to: Option<&str>) -> Move {
        Move {
            package: package.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        }
    }

    #[test]
    fn a_lock_reads_as_packages_with_their_versions() {
        let expected = [("agate", "1.7.1"), ("flask-login", "0.6.2"), ("uv", "1")];
        let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(versions(LOCK), BTreeMap::from(expected));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let locks = Locks::read(&Workspace::around(here).unwrap()).unwrap();
        for (lock, versions) in &locks.0 {
            assert!(versions.len() > 3, "{lock}: {versions:?}");
        }
        assert_eq!(locks.0[RELEASE_LOCK]["apache-airflow"], "2.7.1");
    }

    #[test]
    fn what_moved_came_and_went_is_told() {
        let now = LOCK.replace("1.7.1", "1.8").replace("uv==1", "wheel==2");
        assert_eq!(
            moves(LOCK, &now),
            [
                moved("agate", Some("1.7.1"), Some("1.8")),
                moved("uv", Some("1"), None),
                moved("wheel", None, Some("2")),
            ]
        );
        let hashes = LOCK.replace("sha256:1", "sha256:3");
        assert_eq!(moves(LOCK, &hashes), []);
    }

    #[test]
    fn the_releases_packages_stay_unless_another_lock_has_them_freely() {
        let lock = |names: &[&str]| -> BTreeMap<String, String> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), "1".to_owned()))
                .collect()
        };
        let locks = Locks(BTreeMap::from([
            (RELEASE_LOCK, lock(&["flask", "wheel"])),
            ("requirements-airflow.lock", lock(&["flask", "dbt-core"])),
            ("requirements-installer.lock", lock(&["wheel"])),
        ]));
        assert!(locks.is_the_releases("flask"));
        assert!(!locks.is_the_releases("dbt-core"));
        assert!(!locks.is_the_releases("wheel"));
        assert_eq!(
            locks.packages(),
            BTreeSet::from(["dbt-core", "flask", "wheel"])
        );
    }

    #[test]
    fn names_are_compared_as_an_index_does() {
        for name in ["Flask-Login", "flask_login", "flask.login", "FLASK--login"] {
            assert_eq!(normalised(name), "flask-login");
        }
    }
}
