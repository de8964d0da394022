//! Another machine: what it is, and what it needs to carry the stack.

mod facts;
pub(crate) mod fitness;
pub(crate) mod images;
mod provision;

#[cfg(test)]
pub(crate) use facts::parse;
pub(crate) use facts::{Facts, Rights, Told, observe, observe_and};
pub(crate) use provision::{Plan, plan};
