//! `nightly`, and what others say of its runs: the real program against a
//! stand-in for Airflow's webserver.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod bench;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bench::airflow::Airflow;
use bench::{BUILTIN, Bench, copy, seen};

/// A checkout with an Airflow behind it.
fn night() -> (Bench, Airflow) {
    let bench = Bench::stocked("");
    let airflow = Airflow::on(bench.ports[0]);
    (bench, airflow)
}

/// The log of a failed try, as far as it matters here.
fn failed_log(exception: &str) -> String {
    format!(
        "[2026-11-23T03:00:00.000+0000] {{taskinstance.py:1}} ERROR - Task failed with exception\n\
         Traceback (most recent call last):\n  File \"x.py\", line 1, in x\n{exception}\n\
         [2026-11-23T03:00:00.000+0000] {{local_task_job_runner.py:1}} INFO - exited\n"
    )
}

#[test]
fn the_active_run_is_followed_and_its_end_is_ours() {
    for (state, status) in [("success", 0), ("failed", 1)] {
        let (bench, airflow) = night();
        airflow.run("manual__old", "success");
        airflow.run("manual__1", "running");
        airflow.comes(&["running", state]);
        airflow.task("guard", "success", "");
        let followed = bench.run(&["nightly", "--follow"]);
        let lead = "following manual__1; see http://127.0.0.1:<web>/dags/etl_pipeline/grid\n\
                    ✓ guard            success\n";
        let end = match state {
            "success" => "✓ manual__1 ended in success\n",
            _ => "✗ manual__1 ended as failed\n",
        };
        assert_eq!(followed, seen(format!("{lead}{end}"), status));
        assert_eq!(airflow.posted(), [serde_json::Value::Null; 0]);
    }
}

#[test]
fn without_an_active_run_there_is_nothing_to_follow() {
    let (bench, airflow) = night();
    airflow.run("manual__old", "success");
    let expected = "error: failed to follow a run: none is queued or running\n\
                    hint: cargo xtask nightly starts one; cargo xtask status tells of the last\n";
    assert_eq!(
        bench.run(&["nightly", "--follow"]),
        seen(expected.to_owned(), 2)
    );
}

#[test]
fn what_a_task_of_the_last_run_said_is_shown() {
    let (bench, airflow) = night();
    let never = "error: failed to read a log: etl_pipeline never ran\nhint: cargo xtask nightly\n";
    assert_eq!(bench.run(&["logs", "--task"]), seen(never.to_owned(), 2));
    airflow.run("manual__1", "failed");
    airflow.task("guard", "success", "open\n");
    let log = failed_log("ValueError: no");
    airflow.task("load", "failed", &log);
    airflow.task("notify", "failed", "told\n");
    let told = bench.run(&["logs", "--task"]);
    assert_eq!(told.stdout.trim_end(), log.trim_end());
    assert_eq!(
        (told.stderr.as_str(), told.status),
        ("load of manual__1, try 1\n", 0)
    );
    let last = bench.run(&["logs", "--task", "load", "--tail", "1"]);
    assert!(last.stdout.ends_with("INFO - exited\n"), "{}", last.stdout);
    assert_eq!(last.stdout.lines().count(), 1);
    assert_eq!(bench.run(&["logs", "--task=guard"]).stdout, "open\n");
    let none = "error: failed to read a log: manual__1 has no task lood\n\
                hint: --task with one of guard, load, notify\n";
    assert_eq!(
        bench.run(&["logs", "--task", "lood"]),
        seen(none.to_owned(), 2)
    );
    // A name behind it is the task's, not a service's.
    let both = bench.run(&["logs", "--task", "load", "postgres"]);
    assert_eq!(both.status, 2);
}

#[test]
fn a_paused_dag_and_an_answer_that_refuses_are_told_with_what_mends_them() {
    let (bench, airflow) = night();
    airflow.is_paused();
    let expected = "error: failed to start the run: etl_pipeline is paused\n\
                    hint: cargo xtask airflow -- dags unpause etl_pipeline\n";
    assert_eq!(bench.run(&["nightly"]), seen(expected.to_owned(), 2));
    for (status, detail, hint) in [
        (
            401,
            "Unauthorized",
            "AIRFLOW_API_PASSWORD in .env is not the one that Airflow knows; cargo xtask init sets it",
        ),
        (
            403,
            "Forbidden",
            "cargo xtask init gives the API user its role again",
        ),
        (500, "Oops", "cargo xtask logs airflow-webserver"),
    ] {
        airflow.refuses(status, detail);
        let ran = bench.run(&["nightly"]);
        let expected = format!(": Airflow answers {status}, {detail}\nhint: {hint}\n");
        assert!(
            ran.stderr.starts_with("error: failed to "),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.ends_with(&expected), "{}", ran.stderr);
        assert_eq!(ran.status, 1);
    }
    assert_eq!(airflow.posted(), [serde_json::Value::Null; 0]);
}

#[test]
fn following_takes_no_flag_of_starting() {
    let bench = Bench::healthy();
    for flag in [
        "--full",
        "--ignore-business-hours",
        "--no-wait",
        "--dry-run",
    ] {
        let refused = bench.run(&["nightly", "--follow", flag]);
        assert_eq!(refused.status, 2, "{flag}");
        let expected = format!("the argument '--follow' cannot be used with '{flag}'");
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    }
}

#[test]
fn a_second_run_is_pointed_to_the_first() {
    let (bench, airflow) = night();
    airflow.run("manual__1", "running");
    let expected = "error: failed to start a run: manual__1 is running since Sun 2026-11-22 21:00 \
                    CST, and only one may be active\nhint: cargo xtask nightly --follow\n";
    assert_eq!(bench.run(&["nightly"]), seen(expected.to_owned(), 2));
}

#[test]
fn ctrl_c_says_that_the_run_goes_on() {
    let (bench, airflow) = night();
    airflow.run("manual__1", "running");
    airflow.task("guard", "running", "");
    let expected = "following manual__1; see http://127.0.0.1:<web>/dags/etl_pipeline/grid\n\
                    ▶ guard            running\n\
                    stopped watching; the run goes on: cargo xtask nightly --follow\n";
    assert_eq!(
        bench.interrupt(&["nightly", "--follow"], "guard"),
        seen(expected.to_owned(), 130)
    );
}

#[test]
fn a_refused_run_has_one_defect() {
    let (bench, airflow) = night();
    airflow.run("manual__1", "running");
    airflow.comes(&["running", "failed"]);
    airflow.task(
        "guard",
        "failed",
        &failed_log("airflow.exceptions.AirflowFailException: refused: by day\nhint: wait"),
    );
    airflow.task("load", "upstream_failed", "");
    airflow.task("notify", "failed", &failed_log("Error: REFUSED"));
    let followed = bench.run(&["nightly", "--follow"]);
    let expected = "following manual__1; see http://127.0.0.1:<web>/dags/etl_pipeline/grid\n\
         ✗ guard            failed\n\
         ↷ load             not run\n\
         ✗ notify           failed (tells of guard)\n\
         ✗ manual__1 failed in guard; notify tells of it and ends red by design\n  \
         | airflow.exceptions.AirflowFailException: refused: by day\n  \
         | hint: wait\n\
         hint: airflow/NIGHTLY_RUN.md says what each failing task means and what mends it\n";
    assert_eq!(followed, seen(expected.to_owned(), 1));
}

#[test]
fn a_long_exception_is_shown_from_its_start() {
    let (bench, airflow) = night();
    airflow.run("manual__1", "failed");
    airflow.run("manual__1", "running");
    airflow.comes(&["failed"]);
    let words: String = (1..30).map(|n| format!("\n  word {n}")).collect();
    let log = failed_log(&format!("Error: model a failed{words}"));
    airflow.task("load", "failed", &log);
    let followed = bench.run(&["nightly", "--follow"]);
    assert!(
        followed
            .stderr
            .contains("failed in load\n  | Error: model a failed\n  |   word 1\n"),
        "{}",
        followed.stderr
    );
    assert!(
        followed
            .stderr
            .contains("\n  |   word 24\n  … 5 more in the log of load\nhint: "),
        "{}",
        followed.stderr
    );
}

#[test]
fn a_try_that_is_repeated_tells_when_and_why_without_secrets() {
    let (bench, airflow) = night();
    airflow.run("manual__1", "running");
    airflow.comes(&["running", "failed"]);
    let log = failed_log("a.b.Refused: no entry for OPENDENTAL_SOURCE_PASSWORD-1");
    airflow.task("load", "up_for_retry", &log);
    let followed = bench.run(&["nightly", "--follow"]);
    let expected = "following manual__1; see http://127.0.0.1:<web>/dags/etl_pipeline/grid\n\
                    · load             waiting to retry at 21:05 CST (try 1 failed)\n  \
                    | Refused: no entry for ********\n\
                    ✗ manual__1 ended as failed\n";
    assert_eq!(followed, seen(expected.to_owned(), 1));
}

#[test]
fn a_dry_run_foretells_the_guard_and_starts_nothing() {
    let (bench, airflow) = night();
    airflow.run("manual__old", "success");
    let env = bench.valid_env();
    let allowed = "ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true";
    assert!(env.contains(allowed));
    let refuses = "the guard would refuse it now: business hours (";
    for (permitted, flag, by_day, ends) in [
        ("true", None, refuses, "), open from 21:00\n"),
        (
            "true",
            Some("--ignore-business-hours"),
            "the guard would let it start as an exception: business hours (",
            ")\n",
        ),
        (
            "false",
            Some("--ignore-business-hours"),
            refuses,
            "), open from 21:00;\n  an exception needs ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true in \
             .env, then cargo xtask up\n",
        ),
    ] {
        let switch = format!("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE={permitted}");
        bench.env(&env.replace(allowed, &switch));
        let mut args = vec!["nightly", "--dry-run"];
        args.extend(flag);
        let told = bench.run(&args);
        let plan = format!(
            "would start etl_pipeline with {{\"full_refresh\":false,\
             \"ignore_business_hours\":{}}} and follow it\n",
            flag.is_some()
        );
        let word = told.stderr.strip_prefix(&plan).unwrap();
        // The clock of the test is the machine's.
        let by_night = "the guard would let it start: outside business hours (";
        let is_foretold = (word.starts_with(by_day) && word.ends_with(ends))
            || (word.starts_with(by_night) && word.ends_with(")\n"));
        assert!(is_foretold, "{args:?}: {word}");
        assert_eq!((told.stdout.as_str(), told.status), ("", 0));
    }
    assert_eq!(airflow.posted(), [serde_json::Value::Null; 0]);
}

#[test]
fn status_tells_where_the_last_run_failed() {
    let (bench, airflow) = night();
    airflow.run("manual__1", "failed");
    airflow.task("guard", "success", "");
    airflow.task(
        "load",
        "failed",
        &failed_log("etl.errors.LoadError: no route"),
    );
    airflow.task("notify", "failed", "");
    let status = bench.run(&["status"]);
    let expected = "last run  failed  manual__1  Sun 2026-11-22 21:00 CST\n          \
                    load failed first: LoadError: no route\n          \
                    all it said: cargo xtask logs --task; airflow/NIGHTLY_RUN.md says what mends it\n";
    assert!(status.stdout.ends_with(expected), "{}", status.stdout);
    // The webserver believes a heartbeat for a while; no container runs a scheduler here.
    let dead = "scheduler down, its last heartbeat never\n";
    assert!(status.stdout.contains(dead), "{}", status.stdout);
    let failed_task = |bench: &Bench| {
        let json = bench.run(&["status", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        told["last_run"]["failed_task"].clone()
    };
    assert_eq!(failed_task(&bench), "load");
    airflow.run("manual__2", "success");
    assert_eq!(failed_task(&bench), serde_json::Value::Null);
}

/// A checkout whose services run, where `compose` says what Compose does.
fn starting(compose: &str) -> Bench {
    let services = [
        "postgres",
        "mysql",
        "airflow-webserver",
        "airflow-scheduler",
    ];
    let mut bench = Bench::stocked("");
    let web = bench.ports[0];
    let container = |service: &str| {
        format!(
            r#"{{"Id":"{service}","Image":"i","State":{{"Status":"running"}},"Config":{{"Image":"i","Labels":{{"com.docker.compose.service":"{service}","com.docker.compose.version":"1.29.2"}}}},"NetworkSettings":{{"Ports":{{"8080/tcp":[{{"HostPort":"{web}"}}]}}}}}}"#
        )
    };
    let cases = format!(
        "'ps --all' | 'ps --quiet') printf '%s\\n' {} ;;\n\
         'container inspect') printf '%s\\n' '[{}]' ;;\n{}",
        services.join(" "),
        services.map(container).join(","),
        bench.stock()
    );
    bench.docker("one", BUILTIN, &cases);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in [
        "airflow/bootstrap",
        "airflow/dags",
        "etl_pipeline/opendental_demo",
    ] {
        copy(&repository.join(folder), &bench.tree().join(folder));
    }
    let body = format!("case \"$*\" in\nversion*) echo 1.29.2 ;;\n{compose}\nesac");
    bench.program("one", "docker-compose", &body);
    bench
}

#[test]
fn an_interrupted_up_says_how_to_go_on() {
    // A tool in a group of its own, and one that owns the terminal.
    let last_word = "interrupted; what was started stays: cargo xtask up goes on from there\n";
    for (compose, until, end) in [
        (
            "*' up '*postgres*) exec /bin/sleep 60 ;;",
            "… postgres, mysql healthy\n",
            last_word.to_owned(),
        ),
        (
            "*demo-seed) echo 'it seeds' >&2; exec /bin/sleep 60 ;;",
            "it seeds\n",
            format!(
                "error: failed to fill the demo source: docker-compose was ended by a signal; \
                 its own words stand above\n{last_word}"
            ),
        ),
    ] {
        let bench = starting(compose);
        let stopped = bench.interrupt(&["up"], until);
        let (_, after) = stopped.stderr.split_once(until).unwrap();
        assert_eq!((after, stopped.status), (end.as_str(), 130));
    }
}

#[test]
fn a_change_of_either_compose_file_is_told_by_its_name() {
    let bench = starting("");
    let _airflow = Airflow::on(bench.ports[0]);
    let up = bench.run(&["up"]);
    assert_eq!(up.status, 0, "{}", up.stderr);
    let restart = || bench.run(&["restart", "--dry-run"]).stderr;
    let would = restart();
    assert!(would.starts_with("would run: "), "{would}");
    for name in ["docker-compose.yml", "docker-compose.override.yml"] {
        let file = bench.tree().join(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}# changed\n")).unwrap();
        let warning = format!(
            "! {name} changed since the stack started; a restart does not take that over: \
             cargo xtask up\n"
        );
        assert_eq!(restart(), warning + &would);
        fs::write(&file, text).unwrap();
    }
}

#[test]
fn up_waits_until_airflow_has_read_a_mended_file_again() {
    let bench = starting("");
    let airflow = Airflow::on(bench.ports[0]);
    let file = "/opt/airflow/dags/etl_pipeline_dag.py";
    airflow.import_error(file, "2026-01-01T00:00:00+00:00");
    let reads_again = airflow.clone();
    thread::spawn(move || {
        // Not before `up` has met the error.
        while reads_again.asked_for_import_errors() < 2 {
            thread::sleep(Duration::from_millis(50));
        }
        reads_again.is_mended();
    });
    let up = bench.run(&["up"]);
    assert_eq!(up.status, 0, "{}", up.stderr);
    assert!(airflow.asked_for_import_errors() > 2);

    // What Airflow has read since is the truth.
    airflow.import_error(file, "2999-01-01T00:00:00+00:00");
    let up = bench.run(&["up"]);
    let expected = format!(
        "error: failed to import {file}:\n  | SyntaxError: x\n\
         hint: mend the file; Airflow reads it again within 30 s: cargo xtask status\n"
    );
    assert!(up.stderr.ends_with(&expected), "{}", up.stderr);
    assert_eq!(up.status, 2);
}
