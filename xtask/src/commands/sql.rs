//! `sql`: the databases' own prompts, in containers, so that this machine needs
//! no client.

use std::process::ExitCode;

use anyhow::Result;
use percent_encoding::percent_decode_str;

use super::{exit_code, pass_on, phases};
use crate::cli::{self, Database};
use crate::config::{Settings, Store};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::Step;
use crate::image;
use crate::stack::Stack;

pub(crate) fn run(context: &Context, args: &cli::Sql) -> Result<ExitCode> {
    let deploy = context.deploy()?;
    let settings = context.settings()?;
    let engine = context.engine()?;
    let facts = image::observe(&engine, &context.workspace, &deploy)?;
    let images = phases::images(context, &engine, &deploy, &facts)?;
    let stack = Stack::open(&engine, &settings, images)?;
    let login = Login::of(args.database, &settings)?;
    let client = login.client(args.command.as_deref());
    let client: Vec<&str> = client.iter().map(String::as_str).collect();
    let what = "open the database";
    let step = if login.store == Store::Ours {
        let container = context.running(&stack, login.service)?;
        let tty = pass_on::on_terminal() && args.command.is_none();
        exec_with_password(&stack, &container, tty, &login, &client)
    } else {
        stack
            .compose(
                what,
                &["run", "--rm", "--no-deps", "-e", login.password_variable],
            )
            .args(["--entrypoint", client[0], login.service])
            .args(client[1..].iter().copied())
            .secret(login.password_variable, &login.password)
    };
    Ok(exit_code(context.machine.hand_over(&step)?))
}

/// `docker exec -e NAME` takes the value from its own environment: the password
/// is on no argv.
fn exec_with_password(
    stack: &Stack<'_>,
    container: &str,
    tty: bool,
    login: &Login,
    client: &[&str],
) -> Step {
    let docker = stack.engine().docker();
    let flags = if tty { "-it" } else { "-i" };
    let variable = login.password_variable;
    Step::new(
        "open the database",
        xshell::cmd!(
            stack.engine().sh(),
            "{docker} exec {flags} -e {variable} {container} {client...}"
        ),
    )
    .secret(variable, &login.password)
}

/// How to reach one database.
#[derive(Debug)]
struct Login {
    store: Store,
    service: &'static str,
    password_variable: &'static str,
    host: String,
    port: String,
    user: String,
    password: String,
    name: String,
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
            },
            Database::Metadata => Self::metadata(settings)?,
            Database::Source => Self {
                store: settings.source(),
                service: "mysql",
                password_variable: "MYSQL_PWD",
                host: local(settings.source(), own("OPENDENTAL_SOURCE_HOST", "mysql")),
                port: match settings.source() {
                    Store::Ours => "3306".to_owned(),
                    Store::External => own("OPENDENTAL_SOURCE_PORT", "3306"),
                },
                user: own("OPENDENTAL_SOURCE_USER", "opendental_reader"),
                password: own("OPENDENTAL_SOURCE_PASSWORD", ""),
                name: own("OPENDENTAL_SOURCE_DB", "opendental"),
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
            let database = database.split('?').next()?;
            Some([user, password, host, port, database])
        };
        let [user, password, host, port, database] = parts().ok_or_else(|| {
            Failure::user(format!("failed to read {name}")).hint("cargo xtask env check")
        })?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let store = settings.metadata();
        Ok(Self {
            store,
            service: "postgres",
            password_variable: "PGPASSWORD",
            host: match store {
                Store::Ours => "127.0.0.1".to_owned(),
                Store::External => host.to_owned(),
            },
            port: port.to_owned(),
            user: decode(user),
            password: decode(password),
            name: decode(database),
        })
    }

    /// The client's argv.
    fn client(&self, statement: Option<&str>) -> Vec<String> {
        let words: Vec<&str> = if self.service == "mysql" {
            let mut words = vec![
                "mariadb",
                "--protocol=tcp",
                "-h",
                &self.host,
                "-P",
                &self.port,
            ];
            words.extend(["-u", self.user.as_str(), self.name.as_str()]);
            words.extend(statement.iter().flat_map(|s| ["-e", s]));
            words
        } else {
            let mut words = vec![
                "psql",
                "--no-psqlrc",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                &self.host,
            ];
            words.extend(["-p", &self.port, "-U", &self.user, "-d", &self.name]);
            words.extend(statement.iter().flat_map(|s| ["-c", s]));
            words
        };
        words.into_iter().map(str::to_owned).collect()
    }
}
