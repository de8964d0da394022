//! What people get wrong, one mistake each: whole outputs, and exit statuses.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod bench;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bench::{BUILTIN, Bench, seen};

/// A host in deploy.toml, with more lines of its table.
fn host(more: &str) -> Bench {
    let bench = Bench::healthy();
    append(
        &bench,
        &format!("\n[hosts.ec2]\nssh = \"ec2\"\ndirectory = \"/srv/dental\"\n{more}"),
    );
    bench
}

fn append(bench: &Bench, text: &str) {
    let path = bench.tree().join("deploy.toml");
    let own = fs::read_to_string(&path).unwrap();
    fs::write(path, own + text).unwrap();
}

fn change(bench: &Bench, file: &str, from: &str, to: &str) {
    let path = bench.tree().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// The whole of standard error, and nothing done.
fn says(bench: &Bench, args: &[&str], error: &str, hint: &str, status: i32) {
    let hint = if hint.is_empty() {
        String::new()
    } else {
        format!("hint: {hint}\n")
    };
    let expected = seen(format!("error: {error}\n{hint}"), status);
    assert_eq!(bench.run(args), expected, "{args:?}");
}

#[test]
fn what_is_not_on_this_machine_is_named() {
    let hint = "cargo xtask doctor --fix";
    says(
        &Bench::new(),
        &["build"],
        "failed to find docker on PATH",
        hint,
        2,
    );
    says(
        &Bench::healthy(),
        &["hash"],
        "failed to hash the image's inputs: the base apache/airflow:2.7.1-python3.11 is not here, \
         and its content is one of them",
        "cargo xtask build",
        2,
    );
    says(
        &Bench::healthy(),
        &["prune"],
        "failed to tell the image of this tree from those of earlier builds: its base is not here",
        "cargo xtask build",
        2,
    );
}

#[test]
fn a_file_that_cannot_be_followed_is_named() {
    let template = Bench::healthy();
    change(&template, ".env.template", "<uid>", "<unit>");
    template.env("");
    says(
        &template,
        &["env"],
        "failed to fill <unit> of .env.template: unknown kind",
        "git diff .env.template",
        2,
    );

    let ignored = Bench::stocked("");
    change(&ignored, ".dockerignore", "!", "*.py\n!");
    says(
        &ignored,
        &["hash"],
        "failed to read line 3 of .dockerignore: only `*`, then literal `!path` lines, are understood",
        "name each input by its own line: !requirements-airflow.lock",
        2,
    );

    let lock = Bench::stocked("");
    let path = lock.tree().join("deploy.toml");
    let text = fs::read_to_string(&path).unwrap();
    let kept = text
        .split("\n[")
        .filter(|table| !table.starts_with("lock]"));
    fs::write(&path, kept.collect::<Vec<_>>().join("\n[")).unwrap();
    says(
        &lock,
        &["lock", "--check"],
        "failed to read deploy.toml: [lock] with its `until` is missing",
        "git checkout deploy.toml",
        2,
    );

    let written = Bench::healthy();
    says(
        &written,
        &["reference", "--check"],
        "failed to find in docs/reference.md what the commands say of themselves",
        "cargo xtask reference",
        1,
    );
}

#[test]
fn a_host_that_cannot_be_is_refused_before_it_is_reached() {
    let misspelt = host("colour = 1\n");
    says(
        &misspelt,
        &["status", "--host", "ec2"],
        "failed to read deploy.toml: unknown field `colour`, expected one of `ssh`, `user`, `port`, \
         `identity`, `jump`, `ssh_config`, `directory`, `project_mount`, `env_file`, `env_command`, \
         `transport`, `registry`, `ca_bundle`, `web`, `dags`, `variables`",
        "git diff deploy.toml shows what was changed",
        2,
    );
    let torn = host("env_file = \".env.ec2\"\nenv_command = [\"op\"]\n");
    says(
        &torn,
        &["env", "diff", "--host", "ec2"],
        "failed to compare the settings of ec2: failed to read deploy.toml: a host has both env_file \
         and env_command",
        "leave one of them out",
        2,
    );
    let open = host("[hosts.ec2.web]\nbind = \"10.0.0.1\"\n");
    says(
        &open,
        &["status", "--host", "ec2"],
        "failed to read deploy.toml: [hosts.ec2.web]: bind 10.0.0.1 without behind and base_url: a \
         port that Docker publishes is open past the host's firewall, so something else has to keep \
         strangers out",
        "behind = \"proxy\" (it ends TLS; only it reaches that address) or behind = \"vpn\", and \
         base_url = \"https://airflow.example.com\", as a browser calls it\n      \
         or leave bind out: the page stays on loopback, for ssh",
        2,
    );
    says(
        &host(""),
        &["deploy", "--host", "ec2"],
        "failed to deploy to ec2: failed to name the release: this is no git repository with a commit",
        "deploy from a clone",
        2,
    );
    says(
        &host(""),
        &["destroy", "--host", "ec2", "--confirm", "ec3"],
        "nothing was removed: ec3 is not the host's name",
        "cargo xtask destroy --host ec2 --confirm ec2",
        2,
    );
}

#[test]
fn a_connection_is_shared_in_a_folder_of_ones_own() {
    let mut bench = host("");
    bench.program("one", "sh", "exit 0");
    let folder = bench.root.path().join("airflow-dental");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let at = bench.root.path().display().to_string();
    let ran = bench.run_with(&["status", "--host", "ec2"], &[("XDG_RUNTIME_DIR", &at)]);
    let expected = "error: failed to share a connection in <root>/airflow-dental: it has to be this \
                    user's alone\nhint: rm -r <root>/airflow-dental\n";
    assert_eq!(ran, seen(expected.to_owned(), 2));
}

#[test]
fn a_build_that_did_not_make_what_was_asked_for_is_a_failure() {
    let moved = Bench::stocked("'build --file') echo '# more' >>requirements-airflow.lock ;;");
    let ran = moved.run(&["build"]);
    let expected = "error: failed to build the image: an input changed during the build\n\
                    hint: cargo xtask build\n";
    assert!(ran.stderr.ends_with(expected), "{}", ran.stderr);
    let kept = Bench::stocked("'build --file') ;;");
    let ran = kept.run(&["build"]);
    let expected = " in the engine after its build: the selected builder kept it to itself\nhint: ";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert_eq!(ran.status, 1);
}

#[test]
fn what_made_an_image_that_nobody_runs_is_not_guessed() {
    let bench = Bench::stocked("");
    assert_eq!(bench.run(&["build"]).status, 0);
    says(
        &bench,
        &["build", "--why", "--since", "running"],
        "failed to find an image that runs: the stack is down, or its image does not say what it \
         was made of",
        "cargo xtask build --why --since last",
        2,
    );
}

#[test]
fn a_command_that_another_one_is_in_the_way_of_says_so() {
    let bench = Bench::stocked("");
    let cache = bench.tree().join(".cache");
    fs::create_dir_all(&cache).unwrap();
    let held = fs::File::create(cache.join("lock-of-the-stack")).unwrap();
    held.lock().unwrap();
    for command in ["init", "restart"] {
        says(
            &bench,
            &[command],
            "failed to start: another cargo xtask works on this checkout's stack",
            "wait until it has ended, then try again",
            2,
        );
    }
}

/// As where a checkout was copied with its `.env`.
#[test]
fn the_stack_of_another_checkout_is_left_alone() {
    let mut bench = Bench::stocked("");
    let other = bench.root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join(".env"), "").unwrap();
    let container = r#"{"Id":"postgres","Name":"/dental-postgres-1","Image":"sha256:1","State":{"Status":"running","ExitCode":0},"Config":{"Image":"i","Labels":{"com.docker.compose.service":"postgres","com.docker.compose.version":"1.29.2","com.docker.compose.project.working_dir":"OTHER"}},"NetworkSettings":{"Ports":{}}}"#;
    let container = container.replace("OTHER", &other.display().to_string());
    let (stock, volumes) = (bench.stock(), "'volume ls') echo dental_postgres-data ;;");
    let cases = format!(
        "'ps --all') echo postgres ;;\n'container inspect') printf '%s\\n' '[{container}]' ;;\n\
         {volumes}\n{stock}"
    );
    bench.docker("one", BUILTIN, &cases);
    for command in [&["up"][..], &["down"], &["down", "--volumes", "--yes"]] {
        says(
            &bench,
            command,
            "failed to take dental for this checkout's stack: it is that of <root>/other",
            "cd <root>/other\n      or give this one a name, ports and secrets of its own: rm .env \
             && cargo xtask env",
            2,
        );
    }
    // Where it is gone, the stack is whose `.env` names it.
    fs::remove_dir_all(&other).unwrap();
    assert_eq!(bench.run(&["down"]).status, 0);
}

#[test]
fn the_demo_is_never_filled_into_a_real_source() {
    let bench = Bench::stocked("");
    let (demo, real) = (
        "OPENDENTAL_SOURCE_HOST=mysql",
        "OPENDENTAL_SOURCE_HOST=10.0.0.20",
    );
    bench.env(&bench.valid_env().replace(demo, real));
    says(
        &bench,
        &["demo", "--", "advance"],
        "failed to find a demo source: OPENDENTAL_SOURCE_HOST names a real one",
        "the demo runs where .env says OPENDENTAL_SOURCE_HOST=mysql",
        2,
    );
}

#[test]
fn a_stack_of_another_compose_is_not_made_anew() {
    let container = r#"{"Id":"postgres","Name":"/dental-postgres-1","Image":"sha256:1","State":{"Status":"running","ExitCode":0},"Config":{"Image":"i","Labels":{"com.docker.compose.service":"postgres","com.docker.compose.version":"2.39.1"}},"NetworkSettings":{"Ports":{}}}"#;
    let cases = format!(
        "'ps --all') echo postgres ;;\n'container inspect') printf '%s\\n' '[{container}]' ;;"
    );
    let bench = Bench::stocked(&cases);
    says(
        &bench,
        &["restart"],
        "failed to choose a Compose: the running stack was made by v2 (docker compose), which is not on \
         this machine; \
         the other would recreate every container",
        "install Compose v2 (docker compose) again, or take the stack down first, data is kept: cargo xtask down",
        2,
    );
}
