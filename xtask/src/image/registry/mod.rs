//! What image registries hold, and bringing our image to one, by docker's own
//! commands and with the credentials of its own store.

mod ask;
mod digest;
mod fault;
mod pull;
mod push;

pub(crate) use digest::{Answer, Registries};
pub(super) use fault::out_of_reach;
pub(crate) use fault::{Fault, fault};
pub(crate) use pull::{Fetched, fetch};
pub(crate) use push::{Held, held, push};
