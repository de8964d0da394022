//! One whole night on real containers, as a person types it.
//!
//! It works on a copy of the checkout with a project name, ports and secrets of
//! its own, and leaves nothing behind. Run by `cargo xtask ci`; by hand:
//! `cargo test --test night -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it does, and ends where something is wrong"
)]

mod containers;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use containers::{Ran, copy_checkout};
use serde_json::Value;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// How long the scheduler may take from a changed schedule to a finished run.
const SCHEDULED_RUN: Duration = Duration::from_secs(600);

/// A stack in a copy of the checkout; dropping it takes everything away.
struct Stack {
    folder: tempfile::TempDir,
}

impl Stack {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("night")
            .rand_bytes(8)
            .tempdir()
            .unwrap();
        let stack = Self { folder };
        copy_checkout(stack.root());
        stack
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, args: &[&str]) -> Ran {
        eprintln!("$ cargo xtask {}", args.join(" "));
        let output = Command::new(XTASK)
            .args(args)
            .current_dir(self.root())
            .output()
            .unwrap();
        let ran = Ran::from(output);
        // What is asked again and again would bury the rest.
        if args[0] != "status" {
            eprint!("{}{}", ran.stdout, ran.stderr);
        }
        ran
    }

    /// Runs a command that must succeed.
    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(0), "cargo xtask {}", args.join(" "));
        ran
    }

    /// Runs a command that must fail, and say why and what mends it.
    fn fails(&self, args: &[&str], says: &str, hints: &str) {
        let ran = self.run(args);
        assert!(matches!(ran.status, Some(1 | 2)), "{:?}", ran.status);
        assert!(ran.stderr.contains(says), "{says:?} is not in what it says");
        assert!(
            ran.stderr.contains(hints),
            "{hints:?} is not in what it says"
        );
        assert!(!ran.stderr.contains("panicked"));
    }

    /// The first line of a query's result, without decoration.
    fn query(&self, database: &str, sql: &str) -> String {
        let ran = self.ok(&["sql", database, "--command", sql]);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        // psql: header, rule, row; mariadb in batch mode: header, row, where a
        // header has as many lines as the query.
        let row = if database == "source" {
            lines[lines.len() - 1]
        } else {
            lines[2]
        };
        row.split(['|', '\t'])
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn env_file(&self) -> PathBuf {
        self.root().join(".env")
    }

    /// Changes one variable of `.env`; gives what stood there.
    fn set(&self, name: &str, value: &str) -> String {
        let text = fs::read_to_string(self.env_file()).unwrap();
        let lead = format!("{name}=");
        let old = text
            .lines()
            .find_map(|line| line.strip_prefix(&lead))
            .unwrap_or_else(|| panic!("{name} is not in .env"))
            .to_owned();
        let text: String = text
            .lines()
            .map(|line| {
                if line.starts_with(&lead) {
                    format!("{lead}{value}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        fs::write(self.env_file(), text).unwrap();
        old
    }

    fn project(&self) -> String {
        let text = fs::read_to_string(self.env_file()).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("COMPOSE_PROJECT_NAME="))
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if thread::panicking() {
            self.run(&["logs", "--tail", "60"]);
        }
        let project = self.project();
        self.run(&["down", "--volumes", "--yes"]);
        if project.is_empty() || thread::panicking() {
            return;
        }
        for kind in ["container", "volume", "network"] {
            assert_eq!(left_behind(kind, &project), "", "{kind}s are left behind");
        }
    }
}

fn left_behind(kind: &str, project: &str) -> String {
    let filter = format!("label=com.docker.compose.project={project}");
    let mut command = Command::new("docker");
    command.args([kind, "ls", "--quiet", "--filter", &filter]);
    if kind == "container" {
        command.arg("--all");
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// The same figures from the source and from the marts, by queries that share
/// nothing with the models.
fn assert_marts_agree_with_the_source(stack: &Stack) {
    let as_of = stack.query(
        "analytics",
        "select max(as_of_date) from marts.mart_ar_aging",
    );
    for (what, source, marts) in figures(&as_of) {
        let expected = stack.query("source", &source);
        assert_eq!(stack.query("analytics", marts), expected, "{what}");
        assert!(
            expected
                .split(' ')
                .any(|figure| !figure.trim_matches(['0', '.']).is_empty()),
            "{what} is all zero, so it proves nothing: {expected}"
        );
    }
}

fn figures(as_of: &str) -> [(&'static str, String, &'static str); 4] {
    let ledger = format!(
        "select PatNum, cast(ProcFee as decimal(14,2)) * greatest(1, BaseUnits + UnitQty) as amount
           from procedurelog where ProcStatus = 2 and ProcDate <= '{as_of}'
         union all select PatNum, cast(AdjAmt as decimal(14,2)) from adjustment where AdjDate <= '{as_of}'
         union all select PatNum, -cast(SplitAmt as decimal(14,2)) from paysplit where DatePay <= '{as_of}'
         union all select PatNum, -cast(InsPayAmt as decimal(14,2)) - cast(WriteOff as decimal(14,2))
           from claimproc where Status in (1, 4, 5, 7) and DateCP <= '{as_of}'"
    );
    [
        (
            "production and collections",
            "select
               (select sum(cast(ProcFee as decimal(14,2)) * greatest(1, BaseUnits + UnitQty))
                  from procedurelog where ProcStatus = 2 and ProcDate > '0001-01-01'),
               (select sum(cast(AdjAmt as decimal(14,2))) from adjustment where AdjDate > '0001-01-01'),
               (select sum(cast(SplitAmt as decimal(14,2))) from paysplit where DatePay > '0001-01-01'),
               (select sum(cast(InsPayAmt as decimal(14,2))) from claimproc
                  where Status in (1, 4, 5, 7) and DateCP > '0001-01-01')"
                .to_owned(),
            "select sum(gross_production), sum(adjustments), sum(patient_income), sum(insurance_income)
             from marts.mart_daily_production",
        ),
        (
            "balances of families",
            format!(
                "select sum(greatest(balance, 0)), sum(greatest(-balance, 0)), sum(balance <> 0)
                 from (select coalesce(nullif(p.Guarantor, 0), m.PatNum) as guarantor, sum(m.amount) as balance
                       from ({ledger}) m left join patient p on p.PatNum = m.PatNum
                       where m.PatNum <> 0 group by 1) f"
            ),
            "select sum(amount_owed), sum(credit_balance), count(*) from marts.mart_ar_aging",
        ),
        (
            "appointments kept",
            format!(
                "select count(*) from appointment where AptStatus = 2
                 and AptDateTime > '0001-01-02' and date(AptDateTime) <= '{as_of}'"
            ),
            "select sum(completed) from marts.mart_practice_no_shows",
        ),
        (
            "patients ever seen",
            format!(
                "select count(*) from patient p where p.PatStatus <> 4 and exists (
                   select 1 from procedurelog l left join procedurecode c on c.CodeNum = l.CodeNum
                   where l.PatNum = p.PatNum and l.ProcStatus = 2 and l.ProcDate > '0001-01-01'
                     and l.ProcDate <= '{as_of}' and coalesce(c.ProcCode, '') not in ('D9986', 'D9987'))"
            ),
            "select count(*) from marts.mart_patient_retention where visit_count > 0",
        ),
    ]
}

/// The newest run that the scheduler itself made.
fn scheduled_run(stack: &Stack) -> Option<Value> {
    let run = status(stack)["last_run"].clone();
    (run["kind"] == "scheduled").then_some(run)
}

#[test]
#[ignore = "needs a container engine and some minutes; `cargo xtask ci` runs it"]
fn a_night_from_a_fresh_copy_to_marts_that_agree_with_the_source() {
    let stack = Stack::new();
    stack.ok(&["env"]);
    // A small practice: the night is the same, the wait is shorter.
    stack.set("DEMO_SCALE", "0.2");
    // Containers run as a user that the image does not know, as on the machine
    // of a person who is not root.
    stack.set("AIRFLOW_UID", "1234");

    // Up, and again: the second finds nothing to do.
    let first = stack.ok(&["up"]);
    assert!(first.stderr.contains("✓ all is up  ("));
    let second = stack.ok(&["up"]);
    assert!(second.stderr.contains("✓ all is up already"));

    // The night, as a person starts it.
    let night = stack.ok(&["nightly", "--ignore-business-hours", "--json"]);
    let run: Value = serde_json::from_str(&night.stdout).unwrap();
    assert_eq!(run["state"], "success");
    let tasks: Vec<(&str, &str)> = run["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| {
            (
                task["task"].as_str().unwrap(),
                task["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        tasks,
        [
            ("guard", "success"),
            ("validate", "success"),
            ("extract_load", "success"),
            ("verify", "success"),
            ("report", "success"),
            ("dbt_build", "success"),
            ("notify", "success"),
        ]
    );
    assert_marts_agree_with_the_source(&stack);

    // A newcomer's hour, by the page that leads through it.
    first_hour(&stack);
    assert_marts_agree_with_the_source(&stack);

    // The next days of business, by a run that the scheduler makes on time.
    // Five days: one of them is no day off, Thanksgiving included.
    stack.ok(&["demo", "--", "advance", "--days", "5"]);
    stack.ok(&[
        "airflow",
        "--",
        "variables",
        "set",
        "ignore_business_hours",
        "true",
    ]);
    let due = cron_in_minutes(2);
    stack.set("ETL_PIPELINE_SCHEDULE", &format!("'{due}'"));
    stack.ok(&["up"]);
    let started = Instant::now();
    let run = loop {
        match scheduled_run(&stack) {
            Some(run) if ["success", "failed"].contains(&run["state"].as_str().unwrap()) => {
                break run;
            }
            _ if started.elapsed() > SCHEDULED_RUN => panic!("the scheduler made no run in time"),
            _ => thread::sleep(Duration::from_secs(5)),
        }
    };
    assert_eq!(run["state"], "success");
    assert_marts_agree_with_the_source(&stack);
    stack.set("ETL_PIPELINE_SCHEDULE", "'0 21 * * *'");

    let logs = fs::metadata(stack.root().join("airflow/logs/scheduler")).unwrap();
    assert_eq!(logs.uid(), 1234, "the logs are that user's");
    assert_hardened(&stack);

    // The metadata role cannot enter analytics.
    let refused = stack.run(&[
        "sql",
        "metadata",
        "--command",
        "\\connect opendental_analytics",
    ]);
    assert_ne!(refused.status, Some(0));
    assert!(
        refused.stderr.contains("permission denied"),
        "{}",
        refused.stderr
    );

    bad_input(&stack);

    let images = images(&stack);
    let down = stack.ok(&["down"]);
    assert!(down.stderr.contains("data is kept in"));
    assert_eq!(left_behind("container", &stack.project()), "");

    composes_own_commands(&stack, &images);
}

/// Every block of the tutorial, one after the other, as a shell at the root reads it.
fn first_hour(stack: &Stack) {
    let bin = stack.root().join(".cache/tutorial");
    fs::create_dir_all(&bin).unwrap();
    let cargo = format!("#!/bin/sh\n[ \"$1\" = xtask ] && shift && exec '{XTASK}' \"$@\"\n");
    fs::write(bin.join("cargo"), cargo).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());

    let page = fs::read_to_string(stack.root().join("docs/tutorial.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() > 5, "{}", blocks.len());
    for block in blocks {
        eprintln!("{block}");
        let output = Command::new("sh")
            .args(["-e", "-c", block])
            .current_dir(stack.root())
            .env("PATH", &path)
            .output()
            .unwrap();
        let ran = Ran::from(output);
        eprint!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status, Some(0), "{block}");
        // A query that the page shows has something to show.
        assert!(!ran.stdout.contains("(0 rows)"), "{block}");
    }
}

/// What Airflow would do by itself is not what a clinic wants.
fn assert_hardened(stack: &Stack) {
    for (section, key, value) in [
        ("webserver", "expose_config", "False"),
        ("webserver", "show_trigger_form_if_no_params", "True"),
        ("core", "load_examples", "False"),
        ("core", "enable_xcom_pickling", "False"),
        ("core", "executor", "LocalExecutor"),
    ] {
        let ran = stack.ok(&["airflow", "--", "config", "get-value", section, key]);
        assert_eq!(ran.stdout.trim(), value, "{section}.{key}");
    }
}

/// The commands of Compose itself, without xtask: images by their names alone.
fn composes_own_commands(stack: &Stack, images: &[(&str, String)]) {
    let compose = |args: &[&str]| {
        eprintln!("$ docker-compose {}", args.join(" "));
        let program = if which("docker-compose") {
            vec!["docker-compose"]
        } else {
            vec!["docker", "compose"]
        };
        let output = Command::new(program[0])
            .args(&program[1..])
            .args(args)
            .envs(images.iter().map(|(name, value)| (name, value)))
            .current_dir(stack.root())
            .output()
            .unwrap();
        let ran = Ran::from(output);
        eprint!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status, Some(0));
        ran
    };
    let init = compose(&["run", "--rm", "airflow-init"]);
    assert!(init.stdout.contains("nothing to do"));
    compose(&["up", "-d", "airflow-webserver", "airflow-scheduler"]);
    let started = Instant::now();
    while !service_is(stack, "airflow-webserver", "healthy") {
        assert!(
            started.elapsed() < Duration::from_secs(180),
            "the webserver is not healthy"
        );
        thread::sleep(Duration::from_secs(2));
    }
}

fn which(program: &str) -> bool {
    Command::new(program).arg("version").output().is_ok()
}

fn service_is(stack: &Stack, name: &str, condition: &str) -> bool {
    status(stack)["services"]
        .as_array()
        .unwrap()
        .iter()
        .any(|service| service["name"] == name && service["condition"] == condition)
}

fn status(stack: &Stack) -> Value {
    serde_json::from_str(&stack.run(&["status", "--json"]).stdout).unwrap()
}

/// The images of the running services, by the variables that Compose knows.
fn images(stack: &Stack) -> Vec<(&'static str, String)> {
    let status = status(stack);
    let services = status["services"].as_array().unwrap();
    [
        ("POSTGRES_IMAGE", "postgres"),
        ("MYSQL_IMAGE", "mysql"),
        ("AIRFLOW_IMAGE", "airflow-scheduler"),
    ]
    .map(|(variable, name)| {
        let service = services.iter().find(|s| s["name"] == name).unwrap();
        (variable, service["image"].as_str().unwrap().to_owned())
    })
    .to_vec()
}

/// Each mistake has a clear error with its way out, and leaves nothing half
/// done: after it is mended, `up` works.
fn bad_input(stack: &Stack) {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broken = stack.root().join("airflow/dags/broken_dag.py");
    fs::write(&broken, "from airflow import DAG\n\ndef broken(:\n").unwrap();
    stack.ok(&["restart", "airflow-scheduler"]);
    wait_for_import_error(stack);
    stack.fails(&["up"], "broken_dag.py", "hint: ");
    stack.fails(
        &["nightly"],
        "failed to import /opt/airflow/dags/broken_dag.py",
        "hint: mend the file",
    );
    fs::remove_file(&broken).unwrap();

    let key = stack.set(
        "AIRFLOW_FERNET_KEY",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    );
    stack.fails(&["up"], "AIRFLOW_FERNET_KEY", "hint: ");
    stack.set("AIRFLOW_FERNET_KEY", "nokey");
    stack.fails(&["up"], "AIRFLOW_FERNET_KEY is no Fernet key", "hint: ");
    stack.set("AIRFLOW_FERNET_KEY", &key);

    let password = stack.set("OPENDENTAL_SOURCE_PASSWORD", "not-the-password");
    stack.fails(&["up"], "OPENDENTAL_SOURCE_PASSWORD", "hint: ");
    stack.set("OPENDENTAL_SOURCE_PASSWORD", &password);

    let port = stack.set(
        "AIRFLOW_WEBSERVER_PORT",
        &listening.local_addr().unwrap().port().to_string(),
    );
    stack.fails(&["up"], "AIRFLOW_WEBSERVER_PORT", "hint: ");
    stack.set("AIRFLOW_WEBSERVER_PORT", &port);

    lose_the_network(stack);
    stack.fails(&["restart"], "its network is gone", "hint: cargo xtask up");
    let up = stack.ok(&["up"]);
    assert!(
        up.stderr
            .contains("its containers are made anew, data stays")
    );
    // The databases were made anew, their data was not.
    for done_before in ["filling the demo source", "create the"] {
        assert!(!up.stderr.contains(done_before), "{}", up.stderr);
    }
}

/// As where somebody removed it by hand under a running stack.
fn lose_the_network(stack: &Stack) {
    let docker = |args: &[&str]| {
        assert!(
            Command::new("docker")
                .args(args)
                .status()
                .unwrap()
                .success()
        )
    };
    let network = format!("{}_default", stack.project());
    for container in left_behind("container", &stack.project()).lines() {
        docker(&["network", "disconnect", "--force", &network, container]);
    }
    docker(&["network", "rm", &network]);
}

fn wait_for_import_error(stack: &Stack) {
    let started = Instant::now();
    loop {
        let ran = stack.run(&["status", "--json"]);
        let status: Value = serde_json::from_str(&ran.stdout).unwrap();
        let errors = status["airflow"]["import_errors"]
            .as_array()
            .map_or(0, Vec::len);
        if errors > 0 {
            assert_eq!(ran.status, Some(1), "a broken DAG is not healthy");
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "the broken DAG is not seen"
        );
        thread::sleep(Duration::from_secs(2));
    }
}

/// Minute and hour of a daily cron line in America/Chicago, some minutes ahead.
fn cron_in_minutes(minutes: i64) -> String {
    let at = jiff::Timestamp::now()
        .in_tz("America/Chicago")
        .unwrap()
        .checked_add(jiff::Span::new().minutes(minutes))
        .unwrap();
    format!("{} {} * * *", at.minute(), at.hour())
}
