//! `sql`: the databases' own prompts, in containers, so that no machine needs a
//! client.

use std::process::ExitCode;

use anyhow::Result;
use percent_encoding::percent_decode_str;

use super::running::Running;
use super::{exit_code, pass_on};
use crate::cli::{self, Database};
use crate::config::{Settings, Store};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::Step;

const WHAT: &str = "open the database";

pub(crate) fn run(context: &Context, args: &cli::Sql) -> Result<ExitCode> {
    let stack = Running::with_images(context, args.at.host.as_deref())?;
    let login = Login::of(args.database, &stack.settings)?;
    let statement = args.command.as_deref();
    let terminal = pass_on::on_terminal() && statement.is_none();
    let ended = match (login.store, stack.place.host()) {
        (Store::Ours, _) => {
            let command = login.in_its_container(statement);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            stack.hand_over(WHAT, login.service, terminal, &command)?
        }
        (Store::External, None) => {
            let step = elsewhere(context, &stack, &login, statement);
            stack.machine().hand_over(&step)?
        }
        // A host has no image with the client of a database that it does not run.
        (Store::External, Some(_)) => {
            let script = "exec python \"$PROJECT_ROOT/airflow/release/sql.py\" \"$@\"";
            let mut command = vec!["sh", "-c", script, "sql", args.database.name()];
            command.extend(statement);
            stack.hand_over(WHAT, "airflow-scheduler", terminal, &command)?
        }
    };
    Ok(exit_code(ended))
}

/// A client for a server elsewhere, in a container of its own. `-e NAME` takes the
/// value from Compose's own environment: the password is on no argv.
fn elsewhere(
    context: &Context,
    stack: &Running<'_>,
    login: &Login,
    statement: Option<&str>,
) -> Step {
    let client = login.client(statement);
    let certificates = context.workspace.root().join("airflow/certs");
    let variable = login.password_variable;
    stack
        .compose(WHAT, &["run", "--rm", "--no-deps", "-e", variable])
        .arg("--volume")
        .arg(format!("{}:/opt/airflow/certs:ro", certificates.display()))
        .args(["--entrypoint", &client[0], login.service])
        .args(&client[1..])
        .secret(variable, &login.password)
}

/// How to reach one database.
#[derive(Debug)]
struct Login {
    store: Store,
    service: &'static str,
    /// Where the client looks for the password.
    password_variable: &'static str,
    /// Where the environment of the service's container has it.
    password_there: &'static str,
    host: String,
    port: String,
    user: String,
    password: String,
    name: String,
    /// How a server elsewhere wants its connections secured.
    tls: Tls,
}

/// As in `.env`; empty where nothing is said.
#[derive(Debug, Default)]
struct Tls {
    mode: String,
    ca: String,
}

impl Login {
    fn of(database: Database, settings: &Settings) -> Result<Self> {
        let own = |name: &str, default: &str| settings.or(name, default).to_owned();
        let local = |store, host: String| match store {
            Store::Ours => "127.0.0.1".to_owned(),
            Store::External => host,
        };
        Ok(match database {
            Database::Analytics => Self {
                store: settings.analytics(),
                service: "postgres",
                password_variable: "PGPASSWORD",
                password_there: "POSTGRES_ANALYTICS_PASSWORD",
                host: local(
                    settings.analytics(),
                    own("POSTGRES_ANALYTICS_HOST", "postgres"),
                ),
                port: match settings.analytics() {
                    Store::Ours => "5432".to_owned(),
                    Store::External => own("POSTGRES_ANALYTICS_PORT", "5432"),
                },
                user: own("POSTGRES_ANALYTICS_USER", "analytics"),
                password: own("POSTGRES_ANALYTICS_PASSWORD", ""),
                name: own("POSTGRES_ANALYTICS_DB", "opendental_analytics"),
                tls: Tls {
                    mode: own("POSTGRES_ANALYTICS_SSLMODE", "prefer"),
                    ca: own("POSTGRES_ANALYTICS_SSLROOTCERT", ""),
                },
            },
            Database::Metadata => Self::metadata(settings)?,
            Database::Source => Self {
                store: settings.source(),
                service: "mysql",
                password_variable: "MYSQL_PWD",
                password_there: "OPENDENTAL_SOURCE_PASSWORD",
                host: local(settings.source(), own("OPENDENTAL_SOURCE_HOST", "mysql")),
                port: match settings.source() {
                    Store::Ours => "3306".to_owned(),
                    Store::External => own("OPENDENTAL_SOURCE_PORT", "3306"),
                },
                user: own("OPENDENTAL_SOURCE_USER", "opendental_reader"),
                password: own("OPENDENTAL_SOURCE_PASSWORD", ""),
                name: own("OPENDENTAL_SOURCE_DB", "opendental"),
                tls: Tls {
                    mode: own("OPENDENTAL_SOURCE_SSL_MODE", "preferred"),
                    ca: own("OPENDENTAL_SOURCE_SSL_CA", ""),
                },
            },
        })
    }

    /// From the URL, which is what Airflow itself uses.
    fn metadata(settings: &Settings) -> Result<Self> {
        let name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
        let url = settings.or(name, "");
        let parts = || {
            let (_, rest) = url.split_once("://")?;
            let (login, server) = rest.rsplit_once('@')?;
            let (user, password) = login.split_once(':')?;
            let (place, database) = server.split_once('/')?;
            let (host, port) = place.split_once(':').unwrap_or((place, "5432"));
            let (database, query) = database.split_once('?').unwrap_or((database, ""));
            Some([user, password, host, port, database, query])
        };
        let [user, password, host, port, database, query] = parts().ok_or_else(|| {
            Failure::user(format!("failed to read {name}")).hint("cargo xtask env check")
        })?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let store = settings.metadata();
        Ok(Self {
            store,
            service: "postgres",
            password_variable: "PGPASSWORD",
            password_there: "AIRFLOW_DB_PASSWORD",
            host: match store {
                Store::Ours => "127.0.0.1".to_owned(),
                Store::External => host.to_owned(),
            },
            port: port.to_owned(),
            user: decode(user),
            password: decode(password),
            name: decode(database),
            tls: Tls {
                mode: decode(parameter(query, "sslmode")),
                ca: decode(parameter(query, "sslrootcert")),
            },
        })
    }

    /// The client in the container of its own server, which knows the password.
    fn in_its_container(&self, statement: Option<&str>) -> Vec<String> {
        let (to, from) = (self.password_variable, self.password_there);
        let script = format!("export {to}=\"${from}\"; exec \"$@\"");
        let mut words = ["sh", "-c", &script, "sql"].map(str::to_owned).to_vec();
        words.extend(self.client(statement));
        words
    }

    /// The client's argv.
    fn client(&self, statement: Option<&str>) -> Vec<String> {
        let (mut words, tls, command) = if self.service == "mysql" {
            let place = ["-h", &self.host, "-P", &self.port, "-u", &self.user];
            let words = [&["mariadb", "--protocol=tcp"][..], &place].concat();
            (words, self.mysql_tls(), "-e")
        } else {
            let place = ["-h", &self.host, "-p", &self.port, "-U", &self.user, "-d"];
            let words = [
                &["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1"][..],
                &place,
            ]
            .concat();
            (words, Vec::new(), "-c")
        };
        let database = if self.service == "mysql" || self.store == Store::Ours {
            self.name.clone()
        } else {
            self.conninfo()
        };
        words.extend(tls.iter().map(String::as_str));
        words.push(&database);
        words.extend(statement.iter().flat_map(|s| [command, s]));
        words.into_iter().map(str::to_owned).collect()
    }

    /// The database and how to secure the way to it, as libpq's `-d` takes them.
    fn conninfo(&self) -> String {
        let pairs = [
            ("dbname", &self.name),
            ("sslmode", &self.tls.mode),
            ("sslrootcert", &self.tls.ca),
        ];
        let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
        let words: Vec<String> = pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}='{}'", quoted(value)))
            .collect();
        words.join(" ")
    }

    /// The client's flags for the modes that the ETL knows.
    fn mysql_tls(&self) -> Vec<String> {
        if self.store == Store::Ours {
            return Vec::new();
        }
        let mut flags = match self.tls.mode.as_str() {
            "disabled" => vec!["--skip-ssl".to_owned()],
            "required" => vec!["--ssl".to_owned()],
            "verify-ca" | "verify-identity" => {
                vec!["--ssl".to_owned(), "--ssl-verify-server-cert".to_owned()]
            }
            _ => Vec::new(),
        };
        if !self.tls.ca.is_empty() {
            flags.push(format!("--ssl-ca={}", self.tls.ca));
        }
        flags
    }
}

/// The value of a URL's query parameter; empty where it is not there.
fn parameter<'q>(query: &'q str, name: &str) -> &'q str {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(n, _)| *n == name)
        .map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnvFile;

    fn login(database: Database, text: &str) -> Login {
        Login::of(database, &Settings::unchecked(EnvFile::parse(text))).unwrap()
    }

    #[test]
    fn a_server_elsewhere_is_reached_as_securely_as_env_says() {
        let text = "POSTGRES_ANALYTICS_HOST=rds\nPOSTGRES_ANALYTICS_SSLMODE=verify-full\n\
                    POSTGRES_ANALYTICS_SSLROOTCERT=/opt/airflow/certs/rds.pem\n";
        let argv = login(Database::Analytics, text).client(Some("select 1"));
        assert_eq!(
            argv[4..],
            [
                "-h",
                "rds",
                "-p",
                "5432",
                "-U",
                "analytics",
                "-d",
                "dbname='opendental_analytics' sslmode='verify-full' \
                 sslrootcert='/opt/airflow/certs/rds.pem'",
                "-c",
                "select 1"
            ]
        );
        let text = "OPENDENTAL_SOURCE_HOST=nas\nOPENDENTAL_SOURCE_SSL_MODE=required\n";
        let argv = login(Database::Source, text).client(None);
        assert_eq!(
            argv,
            [
                "mariadb",
                "--protocol=tcp",
                "-h",
                "nas",
                "-P",
                "3306",
                "-u",
                "opendental_reader",
                "--ssl",
                "opendental"
            ]
        );
    }

    #[test]
    fn the_password_of_our_own_server_is_on_no_argv() {
        let text = "POSTGRES_ANALYTICS_PASSWORD=hunter2hunter2\nOPENDENTAL_SOURCE_PASSWORD=x\n";
        let argv = login(Database::Analytics, text).in_its_container(Some("select 1"));
        assert_eq!(
            argv[..5],
            [
                "sh",
                "-c",
                "export PGPASSWORD=\"$POSTGRES_ANALYTICS_PASSWORD\"; exec \"$@\"",
                "sql",
                "psql"
            ]
        );
        assert!(!argv.iter().any(|word| word.contains("hunter2")));
        let argv = login(Database::Source, text).in_its_container(None);
        assert_eq!(
            argv[2],
            "export MYSQL_PWD=\"$OPENDENTAL_SOURCE_PASSWORD\"; exec \"$@\""
        );
    }

    #[test]
    fn the_metadata_login_is_read_from_airflows_own_url() {
        let text = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://\
                    me:p%40ss@rds:5433/air?sslmode=require\n";
        let login = login(Database::Metadata, text);
        assert_eq!(login.password, "p@ss");
        assert_eq!(login.conninfo(), "dbname='air' sslmode='require'");
    }
}
