//! A release with a newer Airflow, which brings the metadata database a newer schema:
//! 2.6.3 serves, 2.7.1 comes. What can go wrong on that way, and the way back.

use std::fs;

use crate::data::{sh, sql};
use crate::faults::{
    DEPLOY, Fault, Serves, begin_until, deployed_with_an_init_that_fails, done, end, fault,
    init_fails, reverted, strike,
};
use crate::spare::{Spare, phases};
use crate::transports::{Registry, builds_there, know};

/// Airflow's own names of their schemas: `airflow/migrations/versions` of each.
const OF_2_6_3: &str = "c804e5c76e3e";
const OF_2_7_1: &str = "405de8318b3a";
const LOCK: &str = "requirements-airflow.lock";
/// What the lock of a 2.6.3 has otherwise: it does not import with pydantic 2.
const OLDER: [(&str, &str, &str); 2] = [
    (
        "apache-airflow",
        "2.6.3",
        "36eddb9f35414054bda2b5c91db19681fd013f1e2a0c9eae7553ceb49aafa323",
    ),
    (
        "pydantic",
        "1.10.12",
        "b749a43aa51e32839c9d71dc67eb1e4221bb04af1033a32e3923d46f9effa942",
    ),
];
/// Where the metadata database lies on the host: a disk of its own.
const DISK: &str = "/var/lib/docker/volumes/dental-there_postgres-data/_data";
const REVISION: &str = "select version_num from alembic_version";

#[test]
#[ignore = "needs the images; cargo xtask ci runs it"]
fn a_newer_schema_comes_and_goes() {
    let (spare, newer) = of_2_6_3();
    let registry = Registry::start(&spare);
    know(&spare, &registry.keys());
    spare.commit();
    strike(&spare, &[migration_fails(&newer, "by 127.0.0.1:")]);
    comes(&spare, &newer);
    goes(&spare);
}

#[test]
#[ignore = "takes a quarter of an hour; cargo xtask ci faults runs it"]
fn every_fault_of_a_migration() {
    let (spare, newer) = of_2_6_3();
    builds_there(&spare);
    spare.commit();
    let [fails, full, cut] = [(); 3].map(|()| newer.clone());
    strike(
        &spare,
        &[
            migration_fails(&newer, "built there"),
            fault("newer schema, init that fails after it", move |s| {
                with(s, &fails, init_fails)
            }),
            fault("disk full while migrating", move |s| {
                with(s, &full, disk_full)
            }),
            fault(
                "script killed after a migration, then init fails",
                move |s| with(s, &cut, migrated_by_one_before),
            ),
        ],
    );
    comes(&spare, &newer);
    goes(&spare);
    // And forward again: the copy of before is made anew.
    comes(&spare, &newer);
}

/// A host that serves a release of Airflow 2.6.3, and the lock that the tree has
/// else. The metadata database has a disk of its own.
fn of_2_6_3() -> (Spare, String) {
    let spare = Spare::furnished("containerd");
    let disk = format!(
        "docker volume create --label com.docker.compose.project=dental-there \
            --label com.docker.compose.volume=postgres-data dental-there_postgres-data && \
         mount -t tmpfs -o size=1g tmpfs {DISK}"
    );
    done(&spare.there("root", &["sh", "-c", &disk]));
    let newer = fs::read_to_string(spare.tree().join(LOCK)).unwrap();
    let older = OLDER
        .iter()
        .fold(newer.clone(), |lock, package| with_package(&lock, *package));
    serve(&spare, &older);
    let (status, first) = spare.json(&DEPLOY);
    assert_eq!((status, first["end"].as_str()), (Some(0), Some("done")));
    assert_eq!(sql(&spare, REVISION), OF_2_6_3);
    ran(&spare, "before");
    (spare, newer)
}

/// A lock in which a package has another version.
fn with_package(lock: &str, (package, version, hash): (&str, &str, &str)) -> String {
    let lead = format!("{package}==");
    let (mut text, mut inside, mut found) = (String::new(), false, false);
    for line in lock.lines() {
        inside = inside && line.starts_with("    ");
        if line.starts_with(&lead) {
            (inside, found) = (true, true);
            text.push_str(&format!("{lead}{version} --hash=sha256:{hash}\n"));
        } else if !inside {
            text.push_str(&format!("{line}\n"));
        }
    }
    assert!(found, "{package}");
    text
}

fn serve(spare: &Spare, lock: &str) {
    let path = spare.tree().join(LOCK);
    if fs::read_to_string(&path).unwrap() != lock {
        fs::write(path, lock).unwrap();
        spare.commit();
    }
}

/// A run that has ended.
fn ran(spare: &Spare, id: &str) {
    sql(
        spare,
        &format!(
            "insert into dag_run (dag_id, run_id, execution_date, start_date, state, run_type, log_template_id) \
             values ('etl_pipeline', '{id}', now(), now(), 'success', 'manual', (select max(id) from log_template))"
        ),
    );
}

/// Of the tree with another lock, which afterwards is as it was.
fn with(spare: &Spare, lock: &str, make: impl Fn(&Spare) -> Serves) -> Serves {
    let before = fs::read_to_string(spare.tree().join(LOCK)).unwrap();
    serve(spare, lock);
    let serves = make(spare);
    serve(spare, &before);
    assert_eq!(sql(spare, REVISION), OF_2_6_3);
    serves
}

/// A column that the migration would bring is there already. The image comes by `road`.
fn migration_fails(newer: &str, road: &'static str) -> Fault {
    let newer = newer.to_owned();
    fault("migration that fails", move |s| {
        with(s, &newer, |s| {
            sql(
                s,
                "alter table slot_pool add column include_deferred boolean",
            );
            let failed = s.xtask(&DEPLOY);
            sql(s, "alter table slot_pool drop column include_deferred");
            reverted(&failed);
            let images = failed
                .stderr
                .lines()
                .find(|line| line.contains("images "))
                .unwrap();
            assert!(images.contains(road), "{images}");
            let told = "column \"include_deferred\" of relation \"slot_pool\" already exists";
            assert!(failed.stderr.contains(told), "{}", failed.stderr);
            Serves::Before
        })
    })
}

/// Not a page more than there is, from the moment that the migration begins.
fn disk_full(spare: &Spare) -> Serves {
    let full = format!(
        "mount -o remount,size=$(df -k --output=used {DISK} | tail -n 1 | tr -d ' ')k {DISK}"
    );
    let failed = end(begin_until(spare, &DEPLOY, "init", &full));
    let room = format!("mount -o remount,size=1g {DISK}");
    done(&spare.there("root", &["sh", "-c", &room]));
    reverted(&failed);
    assert!(
        failed.stderr.contains("No space left on device"),
        "{}",
        failed.stderr
    );
    Serves::Before
}

/// The second deploy has no copy of before the schema that it found: it names the one
/// that the first has made, and the command that goes back to it.
fn migrated_by_one_before(spare: &Spare) -> Serves {
    let kill = "kill -KILL \"-$(cat \"$run/pid\")\"";
    let cut = end(begin_until(spare, &DEPLOY, "start", kill));
    assert_eq!(cut.status, Some(1), "{}", cut.stderr);
    assert_eq!(sql(spare, REVISION), OF_2_7_1);
    let failed = deployed_with_an_init_that_fails(spare);
    assert_eq!(failed.status, Some(1), "{}", failed.stderr);
    let told = format!("was migrated from {OF_2_6_3} to {OF_2_7_1} by a deploy before this one");
    assert!(failed.stderr.contains(&told), "{}", failed.stderr);
    let lead = "or: cargo xtask restore --host spare ";
    let rest = failed.stderr.lines().find_map(|line| line.split_once(lead));
    let (_, rest) = rest.unwrap();
    let command: Vec<&str> = ["restore", "--host", "spare", "--yes"]
        .into_iter()
        .chain(rest.trim().split(' '))
        .collect();
    done(&spare.xtask(&command));
    Serves::Before
}

/// The step itself, with a copy of before.
fn comes(spare: &Spare, newer: &str) {
    serve(spare, newer);
    let (status, deployed) = spare.json(&DEPLOY);
    assert_eq!(
        (status, deployed["end"].as_str()),
        (Some(0), Some("done")),
        "{deployed}"
    );
    assert_eq!(sql(spare, REVISION), OF_2_7_1);
    let newest = "ls /srv/dental/backups/*.dump | tail -n 1";
    let newest = sh(spare, newest);
    assert!(newest.ends_with(&format!("-{OF_2_6_3}.dump")), "{newest}");
    assert_eq!(runs(spare), ["before success"]);
}

/// `rollback` names the command that goes back; it says what would be lost, and then
/// does it.
fn goes(spare: &Spare) {
    ran(spare, "after");
    let refused = spare.xtask(&["rollback", "--host", "spare"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    let told = format!("the metadata database's schema is {OF_2_7_1}, ");
    assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    let command = refused.stderr.lines().last().unwrap().trim_start();
    let command: Vec<&str> = command
        .strip_prefix("cargo xtask ")
        .unwrap()
        .split(' ')
        .collect();
    let dry = spare.xtask(&[&command[..], &["--dry-run"]].concat());
    assert_eq!(dry.status, Some(0), "{}", dry.stderr);
    assert!(
        dry.stderr.contains("after of etl_pipeline, success"),
        "{}",
        dry.stderr
    );
    assert_eq!(spare.xtask(&command).status, Some(2));
    assert_eq!(runs(spare), ["after success", "before success"]);

    let (status, restored) = spare.json(&[&command[..], &["--yes", "--json"]].concat());
    assert_eq!((status, restored["end"].as_str()), (Some(0), Some("done")));
    assert_eq!(
        phases(&restored),
        [
            "images done",
            "databases done",
            "drain done",
            "stop done",
            "backup done",
            "switch done",
            "restore done",
            "init done",
            "start done",
            "verify done",
            "resume done",
        ]
    );
    assert_eq!(sql(spare, REVISION), OF_2_6_3);
    assert_eq!(runs(spare), ["before success"]);
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    assert_eq!(serves["release"]["id"].as_str(), command.last().copied());
    assert_eq!(
        serves["airflow"]["dags"][0]["paused"].as_bool(),
        Some(false)
    );
}

fn runs(spare: &Spare) -> Vec<String> {
    spare
        .metadata("select run_id || ' ' || state from dag_run where run_type = 'manual' order by 1")
}
