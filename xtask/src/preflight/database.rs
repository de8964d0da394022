//! Databases that are somebody else's: named by an address that a container
//! can reach, tried from inside one.

use serde::Deserialize;

use super::check::Check;
use crate::config::{Settings, Store};

/// This machine, as its containers call it.
pub(super) const HOST: &str = "host.docker.internal";
/// Docker's own networks: where a container's connection comes from.
const NETWORKS: &str = "172.16.0.0/12";
/// The same as MySQL and MariaDB write it in an account's host.
const NETWORKS_MASK: &str = "172.16.0.0/255.240.0.0";

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// OpenDental's MySQL or MariaDB.
    Source,
    /// Where raw data and marts live.
    Analytics,
    /// Airflow's own.
    Metadata,
}

/// A database outside of the stack, as `.env` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct External {
    /// What it is.
    pub(super) role: Role,
    host: String,
    port: u16,
    user: String,
    database: String,
}

/// What came of one connection from inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// A server of the right kind answers.
    Open,
    /// The port takes the connection; what is there speaks otherwise.
    Silent,
    /// It answers with an error of its own: an account's host is not let in.
    Refused(String),
    /// The name has no address.
    Unknown(String),
    /// Nothing answers there.
    Closed(String),
}

/// The databases that are not services of this stack.
pub(super) fn external(settings: &Settings) -> Vec<External> {
    let own = |name: &str, default: &str| settings.or(name, default).to_owned();
    let port = |name: &str, default: u16| settings.or(name, "").parse().unwrap_or(default);
    let mut all = Vec::new();
    if settings.source() == Store::External {
        all.push(External {
            role: Role::Source,
            host: own("OPENDENTAL_SOURCE_HOST", ""),
            port: port("OPENDENTAL_SOURCE_PORT", 3306),
            user: own("OPENDENTAL_SOURCE_USER", "opendental_reader"),
            database: own("OPENDENTAL_SOURCE_DB", "opendental"),
        });
    }
    if settings.analytics() == Store::External {
        all.push(External {
            role: Role::Analytics,
            host: own("POSTGRES_ANALYTICS_HOST", ""),
            port: port("POSTGRES_ANALYTICS_PORT", 5432),
            user: own("POSTGRES_ANALYTICS_USER", "analytics"),
            database: own("POSTGRES_ANALYTICS_DB", "opendental_analytics"),
        });
    }
    if settings.metadata() == Store::External {
        all.extend(metadata(
            settings.or("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", ""),
        ));
    }
    all
}

/// Host and port of the URL; `None` where it is no URL, which `.env` names.
fn metadata(url: &str) -> Option<External> {
    let (_, rest) = url.split_once("://")?;
    let (login, server) = rest.rsplit_once('@')?;
    let (place, database) = server.split_once('/').unwrap_or((server, "airflow"));
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, rest.strip_prefix(':').unwrap_or("5432"))
        }
        None => place.split_once(':').unwrap_or((place, "5432")),
    };
    Some(External {
        role: Role::Metadata,
        host: host.to_owned(),
        port: port.parse().ok()?,
        user: login.split(':').next().unwrap_or_default().to_owned(),
        database: database.split('?').next().unwrap_or_default().to_owned(),
    })
}

impl External {
    /// Where a container has to knock: what is loopback on this machine is
    /// somewhere else from inside.
    pub(super) fn target(&self) -> (String, u16) {
        let host = if self.is_loopback() { HOST } else { &self.host };
        (host.to_owned(), self.port)
    }

    /// Names the container itself, seen from inside one.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']).to_lowercase();
        let named = host == "localhost" || host.ends_with(".localhost");
        named
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }

    /// On this machine, however it is named.
    fn is_here(&self) -> bool {
        self.is_loopback() || self.host == HOST
    }

    /// How the server speaks.
    pub(super) fn kind(&self) -> &'static str {
        match self.role {
            Role::Source => "mysql",
            Role::Analytics | Role::Metadata => "postgres",
        }
    }

    fn name(&self) -> &'static str {
        match self.role {
            Role::Source => "source",
            Role::Analytics => "analytics",
            Role::Metadata => "metadata",
        }
    }

    fn variable(&self) -> &'static str {
        match self.role {
            Role::Source => "OPENDENTAL_SOURCE_HOST",
            Role::Analytics => "POSTGRES_ANALYTICS_HOST",
            Role::Metadata => "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        }
    }
}

/// What is to be said of it; `answer` is `None` where no container could try.
pub(super) fn check(database: &External, answer: Option<&Answer>) -> Check {
    let name = database.name();
    let (host, port) = database.target();
    let tried = match answer {
        None => "it could not be tried: that takes the image, which is not built yet".to_owned(),
        Some(Answer::Open) => format!("from inside a container, {host}:{port} answers"),
        Some(Answer::Silent) => format!(
            "from inside a container, {host}:{port} takes the connection, but does not speak as a \
             {} server does",
            database.kind()
        ),
        Some(Answer::Refused(said)) => {
            format!("from inside a container, {host}:{port} refuses us: {said}")
        }
        Some(Answer::Unknown(said)) => {
            format!("from inside a container, the name {host} has no address: {said}")
        }
        Some(Answer::Closed(said)) => {
            format!("from inside a container, nothing answers at {host}:{port}: {said}")
        }
    };
    if database.is_loopback() {
        let says = format!(
            "{} says {}: inside a container that is the container itself, not this machine\n{tried}",
            database.variable(),
            database.host,
        );
        return Check::fail(name, says).fix(mend(database, answer));
    }
    match answer {
        Some(Answer::Open) => Check::pass(name, tried),
        None => Check::warn(name, format!("{host}:{port}; {tried}"))
            .fix("cargo xtask build, then again: cargo xtask doctor"),
        Some(_) => Check::fail(name, tried).fix(mend(database, answer)),
    }
}

/// What to change where; nothing of it is done here.
fn mend(database: &External, answer: Option<&Answer>) -> String {
    let mut lines = Vec::new();
    if database.is_loopback() {
        lines.push(match database.role {
            Role::Metadata => format!(
                "put {HOST} in place of {} in {} of .env",
                database.host,
                database.variable()
            ),
            _ => format!("set {}={HOST} in .env", database.variable()),
        });
    }
    match answer {
        Some(Answer::Unknown(_)) => lines.push(format!(
            "mend the name in {} of .env, or give its IP address",
            database.variable()
        )),
        Some(Answer::Closed(_)) | None if database.is_here() => lines.push(listen(database)),
        Some(Answer::Silent) => lines.push(format!(
            "see what listens there: is {} the database's own port?",
            database.port
        )),
        Some(Answer::Closed(_)) => lines.push(format!(
            "start the server, or open port {} in its firewall for this machine",
            database.port
        )),
        _ => {}
    }
    if database.is_here() || matches!(answer, Some(Answer::Refused(_))) {
        lines.push(grant(database));
    }
    lines.join("\n")
}

fn listen(database: &External) -> String {
    match database.role {
        Role::Source => format!(
            "let the server listen beyond loopback: bind-address = 0.0.0.0 under [mysqld] in \
             my.cnf, restart it, and let port {} in from {NETWORKS} only",
            database.port
        ),
        Role::Analytics | Role::Metadata => format!(
            "let the server listen beyond loopback: listen_addresses = '*' in postgresql.conf, \
             restart it, and let port {} in from {NETWORKS} only",
            database.port
        ),
    }
}

fn grant(database: &External) -> String {
    let External {
        user, database: db, ..
    } = database;
    let text = |value: &str| value.replace('\'', "''");
    let name = |value: &str| value.replace('"', "\"\"");
    match database.role {
        Role::Source => {
            let from = if database.is_here() {
                NETWORKS_MASK
            } else {
                "%"
            };
            let account = format!("'{}'@'{from}'", text(user));
            format!(
                "let the account in: CREATE USER {account} IDENTIFIED BY '…'; \
                 GRANT SELECT ON `{}`.* TO {account};",
                db.replace('`', "``")
            )
        }
        Role::Analytics | Role::Metadata => {
            let from = if database.is_here() {
                NETWORKS
            } else {
                "<this machine>/32"
            };
            format!(
                "let the role in: host {db} {user} {from} scram-sha-256 in pg_hba.conf, reload, \
                 and: CREATE ROLE \"{role}\" LOGIN PASSWORD '…'; \
                 CREATE DATABASE \"{}\" OWNER \"{role}\"; \
                 or, where it exists: GRANT ALL ON DATABASE \"{}\" TO \"{role}\";",
                name(db),
                name(db),
                role = name(user),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;
    use crate::config::EnvFile;

    fn source(host: &str) -> External {
        let text = format!("OPENDENTAL_SOURCE_HOST={host}\n");
        external(&Settings::unchecked(EnvFile::parse(&text))).remove(0)
    }

    #[test]
    fn every_name_of_loopback_is_known() {
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.8.0.1",
            "::1",
            "[::1]",
        ] {
            let database = source(host);
            assert_eq!(database.target(), (HOST.to_owned(), 3306), "{host}");
            assert_eq!(check(&database, Some(&Answer::Open)).state, State::Fail);
        }
        for host in ["10.0.0.5", "localhost.example", HOST] {
            assert_eq!(source(host).target().0, host);
        }
    }

    #[test]
    fn a_source_on_localhost_is_explained_and_nothing_more_to_do_than_its_line() {
        let open = check(&source("localhost"), Some(&Answer::Open));
        assert_eq!(
            open.lines("  "),
            "source: OPENDENTAL_SOURCE_HOST says localhost: inside a container that is the \
             container itself, not this machine\n  \
             from inside a container, host.docker.internal:3306 answers\n  \
             set OPENDENTAL_SOURCE_HOST=host.docker.internal in .env\n  \
             let the account in: CREATE USER 'opendental_reader'@'172.16.0.0/255.240.0.0' \
             IDENTIFIED BY '…'; GRANT SELECT ON `opendental`.* TO \
             'opendental_reader'@'172.16.0.0/255.240.0.0';"
        );
        let closed = check(
            &source("localhost"),
            Some(&Answer::Closed("Connection refused".into())),
        );
        assert!(closed.fix.unwrap().contains("bind-address = 0.0.0.0"));
    }

    #[test]
    fn an_external_database_passes_only_when_it_answers() {
        let database = source("nas.example");
        let state = |answer: Option<Answer>| check(&database, answer.as_ref()).state;
        assert_eq!(state(Some(Answer::Open)), State::Pass);
        assert_eq!(state(Some(Answer::Closed("timed out".into()))), State::Fail);
        assert_eq!(state(Some(Answer::Unknown("no".into()))), State::Fail);
        assert_eq!(state(Some(Answer::Silent)), State::Fail);
        assert_eq!(state(Some(Answer::Refused("no".into()))), State::Fail);
        assert_eq!(state(None), State::Warn);
    }

    #[test]
    fn host_and_port_of_a_metadata_url_are_read() {
        for (url, expected) in [
            (
                "postgresql://a:b@rds:6432/air?sslmode=require",
                ("rds", 6432, "air"),
            ),
            (
                "postgresql://a:p%40s@localhost/air",
                ("localhost", 5432, "air"),
            ),
            ("postgresql://a:b@[::1]:5433/air", ("::1", 5433, "air")),
        ] {
            let read = metadata(url).unwrap();
            let seen = (read.host.as_str(), read.port, read.database.as_str());
            assert_eq!(seen, expected, "{url}");
        }
        assert_eq!(metadata("nonsense"), None);
    }
}
