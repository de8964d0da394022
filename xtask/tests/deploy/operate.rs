//! What a person does with a stack on a host from another machine: look, ask, run,
//! open its page.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::containers::{Ran, docker_ok, ended_with_its_client};
use crate::pages::blocks;
use crate::refusals;
use crate::spare::Spare;

/// Names and outcomes of `doctor --json`.
fn doctor(spare: &Spare) -> (Option<i32>, Vec<String>) {
    let (status, checks) = spare.json(&["doctor", "--host", "spare", "--json"]);
    let line = |check: &serde_json::Value| {
        let word = |key: &str| check[key].as_str().unwrap().to_owned();
        format!("{} {}", word("state"), word("name"))
    };
    (
        status,
        checks.as_array().unwrap().iter().map(line).collect(),
    )
}

/// xtask with something on standard input.
fn fed(spare: &Spare, args: &[&str], input: &str) -> Ran {
    let mut child = start(spare, args);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    Ran::from(child.wait_with_output().unwrap())
}

/// xtask in a process group of its own, as a shell starts what Ctrl-C shall reach.
fn start(spare: &Spare, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .current_dir(spare.tree())
        .env("XDG_RUNTIME_DIR", spare.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Ctrl-C, and what comes of it.
fn interrupt(child: &mut Child) -> Option<i32> {
    let group = format!("-{}", child.id());
    let sent = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(sent.unwrap().success());
    child.wait().unwrap().code()
}

/// On a terminal: what it showed, and its exit status.
pub(crate) fn on_terminal(spare: &Spare, args: &str, typed: &str) -> Ran {
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_xtask"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(spare.tree())
        .env("XDG_RUNTIME_DIR", spare.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    drop(stdin);
    ran
}

/// Whether a process of the host has this on its command line.
fn runs_there(spare: &Spare, what: &str) -> bool {
    // In brackets, so that it does not find itself.
    let pattern = format!("[{}]{}", &what[..1], &what[1..]);
    spare.there("root", &["pgrep", "-f", &pattern]).status == Some(0)
}

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs the images; cargo xtask ci runs it"]
fn a_stack_on_a_host_is_worked_with_from_another_machine() {
    let spare = Spare::furnished("containerd");
    spare.commit();
    before_the_first_deploy(&spare);
    refusals::before_the_first_deploy(&spare);
    by_the_runbook(&spare);
    let (status, checks) = doctor(&spare);
    assert_eq!(status, Some(0), "{checks:?}");
    assert!(checks.contains(&"pass stack".to_owned()), "{checks:?}");
    tools_run_there(&spare);
    databases_are_asked_there(&spare);
    a_command_ends_with_its_client(&spare);
    logs_are_shown_without_noise_and_secrets(&spare);
    a_night_is_started_and_followed(&spare);
    what_serves_is_shown(&spare);
    refusals::while_it_serves(&spare);
    a_deploy_goes_on_without_its_watcher(&spare);
    the_page_is_opened(&spare);
    what_is_wrong_is_named_together(&spare);
}

/// The doctor looks before anything serves; what needs a stack says how to get one.
fn before_the_first_deploy(spare: &Spare) {
    let (status, checks) = doctor(spare);
    assert_eq!(
        (status, checks),
        (
            Some(0),
            [
                "pass reached",
                "pass engine",
                "pass Compose",
                "pass architecture",
                "pass memory",
                "pass disk",
                "pass disk of the engine",
                "pass clock",
                "pass rsync",
                "pass rsync here",
                "pass folder",
                "pass settings",
                "pass secrets",
                "pass port 8080",
                "pass port 5432",
                "pass port 3306",
                "warn stack",
            ]
            .map(str::to_owned)
            .to_vec()
        )
    );
    for command in [
        &["logs", "--host", "spare"][..],
        &["airflow", "--host", "spare", "--", "version"],
        &["demo", "--host", "spare"],
        &["shell", "--host", "spare"],
        &["sql", "--host", "spare", "-c", "select 1"],
        &["nightly", "--host", "spare"],
        &["tunnel", "--host", "spare"],
    ] {
        let ran = spare.xtask(command);
        assert_eq!(
            (ran.status, ran.stderr.as_str()),
            (
                Some(2),
                "error: failed to find a stack on spare: it serves nothing\n\
                 hint: cargo xtask deploy --host spare\n"
            ),
            "{command:?}"
        );
    }
}

/// From a checkout with settings of its own to a host that serves.
fn by_the_runbook(spare: &Spare) {
    let [settings, ready] = blocks("operate").try_into().unwrap();
    let (here, there) = (spare.tree().join(".env"), spare.tree().join(".env.ec2"));
    let own = fs::read_to_string(&here).unwrap();
    settings.ok(&spare.tree(), &spare.variables());
    let made = fs::read_to_string(&there).unwrap();
    assert!(
        made.contains("COMPOSE_PROJECT_NAME=dental\n"),
        "its project"
    );
    assert_eq!(fs::read_to_string(&here).unwrap(), own);
    let own: Vec<&str> = own.lines().collect();
    let secret = |line: &&str| line.contains("PASSWORD=") && !line.ends_with('=');
    let mut secrets = made.lines().filter(secret);
    assert!(
        secrets.all(|line| !own.contains(&line)),
        "a secret of here is one there"
    );
    fs::remove_file(there).unwrap();

    let ran = ready
        .with(&[("ec2", "spare")])
        .ok(&spare.tree(), &spare.variables());
    // Its last line is `status`, which succeeds only where it serves well.
    assert!(
        ran.stderr.contains("spare has all it needs"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("spare serves "), "{}", ran.stderr);
}

fn tools_run_there(spare: &Spare) {
    let ran = spare.xtask(&["airflow", "--host", "spare", "--", "version"]);
    assert_eq!((ran.status, ran.stdout.trim()), (Some(0), "2.7.1"));
    let ran = spare.xtask(&["etl", "--host", "spare", "--", "no-such-thing"]);
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    let ran = spare.xtask(&["dbt", "--host", "spare", "--", "--version"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("postgres: 1.7"));
    // A release has dbt's manifest with it, to be held against the models of another.
    let changed = "dbt --host spare -- --quiet ls --resource-type model --state \
                   /opt/dbt_dental_clinic/current/.release --select";
    let changed: Vec<&str> = changed.split_whitespace().collect();
    for (select, models) in [("state:modified", 0), ("state:unmodified", 1)] {
        let ran = spare.xtask(&[&changed[..], &[select]].concat());
        assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
        let listed = ran.stdout.matches("dbt_dental_models.").count();
        assert_eq!(listed.min(1), models, "{}", ran.stdout);
    }
    let ran = spare.xtask(&["demo", "--host", "spare", "--", "--help"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("advance"));

    // Words arrive as they are, input too, and the exit status comes back.
    let ran = fed(
        spare,
        &["shell", "--host", "spare"],
        "echo \"$0 a  b\"; cat; exit 3\nrest\n",
    );
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (Some(3), "bash a  b\nrest\n")
    );
    // Where a person sits there is a terminal at the other end.
    let ran = on_terminal(
        spare,
        "shell --host spare postgres",
        "test -t 0 && exit 7\n",
    );
    assert_eq!(ran.status, Some(7), "{}", ran.stdout);
}

fn databases_are_asked_there(spare: &Spare) {
    let ask = "select current_database(), 'a  b'";
    for (database, args, said) in [
        ("analytics", &["-c", ask][..], "opendental_analytics | a  b"),
        ("metadata", &["-c", ask], "airflow          | a  b"),
    ] {
        let ran = spare.xtask(&[&["sql", "--host", "spare", database], args].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    let source = ["sql", "--host", "spare", "source"];
    let ran = fed(
        spare,
        &source,
        "select count(*) from patient where 1 = 0;\n",
    );
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (Some(0), "count(*)\n0\n")
    );
    // The account can only read.
    let ran = fed(spare, &source, "delete from patient;\n");
    assert!(
        ran.status == Some(1) && ran.stderr.contains("denied"),
        "{}",
        ran.stderr
    );

    // A database that is no service of the stack: by the scheduler's own driver.
    let script = "exec python \"$PROJECT_ROOT/airflow/release/sql.py\" \"$@\"";
    for (database, input, rows) in [
        (
            "analytics",
            "select 1 as a,\n null as b;\nselect 'x' as c",
            "a\tb\n1\t\nc\nx\n",
        ),
        ("source", "select 1 as a;", "a\n1\n"),
        ("metadata", "select 1 as a;", "a\n1\n"),
    ] {
        let inside = format!(
            "docker exec -i dental-there-airflow-scheduler-1 sh -c '{script}' sql {database}"
        );
        let piped = format!("printf '%s' \"$1\" | {inside}");
        let ran = spare.there("ubuntu", &["sh", "-c", &piped, "ask", input]);
        assert_eq!(
            (ran.status, ran.stdout.as_str()),
            (Some(0), rows),
            "{}",
            ran.stderr
        );
        let ran = spare.there("ubuntu", &["sh", "-c", &piped, "ask", "select nothing"]);
        assert!(
            ran.status == Some(1) && ran.stderr.starts_with("error: "),
            "{}",
            ran.stderr
        );
    }
}

/// Neither ssh nor `docker exec` takes along what it has started.
fn a_command_ends_with_its_client(spare: &Spare) {
    let client = spare.command(&[
        "shell",
        "--host",
        "spare",
        "-c",
        "echo begun; sleep 61.5; true",
    ]);
    let top = ["docker", "top", "dental-there-airflow-scheduler-1"];
    let runs = || spare.there("ubuntu", &top).stdout.contains("sleep 61.5");
    assert_ne!(ended_with_its_client(client, runs), Some(0));
}

fn logs_are_shown_without_noise_and_secrets(spare: &Spare) {
    let say = |what: &str| {
        let line = format!("{what} >/proc/1/fd/1");
        let said = spare.there(
            "ubuntu",
            &[
                "docker",
                "exec",
                "dental-there-airflow-webserver-1",
                "sh",
                "-c",
                &line,
            ],
        );
        assert_eq!(said.status, Some(0), "{}", said.stderr);
    };
    let env = fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    let lead = "AIRFLOW_API_PASSWORD=";
    let secret = env
        .lines()
        .find_map(|line| line.strip_prefix(lead))
        .unwrap();
    say(&format!("echo it is {secret}"));
    let ran = spare.xtask(&[
        "logs",
        "--host",
        "spare",
        "--tail",
        "500",
        "airflow-webserver",
    ]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains(" it is ********\n"), "{}", ran.stdout);
    let checks = |line: &&str| line.contains(" 127.0.0.1 - - [") && line.contains("GET /health");
    assert_eq!(ran.stdout.lines().find(checks), None);
    assert!(
        ran.stdout
            .lines()
            .all(|line| line.starts_with("airflow-webserver-1"))
    );

    // Followed until Ctrl-C, which ends it there as well, though nothing is said.
    let mut follows = start(
        spare,
        &["logs", "--host", "spare", "-f", "--tail", "0", "postgres"],
    );
    soon("logs follow there", || {
        runs_there(spare, "logs --timestamps")
    });
    let checkpoint = ["sql", "--host", "spare", "-c", "select no_such_thing"];
    assert_eq!(spare.xtask(&checkpoint).status, Some(1));
    let mut line = String::new();
    let mut lines = BufReader::new(follows.stdout.take().unwrap());
    while !line.contains("no_such_thing") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0);
    }
    assert_eq!(interrupt(&mut follows), Some(130));
    soon("logs end there", || !runs_there(spare, "logs --timestamps"));
}

fn a_night_is_started_and_followed(spare: &Spare) {
    let nightly = ["nightly", "--host", "spare"];
    let planned = spare.xtask(&[&nightly[..], &["--ignore-business-hours", "--dry-run"]].concat());
    assert_eq!(planned.status, Some(0), "{}", planned.stderr);
    assert!(planned.stderr.starts_with(
        "would start etl_pipeline with {\"full_refresh\":false,\"ignore_business_hours\":true} and follow it\n"
    ), "{}", planned.stderr);
    let none = spare.xtask(&["nightly", "--host", "spare", "--follow"]);
    assert_eq!(
        (none.status, none.stderr.as_str()),
        (
            Some(2),
            "error: failed to follow a run: none is queued or running\n\
             hint: cargo xtask nightly --host spare starts one; cargo xtask status --host spare tells of the last\n"
        )
    );
    let run = [&nightly[..], &["--ignore-business-hours"]].concat();
    let started = spare.xtask(&[&run[..], &["--no-wait"]].concat());
    assert_eq!(started.status, Some(0), "{}", started.stderr);
    assert!(
        started
            .stderr
            .ends_with("; see cargo xtask tunnel --host spare\n"),
        "{}",
        started.stderr
    );
    let second = spare.xtask(&run);
    assert_eq!(second.status, Some(2), "{}", second.stderr);
    assert!(
        second
            .stderr
            .ends_with("hint: cargo xtask nightly --host spare --follow\n"),
        "{}",
        second.stderr
    );
    // Ctrl-C stops watching, not the run.
    let mut watches = start(spare, &["nightly", "--host", "spare", "--follow"]);
    let mut lines = BufReader::new(watches.stderr.take().unwrap());
    let mut said = String::new();
    lines.read_line(&mut said).unwrap();
    assert!(said.starts_with("following manual__"), "{said}");
    // What it says at Ctrl-C is known by the first task that it shows.
    lines.read_line(&mut said).unwrap();
    assert_eq!(interrupt(&mut watches), Some(130));
    said.clear();
    lines.read_to_string(&mut said).unwrap();
    assert!(
        said.ends_with(
            "stopped watching; the run goes on: cargo xtask nightly --host spare --follow\n"
        ),
        "{said}"
    );
    assert_eq!(ways(spare), 0);
    let (status, night) = spare.json(&["nightly", "--host", "spare", "--follow", "--json"]);
    assert_eq!(
        (status, night["state"].as_str()),
        (Some(0), Some("success")),
        "{night}"
    );
    let tasks = night["tasks"].as_array().unwrap();
    assert!(
        tasks.iter().all(|task| task["state"] == "success"),
        "{night}"
    );
    // The way through the shared connection is gone with each command.
    assert_eq!(ways(spare), 0);
}

/// As the operator reads it in the morning; ages and times are cut off.
fn what_serves_is_shown(spare: &Spare) {
    let (_, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    let of = |pointer: &str| serves.pointer(pointer).unwrap().as_str().unwrap();
    let ran = spare.xtask(&["status", "--host", "spare"]);
    let cut = |line: &str| {
        let leads = ["heartbeat ", ": success, "];
        let end = leads.iter().find_map(|l| Some(line.find(l)? + l.len()));
        line[..end.unwrap_or(line.len())].to_owned()
    };
    let shown: Vec<String> = ran.stdout.lines().map(cut).collect();
    let (id, by) = (of("/release/id"), of("/release/by"));
    let [scheduler, web, mysql, postgres] =
        [0, 1, 2, 3].map(|n| of(&format!("/services/{n}/image")));
    let run = of("/airflow/last/0/id");
    assert_eq!(
        shown,
        [
            "host      spare".to_owned(),
            format!("release   {id}  by {by}"),
            format!("services  airflow-scheduler  healthy      {scheduler}"),
            format!("          airflow-webserver  healthy      {web}"),
            format!("          mysql              healthy      {mysql}"),
            format!("          postgres           healthy      {postgres}"),
            "scheduler healthy, heartbeat ".to_owned(),
            "dags      etl_pipeline".to_owned(),
            format!("last run  {run} of etl_pipeline: success, "),
        ]
    );
    assert_eq!(ran.status, Some(0));
}

/// Ctrl-C ends what watches; the host brings the deploy to its end.
fn a_deploy_goes_on_without_its_watcher(spare: &Spare) {
    let (before, after) = ("tags=[\"etl\",", "tags=[\"watched\", \"etl\",");
    spare.change("airflow/dags/etl_pipeline_dag.py", before, after);
    spare.commit();
    let mut deploys = start(spare, &["deploy", "--host", "spare"]);
    let mut lines = BufReader::new(deploys.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("… gate") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert_eq!(interrupt(&mut deploys), Some(130));
    lines.read_to_string(&mut said).unwrap();
    let word = "\nstopped watching; spare goes on by itself: cargo xtask status --host spare\n";
    assert!(said.ends_with(word), "{said}");
    let shown = spare.xtask(&["status", "--host", "spare"]).stdout;
    let doing = shown.lines().find_map(|l| l.strip_prefix("at work   "));
    let doing = doing.unwrap();
    assert!(
        doing.starts_with("deploy of 2") && doing.contains(", since ") && doing.ends_with("T"),
        "{doing}"
    );
    let ended = ["flock", "--wait", "120", "/srv/dental/lock", "true"];
    assert_eq!(spare.there("ubuntu", &ended).status, Some(0));
    assert_eq!(spare.tags(), "dbt etl nightly watched");
}

fn the_page_is_opened(spare: &Spare) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let tunnel = ["tunnel", "--host", "spare", "--port", &port.to_string()];
    let refused = spare.xtask(&tunnel);
    assert_eq!(refused.status, Some(2));
    let said = format!(
        "error: failed to open the tunnel: port {port} of this machine is taken\n\
         hint: cargo xtask tunnel --host spare --port "
    );
    assert!(refused.stderr.starts_with(&said), "{}", refused.stderr);
    drop(taken);

    let mut open = start(spare, &tunnel);
    let mut url = String::new();
    let mut stdout = BufReader::new(open.stdout.take().unwrap());
    stdout.read_line(&mut url).unwrap();
    assert_eq!(url, format!("http://127.0.0.1:{port}\n"));
    let mut page = TcpStream::connect(("127.0.0.1", port)).unwrap();
    page.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("latest_scheduler_heartbeat"), "{answer}");
    assert_eq!(interrupt(&mut open), Some(0));
    let mut said = String::new();
    open.stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(
        said,
        "✓ the web page of spare, until Ctrl-C\n\
         log in as admin; the password is AIRFLOW_ADMIN_PASSWORD in .env.spare\n"
    );
    assert_eq!(ways(spare), 0);
}

/// A webserver that is down, its port taken, and files that others can read.
fn what_is_wrong_is_named_together(spare: &Spare) {
    let script = "chmod 755 /srv/dental && chmod 644 /srv/dental/env/*.env && \
                  docker stop dental-there-airflow-webserver-1";
    let done = spare.there("root", &["sh", "-c", script]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    let listen = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 1, ReuseAddr => 1); sleep 600";
    docker_ok(&["exec", "--detach", &spare.container, "perl", "-e", listen]);
    let port = "grep -q ':1F90 .* 0A ' /proc/net/tcp";
    soon("the port is taken", || {
        spare.there("root", &["sh", "-c", port]).status == Some(0)
    });
    let (status, checks) = doctor(spare);
    let failed: Vec<&String> = checks.iter().filter(|c| c.starts_with("fail")).collect();
    assert_eq!(
        (status, failed),
        (
            Some(1),
            [
                "fail folder",
                "fail secrets",
                "fail port 8080",
                "fail stack"
            ]
            .map(str::to_owned)
            .iter()
            .collect()
        )
    );
    let ran = spare.xtask(&["nightly", "--host", "spare"]);
    assert_eq!(
        (ran.status, ran.stderr.as_str()),
        (
            Some(2),
            "error: failed to find airflow-webserver running: it is exited\n\
             hint: cargo xtask deploy --host spare\n"
        )
    );
}

/// How many ports of this machine lead through the shared connection.
fn ways(spare: &Spare) -> usize {
    let sockets = fs::read_dir(spare.folder.path().join("airflow-dental")).unwrap();
    let socket = sockets.flatten().next().unwrap().path();
    let asked = Command::new("ssh")
        .arg("-S")
        .arg(socket)
        .args(["-O", "check", "spare"])
        .output()
        .unwrap();
    let told = String::from_utf8(asked.stderr).unwrap();
    let (_, rest) = told.split_once("pid=").unwrap();
    let master = rest.split(')').next().unwrap();
    let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{master}/net/{table}"));
    let tables = tables
        .map(|table| fs::read_to_string(table).unwrap())
        .concat();
    let listening: Vec<String> = tables
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 9 && words[3] == "0A")
        .map(|words| format!("socket:[{}]", words[9]))
        .collect();
    fs::read_dir(format!("/proc/{master}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|link| listening.iter().any(|own| link.as_os_str() == own.as_str()))
        .count()
}
