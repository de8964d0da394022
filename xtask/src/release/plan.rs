//! What a deploy would do; decided from facts alone.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::observe::Observed;
use super::{Code, Release};
use crate::exec::quote;

/// The services that run the image.
pub(crate) const AIRFLOW: [&str; 2] = ["airflow-webserver", "airflow-scheduler"];

/// What is to serve.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The release, as it would be made now.
    pub(crate) release: Release,
    /// Its files.
    pub(crate) code: Code,
    /// Every image that its services need, by name: the engine's list of layers,
    /// and our image's inputs.
    pub(crate) images: Vec<Needed>,
    /// The databases that are ours, in order.
    pub(crate) databases: Vec<&'static str>,
}

/// An image that a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    /// `name:tag`
    pub(crate) name: String,
    /// Digests of its layers, from the lowest.
    pub(crate) layers: Vec<String>,
}

/// By which road the host comes to serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It does already.
    Nothing,
    /// The link moves, nothing restarts.
    Code,
    /// Airflow is stopped and started.
    Restart,
    /// Nothing serves yet.
    First,
}

impl Way {
    /// As the host's script and `--json` call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Code => "code",
            Self::Restart => "restart",
            Self::First => "first",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The road.
    pub(crate) way: Way,
    /// Why it is that one, a line each.
    pub(crate) why: Vec<String>,
    /// Images that have to travel.
    pub(crate) bring: Vec<String>,
    /// The release to fall back to.
    pub(crate) old: Option<String>,
    /// The release there whose files are nearest: the one that serves.
    pub(crate) like: Option<String>,
    /// DAGs that an interrupted deploy left paused.
    pub(crate) left_paused: Vec<String>,
}

/// Decides.
pub(crate) fn plan(wanted: &Wanted, observed: &Observed) -> Plan {
    let serving = observed.serving();
    let absent = |needed: &&Needed| {
        let there = observed.images.get(&needed.name);
        !there.is_some_and(|there| there.has_layers(&needed.layers))
    };
    let bring = wanted.images.iter().filter(absent);
    let mut plan = Plan {
        way: Way::Nothing,
        why: Vec::new(),
        bring: bring.map(|needed| needed.name.clone()).collect(),
        old: observed.good.clone(),
        like: serving.map(|release| release.id.clone()),
        left_paused: observed.paused.clone(),
    };
    let mut take = |way, why: String| {
        plan.why.push(why);
        if plan.way != Way::First && plan.way != Way::Restart {
            plan.way = way;
        }
    };
    let (Some(good), Some(serving)) = (&observed.good, serving) else {
        take(Way::First, "nothing serves there yet".to_owned());
        return plan;
    };
    if *good != serving.id {
        take(
            Way::Restart,
            format!("the deploy of {} did not come to its end", serving.id),
        );
    }
    if !observed.paused.is_empty() {
        take(
            Way::Restart,
            format!("DAGs were left paused: {}", observed.paused.join(" ")),
        );
    }
    for (what, is_same) in [
        (
            "the image is another",
            serving.image == wanted.release.image,
        ),
        (
            "settings or secrets changed",
            serving.env == wanted.release.env,
        ),
        (
            "what is read at the start of a container changed",
            serving.shape == wanted.release.shape,
        ),
    ] {
        if !is_same {
            take(Way::Restart, what.to_owned());
        }
    }
    for name in AIRFLOW.iter().chain(&wanted.databases) {
        match observed.service(name) {
            Some(served) if served.is_up() => {
                if AIRFLOW.contains(name) && served.image != wanted.release.image {
                    take(Way::Restart, format!("{name} runs {}", served.image));
                }
            }
            Some(served) => take(Way::Restart, format!("{name} is {}", served.condition())),
            None => take(Way::Restart, format!("{name} is not there")),
        }
    }
    if let Some(state) = &observed.state
        && !state.import_errors.is_empty()
    {
        take(Way::Code, "a DAG file cannot be imported".to_owned());
    }
    if serving.code != wanted.release.code {
        take(Way::Code, "the code changed".to_owned());
    }
    plan
}

/// How Compose is called for a release on its host: everything that differs
/// between hosts and releases, in one place that a person there can run too.
#[derive(Debug, Clone)]
pub(crate) struct Calling<'a> {
    /// The host's name.
    pub(crate) host: &'a str,
    /// The stack's folder.
    pub(crate) directory: &'a str,
    /// Where containers see the code.
    pub(crate) mount: &'a str,
    /// Compose's project.
    pub(crate) project: &'a str,
    /// Containers of Airflow run as this user.
    pub(crate) uid: u32,
    /// `docker compose`, not `docker-compose`.
    pub(crate) plugin: bool,
    /// AIRFLOW_IMAGE and those of the databases.
    pub(crate) images: &'a [(&'static str, String)],
}

impl Calling<'_> {
    /// The script for one release.
    pub(crate) fn script(&self, release: &str, env: &str) -> String {
        let directory = self.directory;
        let here = format!("{directory}/code/releases/{release}");
        let mut text = format!(
            "#!/bin/sh\n# Compose for this release: sh {directory}/code/current/.release/compose ps\n"
        );
        let own = [
            ("AIRFLOW_UID", self.uid.to_string()),
            ("HOST_NAME", self.host.to_owned()),
            ("PROJECT_MOUNT", self.mount.to_owned()),
        ];
        for (name, value) in own.iter().chain(self.images) {
            text.push_str(&format!("export {name}={}\n", quote(value)));
        }
        let program = if self.plugin {
            "docker compose"
        } else {
            "docker-compose"
        };
        let words = [
            ("--project-name", self.project.to_owned()),
            ("--project-directory", directory.to_owned()),
            ("--env-file", format!("{directory}/env/{env}.env")),
            ("--file", format!("{here}/docker-compose.yml")),
            ("--file", format!("{here}/docker-compose.host.yml")),
            ("--profile", "demo".to_owned()),
            ("--profile", "init".to_owned()),
        ];
        text.push_str(&format!("exec {program}"));
        for (flag, value) in words {
            text.push_str(&format!(" {flag} {}", quote(value)));
        }
        text.push_str(" \"$@\"\n");
        text
    }

    /// Fingerprint of all that needs a restart when it changes, but settings and
    /// secrets, in hex.
    pub(crate) fn shape(&self, code: &Code) -> String {
        let text = self.script("release", "env") + &code.digest_at_start();
        HEXLOWER.encode(&Sha256::digest(text))
    }
}
