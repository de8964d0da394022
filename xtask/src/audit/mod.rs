//! Known advisories about what is locked, and which of them may stay.
//!
//! Two tools are asked, one for each lock. Where one was not answered, that is
//! a failure or a missed package, never an empty list of findings.

mod crates;
mod finding;
mod python;
mod verdict;

pub(crate) use crates::Crates;
pub(crate) use finding::{Finding, Looked};
pub(crate) use python::{LOCK as PYTHON_LOCK, Python, Service};
pub(crate) use verdict::{Judged, Verdict, judge, unused};
