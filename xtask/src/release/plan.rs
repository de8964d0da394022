//! What a deploy would do; decided from facts alone.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::observe::Observed;
use super::{Code, Release};
use crate::config::Web;
use crate::exec::quote;
use crate::host::images::There;

/// The services that run the image.
pub(crate) const AIRFLOW: [&str; 2] = ["airflow-webserver", "airflow-scheduler"];

/// What is to serve.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The release, as it would be made now.
    pub(crate) release: Release,
    /// Its files.
    pub(crate) code: Code,
    /// Every image that its services need.
    pub(crate) images: Vec<Needed>,
}

/// An image that a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    /// `name:tag`
    pub(crate) name: String,
    /// Digests of its layers, from the lowest.
    pub(crate) layers: Vec<String>,
    /// Where the host builds it by itself: the hash of its inputs, in place of layers.
    pub(crate) inputs: Option<String>,
}

impl Needed {
    /// Whether that is it.
    pub(crate) fn is(&self, there: &There) -> bool {
        match &self.inputs {
            Some(inputs) => there.is_made_of(inputs),
            None => there.has_layers(&self.layers),
        }
    }
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
}

/// Decides.
pub(crate) fn plan(wanted: &Wanted, observed: &Observed) -> Plan {
    let serving = observed.serving();
    let absent = |needed: &&Needed| {
        let there = observed.images.get(&needed.name);
        !there.is_some_and(|there| needed.is(there))
    };
    let bring = wanted.images.iter().filter(absent);
    let mut plan = Plan {
        way: Way::Nothing,
        why: Vec::new(),
        bring: bring.map(|needed| needed.name.clone()).collect(),
        old: observed.good.clone(),
        like: serving.map(|release| release.id.clone()),
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
    let databases = wanted.release.databases.iter().map(String::as_str);
    for name in AIRFLOW.into_iter().chain(databases) {
        match observed.service(name) {
            Some(served) if served.is_up() => {
                if AIRFLOW.contains(&name) && served.image != wanted.release.image {
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
    /// How people reach the web page.
    pub(crate) web: &'a Web,
    /// Its port on the host.
    pub(crate) port: &'a str,
    /// DAGs that are unpaused there once; `None`: as objects.yml says.
    pub(crate) dags: Option<&'a [String]>,
    /// Airflow's Variables of this host alone.
    pub(crate) variables: &'a BTreeMap<String, String>,
}

impl Calling<'_> {
    /// The script for one release.
    pub(crate) fn script(&self, release: &str, env: &str) -> String {
        let directory = self.directory;
        let here = format!("{directory}/code/releases/{release}");
        let mut text = format!(
            "#!/bin/sh\n# Compose for this release: sh {directory}/code/current/.release/compose ps\n"
        );
        for (name, value) in self.variables() {
            text.push_str(&format!("export {name}={}\n", quote(value)));
        }
        let program = if self.plugin {
            "docker compose"
        } else {
            "docker-compose"
        };
        let mut words = vec![
            ("--project-name", self.project.to_owned()),
            ("--project-directory", directory.to_owned()),
            ("--env-file", format!("{directory}/env/{env}.env")),
        ];
        words.extend(
            self.files()
                .map(|file| ("--file", format!("{here}/{file}"))),
        );
        words.extend(["demo", "init"].map(|profile| ("--profile", profile.to_owned())));
        text.push_str(&format!("exec {program}"));
        for (flag, value) in words {
            text.push_str(&format!(" {flag} {}", quote(value)));
        }
        text.push_str(" \"$@\"\n");
        text
    }

    /// What its files refer to beside the settings.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("AIRFLOW_UID", self.uid.to_string()),
            ("HOST_NAME", self.host.to_owned()),
            ("PROJECT_MOUNT", self.mount.to_owned()),
        ];
        variables.extend(self.web.variables(self.port));
        if let Some(dags) = self.dags {
            variables.push(("BOOTSTRAP_DAGS", dags.join(" ")));
        }
        if !self.variables.is_empty() {
            variables.push(("BOOTSTRAP_VARIABLES", json!(self.variables).to_string()));
        }
        variables.extend(self.images.iter().cloned());
        variables
    }

    /// Its files, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &'static str> {
        let more = self.web.address().map(|_| "docker-compose.web.yml");
        ["docker-compose.yml", "docker-compose.host.yml"]
            .into_iter()
            .chain(more)
    }

    /// Fingerprint of all that needs a restart when it changes, but settings and
    /// secrets, in hex.
    pub(crate) fn shape(&self, code: &Code) -> String {
        let text = self.script("release", "env") + &code.digest_at_start();
        HEXLOWER.encode(&Sha256::digest(text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::tests::{SERVES, observed};
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            release: observed(SERVES).releases.remove(0),
            code: Code::default(),
            images: vec![Needed {
                name: "airflow:1".into(),
                layers: vec!["sha256:a".into(), "sha256:b".into()],
                inputs: None,
            }],
        }
    }

    fn planned(change: impl FnOnce(&mut Wanted), told: &str) -> (Way, Vec<String>) {
        let mut wanted = wanted();
        change(&mut wanted);
        let plan = plan(&wanted, &observed(told));
        (plan.way, plan.why)
    }

    #[test]
    fn a_host_that_serves_the_tree_is_left_alone() {
        assert_eq!(planned(|_| {}, SERVES), (Way::Nothing, vec![]));
        let plan = plan(&wanted(), &observed(SERVES));
        assert_eq!(plan.bring, [""; 0]);
        assert_eq!(plan.old.as_deref(), Some("20260101T000000Z-abc-1"));
        assert_eq!(plan.like, plan.old);
    }

    #[test]
    fn what_the_host_builds_by_itself_is_known_by_its_inputs() {
        let mut wanted = wanted();
        let told = SERVES.replace(
            "\"Labels\":null",
            "\"Labels\":{\"dental.image.inputs\":\"h\"}",
        );
        for (inputs, bring) in [("h", &[][..]), ("i", &["airflow:1"])] {
            wanted.images[0].layers.clear();
            wanted.images[0].inputs = Some(inputs.into());
            assert_eq!(plan(&wanted, &observed(&told)).bring, bring);
        }
    }

    #[test]
    fn new_code_alone_restarts_nothing() {
        let (way, why) = planned(|w| w.release.code = "other".into(), SERVES);
        assert_eq!((way, why), (Way::Code, vec!["the code changed".into()]));
    }

    #[test]
    fn whatever_containers_are_made_of_restarts_them() {
        type Change = fn(&mut Wanted);
        let changes: [(Change, &str); 3] = [
            (
                |w| w.release.image = "airflow:2".into(),
                "the image is another",
            ),
            (
                |w| w.release.env = "other".into(),
                "settings or secrets changed",
            ),
            (
                |w| w.release.shape = "other".into(),
                "what is read at the start of a container changed",
            ),
        ];
        for (change, expected) in changes {
            let (way, why) = planned(
                |w| {
                    change(w);
                    w.release.code = "other".into();
                },
                SERVES,
            );
            assert_eq!(way, Way::Restart);
            assert_eq!(why.first().map(String::as_str), Some(expected));
        }
    }

    #[test]
    fn what_does_not_serve_well_is_mended_though_nothing_changed() {
        for (before, after, expected) in [
            (
                "scheduler False c2 running healthy",
                "scheduler False c2 running unhealthy",
                "airflow-scheduler is unhealthy",
            ),
            (
                "webserver False c1 running",
                "webserver False c1 exited",
                "airflow-webserver is exited",
            ),
            (
                "container postgres False",
                "container postgres True",
                "postgres is not there",
            ),
            (
                "good 20260101T000000Z-abc-1",
                "good 20250101T000000Z-abc-1",
                "the deploy of 20260101T000000Z-abc-1 did not come to its end",
            ),
            (
                "current ",
                "paused etl_pipeline \ncurrent ",
                "DAGs were left paused: etl_pipeline",
            ),
        ] {
            let told = SERVES.replace(before, after);
            assert_ne!(told, SERVES, "{before}");
            assert_eq!(
                planned(|_| {}, &told),
                (Way::Restart, vec![expected.into()]),
                "{before}"
            );
        }
    }

    #[test]
    fn an_empty_host_gets_all_of_it() {
        let told = SERVES.lines().filter(|line| {
            !line.starts_with("current") && !line.starts_with("good") && !line.starts_with("image")
        });
        let told: String = told.flat_map(|line| [line, "\n"]).collect();
        let plan = plan(&wanted(), &observed(&told));
        assert_eq!((plan.way, plan.old), (Way::First, None));
        assert_eq!(plan.bring, ["airflow:1"]);
    }

    fn script(web: &str) -> String {
        let images = [("AIRFLOW_IMAGE", "airflow:1".to_owned())];
        let calling = Calling {
            host: "ec2",
            directory: "/srv/dental",
            mount: "/opt/dbt_dental_clinic",
            project: "dental",
            uid: 1000,
            plugin: true,
            images: &images,
            web: &toml::from_str(web).unwrap(),
            port: "8080",
            dags: None,
            variables: &BTreeMap::new(),
        };
        calling.script("r1", "e1")
    }

    #[test]
    fn a_person_on_the_host_can_run_the_same_compose() {
        assert_eq!(
            script(""),
            "#!/bin/sh\n\
             # Compose for this release: sh /srv/dental/code/current/.release/compose ps\n\
             export AIRFLOW_UID=1000\nexport HOST_NAME=ec2\n\
             export PROJECT_MOUNT=/opt/dbt_dental_clinic\n\
             export WEB_BASE_URL=http://localhost:8080\n\
             export WEB_COOKIE_SECURE=False\nexport WEB_PROXY_FIX=False\n\
             export AIRFLOW_IMAGE=airflow:1\n\
             exec docker compose --project-name dental --project-directory /srv/dental \
             --env-file /srv/dental/env/e1.env \
             --file /srv/dental/code/releases/r1/docker-compose.yml \
             --file /srv/dental/code/releases/r1/docker-compose.host.yml \
             --profile demo --profile init \"$@\"\n"
        );
    }

    #[test]
    fn the_page_is_published_beside_loopback_only_where_an_address_is_named() {
        let script = script(
            "bind = '10.0.0.5'\nbase_url = 'https://airflow.example.com'\nbehind = 'proxy'\n",
        );
        for part in [
            "export WEB_ADDRESS=10.0.0.5\n",
            "export WEB_BASE_URL=https://airflow.example.com\n",
            "docker-compose.host.yml --file /srv/dental/code/releases/r1/docker-compose.web.yml \
             --profile demo",
        ] {
            assert!(script.contains(part), "{script}");
        }
    }
}
