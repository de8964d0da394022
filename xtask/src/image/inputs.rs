//! The files that the image is made of.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::error::Failure;

/// One file as it counts for the hash: path, executable or not, content. Owner,
/// times and the other mode bits do not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Input {
    /// Relative to the folder that is hashed.
    pub(crate) path: PathBuf,
    /// What the path is.
    pub(crate) kind: Kind,
    /// sha256 of the content, or of the link's target.
    pub(crate) content: [u8; 32],
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A plain file.
    File,
    /// A file that someone may execute.
    Executable,
    /// A symbolic link, by its target.
    Link,
    /// A folder with nothing in it, which `COPY` would bring along. git keeps none:
    /// it is there in one clone and not in another, and the hash tells them apart.
    Folder,
}

impl Kind {
    /// Its mark in the hash.
    pub(crate) fn mark(self) -> &'static [u8] {
        match self {
            Self::File => b"f",
            Self::Executable => b"x",
            Self::Link => b"l",
            Self::Folder => b"d",
        }
    }
}

/// The inputs of the image: the Dockerfile, and what `.dockerignore` lets the
/// engine see. Sorted bytewise by path.
///
/// # Errors
/// A user failure where an input is missing, or where `.dockerignore` is more
/// than `*` and literal `!path` lines, so that we could not tell what the
/// engine sees.
pub(crate) fn image_inputs(root: &Path, dockerfile: &str) -> Result<Vec<Input>> {
    let mut names = vec![dockerfile.to_owned()];
    names.extend(readmitted(root)?);
    let mut inputs = Vec::new();
    for name in names {
        collect(root, Path::new(&name), &mut inputs)?;
    }
    Ok(sorted(inputs))
}

/// One path below `root`: a file, or every file below a folder.
pub(crate) fn named(root: &Path, path: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    collect(root, path, &mut inputs)?;
    Ok(sorted(inputs))
}

/// Every file below `folder`, with paths relative to it.
pub(crate) fn folder_inputs(folder: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for entry in read_dir(folder)? {
        collect(folder, Path::new(&entry), &mut inputs)?;
    }
    Ok(sorted(inputs))
}

/// In the one order in which they are hashed, each once.
pub(super) fn sorted(mut inputs: Vec<Input>) -> Vec<Input> {
    inputs.sort_by(|a, b| {
        a.path
            .as_os_str()
            .as_bytes()
            .cmp(b.path.as_os_str().as_bytes())
    });
    inputs.dedup();
    inputs
}

/// The paths behind `!` in `.dockerignore`.
fn readmitted(root: &Path) -> Result<Vec<String>> {
    let path = root.join(".dockerignore");
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::user(format!("failed to read {}: {error}", path.display()))
            .hint("git checkout .dockerignore")
    })?;
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let refuse = |number: usize| {
        Failure::user(format!(
            "failed to read line {number} of .dockerignore: only `*`, then literal `!path` lines, \
             are understood"
        ))
        .hint("name each input by its own line: !requirements-airflow.lock")
    };
    match lines.next() {
        Some((_, "*")) => {}
        Some((number, _)) => return Err(refuse(number).into()),
        None => return Err(refuse(1).into()),
    }
    lines
        .map(|(number, line)| {
            let name = line.strip_prefix('!').ok_or_else(|| refuse(number))?;
            let literal = !name.contains(['*', '?', '[', '\\']);
            let inside = Path::new(name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if literal && inside && !name.is_empty() {
                Ok(name.trim_end_matches('/').to_owned())
            } else {
                Err(refuse(number).into())
            }
        })
        .collect()
}

fn collect(root: &Path, relative: &Path, inputs: &mut Vec<Input>) -> Result<()> {
    let path = root.join(relative);
    let meta = fs::symlink_metadata(&path).map_err(|error| {
        Failure::user(format!(
            "failed to read {}, an input of the image: {error}",
            relative.display()
        ))
        .hint(format!("git checkout {}", relative.display()))
    })?;
    if meta.is_dir() {
        let names = read_dir(&path)?;
        for name in &names {
            collect(root, &relative.join(name), inputs)?;
        }
        if names.is_empty() {
            inputs.push(Input {
                path: relative.to_path_buf(),
                kind: Kind::Folder,
                content: Sha256::digest([]).into(),
            });
        }
        return Ok(());
    }
    let (kind, content) = if meta.is_symlink() {
        let target = fs::read_link(&path)
            .with_context(|| format!("failed to read the link {}", path.display()))?;
        (
            Kind::Link,
            Sha256::digest(target.as_os_str().as_bytes()).into(),
        )
    } else if meta.permissions().mode() & 0o111 != 0 {
        (Kind::Executable, hash_file(&path)?)
    } else {
        (Kind::File, hash_file(&path)?)
    };
    inputs.push(Input {
        path: relative.to_path_buf(),
        kind,
        content,
    });
    Ok(())
}

fn read_dir(folder: &Path) -> Result<Vec<std::ffi::OsString>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.file_name())).collect())
        .map_err(|error| {
            Failure::user(format!(
                "failed to read the folder {}: {error}",
                folder.display()
            ))
            .hint(format!("git checkout {}", folder.display()))
            .into()
        })
}

/// sha256 of a file, read in pieces.
pub(crate) fn hash_file(path: &Path) -> Result<[u8; 32]> {
    let read = || -> std::io::Result<[u8; 32]> {
        let mut file = fs::File::open(path)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hash.finalize().into()),
                n => hash.update(&piece[..n]),
            }
        }
    };
    read().with_context(|| format!("failed to read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(ignore: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".dockerignore"), ignore).unwrap();
        fs::write(root.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::create_dir_all(root.path().join("in/b")).unwrap();
        fs::write(root.path().join("in/b/z"), "z").unwrap();
        fs::write(root.path().join("in/a"), "a").unwrap();
        fs::write(root.path().join("out"), "out").unwrap();
        root
    }

    fn paths(root: &Path) -> Vec<String> {
        image_inputs(root, "Dockerfile")
            .unwrap()
            .iter()
            .map(|input| input.path.display().to_string())
            .collect()
    }

    #[test]
    fn the_inputs_are_what_the_engine_could_see() {
        let root = tree("# all\n*\n!in\n");
        assert_eq!(paths(root.path()), ["Dockerfile", "in/a", "in/b/z"]);
    }

    #[test]
    fn a_folder_counts_where_it_is_empty() {
        let root = tree("*\n!in\n");
        let full = image_inputs(root.path(), "Dockerfile").unwrap();
        fs::create_dir_all(root.path().join("in/c/d")).unwrap();
        assert_eq!(
            paths(root.path()),
            ["Dockerfile", "in/a", "in/b/z", "in/c/d"]
        );
        fs::write(root.path().join("in/c/d/e"), "").unwrap();
        let held = image_inputs(root.path(), "Dockerfile").unwrap();
        assert!(held.iter().all(|input| input.kind != Kind::Folder));
        fs::remove_dir_all(root.path().join("in/c")).unwrap();
        assert_eq!(image_inputs(root.path(), "Dockerfile").unwrap(), full);
    }

    #[test]
    fn a_missing_input_is_an_error_with_its_name() {
        let root = tree("*\n!gone.lock\n");
        let error = image_inputs(root.path(), "Dockerfile").unwrap_err();
        assert_eq!(
            crate::error::show(&error).text,
            "error: failed to read gone.lock, an input of the image: No such file or directory \
             (os error 2)\nhint: git checkout gone.lock\n"
        );
    }

    #[test]
    fn an_ignore_file_that_cannot_be_followed_is_refused() {
        for ignore in [
            "",
            "out\n",
            "*\nout\n",
            "*\n!in/*\n",
            "*\n!../up\n",
            "*\n!/abs\n",
        ] {
            let root = tree(ignore);
            let error = image_inputs(root.path(), "Dockerfile").unwrap_err();
            assert!(error.to_string().contains(".dockerignore"), "{ignore:?}");
        }
    }

    #[test]
    fn only_the_executable_bit_of_the_mode_counts() {
        let root = tree("*\n!in\n");
        let path = root.path().join("in/a");
        let kind = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            image_inputs(root.path(), "Dockerfile").unwrap()[1].kind
        };
        assert_eq!(kind(0o600), Kind::File);
        assert_eq!(kind(0o664), Kind::File);
        assert_eq!(kind(0o755), Kind::Executable);
        assert_eq!(kind(0o700), Kind::Executable);
    }

    #[test]
    fn links_count_by_their_target() {
        let root = tree("*\n!in\n");
        let link = root.path().join("in/link");
        std::os::unix::fs::symlink("a", &link).unwrap();
        let first = image_inputs(root.path(), "Dockerfile").unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("b/z", &link).unwrap();
        assert_ne!(first, image_inputs(root.path(), "Dockerfile").unwrap());
    }
}
