//! Why two images that should be one are not: down to layer and file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::archive::GZIP;

/// One file of a layer, as far as it decides the layer's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    /// Seconds since 1970.
    modified: u64,
    /// Of a link.
    target: String,
    /// sha256 of the content.
    content: String,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// From 0, the base's first.
    pub(crate) layer: usize,
    /// In the image; empty where the layer itself is what differs.
    pub(crate) path: String,
    /// What differs: `time 0 → 1700000000`.
    pub(crate) what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, path, what } = self;
        if path.is_empty() {
            write!(f, "layer {layer}: {what}")
        } else {
            write!(f, "layer {layer}, /{path}: {what}")
        }
    }
}

/// The archive's table of contents, as `docker save` writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    layers: Vec<String>,
}

/// Compares the files of the layers by number in `wanted` of two archives that
/// `docker save` wrote. Engines of different ages pack the same files in other
/// orders and with other headers: that is no difference here.
pub(crate) fn between(one: &Path, other: &Path, wanted: &[usize]) -> Result<Vec<Difference>> {
    let (names_a, names_b) = (layers(one)?, layers(other)?);
    let mut all = Vec::new();
    for layer in wanted.iter().copied() {
        let (Some(a), Some(b)) = (names_a.get(layer), names_b.get(layer)) else {
            all.push(Difference {
                layer,
                path: String::new(),
                what: "only one of the images has it".to_owned(),
            });
            continue;
        };
        all.extend(entries_between(
            &entries(one, a)?,
            &entries(other, b)?,
            layer,
        ));
    }
    Ok(all)
}

fn entries_between(
    a: &BTreeMap<String, Entry>,
    b: &BTreeMap<String, Entry>,
    layer: usize,
) -> Vec<Difference> {
    let mut paths: Vec<&String> = a.keys().chain(b.keys()).collect();
    paths.sort();
    paths.dedup();
    let one = |path: &String| {
        let what = match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) if a == b => return None,
            (Some(a), Some(b)) => unlike(a, b),
            (Some(_), None) => "only in the first".to_owned(),
            (None, _) => "only in the second".to_owned(),
        };
        Some(Difference {
            layer,
            path: path.clone(),
            what,
        })
    };
    paths.into_iter().filter_map(one).collect()
}

fn unlike(a: &Entry, b: &Entry) -> String {
    let mut what = Vec::new();
    if a.kind != b.kind {
        let (a, b) = (char::from(a.kind), char::from(b.kind));
        what.push(format!("type {a} → {b}"));
    }
    if a.content != b.content {
        what.push("content".to_owned());
    }
    if a.target != b.target {
        what.push(format!("link {} → {}", a.target, b.target));
    }
    if a.mode != b.mode {
        what.push(format!("mode {:o} → {:o}", a.mode, b.mode));
    }
    if a.owner != b.owner {
        let ((u, g), (v, h)) = (a.owner, b.owner);
        what.push(format!("owner {u}:{g} → {v}:{h}"));
    }
    if a.modified != b.modified {
        what.push(format!("time {} → {}", a.modified, b.modified));
    }
    what.join(", ")
}

/// The names of the layers' archives inside of an image's archive, in order.
fn layers(archive: &Path) -> Result<Vec<String>> {
    let contents = within(archive, "manifest.json", |entry| {
        let all: Vec<Contents> = serde_json::from_reader(entry)?;
        Ok(all)
    })?;
    let first = contents.into_iter().next();
    Ok(first
        .with_context(|| format!("failed to read {}: it holds no image", archive.display()))?
        .layers)
}

/// Path → file of one layer.
fn entries(archive: &Path, layer: &str) -> Result<BTreeMap<String, Entry>> {
    within(archive, layer, |layer| {
        let mut all = BTreeMap::new();
        let mut inner = tar::Archive::new(unpacked(layer)?);
        for entry in inner.entries()? {
            let mut entry = entry?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            let header = entry.header();
            // Some engines note the kind of file in the mode as well.
            let (kind, mode) = (header.entry_type().as_byte(), header.mode()? & 0o7777);
            let (owner, modified) = ((header.uid()?, header.gid()?), header.mtime()?);
            let mut hash = Sha256::new();
            let mut piece = vec![0; 1 << 16];
            loop {
                match entry.read(&mut piece)? {
                    0 => break,
                    n => hash.update(&piece[..n]),
                }
            }
            let entry = Entry {
                kind,
                mode,
                owner,
                modified,
                target,
                content: HEXLOWER.encode(&hash.finalize()),
            };
            all.insert(path.trim_end_matches('/').to_owned(), entry);
        }
        Ok(all)
    })
}

/// A layer as the archive has it: engines with the containerd store keep it
/// compressed.
fn unpacked<'l>(mut layer: &'l mut dyn Read) -> Result<Box<dyn Read + 'l>> {
    let mut start = Vec::new();
    (&mut layer)
        .take(GZIP.len() as u64)
        .read_to_end(&mut start)?;
    let packed = start == GZIP;
    let whole = Cursor::new(start).chain(layer);
    Ok(if packed {
        Box::new(GzDecoder::new(whole))
    } else {
        Box::new(whole)
    })
}

/// Reads one file of an archive.
fn within<T>(
    archive: &Path,
    name: &str,
    read: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let context = || format!("failed to read {name} in {}", archive.display());
    let file = File::open(archive).with_context(context)?;
    let mut outer = tar::Archive::new(BufReader::new(file));
    for entry in outer.entries().with_context(context)? {
        let mut entry = entry.with_context(context)?;
        if entry.path_bytes().as_ref() == name.as_bytes() {
            return read(&mut entry).with_context(context);
        }
    }
    Err(anyhow::anyhow!("it is not there")).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, content, mode, time.
    type Member<'m> = (&'m str, &'m str, u32, u64);

    fn tar(members: &[Member<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content, mode, time) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(*time);
            header.set_uid(50_000);
            header.set_gid(0);
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn plain(layer: Vec<u8>) -> Vec<u8> {
        layer
    }

    fn packed(layer: Vec<u8>) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &layer).unwrap();
        encoder.finish().unwrap()
    }

    fn image(folder: &Path, name: &str, layers: &[&[Member<'_>]]) -> std::path::PathBuf {
        saved(folder, name, layers, plain)
    }

    /// An archive as `docker save` writes it, with a layer for each list.
    fn saved(
        folder: &Path,
        name: &str,
        layers: &[&[Member<'_>]],
        keep: fn(Vec<u8>) -> Vec<u8>,
    ) -> std::path::PathBuf {
        let names: Vec<String> = (0..layers.len())
            .map(|n| format!("{n}/layer.tar"))
            .collect();
        let manifest = serde_json::json!([{"Config": "c.json", "Layers": names}]).to_string();
        let mut builder = tar::Builder::new(Vec::new());
        let mut append = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        for (name, members) in names.iter().zip(layers) {
            append(name, &keep(tar(members)));
        }
        append("manifest.json", manifest.as_bytes());
        let path = folder.join(name);
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        path
    }

    #[test]
    fn what_differs_is_named_by_layer_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let base: &[Member<'_>] = &[("etc/os", "debian", 0o644, 0)];
        let one: &[Member<'_>] = &[
            ("a.py", "x = 1", 0o644, 0),
            ("b.pyc", "1", 0o644, 0),
            ("gone", "", 0o644, 0),
            ("same", "s", 0o644, 0),
        ];
        let other: &[Member<'_>] = &[
            ("a.py", "x = 1", 0o664, 99),
            ("b.pyc", "2", 0o644, 0),
            ("new", "", 0o644, 0),
            ("same", "s", 0o644, 0),
        ];
        let a = image(folder.path(), "a.tar", &[base, one]);
        let b = image(folder.path(), "b.tar", &[base, other]);
        let told: Vec<String> = between(&a, &b, &[1])
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "layer 1, /a.py: mode 644 → 664, time 0 → 99",
                "layer 1, /b.pyc: content",
                "layer 1, /gone: only in the first",
                "layer 1, /new: only in the second",
            ]
        );
        let c = image(folder.path(), "c.tar", &[base]);
        let told = between(&a, &c, &[1]).unwrap();
        assert_eq!(
            told[0].to_string(),
            "layer 1: only one of the images has it"
        );
    }

    #[test]
    fn the_same_files_are_no_difference_however_an_engine_packs_them() {
        let folder = tempfile::tempdir().unwrap();
        let one: &[Member<'_>] = &[("a", "1", 0o644, 0), ("b/c", "2", 0o755, 0)];
        let other: &[Member<'_>] = &[("b/c", "2", 0o100_755, 0), ("a", "1", 0o100_644, 0)];
        let a = image(folder.path(), "a.tar", &[one]);
        let b = saved(folder.path(), "b.tar", &[other], packed);
        assert_eq!(between(&a, &b, &[0]).unwrap(), []);
    }

    #[test]
    fn an_archive_without_the_layer_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, tar(&[("other", "", 0o644, 0)])).unwrap();
        let error = between(&path, &path, &[0]).unwrap_err();
        assert!(error.to_string().contains("manifest.json"), "{error}");
    }
}
