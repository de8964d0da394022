//! What the engine tells of images and containers, as far as we ask.

use serde::Deserialize;

/// What `docker image inspect` tells, as far as we ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Image {
    /// The engine's id of the image.
    pub(crate) id: String,
    /// `name@sha256:…` where a registry gave it.
    #[serde(default)]
    pub(crate) repo_digests: Vec<String>,
    /// `name:tag` of each name.
    #[serde(default)]
    pub(crate) repo_tags: Vec<String>,
    /// `linux`
    #[serde(default)]
    pub(crate) os: String,
    /// `amd64`
    #[serde(default)]
    pub(crate) architecture: String,
    /// Settings baked in.
    pub(crate) config: Option<ImageConfig>,
}

/// `Config` of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageConfig {
    /// Its labels; null in JSON where there are none.
    pub(crate) labels: Option<std::collections::BTreeMap<String, String>>,
}

impl Image {
    /// The label's value.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let labels = self.config.as_ref()?.labels.as_ref()?;
        labels.get(name).map(String::as_str)
    }

    /// Whether `name:tag`, `name@digest` or `name:tag@digest` is this image.
    pub(crate) fn answers_to(&self, reference: &str) -> bool {
        match reference.split_once('@') {
            None => self.repo_tags.iter().any(|tag| tag == reference),
            Some((name, digest)) => {
                // Of `name:tag@digest` the engine keeps the digest alone.
                let slash = name.rfind('/').map_or(0, |at| at + 1);
                let end = name[slash..].find(':').map_or(name.len(), |at| slash + at);
                let pinned = format!("{}@{digest}", &name[..end]);
                self.repo_digests.contains(&pinned)
            }
        }
    }

    /// `linux/amd64`
    pub(crate) fn platform(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

/// A container, as far as we ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    /// Its full id.
    pub(crate) id: String,
    /// `/airflow-webserver-1`
    #[serde(default)]
    pub(crate) name: String,
    /// The id of the image that it runs.
    pub(crate) image: String,
    /// What it is doing.
    pub(crate) state: State,
    /// Settings and labels.
    pub(crate) config: ContainerConfig,
    /// Its ports.
    #[serde(default)]
    pub(crate) network_settings: NetworkSettings,
}

/// `NetworkSettings` of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkSettings {
    /// `8080/tcp` → where this machine reaches it; null where it does not.
    #[serde(default)]
    pub(crate) ports: std::collections::BTreeMap<String, Option<Vec<Published>>>,
    /// Network name → how it is attached; empty where it has lost every one.
    pub(crate) networks: Option<std::collections::BTreeMap<String, Attachment>>,
}

/// A network that a container is attached to, or was when it stopped.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attachment {
    /// The network's full id.
    #[serde(rename = "NetworkID", default)]
    pub(crate) network: String,
}

/// A port of this machine that leads into a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Published {
    /// As text, as docker has it.
    pub(crate) host_port: String,
}

/// `Config` of a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerConfig {
    /// The image as it was named.
    pub(crate) image: String,
    /// Labels, Compose's among them.
    #[serde(default)]
    pub(crate) labels: std::collections::BTreeMap<String, String>,
}

/// `State` of a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    /// `running`, `exited`, `restarting`, …
    pub(crate) status: String,
    /// Of its main process.
    #[serde(default)]
    pub(crate) exit_code: i64,
    /// Only where a healthcheck is set.
    pub(crate) health: Option<Health>,
}

/// `State.Health`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub(crate) status: String,
}

impl Container {
    /// Compose's name of the service.
    pub(crate) fn service(&self) -> &str {
        self.config
            .labels
            .get("com.docker.compose.service")
            .map_or("", String::as_str)
    }

    /// Whether it is a `run` of a service and not the service itself.
    pub(crate) fn is_one_off(&self) -> bool {
        self.config
            .labels
            .get("com.docker.compose.oneoff")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether `port` of this machine leads into it.
    pub(crate) fn publishes(&self, port: u16) -> bool {
        let port = port.to_string();
        let mut ports = self.network_settings.ports.values().flatten().flatten();
        ports.any(|published| published.host_port == port)
    }

    /// Whether it has a network, as far as is known.
    pub(crate) fn is_attached(&self) -> bool {
        let networks = self.network_settings.networks.as_ref();
        networks.is_none_or(|all| all.values().any(|one| !one.network.is_empty()))
    }

    /// Whether it can reach no other container, or will not start: none of its
    /// networks is among `networks`, the ids of those that the engine has.
    pub(crate) fn is_stranded(&self, networks: &[String]) -> bool {
        let attached = self.network_settings.networks.as_ref();
        attached.is_some_and(|all| !all.values().any(|one| networks.contains(&one.network)))
    }

    /// Running, and healthy where that can be told.
    pub(crate) fn is_up(&self) -> bool {
        self.state.status == "running"
            && self
                .state
                .health
                .as_ref()
                .is_none_or(|health| health.status == "healthy")
    }

    /// `healthy`, `starting`, `exited (1)`: one word for a table.
    pub(crate) fn condition(&self) -> String {
        match (&self.state.status, &self.state.health) {
            (status, Some(health)) if status == "running" => health.status.clone(),
            (status, _) if status == "exited" => format!("exited ({})", self.state.exit_code),
            (status, _) => status.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_answers_to_its_tags_and_its_digests() {
        let text =
            r#"{"Id":"i","RepoTags":["a/b:1"],"RepoDigests":["a/b@sha256:1"],"Config":null}"#;
        let image: Image = serde_json::from_str(text).unwrap();
        for (reference, expected) in [
            ("a/b:1", true),
            ("a/b:2", false),
            ("a/b@sha256:1", true),
            ("a/b:1@sha256:1", true),
            ("a/b:1@sha256:2", false),
            ("host:5000/a/b:1@sha256:1", false),
        ] {
            assert_eq!(image.answers_to(reference), expected, "{reference}");
        }
    }

    fn container(networks: &str) -> Container {
        let text = format!(
            r#"{{"Id":"1","Image":"i","State":{{"Status":"running"}},"Config":{{"Image":"i"}},
                "NetworkSettings":{{{networks}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_container_is_stranded_when_none_of_its_networks_is_left() {
        let known = ["aaa".to_owned(), "bbb".to_owned()];
        for (networks, expected) in [
            (r#""Networks":{"x_default":{"NetworkID":"aaa"}}"#, false),
            (
                r#""Networks":{"gone":{"NetworkID":"zzz"},"x":{"NetworkID":"bbb"}}"#,
                false,
            ),
            (r#""Networks":{"x_default":{"NetworkID":"zzz"}}"#, true),
            (r#""Networks":{}"#, true),
            (r#""Ports":{}"#, false),
        ] {
            assert_eq!(
                container(networks).is_stranded(&known),
                expected,
                "{networks}"
            );
        }
    }
}
