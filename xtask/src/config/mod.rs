//! What a person wrote, as types: the workspace, `deploy.toml`, `.env`.

mod check;
mod deploy;
pub(crate) mod dotenv;
pub(crate) mod environment;
mod generate;
mod notice;
pub(crate) mod settings;
mod workspace;

pub(crate) use check::{Problem, check};
pub(crate) use deploy::{Bases, Deploy};
pub(crate) use dotenv::EnvFile;
pub(crate) use generate::{Surroundings, generate};
pub(crate) use notice::notices;
pub(crate) use settings::{Settings, Store};
pub(crate) use workspace::Workspace;
