//! What a command says to people who look at a run's page on GitHub, and on standard
//! output everywhere.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context as _, Result};

use super::print;
use crate::config::environment;

/// A table that was made for a terminal: printed, and shown on the page as it is.
pub(super) fn tell(title: &str, text: &str) -> Result<()> {
    print(text)?;
    page(title, text)
}

/// The same for the page alone.
pub(super) fn page(title: &str, text: &str) -> Result<()> {
    append(&fenced(title, text))
}

/// Markdown below what the page has; nothing where there is none.
pub(super) fn append(markdown: &str) -> Result<()> {
    let Some(path) = environment::github_summary() else {
        return Ok(());
    };
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(markdown.as_bytes()))
        .with_context(|| format!("failed to write {}", path.display()))
}

fn fenced(title: &str, text: &str) -> String {
    format!("### {title}\n\n```text\n{}\n```\n\n", text.trim_end())
}
