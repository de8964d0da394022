//! The image: its inputs, their hash, the bases it stands on, and the build.

mod archive;
mod base;
mod build;
mod difference;
mod fingerprint;
mod git;
mod inputs;
mod last;
mod lock;
mod manifest;
mod mmdebstrap;
mod platform;
#[cfg(test)]
mod properties;
mod registry;
mod revision;
mod size;
pub(crate) mod tool;

pub(crate) use archive::{Saved, Scratch};
pub(crate) use base::{Base, BaseName, LABEL_RECIPE, Origin, ensure_bases, find_base, find_bases};
pub(crate) use build::{
    BuildFacts, Builder, LABEL_INPUTS, build_from_nothing, build_step, manifest_of, observe, plan,
    prunable,
};
pub(crate) use difference::{Difference, between as differences};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use git::GitState;
pub(crate) use inputs::{Kind as InputKind, named};
pub(crate) use last::LastBuild;
#[cfg(test)]
pub(crate) use lock::Move;
pub(crate) use lock::{
    Locks, Outdated, Upgrade, compile, debian, normalised, versions as locked_versions,
};
pub(crate) use manifest::{Change, Manifest};
pub(crate) use platform::refuse_other as refuse_other_platform;
pub(crate) use registry::{Answer, Fault, Fetched, Held, Registries, fault, fetch, held, push};
pub(crate) use revision::Revision;
pub(crate) use size::{layers as layer_sizes, summary as size_summary};

use std::path::Path;

use anyhow::Result;

/// The hash of named files and settings.
///
/// # Errors
/// Where a file is missing.
pub(crate) fn files_fingerprint(
    root: &Path,
    files: &[&str],
    settings: &[(&str, &str)],
) -> Result<Fingerprint> {
    let mut all = Vec::new();
    for file in files {
        all.extend(inputs::named(root, Path::new(file))?);
    }
    Ok(Fingerprint::of(settings, &all))
}

/// The hash of every file in a folder, to see whether anything in it changed.
pub(crate) fn folder_fingerprint(folder: &Path) -> Result<String> {
    Ok(Fingerprint::of(&[], &inputs::folder_inputs(folder)?).to_string())
}
