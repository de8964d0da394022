//! What is wrong with a `.env`, all of it at once.

use data_encoding::BASE64URL;
use percent_encoding::percent_decode_str;

use super::dotenv::EnvFile;
use super::generate::{metadata_url, placeholder};

/// One thing to mend, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The variable, or `line 7`.
    pub(crate) name: String,
    /// What is wrong; completes "NAME …".
    pub(crate) why: String,
    /// What mends it.
    pub(crate) fix: String,
}

/// Values that people leave in place of a secret.
const LEFT_BEHIND: [&str; 8] = [
    "change-me",
    "changeme",
    "change_me",
    "secret",
    "password",
    "airflow",
    "admin",
    "example",
];
/// The shortest password that is let pass.
const SHORTEST_PASSWORD: usize = 8;

/// Holds `env` against `template` and against what each value has to be.
pub(crate) fn check(template: &EnvFile, env: &EnvFile) -> Vec<Problem> {
    let mut problems: Vec<Problem> = env
        .bad()
        .map(|(line, name, why)| Problem {
            name: name.map_or_else(|| format!("line {line}"), str::to_owned),
            why: why.to_owned(),
            fix: format!("edit line {line} of .env"),
        })
        .collect();
    let unread: Vec<String> = problems.iter().map(|p| p.name.clone()).collect();
    for (name, default) in template.entries() {
        if unread.iter().any(|n| n == name) {
            continue;
        }
        match env.get(name) {
            None if placeholder(default).is_some() => problems.push(Problem {
                name: name.to_owned(),
                why: "is missing".to_owned(),
                fix: "cargo xtask env".to_owned(),
            }),
            None => {}
            Some(value) => problems.extend(check_value(name, value)),
        }
    }
    problems.extend(check_metadata_url(env));
    problems.extend(check_operator(env));
    problems
}

fn check_value(name: &str, value: &str) -> Option<Problem> {
    let problem = |why: &str, fix: &str| {
        Some(Problem {
            name: name.to_owned(),
            why: why.to_owned(),
            fix: fix.to_owned(),
        })
    };
    let edit = "edit .env; .env.template says what it means";
    if placeholder(value).is_some() {
        return problem("still holds its placeholder", "cargo xtask env");
    }
    let one_of = |choices: &[&str]| {
        if choices.contains(&value) {
            None
        } else {
            problem(&format!("is none of {}", choices.join(", ")), edit)
        }
    };
    match name {
        "AIRFLOW_FERNET_KEY" => {
            let key = BASE64URL.decode(value.as_bytes()).unwrap_or_default();
            if key.len() == 32 {
                None
            } else {
                problem(
                    "is no Fernet key (32 bytes as url-safe base64)",
                    "put the old key back, or empty the line and run: cargo xtask env",
                )
            }
        }
        "COMPOSE_PROJECT_NAME" => {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            let starts = value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
            if starts && value.chars().all(good) {
                None
            } else {
                problem(
                    "is no project name (lowercase letters, digits, - and _)",
                    edit,
                )
            }
        }
        "AIRFLOW_UID" => match value.parse::<u32>() {
            Ok(uid) if uid > 0 => None,
            _ => problem("is no user id above 0", edit),
        },
        "DEMO_SCALE" => match value.parse::<f64>() {
            Ok(scale) if scale > 0.0 && scale <= 1000.0 => None,
            _ => problem("is no number above 0", edit),
        },
        "ETL_PIPELINE_SCHEDULE" if !is_cron(value) => problem(
            "is no cron schedule (minute hour day month weekday, as in '0 21 * * *')",
            edit,
        ),
        "DEMO_SEED" if value.parse::<u32>().is_err() => problem("is no whole number", edit),
        "ETL_ENVIRONMENT" => one_of(&["demo", "local", "clinic"]),
        "ETL_ALLOW_BUSINESS_HOURS_OVERRIDE" => one_of(&["true", "false"]),
        "DBT_TARGET" => one_of(&["local", "clinic"]),
        "OPENDENTAL_SOURCE_SSL_MODE" => one_of(&[
            "disabled",
            "preferred",
            "required",
            "verify-ca",
            "verify-identity",
        ]),
        "POSTGRES_ANALYTICS_SSLMODE" => one_of(&[
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full",
        ]),
        _ if name.ends_with("_PORT") => match value.parse::<u16>() {
            Ok(port) if port > 0 => None,
            _ => problem("is no port (1 to 65535)", edit),
        },
        _ if is_secret(name) => {
            let left = LEFT_BEHIND.contains(&value.to_ascii_lowercase().as_str());
            let source =
                name == "OPENDENTAL_SOURCE_PASSWORD" || name.starts_with("POSTGRES_ANALYTICS");
            if left {
                problem(
                    "holds a placeholder for a secret",
                    "empty the line and run: cargo xtask env",
                )
            } else if value.chars().count() < SHORTEST_PASSWORD && !source {
                problem(
                    "is shorter than 8 characters",
                    "empty the line and run: cargo xtask env",
                )
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Five fields of numbers in their ranges, `*`, lists, ranges, steps and the names
/// of months and weekdays; or a preset such as `@daily`.
fn is_cron(text: &str) -> bool {
    const PRESETS: [&str; 6] = [
        "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@once",
    ];
    const RANGES: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    let fields: Vec<&str> = text.split_whitespace().collect();
    let fits = |field: &str, (low, high): (u32, u32)| {
        field.split(',').all(|part| {
            let (range, step) = part.split_once('/').unwrap_or((part, "1"));
            let is_step = step.parse::<u32>().is_ok_and(|step| step > 0);
            let is_end = |end: &str| {
                let number = end.parse::<u32>();
                let name = end.len() == 3 && end.chars().all(|c| c.is_ascii_alphabetic());
                number.map_or(name && high <= 12, |n| (low..=high).contains(&n))
            };
            is_step && (range == "*" || range.split('-').all(is_end))
        })
    };
    PRESETS.contains(&text)
        || (fields.len() == RANGES.len() && fields.iter().zip(RANGES).all(|(f, r)| fits(f, r)))
}

/// Whether a variable's value is kept out of every output.
pub(crate) fn is_secret(name: &str) -> bool {
    ["PASSWORD", "_KEY", "SQL_ALCHEMY_CONN", "AIRFLOW_CONN_"]
        .iter()
        .any(|part| name.contains(part))
}

/// A metadata URL that names the stack's own postgres has to fit the role that
/// the postgres service makes.
fn check_metadata_url(env: &EnvFile) -> Option<Problem> {
    let name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
    let url = env.get(name).filter(|url| placeholder(url).is_none())?;
    let problem = |why: &str| {
        Some(Problem {
            name: name.to_owned(),
            why: why.to_owned(),
            fix: "empty the line and run: cargo xtask env".to_owned(),
        })
    };
    let Some(place) = url
        .strip_prefix("postgresql+psycopg2://")
        .or_else(|| url.strip_prefix("postgresql://"))
    else {
        return problem("is no postgresql+psycopg2:// URL");
    };
    let Some((login, server)) = place.rsplit_once('@') else {
        return problem("names no user and password");
    };
    if login.contains(['@', '/', '#', '?']) || percent_decode_str(login).decode_utf8().is_err() {
        return problem("holds characters in user or password that are not percent-encoded");
    }
    let ours = server.starts_with("postgres:") || server.starts_with("postgres/");
    if ours && url != metadata_url(env) {
        return problem("does not fit AIRFLOW_DB_USER, AIRFLOW_DB_PASSWORD and AIRFLOW_DB_NAME");
    }
    if !ours && !asks_for_tls(server) {
        return Some(Problem {
            name: name.to_owned(),
            why: "names a server elsewhere and does not insist on TLS".to_owned(),
            fix:
                "end it with ?sslmode=verify-full&sslrootcert=/opt/airflow/certs/<file of its CA>, \
                  or, which encrypts and trusts any server, with ?sslmode=require"
                    .to_owned(),
        });
    }
    None
}

/// Whether each sslmode of a URL's query, and there is one, refuses to go without.
fn asks_for_tls(server: &str) -> bool {
    let (_, query) = server.split_once('?').unwrap_or_default();
    let mut modes = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("sslmode="))
        .peekable();
    modes.peek().is_some() && modes.all(|m| matches!(m, "require" | "verify-ca" | "verify-full"))
}

/// An operator is named whole or not at all, and is nobody else.
fn check_operator(env: &EnvFile) -> Vec<Problem> {
    let problem = |name: &str, why: &str| Problem {
        name: name.to_owned(),
        why: why.to_owned(),
        fix: "set AIRFLOW_OPERATOR_USERNAME, _PASSWORD and _EMAIL, or none of them".to_owned(),
    };
    let (name, others) = (
        "AIRFLOW_OPERATOR_USERNAME",
        ["AIRFLOW_OPERATOR_PASSWORD", "AIRFLOW_OPERATOR_EMAIL"],
    );
    let Some(user) = env.get(name) else {
        let alone = others.iter().any(|other| env.get(other).is_some());
        return alone
            .then(|| problem(name, "is missing"))
            .into_iter()
            .collect();
    };
    let same = |other: &str, default: &str| {
        let other = env.get(other).unwrap_or(default);
        other.eq_ignore_ascii_case(user)
    };
    let taken = same("AIRFLOW_ADMIN_USERNAME", "admin") || same("AIRFLOW_API_USERNAME", "xtask");
    let missing = others.into_iter().filter(|other| env.get(other).is_none());
    taken
        .then(|| problem(name, "is another account's name"))
        .into_iter()
        .chain(missing.map(|other| problem(other, "is missing")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> EnvFile {
        EnvFile::parse(include_str!("../../../.env.template"))
    }

    fn valid() -> EnvFile {
        let mut env = template();
        let names: Vec<String> = env.entries().map(|(n, _)| n.to_owned()).collect();
        for name in names {
            let value = match name.as_str() {
                "AIRFLOW_FERNET_KEY" => "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "COMPOSE_PROJECT_NAME" => "dental",
                n if n.ends_with("_PORT") => "5432",
                "AIRFLOW_UID" => "50000",
                n if n.starts_with("AIRFLOW_OPERATOR_") => continue,
                n if n.ends_with("PASSWORD") || n.ends_with("KEY") => "abcdefgh12345678",
                _ => continue,
            };
            env.set(&name, value);
        }
        env.set("ETL_PIPELINE_START_DATE", "2026-01-01T00:00:00-06:00");
        let url = metadata_url(&env);
        env.set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &url);
        env
    }

    /// The names of the problems after one change.
    fn after(name: &str, value: &str) -> Vec<String> {
        let mut env = valid();
        env.set(name, value);
        check(&template(), &env)
            .into_iter()
            .map(|p| p.name)
            .collect()
    }

    #[test]
    fn a_valid_file_has_no_problems() {
        assert_eq!(check(&template(), &valid()), []);
    }

    #[test]
    fn each_malformed_value_is_named() {
        for (name, value) in [
            ("AIRFLOW_FERNET_KEY", "tooshort"),
            (
                "AIRFLOW_FERNET_KEY",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",
            ),
            (
                "AIRFLOW_FERNET_KEY",
                "++ECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            ),
            ("AIRFLOW_ADMIN_PASSWORD", "change-me"),
            ("AIRFLOW_ADMIN_PASSWORD", "short"),
            ("AIRFLOW_WEBSERVER_PORT", "http"),
            ("POSTGRES_ANALYTICS_PORT", "0"),
            ("AIRFLOW_UID", "0"),
            ("COMPOSE_PROJECT_NAME", "Dental"),
            ("ETL_ENVIRONMENT", "production"),
            ("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE", "yes"),
            ("DBT_TARGET", "prod"),
            ("DEMO_SEED", "abc"),
            ("ETL_PIPELINE_SCHEDULE", "0 99 * * *"),
            ("ETL_PIPELINE_SCHEDULE", "0 21 * *"),
            ("ETL_PIPELINE_SCHEDULE", "nightly"),
            ("OPENDENTAL_SOURCE_SSL_MODE", "require"),
            ("POSTGRES_ANALYTICS_SSLMODE", "required"),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "mysql://a:b@c/d"),
            (
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
                "postgresql://a:b@c@rds:5432/d",
            ),
            (
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
                "postgresql+psycopg2://a:b@postgres:5432/d",
            ),
            ("POSTGRES_USER", "<secret>"),
        ] {
            assert_eq!(after(name, value), [name], "{name}={value}");
        }
    }

    #[test]
    fn schedules_as_airflow_takes_them_pass() {
        for schedule in [
            "0 21 * * *",
            "*/5 0-6,21-23 1,15 jan mon-fri",
            "@daily",
            "59 23 31 12 7",
        ] {
            assert_eq!(
                after("ETL_PIPELINE_SCHEDULE", schedule),
                [""; 0],
                "{schedule}"
            );
        }
    }

    #[test]
    fn an_external_metadata_database_needs_no_role_of_ours() {
        let url = "postgresql+psycopg2://me:p%40ss@rds.example:5432/airflow?sslmode=require";
        assert_eq!(after("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url), [""; 0]);
    }

    #[test]
    fn a_metadata_database_elsewhere_is_reached_by_tls_or_not_at_all() {
        let name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
        let url = "postgresql+psycopg2://me:p%40ss@rds.example:5432/airflow";
        for (query, fine) in [
            ("", false),
            ("?sslmode=prefer", false),
            ("?sslmode=disable&sslmode=require", false),
            ("?application_name=sslmode=require", false),
            ("?sslmode=require", true),
            ("?connect_timeout=9&sslmode=verify-ca", true),
            (
                "?sslmode=verify-full&sslrootcert=/opt/airflow/certs/rds.pem",
                true,
            ),
        ] {
            let found = after(name, &format!("{url}{query}"));
            assert_eq!(found.is_empty(), fine, "{query}: {found:?}");
        }
    }

    #[test]
    fn an_operator_is_named_whole_or_not_at_all() {
        let with = |settings: &[(&str, &str)]| {
            let mut env = valid();
            for (part, value) in settings {
                env.set(&format!("AIRFLOW_OPERATOR_{part}"), value);
            }
            let found = check(&template(), &env).into_iter();
            found
                .map(|p| p.name.replace("AIRFLOW_OPERATOR_", ""))
                .collect::<Vec<_>>()
        };
        let whole = [
            ("USERNAME", "night"),
            ("PASSWORD", "staple 4711"),
            ("EMAIL", "n@example.org"),
        ];
        assert_eq!(with(&whole), [""; 0]);
        assert_eq!(with(&whole[..1]), ["PASSWORD", "EMAIL"]);
        assert_eq!(with(&whole[1..]), ["USERNAME"]);
        let short = [
            ("USERNAME", "Admin"),
            ("PASSWORD", "short"),
            ("EMAIL", "n@example.org"),
        ];
        assert_eq!(with(&short), ["PASSWORD", "USERNAME"]);
    }

    #[test]
    fn a_password_that_someone_elses_server_decided_may_be_short() {
        assert_eq!(after("OPENDENTAL_SOURCE_PASSWORD", "short"), [""; 0]);
    }

    #[test]
    fn missing_and_ambiguous_lines_come_together() {
        let text = valid()
            .to_string()
            .replace("AIRFLOW_API_PASSWORD=abcdefgh12345678\n", "")
            + "OPENDENTAL_SOURCE_PASSWORD=a$b\nexport X=1\n";
        let problems = check(&template(), &EnvFile::parse(&text));
        let names: Vec<&str> = problems.iter().map(|p| p.name.as_str()).collect();
        let last = text.lines().count();
        assert_eq!(
            names,
            [
                "OPENDENTAL_SOURCE_PASSWORD",
                format!("line {last}").as_str(),
                "AIRFLOW_API_PASSWORD"
            ]
        );
    }
}
