//! What every command starts from.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::config::{Deploy, Host, Settings, Workspace, environment, settings};
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Machine, Ssh, Term};
use crate::stack::{Images, Stack, made_by_another};

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

    /// The same once more, for another thread.
    pub(crate) fn again(&self) -> Result<Self> {
        let workspace = Workspace::find()?;
        let machine = self.machine.again()?;
        Ok(Self {
            workspace,
            machine,
            term: self.term.clone(),
        })
    }

    /// `deploy.toml`.
    pub(crate) fn deploy(&self) -> Result<Deploy> {
        Deploy::read(&self.workspace)
    }

    /// Another machine, by its name in `deploy.toml`.
    ///
    /// # Errors
    /// Where the folder of shared connections is not this user's alone.
    pub(crate) fn over(&self, name: &str, host: &Host) -> Result<Machine> {
        let user = rustix::process::getuid().as_raw();
        let sockets = environment::runtime_folder().map_or_else(
            || PathBuf::from(format!("/tmp/airflow-dental-{user}")),
            |folder| folder.join("airflow-dental"),
        );
        let ssh = Ssh::new(name, &host.ssh, &host.ssh_options(), &sockets)?;
        Machine::over(self.workspace.root(), self.term.clone(), ssh)
    }

    /// A valid `.env`.
    pub(crate) fn settings(&self) -> Result<Settings> {
        Settings::read(&self.workspace)
    }

    /// While it lives, no other command changes this checkout's stack. The
    /// kernel drops it with the process, so nothing is left to clean up.
    pub(crate) fn alone(&self) -> Result<File> {
        let path = self.workspace.cache().join("lock-of-the-stack");
        let open = || -> std::io::Result<File> {
            fs::create_dir_all(self.workspace.cache())?;
            File::create(&path)
        };
        let file = open().with_context(|| format!("failed to open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Failure::user(
                "failed to start: another cargo xtask works on this checkout's stack",
            )
            .hint("wait until it has ended, then try again")
            .into()),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("failed to lock {}", path.display()))
            }
        }
    }

    /// Refuses a project whose containers another checkout has made, and still has.
    pub(crate) fn own(&self, engine: &Engine<'_>, project: &str) -> Result<()> {
        let containers = engine.containers(project)?;
        let Some(other) = made_by_another(&containers, self.workspace.root()) else {
            return Ok(());
        };
        let other = other.display();
        Err(Failure::user(format!(
            "failed to take {project} for this checkout's stack: it is that of {other}"
        ))
        .hint(format!(
            "cd {other}\nor give this one a name, ports and secrets of its own: rm .env && cargo xtask env"
        ))
        .into())
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
