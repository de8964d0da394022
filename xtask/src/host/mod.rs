//! Another machine: what it is, and what it needs to carry the stack.

mod closer;
mod facts;
pub(crate) mod fitness;
pub(crate) mod images;
mod provision;

pub(crate) use closer::{Closer, Holder, look_closer};
#[cfg(test)]
pub(crate) use facts::parse;
pub(crate) use facts::{Facts, Folder, Rights, Told, observe, observe_and};
pub(crate) use provision::{Plan, plan};
