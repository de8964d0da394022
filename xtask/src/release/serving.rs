//! What serves on a host, for the commands that work with it; read in one round
//! trip, and faster than all of [`super::observe`].

use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use super::observe::{Served, served};
use crate::config::{EnvFile, Host, Settings, settings};
use crate::exec::{Machine, Step};
use crate::host::Told;

const SERVING: &str = include_str!("serving.sh");
const ANSWER: Duration = Duration::from_secs(60);

/// The stack of a host.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// What it was started with, secrets and all.
    pub(crate) settings: Settings,
    /// Its containers.
    pub(crate) served: Vec<Served>,
    /// Where the web page answers there, `address:port`; `None` where it does not run.
    pub(crate) web: Option<String>,
}

/// Reads; changes nothing. `None` where nothing serves. Its secrets stay out of what
/// `machine` shows from here on.
///
/// # Errors
/// Where the machine is not reached, with what mends it.
pub(crate) fn serving(machine: &Machine, host: &Host) -> Result<Option<Serving>> {
    let folder = &host.directory;
    let step = Step::new(
        "look at what serves",
        cmd!(machine.sh(), "sh -c {SERVING} serving {folder}"),
    )
    .limit(ANSWER);
    let serving = parse(&Told::of(&machine.read(&step)?));
    if let Some(serving) = &serving {
        machine.keep_secret(settings::secrets(serving.settings.env()));
    }
    Ok(serving)
}

fn parse(told: &Told) -> Option<Serving> {
    told.one("release")?;
    let lines: Vec<&str> = told.all("env").collect();
    Some(Serving {
        settings: Settings::unchecked(EnvFile::parse(&lines.join("\n"))),
        served: told.all("container").filter_map(served).collect(),
        web: told.one("web").map(reachable),
    })
}

/// An address that listens on all leads nowhere by itself.
fn reachable(published: &str) -> String {
    let port = published.rsplit(':').next().unwrap_or_default();
    match published.starts_with("0.0.0.0:") || published.starts_with("[::]:") {
        true => format!("127.0.0.1:{port}"),
        false => published.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::tests::SERVES;
    use super::*;

    #[test]
    fn what_serves_is_read_with_its_settings() {
        let told = format!("{SERVES}env A='b c'\nenv D=e\nweb 0.0.0.0:8081\n");
        let serving = parse(&Told::of(&told)).unwrap();
        let names = ["A", "D"].map(|name| serving.settings.or(name, ""));
        assert_eq!(names, ["b c", "e"]);
        assert_eq!(serving.served.len(), 3);
        assert_eq!(serving.web.as_deref(), Some("127.0.0.1:8081"));
        assert!(parse(&Told::of("")).is_none());
    }

    #[test]
    fn an_address_of_its_own_is_kept() {
        assert_eq!(reachable("10.0.0.5:8080"), "10.0.0.5:8080");
        assert_eq!(reachable("[::]:8080"), "127.0.0.1:8080");
        assert_eq!(reachable("127.0.0.1:8080"), "127.0.0.1:8080");
    }
}
