//! An image as an archive that every engine loads, without layers that the other
//! side has.
//!
//! It is an OCI layout whose layers are not compressed, so that a layer's digest
//! is its diff id, and `docker save`'s table of contents beside it: engines with
//! the containerd store read the one, the others the other.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How compressed layers begin.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    file: PathBuf,
    at: u64,
    size: u64,
}

/// What `docker save` wrote, found again.
#[derive(Debug)]
pub(crate) struct Saved {
    config: Vec<u8>,
    /// `sha256:…` of each layer, the base's first, and where it is.
    layers: Vec<(String, Place)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    config: String,
    layers: Vec<String>,
}

impl Saved {
    /// Reads an archive; compressed layers are unpacked into `scratch`.
    pub(crate) fn read(archive: &Path, scratch: &Path) -> Result<Self> {
        let context = || format!("failed to read {}", archive.display());
        let found = members(archive).with_context(context)?;
        let place = |name: &str| {
            found
                .get(name)
                .cloned()
                .with_context(|| format!("failed to find {name} in {}", archive.display()))
        };
        let all: Vec<Contents> = serde_json::from_slice(&place("manifest.json")?.read()?)?;
        let contents = all.into_iter().next().with_context(context)?;
        let config = place(&contents.config)?.read()?;
        let told: Value = serde_json::from_slice(&config).with_context(context)?;
        let ids: Vec<String> = serde_json::from_value(told["rootfs"]["diff_ids"].clone())
            .context("failed to read the layers of the image's config")?;
        ensure!(
            ids.len() == contents.layers.len(),
            "failed to read {}: its config has {} layers, its table {}",
            archive.display(),
            ids.len(),
            contents.layers.len()
        );
        let layers = ids
            .into_iter()
            .zip(&contents.layers)
            .map(|(id, name)| Ok((id, place(name)?.unpacked(scratch)?)))
            .collect::<Result<_>>()?;
        Ok(Self { config, layers })
    }

    /// Digests of its layers, the base's first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().map(|(id, _)| id.as_str())
    }

    /// Bytes of its layers without the first `known`, as they are in the archive.
    pub(crate) fn size(&self, known: usize) -> u64 {
        let layers = self.layers.iter().skip(known);
        layers.map(|(_, place)| place.size).sum()
    }

    /// By which engines without the containerd store know the image.
    pub(crate) fn config_digest(&self) -> String {
        digest(&self.config)
    }

    /// By which engines with the containerd store know what [`Saved::write`] wrote.
    pub(crate) fn manifest_digest(&self) -> String {
        digest(self.manifest().to_string().as_bytes())
    }

    fn manifest(&self) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(id, place)| json!({"mediaType": LAYER, "digest": id, "size": place.size}))
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": CONFIG, "digest": self.config_digest(), "size": self.config.len(),
            },
            "layers": layers,
        })
    }

    /// Writes the image as `name:tag` without its first `known` layers.
    pub(crate) fn write(&self, name: &str, known: usize, to: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(to);
        let manifest = self.manifest().to_string();
        let tag = name.rsplit(':').next().unwrap_or(name);
        // containerd wants names in full, as docker writes them there itself.
        let full = match name.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
            Some(_) => format!("docker.io/{name}"),
            None => format!("docker.io/library/{name}"),
        };
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST, "digest": digest(manifest.as_bytes()), "size": manifest.len(),
                "annotations": {
                    "io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag,
                },
            }],
        });
        let layers: Vec<String> = self.layers.iter().map(|(id, _)| blob(id)).collect();
        let table = json!([{
            "Config": blob(&self.config_digest()), "RepoTags": [name], "Layers": layers,
        }]);
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, &blob(&self.config_digest()), &self.config)?;
        append(
            &mut tar,
            &blob(&digest(manifest.as_bytes())),
            manifest.as_bytes(),
        )?;
        let mut written: Vec<&str> = Vec::new();
        for (id, place) in self.layers.iter().skip(known) {
            // Two layers may be one: empty ones often are.
            if !written.contains(&id.as_str()) {
                written.push(id);
                tar.append_data(&mut header(place.size), blob(id), place.open()?)
                    .with_context(|| format!("failed to write layer {id}"))?;
            }
        }
        append(&mut tar, "index.json", index.to_string().as_bytes())?;
        append(&mut tar, "manifest.json", table.to_string().as_bytes())?;
        tar.into_inner()
            .and_then(|mut to| to.flush())
            .context("failed to end the archive")
    }
}

impl Place {
    fn open(&self) -> Result<impl Read> {
        let mut file = File::open(&self.file)
            .with_context(|| format!("failed to read {}", self.file.display()))?;
        file.seek(SeekFrom::Start(self.at))?;
        Ok(file.take(self.size))
    }

    fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Itself, or where it was unpacked to.
    fn unpacked(self, scratch: &Path) -> Result<Self> {
        let mut start = Vec::new();
        self.open()?
            .take(GZIP.len() as u64)
            .read_to_end(&mut start)?;
        if start != GZIP {
            return Ok(self);
        }
        let file = scratch.join(format!("{}.tar", self.at));
        let size = File::create(&file)
            .and_then(|mut to| {
                let mut from = GzDecoder::new(self.open().map_err(io::Error::other)?);
                io::copy(&mut from, &mut to)
            })
            .with_context(|| format!("failed to unpack a layer to {}", file.display()))?;
        Ok(Self { file, at: 0, size })
    }
}

/// Name → place of each file, links followed: a layer that occurs twice is one.
fn members(archive: &Path) -> Result<HashMap<String, Place>> {
    let mut found = HashMap::new();
    let mut links = Vec::new();
    let mut tar = tar::Archive::new(BufReader::new(File::open(archive)?));
    for entry in tar.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if let Some(target) = entry.link_name()? {
            let target = target.to_string_lossy().into_owned();
            links.push((name, target.trim_start_matches("../").to_owned()));
        } else {
            let place = Place {
                file: archive.to_path_buf(),
                at: entry.raw_file_position(),
                size: entry.size(),
            };
            found.insert(name, place);
        }
    }
    for (name, target) in links {
        if let Some(place) = found.get(&target).cloned() {
            found.insert(name, place);
        }
    }
    Ok(found)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes)))
}

/// `blobs/sha256/…`
fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes)
        .with_context(|| format!("failed to write {name}"))
}

/// A folder of its own, gone when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    pub(crate) fn make(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Three layers, the last the same as the first, as docker 20.10 saves them:
    /// by a link.
    fn saved(folder: &Path, pack: fn(&[u8]) -> Vec<u8>) -> (Saved, Vec<String>) {
        let layers: [&[u8]; 2] = [b"one", b"two"];
        let ids = [layers[0], layers[1], layers[0]].map(digest);
        let config = json!({"rootfs": {"diff_ids": ids}}).to_string();
        let table = json!([{"Config": "c.json", "RepoTags": ["n:t"],
            "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}]);
        let file = folder.join("saved.tar");
        let mut tar = tar::Builder::new(File::create(&file).unwrap());
        append(&mut tar, "1/layer.tar", &pack(layers[0])).unwrap();
        append(&mut tar, "2/layer.tar", &pack(layers[1])).unwrap();
        let mut link = header(0);
        link.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut link, "3/layer.tar", "../1/layer.tar")
            .unwrap();
        append(&mut tar, "c.json", config.as_bytes()).unwrap();
        append(&mut tar, "manifest.json", table.to_string().as_bytes()).unwrap();
        tar.into_inner().unwrap();
        (Saved::read(&file, folder).unwrap(), ids.to_vec())
    }

    fn written(saved: &Saved, known: usize) -> HashMap<String, Vec<u8>> {
        let mut bytes = Vec::new();
        saved.write("n:t", known, &mut bytes).unwrap();
        tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (name, content)
            })
            .collect()
    }

    #[test]
    fn every_name_is_the_digest_of_what_it_holds_and_both_tables_agree() {
        for pack in [<[u8]>::to_vec, gzip] {
            let folder = tempfile::tempdir().unwrap();
            let (saved, ids) = saved(folder.path(), pack);
            assert_eq!(saved.layers().collect::<Vec<_>>(), ids);
            let all = written(&saved, 0);
            let blobs: Vec<&String> = all.keys().filter(|name| name.contains("sha256")).collect();
            assert_eq!(blobs.len(), 4, "two layers, config, manifest");
            for name in blobs {
                assert_eq!(*name, blob(&digest(&all[name])));
            }
            let index: Value = serde_json::from_slice(&all["index.json"]).unwrap();
            assert_eq!(index["manifests"][0]["digest"], saved.manifest_digest());
            assert_eq!(
                index["manifests"][0]["annotations"]["io.containerd.image.name"],
                "docker.io/library/n:t"
            );
            let manifest: Value =
                serde_json::from_slice(&all[&blob(&saved.manifest_digest())]).unwrap();
            let table: Value = serde_json::from_slice(&all["manifest.json"]).unwrap();
            assert_eq!(table[0]["Config"], blob(&saved.config_digest()));
            for (n, id) in ids.iter().enumerate() {
                assert_eq!(manifest["layers"][n]["digest"], *id);
                assert_eq!(manifest["layers"][n]["size"], 3);
                assert_eq!(table[0]["Layers"][n], blob(id));
            }
        }
    }

    #[test]
    fn known_layers_are_named_and_do_not_travel() {
        let folder = tempfile::tempdir().unwrap();
        let (saved, ids) = saved(folder.path(), <[u8]>::to_vec);
        let some = written(&saved, 1);
        assert!(some.contains_key(&blob(&ids[1])));
        // The third is the first again, and the first may be known by another name.
        assert!(some.contains_key(&blob(&ids[2])));
        let none = written(&saved, 3);
        assert!(ids.iter().all(|id| !none.contains_key(&blob(id))));
        assert_eq!(none["manifest.json"], some["manifest.json"]);
    }
}
