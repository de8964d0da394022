//! Whether `.env` still fits the volumes: what they were made with, and a real
//! login where the databases run.

use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use super::check::Check;
use crate::config::{Settings, Store, Workspace, settings};
use crate::engine::{Container, Engine};
use crate::exec::{Captured, Step};
use crate::stack::{Memory, data};

/// How long a login may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(15);

/// The secrets of `.env` that are not those a volume is known to work with. A
/// password that its database takes all the same was changed in both places.
/// Asks only where this checkout remembers others.
pub(super) fn check(
    workspace: &Workspace,
    engine: &Engine<'_>,
    settings: &Settings,
    containers: &[Container],
) -> Result<Check> {
    let project = settings.project();
    let memory = Memory::read(workspace, project);
    let mut differing = Vec::new();
    for (volume, secrets) in settings.bound() {
        let full = format!("{project}_{volume}");
        let Some((identity, variables)) = memory.volume_differs(&full, &secrets) else {
            continue;
        };
        let now = data::identity(engine, containers, volume)?;
        let is_another = now.is_some_and(|now| now != identity);
        if is_another || !engine.volumes(project)?.contains(&full) {
            continue;
        }
        for variable in variables {
            if !is_taken(engine, settings, containers, variable)? {
                differing.push((full.clone(), variable));
            }
        }
    }
    Ok(decide(&differing))
}

/// Data without the `.env` that it was made with: a new one would not fit it, so
/// `env` writes none.
pub(super) fn without_env(engine: &Engine<'_>, project: &str) -> Result<Check> {
    let names = settings::volumes_with_secrets().map(|name| format!("{project}_{name}"));
    let there = engine.volumes(project)?;
    let orphans: Vec<String> = names.filter(|name| there.contains(name)).collect();
    Ok(decide_without_env(&orphans))
}

fn decide_without_env(orphans: &[String]) -> Check {
    match orphans {
        [] => Check::pass("volumes", "none from an earlier .env"),
        more => Check::fail(
            "volumes",
            format!(
                "{} cannot be opened without the .env that is gone",
                more.join(" and ")
            ),
        )
        .fix("put the old .env back\nor give the data up: cargo xtask down --volumes"),
    }
}

/// Whether the running database lets the role in with this password.
fn is_taken(
    engine: &Engine<'_>,
    settings: &Settings,
    containers: &[Container],
    variable: &str,
) -> Result<bool> {
    let all = logins(settings);
    let Some(login) = all.iter().find(|login| login.variable == variable) else {
        return Ok(false);
    };
    // Nobody but the first start of the volume uses it.
    if login.first_start_only {
        return Ok(true);
    }
    let Some(container) = running(containers, login.service) else {
        return Ok(false);
    };
    Ok(engine
        .machine()
        .capture(&step(engine, container, login))?
        .ok())
}

fn running<'c>(containers: &'c [Container], service: &str) -> Option<&'c Container> {
    containers
        .iter()
        .find(|c| c.service() == service && !c.is_one_off() && c.is_up())
}

fn decide(differing: &[(String, &str)]) -> Check {
    if differing.is_empty() {
        return Check::pass("volumes", "no sign that .env does not fit them");
    }
    let each: Vec<String> = differing
        .iter()
        .map(|(volume, variable)| format!("{volume} was made with another value of {variable}"))
        .collect();
    let mut volumes: Vec<&str> = differing
        .iter()
        .map(|(volume, _)| volume.as_str())
        .collect();
    volumes.dedup();
    Check::fail("volumes", each.join("\n")).fix(format!(
        "put the old value back into .env\n\
         or give that data up: cargo xtask down, then docker volume rm {}",
        volumes.join(" ")
    ))
}

/// A role that logs in with a password of `.env`.
#[derive(Debug)]
pub(super) struct Login {
    service: &'static str,
    role: String,
    variable: &'static str,
    password: String,
    /// Only the first start of a volume needs it.
    first_start_only: bool,
    client: Vec<String>,
}

/// Every login that the stack's own databases were made with.
pub(super) fn logins(settings: &Settings) -> Vec<Login> {
    let own = |name: &str, default: &str| settings.or(name, default).to_owned();
    let mut all = Vec::new();
    if settings.databases().contains(&"postgres") {
        let role = |role: String, database: String, variable| Login {
            service: "postgres",
            password: own(variable, ""),
            variable,
            first_start_only: variable == "POSTGRES_PASSWORD",
            client: postgres_client(&role, &database),
            role,
        };
        let superuser = own("POSTGRES_USER", "postgres");
        all.push(role(superuser, "postgres".into(), "POSTGRES_PASSWORD"));
        if settings.metadata() == Store::Ours {
            let (user, name) = ("AIRFLOW_DB_USER", "AIRFLOW_DB_NAME");
            let database = own(name, "airflow");
            all.push(role(own(user, "airflow"), database, "AIRFLOW_DB_PASSWORD"));
        }
        if settings.analytics() == Store::Ours {
            let database = own("POSTGRES_ANALYTICS_DB", "opendental_analytics");
            let user = own("POSTGRES_ANALYTICS_USER", "analytics");
            all.push(role(user, database, "POSTGRES_ANALYTICS_PASSWORD"));
        }
    }
    if settings.source() == Store::Ours {
        let role = |role: String, variable| Login {
            service: "mysql",
            password: own(variable, ""),
            variable,
            first_start_only: variable == "MYSQL_ROOT_PASSWORD",
            client: mysql_client(&role),
            role,
        };
        all.push(role("root".into(), "MYSQL_ROOT_PASSWORD"));
        let demo = own("DEMO_SOURCE_USER", "opendental_demo");
        all.push(role(demo, "DEMO_SOURCE_PASSWORD"));
        let reader = own("OPENDENTAL_SOURCE_USER", "opendental_reader");
        all.push(role(reader, "OPENDENTAL_SOURCE_PASSWORD"));
    }
    all
}

/// By the service's name, not 127.0.0.1: postgres trusts that one and would let
/// any password in.
fn postgres_client(role: &str, database: &str) -> Vec<String> {
    let words = [
        "psql", "-X", "-w", "-At", "-h", "postgres", "-U", role, "-d", database, "-c", "select 1",
    ];
    words.map(str::to_owned).to_vec()
}

/// root may come by the socket alone, depending on the image.
fn mysql_client(role: &str) -> Vec<String> {
    let way = if role == "root" {
        vec!["--protocol=socket"]
    } else {
        vec!["--protocol=tcp", "-h", "mysql"]
    };
    let mut words = vec!["mariadb", "--connect-timeout=5", "-N"];
    words.extend(way);
    words.extend(["-u", role, "-e", "select 1"]);
    words.into_iter().map(str::to_owned).collect()
}

/// Logs in where the databases run; nothing is said of those that do not.
pub(super) fn try_logins(
    engine: &Engine<'_>,
    settings: &Settings,
    containers: &[Container],
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let mut fine = Vec::new();
    for login in logins(settings) {
        let Some(container) = running(containers, login.service) else {
            continue;
        };
        let captured = engine.machine().capture(&step(engine, container, &login))?;
        let superuser = settings.or("POSTGRES_USER", "postgres");
        match decide_login(&login, &captured, &container.name, superuser) {
            Some(check) => checks.push(check),
            None => fine.push(login.role),
        }
    }
    if !fine.is_empty() {
        let says = format!("{} log in with the passwords of .env", fine.join(", "));
        checks.insert(0, Check::pass("logins", says));
    }
    Ok(checks)
}

/// `-e NAME` without a value takes it from docker's own environment: the
/// password is on no argv.
fn step(engine: &Engine<'_>, container: &Container, login: &Login) -> Step {
    let (docker, id, client) = (engine.docker(), &container.id, &login.client);
    let variable = match login.service {
        "postgres" => "PGPASSWORD",
        _ => "MYSQL_PWD",
    };
    let timeout = "PGCONNECT_TIMEOUT=5";
    Step::new(
        format!("log in to {} as {}", login.service, login.role),
        cmd!(
            engine.sh(),
            "{docker} exec -e {variable} -e {timeout} {id} {client...}"
        ),
    )
    .secret(variable, &login.password)
    .limit(LOGIN_LIMIT)
}

/// `None` where it got in.
fn decide_login(
    login: &Login,
    captured: &Captured,
    container: &str,
    superuser: &str,
) -> Option<Check> {
    if captured.ok() {
        return None;
    }
    let name = format!("login {}", login.role);
    let refused = ["password authentication failed", "Access denied"]
        .iter()
        .any(|words| captured.stderr.contains(words));
    if !refused {
        let said = captured.stderr.lines().last().unwrap_or("nothing").trim();
        return Some(Check::warn(name, format!("{} says: {said}", login.service)));
    }
    let (service, variable) = (login.service, login.variable);
    let says = format!("{service} refuses the password in {variable}");
    let fix = format!(
        "put the old .env back\n\
         or give the role the new password: {}",
        statement(login, container.trim_start_matches('/'), superuser)
    );
    Some(if login.first_start_only {
        let says = format!("{says}; only the first start of the volume uses it");
        Check::warn(name, says).fix(fix)
    } else {
        Check::fail(name, says).fix(fix)
    })
}

/// The exact statement. Both clients ask for the value, or take it from the
/// person: it never stands in a shell's history.
fn statement(login: &Login, container: &str, superuser: &str) -> String {
    let role = &login.role;
    if login.service == "postgres" {
        return format!(
            "docker exec -it {container} psql -U {superuser} -d postgres, then: \\password {role}"
        );
    }
    let host = if role == "root" { "localhost" } else { "%" };
    format!(
        "docker exec -it {container} mariadb -u root -p, then: \
         alter user '{role}'@'{host}' identified by '…';"
    )
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;
    use crate::config::EnvFile;

    fn refused(words: &str) -> Captured {
        Captured {
            stdout: String::new(),
            stderr: words.to_owned(),
            code: Some(1),
        }
    }

    fn all(text: &str) -> Vec<Login> {
        logins(&Settings::unchecked(EnvFile::parse(text)))
    }

    #[test]
    fn only_the_stacks_own_databases_are_tried() {
        let roles =
            |text: &str| -> Vec<String> { all(text).into_iter().map(|login| login.role).collect() };
        assert_eq!(
            roles(""),
            [
                "postgres",
                "airflow",
                "analytics",
                "root",
                "opendental_demo",
                "opendental_reader"
            ]
        );
        assert_eq!(
            roles("OPENDENTAL_SOURCE_HOST=nas\nPOSTGRES_ANALYTICS_HOST=rds\n"),
            ["postgres", "airflow"]
        );
    }

    #[test]
    fn no_password_stands_on_an_argv() {
        for login in all("AIRFLOW_DB_PASSWORD=hunter2hunter2\n") {
            assert!(!login.client.concat().contains("hunter2"));
        }
    }

    #[test]
    fn a_refused_role_fails_and_the_superuser_only_warns() {
        let words = "psql: error: FATAL:  password authentication failed for user \"airflow\"";
        let logins = all("");
        let decide = |login| decide_login(login, &refused(words), "/dental-postgres-1", "boss");
        let airflow = decide(&logins[1]).unwrap();
        assert_eq!(
            airflow.lines("  "),
            "login airflow: postgres refuses the password in AIRFLOW_DB_PASSWORD\n  \
             put the old .env back\n  \
             or give the role the new password: docker exec -it dental-postgres-1 psql -U boss \
             -d postgres, then: \\password airflow"
        );
        assert_eq!(airflow.state, State::Fail);
        assert_eq!(decide(&logins[0]).unwrap().state, State::Warn);
        let starting = decide_login(
            &logins[1],
            &refused("FATAL: the database system is starting up"),
            "c",
            "boss",
        );
        assert_eq!(starting.unwrap().state, State::Warn);
    }

    #[test]
    fn data_whose_env_is_gone_is_named() {
        assert_eq!(decide_without_env(&[]).state, State::Pass);
        let check = decide_without_env(&["d_postgres-data".into(), "d_mysql-data".into()]);
        assert_eq!(
            (check.state, check.lines("  ").as_str()),
            (
                State::Fail,
                "volumes: d_postgres-data and d_mysql-data cannot be opened without the .env that is \
                 gone\n  put the old .env back\n  or give the data up: cargo xtask down --volumes"
            )
        );
    }

    #[test]
    fn a_volume_of_other_secrets_is_named_with_what_it_depends_on() {
        assert_eq!(decide(&[]).state, State::Pass);
        let check = decide(&[("d_mysql-data".into(), "A"), ("d_mysql-data".into(), "B")]);
        assert_eq!(check.state, State::Fail);
        assert_eq!(
            check.lines("  "),
            "volumes: d_mysql-data was made with another value of A\n  \
             d_mysql-data was made with another value of B\n  \
             put the old value back into .env\n  \
             or give that data up: cargo xtask down, then docker volume rm d_mysql-data"
        );
    }
}
