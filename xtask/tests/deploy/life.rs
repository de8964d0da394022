//! A tree's life on a host: the first deploy, changes of each kind, the way back.

use std::fs;

use serde_json::Value;

use crate::containers::workflow;
use crate::faults;
use crate::spare::{Spare, phases};

#[test]
#[ignore = "needs the images; cargo xtask ci runs it"]
fn a_tree_is_deployed_changed_and_rolled_back() {
    let spare = Spare::furnished("containerd");
    let deploy = workflow("deploy.yml", "Serve this revision", &[("HOST", "spare")]);
    let deploy: Vec<&str> = deploy.iter().map(String::as_str).collect();

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

    // A first deploy that fails leaves a clean host; the images that it brought may
    // stay for the next one.
    let failed = faults::deployed_with_an_init_that_fails(&spare);
    assert_eq!(failed.status, Some(1), "{}", failed.stderr);
    let removed = "it failed, and what it had made is removed again:";
    assert!(failed.stderr.contains(removed), "{}", failed.stderr);
    let left = "docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet --filter type=custom; \
                ls -A /srv/dental/code/releases; ls /srv/dental/code/current 2>/dev/null";
    let left = spare.there("ubuntu", &["sh", "-c", left]);
    assert_eq!(left.stdout, "");

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

    let both = ["deploy", "--host", "spare", "--host", "spare"];
    let again = spare.xtask(&both);
    assert_eq!(again.status, Some(0));
    let nothing = "✓ spare serves this tree already, release ";
    assert_eq!(again.stderr.matches(nothing).count(), 2, "{}", again.stderr);

    // An edit of a DAG, and a new one: nothing restarts.
    let (one, another) = (
        "airflow/dags/etl_pipeline_dag.py",
        "airflow/dags/another_dag.py",
    );
    let text = fs::read_to_string(spare.tree().join(one)).unwrap();
    let id = "dag_id=\"etl_pipeline\"";
    assert!(text.contains(id));
    let text = text.replace(id, "dag_id=\"another\"");
    fs::write(spare.tree().join(another), text).unwrap();
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
    assert_eq!(read(&spare), ["another paused", "etl_pipeline active"]);
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

    let rollback = workflow(
        "deploy.yml",
        "Serve the release before",
        &[("HOST", "spare")],
    );
    let rollback: Vec<&str> = rollback.iter().map(String::as_str).collect();
    let page = spare.folder.path().join("page.md");
    let told = spare
        .command(&rollback)
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", &page)
        .output()
        .unwrap();
    let back: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (told.status.code(), back["end"].as_str()),
        (Some(0), Some("done"))
    );
    let page = fs::read_to_string(page).unwrap();
    let title = format!(
        "### spare: {}, done\n\n```text\n",
        first["release"]["id"].as_str().unwrap()
    );
    let lines = page.strip_prefix(&title).unwrap().lines();
    let shown: Vec<String> = lines
        .take_while(|line| *line != "```")
        .map(|line| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(shown, phases(&back));
    assert_eq!(back["release"], first["release"]);
    assert_eq!(spare.tags(), "dbt etl nightly");
    // A DAG that went is gone.
    assert_eq!(read(&spare), ["etl_pipeline active"]);
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
    let kept = has_many_releases(&spare, first["release"]["id"].as_str().unwrap());
    let failed = ["--to", "20990101T000000Z-failed-1"];
    let refused = spare.xtask(&[&["rollback", "--host", "spare"][..], &failed].concat());
    let never =
        "20990101T000000Z-failed-1 never served well\nhint: cargo xtask releases --host spare\n";
    assert!(refused.stderr.ends_with(never), "{}", refused.stderr);
    fs::remove_file(spare.tree().join(another)).unwrap();
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
    kept(restart["release"]["id"].as_str().unwrap());
}

/// What the scheduler has read and not lost since.
fn read(spare: &Spare) -> Vec<String> {
    spare.metadata(
        "select d.dag_id || case when d.is_paused then ' paused' else ' active' end \
         from dag d join serialized_dag s on s.dag_id = d.dag_id where d.is_active order by 1",
    )
}

/// As after many deploys: good releases that are older, one that failed, one that cannot
/// be removed, and images that these alone have. Gives what holds after one more deploy.
fn has_many_releases<'a>(spare: &'a Spare, first: &str) -> impl Fn(&str) + use<'a> {
    let script = r#"set -eu; cd /srv/dental/code/releases
        copy() {
            cp -al "$1" "$2"
            sed -i "s/$1/$2/g" "$2/.release/release.json" "$2/.release/compose"
        }
        image=$(sed -n 's/^export POSTGRES_IMAGE=//p' "$1/.release/compose")
        for n in 1 2 3 4 5; do
            copy "$1" "2020010${n}T000000Z-old-1"
            sed -i "s,^export AIRFLOW_IMAGE=.*,export AIRFLOW_IMAGE=dental-test/of:$n," "2020010${n}T000000Z-old-1/.release/compose"
            docker tag "$image" "dental-test/of:$n"
        done
        docker tag "$image" dental-test/of:nobody
        copy "$1" 20990101T000000Z-failed-1
        rm 20990101T000000Z-failed-1/.release/good
        mkdir -p 20180101T000000Z-stuck-1/.release
        : >20180101T000000Z-stuck-1/.release/compose
        chmod 555 20180101T000000Z-stuck-1"#;
    let made = spare.there("ubuntu", &["sh", "-c", script, "many", first]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let first = first.to_owned();
    move |newest| {
        let list = "ls /srv/dental/code/releases; docker image ls --format '{{.Repository}}:{{.Tag}}' dental-test/of | sort";
        let list = spare.there("ubuntu", &["sh", "-c", list]);
        // Five good ones; what served before is one of them. The one that failed counts for
        // none, and what cannot be removed stops nobody.
        let expected = [
            "20180101T000000Z-stuck-1",
            "20200104T000000Z-old-1",
            "20200105T000000Z-old-1",
            &first,
        ];
        let found: Vec<&str> = list.stdout.lines().collect();
        assert_eq!(found[..4], expected, "{found:?}");
        assert_eq!(found[5], newest);
        assert_eq!(
            found[6..],
            [
                "dental-test/of:4",
                "dental-test/of:5",
                "dental-test/of:nobody"
            ]
        );
    }
}
