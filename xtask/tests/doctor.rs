//! `doctor` as a person runs it: the real program in a checkout of its own, with
//! a PATH of stand-ins that answer as docker and Compose do and note their argv.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bench;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bench::{BUILTIN, Bench, DENIED, DOWN, LEGACY, Seen, engine, engine_silent, engine_up, seen};

/// What follows the engine's own checks in a checkout that is in order.
const HERE: &str = "\
✓ .env: is complete, well formed and private
✓ time zone: America/Chicago is known
✓ logs: user <uid> can write airflow/logs
✓ port <web>: is free for AIRFLOW_WEBSERVER_PORT
✓ port <postgres>: is free for POSTGRES_HOST_PORT
✓ port <mysql>: is free for MYSQL_HOST_PORT
";
const NOT_LOOKED_AT: &str = "\
! not looked at: disk, memory, clock, volumes, bases, image and databases: that takes the engine
";
const ENGINE: &str = "\
! disk: /var/lib/docker on a-host-of-no-name cannot be seen from here
    look there: docker system df
✓ memory: 8.0 GiB
✓ clock: this machine and the engine agree
";
const IMAGES: &str = "\
! bases: apache/airflow:2.7.1-python3.11 is not here yet
    postgres:15 is not here yet
    mariadb:10.11 is not here yet
    cargo xtask up pulls it, or makes an equivalent where the registry cannot be reached
! image: airflow-dbt-dental:<hash of inputs> of this tree is not built yet
    cargo xtask build
✓ volumes: no sign that .env does not fit them
";

#[test]
fn a_machine_in_order_has_no_failure() {
    let bench = Bench::healthy();
    let expected = format!(
        "✓ docker: <root>/one/docker has BuildKit built in\n✓ engine: version 20.10.24+dfsg1\n\
         ✓ compose: <root>/one/docker-compose 1.29.2\n{ENGINE}{IMAGES}{HERE}\
         15 checks, none failed\n"
    );
    assert_eq!(bench.run(&["doctor"]), seen(expected, 0));
    let calls = bench.calls();
    for secret in ["PASSWORD-1", "KEY-1", "AAECAwQF"] {
        assert!(!calls.contains(secret), "{calls}");
    }
    assert_eq!(calls.matches("docker info").count(), 1, "{calls}");
}

#[test]
fn json_is_the_same_list_on_standard_output() {
    let bench = Bench::healthy();
    let seen = bench.run(&["doctor", "--json"]);
    assert_eq!((seen.stderr.as_str(), seen.status), ("", 0));
    let list: Vec<serde_json::Value> = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(list.len(), 15);
    assert_eq!(
        list[3],
        serde_json::json!({
            "name": "disk",
            "state": "warn",
            "says": "/var/lib/docker on a-host-of-no-name cannot be seen from here",
            "fix": "look there: docker system df",
        })
    );
}

#[test]
fn an_engine_that_is_down_is_told_in_dockers_own_words() {
    for (said, host, fix) in [
        (
            DOWN,
            None,
            "sudo systemctl start docker, or: cargo xtask doctor --fix",
        ),
        (
            DENIED,
            None,
            "sudo usermod -aG docker $USER, then log in again",
        ),
        (
            DOWN,
            Some(("DOCKER_HOST", "tcp://nas:2375")),
            "DOCKER_HOST is set to tcp://nas:2375: start the engine there, or, for this machine's \
             own: unset DOCKER_HOST",
        ),
    ] {
        let mut bench = Bench::new();
        bench.docker("one", BUILTIN, &engine_silent(said));
        bench.program("one", "docker-compose", "echo 1.29.2");
        let expected = format!(
            "✓ docker: <root>/one/docker has BuildKit built in\n\
             ✗ engine: does not answer: {said}\n    {fix}\n\
             ✓ compose: <root>/one/docker-compose 1.29.2\n{HERE}{NOT_LOOKED_AT}\
             10 checks, 1 failed\n"
        );
        let env: Vec<(&str, &str)> = host.into_iter().collect();
        assert_eq!(bench.run_with(&["doctor"], &env), seen(expected, 1));
    }
}

#[test]
fn a_machine_without_docker_is_told_what_mends_it() {
    let mut bench = Bench::new();
    bench.program("one", "true", "");
    let expected = format!(
        "✗ docker: no docker on PATH\n    cargo xtask doctor --fix\n\
         ✗ compose: failed to find Compose: neither `docker compose` nor `docker-compose` (1.29 or \
         newer) works here\n    cargo xtask doctor --fix\n{HERE}{NOT_LOOKED_AT}\
         9 checks, 2 failed\n"
    );
    assert_eq!(bench.run(&["doctor"]), seen(expected, 1));
}

#[test]
fn of_two_clis_the_one_that_builds_is_used() {
    let mut bench = Bench::new();
    bench.docker(
        "one",
        LEGACY,
        "*) echo 'the wrong docker was asked' >&2; exit 9 ;;",
    );
    bench.docker("two", BUILTIN, &engine_up());
    bench.program("two", "docker-compose", "echo v2.26.1");
    let expected = format!(
        "✓ docker: <root>/two/docker has BuildKit built in\n    \
         not used: <root>/one/docker has no BuildKit: its buildx plugin is missing\n\
         ✓ engine: version 20.10.24+dfsg1\n\
         ✓ compose: <root>/two/docker-compose 2.26.1\n{ENGINE}{IMAGES}{HERE}\
         15 checks, none failed\n"
    );
    assert_eq!(bench.run(&["doctor"]), seen(expected, 0));
}

#[test]
fn what_is_too_old_or_too_small_is_all_told_at_once() {
    let mut bench = Bench::new();
    bench.docker("one", LEGACY, &engine("19.03.15", 1 << 30));
    bench.program("one", "docker-compose", "echo 1.25.0");
    let memory = "✗ memory: 1.0 GiB; the stack at work needs 1.2 GiB beside the system's own\n    \
                  give the machine (or Docker Desktop, under Resources) 4 GB or more\n";
    let engine = ENGINE.replace("✓ memory: 8.0 GiB\n", memory);
    let expected = format!(
        "✗ docker: <root>/one/docker has no BuildKit: its buildx plugin is missing\n    \
         install the docker-buildx-plugin package of your docker's distribution, or: cargo xtask \
         doctor --fix\n\
         ✗ engine: version 19.03.15 is too old: containers reach this machine from 20.10 on\n    \
         install a newer engine: your distribution's docker.io or docker-ce\n\
         ✗ compose: failed to find Compose: neither `docker compose` nor `docker-compose` (1.29 or \
         newer) works here\n    \
         not used: <root>/one/docker-compose 1.25.0, too old: 1.29 is the oldest that will do\n    \
         cargo xtask doctor --fix\n{engine}{IMAGES}{HERE}15 checks, 4 failed\n"
    );
    assert_eq!(bench.run(&["doctor"]), seen(expected, 1));
}

#[test]
fn every_problem_of_a_malformed_env_is_named() {
    let bench = Bench::healthy();
    let text = bench
        .valid_env()
        .replace("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "tooshort")
        .replace("AIRFLOW_API_PASSWORD=AIRFLOW_API_PASSWORD-1\n", "")
        .replace("=MYSQL_ROOT_PASSWORD-1", "=ab$cd")
        + "export X=1\n";
    bench.env(&text);
    let last = text.lines().count();
    let root = text
        .lines()
        .position(|line| line.ends_with("=ab$cd"))
        .unwrap()
        + 1;
    let path = bench.tree().join(".env");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let here = HERE.replace(
        "✓ .env: is complete, well formed and private\n",
        &format!("✗ .env: MYSQL_ROOT_PASSWORD holds a bare $, which Compose v2 takes for a reference and v1 \
         does not; use single quotes\n    edit line {root} of .env\n\
         ✗ .env: line {last} has no plain name before =; no spaces, no `export`\n    \
         edit line {last} of .env\n\
         ✗ .env: AIRFLOW_FERNET_KEY is no Fernet key (32 bytes as url-safe base64)\n    \
         put the old key back, or empty the line and run: cargo xtask env\n\
         ✗ .env: AIRFLOW_API_PASSWORD is missing\n    cargo xtask env\n\
         ✗ .env: can be read by others (mode 0644)\n    chmod 600 .env\n\
         ! shell: POSTGRES_USER is set in this shell: plain docker-compose takes that before .env; \
         xtask leaves it out\n    unset POSTGRES_USER\n"),
    );
    let expected = format!(
        "✓ docker: <root>/one/docker has BuildKit built in\n✓ engine: version 20.10.24+dfsg1\n\
         ✓ compose: <root>/one/docker-compose 1.29.2\n{ENGINE}{IMAGES}{here}\
         20 checks, 5 failed\n"
    );
    let shadow = [("POSTGRES_USER", "me")];
    assert_eq!(bench.run_with(&["doctor"], &shadow), seen(expected, 1));
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        text,
        "nothing is rewritten"
    );
}

#[test]
fn data_without_the_env_that_opens_it_is_named() {
    let mut bench = Bench::healthy();
    fs::remove_file(bench.tree().join(".env")).unwrap();
    let project = bench.new_project();
    let volumes = format!("'volume ls') printf '%s\\n' {project}_postgres-data ;;");
    bench.docker("one", BUILTIN, &format!("{volumes}\n{}", engine_up()));
    let told = bench.run(&["doctor"]);
    let expected = format!(
        "✗ volumes: {project}_postgres-data cannot be opened without the .env that is gone\n    \
         put the old .env back\n    or give the data up: cargo xtask down --volumes\n"
    );
    assert!(told.stderr.contains(&expected), "{}", told.stderr);
    assert_eq!(told.status, 1);
}

#[test]
fn a_held_port_is_named_with_its_holder_and_another_that_is_free() {
    let bench = Bench::healthy();
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, bench.ports[0])).unwrap();
    let seen = bench.run(&["doctor"]);
    let set = "set AIRFLOW_WEBSERVER_PORT=";
    let (_, after) = seen.stderr.split_once(set).unwrap();
    let (next, _) = after.split_once(' ').unwrap();
    assert!(next.parse::<u16>().unwrap() > bench.ports[0], "{next}");
    let program = fs::read_to_string("/proc/self/comm").unwrap();
    let (program, pid) = (program.trim(), std::process::id());
    let here = HERE.replace(
        "✓ port <web>: is free for AIRFLOW_WEBSERVER_PORT\n",
        &format!(
            "✗ port <web>: is held by {program} (process {pid})\n    \
             {set}{next} in .env ({next} is free)\n    or end {program}: kill {pid}\n"
        ),
    );
    assert!(seen.stderr.contains(&here), "{}", seen.stderr);
    assert_eq!(seen.status, 1);
}

#[test]
fn up_starts_nothing_where_something_is_in_the_way() {
    let mut bench = Bench::new();
    bench.docker("one", BUILTIN, &engine("20.10.24", 1 << 30));
    bench.program("one", "docker-compose", "echo 1.25.0");
    bench.env(&bench.valid_env().replace(
        &format!("POSTGRES_HOST_PORT={}", bench.ports[1]),
        &format!("POSTGRES_HOST_PORT={}", bench.ports[0]),
    ));
    let seen = bench.run(&["up"]);
    let (_, after) = seen.stderr.split_once("POSTGRES_HOST_PORT=").unwrap();
    let (next, _) = after.split_once(' ').unwrap();
    let expected = format!(
        "! disk: /var/lib/docker on a-host-of-no-name cannot be seen from here\n    \
         look there: docker system df\n\
         error: failed to start: 3 things in the way\n  \
         compose: failed to find Compose: neither `docker compose` nor `docker-compose` (1.29 or \
         newer) works here\n      \
         not used: <root>/one/docker-compose 1.25.0, too old: 1.29 is the oldest that will do\n      \
         cargo xtask doctor --fix\n  \
         port <web>: is given to AIRFLOW_WEBSERVER_PORT and POSTGRES_HOST_PORT\n      \
         set POSTGRES_HOST_PORT={next} in .env ({next} is free)\n  \
         memory: 1.0 GiB; the stack at work needs 1.2 GiB beside the system's own\n      \
         give the machine (or Docker Desktop, under Resources) 4 GB or more\n\
         hint: cargo xtask doctor looks at everything\n"
    );
    assert_eq!(seen, refused(expected));
    let calls = bench.calls();
    assert!(
        !calls.contains(" up ") && !calls.contains("build --file"),
        "{calls}"
    );
}

/// `up` refuses as it does a person's mistake.
fn refused(stderr: String) -> Seen {
    seen(stderr, 2)
}

/// Containers of the project: a scheduler that runs.
fn with_scheduler(exec: &str) -> String {
    let inspect = r#"[{"Id":"abc","Name":"/dental-airflow-scheduler-1","Image":"sha256:1","State":{"Status":"running","ExitCode":0},"Config":{"Image":"i","Labels":{"com.docker.compose.service":"airflow-scheduler","com.docker.compose.version":"1.29.2"}},"NetworkSettings":{"Ports":{}}}]"#;
    format!(
        "'ps --all') echo abc ;;\n'container inspect') printf '%s\\n' '{inspect}' ;;\n\
         'exec abc') printf '%s\\n' '{exec}' ;;\n{}",
        engine_up()
    )
}

#[test]
fn a_source_on_localhost_is_explained_and_tried_from_inside_a_container() {
    for (answer, tried, listen) in [
        ("\"open\"", "host.docker.internal:3306 answers", ""),
        (
            "{\"closed\":\"Connection refused\"}",
            "nothing answers at host.docker.internal:3306: Connection refused",
            "    let the server listen beyond loopback: bind-address = 0.0.0.0 under [mysqld] in \
             my.cnf, restart it, and let port 3306 in from 172.16.0.0/12 only\n",
        ),
    ] {
        let mut bench = Bench::new();
        bench.docker("one", BUILTIN, &with_scheduler(&format!("[{answer}]")));
        bench.program("one", "docker-compose", "echo 1.29.2");
        let text = bench
            .valid_env()
            .replace("SOURCE_HOST=mysql", "SOURCE_HOST=localhost");
        bench.env(&text);
        let images = IMAGES.replace("    mariadb:10.11 is not here yet\n", "");
        let here = HERE.replace("✓ port <mysql>: is free for MYSQL_HOST_PORT\n", "");
        let account = "'opendental_reader'@'172.16.0.0/255.240.0.0'";
        let expected = format!(
            "✓ docker: <root>/one/docker has BuildKit built in\n✓ engine: version 20.10.24+dfsg1\n\
             ✓ compose: <root>/one/docker-compose 1.29.2, the generation that made this project's \
             containers\n{ENGINE}{images}\
             ✗ source: OPENDENTAL_SOURCE_HOST says localhost: inside a container that is the \
             container itself, not this machine\n    from inside a container, {tried}\n    \
             set OPENDENTAL_SOURCE_HOST=host.docker.internal in .env\n{listen}    \
             let the account in: CREATE USER {account} IDENTIFIED BY '…'; \
             GRANT SELECT ON `opendental`.* TO {account};\n{here}15 checks, 1 failed\n"
        );
        assert_eq!(bench.run(&["doctor"]), seen(expected, 1));
        assert!(bench.calls().contains(" host.docker.internal 3306 mysql\n"));
        assert_eq!(fs::read_to_string(bench.tree().join(".env")).unwrap(), text);
    }
}

const DEBIAN: &str = "printf 'PRETTY_NAME=\"Debian GNU/Linux 12\"\\nID=debian\\n'";
const POLICY: &str = "printf '%s\\n' 'docker.io:' '  Candidate: 20.10.24' 'docker-compose:' \
                      '  Candidate: 1.29.2-3'";

/// A machine without docker that is `release` and has or has not systemd.
fn bare(release: &str, systemd: bool, uid: u32) -> Bench {
    let mut bench = Bench::new();
    bench.program("one", "cat", release);
    bench.program("one", "test", if systemd { "exit 0" } else { "exit 1" });
    bench.program("one", "id", &format!("echo {uid}"));
    bench
}

#[test]
fn fix_on_debian_plans_the_distributions_packages() {
    let start = "sh -c 'PATH=$PATH:/usr/sbin; exec start-stop-daemon --start --background \
                 --oknodo --output /var/log/docker.log --exec \"$(command -v dockerd)\"'";
    for (systemd, uid, expected) in [
        (
            true,
            0,
            "would run: DEBIAN_FRONTEND=noninteractive apt-get update\n\
             would run: DEBIAN_FRONTEND=noninteractive apt-get install --yes <packages>\n\
             would run: systemctl enable --now docker\n"
                .to_owned(),
        ),
        (
            false,
            1000,
            format!(
                "would run: sudo env DEBIAN_FRONTEND=noninteractive apt-get update\n\
                 would run: sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
                 <packages>\n\
                 would run: sudo {start}\n\
                 by hand: to use docker without sudo: sudo usermod -aG docker $USER, then log in \
                 again\n"
            ),
        ),
    ] {
        let mut bench = bare(DEBIAN, systemd, uid);
        bench.program("one", "apt-get", "exit 9");
        bench.program("one", "apt-cache", POLICY);
        // Where this machine has an engine of its own, only the rest is missing.
        let packages = if Path::new("/usr/sbin/dockerd").is_file() {
            "docker-compose"
        } else {
            "docker.io docker-compose"
        };
        let expected = expected.replace("<packages>", packages)
            + "✓ .env is complete\nwould make airflow/logs\n";
        assert_eq!(
            bench.run(&["doctor", "--fix", "--dry-run"]),
            seen(expected, 0)
        );
        assert!(!bench.calls().contains("apt-get"), "a dry run runs nothing");
        assert!(!bench.tree().join("airflow/logs").exists());
    }
}

#[test]
fn fix_elsewhere_says_what_to_install_and_installs_nothing() {
    let bench = bare("printf 'PRETTY_NAME=\"Fedora 40\"\\nID=fedora\\n'", true, 0);
    assert_eq!(
        bench.run(&["doctor", "--fix", "--dry-run"]),
        seen(
            "by hand: on Fedora 40 xtask installs nothing; install these with the system's own \
             packages, or see https://docs.docker.com/engine/install/\n\
             by hand:   a docker engine, 20.10 or newer\n\
             by hand:   docker's buildx plugin\n\
             by hand:   Compose v2, docker's compose plugin\n\
             ✓ .env is complete\nwould make airflow/logs\n"
                .to_owned(),
            0
        )
    );
}

#[test]
fn fix_mends_what_is_in_the_checkout_and_then_has_nothing_to_do() {
    let mut bench = Bench::healthy();
    bench.program("one", "cat", DEBIAN);
    bench.program("one", "test", "exit 0");
    bench.program("one", "id", "echo 0");
    bench.program("one", "apt-get", "exit 9");
    bench.program("one", "apt-cache", POLICY);
    let path = bench.tree().join(".env");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let first = bench.run(&["doctor", "--fix"]);
    assert!(
        first.stderr.starts_with(
            "✓ nothing to install, nothing to start\n✓ .env is complete\n\
             ✓ closed .env to others, mode 0600\n✓ made airflow/logs\n\n✓ docker: "
        ),
        "{}",
        first.stderr
    );
    assert_eq!(first.status, 0);
    let again = bench.run(&["doctor", "--fix"]);
    assert!(
        again.stderr.starts_with(
            "✓ nothing to install, nothing to start\n✓ .env is complete\n\n✓ docker: "
        ),
        "{}",
        again.stderr
    );
    assert!(!bench.calls().contains("apt-get"));
}
