//! The ports on loopback that the stack publishes: free, ours, or whose.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::check::Check;
use crate::config::Settings;
use crate::engine::{Container, Engine};

/// How far to look for a port that nobody holds.
const PORTS_TRIED: u16 = 100;
/// `TCP_LISTEN` of the kernel's enum, as `/proc/net/tcp` prints it.
const LISTENING: &str = "0A";

/// A port that this configuration publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The variable of `.env` that says so.
    pub(crate) variable: &'static str,
    /// The port.
    pub(crate) port: u16,
}

/// Who listens on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// It can be had.
    Nobody,
    /// A container of this very project.
    Ours,
    /// Another container, by name.
    Container(String),
    /// A program on this machine: name and process id.
    Process(String, u32),
    /// Somebody whom this user may not see.
    Hidden,
}

/// The ports of the services that these settings start.
pub(crate) fn wanted(settings: &Settings) -> Vec<Wanted> {
    let databases = settings.databases();
    [
        ("AIRFLOW_WEBSERVER_PORT", "8080", None),
        ("POSTGRES_HOST_PORT", "5432", Some("postgres")),
        ("MYSQL_HOST_PORT", "3306", Some("mysql")),
    ]
    .into_iter()
    .filter(|(_, _, service)| service.is_none_or(|service| databases.contains(&service)))
    // What is no port is `.env`'s problem, and named there.
    .filter_map(|(variable, default, _)| {
        let port = settings.or(variable, default).parse().ok()?;
        Some(Wanted { variable, port })
    })
    .collect()
}

/// Looks at each; asks the engine only where a port is held by somebody else.
pub(super) fn checks(
    wanted: &[Wanted],
    own: &[Container],
    engine: Option<&Engine<'_>>,
) -> Vec<Check> {
    let mut taken: Vec<u16> = wanted.iter().map(|w| w.port).collect();
    wanted
        .iter()
        .enumerate()
        .map(|(at, one)| {
            if let Some(twin) = wanted[..at].iter().find(|w| w.port == one.port) {
                let next = next_free(one.port, &taken);
                taken.extend(next);
                return twice(one, twin, next);
            }
            let holder = holder(one.port, own, engine);
            let held_by_others = !matches!(holder, Holder::Nobody | Holder::Ours);
            let next = held_by_others
                .then(|| next_free(one.port, &taken))
                .flatten();
            taken.extend(next);
            check(one, &holder, next)
        })
        .collect()
}

/// Programs of the engine itself.
const ENGINES: [&str; 3] = ["docker-proxy", "dockerd", "containerd"];

fn check(wanted: &Wanted, holder: &Holder, next: Option<u16>) -> Check {
    let name = format!("port {}", wanted.port);
    let set = set(wanted, next);
    match holder {
        Holder::Nobody => Check::pass(name, format!("is free for {}", wanted.variable)),
        Holder::Ours => Check::pass(name, "is held by this project's own container"),
        Holder::Container(container) => {
            Check::fail(name, format!("is held by container {container}"))
                .fix(format!("{set}\nor stop it: docker stop {container}"))
        }
        // Ending one of these would cut off every container's ports.
        Holder::Process(program, _) if ENGINES.contains(&program.as_str()) => {
            Check::fail(name, format!("is held by a container ({program})")).fix(set)
        }
        Holder::Process(program, pid) => {
            Check::fail(name, format!("is held by {program} (process {pid})"))
                .fix(format!("{set}\nor end {program}: kill {pid}"))
        }
        Holder::Hidden => Check::fail(name, "is held by a program of another user").fix(format!(
            "{set}\nor see whose it is: sudo cargo xtask doctor"
        )),
    }
}

fn twice(wanted: &Wanted, twin: &Wanted, next: Option<u16>) -> Check {
    let says = format!("is given to {} and {}", twin.variable, wanted.variable);
    Check::fail(format!("port {}", wanted.port), says).fix(set(wanted, next))
}

fn set(wanted: &Wanted, next: Option<u16>) -> String {
    next.map_or_else(
        || format!("set {} in .env to a free port", wanted.variable),
        |next| format!("set {}={next} in .env ({next} is free)", wanted.variable),
    )
}

fn holder(port: u16, own: &[Container], engine: Option<&Engine<'_>>) -> Holder {
    if own.iter().any(|container| container.publishes(port)) {
        return Holder::Ours;
    }
    if is_free(port) {
        return Holder::Nobody;
    }
    let container = engine
        .and_then(|engine| engine.publishing(port).ok())
        .and_then(|all| all.into_iter().next());
    if let Some(container) = container {
        return Holder::Container(container.name.trim_start_matches('/').to_owned());
    }
    process(Path::new("/proc"), port)
        .map_or(Holder::Hidden, |(name, pid)| Holder::Process(name, pid))
}

/// Whether a container's port could be published there. A port below 1024 is
/// the engine's to take, not ours: that we may not is no sign that it is held.
fn is_free(port: u16) -> bool {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// The next port above `port` that nobody holds or was promised.
fn next_free(port: u16, taken: &[u16]) -> Option<u16> {
    free_from(port.max(1023).checked_add(1)?, taken)
}

/// The first port from `first` on that can be listened on and is not `taken`.
pub(crate) fn free_from(first: u16, taken: &[u16]) -> Option<u16> {
    (first..=first.saturating_add(PORTS_TRIED)).find(|port| {
        !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    })
}

/// Name and id of the process that listens on `port`, as far as this user may
/// look: the kernel's table names a socket, `/proc/<pid>/fd` whose it is.
fn process(proc: &Path, port: u16) -> Option<(String, u32)> {
    let sockets: Vec<String> = ["net/tcp", "net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(proc.join(table)).ok())
        .flat_map(|table| listeners(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    fs::read_dir(proc).ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(entry.path().join("fd"))
            .ok()?
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|link| {
                sockets
                    .iter()
                    .any(|socket| link.as_os_str() == socket.as_str())
            });
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        holds.then(|| (name.trim().to_owned(), pid))
    })
}

/// Inodes of the sockets that listen on `port`. Columns of `/proc/net/tcp`:
/// 1 local address as hex `ip:port`, 3 state, 9 inode (proc_net_tcp.txt).
fn listeners(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|f| f.len() > 9 && f[1].ends_with(&suffix) && f[3] == LISTENING)
        .map(|fields| fields[9].to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;
    use crate::config::EnvFile;

    const WEB: Wanted = Wanted {
        variable: "AIRFLOW_WEBSERVER_PORT",
        port: 8080,
    };

    #[test]
    fn only_services_that_start_need_their_ports() {
        let ports = |text: &str| -> Vec<u16> {
            let settings = Settings::unchecked(EnvFile::parse(text));
            wanted(&settings).iter().map(|w| w.port).collect()
        };
        assert_eq!(ports("MYSQL_HOST_PORT=3307\n"), [8080, 5432, 3307]);
        assert_eq!(ports("OPENDENTAL_SOURCE_HOST=nas\n"), [8080, 5432]);
        assert_eq!(ports("POSTGRES_HOST_PORT=many\n"), [8080, 3306]);
    }

    #[test]
    fn each_holder_is_named_with_what_to_do() {
        let ours = check(&WEB, &Holder::Ours, None);
        assert_eq!((ours.state, ours.fix), (State::Pass, None));
        let theirs = check(&WEB, &Holder::Container("nginx".into()), Some(8081));
        assert_eq!(
            theirs.lines("  "),
            "port 8080: is held by container nginx\n  \
             set AIRFLOW_WEBSERVER_PORT=8081 in .env (8081 is free)\n  \
             or stop it: docker stop nginx"
        );
        let process = check(&WEB, &Holder::Process("java".into(), 7), None);
        assert_eq!(
            process.lines("  "),
            "port 8080: is held by java (process 7)\n  \
             set AIRFLOW_WEBSERVER_PORT in .env to a free port\n  or end java: kill 7"
        );
        assert_eq!(check(&WEB, &Holder::Hidden, None).state, State::Fail);
    }

    #[test]
    fn a_real_listener_is_found_and_another_port_is_proposed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, pid) = process(Path::new("/proc"), port).unwrap();
        assert_eq!(pid, std::process::id());
        assert!(matches!(holder(port, &[], None), Holder::Process(_, _)));
        assert_ne!(next_free(port, &[]), Some(port));
        drop(listener);
        assert_eq!(holder(port, &[], None), Holder::Nobody);
    }

    #[test]
    fn a_port_given_twice_is_refused() {
        let pair = [
            WEB,
            Wanted {
                variable: "POSTGRES_HOST_PORT",
                port: 8080,
            },
        ];
        let checks = checks(&pair, &[], None);
        assert_eq!(
            checks[1].says,
            "is given to AIRFLOW_WEBSERVER_PORT and POSTGRES_HOST_PORT"
        );
    }

    #[test]
    fn only_listening_sockets_of_that_very_port_count() {
        let table = "  sl  local_address rem_address   st …\n\
            0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 111 1\n\
            1: 0100007F:1F90 0100007F:9999 01 0:0 00:0 0 0 0 222 1\n\
            2: 0100007F:1F91 00000000:0000 0A 0:0 00:0 0 0 0 333 1\n";
        assert_eq!(listeners(table, 8080), ["111"]);
    }
}
