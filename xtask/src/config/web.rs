//! `[hosts.NAME.web]` of `deploy.toml`: how people reach a host's web page.

use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::error::Failure;

/// How a host's web page is reached. It is always on the host's loopback, for ssh
/// and for xtask; all else is by choice. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Web {
    /// An address of the host, where the page is to be found as well.
    bind: Option<Ipv4Addr>,
    /// As a browser calls it: `https://airflow.example.com`.
    base_url: Option<String>,
    /// What keeps strangers from that address.
    behind: Option<Guard>,
}

/// What stands between the world and the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Guard {
    /// One proxy or load balancer that ends TLS, and whose word is taken for who
    /// asks and how.
    Proxy,
    /// A private network that only its members enter.
    Vpn,
}

impl Web {
    /// The address beside loopback.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.bind.filter(|address| !address.is_loopback())
    }

    /// What Compose reads of it; `port` is that of the page on the host.
    pub(crate) fn variables(&self, port: &str) -> Vec<(&'static str, String)> {
        let python = |yes: bool| if yes { "True" } else { "False" }.to_owned();
        let url = self.url();
        let is_secure = url.is_some_and(|url| url.starts_with("https://"));
        let local = || format!("http://localhost:{port}");
        let mut variables = vec![
            ("WEB_BASE_URL", url.map_or_else(local, str::to_owned)),
            ("WEB_COOKIE_SECURE", python(is_secure)),
            ("WEB_PROXY_FIX", python(self.behind == Some(Guard::Proxy))),
        ];
        if let Some(address) = self.address() {
            variables.push(("WEB_ADDRESS", address.to_string()));
        }
        variables
    }

    /// Refuses what would show the page to more than it seems.
    ///
    /// # Errors
    /// A user failure with the reason and what to write; `name` is the host's.
    pub(super) fn check(&self, name: &str) -> Result<(), Failure> {
        let table = format!("[hosts.{name}.web]");
        let refuse = |why: String, hint: &str| {
            Err(Failure::user(format!("failed to read deploy.toml: {table}: {why}")).hint(hint))
        };
        let example = "base_url = \"https://airflow.example.com\", as a browser calls it";
        if let Some(url) = self.url().filter(|url| !is_plain(url)) {
            return refuse(
                format!("base_url `{url}` is not http:// or https://, a name, and a port at most"),
                example,
            );
        }
        if self.bind.is_some_and(|address| address.is_unspecified()) {
            return refuse(
                "bind 0.0.0.0 is every address of the host, and Docker publishes past its firewall"
                    .to_owned(),
                "name the one address that the proxy or the VPN reaches",
            );
        }
        if let Some(address) = self.address() {
            let lacks: Vec<&str> = [
                (self.behind.is_none(), "behind"),
                (self.base_url.is_none(), "base_url"),
            ]
            .into_iter()
            .filter_map(|(lacks, key)| lacks.then_some(key))
            .collect();
            if !lacks.is_empty() {
                return refuse(
                    format!(
                        "bind {address} without {}: a port that Docker publishes is open past the \
                         host's firewall, so something else has to keep strangers out",
                        lacks.join(" and ")
                    ),
                    &format!(
                        "behind = \"proxy\" (it ends TLS; only it reaches that address) or behind = \"vpn\", \
                         and {example}\n\
                         or leave bind out: the page stays on loopback, for ssh"
                    ),
                );
            }
        }
        match (self.behind, self.url()) {
            (Some(Guard::Proxy), None) => {
                refuse("behind = \"proxy\" without base_url".to_owned(), example)
            }
            (Some(Guard::Proxy), Some(url)) if url.starts_with("http://") => refuse(
                format!("behind a proxy, {url} lets passwords travel readable"),
                "let the proxy end TLS: base_url = \"https://…\"",
            ),
            _ => Ok(()),
        }
    }

    fn url(&self) -> Option<&str> {
        let url = self.base_url.as_deref()?;
        Some(url.strip_suffix('/').unwrap_or(url))
    }
}

/// A scheme, a name, and perhaps a port.
fn is_plain(url: &str) -> bool {
    let place = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(place) = place else { return false };
    let (name, port) = place.split_once(':').unwrap_or((place, "443"));
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    !name.is_empty() && name.chars().all(in_name) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(text: &str) -> Web {
        toml::from_str(text).unwrap()
    }

    fn said(text: &str) -> String {
        match web(text).check("ec2") {
            Ok(()) => "fine".to_owned(),
            Err(failure) => crate::error::show(&failure.into()).text,
        }
    }

    #[test]
    fn without_a_word_it_is_on_loopback_alone() {
        for text in ["", "bind = '127.0.0.1'\n"] {
            assert_eq!(said(text), "fine");
            assert_eq!(web(text).address(), None);
            assert_eq!(
                web(text).variables("8081"),
                [
                    ("WEB_BASE_URL", "http://localhost:8081".to_owned()),
                    ("WEB_COOKIE_SECURE", "False".to_owned()),
                    ("WEB_PROXY_FIX", "False".to_owned()),
                ]
            );
        }
    }

    #[test]
    fn behind_a_proxy_its_word_is_taken_and_cookies_are_secure() {
        let text =
            "bind = '10.0.0.5'\nbase_url = 'https://airflow.example.com/'\nbehind = 'proxy'\n";
        assert_eq!(said(text), "fine");
        assert_eq!(
            web(text).variables("8080"),
            [
                ("WEB_BASE_URL", "https://airflow.example.com".to_owned()),
                ("WEB_COOKIE_SECURE", "True".to_owned()),
                ("WEB_PROXY_FIX", "True".to_owned()),
                ("WEB_ADDRESS", "10.0.0.5".to_owned()),
            ]
        );
        // A proxy on the host itself needs no address.
        assert_eq!(
            said("base_url = 'https://a.example'\nbehind = 'proxy'\n"),
            "fine"
        );
    }

    #[test]
    fn in_a_vpn_nobody_speaks_for_others() {
        let text = "bind = '10.8.0.1'\nbase_url = 'http://dental:8080'\nbehind = 'vpn'\n";
        assert_eq!(said(text), "fine");
        let variables = web(text).variables("8080");
        assert!(variables.contains(&("WEB_COOKIE_SECURE", "False".to_owned())));
        assert!(variables.contains(&("WEB_PROXY_FIX", "False".to_owned())));
    }

    #[test]
    fn what_would_show_it_to_strangers_is_refused_with_the_reason() {
        for (text, why) in [
            (
                "bind = '10.0.0.5'\n",
                "bind 10.0.0.5 without behind and base_url: a port that Docker publishes is open past the host's firewall",
            ),
            ("bind = '10.0.0.5'\nbehind = 'vpn'\n", "without base_url:"),
            (
                "bind = '10.0.0.5'\nbase_url = 'https://a.example'\n",
                "without behind:",
            ),
            (
                "bind = '0.0.0.0'\nbase_url = 'https://a.example'\nbehind = 'proxy'\n",
                "every address of the host",
            ),
            ("behind = 'proxy'\n", "without base_url"),
            (
                "behind = 'proxy'\nbase_url = 'http://a.example'\n",
                "passwords travel readable",
            ),
            (
                "base_url = 'https://a.example/airflow'\n",
                "is not http:// or https://",
            ),
            (
                "base_url = 'https://me:pw@a.example'\n",
                "is not http:// or https://",
            ),
            ("base_url = 'a.example'\n", "is not http:// or https://"),
        ] {
            let said = said(text);
            assert!(
                said.contains(why) && said.contains("\nhint: "),
                "{text}: {said}"
            );
        }
        for text in [
            "bind = 'localhost'\n",
            "bnid = '10.0.0.5'\n",
            "behind = 'firewall'\n",
        ] {
            assert!(toml::from_str::<Web>(text).is_err(), "{text}");
        }
    }
}
