//! `lock` as a person runs it, with a registry and a resolver that say what the
//! test says.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod bench;

use std::fs;

use bench::{BUILTIN, Bench, Seen, without_durations};

const AIRFLOW: &str = "apache/airflow:2.7.1-python3.11";
const BASES: [&str; 3] = [AIRFLOW, "postgres:15", "mariadb:10.11"];
const OUT_OF_REACH: &str = "ERROR: failed to do request: dial tcp: lookup registry: no such host";
/// What the steps of the requirements say, without how long they took.
const STEPS: &str = "✓ uv, by its own lock  <time>\n\
                     ✓ release: Airflow 2.7.1's constraints, as of 2023-09-12  <time>\n\
                     ✓ airflow: the image's packages, dbt among them, under the release's \
                     constraints, as of <until>  <time>\n\
                     ✓ dev: what tests and linters need, under the image's packages, as of \
                     <until>  <time>\n\
                     ✓ installer: what installs the packages, as of <until>  <time>\n\
                     ✓ audit: what looks for advisories, as of <until>  <time>\n";

/// `sha256:` and 64 times that digit.
fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn short(digit: char) -> String {
    digest(digit)[..19].to_owned()
}

fn steps(until: &str) -> String {
    STEPS.replace("<until>", until)
}

/// The day that `deploy.toml` has.
fn until(bench: &Bench) -> String {
    let text = deploy(bench);
    let (_, after) = text.split_once("until = \"").unwrap();
    after[..10].to_owned()
}

fn deploy(bench: &Bench) -> String {
    fs::read_to_string(bench.tree().join("deploy.toml")).unwrap()
}

/// An engine that pulled the bases, the Airflow one by digest `a`, and runs a
/// resolver in containers; `cases` are its registry. Where `moves`, the resolver
/// has a later ruff; else it has it when it is asked for upgrades.
fn bench(cases: &str, moves: bool) -> Bench {
    let mut bench = Bench::healthy();
    let image = |name: &str, digest: &str| {
        let (repository, _) = name.split_once(':').unwrap();
        format!(
            r#"{{"Id":"sha256:{repository}","RepoTags":["{name}"],"RepoDigests":["{repository}@{digest}"],"Os":"linux","Architecture":"amd64","Config":null}}"#
        )
    };
    let airflow = image(AIRFLOW, &digest('a'));
    let postgres = image("postgres:15", &digest('b'));
    let moves = if moves { "1" } else { "" };
    let run = format!(
        "'image inspect') shift 2; all=; for name; do case \"$name\" in\n\
         apache/airflow:*) all=\"$all${{all:+,}}\"'{airflow}' ;;\n\
         postgres:*) all=\"$all${{all:+,}}\"'{postgres}' ;;\n\
         *) echo 'Error: No such image' >&2 ;; esac; done; printf '[%s]\\n' \"$all\" ;;\n\
         'run --rm') folder=; out=; moves={moves}; last=\n\
         for word; do case \"$last $word\" in\n\
         '--volume '*:/lock) folder=${{word%:/lock}} ;;\n\
         '--output-file '*) out=$word ;;\n\
         *' --upgrade'|'--upgrade-package ruff') moves=1 ;;\n\
         esac; last=$word; done\n\
         if [ \"$out$moves\" = requirements-dev.lock1 ]; then all=\n\
         while IFS= read -r line; do\n\
         case \"$line\" in ruff==*) line='ruff==99.1 \\' ;; esac\n\
         all=\"$all$line\n\"; done <\"$folder/$out\"\n\
         printf %s \"$all\" >\"$folder/$out\"; fi ;;\n"
    );
    bench.docker(
        "one",
        BUILTIN,
        &format!("{cases}\n{run}\n{}", bench::engine_up()),
    );
    bench
}

/// buildx, and a registry with these digests for the bases, in their order.
fn buildx(digits: [char; 3]) -> String {
    let each = BASES.iter().zip(digits);
    let each = each.map(|(name, digit)| format!("{name}) echo {} ;;\n", digest(digit)));
    format!(
        "'buildx version') echo github.com/docker/buildx v0.12.1 ;;\n\
         'buildx imagetools') case \"$4\" in\n{}*) echo not found >&2; exit 1 ;; esac ;;",
        each.collect::<String>()
    )
}

/// buildx, and a registry that answers everything so.
fn buildx_fails(said: &str) -> String {
    format!(
        "'buildx version') echo github.com/docker/buildx v0.12.1 ;;\n\
         'buildx imagetools') echo '{said}' >&2; exit 1 ;;"
    )
}

fn pinned(text: &str, name: &str, digit: char) -> String {
    let before = format!("\"{name}\"");
    assert!(text.contains(&before), "{name}");
    text.replace(&before, &format!("\"{name}@{}\"", digest(digit)))
}

fn pin(bench: &Bench, name: &str, digit: char) {
    let text = pinned(&deploy(bench), name, digit);
    fs::write(bench.tree().join("deploy.toml"), text).unwrap();
}

fn run(bench: &Bench, args: &[&str]) -> Seen {
    let seen = bench.run(args);
    Seen {
        stderr: without_durations(&seen.stderr),
        ..seen
    }
}

fn said(stdout: &str, stderr: String, status: i32) -> Seen {
    Seen {
        stdout: stdout.to_owned(),
        stderr,
        status,
    }
}

/// The table of the resolver's one later version.
fn table(bench: &Bench) -> String {
    let lock = fs::read_to_string(bench.tree().join("requirements-dev.lock")).unwrap();
    let (_, version) = lock.split_once("\nruff==").unwrap();
    let (version, _) = version.split_once(' ').unwrap();
    let width = version.len();
    format!(
        "package  {:<width$}  to    lock\nruff     {version}  99.1  requirements-dev.lock\n",
        "from"
    )
}

fn runs(bench: &Bench) -> usize {
    let calls = bench.calls();
    calls
        .lines()
        .filter(|c| c.starts_with("docker run"))
        .count()
}

#[test]
fn digests_are_written_in_place_and_the_image_stays_what_it_is() {
    let bench = bench(&buildx(['a', 'b', 'c']), false);
    let (before, hash) = (deploy(&bench), bench.run(&["hash"]));
    assert_eq!(hash.status, 0);
    let is = format!(
        "✓ {AIRFLOW} is {}\n✓ postgres:15 is {}\n✓ mariadb:10.11 is {}\n{}",
        short('a'),
        short('b'),
        short('c'),
        steps(&until(&bench))
    );
    let would = said("", format!("{is}would write deploy.toml\n"), 0);
    assert_eq!(run(&bench, &["lock", "--dry-run"]), would);
    assert_eq!(deploy(&bench), before);
    let wrote = said("", format!("{is}✓ wrote deploy.toml\n"), 0);
    assert_eq!(run(&bench, &["lock"]), wrote);
    let expected = [('a', 0), ('b', 1), ('c', 2)]
        .iter()
        .fold(before, |text, (digit, n)| pinned(&text, BASES[*n], *digit));
    assert_eq!(deploy(&bench), expected);
    assert_eq!(bench.run(&["hash"]), hash, "it is the base that was used");
    let calls = bench.calls();
    assert!(!calls.contains("docker pull"), "{calls}");
    let call = "docker buildx imagetools inspect postgres:15 --format {{.Manifest.Digest}}\n";
    assert!(calls.contains(call), "{calls}");
    let label = bench.run(&["build", "--dry-run"]).stderr;
    for part in [
        format!("--build-arg BASE_IMAGE={AIRFLOW}@{} ", digest('a')),
        format!("--label org.opencontainers.image.base.name={AIRFLOW} "),
        format!(
            "--label org.opencontainers.image.base.digest={} ",
            digest('a')
        ),
    ] {
        assert!(label.contains(&part), "{part}: {label}");
    }
    let kept = said("", format!("{is}✓ every lock is what it would be\n"), 0);
    assert_eq!(run(&bench, &["lock"]), kept);
    assert_eq!(run(&bench, &["lock", "--check"]), kept);
    assert_eq!(deploy(&bench), expected);
}

#[test]
fn a_tag_that_moved_is_followed_by_lock_and_told_by_check() {
    let bench = bench(&buildx(['a', 'f', 'c']), false);
    pin(&bench, AIRFLOW, 'a');
    pin(&bench, "postgres:15", 'b');
    let before = deploy(&bench);
    let steps = steps(&until(&bench));
    let checked = format!(
        "✓ {AIRFLOW} is {}\n\
         ! postgres:15 moved from {} to {}; what is written down is used. To follow it: cargo \
         xtask lock\n\
         ! mariadb:10.11 is not pinned; it is {} now. To pin it: cargo xtask lock\n\
         {steps}✓ every lock is what it would be\n",
        short('a'),
        short('b'),
        short('f'),
        short('c')
    );
    assert_eq!(run(&bench, &["lock", "--check"]), said("", checked, 0));
    assert_eq!(deploy(&bench), before);
    let followed = run(&bench, &["lock"]);
    let moved = format!(
        "✓ postgres:15 moved from {} to {}\n",
        short('b'),
        short('f')
    );
    assert!(followed.stderr.contains(&moved), "{}", followed.stderr);
    let after = before.replace(&digest('b'), &digest('f'));
    assert_eq!(deploy(&bench), pinned(&after, "mariadb:10.11", 'c'));
}

#[test]
fn where_no_registry_answers_nothing_is_made_up() {
    let bench = bench(&buildx_fails(OUT_OF_REACH), false);
    pin(&bench, AIRFLOW, 'a');
    let before = deploy(&bench);
    let expected = format!(
        "! the image registry cannot be reached (no such host); {AIRFLOW} stays at {}, \
         postgres:15 is unresolved, mariadb:10.11 is unresolved\n\
         {}✓ every lock is what it would be\n",
        short('a'),
        steps(&until(&bench))
    );
    for args in [&["lock"][..], &["lock", "--check"]] {
        bench.forget();
        assert_eq!(run(&bench, args), said("", expected.clone(), 0));
        assert_eq!(deploy(&bench), before);
        assert_eq!(
            bench.calls().matches("imagetools").count(),
            1,
            "one registry"
        );
    }
}

#[test]
fn what_a_registry_refuses_stops_lock_and_not_a_check() {
    let bench = bench(&buildx_fails("ERROR: toomanyrequests: slow down"), false);
    let before = deploy(&bench);
    let refused = run(&bench, &["lock"]);
    let expected = format!(
        "error: failed to ask the registry for the digest of {AIRFLOW}: docker exited with \
         status 1\n  | ERROR: toomanyrequests: slow down\n\
         hint: try it by hand: <root>/one/docker buildx imagetools inspect {AIRFLOW} --format \
         '{{{{.Manifest.Digest}}}}'\n"
    );
    assert_eq!(refused, said("", expected, 1));
    assert_eq!(runs(&bench), 0);
    // "Not there" may also mean "not for you".
    for words in [
        "airflow: not found",
        "unauthorized: authentication required",
    ] {
        let bench = self::bench(&buildx_fails(&format!("ERROR: {words}")), false);
        let refused = run(&bench, &["lock"]);
        let hint = "\nhint: see whether the tag is right, and whether the registry wants a login: \
                    docker login\n      try it by hand: ";
        assert!(refused.stderr.contains(hint), "{}", refused.stderr);
    }
    let checked = run(&bench, &["lock", "--check"]);
    assert_eq!(checked.status, 0);
    let warned = format!("! {AIRFLOW} is unresolved: failed to ask the registry");
    assert!(checked.stderr.contains(&warned), "{}", checked.stderr);
    assert_eq!(deploy(&bench), before);
}

/// `manifest inspect --verbose` of a docker without buildx: one platform for
/// Airflow, an index for the others, whose whole digest nothing tells.
fn manifests() -> String {
    let one = |digit: char| {
        let digest = digest(digit);
        format!(
            r#"{{"Ref":"r","Descriptor":{{"digest":"{digest}","platform":{{"architecture":"amd64","os":"linux"}}}}}}"#
        )
    };
    let (airflow, index, other) = (one('1'), one('2'), one('3'));
    let engines = digest('b');
    format!(
        "'buildx version') echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1 ;;\n\
         'manifest inspect') case \"$4\" in\n\
         {AIRFLOW}) printf '%s\\n' '{airflow}' ;;\n\
         postgres:15|postgres@{engines}) printf '%s\\n' '[{index},{other}]' ;;\n\
         mariadb:10.11) printf '%s\\n' '[{other},{index}]' ;;\n\
         *) echo \"no such manifest: $4\" >&2; exit 1 ;; esac ;;"
    )
}

#[test]
fn without_buildx_the_digest_of_an_index_is_one_that_the_registry_confirms_or_none() {
    let bench = bench(&manifests(), false);
    let before = deploy(&bench);
    let seen = run(&bench, &["lock", "--dry-run"]);
    let expected = format!(
        "✓ {AIRFLOW} is {}\n\
         ✓ postgres:15 is {}\n\
         ! mariadb:10.11 is unresolved: without buildx docker tells the digests of its platforms \
         alone, as linux/amd64: {}. To have it told: docker pull mariadb:10.11, or install \
         docker's buildx plugin\n\
         {}would write deploy.toml\n",
        short('1'),
        short('b'),
        digest('3'),
        steps(&until(&bench))
    );
    assert_eq!(seen, said("", expected, 0));
    assert_eq!(deploy(&bench), before);
    let asked = format!(
        "docker manifest inspect --verbose postgres@{}\n",
        digest('b')
    );
    assert!(bench.calls().contains(&asked), "{}", bench.calls());
    assert!(
        bench
            .environment("docker manifest inspect")
            .contains("export DOCKER_CLI_EXPERIMENTAL='enabled'\n")
    );
}

#[test]
fn a_check_fails_where_a_lock_would_change_and_says_in_what() {
    let bench = bench(&buildx_fails(OUT_OF_REACH), true);
    let lock = bench.tree().join("requirements-dev.lock");
    let before = fs::read_to_string(&lock).unwrap();
    let checked = run(&bench, &["lock", "--check"]);
    assert_eq!((checked.stdout, checked.status), (table(&bench), 2));
    let end = "error: found outdated locks: requirements-dev.lock\nhint: cargo xtask lock\n";
    assert!(checked.stderr.ends_with(end), "{}", checked.stderr);
    assert_eq!(fs::read_to_string(&lock).unwrap(), before);
    let (table, day) = (table(&bench), until(&bench));
    let locked = run(&bench, &["lock"]);
    assert_eq!((locked.stdout, locked.status), (table, 0));
    assert!(locked.stderr.ends_with("✓ wrote requirements-dev.lock\n"));
    assert!(
        fs::read_to_string(&lock)
            .unwrap()
            .contains("\nruff==99.1 \\\n")
    );
    assert_eq!(until(&bench), day, "only an upgrade looks further");
}

#[test]
fn an_upgrade_shows_what_moves_and_looks_up_to_today() {
    let bench = bench(&buildx_fails(OUT_OF_REACH), false);
    let lock = bench.tree().join("requirements-dev.lock");
    let text = deploy(&bench).replace(&until(&bench), "2024-01-31");
    fs::write(bench.tree().join("deploy.toml"), &text).unwrap();
    let before = fs::read_to_string(&lock).unwrap();
    let table = table(&bench);
    for args in [
        &["lock", "--upgrade", "--dry-run"][..],
        &["lock", "--upgrade", "Ruff", "--dry-run"],
    ] {
        let seen = run(&bench, args);
        assert_eq!((seen.stdout.as_str(), seen.status), (table.as_str(), 0));
        let end = "would write requirements-dev.lock, deploy.toml\n";
        assert!(seen.stderr.ends_with(end), "{}", seen.stderr);
        assert_eq!(fs::read_to_string(&lock).unwrap(), before);
        assert_eq!(deploy(&bench), text);
    }
    bench.forget();
    let seen = run(&bench, &["lock", "--upgrade", "Ruff", "flask"]);
    assert_eq!((seen.stdout, seen.status), (table, 0));
    let start = "! flask stays: the constraints of Airflow's release decide it \
                 (bases/airflow/requirements.lock)\n✓ uv";
    assert!(seen.stderr.starts_with(start), "{}", seen.stderr);
    let today = jiff::Timestamp::now().to_string()[..10].to_owned();
    assert_eq!(deploy(&bench), text.replace("2024-01-31", &today));
    let calls = bench.calls();
    assert!(!calls.contains("buildx"), "no base is meant: {calls}");
    for call in calls.lines().filter(|call| call.contains("pip compile")) {
        let release = call.contains("--output-file bases/airflow/requirements.lock");
        let (limit, moves) = if release {
            ("2023-09-12", "")
        } else {
            (today.as_str(), " --upgrade-package ruff")
        };
        let expected = format!(" --exclude-newer {limit}{moves} --");
        assert!(call.contains(&expected), "{call}");
        assert!(!call.contains("flask"), "{call}");
    }
    let again = run(&bench, &["lock", "--upgrade", "ruff"]);
    assert_eq!(
        (again.stdout.as_str(), again.status),
        ("nothing to upgrade\n", 0)
    );
}

#[test]
fn a_package_that_no_lock_has_is_an_error_with_the_names_that_are_near() {
    let bench = bench(&buildx_fails(OUT_OF_REACH), true);
    let seen = bench.run(&["lock", "--upgrade", "dbt-cor"]);
    let expected = "error: failed to find dbt-cor in any lock\nhint: did you mean dbt-core";
    assert!(seen.stderr.starts_with(expected), "{}", seen.stderr);
    assert_eq!((seen.stdout.as_str(), seen.status), ("", 2));
    let seen = bench.run(&["lock", "--upgrade", "zzzz"]);
    let expected = "error: failed to find zzzz in any lock\n\
                    hint: a new package is named in a requirements-*.txt, then: cargo xtask lock\n";
    assert_eq!(seen, said("", expected.to_owned(), 2));
    let seen = bench.run(&["lock", "--upgrade", "apache-airflow"]);
    let warning = "! apache-airflow stays: the constraints of Airflow's release decide it \
                   (bases/airflow/requirements.lock)\n";
    assert_eq!(seen, said("nothing to upgrade\n", warning.to_owned(), 0));
    assert_eq!(runs(&bench), 0);
}
