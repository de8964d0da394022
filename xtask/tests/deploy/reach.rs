//! A slim host: its databases are elsewhere, its page is behind a proxy; and what
//! is refused before anything travels.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::containers::{docker, docker_ok, root};
use crate::pages::blocks;
use crate::spare::Spare;

const WORD: &str = "of these tests 4711";

/// A database that is no service of the stack, gone when dropped.
struct Elsewhere {
    container: String,
    address: String,
}

impl Elsewhere {
    fn start(kind: &str, run: &[&str], tail: &[&str]) -> Self {
        let filter = "label=dental.base.recipe";
        let format = "{{.Repository}}:{{.Tag}}";
        let names = docker_ok(&["image", "ls", "--filter", filter, "--format", format]);
        let default = if kind == "mysql" {
            "mariadb:10.11"
        } else {
            "postgres:15"
        };
        let lead = format!("/{kind}:");
        let image = names
            .lines()
            .find(|name| name.contains(&lead))
            .unwrap_or(default);
        let container = docker_ok(&[&["run", "--detach"], run, &[image], tail].concat());
        let format = "{{.NetworkSettings.IPAddress}}";
        let address = docker_ok(&["inspect", "--format", format, &container]);
        Self { container, address }
    }

    fn until(&self, command: &str) {
        let started = Instant::now();
        while docker(&["exec", &self.container, "sh", "-c", command]).status != Some(0) {
            assert!(started.elapsed() < Duration::from_secs(180), "{command}");
            thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
    }
}

/// Airflow's and the warehouse's databases in one server that takes TLS alone, by a
/// certificate for its address; the CA lies where the host's containers see it.
fn rds(spare: &Spare) -> Elsewhere {
    let scripts = format!(
        "{}:/docker-entrypoint-initdb.d:ro",
        root().join("postgres/initdb.d").display()
    );
    let settings = [
        "POSTGRES_USER=postgres",
        "AIRFLOW_DB_USER=airflow",
        "AIRFLOW_DB_NAME=airflow",
        "POSTGRES_ANALYTICS_DB=opendental_analytics",
        "POSTGRES_ANALYTICS_USER=analytics",
    ];
    let words = [
        "POSTGRES_PASSWORD",
        "AIRFLOW_DB_PASSWORD",
        "POSTGRES_ANALYTICS_PASSWORD",
    ]
    .map(|name| format!("{name}={WORD}"));
    let mut run = vec!["--volume", &scripts];
    for setting in settings.into_iter().chain(words.iter().map(String::as_str)) {
        run.extend(["--env", setting]);
    }
    let server = Elsewhere::start("postgres", &run, &["-c", "fsync=off"]);
    let address = &server.address;
    let made = format!(
        "set -eu; umask 077; mkdir /root/rds; cd /root/rds\n\
         openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem 2>/dev/null\n\
         openssl req -newkey rsa:2048 -nodes -subj /CN=rds -keyout server.key -out server.csr 2>/dev/null\n\
         echo subjectAltName=IP:{address} >san\n\
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt 2>/dev/null"
    );
    let made = spare.there("root", &["sh", "-c", &made]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    bring_the_certificate(spare);
    server.until("pg_isready -q -h 127.0.0.1 -U postgres");
    for file in ["server.crt", "server.key"] {
        let script = format!(
            "docker exec {} cat /root/rds/{file} | docker exec -i -u postgres {} \
             sh -c 'umask 077; cat >$PGDATA/{file}'",
            spare.container, server.container
        );
        assert!(
            Command::new("sh")
                .args(["-c", &script])
                .status()
                .unwrap()
                .success()
        );
    }
    docker_ok(&[
        "exec",
        "-u",
        "postgres",
        &server.container,
        "sh",
        "-c",
        "sed -i 's/^host all all all/hostssl all all all/' $PGDATA/pg_hba.conf && \
         psql -qc 'alter system set ssl = on' && psql -qc 'select pg_reload_conf()'",
    ]);
    server
}

/// As a person brings it to a host.
fn bring_the_certificate(spare: &Spare) {
    let [block, _] = blocks("reach").try_into().unwrap();
    let at = spare.folder.path().display();
    let bundle = format!("{at}/global-bundle.pem");
    let ca = spare.there("root", &["cat", "/root/rds/ca.pem"]);
    fs::write(&bundle, ca.stdout).unwrap();
    let own = format!("-F {at}/ssh_config -i {at}/key -o Port={}", spare.port);
    let block = block.with(&[
        ("ubuntu@ec2.example.com", "ubuntu@clinic"),
        ("ssh ubuntu", &format!("ssh {own} ubuntu")),
        ("scp ", &format!("scp -q {own} ")),
        ("global-bundle.pem", &bundle),
    ]);
    block.ok(spare.folder.path(), &[]);
}

/// A clinic's source: the tables, no rows, and an account that can only read.
fn clinic() -> Elsewhere {
    let mount = |from: &str, to: &str| {
        format!(
            "{}:/docker-entrypoint-initdb.d/{to}:ro",
            root().join(from).display()
        )
    };
    let reader = mount("mysql/initdb.d/10-reader.sh", "10-reader.sh");
    let schema = mount("etl_pipeline/opendental_demo/schema.sql", "20-schema.sql");
    let words =
        ["MYSQL_ROOT_PASSWORD", "OPENDENTAL_SOURCE_PASSWORD"].map(|n| format!("{n}={WORD}"));
    let mut run = vec!["--volume", &reader, "--volume", &schema];
    for setting in [
        "MYSQL_DATABASE=opendental",
        "OPENDENTAL_SOURCE_DB=opendental",
        "OPENDENTAL_SOURCE_USER=reader",
        &words[0],
        &words[1],
    ] {
        run.extend(["--env", setting]);
    }
    let server = Elsewhere::start("mysql", &run, &["--sql-mode="]);
    server.until("MYSQL_PWD=$OPENDENTAL_SOURCE_PASSWORD mariadb-admin -h 127.0.0.1 -u reader ping");
    server
}

/// What is answered to a request, head and all.
fn ask(address: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap();
    fs::write(path, before + text).unwrap();
}

#[test]
#[ignore = "needs the images; cargo xtask ci runs it"]
fn a_slim_host_behind_a_proxy_serves_with_its_databases_elsewhere() {
    let spare = Spare::furnished("containerd");
    let (rds, clinic) = (rds(&spare), clinic());
    let url = format!(
        "postgresql+psycopg2://airflow:{}@{}:5432/airflow",
        WORD.replace(' ', "%20"),
        rds.address
    );
    let (word, tls) = (
        format!("'{WORD}'"),
        "?sslmode=verify-full&sslrootcert=/opt/airflow/certs/rds.pem",
    );
    for (name, value) in [
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url.as_str()),
        ("POSTGRES_ANALYTICS_HOST", &rds.address),
        ("POSTGRES_ANALYTICS_PASSWORD", &word),
        ("POSTGRES_ANALYTICS_SSLMODE", "verify-full"),
        (
            "POSTGRES_ANALYTICS_SSLROOTCERT",
            "/opt/airflow/certs/rds.pem",
        ),
        ("OPENDENTAL_SOURCE_HOST", &clinic.address),
        ("OPENDENTAL_SOURCE_USER", "reader"),
        ("OPENDENTAL_SOURCE_PASSWORD", &word),
        ("ETL_ENVIRONMENT", "clinic"),
        ("AIRFLOW_OPERATOR_USERNAME", "night"),
        ("AIRFLOW_OPERATOR_PASSWORD", "'on call $24 \"hours\"'"),
        ("AIRFLOW_OPERATOR_EMAIL", "night@example.org"),
    ] {
        spare.set(name, value);
    }
    let deploy = ["deploy", "--host", "spare", "--json"];
    let refused = |said: &[&str]| {
        let ran = spare.xtask(&deploy);
        assert_eq!(ran.status, Some(2), "{}", ran.stderr);
        for part in said {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    };

    // Nothing of these is found out by its damage.
    let toml = spare.tree().join("deploy.toml");
    let format = "{{.NetworkSettings.IPAddress}}";
    let host = docker_ok(&["inspect", "--format", format, &spare.container]);
    append(
        &toml,
        "dags = [\"etl_pipeline\"]\nvariables = { site = \"north's $1\" }\n\
         [hosts.spare.web]\nbind = \"192.0.2.7\"\n",
    );
    spare.commit();
    refused(&[
        "bind 192.0.2.7 without behind and base_url",
        "past the host's firewall",
    ]);
    append(
        &toml,
        "base_url = \"https://airflow.example.com\"\nbehind = \"proxy\"\n",
    );
    spare.commit();
    refused(&[
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN names a server elsewhere and does not insist on TLS",
    ]);
    spare.set(
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        &format!("'{url}{tls}'"),
    );
    let date = "printf '%s\\n' '#!/bin/sh' '[ \"$*\" = +%s ] || exec /bin/date \"$@\"' \
                'echo $(($(/bin/date +%s) + 3600))' >/usr/local/bin/date; chmod 755 /usr/local/bin/date";
    assert_eq!(spare.there("root", &["sh", "-c", date]).status, Some(0));
    refused(&[
        "it cannot carry the stack, 2 things are in the way:",
        "ahead of this machine's",
        "web: 192.0.2.7 is no address of the host, which has ",
    ]);
    assert_eq!(
        spare.there("root", &["rm", "/usr/local/bin/date"]).status,
        Some(0)
    );
    let left = spare.there(
        "root",
        &["sh", "-c", "docker image ls --quiet; ls /srv/dental"],
    );
    assert_eq!(left.stdout, "airflow\n", "nothing travelled");
    spare.change("deploy.toml", "192.0.2.7", &host);
    spare.commit();

    let (status, first) = spare.json(&deploy);
    assert_eq!((status, first["end"].as_str()), (Some(0), Some("done")));
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    let mut services: Vec<&str> = serves["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    services.sort_unstable();
    assert_eq!(services, ["airflow-scheduler", "airflow-webserver"]);
    let by_tls = "select string_agg(distinct s.ssl::text, ' ') from pg_stat_ssl s join pg_stat_activity a using (pid) \
                  where a.usename = 'airflow'";
    let seen = docker_ok(&[
        "exec",
        "-u",
        "postgres",
        &rds.container,
        "psql",
        "-Atc",
        by_tls,
    ]);
    assert_eq!(seen, "true");
    // No client of these databases is on the host. What the release was made for is
    // known there, so that a rollback can be held against it.
    let asked = |database: &str, statement: &str| {
        let ran = spare.xtask(&["sql", "--host", "spare", database, "-c", statement]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    let revision = spare.there(
        "ubuntu",
        &["cat", "/srv/dental/code/current/.release/revision"],
    );
    assert_eq!(
        asked("metadata", "select version_num from alembic_version"),
        format!("version_num\n{}", revision.stdout)
    );
    assert_eq!(asked("analytics", "select 2 as two"), "two\n2\n");
    assert_eq!(asked("source", "select 2 as two"), "two\n2\n");

    // As the proxy asks; what a browser could add itself is not believed.
    let page = format!("{host}:{}", port(&spare));
    let proxy = [
        ("Host", "airflow.example.com"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
    ];
    let answer = ask(&page, "/dagrun/list/", &proxy);
    assert!(
        answer.contains("next=https%3A%2F%2Fairflow.example.com%2Fdagrun%2F"),
        "{answer}"
    );
    let login = ask(&page, "/login/", &proxy);
    let cookie = login
        .lines()
        .find(|line| line.starts_with("Set-Cookie: session="))
        .unwrap();
    assert!(
        cookie.contains("Secure") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    let basic =
        |account: &str| format!("Basic {}", data_encoding::BASE64.encode(account.as_bytes()));
    let night = basic("night:on call $24 \"hours\"");
    let asks = |path: &str| {
        ask(
            &page,
            path,
            &[("Host", "airflow.example.com"), ("Authorization", &night)],
        )
    };
    assert!(asks("/api/v1/dags").starts_with("HTTP/1.1 200"));
    assert!(asks("/api/v1/variables").starts_with("HTTP/1.1 403"));
    // xtask and ssh still find it on loopback.
    let here = "exec 3<>/dev/tcp/127.0.0.1/$0; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3";
    let health = spare.there("ubuntu", &["bash", "-c", here, &port(&spare)]);
    assert!(health.stdout.contains(" 200 "), "{}", health.stdout);
    let site = "docker exec $(docker ps --quiet --filter label=com.docker.compose.service=airflow-scheduler) \
                airflow variables get site 2>/dev/null";
    assert_eq!(
        spare.there("ubuntu", &["sh", "-c", site]).stdout,
        "north's $1\n"
    );
    has_another_password(&spare, &rds);
    without_compose(&spare);
}

/// Its server was told first: the scheduler that serves has no way in any more.
fn has_another_password(spare: &Spare, rds: &Elsewhere) {
    let psql = ["exec", "-u", "postgres", &rds.container, "psql", "-qc"];
    let (word, next) = (WORD.replace(' ', "%20"), "another%204712");
    let alter = "alter role airflow password 'another 4712'";
    docker_ok(&[&psql[..], &[alter]].concat());
    let cut =
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'airflow'";
    docker_ok(&[&psql[..], &[cut]].concat());
    let name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
    spare.set(name, &spare.setting(name).replace(&word, next));
    let (status, pushed) = spare.json(&["env", "push", "--host", "spare", "--json"]);
    assert_eq!((status, pushed["end"].as_str()), (Some(0), Some("done")));
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    for (args, why) in [
        (
            &["backup", "--host", "spare"][..],
            "the metadata database is on another server, and not ours to copy\n",
        ),
        (
            &["env", "rotate", "--host", "spare", "AIRFLOW_DB_PASSWORD"],
            "the metadata database is on another server, which has no way back to before\n",
        ),
    ] {
        let refused = spare.xtask(args);
        assert_eq!(refused.status, Some(2));
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        assert!(refused.stderr.contains("\nhint: "), "{}", refused.stderr);
    }
}

/// The release that serves, by `docker run`: the same variables, value for value.
fn without_compose(spare: &Spare) {
    let ran = spare.xtask(&["deploy", "--host", "spare", "--print-docker-run"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for secret in [WORD, &WORD.replace(' ', "%20"), "on call"] {
        assert!(!ran.stdout.contains(secret), "{}", ran.stdout);
    }
    let there = |script: &str| {
        let ran = spare.there("ubuntu", &["sh", "-c", script]);
        assert_eq!(
            ran.status,
            Some(0),
            "{script}: {}{}",
            ran.stdout,
            ran.stderr
        );
        ran.stdout
    };
    let variables = |service: &str| {
        let label = format!("--filter label=com.docker.compose.service={service}");
        let format = "'{{.HostConfig.ExtraHosts}} {{.Config.User}}{{println}}{{range .Config.Env}}{{println .}}{{end}}'";
        let found = there(&format!(
            "docker inspect --format {format} $(docker ps -q {label}) | sort"
        ));
        assert!(
            found.contains("ETL_PIPELINE_SCHEDULE=0 21 * * *\n"),
            "{found}"
        );
        found
    };
    let services = ["airflow-scheduler", "airflow-webserver"];
    let before = services.map(variables);
    there(
        "sh /srv/dental/code/current/.release/compose rm --stop --force airflow-webserver airflow-scheduler 2>&1",
    );
    let gone = "find / -xdev -name docker-compose -type f -exec mv {} {}.away ';'; ! docker compose version";
    assert_eq!(spare.there("root", &["sh", "-c", gone]).status, Some(0));
    let refused = spare.xtask(&["deploy", "--host", "spare"]);
    assert_eq!(refused.status, Some(2));
    assert!(
        refused.stderr.contains("it lacks Compose"),
        "{}",
        refused.stderr
    );
    let [_, block] = blocks("reach").try_into().unwrap();
    let ran = block
        .with(&[("ec2", "spare")])
        .ok(&spare.tree(), &spare.variables());
    there(&ran.stdout);
    assert_eq!(services.map(variables), before);
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, &serves["healthy"]), (Some(0), &true.into()));
    assert_eq!(serves["good"], serves["release"]["id"]);
    let modes = there("stat --format %a /srv/dental/run/*");
    assert_eq!(modes, "600\n600\n600\n");

    // With Compose again, the next deploy takes its place.
    let back = "find / -xdev -name docker-compose.away -type f -execdir mv {} docker-compose ';'";
    assert_eq!(spare.there("root", &["sh", "-c", back]).status, Some(0));
    spare.set("DEMO_SEED", "7");
    let (status, deployed) = spare.json(&["deploy", "--host", "spare", "--json"]);
    assert_eq!((status, deployed["end"].as_str()), (Some(0), Some("done")));
    let names = there("docker ps --all --format '{{.Names}}' | sort");
    assert_eq!(
        names,
        "dental-there-airflow-scheduler-1\ndental-there-airflow-webserver-1\n"
    );
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, &serves["healthy"]), (Some(0), &true.into()));
}

fn port(spare: &Spare) -> String {
    let env = fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    let line = env
        .lines()
        .find_map(|line| line.strip_prefix("AIRFLOW_WEBSERVER_PORT="));
    line.unwrap().to_owned()
}
