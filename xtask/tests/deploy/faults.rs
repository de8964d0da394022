//! What can go wrong in the middle of a deploy. After each of it one release serves,
//! no run is lost, the lock is free, and what was paused is not.
//!
//! `cargo xtask ci faults` makes every one of them and prints the table.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::containers::{Ran, docker_ok};
use crate::spare::Spare;

/// What strikes.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// The program that asked for the deploy is killed.
    Xtask,
    /// Its connection is.
    Ssh,
    /// Packets get lost, for longer than ssh waits.
    Network,
    /// What runs on the host is killed.
    Script,
    /// The host's engine is told to end, and starts again.
    Engine,
    /// The host loses its power, and starts again.
    Power,
}

/// Which of two releases serves in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    Before,
    New,
}

/// One of the table's lines, and how it is made.
pub(crate) struct Fault {
    name: String,
    make: Box<dyn Fn(&Spare) -> Serves>,
}

pub(crate) fn fault(name: impl Into<String>, make: impl Fn(&Spare) -> Serves + 'static) -> Fault {
    Fault {
        name: name.into(),
        make: Box::new(make),
    }
}

pub(crate) const DEPLOY: [&str; 4] = ["deploy", "--host", "spare", "--json"];
const STATUS: [&str; 4] = ["status", "--host", "spare", "--json"];
/// The phases of a deploy that restarts Airflow and take long enough to be met.
const PHASES: [&str; 7] = ["gate", "drain", "backup", "stop", "init", "start", "verify"];

/// One of each kind; the others differ in the phase only.
fn of_each_kind() -> Vec<Fault> {
    vec![
        fault("xtask killed in gate, code alone", |s| {
            change_code(s);
            struck(s, Blow::Xtask, "gate");
            Serves::New
        }),
        fault("ssh cut in gate, code alone", |s| {
            change_code(s);
            done(&struck(s, Blow::Ssh, "gate"));
            Serves::New
        }),
        fault("two deploys at once", two_at_once),
        fault("disk full while shipping", disk_full_while_shipping),
        fault(
            "disk full while copying the database",
            disk_full_while_copying,
        ),
        fault("power lost in stop", |s| lost(s, Blow::Power, "stop")),
        fault(
            "container that dies after ten seconds",
            dies_after_ten_seconds,
        ),
        fault("init that fails", init_fails),
        fault("a night in progress", a_night_in_progress),
    ]
}

fn all() -> Vec<Fault> {
    let mut all = of_each_kind();
    for phase in PHASES {
        all.push(fault(format!("xtask killed in {phase}"), move |s| {
            change_settings(s);
            struck(s, Blow::Xtask, phase);
            Serves::New
        }));
        all.push(fault(format!("script killed in {phase}"), move |s| {
            lost(s, Blow::Script, phase)
        }));
        all.push(fault(format!("power lost in {phase}"), move |s| {
            lost(s, Blow::Power, phase)
        }));
    }
    all.push(fault("network gone in start", |s| {
        change_settings(s);
        done(&struck(s, Blow::Network, "start"));
        Serves::New
    }));
    for phase in ["backup", "start"] {
        all.push(fault(format!("engine restarted in {phase}"), move |s| {
            engine_restarted(s, phase)
        }));
    }
    all.push(fault(
        "a nightly slot while all is paused",
        a_slot_in_the_pause,
    ));
    all.push(fault("container that dies once", dies_once));
    all.push(fault(
        "databases stopped before the deploy",
        databases_stopped,
    ));
    all.push(fault(
        "scheduler keeps dying before the deploy",
        keeps_dying,
    ));
    all.push(fault("rotation of secrets that fails", rotation_fails));
    for (what, blow, phase) in [
        ("power lost", Blow::Power, "passwords"),
        ("script killed", Blow::Script, "fernet"),
        ("xtask killed", Blow::Xtask, "verify"),
    ] {
        all.push(fault(
            format!("{what} in {phase} of a rotation"),
            move |s| rotation_lost(s, blow, phase),
        ));
    }
    all
}

#[test]
#[ignore = "needs the images; cargo xtask ci runs it"]
fn one_release_serves_whatever_goes_wrong() {
    strike(&serving(), &of_each_kind());
}

#[test]
#[ignore = "takes an hour; cargo xtask ci faults runs it"]
fn every_fault() {
    strike(&serving(), &all());
}

fn serving() -> Spare {
    let spare = Spare::furnished("containerd");
    spare.commit();
    let (status, first) = spare.json(&DEPLOY);
    assert_eq!((status, first["end"].as_str()), (Some(0), Some("done")));
    spare
}

/// Makes each fault on a host that serves, holds what is there afterwards against
/// what has to be, and prints the table.
pub(crate) fn strike(spare: &Spare, faults: &[Fault]) {
    let only = std::env::var("FAULT").unwrap_or_default();
    let meant = |fault: &&Fault| only.split(',').any(|part| fault.name.contains(part));
    let mut table = Vec::new();
    for fault in faults.iter().filter(meant) {
        eprintln!("── {}", fault.name);
        let begun = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| {
            let before = Stands::of(spare);
            let serves = (fault.make)(spare);
            before.held(spare, serves);
            serves
        }));
        let seconds = begun.elapsed().as_secs();
        table.push(match held {
            Ok(serves) => format!("✓ {:<42} {seconds:>4} s  {serves:?} serves", fault.name),
            Err(_) => format!("✗ {:<42} {seconds:>4} s", fault.name),
        });
        if held.is_err() {
            // The next one stands on a host that serves.
            mend(spare);
        }
    }
    eprintln!("{}", table.join("\n"));
    let wrong = table.iter().filter(|line| line.starts_with('✗')).count();
    assert_eq!(wrong, 0, "of {} faults", table.len());
}

/// A host that serves, as it has to be found again.
struct Stands {
    release: String,
    runs: Vec<String>,
}

impl Stands {
    fn of(spare: &Spare) -> Self {
        let (status, serves) = spare.json(&STATUS);
        assert_eq!(status, Some(0), "{serves}");
        Self {
            release: serves["release"]["id"].as_str().unwrap().to_owned(),
            runs: runs(spare),
        }
    }

    fn held(&self, spare: &Spare, serves: Serves) {
        settled(spare);
        let (status, now) = spare.json(&STATUS);
        assert_eq!((status, &now["healthy"]), (Some(0), &true.into()), "{now}");
        assert_eq!(now["busy"], Value::Null);
        assert_eq!(now["left_paused"], Value::Array(vec![]));
        assert_eq!(now["good"], now["release"]["id"]);
        assert_eq!(now["airflow"]["dags"][0]["paused"], false, "{now}");
        let same = now["release"]["id"] == self.release.as_str();
        assert_eq!(same, serves == Serves::Before, "{now}");
        let runs = runs(spare);
        assert!(
            self.runs.iter().all(|run| runs.contains(run)),
            "{:?} became {runs:?}",
            self.runs
        );
        let left = "ls -A /srv/dental/code/incoming; \
                    docker ps --all --quiet --filter label=com.docker.compose.oneoff=True --filter status=running";
        let left = spare.there("ubuntu", &["sh", "-c", left]);
        assert_eq!(left.stdout, "", "is left over");
    }
}

/// Every run, and how it ended.
fn runs(spare: &Spare) -> Vec<String> {
    spare.metadata("select run_id || ' ' || state from dag_run order by 1")
}

fn change_code(spare: &Spare) {
    let path = spare.tree().join("airflow/dags/etl_pipeline_dag.py");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text + "# Another line.\n").unwrap();
    spare.commit();
}

/// What no test looks at, in the host's settings; gives what it was.
fn change_settings(spare: &Spare) -> String {
    let seed = spare.setting("DEMO_SEED");
    let next = 1 + seed.parse::<u32>().unwrap();
    spare.set("DEMO_SEED", &next.to_string());
    seed
}

pub(crate) fn done(ran: &Ran) {
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

/// Until nothing holds the lock.
fn settled(spare: &Spare) {
    let wait = ["flock", "--wait", "600", "/srv/dental/lock", "true"];
    done(&spare.there("ubuntu", &wait));
}

/// A deploy that goes on by itself, and what root does there as soon as a phase of it
/// has begun; `$run` is the folder of the host's part.
pub(crate) fn begin_until(spare: &Spare, args: &[&str], phase: &str, then: &str) -> Child {
    let before = newest(spare);
    let child = begin(spare, args);
    let until = format!(
        "cd /srv/dental/deploys; n=0; \
         until run=$(ls | tail -n 1) && [ \"$run\" != '{before}' ] && \
            grep -qs '\"phase\":\"{phase}\",\"state\":\"begun\"' \"$run/journal\"; do \
            n=$((n + 1)); [ $n -lt 12000 ] || exit 1; sleep 0.02; done; {then}"
    );
    done(&spare.there("root", &["sh", "-c", &until]));
    child
}

/// A deploy that goes on by itself.
fn begin(spare: &Spare, args: &[&str]) -> Child {
    eprintln!("$ cargo xtask {} &", args.join(" "));
    spare
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn end(child: Child) -> Ran {
    let ran = Ran::from(child.wait_with_output().unwrap());
    eprint!("{}", ran.stderr);
    ran
}

/// The newest of the host's own parts.
fn newest(spare: &Spare) -> String {
    let list = spare.there("root", &["sh", "-c", "ls /srv/dental/deploys | tail -n 1"]);
    list.stdout.trim().to_owned()
}

/// A deploy that something happens to as soon as a phase has begun.
fn struck(spare: &Spare, blow: Blow, phase: &str) -> Ran {
    struck_in(spare, &DEPLOY, blow, phase)
}

fn struck_in(spare: &Spare, args: &[&str], blow: Blow, phase: &str) -> Ran {
    let mut child = begin_until(
        spare,
        args,
        phase,
        match blow {
            Blow::Xtask | Blow::Power => "true",
            Blow::Ssh => "pkill -KILL -u ubuntu -f sshd",
            Blow::Network => {
                "iptables -I INPUT -p tcp --dport 22 -j DROP; sleep 30; iptables -D INPUT 1"
            }
            Blow::Script => "kill -KILL \"-$(cat \"$run/pid\")\"",
            Blow::Engine => "pkill -TERM -x dockerd",
        },
    );
    match blow {
        Blow::Xtask => child.kill().unwrap(),
        Blow::Power => {
            docker_ok(&["restart", "--time", "0", &spare.container]);
            spare.ready();
        }
        _ => {}
    }
    end(child)
}

/// The host's part is ended from outside. What was served comes back by itself, or
/// the new release does, and the next deploy goes on from there.
fn lost(spare: &Spare, blow: Blow, phase: &str) -> Serves {
    change_settings(spare);
    let ran = struck(spare, blow, phase);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("the host ended it half-way"),
        "{}",
        ran.stderr
    );
    let (status, deployed) = spare.json(&DEPLOY);
    assert_eq!(
        (status, deployed["end"].as_str()),
        (Some(0), Some("done")),
        "{deployed}"
    );
    Serves::New
}

fn engine_restarted(spare: &Spare, phase: &str) -> Serves {
    let seed = change_settings(spare);
    let ran = struck(spare, Blow::Engine, phase);
    match ran.status {
        Some(0) => Serves::New,
        _ => {
            let told = ["what served before serves again", "nothing was changed"];
            assert!(
                told.iter().any(|told| ran.stderr.contains(told)),
                "{}",
                ran.stderr
            );
            spare.set("DEMO_SEED", &seed);
            // Its containers may still be on their way up.
            let begun = Instant::now();
            while spare.json(&STATUS).0 != Some(0) {
                assert!(begun.elapsed() < Duration::from_secs(180));
                thread::sleep(Duration::from_secs(2));
            }
            Serves::Before
        }
    }
}

fn two_at_once(spare: &Spare) -> Serves {
    change_code(spare);
    let first = begin(spare, &DEPLOY);
    let busy = "n=0; until [ -e /srv/dental/busy ]; do n=$((n + 1)); [ $n -lt 3000 ] || exit 1; sleep 0.02; done";
    done(&spare.there("root", &["sh", "-c", busy]));
    let second = spare.xtask(&DEPLOY);
    assert_eq!(second.status, Some(2), "{}", second.stderr);
    assert!(
        second.stderr.contains("the host is at work: "),
        "{}",
        second.stderr
    );
    done(&end(first));
    Serves::New
}

/// The release's folder is on a disk with room for the files that are there, and no
/// more.
fn disk_full_while_shipping(spare: &Spare) -> Serves {
    let small = "cd /srv/dental && cp -a code small && size=$(du -sk small | cut -f 1) && \
                 mount -t tmpfs -o \"size=${size}k,uid=$(id -u ubuntu)\" tmpfs code && cp -a small/. code/ && rm -r small && \
                 { dd if=/dev/zero of=code/filler bs=4k 2>/dev/null || true; } && chown ubuntu code";
    done(&spare.there("root", &["sh", "-c", small]));
    let path = spare.tree().join("etl_pipeline/etl_pipeline/big.py");
    fs::write(
        &path,
        "# A long line of no meaning, in a file that has many of them.\n".repeat(9000),
    )
    .unwrap();
    spare.commit();
    let full = spare.xtask(&DEPLOY);
    done(&spare.there("root", &["umount", "/srv/dental/code"]));
    fs::remove_file(path).unwrap();
    spare.commit();
    assert_eq!(full.status, Some(1), "{}", full.stderr);
    assert!(
        full.stderr.contains("No space left on device"),
        "{}",
        full.stderr
    );
    Serves::Before
}

fn disk_full_while_copying(spare: &Spare) -> Serves {
    let small = "install -d -o ubuntu -m 700 /srv/dental/backups && mount -t tmpfs -o \"size=16k,mode=700,uid=$(id -u ubuntu)\" tmpfs /srv/dental/backups";
    done(&spare.there("root", &["sh", "-c", small]));
    let seed = change_settings(spare);
    let full = spare.xtask(&DEPLOY);
    done(&spare.there("root", &["umount", "/srv/dental/backups"]));
    assert_eq!(full.status, Some(1), "{}", full.stderr);
    for told in ["nothing was changed", "no space left on device"] {
        assert!(full.stderr.contains(told), "{told}: {}", full.stderr);
    }
    spare.set("DEMO_SEED", &seed);
    Serves::Before
}

/// It imports, it starts, it is healthy, and then it is gone: at once, where a scheduler that is
/// only told to end takes up to seven seconds more.
fn dies_after_ten_seconds(spare: &Spare) -> Serves {
    let (path, serves) = ("docker-compose.yml", "command: [scheduler]");
    let dies = "command: [bash, -c, timeout --signal KILL 10 airflow scheduler]";
    spare.change(path, serves, dies);
    spare.commit();
    let died = spare.xtask(&DEPLOY);
    spare.change(path, dies, serves);
    spare.commit();
    reverted(&died);
    Serves::Before
}

/// As Airflow's scheduler may, once, at its start.
fn dies_once(spare: &Spare) -> Serves {
    let (path, serves) = ("docker-compose.yml", "command: [scheduler]");
    let dies = "command: [bash, -c, \"[ -e /tmp/once ] && exec airflow scheduler; : >/tmp/once; sleep 2; exit 1\"]";
    spare.change(path, serves, dies);
    spare.commit();
    let lives = spare.xtask(&DEPLOY);
    spare.change(path, dies, serves);
    spare.commit();
    done(&lives);
    Serves::New
}

/// By hand, before the deploy: it starts them.
fn databases_stopped(spare: &Spare) -> Serves {
    let stop = "docker stop $(docker ps --quiet --filter label=com.docker.compose.service=postgres \
                --filter label=com.docker.compose.project=dental-there)";
    done(&spare.there("ubuntu", &["sh", "-c", stop]));
    change_settings(spare);
    done(&spare.xtask(&DEPLOY));
    Serves::New
}

/// The engine starts it again each time; no question can be put to it. The deploy that
/// replaces it mends that.
fn keeps_dying(spare: &Spare) -> Serves {
    let kill = "export old=$(docker ps --quiet --filter label=com.docker.compose.service=airflow-scheduler)
                setsid --fork sh -c 'while pid=$(docker inspect --format {{.State.Pid}} $old); do \
                    [ $pid = 0 ] || kill -KILL $pid; sleep 0.2; done' </dev/null >/dev/null 2>&1
                n=0; until [ $(docker inspect --format {{.RestartCount}} $old) -gt 2 ]; do \
                    n=$((n + 1)); [ $n -lt 300 ] || exit 1; sleep 0.2; done";
    done(&spare.there("root", &["sh", "-c", kill]));
    change_settings(spare);
    done(&spare.xtask(&DEPLOY));
    Serves::New
}

pub(crate) fn init_fails(spare: &Spare) -> Serves {
    let failed = deployed_with_an_init_that_fails(spare);
    reverted(&failed);
    assert!(
        failed.stderr.contains("it does not end well"),
        "{}",
        failed.stderr
    );
    Serves::Before
}

pub(crate) fn deployed_with_an_init_that_fails(spare: &Spare) -> Ran {
    let path = spare.tree().join("airflow/bootstrap/bootstrap.py");
    let text = fs::read_to_string(&path).unwrap();
    let end = "    sys.exit(main())";
    assert!(text.contains(end));
    fs::write(
        &path,
        text.replace(end, "    main()\n    sys.exit(\"it does not end well\")"),
    )
    .unwrap();
    spare.commit();
    let failed = spare.xtask(&DEPLOY);
    fs::write(&path, text).unwrap();
    spare.commit();
    failed
}

pub(crate) fn reverted(ran: &Ran) {
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("it failed, and what served before serves again:"),
        "{}",
        ran.stderr
    );
}

/// A run is active: it is told, waited for, and ends well, by one version.
fn a_night_in_progress(spare: &Spare) -> Serves {
    let start = "docker exec $(docker ps --quiet --filter label=com.docker.compose.service=airflow-scheduler) \
                 airflow dags trigger etl_pipeline --conf '{\"ignore_business_hours\": true}'";
    done(&spare.there("ubuntu", &["sh", "-c", start]));
    change_settings(spare);
    let refused = spare.xtask(&DEPLOY);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("of etl_pipeline is active; nothing was changed\nhint: cargo xtask deploy --host spare --wait-for-run\n"),
        "{}",
        refused.stderr
    );
    done(&spare.xtask(&[&DEPLOY[..], &["--wait-for-run", "20"]].concat()));
    let last = runs(spare).pop().unwrap();
    assert!(
        last.starts_with("manual__") && last.ends_with(" success"),
        "{last}"
    );
    Serves::New
}

/// It comes due between drain and resume, and runs as soon as it may.
fn a_slot_in_the_pause(spare: &Spare) -> Serves {
    let clock = |format: &str| {
        let said = spare.there(
            "ubuntu",
            &["sh", "-c", &format!("TZ=America/Chicago date {format}")],
        );
        said.stdout.trim().to_owned()
    };
    let kept = ["ETL_PIPELINE_SCHEDULE", "ETL_PIPELINE_START_DATE"]
        .map(|name| (name, spare.setting(name)));
    let permit = |value: &str| {
        spare.metadata(&format!(
            "delete from variable where key = 'ignore_business_hours'; \
             insert into variable (key, val, is_encrypted) select 'ignore_business_hours', '{value}', false"
        ))
    };
    permit("true");
    // Far enough for the deploy that brings it, and for the next one to come to its pause.
    let slot: u64 = clock("-d '+5 min' '+%s'").parse::<u64>().unwrap() / 60 * 60;
    let cron = clock(&format!("-d @{slot} \"+'%-M %-H * * *'\""));
    spare.set("ETL_PIPELINE_SCHEDULE", &cron);
    // One interval ends at the slot, and none before it.
    spare.set(
        "ETL_PIPELINE_START_DATE",
        &clock(&format!("-d @{} +%FT%T%:z", slot - 86_400)),
    );
    done(&spare.xtask(&DEPLOY));
    change_settings(spare);
    let hold = format!(
        "kill -STOP \"-$(cat \"$run/pid\")\"; [ $(date +%s) -lt {slot} ] || exit 1; \
         while [ $(date +%s) -lt $(({slot} + 5)) ]; do sleep 1; done; kill -CONT \"-$(cat \"$run/pid\")\""
    );
    done(&end(begin_until(spare, &DEPLOY, "stop", &hold)));
    let begun = Instant::now();
    let night = loop {
        let night = runs(spare)
            .into_iter()
            .find(|run| run.starts_with("scheduled__"));
        let night = night.unwrap_or_default();
        if night.ends_with(" success") || night.ends_with(" failed") {
            break night;
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "{night}");
        thread::sleep(Duration::from_secs(2));
    };
    assert!(night.ends_with(" success"), "{night}");
    for (name, value) in kept {
        spare.set(name, &value);
    }
    permit("false");
    done(&spare.xtask(&DEPLOY));
    Serves::New
}

const ROTATE: [&str; 5] = ["env", "rotate", "--host", "spare", "--json"];

/// The new settings are nobody's; neither here nor there.
fn rotation_fails(spare: &Spare) -> Serves {
    let before = fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    let gone = "rm /srv/dental/code/current/airflow/bootstrap/bootstrap.py";
    let failed = end(begin_until(spare, &ROTATE, "init", gone));
    reverted(&failed);
    let after = fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    assert_eq!(before, after);
    assert!(!spare.tree().join(".env.spare.next").exists());
    Serves::Before
}

/// Nothing else begins before it has come to its end, by the values that it began
/// with.
fn rotation_lost(spare: &Spare, blow: Blow, phase: &str) -> Serves {
    let next = || fs::read_to_string(spare.tree().join(".env.spare.next")).unwrap();
    let lost = struck_in(spare, &ROTATE, blow, phase);
    if let Some(status) = lost.status {
        assert_eq!(status, 1, "{}", lost.stderr);
        let told = "go on with it: cargo xtask env rotate --host spare";
        assert!(lost.stderr.contains(told), "{}", lost.stderr);
    }
    let begun = next();
    settled(spare);
    let refused = spare.xtask(&DEPLOY);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("a rotation of its secrets was cut short"),
        "{}",
        refused.stderr
    );
    let schedule = spare.setting("ETL_PIPELINE_SCHEDULE");
    spare.set("ETL_PIPELINE_SCHEDULE", "'1 22 * * *'");
    let edited = spare.xtask(&ROTATE);
    let told =
        ".env.spare was edited since the rotation was cut short: ETL_PIPELINE_SCHEDULE\nhint: ";
    assert!(edited.stderr.contains(told), "{}", edited.stderr);
    spare.set("ETL_PIPELINE_SCHEDULE", &schedule);
    let (status, rotated) = spare.json(&ROTATE);
    assert_eq!(
        (status, rotated["end"].as_str()),
        (Some(0), Some("done")),
        "{rotated}"
    );
    let serves = fs::read_to_string(spare.tree().join(".env.spare")).unwrap();
    assert_eq!(serves, begun);
    Serves::New
}

/// Makes a host serve that a fault has left otherwise.
fn mend(spare: &Spare) {
    let undo = "umount /srv/dental/code; umount /srv/dental/backups; iptables -F INPUT";
    spare.there("root", &["sh", "-c", undo]);
    let clean = Command::new("git")
        .args(["stash", "--include-untracked", "--quiet"])
        .current_dir(spare.tree())
        .status();
    assert!(clean.unwrap().success());
    settled(spare);
    thread::sleep(Duration::from_secs(1));
    if spare.tree().join(".env.spare.next").exists() {
        spare.xtask(&ROTATE);
    }
    spare.xtask(&[&DEPLOY[..], &["--now"]].concat());
}
