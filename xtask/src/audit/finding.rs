//! What a tool found, and what it could not look at.

use serde::Serialize;

/// An advisory that is about a locked version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The package, as the tool names it.
    pub(crate) package: String,
    /// The version that is locked.
    pub(crate) version: String,
    /// The name under which the service has it.
    pub(crate) id: String,
    /// Its other names.
    pub(crate) aliases: Vec<String>,
    /// Versions or ranges without it; none where it is not mended anywhere.
    pub(crate) fixed_in: Vec<String>,
    /// What it is, in the service's words.
    pub(crate) says: String,
}

impl Finding {
    /// Whether `id` is one of its names.
    pub(crate) fn is(&self, id: &str) -> bool {
        self.id == id || self.aliases.iter().any(|alias| alias == id)
    }
}

/// A package that was not looked at: nothing is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Missed {
    /// The package, normalised.
    pub(crate) package: String,
    /// In the tool's words.
    pub(crate) why: String,
}

/// One lock, looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    /// How many packages it has; those that were missed among them.
    pub(crate) packages: usize,
    /// Those that were not looked at.
    pub(crate) missed: Vec<Missed>,
    /// What was found about the others.
    pub(crate) findings: Vec<Finding>,
}
