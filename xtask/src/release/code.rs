//! The code that a release holds: what Airflow reads beside its image.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use xshell::cmd;

use crate::error::Failure;
use crate::exec::{Machine, Step};
use crate::image::{InputKind, named};

/// All that travels; tests and the benchmark stay at home.
pub(crate) const ROOTS: [&str; 11] = [
    "airflow/bootstrap",
    "airflow/dags",
    "airflow/plugins",
    "airflow/release",
    "dbt_dental_models",
    "docker-compose.host.yml",
    "docker-compose.web.yml",
    "docker-compose.yml",
    "etl_pipeline",
    "mysql/initdb.d",
    "postgres/initdb.d",
];
/// What containers read only as they are made or start: a change needs a restart.
const READ_AT_START: [&str; 7] = [
    "airflow/bootstrap/",
    "airflow/plugins/",
    "docker-compose.host.yml",
    "docker-compose.web.yml",
    "docker-compose.yml",
    "mysql/",
    "postgres/",
];
/// A line for each file, as [`Code::listing`] has them, of the tree in $1.
pub(crate) const LIST: &str = "cd \"$1\" || exit 1\n\
    find . -path ./.release -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum\n\
    find . -path ./.release -prune -o -type f -perm -u+x -print | LC_ALL=C sort | sed 's/^/x /'\n\
    find . -path ./.release -prune -o ! -type f ! -type d -print | LC_ALL=C sort | sed 's/^/? /'\n";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// sha256 of its content, in hex.
    content: String,
    executable: bool,
}

/// Files by their path, with content and executable bit; nothing else counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Code(BTreeMap<String, File>);

/// What makes one tree of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Paths whose content or mode is new.
    pub(crate) changed: Vec<String>,
    /// Paths that are gone.
    pub(crate) removed: Vec<String>,
}

impl Code {
    /// The checkout's, as it is now: committed or not, unless git ignores it.
    ///
    /// # Errors
    /// A user failure outside of a git repository, and for a path that is no file.
    pub(crate) fn of(machine: &Machine, root: &Path) -> Result<Self> {
        let sh = machine.sh();
        // Those of dbt are the night's own.
        let at_home = [
            ":(exclude,glob)etl_pipeline/**/tests/**",
            ":(exclude)etl_pipeline/bench",
        ];
        let step = Step::new(
            "list the code",
            cmd!(
                sh,
                "git ls-files -z --cached --others --exclude-standard -- {ROOTS...} {at_home...}"
            ),
        );
        let captured = machine.capture(&step)?;
        if !captured.ok() {
            return Err(
                Failure::user("failed to list the code: this is no git repository")
                    .hint("a release names the commit that it is made of: deploy from a clone")
                    .into(),
            );
        }
        // Not those that are deleted, and not committed yet.
        let there = |path: &&str| root.join(path).symlink_metadata().is_ok();
        Self::of_files(root, captured.stdout.split_terminator('\0').filter(there))
    }

    /// Files by name.
    ///
    /// # Errors
    /// A user failure for a path that is no file.
    pub(crate) fn of_files<'p>(
        root: &Path,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<Self> {
        let mut files = BTreeMap::new();
        for path in paths {
            for input in named(root, Path::new(path))? {
                let executable = match input.kind {
                    InputKind::File => false,
                    InputKind::Executable => true,
                    _ => return Err(no_file(path)),
                };
                if path.contains(['\n', '\\']) {
                    return Err(no_file(path));
                }
                let content = HEXLOWER.encode(&input.content);
                files.insert(
                    path.to_owned(),
                    File {
                        content,
                        executable,
                    },
                );
            }
        }
        Ok(Self(files))
    }

    /// What [`LIST`] printed on a host; a path that is no plain file counts as
    /// one that nothing is like.
    pub(crate) fn read(listing: &str) -> Self {
        let mut files = BTreeMap::new();
        for line in listing.lines() {
            if let Some(path) = line.strip_prefix("x ./") {
                if let Some(File { executable, .. }) = files.get_mut(path) {
                    *executable = true;
                }
            } else if let Some(path) = line.strip_prefix("? ./") {
                files.insert(
                    path.to_owned(),
                    File {
                        content: String::new(),
                        executable: false,
                    },
                );
            } else if let Some((content, path)) = line.split_once("  ./") {
                let content = content.to_owned();
                let executable = false;
                files.insert(
                    path.to_owned(),
                    File {
                        content,
                        executable,
                    },
                );
            }
        }
        Self(files)
    }

    /// What [`LIST`] prints of the same files.
    pub(crate) fn listing(&self) -> String {
        let mut text = String::new();
        for (path, file) in &self.0 {
            writeln!(text, "{}  ./{path}", file.content).ok();
        }
        for (path, _) in self.0.iter().filter(|(_, file)| file.executable) {
            writeln!(text, "x ./{path}").ok();
        }
        text
    }

    /// sha256 of the listing, in hex: a host can compute it from its files alone.
    pub(crate) fn digest(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.listing()))
    }

    /// The same, of what containers read only as they start.
    pub(crate) fn digest_at_start(&self) -> String {
        let at_start = |path: &str| READ_AT_START.iter().any(|lead| path.starts_with(lead));
        let files = self.0.iter().filter(|(path, _)| at_start(path));
        Self(files.map(|(p, f)| (p.clone(), f.clone())).collect()).digest()
    }

    /// What has to be done to `other` to make it this. Of its hashes the beginning
    /// may be known alone.
    pub(crate) fn since(&self, other: &Self) -> Changes {
        let is_like = |file: &File, other: &File| {
            file.executable == other.executable
                && !other.content.is_empty()
                && file.content.starts_with(&other.content)
        };
        let changed = self
            .0
            .iter()
            .filter(|(path, file)| !other.0.get(*path).is_some_and(|o| is_like(file, o)));
        let removed = other.0.keys().filter(|path| !self.0.contains_key(*path));
        Changes {
            changed: changed.map(|(path, _)| path.clone()).collect(),
            removed: removed.cloned().collect(),
        }
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn no_file(path: &str) -> anyhow::Error {
    Failure::user(format!(
        "failed to list the code: {path} is no plain file with a plain name"
    ))
    .hint("only plain files are shipped")
    .into()
}

/// Where the paths of a change lie, for rsync's `--files-from`, with NUL after each.
pub(crate) fn nul_separated(paths: &[String]) -> String {
    paths
        .iter()
        .flat_map(|path| [path.as_str(), "\0"])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::exec::Term;

    fn at(root: &Path, path: &str) -> PathBuf {
        root.join(path)
    }

    fn tree() -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("airflow/dags/a dag.py", "a"),
            ("airflow/dags/b.py", "b"),
            ("airflow/tests/test_a.py", "t"),
            ("etl_pipeline/bench/measure.py", "b"),
            ("etl_pipeline/etl_pipeline/tests/t.py", "t"),
            ("dbt_dental_models/tests/generic/t.sql", "t"),
            ("etl_pipeline/etl_pipeline/run.sh", "r"),
            ("docker-compose.yml", "c"),
            ("README.md", "r"),
        ] {
            let path = at(root.path(), path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let run = at(root.path(), "etl_pipeline/etl_pipeline/run.sh");
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Machine::new(root.path(), Term::new(false)).unwrap();
        let sh = machine.sh();
        cmd!(sh, "git init --quiet").run().unwrap();
        (root, machine)
    }

    #[test]
    fn a_host_lists_the_same_files_alike() {
        let (root, machine) = tree();
        let code = Code::of(&machine, root.path()).unwrap();
        let paths: Vec<&str> = code.0.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "airflow/dags/a dag.py",
                "airflow/dags/b.py",
                "dbt_dental_models/tests/generic/t.sql",
                "docker-compose.yml",
                "etl_pipeline/etl_pipeline/run.sh"
            ]
        );
        // As it lies on a host: those files, and the release's own.
        for path in [
            "README.md",
            ".git",
            "airflow/tests",
            "etl_pipeline/bench",
            "etl_pipeline/etl_pipeline/tests",
        ] {
            let path = at(root.path(), path);
            fs::remove_dir_all(&path)
                .or_else(|_| fs::remove_file(&path))
                .unwrap();
        }
        fs::create_dir(at(root.path(), ".release")).unwrap();
        fs::write(at(root.path(), ".release/release.json"), "{}").unwrap();
        let (sh, here) = (machine.sh(), root.path());
        let listed = cmd!(sh, "sh -c {LIST} list {here}").read().unwrap() + "\n";
        assert_eq!(listed, code.listing());
        assert_eq!(Code::read(&listed), code);
    }

    #[test]
    fn a_change_of_content_or_mode_travels_and_nothing_else() {
        let (root, machine) = tree();
        let before = Code::of(&machine, root.path()).unwrap();
        assert_eq!(before.since(&before), Changes::default());
        fs::write(at(root.path(), "airflow/dags/b.py"), "B").unwrap();
        fs::remove_file(at(root.path(), "airflow/dags/a dag.py")).unwrap();
        let run = at(root.path(), "etl_pipeline/etl_pipeline/run.sh");
        fs::set_permissions(run, fs::Permissions::from_mode(0o644)).unwrap();
        let after = Code::of(&machine, root.path()).unwrap();
        assert_eq!(
            after.since(&before),
            Changes {
                changed: vec![
                    "airflow/dags/b.py".into(),
                    "etl_pipeline/etl_pipeline/run.sh".into()
                ],
                removed: vec!["airflow/dags/a dag.py".into()],
            }
        );
        assert_ne!(after.digest(), before.digest());
        assert_eq!(after.digest_at_start(), before.digest_at_start());
        fs::write(at(root.path(), "docker-compose.yml"), "C").unwrap();
        let restarts = Code::of(&machine, root.path()).unwrap();
        assert_ne!(restarts.digest_at_start(), before.digest_at_start());
    }

    #[test]
    fn what_is_no_file_is_refused_here_and_like_nothing_there() {
        let (root, machine) = tree();
        let code = Code::of(&machine, root.path()).unwrap();
        std::os::unix::fs::symlink("b.py", at(root.path(), "airflow/dags/c.py")).unwrap();
        let error = Code::of(&machine, root.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("airflow/dags/c.py is no plain file")
        );
        let there = Code::read(&format!("{}? ./airflow/dags/c.py\n", code.listing()));
        assert_eq!(code.since(&there).removed, ["airflow/dags/c.py"]);
    }
}
