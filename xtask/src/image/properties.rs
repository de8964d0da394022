//! What the image's hash depends on and what it does not, over trees that nobody
//! thought of.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::fingerprint::Fingerprint;
use super::inputs::{Input, Kind, image_inputs, sorted};
use super::manifest::Manifest;

/// Admits one folder and one file of two.
const IGNORE: &str = "# deny all\n*\n!in\n!single.lock\n";
const DOCKERFILE: &str = "Dockerfile";
const SETTINGS: [(&str, &str); 5] = [
    ("dockerfile", DOCKERFILE),
    ("base", "apache/airflow:2.7.1"),
    ("base content", "apache/airflow@sha256:1"),
    ("platform", "linux/amd64"),
    ("build arg", "1"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { content: Vec<u8>, executable: bool },
    Link(PathBuf),
}

/// Files and links by their path; folders are where these need them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree(BTreeMap<PathBuf, Node>);

/// What a clone may have otherwise, and the hash shall not see.
#[derive(Debug, Clone)]
struct Look {
    /// Bits of the mode besides those that decide whether it is executable.
    mode: u32,
    /// Which of the three executable bits an executable file has.
    executable: u32,
    /// Seconds since 1970.
    modified: u64,
}

impl Tree {
    /// `None` where the path is there, or where a file stands in its way.
    fn with(&self, path: &Path, node: Node) -> Option<Self> {
        let blocked = path.ancestors().any(|dir| self.0.contains_key(dir))
            || self.0.keys().any(|other| other.starts_with(path));
        let mut tree = self.clone();
        tree.0.insert(path.to_path_buf(), node);
        (!blocked).then_some(tree)
    }

    fn replaced(&self, path: &Path, node: Node) -> Self {
        let mut tree = self.clone();
        tree.0.insert(path.to_path_buf(), node).unwrap();
        tree
    }

    fn without(&self, path: &Path) -> Self {
        let mut tree = self.clone();
        tree.0.remove(path).unwrap();
        tree
    }

    fn files(&self) -> Vec<&Path> {
        let is_file = |node: &Node| matches!(node, Node::File { .. });
        let files = self.0.iter().filter(|(_, node)| is_file(node));
        files.map(|(path, _)| path.as_path()).collect()
    }

    fn content(&self, path: &Path) -> (Vec<u8>, bool) {
        match &self.0[path] {
            Node::File {
                content,
                executable,
            } => (content.clone(), *executable),
            Node::Link(_) => panic!("{} is a link", path.display()),
        }
    }

    /// Makes it on disk, its parts in the order of `order`.
    fn write(&self, root: &Path, order: &[PathBuf], look: &Look) {
        fs::create_dir_all(root.join("in")).unwrap();
        fs::write(root.join(".dockerignore"), IGNORE).unwrap();
        for path in order {
            let full = root.join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            match &self.0[path] {
                Node::Link(target) => symlink(target, &full).unwrap(),
                Node::File {
                    content,
                    executable,
                } => {
                    fs::write(&full, content).unwrap();
                    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(look.modified);
                    let file = File::options().append(true).open(&full).unwrap();
                    file.set_modified(modified).unwrap();
                    let bits = if *executable { look.executable } else { 0 };
                    // Its owner has to be able to read it.
                    let mode = 0o400 | look.mode & 0o666 | bits;
                    fs::set_permissions(&full, Permissions::from_mode(mode)).unwrap();
                }
            }
        }
    }

    fn order(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// Its hash, in a folder of its own.
    fn hash(&self) -> Fingerprint {
        let root = tempfile::tempdir().unwrap();
        self.write(root.path(), &self.order(), &PLAIN);
        manifest(root.path()).1
    }
}

const PLAIN: Look = Look {
    mode: 0o644,
    executable: 0o111,
    modified: 1_700_000_000,
};

fn manifest(root: &Path) -> (Manifest, Fingerprint) {
    Manifest::of(&SETTINGS, &image_inputs(root, DOCKERFILE).unwrap())
}

fn file(content: &[u8]) -> Node {
    Node::File {
        content: content.to_vec(),
        executable: false,
    }
}

/// Names that tools stumble over; no file system forbids them.
fn name() -> impl Strategy<Value = OsString> {
    prop_oneof![
        4 => "[a-cA-C0-9._ -]{1,4}".prop_map(OsString::from),
        2 => "[.]?[éß☂字\n\t\\\\*!#\"']{1,3}".prop_map(OsString::from),
        1 => Just(OsString::from("...")),
        1 => Just(OsString::from_vec(b"not utf-8 \xff".to_vec())),
    ]
    .prop_filter("a name of its own", |name| name != "." && name != "..")
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        3 => (prop::collection::vec(any::<u8>(), 0..40), any::<bool>())
            .prop_map(|(content, executable)| Node::File { content, executable }),
        1 => prop::collection::vec(name(), 1..3)
            .prop_map(|names| Node::Link(names.iter().collect())),
    ]
}

/// Two files of different content at least, so that every change can be made.
fn tree() -> impl Strategy<Value = Tree> {
    let below_in = (prop::collection::vec(name(), 1..4), node());
    prop::collection::vec(below_in, 0..10).prop_map(|parts| {
        let fixed = [
            (DOCKERFILE, "FROM scratch\n"),
            ("single.lock", "a==1\n"),
            ("in/one", "1"),
        ];
        let fixed = fixed.map(|(path, text)| (PathBuf::from(path), file(text.as_bytes())));
        let mut tree = Tree(fixed.into());
        for (names, node) in parts {
            let path: PathBuf = [OsString::from("in")].iter().chain(&names).collect();
            tree = tree.with(&path, node).unwrap_or(tree);
        }
        tree
    })
}

fn shuffled_tree() -> impl Strategy<Value = (Tree, Vec<PathBuf>)> {
    tree().prop_flat_map(|tree| {
        let order = Just(tree.order()).prop_shuffle();
        (Just(tree), order)
    })
}

fn look() -> impl Strategy<Value = Look> {
    let executable = select(vec![0o111, 0o100, 0o010, 0o001, 0o110]);
    (0..=0o777_u32, executable, 0..4_000_000_000_u64).prop_map(|(mode, executable, modified)| {
        Look {
            mode,
            executable,
            modified,
        }
    })
}

/// Every way in which one file of `tree` may change, with its name.
fn changes(tree: &Tree, at: &Index, byte: &Index) -> Vec<(&'static str, Tree, Tree)> {
    let files = tree.files();
    let path = *at.get(&files);
    let (content, executable) = tree.content(path);
    let node = |content: Vec<u8>, executable| Node::File {
        content,
        executable,
    };
    let mut flipped = content.clone();
    match flipped.len() {
        0 => flipped.push(0),
        length => flipped[byte.index(length)] ^= 1,
    }
    let mut longer = content.clone();
    longer.push(b'\n');
    let mut changes = vec![
        ("one byte", tree.replaced(path, node(flipped, executable))),
        (
            "one byte more",
            tree.replaced(path, node(longer, executable)),
        ),
        (
            "executable or not",
            tree.replaced(path, node(content.clone(), !executable)),
        ),
        (
            "a file more",
            tree.with(Path::new("in/one more"), file(b"")).unwrap(),
        ),
        (
            "a link more",
            tree.with(Path::new("in/one more"), Node::Link("one".into()))
                .unwrap(),
        ),
    ];
    let other = files
        .iter()
        .find(|other| tree.content(other).0 != content)
        .unwrap();
    let (theirs, theirs_executable) = tree.content(other);
    changes.push((
        "two contents swapped",
        tree.replaced(path, node(theirs, executable))
            .replaced(other, node(content.clone(), theirs_executable)),
    ));
    if path.starts_with("in") {
        let mut renamed = path.as_os_str().to_owned();
        renamed.push("~~~~~");
        changes.push(("a file less", tree.without(path)));
        changes.extend(
            tree.without(path)
                .with(Path::new(&renamed), node(content.clone(), executable))
                .map(|tree| ("a file renamed", tree)),
        );
    }
    let links = tree.0.iter().filter_map(|(path, node)| match node {
        Node::Link(target) => Some((path, target)),
        Node::File { .. } => None,
    });
    for (path, target) in links {
        let mut other = target.as_os_str().to_owned();
        other.push("x");
        let other = Node::Link(PathBuf::from(other));
        changes.push(("a link's target", tree.replaced(path, other)));
        let text = file(target.as_os_str().as_bytes());
        changes.push(("a link made a file", tree.replaced(path, text)));
    }
    let mut all: Vec<_> = changes
        .into_iter()
        .map(|(what, changed)| (what, tree.clone(), changed))
        .collect();
    // The copy is there before and after: only what the path is changes.
    let twice = tree
        .with(Path::new("in/the copy"), tree.0[path].clone())
        .unwrap();
    let root = "../".repeat(path.components().count() - 1);
    let link = Node::Link(Path::new(&root).join("in/the copy"));
    let linked = twice.replaced(path, link);
    all.push(("a file made a link to its like", twice, linked));
    all
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn git(root: &Path, args: &[&str]) {
    let done = Command::new("git")
        .args(args)
        .current_dir(root)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .status()
        .unwrap();
    assert!(done.success(), "git {args:?}");
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn a_clone_elsewhere_at_another_time_with_another_umask_is_the_same(
        (tree, order) in shuffled_tree(),
        look in look(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (folder.path().join("a"), folder.path().join("b b/ü"));
        tree.write(&here, &tree.order(), &PLAIN);
        tree.write(&there, &order, &look);
        prop_assert_eq!(manifest(&here), manifest(&there));
    }

    #[test]
    fn what_the_engine_does_not_see_does_not_count(
        tree in tree(),
        extra in prop::collection::vec((name(), prop::collection::vec(any::<u8>(), 0..9)), 1..5),
    ) {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        tree.write(root, &tree.order(), &PLAIN);
        let before = manifest(root);
        fs::create_dir(root.join("out")).unwrap();
        for (name, content) in extra {
            // Neither what is admitted nor what admits it.
            let mut aside = OsString::from("x");
            aside.push(&name);
            fs::write(root.join(aside), &content).unwrap();
            fs::write(root.join("out").join(name), content).unwrap();
        }
        prop_assert_eq!(&manifest(root), &before);
        if which::which("git").is_ok() {
            git(root, &["init", "--quiet"]);
            prop_assert_eq!(&manifest(root), &before);
            git(root, &["add", "--all"]);
            prop_assert_eq!(&manifest(root), &before);
        }
    }

    #[test]
    fn whatever_changes_in_a_file_or_link_moves_the_hash(
        tree in tree(),
        at in any::<Index>(),
        byte in any::<Index>(),
    ) {
        for (what, before, after) in changes(&tree, &at, &byte) {
            prop_assert_ne!(before.hash(), after.hash(), "{}", what);
        }
    }

    #[test]
    fn inputs_are_in_bytewise_order_however_they_were_found(
        (tree, order) in shuffled_tree(),
    ) {
        let root = tempfile::tempdir().unwrap();
        tree.write(root.path(), &order, &PLAIN);
        let inputs = image_inputs(root.path(), DOCKERFILE).unwrap();
        let bytes = |input: &Input| input.path.as_os_str().as_bytes().to_vec();
        prop_assert!(inputs.iter().all(|input| input.path.is_relative()));
        prop_assert!(inputs.is_sorted_by(|a, b| bytes(a) < bytes(b)));
        let place = |input: &Input| order.iter().position(|path| *path == input.path);
        let mut found = inputs.clone();
        found.sort_by_key(place);
        prop_assert_eq!(sorted(found), inputs);
    }
}

type Parts = (Vec<(String, String)>, Vec<Input>);

/// Few letters, so that parts which run together would meet.
fn parts() -> impl Strategy<Value = Parts> {
    let input = (
        "[ab]{1,2}",
        select(vec![Kind::File, Kind::Executable, Kind::Link, Kind::Folder]),
        0..2_u8,
    )
        .prop_map(|(path, kind, content)| Input {
            path: path.into(),
            kind,
            content: [content; 32],
        });
    (
        prop::collection::vec(("[ab]{0,2}", "[ab]{0,2}"), 0..3),
        prop::collection::vec(input, 0..3),
    )
}

fn fingerprint((settings, inputs): &Parts) -> Fingerprint {
    let settings: Vec<_> = settings.iter().map(|(n, v)| (&**n, &**v)).collect();
    Fingerprint::of(&settings, inputs)
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn different_parts_have_different_hashes(one in parts(), other in parts()) {
        prop_assert_eq!(one == other, fingerprint(&one) == fingerprint(&other));
    }

    #[test]
    fn a_setting_moves_the_hash_by_one_letter(
        at in any::<Index>(),
        letter in any::<Index>(),
        inputs in parts(),
    ) {
        let (name, value) = *at.get(&SETTINGS);
        let mut bytes = value.as_bytes().to_vec();
        let length = bytes.len();
        bytes[letter.index(length)] ^= 1;
        let changed = String::from_utf8(bytes).unwrap();
        let settings = SETTINGS.map(|(n, v)| (n, if n == name { &changed } else { v }));
        let (before, hash) = Manifest::of(&SETTINGS, &inputs.1);
        let (now, moved) = Manifest::of(&settings, &inputs.1);
        prop_assert_ne!(hash, moved);
        let told: Vec<String> = now.changes_since(&before).iter().map(ToString::to_string).collect();
        prop_assert_eq!(told, [format!("~ {name}: {value} → {changed}")]);
        let less: Vec<_> = SETTINGS.into_iter().filter(|(n, _)| *n != name).collect();
        prop_assert_ne!(Manifest::of(&less, &inputs.1).1, Manifest::of(&SETTINGS, &inputs.1).1);
    }
}
