//! Deploys to another machine, reached by a real ssh, whose engine runs the real
//! stack.
//!
//! Run by `cargo xtask ci`; by hand:
//! `cargo test --test deploy -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it does, and ends where something is wrong"
)]

#[path = "../containers/mod.rs"]
mod containers;
mod data;
mod faults;
mod life;
mod operate;
#[path = "../pages/mod.rs"]
mod pages;
mod reach;
mod refusals;
mod schema;
#[path = "../spare/mod.rs"]
mod spare;
mod transports;
