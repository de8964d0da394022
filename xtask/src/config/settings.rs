//! What the rest of xtask asks of `.env`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use super::check::is_secret;
use super::dotenv::EnvFile;
use super::generate::{BOUND, BOUND_TO_MYSQL, BOUND_TO_POSTGRES};
use super::{Problem, Workspace, check, environment};
use crate::error::Failure;

/// Whether a database is a service of the stack or somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// A service of our own compose file.
    Ours,
    /// A server elsewhere: never started, stopped or filled by us.
    External,
}

/// A valid `.env`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    env: EnvFile,
}

impl Settings {
    /// Reads and checks the workspace's `.env`.
    ///
    /// # Errors
    /// A user failure where the file is missing, or one that names every
    /// problem in it.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let Some(env) = Self::read_unchecked(workspace)? else {
            return Err(Failure::user("failed to read .env: it does not exist")
                .hint("cargo xtask up makes it, and starts the stack")
                .into());
        };
        let mut problems = check(&template(workspace)?, &env);
        problems.extend(mode_problem(workspace)?);
        if problems.is_empty() {
            return Ok(Self { env });
        }
        Err(refusal(&problems).into())
    }

    /// Those of another machine, checked as this one's are.
    ///
    /// # Errors
    /// A user failure that names every problem.
    pub(crate) fn of(workspace: &Workspace, env: EnvFile) -> Result<Self> {
        let problems = check(&template(workspace)?, &env);
        if problems.is_empty() {
            return Ok(Self { env });
        }
        Err(refusal(&problems).into())
    }

    /// The settings of a file that may be wrong in places: for `doctor`, which
    /// names what is wrong and looks at the rest.
    pub(crate) fn unchecked(env: EnvFile) -> Self {
        Self { env }
    }

    /// The file as it is, valid or not; `None` where there is none.
    pub(crate) fn read_unchecked(workspace: &Workspace) -> Result<Option<EnvFile>> {
        let path = workspace.env_file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(EnvFile::parse(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// The value of `name`, or `default` where it is not set.
    pub(crate) fn or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.env.get(name).unwrap_or(default)
    }

    /// Compose's project name.
    pub(crate) fn project(&self) -> &str {
        self.or("COMPOSE_PROJECT_NAME", "airflow-dbt-dental")
    }

    /// Where this machine reaches the web pages and the REST API.
    pub(crate) fn webserver_url(&self) -> String {
        format!(
            "http://127.0.0.1:{}",
            self.or("AIRFLOW_WEBSERVER_PORT", "8080")
        )
    }

    /// Whose the source is; the demo is ours.
    pub(crate) fn source(&self) -> Store {
        self.store_named("OPENDENTAL_SOURCE_HOST", "mysql")
    }

    /// Whose the analytics database is.
    pub(crate) fn analytics(&self) -> Store {
        self.store_named("POSTGRES_ANALYTICS_HOST", "postgres")
    }

    /// Whose the metadata database is.
    pub(crate) fn metadata(&self) -> Store {
        let url = self.or("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "@postgres:");
        if url.contains("@postgres:") || url.contains("@postgres/") {
            Store::Ours
        } else {
            Store::External
        }
    }

    /// Each volume of the stack's own databases, with the name and value of each
    /// secret that it was made with.
    pub(crate) fn bound(&self) -> Vec<(&'static str, Vec<(&'static str, &str)>)> {
        let own = |name: &str| match name {
            "AIRFLOW_FERNET_KEY" | "AIRFLOW_DB_PASSWORD" => self.metadata() == Store::Ours,
            "POSTGRES_ANALYTICS_PASSWORD" => self.analytics() == Store::Ours,
            _ => true,
        };
        let values = |names: &[&'static str]| {
            let own = names.iter().copied().filter(|name| own(name));
            own.map(|name| (name, self.or(name, ""))).collect()
        };
        self.databases()
            .into_iter()
            .map(|service| match service {
                "mysql" => ("mysql-data", values(&BOUND_TO_MYSQL)),
                _ => ("postgres-data", values(&BOUND_TO_POSTGRES)),
            })
            .collect()
    }

    /// The services that have to run before Airflow does, in order.
    pub(crate) fn databases(&self) -> Vec<&'static str> {
        let postgres = self.metadata() == Store::Ours || self.analytics() == Store::Ours;
        let mysql = self.source() == Store::Ours;
        [(postgres, "postgres"), (mysql, "mysql")]
            .into_iter()
            .filter_map(|(ours, name)| ours.then_some(name))
            .collect()
    }

    /// Variables of this process that would shadow `.env` for Compose, which
    /// also reads those that `.env` leaves to their defaults.
    pub(crate) fn shadowing(&self) -> Vec<String> {
        let known = EnvFile::parse(include_str!("../../../.env.template"));
        let names = known
            .entries()
            .chain(self.env.entries())
            .map(|(name, _)| name);
        let mut set: Vec<String> = environment::set_among(names)
            .into_iter()
            .map(str::to_owned)
            .collect();
        set.sort();
        set.dedup();
        set
    }

    /// The file behind it.
    pub(crate) fn env(&self) -> &EnvFile {
        &self.env
    }

    fn store_named(&self, name: &str, ours: &str) -> Store {
        if self.or(name, ours) == ours {
            Store::Ours
        } else {
            Store::External
        }
    }
}

/// The volumes that only the `.env` they were made with opens.
pub(crate) fn volumes_with_secrets() -> impl Iterator<Item = &'static str> {
    BOUND.iter().map(|(volume, _)| *volume)
}

/// Values of a file that no output may show.
pub(crate) fn secrets(env: &EnvFile) -> impl Iterator<Item = &str> {
    env.entries()
        .filter(|(name, value)| is_secret(name) && !value.is_empty())
        .map(|(_, value)| value)
}

/// The workspace's `.env.template`.
pub(crate) fn template(workspace: &Workspace) -> Result<EnvFile> {
    let path = workspace.env_template();
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::user(format!("failed to read {}: {error}", path.display()))
            .hint("git checkout .env.template")
    })?;
    Ok(EnvFile::parse(&text))
}

/// A `.env` that others on this machine can read.
pub(crate) fn mode_problem(workspace: &Workspace) -> Result<Option<Problem>> {
    let path = workspace.env_file();
    let mode = fs::metadata(&path)
        .with_context(|| format!("failed to read {}", path.display()))?
        .permissions()
        .mode()
        & 0o777;
    Ok((mode & 0o077 != 0).then(|| Problem {
        name: ".env".to_owned(),
        why: format!("can be read by others (mode {mode:04o})"),
        fix: "chmod 600 .env".to_owned(),
    }))
}

/// Every problem; what mends it as the hint where that is the same for all, else
/// below each.
fn refusal(problems: &[Problem]) -> Failure {
    let one = problems
        .first()
        .map(|first| &first.fix)
        .filter(|fix| problems.iter().all(|p| p.fix == **fix));
    let lines = problems.iter().map(|p| match one {
        Some(_) => format!("\n  {} {}", p.name, p.why),
        None => format!("\n  {} {}\n      {}", p.name, p.why, p.fix),
    });
    let failure = Failure::user(format!("failed to use .env:{}", lines.collect::<String>()));
    failure.hint(one.map_or("cargo xtask env check names what is left", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_stands_beside_what_mends_it() {
        let problem = |name: &str, fix: &str| Problem {
            name: name.into(),
            why: "is wrong".into(),
            fix: fix.into(),
        };
        let shown = |problems: &[Problem]| crate::error::show(&refusal(problems).into()).text;
        assert_eq!(
            shown(&[problem("A", "mend it"), problem("B", "mend it")]),
            "error: failed to use .env:\n  A is wrong\n  B is wrong\nhint: mend it\n"
        );
        assert_eq!(
            shown(&[problem("A", "mend it"), problem("B", "mend that")]),
            "error: failed to use .env:\n  A is wrong\n      mend it\n  B is wrong\n      \
             mend that\nhint: cargo xtask env check names what is left\n"
        );
    }
}
