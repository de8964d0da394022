//! What the test suites stand on: the image with test tools, and databases that
//! live as long as the tests.

mod databases;
mod host;
mod image;
mod registry;
mod remote;

pub(crate) use databases::{Client, Purpose, Throwaway};
pub(crate) use host::Host;
pub(crate) use image::{RIVALS, TESTS, TestImage};
pub(crate) use registry::Registry;
pub(crate) use remote::{NAME, Remote};
