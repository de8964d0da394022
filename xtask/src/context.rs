//! What every command starts from.

use anyhow::Result;

use crate::config::{Deploy, Settings, Workspace, settings};
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Machine, Term};
use crate::stack::{Images, Stack};

/// The checkout, this machine, and the terminal.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) workspace: Workspace,
    pub(crate) machine: Machine,
    pub(crate) term: Term,
}

impl Context {
    pub(crate) fn new(verbose: bool) -> Result<Self> {
        let workspace = Workspace::find()?;
        let term = Term::new(verbose);
        let machine = Machine::new(workspace.root(), term.clone())?;
        // Whatever a command goes on to do, no tool's words shall show these.
        if let Some(env) = Settings::read_unchecked(&workspace)? {
            machine.keep_secret(settings::secrets(&env));
        }
        Ok(Self {
            workspace,
            machine,
            term,
        })
    }

    /// `deploy.toml`.
    pub(crate) fn deploy(&self) -> Result<Deploy> {
        Deploy::read(&self.workspace)
    }

    /// A valid `.env`.
    pub(crate) fn settings(&self) -> Result<Settings> {
        Settings::read(&self.workspace)
    }

    /// The engine, through a CLI that can build.
    pub(crate) fn engine(&self) -> Result<Engine<'_>> {
        Engine::find(&self.machine)
    }

    /// The container of a service that has to run.
    pub(crate) fn running(&self, stack: &Stack<'_>, service: &str) -> Result<String> {
        match stack.service(service)? {
            Some(container) if container.state.status == "running" => Ok(container.id),
            other => {
                let condition = other.map_or_else(|| "not created".into(), |c| c.condition());
                Err(Failure::user(format!(
                    "failed to find {service} running: it is {condition}"
                ))
                .hint("cargo xtask up")
                .into())
            }
        }
    }

    /// The stack as it runs; for commands that change no image.
    pub(crate) fn stack<'a>(
        &self,
        engine: &'a Engine<'a>,
        settings: &'a Settings,
    ) -> Result<Stack<'a>> {
        Stack::open(engine, settings, Images::default())
    }
}
