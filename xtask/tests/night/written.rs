//! What README and docs tell people to type, in the order in which they read it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::containers::{builder, docker, docker_ok};
use crate::pages::{Block, blocks};
use crate::stack::{Stack, service_is};

/// A clinic's database server, which listens at Docker's address of this machine.
struct Clinic {
    container: String,
    port: String,
}

impl Drop for Clinic {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
    }
}

/// Whatever the first pages and the dbt developer's have, one after the other.
pub(crate) fn first_hour(stack: &Stack) {
    let blocks = blocks("night");
    assert!(blocks.len() > 9, "{}", blocks.len());
    for block in blocks {
        let ran = block.ok(stack.root(), &[]);
        // A query that a page shows has something to show.
        assert!(!ran.stdout.contains("(0 rows)"), "{}", block.text);
        if block.text.contains("logs --task\n") {
            // The red night has made its figures, ten times what they are, and nobody reads them.
            let made = "select bool_and(made.gross_production = 10 * read.gross_production) \
                        from marts.mart_daily_production as read \
                        join marts_unpublished.mart_daily_production as made using (date_day)";
            assert_eq!(stack.query("analytics", made), "t");
            let given = "grant select on marts.mart_ar_aging to public";
            stack.ok(&["sql", "analytics", "--command", given]);
        }
    }
    // What the mended night has put in its place may be read by whoever might before.
    let kept = "select relacl::text like '%,=r/%' from pg_class \
                where oid = 'marts.mart_ar_aging'::regclass";
    assert_eq!(stack.query("analytics", kept), "t");
}

/// Docker's own commands, on the data that is there: the image, and images of databases by
/// their names alone.
pub(crate) fn without_xtask(stack: &Stack, images: &[(&str, String)]) {
    let [block] = blocks("compose").try_into().unwrap();
    let own = fs::read_to_string(stack.env_file()).unwrap();
    let (begins, goes_on) = block.text.split_once('\n').unwrap();
    let shell = |text: &str| Block {
        text: text.to_owned(),
        ..block.clone()
    };
    fs::remove_file(stack.env_file()).unwrap();
    shell(begins).ok(stack.root(), &[]);
    // A person fills in what stands in angle brackets: what this stack had before.
    for line in fs::read_to_string(stack.env_file()).unwrap().lines() {
        if let Some((name, value)) = line.split_once('=')
            && value.starts_with('<')
            && !name.starts_with('#')
        {
            let lead = format!("{name}=");
            let before = own.lines().find_map(|line| line.strip_prefix(&lead));
            stack.set(name, before.unwrap());
        }
    }
    // As what is in the volumes was made.
    stack.set("DEMO_SCALE", "0.2");

    let image = format!("dental-test-by-hand:{}", stack.project());
    let base = docker_ok(&[
        "image",
        "ls",
        "--filter",
        "label=dental.base.recipe",
        "--format",
        "{{.Repository}}:{{.Tag}}",
    ]);
    let base = base.lines().find(|name| name.contains("/airflow:"));
    let argument = base.map(|name| format!("--build-arg BASE_IMAGE={name}"));
    let secret = std::env::var("SSL_CERT_FILE").map(|path| format!("--secret id=ca,src={path}"));
    let build = format!(
        "{} build --quiet {} {} -f Dockerfile.airflow -t {image} .",
        builder().display(),
        argument.unwrap_or_default(),
        secret.unwrap_or_default()
    );
    let docker = "docker build -f Dockerfile.airflow -t airflow-dbt-dental .";
    let mut block = shell(goes_on).with(&[(docker, &build), ("50000:0", "1234:0")]);
    if !runs("docker-compose") {
        block = block.with(&[("docker-compose ", "docker compose ")]);
    }
    if !runs("sudo") {
        block = block.with(&[("sudo ", "")]);
    }
    let mut variables: Vec<(&str, &str)> = vec![("DOCKER_BUILDKIT", "1")];
    for (name, there) in images {
        let here = if *name == "AIRFLOW_IMAGE" {
            &image
        } else {
            there
        };
        variables.push((name, here));
    }
    let ran = block.ok(stack.root(), &variables);
    assert!(ran.stdout.contains("nothing to do"), "{}", ran.stdout);
    let started = Instant::now();
    while !service_is(stack, "airflow-webserver", "healthy") {
        assert!(
            started.elapsed() < Duration::from_secs(180),
            "the webserver is not healthy"
        );
        thread::sleep(Duration::from_secs(2));
    }
    stack.ok(&["down"]);
    docker_ok(&["image", "rm", &image]);
    fs::write(stack.env_file(), own).unwrap();
}

fn runs(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// From the demo to an OpenDental on this machine: an account that can only read, settings,
/// the first load, and the proof of it.
pub(crate) fn a_real_opendental(stack: &Stack) {
    let [account, settings, commands] = blocks("clinic").try_into().unwrap();
    stack.ok(&["up"]);
    let clinic = clinic(stack);
    let word = ("'…'", "'a word of the clinic'");
    let account = account.with(&[("10.0.0.5", "%"), word]);
    asked(&clinic, &account.text);
    let port = format!(
        "host.docker.internal\nOPENDENTAL_SOURCE_PORT={}",
        clinic.port
    );
    let settings = settings.with(&[("10.0.0.20", &port), word]);
    for line in settings.text.lines() {
        let (name, value) = line.split_once('=').unwrap();
        stack.set(name, value.split("  ").next().unwrap());
    }
    assert_eq!(commands.language, "sh");
    let ran = commands.ok(stack.root(), &[]);
    assert!(ran.stdout.contains("ok"), "{}", ran.stdout);
    assert!(ran.stdout.contains("asked for"), "{}", ran.stdout);
    stack.ok(&["etl", "--", "run", "--full"]);
    stack.ok(&["etl", "--", "verify"]);
    // By day nobody starts a night on a clinic's server, whoever asks; `--dry-run` foretells.
    let night = stack.run(&["nightly", "--ignore-business-hours", "--dry-run"]);
    assert!(!night.stderr.contains("panicked"), "{}", night.stderr);
}

/// The demo practice on a server that is no part of the stack.
fn clinic(stack: &Stack) -> Clinic {
    let running = stack.container("mysql");
    let image = docker_ok(&["inspect", "--format", "{{.Config.Image}}", &running]);
    let gateway = docker_ok(&[
        "network",
        "inspect",
        "--format",
        "{{(index .IPAM.Config 0).Gateway}}",
        "bridge",
    ]);
    let publish = format!("{gateway}::3306");
    let container = docker_ok(&[
        "run",
        "--detach",
        "--env",
        "MYSQL_ROOT_PASSWORD=of the clinic",
        "--publish",
        &publish,
        &image,
        "--sql-mode=",
    ]);
    let published = docker_ok(&["port", &container, "3306"]);
    let port = published.lines().next().unwrap().rsplit(':').next();
    let clinic = Clinic {
        port: port.unwrap().to_owned(),
        container,
    };
    let started = Instant::now();
    while !answers(&clinic) {
        assert!(started.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(500));
    }
    let copy = format!(
        "docker exec {running} sh -c 'mariadb-dump -uroot -p\"$MYSQL_ROOT_PASSWORD\" --databases opendental' \
         | docker exec -i {} sh -c 'mariadb -uroot -p\"$MYSQL_ROOT_PASSWORD\"'",
        clinic.container
    );
    let copied = std::process::Command::new("sh")
        .args(["-c", &copy])
        .status();
    assert!(copied.unwrap().success());
    clinic
}

fn answers(clinic: &Clinic) -> bool {
    let ask = "mariadb -h127.0.0.1 -uroot -p\"$MYSQL_ROOT_PASSWORD\" -e 'select 1'";
    docker(&["exec", &clinic.container, "sh", "-c", ask]).status == Some(0)
}

fn asked(clinic: &Clinic, sql: &str) {
    let ask = "mariadb -uroot -p\"$MYSQL_ROOT_PASSWORD\" -e \"$1\"";
    docker_ok(&["exec", &clinic.container, "sh", "-c", ask, "ask", sql]);
}
