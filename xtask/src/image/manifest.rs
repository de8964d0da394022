//! Everything that decides an image, part by part: its hash, and why a hash is
//! not what it was.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::fingerprint::{Fingerprint, SCHEME};
use super::inputs::{Input, Kind};

/// Hex digits of a content's hash.
const SHORT: usize = 16;

/// The parts of an image's hash.
///
/// As JSON it is a label of the image, so that an image explains itself wherever
/// it is, and can be held against another or against a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// What is hashed, and how.
    pub(crate) scheme: String,
    /// Name → value: base, platform, build arguments.
    pub(crate) settings: BTreeMap<String, String>,
    /// Path → `file`, `executable` or `link`, then the first 16 hex digits of the
    /// sha256 of the content or of the link's target: enough to tell two contents
    /// of one path apart. The hash itself is over whole ones.
    pub(crate) files: BTreeMap<String, String>,
}

/// How one part differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub(crate) enum Change {
    /// There in both, and not the same.
    Changed {
        /// The path, or the name of the setting.
        part: String,
        /// The value before and now, where it tells a person something.
        values: Option<(String, String)>,
    },
    /// Only in the later one.
    Appeared {
        /// The path, or the name of the setting.
        part: String,
    },
    /// Only in the earlier one.
    Vanished {
        /// The path, or the name of the setting.
        part: String,
    },
}

impl Manifest {
    /// The parts of `inputs` under `settings`, and their hash.
    pub(crate) fn of(settings: &[(&str, &str)], inputs: &[Input]) -> (Self, Fingerprint) {
        let files = inputs.iter().map(|input| {
            let kind = match input.kind {
                Kind::File => "file",
                Kind::Executable => "executable",
                Kind::Link => "link",
                Kind::Folder => "folder",
            };
            let path = input.path.to_string_lossy().into_owned();
            let content = HEXLOWER.encode(&input.content);
            (path, format!("{kind} {}", &content[..SHORT]))
        });
        let manifest = Self {
            scheme: SCHEME.to_owned(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            files: files.collect(),
        };
        (manifest, Fingerprint::of(settings, inputs))
    }

    /// As the label has it.
    pub(crate) fn to_json(&self) -> String {
        // Maps of strings alone: nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What makes `self` another image than `before`; empty where nothing does.
    pub(crate) fn changes_since(&self, before: &Self) -> Vec<Change> {
        let scheme = |of: &Self| BTreeMap::from([("scheme".to_owned(), of.scheme.clone())]);
        let mut changes = differences(&scheme(before), &scheme(self), true);
        changes.extend(differences(&before.settings, &self.settings, true));
        changes.extend(differences(&before.files, &self.files, false));
        changes
    }
}

fn differences(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    telling: bool,
) -> Vec<Change> {
    let parts: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let one = |part: &String| match (before.get(part), now.get(part)) {
        (Some(a), Some(b)) if a == b => None,
        (Some(a), Some(b)) => Some(Change::Changed {
            part: part.clone(),
            values: match (telling, kind_of(a), kind_of(b)) {
                (true, _, _) => Some((a.clone(), b.clone())),
                (false, a, b) => (a != b).then(|| (a.to_owned(), b.to_owned())),
            },
        }),
        (None, _) => Some(Change::Appeared { part: part.clone() }),
        (_, None) => Some(Change::Vanished { part: part.clone() }),
    };
    parts.into_iter().filter_map(one).collect()
}

/// `executable` of `executable 1a2b…`.
fn kind_of(file: &str) -> &str {
    file.split(' ').next().unwrap_or(file)
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed { part, values } => match values {
                Some((before, now)) => write!(f, "~ {part}: {before} → {now}"),
                None => write!(f, "~ {part}"),
            },
            Self::Appeared { part } => write!(f, "+ {part}"),
            Self::Vanished { part } => write!(f, "- {part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str, kind: Kind, content: u8) -> Input {
        Input {
            path: path.into(),
            kind,
            content: [content; 32],
        }
    }

    #[test]
    fn what_changed_appeared_and_vanished_is_named() {
        let (before, _) = Manifest::of(
            &[("base", "a:1"), ("platform", "linux/amd64")],
            &[
                input("gone", Kind::File, 1),
                input("run.sh", Kind::File, 2),
                input("same", Kind::File, 3),
                input("text", Kind::File, 4),
            ],
        );
        let (now, _) = Manifest::of(
            &[("base", "a:2"), ("platform", "linux/amd64")],
            &[
                input("new", Kind::Link, 1),
                input("run.sh", Kind::Executable, 2),
                input("same", Kind::File, 3),
                input("text", Kind::File, 5),
            ],
        );
        let told: Vec<String> = now
            .changes_since(&before)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "~ base: a:1 → a:2",
                "- gone",
                "+ new",
                "~ run.sh: file → executable",
                "~ text",
            ]
        );
        assert_eq!(now.changes_since(&now), []);
    }

    #[test]
    fn the_label_reads_back_as_it_was_written() {
        let (manifest, _) = Manifest::of(&[("base", "b")], &[input("a b", Kind::Link, 7)]);
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }
}
