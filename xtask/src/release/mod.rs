//! What a host holds and how it comes to serve another release: observe, plan,
//! ship, and the part that the host runs by itself.

mod alone;
mod code;
mod copies;
mod critical;
mod holder;
mod leavings;
mod observe;
mod plan;
mod serving;
mod settings;
mod ship;

pub(crate) use alone::{ALONE, Places, alone};
pub(crate) use code::{Code, ROOTS};
pub(crate) use copies::{
    Contents, Dump, Lost, copies, fetch, give, knows, look, lost, refuse_elsewhere,
};
pub(crate) use critical::{Event, Follow, Outcome, Task, Work, start};
pub(crate) use holder::{Holder, lock};
pub(crate) use leavings::{Leavings, leavings};
pub(crate) use observe::{ActiveRun, Observed, Served, State, observe};
pub(crate) use plan::{AIRFLOW, Calling, Needed, Plan, Wanted, Way, plan};
pub(crate) use serving::serving;
pub(crate) use settings::{Difference, env_of, made_of};
pub(crate) use ship::{ship, ship_inputs, write_env, write_run_env};

use serde::{Deserialize, Serialize};

/// Releases that stay on a host, failed ones apart.
pub(crate) const KEEP: usize = 5;

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
    /// Compose's project.
    pub(crate) project: String,
    /// The databases that are services of it, in order.
    pub(crate) databases: Vec<String>,
    /// Fingerprint of settings and secrets.
    pub(crate) env: String,
    /// Fingerprint of all that needs a restart when it changes: see [`plan::shape`].
    pub(crate) shape: String,
}
