//! What people get wrong, and the way out of it.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::containers::{docker_ok, ended_with_its_client};
use crate::stack::{Stack, left_behind};

/// Each mistake has a clear error with its way out, and leaves nothing half
/// done: after it is mended, `up` works.
pub(crate) fn bad_input(stack: &Stack) {
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

    a_command_ends_with_its_client(stack);
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

/// Without a terminal nothing tells a container that nobody waits any more.
fn a_command_ends_with_its_client(stack: &Stack) {
    let mut client = Command::new(env!("CARGO_BIN_EXE_xtask"));
    client
        .args(["shell", "-c", "echo begun; sleep 61.5; true"])
        .current_dir(stack.root());
    let scheduler = stack.container("airflow-scheduler");
    let runs = || docker_ok(&["top", &scheduler]).contains("sleep 61.5");
    assert_ne!(ended_with_its_client(client, runs), Some(0));
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
