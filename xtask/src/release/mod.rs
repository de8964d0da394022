//! What a host holds and how it comes to serve another release: observe, plan,
//! ship, and the part that the host runs by itself.

mod code;
mod critical;
mod observe;
mod plan;
mod ship;

pub(crate) use code::{Code, ROOTS};
pub(crate) use critical::{Event, Follow, Outcome, Task, start};
pub(crate) use observe::{Observed, observe};
pub(crate) use plan::{Calling, Needed, Plan, Wanted, Way, plan};
pub(crate) use ship::{ship, write_env};

use serde::{Deserialize, Serialize};

/// One release, as `.release/release.json` of its folder has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    /// `<time>-<commit>-<image hash>`; sorts by time.
    pub(crate) id: String,
    /// Who made it, and where.
    pub(crate) by: String,
    /// The full commit id.
    pub(crate) commit: String,
    /// It held what was not committed.
    pub(crate) dirty: bool,
    /// See [`Code::digest`].
    pub(crate) code: String,
    /// The image of every Airflow service.
    pub(crate) image: String,
    /// Fingerprint of settings and secrets.
    pub(crate) env: String,
    /// Fingerprint of all that needs a restart when it changes: see [`plan::shape`].
    pub(crate) shape: String,
}
