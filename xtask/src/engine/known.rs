//! What the programs of this machine said of themselves when they were last
//! asked: asking again takes longer than all the rest of a command that has
//! nothing to do. An answer counts as long as the program, and the plugins that
//! it may use, are the same files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::environment;
use crate::exec::Machine;

/// Below the root of the checkout.
const FILE: &str = ".cache/programs.json";
/// Where the docker CLIs look for plugins, after the person's own folder.
const PLUGINS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// Whether an answer from before may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Only where nothing is remembered.
    Once,
    /// In any case; the answer is remembered anew.
    Again,
}

/// What `program` answers to `question`, asked through `ask` where it has to be.
/// `None` is never remembered: what did not start may start the next time.
pub(crate) fn answer<T: Serialize + DeserializeOwned>(
    machine: &Machine,
    how: Ask,
    (program, question): (&Path, &str),
    ask: impl FnOnce() -> Option<T>,
) -> Option<T> {
    let file = machine.root().join(FILE);
    let key = format!("{question}: {}", program.display());
    let state = state(program);
    let mut all = read(&file);
    if how == Ask::Once
        && let Some((known, value)) = all.get(&key)
        && *known == state
        && let Ok(value) = serde_json::from_value(value.clone())
    {
        return Some(value);
    }
    let answer = ask()?;
    if let Ok(value) = serde_json::to_value(&answer) {
        let new = (state, value);
        if all.get(&key) != Some(&new) {
            all.insert(key, new);
            write(machine, &file, &all);
        }
    }
    Some(answer)
}

/// Key → the files that answered, and what they answered.
type Answers = BTreeMap<String, (String, Value)>;

fn read(file: &Path) -> Answers {
    let bytes = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// A memory that cannot be kept costs time, nothing else.
fn write(machine: &Machine, file: &Path, all: &Answers) {
    let folder = file.parent().unwrap_or(file);
    if fs::create_dir_all(folder).is_ok()
        && let Ok(text) = serde_json::to_vec_pretty(all)
    {
        machine.write(file, &text, 0o644).ok();
    }
}

/// The program and every plugin, by size and time of change.
fn state(program: &Path) -> String {
    let own = environment::docker_config().map(|folder| folder.join("cli-plugins"));
    let folders = own.into_iter().chain(PLUGINS.map(PathBuf::from));
    let plugins = folders
        .flat_map(|folder| ["docker-buildx", "docker-compose"].map(|name| folder.join(name)));
    let files = std::iter::once(program.to_path_buf()).chain(plugins);
    let seen = files.filter_map(|path| {
        let meta = fs::metadata(&path).ok()?;
        let (size, seconds, nanos) = (meta.len(), meta.mtime(), meta.mtime_nsec());
        Some(format!("{} {size} {seconds}.{nanos:09}", path.display()))
    });
    seen.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::exec::Term;

    #[test]
    fn a_program_is_asked_again_only_after_it_changed_or_did_not_answer() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path(), Term::new(false)).unwrap();
        let program = root.path().join("tool");
        fs::write(&program, "1").unwrap();
        let asked = Cell::new(0);
        let ask = |how, said: Option<&str>| {
            let said = said.map(str::to_owned);
            answer(&machine, how, (&program, "version"), || {
                asked.set(asked.get() + 1);
                said
            })
        };
        assert_eq!((ask(Ask::Once, None), asked.get()), (None, 1));
        assert_eq!(ask(Ask::Once, Some("one")).as_deref(), Some("one"));
        assert_eq!(ask(Ask::Once, Some("two")).as_deref(), Some("one"));
        assert_eq!(asked.get(), 2);
        assert_eq!(ask(Ask::Again, Some("two")).as_deref(), Some("two"));
        assert_eq!(ask(Ask::Once, Some("three")).as_deref(), Some("two"));
        fs::write(&program, "22").unwrap();
        assert_eq!(ask(Ask::Once, Some("three")).as_deref(), Some("three"));
        fs::write(root.path().join(FILE), "no JSON").unwrap();
        assert_eq!(ask(Ask::Once, Some("four")).as_deref(), Some("four"));
    }
}
