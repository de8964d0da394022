//! `[hosts.*]` of `deploy.toml`: the machines that `--host` names.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::web::Web;
use crate::error::Failure;

/// One machine, and where the stack lives on it. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// As ssh itself takes it: an alias of `~/.ssh/config`, an address, or
    /// `user@address`.
    #[serde(deserialize_with = "destination")]
    pub(crate) ssh: String,
    /// Instead of what ssh's own settings say.
    pub(crate) user: Option<String>,
    /// The same.
    pub(crate) port: Option<u16>,
    /// The private key's file; `~` is the home folder.
    pub(crate) identity: Option<String>,
    /// A machine on the way there, as ssh takes it.
    #[serde(default, deserialize_with = "way")]
    pub(crate) jump: Option<String>,
    /// A file of ssh's settings, read instead of `~/.ssh/config`.
    pub(crate) ssh_config: Option<String>,
    /// What the stack has there: an absolute folder of its own.
    #[serde(deserialize_with = "folder")]
    pub(crate) directory: String,
    /// Where its containers see the code: every release, and `current` among them.
    #[serde(default = "project_mount", deserialize_with = "folder")]
    pub(crate) project_mount: String,
    /// The file of its settings and secrets, relative to the root of the checkout.
    pub(crate) env_file: Option<String>,
    /// A program that prints them, as NAME=value lines.
    #[serde(default)]
    pub(crate) env_command: Vec<String>,
    /// How images come to it.
    #[serde(default)]
    pub(crate) transport: Transport,
    /// With transport registry: instead of the one under `[image]`. One name, for
    /// this machine and for the host.
    pub(crate) registry: Option<String>,
    /// With transport build: the file there of a CA that the build has to know,
    /// where a proxy opens TLS.
    #[serde(default, deserialize_with = "file")]
    pub(crate) ca_bundle: Option<String>,
    /// How people reach its web page.
    #[serde(default)]
    pub(crate) web: Web,
    /// DAGs that have to be active there; where it does not say, those of `[airflow]`.
    #[serde(default, deserialize_with = "ids")]
    pub(crate) dags: Option<Vec<String>>,
    /// Airflow's Variables that are made there; one that is there already stays. No
    /// secrets.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
}

/// How an image comes to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// From this machine, without the layers that are there.
    #[default]
    Ssh,
    /// From this machine to a registry, and from there.
    Registry,
    /// What it is made of travels, and it is built there.
    Build,
}

/// As in the clinic's own Variables: `project_root` is `current` below it.
fn project_mount() -> String {
    "/opt/dbt_dental_clinic".to_owned()
}

/// Where a host's settings and secrets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnvSource<'a> {
    /// A file here.
    File(&'a str),
    /// What a program here prints.
    Command(&'a [String]),
    /// `.env` in the stack's folder there, which somebody keeps by hand.
    There,
}

impl Host {
    /// Where its settings and secrets come from.
    ///
    /// # Errors
    /// A user failure where two sources are named.
    pub(crate) fn env_source(&self) -> Result<EnvSource<'_>, Failure> {
        match (&self.env_file, self.env_command.as_slice()) {
            (Some(_), [_, ..]) => Err(Failure::user(
                "failed to read deploy.toml: a host has both env_file and env_command",
            )
            .hint("leave one of them out")),
            (Some(file), []) => Ok(EnvSource::File(file)),
            (None, command @ [_, ..]) => Ok(EnvSource::Command(command)),
            (None, []) => Ok(EnvSource::There),
        }
    }

    /// The options that ssh takes for it, each with its value.
    pub(crate) fn ssh_options(&self) -> Vec<String> {
        let mut options = Vec::new();
        let mut option = |name: &str, value: &str| options.extend([name.into(), value.into()]);
        if let Some(file) = &self.ssh_config {
            option("-F", file);
        }
        if let Some(user) = &self.user {
            option("-l", user);
        }
        if let Some(port) = self.port {
            option("-p", &port.to_string());
        }
        if let Some(key) = &self.identity {
            option("-o", &format!("IdentityFile={key}"));
            option("-o", "IdentitiesOnly=yes");
        }
        if let Some(way) = &self.jump {
            option("-J", way);
        }
        options
    }
}

fn destination<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let text = String::deserialize(value)?;
    let fine = !text.is_empty()
        && !text.starts_with('-')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if fine {
        Ok(text)
    } else {
        Err(D::Error::custom(format!(
            "`{text}` is neither an alias of ssh's settings nor user@address"
        )))
    }
}

fn way<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    destination(value).map(Some)
}

fn file<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(value)?;
    if text.starts_with('/') && !text.contains(|c: char| c == ',' || c.is_control()) {
        Ok(Some(text))
    } else {
        Err(D::Error::custom(format!("`{text}` is no absolute path")))
    }
}

/// Ids of DAGs, as Airflow takes them.
fn ids<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Vec<String>>, D::Error> {
    let ids = Vec::<String>::deserialize(value)?;
    let fine = |id: &&String| {
        !id.is_empty()
            && id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    match ids.iter().find(|id| !fine(id)) {
        None => Ok(Some(ids)),
        Some(id) => Err(D::Error::custom(format!("`{id}` is no id of a DAG"))),
    }
}

fn folder<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let text = String::deserialize(value)?;
    let words = text.strip_prefix('/').unwrap_or_default().split('/');
    // A folder of the system's own is never the stack's.
    let deep = words.clone().count() > 1;
    if deep && words.clone().all(|w| !matches!(w, "" | "." | "..")) {
        Ok(text)
    } else {
        Err(D::Error::custom(format!(
            "`{text}` is no absolute folder of its own, as /srv/dental"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Host, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn every_key_reaches_ssh() {
        let host = read(
            "ssh = 'clinic'\nuser = 'ubuntu'\nport = 2222\nidentity = '~/.ssh/clinic'\n\
             jump = 'me@bastion:22'\nssh_config = 'ssh.conf'\ndirectory = '/srv/dental'\n",
        )
        .unwrap();
        assert_eq!(
            host.ssh_options().join(" "),
            "-F ssh.conf -l ubuntu -p 2222 -o IdentityFile=~/.ssh/clinic -o IdentitiesOnly=yes \
             -J me@bastion:22"
        );
        let host = read("ssh = 'clinic'\ndirectory = '/srv/dental'\n").unwrap();
        assert_eq!(host.ssh_options(), [""; 0]);
    }

    #[test]
    fn what_ssh_or_the_host_would_take_for_something_else_is_an_error() {
        for (text, said) in [
            (
                "ssh = '-oProxyCommand=x'\ndirectory = '/srv/dental'\n",
                "`-oProxyCommand=x` is neither an alias of ssh's settings nor user@address",
            ),
            (
                "ssh = 'a b'\ndirectory = '/srv/dental'\n",
                "`a b` is neither an alias of ssh's settings nor user@address",
            ),
            (
                "ssh = 'a'\ndirectory = 'srv/dental'\n",
                "`srv/dental` is no absolute folder of its own, as /srv/dental",
            ),
            (
                "ssh = 'a'\ndirectory = '/srv'\n",
                "`/srv` is no absolute folder of its own, as /srv/dental",
            ),
            (
                "ssh = 'a'\ndirectory = '/srv/../etc'\n",
                "`/srv/../etc` is no absolute folder of its own, as /srv/dental",
            ),
            (
                "ssh = 'a'\ndirectory = '/srv/dental'\ndags = ['a b']\n",
                "`a b` is no id of a DAG",
            ),
            (
                "ssh = 'a'\njump = '-x'\ndirectory = '/srv/dental'\n",
                "`-x` is neither an alias of ssh's settings nor user@address",
            ),
            (
                "ssh = 'a'\ndirectory = '/srv/dental'\ntransport = 'scp'\n",
                "unknown variant `scp`, expected one of `ssh`, `registry`, `build`",
            ),
            (
                "ssh = 'a'\ndirectory = '/srv/dental'\nca_bundle = 'ca.crt'\n",
                "`ca.crt` is no absolute path",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), said);
        }
        let unknown = read("ssh = 'a'\ndirectory = '/srv/dental'\nprot = 1\n").unwrap_err();
        assert!(unknown.starts_with("unknown field `prot`"), "{unknown}");
    }
}
