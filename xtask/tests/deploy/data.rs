//! What a host holds that must not be lost: copies, the way back to one, settings,
//! who is at work, and the end of it all.

use crate::pages::blocks;
use crate::spare::{Spare, phases};

/// A revision that Airflow 2.7.1 knows as older than its own, 405de8318b3a.
const OLDER: &str = "98ae134e6fff";

/// As the superuser, of the metadata database.
pub(crate) fn sql(spare: &Spare, statement: &str) -> String {
    let script = "docker exec -i $(docker ps --quiet --filter label=com.docker.compose.service=postgres) \
                  sh -c 'psql -U \"$POSTGRES_USER\" -d \"$AIRFLOW_DB_NAME\" -v ON_ERROR_STOP=1 -Atc \"$1\"' sql \"$1\"";
    let ran = spare.there("ubuntu", &["sh", "-c", script, "sql", statement]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    ran.stdout.trim().to_owned()
}

pub(crate) fn sh(spare: &Spare, script: &str) -> String {
    let ran = spare.there("ubuntu", &["sh", "-c", script]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    ran.stdout.trim().to_owned()
}

fn copy(spare: &Spare) -> String {
    let (status, copied) = spare.json(&["backup", "--host", "spare", "--json"]);
    assert_eq!(status, Some(0));
    copied["copy"]["name"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs the images; cargo xtask ci runs it"]
fn what_a_host_holds_is_copied_put_back_and_in_the_end_removed() {
    let spare = Spare::furnished("containerd");
    spare.commit();
    let (status, first) = spare.json(&["deploy", "--host", "spare", "--json"]);
    assert_eq!((status, first["end"].as_str()), (Some(0), Some("done")));
    let copy_of_before = is_copied_and_put_back(&spare);
    takes_settings_from_anywhere(&spare);
    takes_settings_alone_and_secrets_anew(&spare);
    let first = first["release"]["id"].as_str().unwrap();
    names_the_way_to_before_a_migration(&spare, first, &copy_of_before);
    says_who_is_at_work(&spare);
    is_removed(&spare);
}

/// Gives the name of a copy of an older schema.
fn is_copied_and_put_back(spare: &Spare) -> String {
    // A copy is for its owner alone, there and here, and says what it is.
    let here = spare.folder.path().join("copy.dump");
    let to = here.to_str().unwrap();
    let (status, copied) = spare.json(&["backup", "--host", "spare", "--to", to, "--json"]);
    assert_eq!((status, copied["end"].as_str()), (Some(0), Some("done")));
    assert_eq!(phases(&copied), ["backup done"]);
    let name = copied["copy"]["name"].as_str().unwrap();
    assert!(name.ends_with("-405de8318b3a.dump"), "{name}");
    assert_eq!(
        sh(spare, "stat -c '%a %n' /srv/dental/backups/*"),
        format!("600 /srv/dental/backups/{name}")
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&here.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let databases =
        "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";
    let before = sql(spare, databases);

    // What a restore would lose is named, and nothing is done.
    sql(
        spare,
        "insert into dag_run (dag_id, run_id, execution_date, start_date, state, run_type, log_template_id) \
         values ('etl_pipeline', 'after', now(), now(), 'success', 'manual', (select max(id) from log_template))",
    );
    let (status, planned) = spare.json(&["restore", "--host", "spare", "--json"]);
    assert_eq!(
        (status, planned["end"].as_str()),
        (Some(2), Some("planned"))
    );
    let lost = &planned["lost"][0];
    assert_eq!(
        (
            lost["id"].as_str(),
            lost["state"].as_str(),
            lost["becomes"].as_str()
        ),
        (Some("after"), Some("success"), None)
    );
    assert_eq!(planned["lost"].as_array().unwrap().len(), 1);
    let after = "select count(*) from dag_run where run_id = 'after'";
    assert_eq!(
        (sql(spare, after).as_str(), sql(spare, databases)),
        ("1", before.clone())
    );

    // What is no copy, and one that a newer Airflow made, is refused.
    std::fs::write(spare.folder.path().join("no.dump"), "no").unwrap();
    let no = spare.folder.path().join("no.dump");
    let refused = spare.xtask(&[
        "restore",
        "--host",
        "spare",
        "--yes",
        "--from",
        no.to_str().unwrap(),
    ]);
    assert_eq!(refused.status, Some(2));
    assert!(
        refused.stderr.contains("is no copy that can be restored"),
        "{}",
        refused.stderr
    );
    let named = |revision: &str| {
        sql(
            spare,
            &format!("update alembic_version set version_num = '{revision}'"),
        );
        let name = copy(spare);
        sql(
            spare,
            "update alembic_version set version_num = '405de8318b3a'",
        );
        name
    };
    let newer = named("ffffffffffff");
    let refused = spare.xtask(&["restore", "--host", "spare", "--yes", "--from", &newer]);
    assert_eq!(refused.status, Some(2));
    assert!(
        refused
            .stderr
            .contains("is newer than what the release that serves knows"),
        "{}",
        refused.stderr
    );

    // One that cannot be migrated: all is as it was just before.
    let older = named(OLDER);
    let (status, failed) = spare.json(&[
        "restore", "--host", "spare", "--yes", "--from", &older, "--json",
    ]);
    assert_eq!(
        (status, failed["end"].as_str()),
        (Some(1), Some("reverted"))
    );
    assert_eq!(
        phases(&failed),
        [
            "images done",
            "databases done",
            "drain done",
            "stop done",
            "backup done",
            "restore done",
            "init failed",
            "stop done",
            "put back done",
            "start done",
            "verify done",
            "resume done",
        ]
    );
    let unpaused = "select string_agg(dag_id, ' ') from dag where is_active and not is_paused";
    assert_eq!(
        (
            sql(spare, after).as_str(),
            sql(spare, unpaused).as_str(),
            sql(spare, databases)
        ),
        ("1", "etl_pipeline", before.clone())
    );

    // From a file here; what was unpaused is, and the analytics role stays outside.
    let (status, restored) = spare.json(&[
        "restore", "--host", "spare", "--yes", "--from", to, "--json",
    ]);
    assert_eq!((status, restored["end"].as_str()), (Some(0), Some("done")));
    assert_eq!(
        (
            sql(spare, after).as_str(),
            sql(spare, unpaused).as_str(),
            sql(spare, databases)
        ),
        ("0", "etl_pipeline", before)
    );
    assert_eq!(
        sql(
            spare,
            "select has_database_privilege('analytics', current_database(), 'connect')"
        ),
        "f"
    );
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    is_copied_and_put_back_by_the_runbook(spare);
    older
}

fn is_copied_and_put_back_by_the_runbook(spare: &Spare) {
    let [block, _] = blocks("data").try_into().unwrap();
    let block = block.with(&[("~/copies", "\"$COPIES\""), ("ec2", "spare")]);
    let copies = spare.folder.path().join("copies");
    let folder = [("COPIES", copies.to_str().unwrap())];
    block.ok(&spare.tree(), &[&spare.variables()[..], &folder].concat());
    assert_eq!(copies.read_dir().unwrap().count(), 1);
}

/// From a program, and from a file there, as well as from a file here.
fn takes_settings_from_anywhere(spare: &Spare) {
    let (of_file, of_program) = (
        "env_file = \".env.spare\"\n",
        "env_command = [\"cat\", \".env.spare\"]\n",
    );
    let same = || {
        let (status, diff) = spare.json(&["env", "diff", "--host", "spare", "--json"]);
        assert_eq!(status, Some(0));
        let none = serde_json::json!([]);
        assert_eq!(
            [&diff["added"], &diff["changed"], &diff["removed"]],
            [&none; 3]
        );
    };
    spare.change("deploy.toml", of_file, of_program);
    same();
    let rotate = spare.xtask(&["env", "rotate", "--host", "spare"]);
    assert_eq!(rotate.status, Some(2));
    assert!(
        rotate.stderr.contains(
            "the settings come from a program, env_command: xtask cannot write new values there"
        ),
        "{}",
        rotate.stderr
    );
    spare.change("deploy.toml", of_program, "");
    let none = spare.xtask(&["env", "diff", "--host", "spare"]);
    assert_eq!(none.status, Some(2));
    assert!(
        none.stderr
            .contains("failed to read /srv/dental/.env on the host: it is not there"),
        "{}",
        none.stderr
    );
    sh(
        spare,
        "umask 077; cp /srv/dental/env/*.env /srv/dental/.env",
    );
    same();
    sh(spare, "rm /srv/dental/.env");
    let ssh = "ssh = \"clinic\"\n";
    spare.change("deploy.toml", ssh, &format!("{ssh}{of_file}"));
}

fn takes_settings_alone_and_secrets_anew(spare: &Spare) {
    // Settings alone: named, never shown, and served with the code that serves.
    spare.set("ETL_PIPELINE_SCHEDULE", "'30 21 * * *'");
    spare.set("AIRFLOW_ADMIN_PASSWORD", "another-password");
    let (status, diff) = spare.json(&["env", "diff", "--host", "spare", "--json"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        diff["changed"],
        serde_json::json!(["AIRFLOW_ADMIN_PASSWORD", "ETL_PIPELINE_SCHEDULE"])
    );
    assert!(!diff.to_string().contains("another-password"));
    spare.change(
        "airflow/dags/etl_pipeline_dag.py",
        "tags=[\"etl\",",
        "tags=[\"changed\", \"etl\",",
    );
    // Then secrets are made anew, here and there; the old ones open nothing.
    let old = std::fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    let [_, block] = blocks("data").try_into().unwrap();
    let ran = block
        .with(&[("ec2", "spare")])
        .ok(&spare.tree(), &spare.variables());
    assert!(!ran.stdout.contains("another-password"));
    assert_eq!(spare.tags(), "dbt etl nightly");
    let new = std::fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    let changed = old.lines().filter(|line| !new.contains(line)).count();
    assert_eq!(changed, 11);
    let (_, diff) = spare.json(&["env", "diff", "--host", "spare", "--json"]);
    assert_eq!(diff["changed"], serde_json::json!([]));
    let (status, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    assert_eq!((status, serves["healthy"].as_bool()), (Some(0), Some(true)));
    let secret = |text: &str, name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap().to_owned()
    };
    let opens = |password: &str| {
        let script = format!(
            "docker exec -e PGPASSWORD={password} $(docker ps -q --filter label=com.docker.compose.service=postgres) \
             psql -h postgres -U analytics -d opendental_analytics -Atc 'select 1'"
        );
        spare.there("ubuntu", &["sh", "-c", &script]).status == Some(0)
    };
    assert!(opens(&secret(&new, "POSTGRES_ANALYTICS_PASSWORD")));
    assert!(!opens(&secret(&old, "POSTGRES_ANALYTICS_PASSWORD")));
    let files = sh(
        spare,
        &format!(
            "grep -lr {} /srv/dental || true",
            secret(&old, "AIRFLOW_DB_PASSWORD")
        ),
    );
    assert_eq!(files, "");
}

fn names_the_way_to_before_a_migration(spare: &Spare, first: &str, copy: &str) {
    // A release of before a migration is reached by the copy of before it, in one command.
    sh(
        spare,
        &format!("printf %s {OLDER} >/srv/dental/code/releases/{first}/.release/revision"),
    );
    let refused = spare.xtask(&["rollback", "--host", "spare", "--to", first]);
    assert_eq!(refused.status, Some(2));
    let command = format!("cargo xtask restore --host spare --from {copy} --release {first}\n");
    assert!(refused.stderr.contains(&command), "{}", refused.stderr);

    // Any other release is refused, and so are settings for files that somebody changed there.
    let (_, serves) = spare.json(&["status", "--host", "spare", "--json"]);
    let serving = serves["release"]["id"].as_str().unwrap();
    let restore = ["restore", "--host", "spare", "--from", copy, "--release"];
    for (id, why) in [
        (
            serving,
            format!("{serving} was not made for the copy's schema, {OLDER}\n"),
        ),
        (
            "20200101T000000Z-none-1",
            "20200101T000000Z-none-1 is not kept there\n".to_owned(),
        ),
    ] {
        let refused = spare.xtask(&[&restore[..], &[id]].concat());
        assert_eq!(refused.status, Some(2));
        assert!(refused.stderr.contains(&why), "{}", refused.stderr);
    }
    let file = "/srv/dental/code/current/airflow/dags/etl_pipeline_dag.py";
    sh(
        spare,
        &format!("cp {file} /tmp/kept && chmod u+w {file} && echo '# more' >>{file}"),
    );
    let schedule = spare.setting("ETL_PIPELINE_SCHEDULE");
    spare.set("ETL_PIPELINE_SCHEDULE", "'45 21 * * *'");
    let refused = spare.xtask(&["env", "push", "--host", "spare"]);
    spare.set("ETL_PIPELINE_SCHEDULE", &schedule);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    let changed = format!("the files of {serving} are not what they were when it was shipped\n");
    assert!(refused.stderr.contains(&changed), "{}", refused.stderr);
    sh(spare, &format!("cat /tmp/kept >{file}"));
}

fn says_who_is_at_work(spare: &Spare) {
    // Who is at work, and an end to it.
    sh(
        spare,
        "cd /srv/dental/deploys && mkdir hangs && echo '{\"phase\":\"init\",\"state\":\"begun\",\"ms\":0}' >hangs/journal && \
         : >hangs/log && echo 'exec 9>>/srv/dental/lock; flock 9; sleep 600 9>&-' >hangs/run && \
         setsid --fork sh -c 'echo $$ >\"$1/pid\"; exec sh \"$1/run\"' run /srv/dental/deploys/hangs </dev/null >/dev/null 2>&1; \
         until ! flock --nonblock /srv/dental/lock true; do sleep 0.1; done; echo 'now, deploy of it' >/srv/dental/busy",
    );
    let busy = spare.xtask(&["backup", "--host", "spare"]);
    assert_eq!(busy.status, Some(2), "{}", busy.stderr);
    let (status, held) = spare.json(&["unlock", "--host", "spare", "--json"]);
    assert_eq!(
        (
            status,
            held["holder"]["run"].as_str(),
            held["holder"]["event"]["phase"].as_str(),
            held["holder"]["ended"].as_bool()
        ),
        (Some(0), Some("hangs"), Some("init"), Some(false))
    );
    let (status, ended) = spare.json(&["unlock", "--host", "spare", "--end", "--json"]);
    assert_eq!(
        (status, ended["holder"]["ended"].as_bool()),
        (Some(0), Some(true))
    );
    let (status, free) = spare.json(&["unlock", "--host", "spare", "--json"]);
    assert_eq!(
        (status, &free["holder"]),
        (Some(0), &serde_json::Value::Null)
    );
}

fn is_removed(spare: &Spare) {
    // The end: asked for by name, copied before, and all of it.
    let copies = sh(spare, "ls /srv/dental/backups/*.dump | wc -l");
    let unasked = spare.xtask(&["destroy", "--host", "spare"]);
    assert_eq!(unasked.status, Some(2), "{}", unasked.stderr);
    let planned = spare.xtask(&["destroy", "--host", "spare", "--dry-run"]);
    assert_eq!(planned.status, Some(0));
    assert!(
        planned.stderr.contains("dental-there_postgres-data"),
        "{}",
        planned.stderr
    );
    assert_eq!(spare.containers().len(), 4);
    let gone = spare.xtask(&["destroy", "--host", "spare", "--confirm", "spare"]);
    assert_eq!(gone.status, Some(0), "{}", gone.stderr);
    assert_eq!(
        sh(
            spare,
            "docker ps -aq; docker volume ls -q; docker image ls -q"
        ),
        ""
    );
    is_written_down(spare);
    assert_eq!(
        sh(
            spare,
            "ls /srv/dental; ls /srv/dental/backups/*.dump | wc -l"
        ),
        format!(
            "audit.jsonl\nbackups\ndeploys\nlock\n{}",
            copies.parse::<u32>().unwrap() + 1
        )
    );
    let again = spare.xtask(&[
        "destroy",
        "--host",
        "spare",
        "--confirm",
        "spare",
        "--with-backups",
    ]);
    assert_eq!(again.status, Some(0), "{}", again.stderr);
    assert_eq!(sh(spare, "ls -A /srv/dental"), "");
    let nothing = spare.xtask(&["destroy", "--host", "spare", "--confirm", "spare"]);
    assert_eq!(nothing.status, Some(0));
    assert!(
        nothing.stderr.contains("nothing of the stack is on spare"),
        "{}",
        nothing.stderr
    );
}

/// Who did what, and how it ended, a line each; never a value of the settings.
fn is_written_down(spare: &Spare) {
    let text = sh(spare, "cat /srv/dental/audit.jsonl");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            assert!(line["at"].as_str().unwrap().ends_with('Z'));
            assert!(line["who"]["by"].as_str().unwrap().contains('@'), "{line}");
            let word = |name: &str| line[name].as_str().unwrap().to_owned();
            format!("{} {}", word("way"), word("end"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "first done",
            "backup done",
            "backup done",
            "backup done",
            "restore reverted",
            "restore done",
            // By the runbook.
            "backup done",
            "restore done",
            "restart done",
            "rotate done",
            "destroy done",
        ]
    );
    let env = std::fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    for secret in env.lines().filter(|line| line.contains("PASSWORD=")) {
        let (_, value) = secret.split_once('=').unwrap();
        assert!(value.is_empty() || !text.contains(value), "{secret}");
    }
}
