//! The only place that starts a process.
//!
//! A [`Step`] is an argv and what it is for; a [`Machine`] is where they run,
//! here or over ssh.
//! Echo, timing, redaction, time limits and process groups live here.

mod machine;
mod signals;
mod ssh;
mod step;
mod term;

pub(crate) use machine::{Captured, Machine, Passage};
pub(crate) use signals::{AtEnd, INTERRUPTED, LastWord, forward_interrupts, interrupted, met};
pub(crate) use ssh::Ssh;
pub(crate) use step::{Step, quote};
pub(crate) use term::{Drawing, HowFar, Term, millis, plural, size};
