//! What only Airflow knows, asked through its stable REST API.

mod api;
mod clock;
mod guard;
mod health;
mod log;
mod run;

pub(crate) use api::{Api, DagRun};
pub(crate) use clock::central;
pub(crate) use guard::foretell;
pub(crate) use health::{Truth, wait_for_truth};
pub(crate) use log::Essence;
pub(crate) use run::{Follow, Outcome, first_failed, first_failed_of, follow, tasks_of};
