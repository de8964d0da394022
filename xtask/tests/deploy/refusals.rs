//! What cannot be done on a host that serves: each is refused with its reason and the way
//! out, and nothing is changed.

use std::fs;
use std::os::unix::fs::symlink;

use crate::containers::Ran;
use crate::operate::on_terminal;
use crate::spare::Spare;

/// What stands behind progress on standard error.
fn error(ran: &Ran) -> String {
    let from = ran.stderr.find("error: ").unwrap_or_default();
    ran.stderr[from..].to_owned()
}

fn refused(spare: &Spare, args: &[&str], expected: &str) {
    let ran = spare.xtask(args);
    assert_eq!((ran.status, error(&ran).as_str()), (Some(2), expected));
}

pub(crate) fn before_the_first_deploy(spare: &Spare) {
    let nothing = "nothing serves there\nhint: cargo xtask deploy --host spare\n";
    refused(
        spare,
        &["env", "diff", "--host", "spare"],
        &format!("error: failed to compare the settings of spare: {nothing}"),
    );
    refused(
        spare,
        &["rollback", "--host", "spare"],
        &format!("error: failed to roll back on spare: {nothing}"),
    );
    let (kept, away) = (
        spare.tree().join(".env.spare"),
        spare.folder.path().join("away"),
    );
    fs::rename(&kept, &away).unwrap();
    refused(
        spare,
        &["deploy", "--host", "spare"],
        "error: failed to deploy to spare: failed to read .env.spare, the host's env_file: No such \
         file or directory (os error 2)\n\
         hint: make it as docs/runbook.md, \"Its settings\", says\n",
    );
    fs::rename(&away, &kept).unwrap();
}

/// On a host with one release.
pub(crate) fn while_it_serves(spare: &Spare) {
    let (_, status) = spare.json(&["status", "--host", "spare", "--json"]);
    let serving = status["release"]["id"].as_str().unwrap();
    let releases = "hint: cargo xtask releases --host spare\n";
    let rollback = ["rollback", "--host", "spare"];
    let back = "error: failed to roll back on spare:";
    refused(
        spare,
        &rollback,
        &format!("{back} no good release before the one that serves is kept there\n{releases}"),
    );
    refused(
        spare,
        &[&rollback[..], &["--to", serving]].concat(),
        &format!("{back} {serving} serves already\n{releases}"),
    );
    refused(
        spare,
        &[&rollback[..], &["--to", "20200101T000000Z-none-1"]].concat(),
        &format!("{back} 20200101T000000Z-none-1 is not kept there\n{releases}"),
    );

    let rotate = ["env", "rotate", "--host", "spare"];
    let ran = spare.xtask(&[&rotate[..], &["AIRFLOW_UID"]].concat());
    let no_secret = "error: failed to rotate the secrets of spare: AIRFLOW_UID is no secret that is \
                     made here\nhint: one of AIRFLOW_FERNET_KEY, ";
    assert!(error(&ran).starts_with(no_secret), "{}", ran.stderr);
    let schedule = spare.setting("ETL_PIPELINE_SCHEDULE");
    spare.set("ETL_PIPELINE_SCHEDULE", "'15 21 * * *'");
    refused(
        spare,
        &rotate,
        "error: failed to rotate the secrets of spare: the settings here are not those that serve\n\
         hint: look, then push them: cargo xtask env diff --host spare\n",
    );
    spare.set("ETL_PIPELINE_SCHEDULE", &schedule);
    let project = spare.setting("COMPOSE_PROJECT_NAME");
    spare.set("COMPOSE_PROJECT_NAME", "another");
    refused(
        spare,
        &["env", "push", "--host", "spare"],
        "error: failed to push the settings of spare: these settings need another \
         COMPOSE_PROJECT_NAME, which the release that serves has not\n\
         hint: cargo xtask deploy --host spare\n",
    );
    spare.set("COMPOSE_PROJECT_NAME", &project);

    let link = spare.tree().join("airflow/dags/linked.py");
    symlink("etl_pipeline_dag.py", &link).unwrap();
    refused(
        spare,
        &["deploy", "--host", "spare", "--allow-dirty"],
        "error: failed to deploy to spare: failed to list the code: airflow/dags/linked.py is no \
         plain file with a plain name\nhint: only plain files are shipped\n",
    );
    fs::remove_file(link).unwrap();

    let another = on_terminal(spare, "destroy --host spare", "spar\n");
    let kept = "nothing was removed: the name was not typed";
    assert!(another.stdout.contains(kept), "{}", another.stdout);
    assert_ne!(another.status, Some(0));

    stopped_by_hand(spare);
    without_rsync(spare);
}

/// A database that somebody has stopped cannot be copied.
fn stopped_by_hand(spare: &Spare) {
    let stop = ["docker", "stop", "dental-there-postgres-1"];
    assert_eq!(spare.there("ubuntu", &stop).status, Some(0));
    let ran = spare.xtask(&["restore", "--host", "spare"]);
    assert!(matches!(ran.status, Some(1 | 2)), "{}", ran.stderr);
    assert!(error(&ran).contains("hint: "), "{}", ran.stderr);
    let start = ["docker", "start", "dental-there-postgres-1"];
    assert_eq!(spare.there("ubuntu", &start).status, Some(0));
}

/// Every program of this machine but the one that ships.
fn without_rsync(spare: &Spare) {
    let bin = tempfile::tempdir().unwrap();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let own = bin.path().join(path.file_name().unwrap());
            if !path.ends_with("rsync") && !own.exists() {
                symlink(&path, own).ok();
            }
        }
    }
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "tags=[\"etl\",",
        "tags=[\"changed\", \"etl\",",
    );
    let mut deploy = spare.command(&["deploy", "--host", "spare", "--allow-dirty"]);
    let ran = Ran::from(deploy.env("PATH", bin.path()).output().unwrap());
    assert_eq!(
        (ran.status, error(&ran).as_str()),
        (
            Some(2),
            "error: failed to deploy to spare: failed to ship the code: rsync is not on this machine\n\
             hint: sudo apt-get install rsync\n"
        )
    );
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "tags=[\"changed\", \"etl\",",
        "tags=[\"etl\",",
    );
}
