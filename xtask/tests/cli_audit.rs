//! `audit` as a person runs it, with tools that find what the test says.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod bench;

use std::fs;

use bench::{BUILTIN, Bench, Seen, engine_up, seen, without_durations};

const AIRFLOW: &str = "apache/airflow:2.7.1-python3.11";
const PYTHON: &str = "python: the packages of requirements-airflow.lock, asked of pypi  <time>\n";
const CRATES: &str = "cargo: the crates of Cargo.lock  <time>\n";
const IDNA: &str = r#"{"name": "idna", "version": "3.4", "vulns": [{"id": "PYSEC-2024-60",
    "fix_versions": ["3.7"], "aliases": ["CVE-2024-3651"], "description": "slow"}]}"#;
const IDNA_WELL: &str = r#"{"name": "idna", "version": "3.4", "vulns": []}"#;
const SIX: &str = r#"{"name": "six", "version": "1.16.0", "vulns": []}"#;
const REFUSED: &str = "hint: read each; then cargo xtask lock --upgrade PACKAGE, or cargo update \
                       PACKAGE,\n      or an entry in audit.toml that says until when it may stay, \
                       and why\n";
const OTHER: &str = "hint: this machine has to reach the service over HTTPS; the other one may \
                     answer: cargo xtask audit --service osv\n";

/// What pip-audit prints, and its status.
fn python(dependencies: &[&str]) -> String {
    let found = dependencies.iter().any(|one| one.contains("PYSEC"));
    format!(
        "printf '%s\\n' '{{\"dependencies\": [{}], \"fixes\": []}}'; exit {}",
        dependencies.join(","),
        u8::from(found)
    )
}

/// What cargo-audit prints, and its status; `found` of the crate tar.
fn crates(found: &[&str]) -> String {
    let hit = |id: &&str| {
        format!(
            r#"{{"advisory": {{"id": "{id}", "title": "links", "aliases": []}},
            "versions": {{"patched": [">=0.4.5"], "unaffected": []}},
            "package": {{"name": "tar", "version": "0.4.4"}}}}"#
        )
    };
    let list: Vec<String> = found.iter().map(hit).collect();
    format!(
        r#"printf '%s\n' '{{"database": {{"advisory-count": 900}},
        "lockfile": {{"dependency-count": 7}}, "settings": {{"ignore": [], "severity": null,
        "target_arch": [], "target_os": []}}, "vulnerabilities": {{"list": [{}]}},
        "warnings": {{}}}}'; exit {}"#,
        list.join(","),
        u8::from(!found.is_empty())
    )
}

/// An engine that has the base and runs pip-audit so; a lock of two packages, and
/// nothing allowed.
fn bench(pip_audit: &str) -> Bench {
    let mut bench = Bench::healthy();
    let image = format!(
        r#"[{{"Id":"sha256:a","RepoTags":["{AIRFLOW}"],"RepoDigests":[],"Os":"linux","Architecture":"amd64","Config":null}}]"#
    );
    let cases = format!(
        "'image inspect') printf '%s\\n' '{image}' ;;\n\
         'run --rm') case \"$*\" in *' -m pip_audit '*) {pip_audit} ;; esac ;;\n{}",
        engine_up()
    );
    bench.docker("one", BUILTIN, &cases);
    let tree = bench.tree();
    let lock = "idna==3.4 \\\n    --hash=sha256:1\nsix==1.16.0 \\\n    --hash=sha256:2\n";
    fs::write(tree.join("requirements-airflow.lock"), lock).unwrap();
    allow(&bench, &[]);
    bench
}

/// The same, with cargo-audit.
fn both(pip_audit: &str, cargo_audit: &str) -> Bench {
    let mut bench = bench(pip_audit);
    bench.program("one", "cargo-audit", cargo_audit);
    bench
}

/// Id, package, last day.
fn allow(bench: &Bench, entries: &[(&str, &str, &str)]) {
    let one = |(id, package, until): &(&str, &str, &str)| {
        format!(
            "[[allow]]\nid = \"{id}\"\npackage = \"{package}\"\nuntil = \"{until}\"\n\
             reaches = true\nreason = \"slow, no more\"\n"
        )
    };
    let text: String = entries.iter().map(one).collect();
    fs::write(bench.tree().join("audit.toml"), text).unwrap();
}

fn run(bench: &Bench, args: &[&str]) -> Seen {
    let seen = bench.run(args);
    Seen {
        stderr: without_durations(&seen.stderr),
        ..seen
    }
}

fn table(rows: &str) -> String {
    format!("package  version  advisory       fixed in  reaches  verdict\n{rows}")
}

#[test]
fn a_report_that_cannot_be_read_is_told_with_its_maker() {
    for (bench, error, hint) in [
        (
            both("echo no", &crates(&[])),
            "failed to read pip-audit's report",
            "cargo xtask audit -v shows the command that wrote it",
        ),
        (
            both(&python(&[IDNA_WELL, SIX]), "echo no"),
            "failed to read cargo-audit's report",
            "cargo install cargo-audit --locked brings the current one",
        ),
    ] {
        let ran = run(&bench, &["audit"]);
        assert!(ran.stderr.contains(error), "{}", ran.stderr);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
        assert_eq!(ran.status, 1);
    }
}

#[test]
fn what_is_allowed_passes_and_the_tools_are_called_so() {
    let bench = both(&python(&[IDNA, SIX]), &crates(&[]));
    allow(&bench, &[("CVE-2024-3651", "Idna", "9999-12-31")]);
    let done = "✓ 9 packages looked at; 1 advisory, which is allowed\n";
    let rows = "idna     3.4      PYSEC-2024-60  3.7       yes      allowed until 9999-12-31\n";
    let expected = Seen {
        stdout: table(rows),
        stderr: format!("✓ {PYTHON}✓ {CRATES}{done}"),
        status: 0,
    };
    assert_eq!(run(&bench, &["audit"]), expected);
    let calls = bench.calls();
    let container = format!(
        "docker run --rm --volume {}/.cache/audit:/lock --workdir /lock --user {}:0 --entrypoint \
         python --env PIP_USER=false --env HOME=/tmp",
        bench.tree().display(),
        rustix::process::getuid().as_raw()
    );
    for call in [
        format!(
            "{container} {AIRFLOW} -m pip install --quiet --disable-pip-version-check \
             --no-cache-dir --no-deps --only-binary=:all: --require-hashes --target \
             /lock/pip-audit -r requirements-audit.lock\n"
        ),
        format!(
            "{container} --env PYTHONPATH=/lock/pip-audit {AIRFLOW} -m pip_audit --requirement \
             requirements-airflow.lock --disable-pip --require-hashes --vulnerability-service pypi \
             --timeout 30 --format json --progress-spinner off\n"
        ),
        "cargo-audit audit --json --no-yanked --file Cargo.lock\n".to_owned(),
    ] {
        assert!(calls.contains(&call), "{call} in {calls}");
    }
    let told = run(&bench, &["audit", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let finding = serde_json::json!({
        "package": "idna", "version": "3.4", "id": "PYSEC-2024-60", "aliases": ["CVE-2024-3651"],
        "fixed_in": ["3.7"], "says": "slow", "verdict": "allowed", "until": "9999-12-31",
        "reaches": true, "reason": "slow, no more",
    });
    let expected = serde_json::json!({
        "packages": 9, "missed": [], "failures": [], "findings": [finding], "unused": [],
    });
    assert_eq!(told, expected);
}

#[test]
fn where_nothing_is_found_nothing_is_printed() {
    let bench = both(&python(&[IDNA_WELL, SIX]), &crates(&[]));
    let expected = format!("✓ {PYTHON}✓ {CRATES}✓ 9 packages looked at; no advisory\n");
    assert_eq!(run(&bench, &["audit"]), seen(expected, 0));
}

#[test]
fn a_finding_that_no_entry_names_or_whose_day_has_passed_fails() {
    let bench = both(&python(&[IDNA, SIX]), &crates(&["RUSTSEC-2026-1"]));
    allow(&bench, &[("PYSEC-2024-60", "idna", "2026-01-31")]);
    let rows = "idna     3.4      PYSEC-2024-60   3.7       yes      expired on 2026-01-31\n\
                tar      0.4.4    RUSTSEC-2026-1  >=0.4.5   –        not allowed\n";
    let expected = Seen {
        stdout: format!("package  version  advisory        fixed in  reaches  verdict\n{rows}"),
        stderr: format!(
            "✓ {PYTHON}✓ {CRATES}error: found advisories that may not stay, not in audit.toml: \
             RUSTSEC-2026-1; past the day in audit.toml: PYSEC-2024-60\n{REFUSED}"
        ),
        status: 1,
    };
    assert_eq!(run(&bench, &["audit"]), expected);
}

#[test]
fn an_entry_for_another_package_allows_nothing_and_is_to_be_removed() {
    let bench = both(&python(&[IDNA_WELL, SIX]), &crates(&[]));
    allow(&bench, &[("CVE-2024-3651", "six", "9999-12-31")]);
    let expected = format!(
        "✓ {PYTHON}✓ {CRATES}! CVE-2024-3651 for six matches nothing any more: remove it from \
         audit.toml\n✓ 9 packages looked at; no advisory\n"
    );
    assert_eq!(run(&bench, &["audit"]), seen(expected, 0));
    // Half an audit does not know what the entry may be about.
    let half = format!("✓ {CRATES}✓ 7 packages looked at; no advisory\n");
    assert_eq!(run(&bench, &["audit", "--cargo"]), seen(half, 0));
}

#[test]
fn a_package_that_was_not_looked_at_is_a_failure_whatever_pip_audit_says_of_it() {
    let skipped = |name: &str| {
        format!(r#"{{"name": "{name}", "skip_reason": "Dependency not found: {name}"}}"#)
    };
    let all = both(&python(&[&skipped("idna"), &skipped("six")]), &crates(&[]));
    allow(&all, &[("CVE-2024-3651", "idna", "9999-12-31")]);
    let expected = format!(
        "✗ {PYTHON}✓ {CRATES}error: failed to audit 2 of 2 packages: idna, six\n  | Dependency not \
         found: idna\n{OTHER}"
    );
    assert_eq!(run(&all, &["audit"]), seen(expected, 1));
    let told = run(&all, &["audit", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let missed = |name: &str| serde_json::json!({"package": name, "why": format!("Dependency not found: {name}")});
    let expected = serde_json::json!({
        "packages": 9, "missed": [missed("idna"), missed("six")], "findings": [], "unused": [],
        "failures": ["failed to audit 2 of 2 packages: idna, six\n  | Dependency not found: idna"],
    });
    assert_eq!(told, expected);
    let untold = both(&python(&[SIX]), &crates(&[]));
    let expected = format!(
        "✗ {PYTHON}error: failed to audit 1 of 2 packages: idna\n  | pip-audit's report does not \
         name it\n{OTHER}"
    );
    assert_eq!(run(&untold, &["audit", "--python"]), seen(expected, 1));
}

#[test]
fn services_that_cannot_be_reached_fail_both_halves_in_their_own_words() {
    let bench = both(
        "echo 'Traceback (most recent call last):' >&2; echo ' File x' >&2; \
         echo 'ConnectionError: no such host' >&2; exit 1",
        "echo \"error: couldn't fetch advisory database: no such host\" >&2; exit 1",
    );
    allow(&bench, &[("CVE-2024-3651", "idna", "9999-12-31")]);
    let expected = format!(
        "✗ {}✗ {CRATES}error: failed to ask for advisories about the Python packages: docker \
         exited with status 1\n  | ConnectionError: no such host\n{}\
         error: failed to ask for advisories about the crates: cargo-audit exited with status 1\n  \
         | error: couldn't fetch advisory database: no such host\n\
         hint: it fetches its database by git; try it by hand: cargo audit\n",
        PYTHON.replace("pypi", "osv"),
        OTHER.replace("osv", "pypi")
    );
    assert_eq!(
        run(&bench, &["audit", "--service", "osv"]),
        seen(expected, 1)
    );
    assert!(bench.calls().contains(" --vulnerability-service osv "));
}

#[test]
fn without_cargo_audit_the_command_that_brings_it_is_told_before_anything_runs() {
    let bench = bench(&python(&[IDNA_WELL, SIX]));
    let expected = "error: failed to find cargo-audit on PATH\n\
                    hint: cargo install cargo-audit --locked\n";
    for args in [&["audit"][..], &["audit", "--cargo"]] {
        assert_eq!(run(&bench, args), seen(expected.to_owned(), 2));
    }
    assert_eq!(bench.calls(), "");
    let half = format!("✓ {PYTHON}✓ 2 packages looked at; no advisory\n");
    assert_eq!(run(&bench, &["audit", "--python"]), seen(half, 0));
}

#[test]
fn a_list_that_cannot_be_read_allows_nothing() {
    let bench = both(&python(&[IDNA_WELL, SIX]), &crates(&[]));
    let path = bench.tree().join("audit.toml");
    fs::write(&path, "[[allow]]\nid = \"CVE-1\"\npackges = \"idna\"\n").unwrap();
    let failed = run(&bench, &["audit"]);
    let said = "error: failed to read audit.toml: unknown field `packges`";
    assert!(failed.stderr.starts_with(said), "{}", failed.stderr);
    assert_eq!(failed.status, 2);
    fs::remove_file(&path).unwrap();
    let expected = "error: failed to read <root>/tree/audit.toml: No such file or directory (os \
                    error 2)\nhint: git checkout audit.toml\n";
    assert_eq!(run(&bench, &["audit"]), seen(expected.to_owned(), 2));
    assert_eq!(bench.calls(), "");
}

#[test]
fn a_dry_run_shows_the_steps_and_asks_nobody() {
    let bench = both(&python(&[IDNA, SIX]), &crates(&[]));
    let told = run(&bench, &["audit", "--dry-run"]);
    let lines: Vec<&str> = told.stderr.lines().collect();
    assert_eq!((told.status, lines.len()), (0, 3), "{lines:?}");
    assert!(lines[0].starts_with("would run: <root>/one/docker run --rm "));
    assert!(lines[1].contains(" -m pip_audit "), "{}", lines[1]);
    let last = "would run: cargo-audit audit --json --no-yanked --file Cargo.lock";
    assert_eq!(lines[2], last);
    let calls = bench.calls();
    assert!(!calls.contains("docker run"), "{calls}");
    assert!(!calls.contains("cargo-audit"), "{calls}");
    assert!(!bench.tree().join(".cache/audit").exists());
}
