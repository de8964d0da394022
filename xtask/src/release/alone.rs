//! The same containers without Compose: `docker run`, from what Compose itself
//! makes of its files.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::exec::quote;

/// What runs, in order; init ends before the others start.
pub(crate) const ALONE: [&str; 3] = ["airflow-init", "airflow-webserver", "airflow-scheduler"];

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alone {
    /// Its variables as `--env-file` reads them: a line each, no quotes.
    pub(crate) env: String,
    /// `docker run …`, ready to paste; no value of a variable is in it.
    pub(crate) run: String,
}

/// Where Compose was asked, and where the stack is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// Compose's project.
    pub(crate) project: &'a str,
    /// The folder that Compose took for the stack's: the older one wants it to exist.
    pub(crate) asked: &'a str,
    /// The stack's folder on its host.
    pub(crate) there: &'a str,
}

/// Of what `compose config` says, as JSON: one of [`ALONE`]. `env_file` is where
/// its variables lie on the host.
///
/// # Errors
/// Where a value cannot be in such a file, or Compose says something unforeseen.
pub(crate) fn alone(
    config: &Value,
    places: Places<'_>,
    service: &str,
    env_file: &str,
) -> Result<Alone> {
    let project = places.project;
    let found = config["services"][service]
        .as_object()
        .with_context(|| format!("failed to find {service} in what Compose says"))?;
    let mut words = vec!["docker".to_owned(), "run".to_owned()];
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    flag("network", format!("{project}_default"));
    flag("env-file", env_file.to_owned());
    flag("user", text(found, "user"));
    for host in hosts(&found["extra_hosts"]) {
        flag("add-host", host);
    }
    for mount in list(found, "volumes") {
        flag("volume", volume(mount, places)?);
    }
    for port in list(found, "ports") {
        flag("publish", published(port));
    }
    if let Some(logging) = found.get("logging") {
        flag("log-driver", text_of(&logging["driver"]));
        for (name, value) in logging["options"].as_object().into_iter().flatten() {
            flag("log-opt", format!("{name}={}", text_of(value)));
        }
    }
    // By these, xtask knows a service; `status --host` and the rest work.
    for (name, value) in [("project", project), ("service", service)] {
        flag("label", format!("com.docker.compose.{name}={value}"));
    }
    if service == ALONE[0] {
        flag("label", "com.docker.compose.oneoff=True".to_owned());
        words.push("--rm".to_owned());
    } else {
        flag("label", "com.docker.compose.oneoff=False".to_owned());
        flag("name", format!("{project}-{service}-alone"));
        flag("restart", text(found, "restart"));
        if let Some(grace) = found.get("stop_grace_period") {
            flag("stop-timeout", seconds(&text_of(grace))?.to_string());
        }
        if let Some(health) = found.get("healthcheck") {
            let test: Vec<String> = texts(&health["test"]);
            let command: Vec<String> = match test.split_first() {
                Some((kind, rest)) if kind == "CMD" => rest.iter().map(quote).collect(),
                _ => test.into_iter().skip(1).collect(),
            };
            flag("health-cmd", command.join(" "));
            for name in ["interval", "timeout", "retries", "start_period"] {
                if let Some(value) = health.get(name) {
                    flag(
                        &format!("health-{}", name.replace('_', "-")),
                        text_of(value),
                    );
                }
            }
        }
        words.push("--detach".to_owned());
    }
    words.push(text(found, "image"));
    words.extend(texts(&found["command"]));
    Ok(Alone {
        env: env(&found["environment"], service)?,
        run: words.iter().map(quote).collect::<Vec<_>>().join(" "),
    })
}

/// `NAME=value` as docker reads it: to the end of the line, as it stands.
fn env(values: &Value, service: &str) -> Result<String> {
    let mut lines = String::new();
    for (name, value) in values.as_object().into_iter().flatten() {
        let value = text_of(value);
        anyhow::ensure!(
            !value.contains(['\n', '\r']),
            "failed to write the variables of {service}: {name} has more than one line"
        );
        lines.push_str(&format!("{name}={value}\n"));
    }
    Ok(lines)
}

/// v1 says them by name, v2 as `name=address`.
fn hosts(values: &Value) -> Vec<String> {
    let named = values.as_object().into_iter().flatten();
    named
        .map(|(name, address)| format!("{name}:{}", text_of(address)))
        .chain(
            texts(values)
                .into_iter()
                .map(|host| host.replacen('=', ":", 1)),
        )
        .collect()
}

/// v1 says `source:target:ro`, v2 each part; a volume's name is the project's.
fn volume(mount: &Value, places: Places<'_>) -> Result<String> {
    let (source, rest) = match mount {
        Value::String(short) => {
            let (source, rest) = short.split_once(':').context("failed to read a mount")?;
            (source.to_owned(), rest.trim_end_matches(":rw").to_owned())
        }
        long => {
            let mode = if long["read_only"] == true { ":ro" } else { "" };
            (text_of(&long["source"]), text_of(&long["target"]) + mode)
        }
    };
    let within = source.strip_prefix(places.asked);
    Ok(match within.filter(|rest| rest.starts_with('/')) {
        Some(path) => format!("{}{path}:{rest}", places.there),
        None if source.starts_with('/') => format!("{source}:{rest}"),
        None => format!("{}_{source}:{rest}", places.project),
    })
}

fn published(port: &Value) -> String {
    match port {
        Value::String(short) => short.trim_end_matches("/tcp").to_owned(),
        long => ["host_ip", "published", "target"]
            .map(|part| text_of(&long[part]))
            .join(":"),
    }
}

/// `120s`, `2m0s`, `1m`.
fn seconds(text: &str) -> Result<u64> {
    let mut total = 0;
    for part in text.split_inclusive(|c: char| c.is_ascii_alphabetic()) {
        let unit = match part.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            _ => 0,
        };
        let number: u64 = part[..part.len().saturating_sub(1)]
            .parse()
            .with_context(|| format!("failed to read {text} as a time"))?;
        anyhow::ensure!(unit > 0, "failed to read {text} as a time");
        total += number * unit;
    }
    Ok(total)
}

fn list<'v>(service: &'v Map<String, Value>, name: &str) -> &'v [Value] {
    let found = service.get(name).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn texts(values: &Value) -> Vec<String> {
    let each = values.as_array().into_iter().flatten();
    each.map(text_of).collect()
}

fn text(service: &Map<String, Value>, name: &str) -> String {
    service.get(name).map(text_of).unwrap_or_default()
}

/// Compose doubles each `$`, for who reads it again.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace("$$", "$"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLACES: Places<'_> = Places {
        project: "dental",
        asked: "/home/me/dental",
        there: "/srv/dental",
    };

    fn service(volumes: Value, ports: Value, grace: &str, hosts: Value) -> Value {
        json!({"services": {"airflow-scheduler": {
            "image": "airflow:1", "user": "1000:0", "restart": "unless-stopped",
            "command": ["scheduler"], "extra_hosts": hosts, "stop_grace_period": grace,
            "environment": {"A": "0 21 * * *", "B": "it's \"$$5\"", "C": null, "D": "a#b "},
            "volumes": volumes, "ports": ports,
            "logging": {"driver": "json-file", "options": {"max-size": "10m"}},
            "healthcheck": {"test": ["CMD", "curl", "a b"], "interval": "5s", "retries": 84},
        }}})
    }

    #[test]
    fn both_generations_of_compose_lead_to_the_same_command() {
        let v1 = service(
            json!([
                "/home/me/dental/code:/opt/d:ro",
                "/home/me/dental/logs:/logs:rw",
                "state:/state:rw"
            ]),
            json!(["127.0.0.1:8080:8080/tcp"]),
            "2m0s",
            json!({"host.docker.internal": "host-gateway"}),
        );
        let v2 = service(
            json!([
                {"type": "bind", "source": "/home/me/dental/code", "target": "/opt/d", "read_only": true},
                {"type": "bind", "source": "/home/me/dental/logs", "target": "/logs"},
                {"type": "volume", "source": "state", "target": "/state", "volume": {}},
            ]),
            json!([{"mode": "ingress", "host_ip": "127.0.0.1", "target": 8080, "published": "8080"}]),
            "120s",
            json!(["host.docker.internal=host-gateway"]),
        );
        let [one, two] = [&v1, &v2].map(|config| {
            alone(config, PLACES, "airflow-scheduler", "/srv/dental/run/s.env").unwrap()
        });
        assert_eq!(one, two);
        assert_eq!(
            one.run,
            "docker run --network dental_default --env-file /srv/dental/run/s.env --user 1000:0 \
             --add-host host.docker.internal:host-gateway --volume /srv/dental/code:/opt/d:ro \
             --volume /srv/dental/logs:/logs --volume dental_state:/state \
             --publish 127.0.0.1:8080:8080 --log-driver json-file --log-opt max-size=10m \
             --label com.docker.compose.project=dental --label com.docker.compose.service=airflow-scheduler \
             --label com.docker.compose.oneoff=False --name dental-airflow-scheduler-alone \
             --restart unless-stopped --stop-timeout 120 --health-cmd 'curl '\\''a b'\\''' \
             --health-interval 5s --health-retries 84 --detach airflow:1 scheduler"
        );
        // As they stand: docker takes no quotes off.
        assert_eq!(one.env, "A=0 21 * * *\nB=it's \"$5\"\nC=\nD=a#b \n");
    }

    #[test]
    fn what_such_a_file_cannot_hold_is_refused_by_name() {
        let mut config = service(json!([]), json!([]), "1m", json!(null));
        config["services"]["airflow-scheduler"]["environment"]["E"] = json!("a\nb");
        let error = alone(&config, PLACES, "airflow-scheduler", "/e").unwrap_err();
        assert!(
            error.to_string().ends_with("E has more than one line"),
            "{error}"
        );
    }
}
