//! The image: its inputs, their hash, the bases it stands on, and the build.

mod base;
mod build;
mod fingerprint;
mod inputs;
mod lock;
mod mmdebstrap;

pub(crate) use base::{BaseName, LABEL_RECIPE, Origin, ensure_bases, find_base};
pub(crate) use build::{BuildFacts, LABEL_INPUTS, observe, plan, prunable};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use lock::{compile, debian};

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
