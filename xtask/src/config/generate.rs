//! `.env` from `.env.template`: fills what stands in `<angle brackets>`, keeps
//! what a person has set.

use data_encoding::BASE64URL;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::dotenv::{EnvFile, Line};
use crate::error::Failure;

/// Letters and digits of a generated secret: 32 of 62 symbols are 190 bits.
const SECRET_LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What RFC 3986 leaves unreserved stays readable; the rest is encoded.
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a volume remembers from its first start. Making any of these anew
/// would lock the stack out of its own data.
pub(super) const BOUND_TO_POSTGRES: [&str; 4] = [
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_DB_PASSWORD",
    "POSTGRES_PASSWORD",
    "POSTGRES_ANALYTICS_PASSWORD",
];
/// The same for the demo source's volume.
pub(super) const BOUND_TO_MYSQL: [&str; 3] = [
    "MYSQL_ROOT_PASSWORD",
    "DEMO_SOURCE_PASSWORD",
    "OPENDENTAL_SOURCE_PASSWORD",
];

/// Volume → the secrets that it was made with.
pub(super) const BOUND: [(&str, &[&str]); 2] = [
    ("postgres-data", &BOUND_TO_POSTGRES),
    ("mysql-data", &BOUND_TO_MYSQL),
];

/// What the generated values depend on, read beforehand.
pub(crate) struct Surroundings<'a> {
    /// Default for `COMPOSE_PROJECT_NAME`.
    pub(crate) project: String,
    /// Default for `AIRFLOW_UID`.
    pub(crate) uid: u32,
    /// A day before now, ISO 8601 with offset.
    pub(crate) yesterday: String,
    /// The port, or the next one on this machine that nobody holds.
    pub(crate) free_port: &'a dyn Fn(u16) -> u16,
    /// Fills a buffer with random bytes.
    pub(crate) random: &'a dyn Fn(&mut [u8]) -> anyhow::Result<()>,
    /// The volumes of a project that exist already.
    pub(crate) volumes: &'a dyn Fn(&str) -> anyhow::Result<Vec<String>>,
}

/// A new text for `.env` and what is new in it.
#[derive(Debug)]
pub(crate) struct Generated {
    /// The file's whole text.
    pub(crate) text: String,
    /// Names that were filled in.
    pub(crate) filled: Vec<String>,
    /// Names that came with the template's own value.
    pub(crate) added: Vec<String>,
}

/// Merges `template` into `current`.
///
/// Lines of `current` stay as and where they are; a name that it lacks comes in
/// with the template's comment, a placeholder that it still holds is filled.
///
/// # Errors
/// Where a secret would be made that an existing volume depends on.
pub(crate) fn generate(
    template: &EnvFile,
    current: Option<&EnvFile>,
    around: &Surroundings<'_>,
) -> anyhow::Result<Generated> {
    let mut env = current.cloned().unwrap_or_default();
    let (mut filled, mut added) = (Vec::new(), Vec::new());
    let mut comment = Vec::new();
    for line in template.lines() {
        let Line::Entry { name, value, .. } = line else {
            comment.push(line.clone());
            continue;
        };
        let lead = std::mem::take(&mut comment);
        let known = env.written(name).map(str::to_owned);
        match known.as_deref() {
            // An emptied line asks for a new value where one can be made.
            Some("") if placeholder(value).is_some() => {}
            Some(known) if placeholder(known).is_none() => continue,
            Some(_) => {}
            None => lead.into_iter().for_each(|line| env.push(line)),
        }
        let value = match placeholder(value) {
            None => {
                added.push(name.clone());
                value.clone()
            }
            Some(kind) => {
                filled.push(name.clone());
                fill(kind, &env, around)?
            }
        };
        env.set(name, &value);
    }
    refuse_what_volumes_need(&env, &filled, around)?;
    Ok(Generated {
        text: env.to_string(),
        filled,
        added,
    })
}

/// The kind named by a `<kind>` value.
pub(crate) fn placeholder(value: &str) -> Option<&str> {
    value.strip_prefix('<')?.strip_suffix('>')
}

/// `postgresql+psycopg2://…` of the metadata role, percent-encoded.
pub(crate) fn metadata_url(env: &EnvFile) -> String {
    let part = |name: &str, default: &str| {
        utf8_percent_encode(env.get(name).unwrap_or(default), IN_URL).to_string()
    };
    format!(
        "postgresql+psycopg2://{}:{}@postgres:5432/{}",
        part("AIRFLOW_DB_USER", "airflow"),
        part("AIRFLOW_DB_PASSWORD", ""),
        part("AIRFLOW_DB_NAME", "airflow"),
    )
}

fn fill(kind: &str, env: &EnvFile, around: &Surroundings<'_>) -> anyhow::Result<String> {
    let (kind, argument) = kind.split_once(' ').unwrap_or((kind, ""));
    Ok(match (kind, argument) {
        ("project", _) => around.project.clone(),
        ("uid", _) => around.uid.to_string(),
        ("free-port", port) => (around.free_port)(port.parse()?).to_string(),
        ("fernet-key", _) => {
            let mut key = [0; 32];
            (around.random)(&mut key)?;
            BASE64URL.encode(&key)
        }
        ("secret", _) => secret(around.random)?,
        ("metadata-url", _) => metadata_url(env),
        ("yesterday", _) => around.yesterday.clone(),
        _ => {
            return Err(Failure::user(format!(
                "failed to fill <{kind}> of .env.template: unknown kind"
            ))
            .hint("git diff .env.template")
            .into());
        }
    })
}

/// Secrets that can be made anew together with what holds them, in order.
pub(crate) const ROTATED: [&str; 11] = [
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_WEBSERVER_SECRET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_API_PASSWORD",
    "AIRFLOW_OPERATOR_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "POSTGRES_PASSWORD",
    "POSTGRES_ANALYTICS_PASSWORD",
    "MYSQL_ROOT_PASSWORD",
    "DEMO_SOURCE_PASSWORD",
    "OPENDENTAL_SOURCE_PASSWORD",
];

/// The same settings with new values for `names`, which are of [`ROTATED`].
///
/// # Errors
/// Where `random` fails.
pub(crate) fn renew(
    env: &EnvFile,
    names: &[&str],
    random: &dyn Fn(&mut [u8]) -> anyhow::Result<()>,
) -> anyhow::Result<EnvFile> {
    let mut made = env.clone();
    for name in names {
        let value = match *name {
            "AIRFLOW_FERNET_KEY" => {
                let mut key = [0; 32];
                random(&mut key)?;
                BASE64URL.encode(&key)
            }
            _ => secret(random)?,
        };
        made.set(name, &value);
    }
    if names.contains(&"AIRFLOW_DB_PASSWORD") {
        let url = metadata_url(&made);
        made.set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &url);
    }
    Ok(made)
}

/// Letters and digits only: they mean the same in a shell, a URL and YAML.
fn secret(random: &dyn Fn(&mut [u8]) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut text = String::with_capacity(SECRET_LENGTH);
    let mut bytes = [0; SECRET_LENGTH];
    while text.len() < SECRET_LENGTH {
        random(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: beyond it, letters at
        // the start of the alphabet would come up more often.
        let drawn = bytes.iter().filter(|b| **b < 248);
        text.extend(drawn.map(|b| char::from(ALPHABET[usize::from(b % 62)])));
    }
    text.truncate(SECRET_LENGTH);
    Ok(text)
}

fn refuse_what_volumes_need(
    env: &EnvFile,
    filled: &[String],
    around: &Surroundings<'_>,
) -> anyhow::Result<()> {
    let project = env.get("COMPOSE_PROJECT_NAME").unwrap_or(&around.project);
    let is_new = |name: &&&str| filled.iter().any(|f| f == **name);
    for (volume, bound) in BOUND {
        let lost: Vec<&str> = bound.iter().filter(is_new).copied().collect();
        let full = format!("{project}_{volume}");
        if lost.is_empty() || !(around.volumes)(project)?.contains(&full) {
            continue;
        }
        return Err(Failure::user(format!(
            "failed to write .env: the volume {full} was made with values of {} that are not in it",
            lost.join(", ")
        ))
        .hint("put the old .env back, or give the data up: cargo xtask down --volumes")
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check;
    use std::cell::Cell;

    fn template() -> EnvFile {
        EnvFile::parse(include_str!("../../../.env.template"))
    }

    /// A random source that is the same in each run.
    fn with<T>(volumes: &[&str], test: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let state = Cell::new(1_u32);
        let random = |bytes: &mut [u8]| {
            for byte in bytes {
                let next = state
                    .get()
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223);
                state.set(next);
                *byte = (next >> 24) as u8;
            }
            Ok(())
        };
        let volumes: Vec<String> = volumes.iter().map(|v| (*v).to_owned()).collect();
        test(&Surroundings {
            project: "dental".into(),
            uid: 1000,
            yesterday: "2026-01-01T09:00:00-06:00".into(),
            free_port: &|port| port + 1,
            random: &random,
            volumes: &|_| Ok(volumes.clone()),
        })
    }

    #[test]
    fn a_new_file_is_complete_and_valid() {
        let made = with(&[], |around| generate(&template(), None, around)).unwrap();
        let env = EnvFile::parse(&made.text);
        assert_eq!(check(&template(), &env), []);
        assert_eq!(env.get("AIRFLOW_WEBSERVER_PORT"), Some("8081"));
        assert_eq!(env.get("AIRFLOW_DB_PASSWORD").map(str::len), Some(32));
        assert!(made.text.starts_with("# Everything that differs"));
        let secrets: std::collections::BTreeSet<_> = env
            .entries()
            .filter(|(name, _)| name.ends_with("PASSWORD") || name.ends_with("KEY"))
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
            .collect();
        assert_eq!(secrets.len(), 10, "each secret is one of its own");
    }

    #[test]
    fn secrets_are_renewed_with_what_is_made_of_them_and_nothing_else() {
        let (env, made) = with(&[], |around| {
            let env = EnvFile::parse(&generate(&template(), None, around).unwrap().text);
            let names = ["AIRFLOW_FERNET_KEY", "AIRFLOW_DB_PASSWORD"];
            let made = renew(&env, &names, around.random).unwrap();
            (env, made)
        });
        assert_eq!(check(&template(), &made), []);
        let changed: Vec<&str> = env
            .entries()
            .filter(|(name, value)| made.get(name).unwrap_or_default() != *value)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            changed,
            [
                "AIRFLOW_FERNET_KEY",
                "AIRFLOW_DB_PASSWORD",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
            ]
        );
    }

    #[test]
    fn again_changes_nothing() {
        let first = with(&[], |around| generate(&template(), None, around)).unwrap();
        let env = EnvFile::parse(&first.text);
        let again = with(&[], |around| generate(&template(), Some(&env), around)).unwrap();
        assert_eq!(again.text, first.text);
        assert!(again.filled.is_empty());
    }

    #[test]
    fn what_a_person_set_stays_and_what_is_missing_comes_in() {
        let mine = "# mine\nAIRFLOW_DB_PASSWORD='p@ss/w#rd$'\nAIRFLOW_FERNET_KEY=<fernet-key>\n";
        let env = EnvFile::parse(mine);
        let made = with(&[], |around| generate(&template(), Some(&env), around)).unwrap();
        assert!(
            made.text
                .starts_with("# mine\nAIRFLOW_DB_PASSWORD='p@ss/w#rd$'\n")
        );
        let env = EnvFile::parse(&made.text);
        assert_eq!(
            env.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
            Some("postgresql+psycopg2://airflow:p%40ss%2Fw%23rd%24@postgres:5432/airflow")
        );
        assert!(made.filled.contains(&"AIRFLOW_FERNET_KEY".to_owned()));
        assert_eq!(check(&template(), &env), []);
    }

    #[test]
    fn an_emptied_secret_is_made_anew_and_an_empty_setting_stays_empty() {
        let env = EnvFile::parse("AIRFLOW_API_PASSWORD=\nOPENDENTAL_SOURCE_SSL_CA=\n");
        let made = with(&[], |around| generate(&template(), Some(&env), around)).unwrap();
        let env = EnvFile::parse(&made.text);
        assert_eq!(env.get("AIRFLOW_API_PASSWORD").map(str::len), Some(32));
        assert_eq!(env.written("OPENDENTAL_SOURCE_SSL_CA"), Some(""));
    }

    #[test]
    fn secrets_that_a_volume_depends_on_are_not_made_anew() {
        let error = with(&["dental_postgres-data"], |around| {
            generate(&template(), None, around)
        })
        .unwrap_err();
        assert_eq!(
            crate::error::show(&error).text,
            "error: failed to write .env: the volume dental_postgres-data was made with values of \
             AIRFLOW_FERNET_KEY, AIRFLOW_DB_PASSWORD, POSTGRES_PASSWORD, \
             POSTGRES_ANALYTICS_PASSWORD that are not in it\n\
             hint: put the old .env back, or give the data up: cargo xtask down --volumes\n"
        );
    }

    #[test]
    fn a_missing_name_that_no_volume_needs_is_filled_beside_volumes() {
        let first = with(&[], |around| generate(&template(), None, around)).unwrap();
        let without: String = first
            .text
            .lines()
            .filter(|line| !line.starts_with("AIRFLOW_API_PASSWORD"))
            .map(|line| format!("{line}\n"))
            .collect();
        let env = EnvFile::parse(&without);
        let made = with(&["dental_postgres-data"], |around| {
            generate(&template(), Some(&env), around)
        })
        .unwrap();
        assert_eq!(made.filled, ["AIRFLOW_API_PASSWORD"]);
    }
}
