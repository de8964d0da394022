//! A tree's life on a host: the first deploy, changes of each kind, the way back.

use crate::spare::{Spare, phases};

#[test]
#[ignore = "needs the images; cargo xtask test runs it"]
fn a_tree_is_deployed_changed_and_rolled_back() {
    let spare = Spare::furnished("containerd");
    let deploy = ["deploy", "--host", "spare", "--json"];

    // Without a commit, or with files that are not committed, there is no release.
    let nothing = spare.xtask(&deploy);
    assert_eq!(nothing.status, Some(2), "{}", nothing.stderr);
    spare.commit();
    spare.change("docker-compose.host.yml", "# The code", "#  The code");
    let dirty = spare.xtask(&deploy);
    assert_eq!(dirty.status, Some(2));
    assert!(
        dirty.stderr.starts_with("error: failed to deploy to spare: failed to name the release: not committed: docker-compose.host.yml\n"),
        "{}",
        dirty.stderr
    );
    spare.commit();

    let (status, first) = spare.json(&deploy);
    assert_eq!(
        (status, first["way"].as_str(), first["end"].as_str()),
        (Some(0), Some("first"), Some("done"))
    );
    assert_eq!(
        phases(&first),
        [
            "images done",
            "switch done",
            "databases done",
            "demo source done",
            "gate done",
            "init done",
            "start done",
            "verify done",
            "resume done",
            "prune done"
        ]
    );
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    assert_eq!(serves["release"], first["release"]);
    assert_eq!(spare.tags(), "dbt etl nightly");
    let containers = spare.containers();
    assert_eq!(containers.len(), 4, "{containers:?}");
    // Secrets lie in one file, for the user alone.
    let files = "find /srv/dental/env /srv/dental/audit.jsonl -type f -printf '%m %P\n'; \
                 grep -rl \"$(sed -n s/^AIRFLOW_API_PASSWORD=//p /srv/dental/env/*.env)\" /srv/dental/code /srv/dental/deploys";
    let files = spare.there("root", &["sh", "-c", files]);
    let found: Vec<&str> = files.stdout.lines().collect();
    assert!(
        found.len() == 2 && found[0].starts_with("600 "),
        "{found:?}"
    );

    let (_, again) = spare.json(&deploy);
    assert_eq!(again["end"], "nothing");

    // An edit of a DAG, a new one and a file that goes: nothing restarts.
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "tags=[\"etl\",",
        "tags=[\"changed\", \"etl\",",
    );
    spare.commit();
    let (status, code) = spare.json(&deploy);
    assert_eq!(
        (status, code["way"].as_str(), code["end"].as_str()),
        (Some(0), Some("code"), Some("done"))
    );
    assert_eq!(
        phases(&code),
        [
            "gate done",
            "drain done",
            "switch done",
            "live done",
            "resume done",
            "prune done"
        ]
    );
    assert_eq!(spare.tags(), "changed dbt etl nightly");
    assert_eq!(spare.containers(), containers);

    // What cannot be imported never serves.
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "with DAG(",
        "with DAG(((",
    );
    spare.commit();
    let refused = spare.xtask(&deploy);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused
            .stderr
            .contains("the release was refused, and nothing was changed:"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("SyntaxError"), "{}", refused.stderr);
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, &serves["release"]), (Some(0), &code["release"]));

    let (status, back) = spare.json(&["rollback", "--host", "spare", "--json"]);
    assert_eq!((status, back["end"].as_str()), (Some(0), Some("done")));
    assert_eq!(back["release"], first["release"]);
    assert_eq!(spare.tags(), "dbt etl nightly");
    assert_eq!(spare.containers(), containers);
    let (_, releases) = spare.json(&["releases", "--host", "spare", "--json"]);
    let stands: Vec<&str> = releases
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["stands"].as_str().unwrap())
        .collect();
    assert_eq!(stands, ["serves", "good"]);

    // Settings that changed restart Airflow, with a copy of its database before.
    spare.set("ETL_PIPELINE_SCHEDULE", "'30 21 * * *'");
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "with DAG(((",
        "with DAG(",
    );
    spare.commit();
    let (status, restart) = spare.json(&deploy);
    assert_eq!(
        (status, restart["way"].as_str(), restart["end"].as_str()),
        (Some(0), Some("restart"), Some("done"))
    );
    assert_eq!(
        phases(&restart),
        [
            "images done",
            "gate done",
            "drain done",
            "backup done",
            "databases done",
            "stop done",
            "switch done",
            "init done",
            "start done",
            "verify done",
            "resume done",
            "prune done"
        ]
    );
    assert_ne!(spare.containers(), containers);
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    assert_eq!(serves["airflow"]["dags"][0]["paused"], false);
}
