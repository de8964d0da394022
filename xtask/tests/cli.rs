//! `--help` and `env` as a person runs them: the real program in a
//! checkout of its own, with stand-ins for docker and Compose on PATH.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is wrong"
)]

mod bench;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bench::{BUILTIN, Bench, engine_up, seen};

/// A machine in order and a checkout that nobody has prepared.
fn fresh() -> Bench {
    let mut bench = Bench::healthy();
    bench.docker("one", BUILTIN, &format!("'volume ls') ;;\n{}", engine_up()));
    fs::remove_file(bench.tree().join(".env")).unwrap();
    bench
}

fn env_text(bench: &Bench) -> String {
    fs::read_to_string(bench.tree().join(".env")).unwrap()
}

fn env_mode(bench: &Bench) -> u32 {
    let metadata = fs::metadata(bench.tree().join(".env")).unwrap();
    metadata.permissions().mode() & 0o7777
}

fn value<'t>(env: &'t str, name: &str) -> &'t str {
    env.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{name} is not in .env"))
}

#[test]
fn help_goes_to_standard_output_and_names_every_command_of_the_readme() {
    let bench = Bench::healthy();
    let help = bench.run(&["--help"]);
    assert_eq!((help.stderr.as_str(), help.status), ("", 0));
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let table = readme.split("## Commands").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let cells = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split(" | ").next());
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names: BTreeSet<&str> = words.filter_map(|w| w.split_whitespace().next()).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let lead = format!("  {name} ");
        assert!(
            help.stdout.lines().any(|line| line.starts_with(&lead)),
            "{name} is not in --help"
        );
    }
    assert!(
        help.stdout
            .contains("Usage: cargo xtask [OPTIONS] <COMMAND>\n")
    );
    let down = bench.run(&["down", "--help"]);
    assert_eq!((down.stderr.as_str(), down.status), ("", 0));
    for line in [
        "Stop the stack; data stays\n",
        "Usage: cargo xtask down [OPTIONS]\n",
        "Remove the data as well: metadata, demo source, analytics\n",
        "Look for real, print what would be done, change nothing\n",
    ] {
        assert!(down.stdout.contains(line), "{line}");
    }
    assert_eq!(bench.calls(), "", "help asks nobody");
}

#[test]
fn an_unknown_command_is_a_persons_mistake() {
    let expected = "error: unrecognized subcommand 'frobnicate'\n\n\
                    Usage: cargo xtask [OPTIONS] <COMMAND>\n\n\
                    For more information, try '--help'.\n";
    let bench = Bench::healthy();
    assert_eq!(bench.run(&["frobnicate"]), seen(expected.to_owned(), 2));
}

#[test]
fn outside_of_a_checkout_every_command_says_where_to_go() {
    let bench = Bench::healthy();
    let folder = bench.root.path().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    for command in ["status", "up", "env", "build", "doctor"] {
        let expected = "error: failed to find the repository around <root>/elsewhere\n\
                        hint: cd into a checkout; its root holds docker-compose.yml and \
                        Dockerfile.airflow\n";
        assert_eq!(
            bench.run_in(&folder, &[command], &[]),
            seen(expected.to_owned(), 2),
            "{command}"
        );
    }
    assert_eq!(bench.calls(), "");
}

#[test]
fn a_fresh_env_has_strong_secrets_and_shows_none() {
    let bench = fresh();
    assert_eq!(
        bench.run(&["env"]),
        seen(
            "✓ wrote .env, mode 0600, with 17 values made here\n".to_owned(),
            0
        )
    );
    assert_eq!(env_mode(&bench), 0o600);
    let text = env_text(&bench);
    let values = text.lines().filter(|line| !line.starts_with('#'));
    for line in values {
        assert!(!line.contains(['<', '>']), "{line}");
    }
    let template = fs::read_to_string(bench.tree().join(".env.template")).unwrap();
    let secrets: Vec<&str> = template
        .lines()
        .filter_map(|line| line.strip_suffix("=<secret>"))
        .map(|name| value(&text, name))
        .collect();
    assert_eq!(secrets.len(), 9);
    for secret in &secrets {
        assert!(secret.len() >= 24, "a secret is short");
        assert!(secret.chars().all(|c| c.is_ascii_alphanumeric()));
    }
    let distinct: BTreeSet<&&str> = secrets.iter().collect();
    assert_eq!(distinct.len(), secrets.len(), "two secrets are the same");
    let key = value(&text, "AIRFLOW_FERNET_KEY");
    let key = data_encoding::BASE64URL.decode(key.as_bytes()).unwrap();
    assert_eq!(key.len(), 32);
    assert_eq!(
        value(&text, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        format!(
            "postgresql+psycopg2://airflow:{}@postgres:5432/airflow",
            value(&text, "AIRFLOW_DB_PASSWORD")
        )
    );
    let calls = bench.calls();
    assert!(secrets.iter().all(|secret| !calls.contains(secret)));
    let other = fresh();
    other.run(&["env"]);
    let other = env_text(&other);
    for secret in secrets {
        assert!(!other.contains(secret), "two installations share a secret");
    }
}

#[test]
fn a_complete_env_stays_as_it_is() {
    let bench = fresh();
    bench.run(&["env"]);
    let before = env_text(&bench);
    assert_eq!(
        bench.run(&["env"]),
        seen("✓ .env is complete\n".to_owned(), 0)
    );
    assert_eq!(env_text(&bench), before);
    let good = seen("✓ .env is complete and well formed\n".to_owned(), 0);
    assert_eq!(bench.run(&["env", "check"]), good);
}

#[test]
fn what_a_person_set_is_kept_and_the_rest_is_made() {
    let bench = fresh();
    let template = fs::read_to_string(bench.tree().join(".env.template")).unwrap();
    let text = template
        .replace("DB_PASSWORD=<secret>", "DB_PASSWORD='p@ss/w#1rd'")
        .replace("AIRFLOW_ADMIN_EMAIL=admin@example.com\n", "")
        .replace("DEMO_SCALE=1\n", "DEMO_SCALE=7\n")
        + "# a note of mine\nMY_OWN='two words'\n";
    let set_by_hand = |line: &&str| !line.ends_with('>');
    bench.env(&text);
    assert_eq!(
        bench.run(&["env"]),
        seen(
            "! MY_OWN is a name that nothing reads: docker-compose.yml hands on only what it names\n    \
             remove the line, or name it there\n\
             ✓ completed .env, mode 0600, with 16 values made here; from the template: \
             AIRFLOW_ADMIN_EMAIL\n"
                .to_owned(),
            0
        )
    );
    let after = env_text(&bench);
    for line in text.lines().filter(set_by_hand) {
        assert!(after.lines().any(|l| l == line), "{line} was lost");
    }
    assert_eq!(
        value(&after, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        "postgresql+psycopg2://airflow:p%40ss%2Fw%231rd@postgres:5432/airflow"
    );
    assert_eq!(bench.run(&["env", "check"]).status, 0);
}

#[test]
fn a_dry_run_of_env_writes_nothing() {
    let bench = fresh();
    let names = "COMPOSE_PROJECT_NAME, AIRFLOW_UID, AIRFLOW_WEBSERVER_PORT, POSTGRES_HOST_PORT, \
                 MYSQL_HOST_PORT, AIRFLOW_FERNET_KEY, AIRFLOW_WEBSERVER_SECRET_KEY, \
                 AIRFLOW_ADMIN_PASSWORD, AIRFLOW_API_PASSWORD, AIRFLOW_DB_PASSWORD, \
                 AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, POSTGRES_PASSWORD, \
                 OPENDENTAL_SOURCE_PASSWORD, MYSQL_ROOT_PASSWORD, DEMO_SOURCE_PASSWORD, \
                 POSTGRES_ANALYTICS_PASSWORD, ETL_PIPELINE_START_DATE";
    let expected = format!("would write .env, mode 0600, with 17 values made here: {names}\n");
    assert_eq!(bench.run(&["env", "--dry-run"]), seen(expected, 0));
    assert!(!bench.tree().join(".env").exists());
}

#[test]
fn secrets_that_a_volume_was_made_with_are_not_made_anew() {
    let mut bench = fresh();
    let volumes = format!(
        "'volume ls') for word; do case $word in *project=*) echo \"${{word##*=}}_postgres-data\" ;; esac; done ;;\n{}",
        engine_up()
    );
    bench.docker("one", BUILTIN, &volumes);
    let project = bench.new_project();
    let expected = format!(
        "error: failed to write .env: the volume {project}_postgres-data was made \
         with values of AIRFLOW_FERNET_KEY, AIRFLOW_DB_PASSWORD, POSTGRES_PASSWORD, \
         POSTGRES_ANALYTICS_PASSWORD that are not in it\n\
         hint: put the old .env back, or give the data up: cargo xtask down --volumes\n"
    );
    for args in [&["env"][..], &["env", "--dry-run"]] {
        assert_eq!(bench.run(args), seen(expected.clone(), 2));
        assert!(!bench.tree().join(".env").exists());
    }
}

#[test]
fn env_check_tells_what_is_hardly_meant_and_passes() {
    let bench = Bench::healthy();
    let text = bench.valid_env() + "DBT_TARGET=clinic\nDEMO_SCALES=2\n";
    bench.env(&text);
    let lines = text.lines().count();
    let first = text
        .lines()
        .position(|l| l.starts_with("DBT_TARGET"))
        .unwrap()
        + 1;
    let last = lines - 1;
    let expected = format!(
        "! DBT_TARGET is set in lines {first} and {last}; only line {last} counts\n    \
         keep one of the lines\n\
         ! DEMO_SCALES is a name that nothing reads: docker-compose.yml hands on only what it \
         names\n    did you mean DEMO_SCALE?\n\
         ✓ .env is complete and well formed\n"
    );
    assert_eq!(bench.run(&["env", "check"]), seen(expected, 0));
}

#[test]
fn env_check_names_every_problem_at_once() {
    let bench = Bench::healthy();
    let text = bench
        .valid_env()
        .replace("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "tooshort")
        .replace("AIRFLOW_API_PASSWORD=AIRFLOW_API_PASSWORD-1\n", "")
        .replace("=POSTGRES_PASSWORD-1", "=<secret>");
    bench.env(&text);
    let path = bench.tree().join(".env");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let expected = "✗ AIRFLOW_FERNET_KEY is no Fernet key (32 bytes as url-safe base64)\n    \
                    put the old key back, or empty the line and run: cargo xtask env\n\
                    ✗ AIRFLOW_API_PASSWORD is missing\n    cargo xtask env\n\
                    ✗ POSTGRES_PASSWORD still holds its placeholder\n    cargo xtask env\n\
                    ✗ .env can be read by others (mode 0644)\n    chmod 600 .env\n\
                    error: found 4 problems in .env\n";
    assert_eq!(bench.run(&["env", "check"]), seen(expected.to_owned(), 2));
    assert_eq!((env_text(&bench), env_mode(&bench)), (text, 0o644));
    assert_eq!(bench.calls(), "", "a file is read without an engine");
    fs::remove_file(path).unwrap();
    let expected = "error: failed to read .env: it does not exist\nhint: cargo xtask env\n";
    assert_eq!(bench.run(&["env", "check"]), seen(expected.to_owned(), 2));
}

#[test]
fn the_parts_of_ci_are_listed_without_running_one() {
    let bench = Bench::healthy();
    let listed = bench.run(&[
        "ci", "--list", "--only", "rust", "--only", "reach", "--skip", "FORMAT",
    ]);
    assert_eq!(
        listed.stdout,
        "unit and command-line tests (Rust)              1 min 30 s\n\
         deploy, how a host is reached                   3 min 0 s\n"
    );
    assert_eq!((listed.stderr.as_str(), listed.status), ("", 0));
    assert_eq!(bench.calls(), "");
}

#[test]
fn completions_are_printed_wherever_a_shell_starts() {
    let bench = Bench::healthy();
    let folder = bench.root.path().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    for (shell, word) in [
        ("bash", "_xtask()"),
        ("zsh", "#compdef xtask"),
        ("fish", "complete -c xtask"),
    ] {
        let printed = bench.run_in(&folder, &["completions", shell], &[]);
        assert_eq!((printed.stderr.as_str(), printed.status), ("", 0));
        assert!(printed.stdout.contains(word), "{shell}");
        assert!(printed.stdout.contains("wait-for-run"), "{shell}");
    }
}
