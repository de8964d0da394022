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

#[path = "../containers/mod.rs"]
mod containers;
mod marts;
mod mistakes;
#[path = "../pages/mod.rs"]
mod pages;
mod red;
mod stack;
mod written;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use marts::assert_marts_agree_with_the_source;
use mistakes::bad_input;
use stack::{Stack, images, left_behind, status};

/// How long the scheduler may take from a changed schedule to a finished run.
const SCHEDULED_RUN: Duration = Duration::from_secs(600);

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

    // A newcomer's hour, by the pages that lead through it.
    written::first_hour(&stack);
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

    red::books_that_do_not_add_up(&stack);
    red::a_schema_that_is_somebody_elses(&stack);
    red::a_column_that_vanished(&stack);
    bad_input(&stack);

    let images = images(&stack);
    let down = stack.ok(&["down"]);
    assert!(down.stderr.contains("data is kept in"));
    assert_eq!(left_behind("container", &stack.project()), "");

    written::without_xtask(&stack, &images);
    written::a_real_opendental(&stack);
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

/// Minute and hour of a daily cron line in America/Chicago, some minutes ahead.
fn cron_in_minutes(minutes: i64) -> String {
    let at = jiff::Timestamp::now()
        .in_tz("America/Chicago")
        .unwrap()
        .checked_add(jiff::Span::new().minutes(minutes))
        .unwrap();
    format!("{} {} * * *", at.minute(), at.hour())
}
