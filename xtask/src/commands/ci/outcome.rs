//! What became of the parts.

use std::time::Duration;

/// One part that has ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) what: String,
    pub(super) took: Duration,
    pub(super) passed: bool,
}

/// What a run did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) done: Vec<Done>,
    /// What was not run, and why.
    pub(super) left_out: Vec<String>,
}

impl Outcome {
    /// Of two lanes.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.done.extend(other.done);
        self.left_out.extend(other.left_out);
        self
    }
}
