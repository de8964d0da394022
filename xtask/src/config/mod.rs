//! What a person wrote, as types: the workspace, `deploy.toml`, `.env`.

mod allowed;
mod check;
mod deploy;
pub(crate) mod dotenv;
pub(crate) mod environment;
mod generate;
mod hosts;
mod notice;
mod place;
mod reference;
pub(crate) mod settings;
mod web;
mod workspace;

pub(crate) use allowed::{Allow, Allowed};
pub(crate) use check::{Problem, check};
pub(crate) use deploy::{Bases, Deploy, DeployEdit};
pub(crate) use dotenv::EnvFile;
pub(crate) use generate::{ROTATED, Surroundings, generate, renew};
pub(crate) use hosts::{EnvSource, Host, Transport};
pub(crate) use notice::notices;
pub(crate) use place::Place;
pub(crate) use reference::{Reference, is_digest};
pub(crate) use settings::{Settings, Store};
pub(crate) use web::Web;
pub(crate) use workspace::{COMPOSE_FILES, Workspace};
