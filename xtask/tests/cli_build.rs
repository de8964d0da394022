//! `build` as a person runs it: the real program in a checkout of its own, with an
//! engine on PATH that notes what it is asked and remembers what it built.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod bench;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use bench::{BUILTIN, Bench, LEGACY, Seen, engine_up, seen, without_durations};
use serde_json::{Value, json};

fn built(image: &str) -> Seen {
    seen(
        format!("building {image} from 3 files\nthe builder talks\n✓ image {image} is built\n"),
        0,
    )
}

/// The one call that built.
fn build_call(bench: &Bench) -> String {
    let calls = bench.calls();
    let mut builds = calls
        .lines()
        .filter(|line| line.starts_with("docker build --file"));
    let call = builds.next().unwrap_or_default().to_owned();
    assert_eq!(builds.next(), None, "it is built once");
    call
}

/// The command of the build, without the program; `extra` stands before `.`.
fn build_words(hash: &str, image: &str, extra: &str) -> String {
    let base = "apache/airflow:2.7.1-python3.11";
    format!(
        "docker build --file Dockerfile.airflow --tag {image} --tag airflow-dbt-dental:latest \
         --build-arg BASE_IMAGE={base} --label dental.image.inputs={hash} \
         --label org.opencontainers.image.title=airflow-dbt-dental \
         --label org.opencontainers.image.base.name={base}{extra} ."
    )
}

#[test]
fn a_dry_run_of_build_shows_the_whole_command() {
    let bench = Bench::stocked("");
    let (hash, image) = bench.hash_and_image();
    let command = build_words(&hash, &image, "");
    let expected = format!("would run: DOCKER_BUILDKIT=1 <root>/one/{command}\n");
    assert_eq!(bench.run(&["build", "--dry-run"]), seen(expected, 0));
    assert_eq!(build_call(&bench), "");
    assert!(!bench.calls().contains("docker tag"), "{}", bench.calls());
    // Without a base there is no hash, and the registry is not asked either.
    let bench = Bench::healthy();
    let command = build_words("<hash>", "'airflow-dbt-dental:<hash of inputs>'", "")
        .replace(
            "BASE_IMAGE=apache/airflow:2.7.1-python3.11",
            "'BASE_IMAGE=<base>'",
        )
        .replace("inputs=<hash>", "inputs=<hash of inputs>'")
        .replace("dental.image", "'dental.image")
        .replace(
            "org.opencontainers.image.base.name=apache/airflow:2.7.1-python3.11",
            "'org.opencontainers.image.base.name=<base>'",
        );
    let expected = format!(
        "would pull apache/airflow:2.7.1-python3.11, or make an equivalent where the registry \
         cannot be reached\nwould run: DOCKER_BUILDKIT=1 <root>/one/{command}\n"
    );
    assert_eq!(bench.run(&["build", "--dry-run"]), seen(expected, 0));
    assert!(!bench.calls().contains("docker pull"), "{}", bench.calls());
}

#[test]
fn an_image_is_built_once_for_each_hash() {
    let bench = Bench::stocked("");
    let (hash, image) = bench.hash_and_image();
    assert_eq!(hash.len(), 64);
    assert!(hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    assert_eq!(image, format!("airflow-dbt-dental:{}", &hash[..12]));
    assert_eq!(bench.run(&["build"]), built(&image));
    assert_eq!(build_call(&bench), build_words(&hash, &image, ""));
    assert!(
        bench
            .environment("docker build --file")
            .contains("export DOCKER_BUILDKIT='1'\n"),
        "an older CLI builds with BuildKit only where it is told to"
    );
    bench.forget();
    let there = format!("✓ image {image} is there; inputs unchanged\n");
    assert_eq!(bench.run(&["build"]), seen(there.clone(), 0));
    assert_eq!(build_call(&bench), "");
    let json = bench.run(&["build", "--json"]);
    assert_eq!((json.stderr, json.status), (there, 0));
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        told,
        json!({
            "base": "apache/airflow:2.7.1-python3.11",
            "files": 3,
            "image": image,
            "inputs": hash,
            "present": true,
        })
    );
    // A tag without the right label is no image of ours.
    let record = bench.root.path().join("built");
    let other = fs::read_to_string(&record)
        .unwrap()
        .replace(&hash, "another");
    fs::write(&record, other).unwrap();
    assert_eq!(bench.run(&["build"]), built(&image));
}

#[test]
fn the_ca_bundle_is_a_secret_of_the_build_where_it_is_a_file() {
    let bench = Bench::stocked("");
    let (hash, image) = bench.hash_and_image();
    let ca = bench.root.path().join("ca.pem");
    fs::write(&ca, "a certificate").unwrap();
    let ca = ca.to_str().unwrap();
    let secret = format!(" --secret id=ca,src={ca}");
    let missing = format!("{ca}.missing");
    for (file, extra) in [(ca, secret.as_str()), (missing.as_str(), "")] {
        fs::remove_file(bench.root.path().join("built")).ok();
        bench.forget();
        let seen = bench.run_with(&["build"], &[("SSL_CERT_FILE", file)]);
        assert_eq!(seen, built(&image), "the CA does not change the hash");
        assert_eq!(build_call(&bench), build_words(&hash, &image, extra));
    }
}

#[test]
fn the_hash_is_of_what_is_in_the_files_and_of_nothing_else() {
    let (here, there) = (Bench::stocked(""), Bench::stocked(""));
    let hash = here.hash_and_image();
    let inputs = [
        "Dockerfile.airflow",
        "requirements-airflow.lock",
        "requirements-installer.lock",
    ];
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in inputs {
        let path = there.tree().join(name);
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(there.tree().join("notes.txt"), "no input").unwrap();
    assert_eq!(there.hash_and_image(), hash, "time and umask of the clone");
    let below = there.tree().join("bases");
    let seen = there.run_in(&below, &["build", "--dry-run", "--json"], &[]);
    assert!(seen.stdout.contains(&hash.0), "from a folder below");
    for name in inputs {
        let path = there.tree().join(name);
        let text = fs::read(&path).unwrap();
        fs::write(&path, [&text[..], b"\n"].concat()).unwrap();
        assert_ne!(there.hash_and_image(), hash, "{name} changed");
        fs::write(&path, text).unwrap();
    }
    let lock = there.tree().join("requirements-airflow.lock");
    fs::set_permissions(lock, Permissions::from_mode(0o700)).unwrap();
    assert_ne!(there.hash_and_image(), hash, "executable or not");
}

#[test]
fn a_missing_input_is_named_and_nothing_is_built() {
    let bench = Bench::stocked("");
    fs::remove_file(bench.tree().join("requirements-airflow.lock")).unwrap();
    let expected = "error: failed to read requirements-airflow.lock, an input of the image: \
                    No such file or directory (os error 2)\n\
                    hint: git checkout requirements-airflow.lock\n";
    for args in [&["build"][..], &["build", "--dry-run"]] {
        assert_eq!(bench.run(args), seen(expected.to_owned(), 2));
    }
    assert_eq!(build_call(&bench), "");
}

#[test]
fn the_docker_that_can_build_is_the_one_that_builds() {
    let mut bench = Bench::new();
    let wrong = "*) echo 'the wrong docker was asked' >&2; exit 9 ;;";
    bench.docker("one", LEGACY, wrong);
    bench.docker("two", BUILTIN, &bench.stock());
    let (hash, image) = bench.hash_and_image();
    let command = build_words(&hash, &image, "");
    let expected = format!("would run: DOCKER_BUILDKIT=1 <root>/two/{command}\n");
    assert_eq!(bench.run(&["build", "--dry-run"]), seen(expected, 0));
    assert_eq!(bench.run(&["build"]), built(&image));
    assert_eq!(build_call(&bench), command);
    let mut bench = Bench::new();
    bench.docker("one", LEGACY, &bench.stock());
    let refused = bench.run(&["build"]);
    assert_eq!((refused.stdout.as_str(), refused.status), ("", 2));
    let expected = "error: failed to build the image: failed to find a docker that builds with \
                    BuildKit: <root>/one/docker has no BuildKit: its buildx plugin is missing\n\
                    hint: install the docker-buildx-plugin package of your docker's distribution, \
                    or: cargo xtask doctor --fix\n";
    assert_eq!(refused.stderr, expected);
    assert_eq!(build_call(&bench), "");
}

/// An engine without images whose registry answers `said`, and a Debian around
/// it whose mirrors cannot be reached.
fn registry_says(said: &str) -> Bench {
    let mut bench = Bench::new();
    let pull = format!("'pull '*) echo '{said}' >&2; exit 1 ;;\n{}", engine_up());
    bench.docker("one", BUILTIN, &pull);
    for name in ["dpkg-deb", "perl", "python3", "tar"] {
        bench.program("one", name, "");
    }
    bench.program("one", "sh", "exec /bin/sh \"$@\"");
    bench.program("one", "apt-get", "echo 'E: Unable to fetch' >&2; exit 100");
    bench
}

#[test]
fn where_no_registry_is_in_reach_equivalents_are_made_and_it_says_so() {
    let bench = registry_says("dial tcp: lookup registry-1.docker.io: no such host");
    let failed = bench.run(&["build"]);
    assert_eq!((failed.stdout.as_str(), failed.status), ("", 1));
    let expected = "! the image registry cannot be reached (no such host); equivalents of the \
                    base images are made from Debian and PyPI packages, see bases/README.md\n\
                    ✗ root file system of the airflow base, from Debian packages  <time>\n\
                    error: failed to make an equivalent of the airflow base image: failed to ask \
                    Debian for its packages: apt-get exited with status 100\n  \
                    | E: Unable to fetch\n\
                    hint: make the image registry or Debian's archive reachable, or load the base \
                    images from\n      \
                    another machine: docker save apache/airflow:2.7.1-python3.11 postgres:15 \
                    mariadb:10.11 | docker load\n";
    assert_eq!(without_durations(&failed.stderr), expected);
    assert!(!bench.calls().contains("build --file"));
}

#[test]
fn what_a_registry_refuses_is_an_error_and_has_no_equivalent() {
    for said in [
        "unauthorized: incorrect username or password",
        "denied: requested access to the resource is denied",
        "toomanyrequests: You have reached your pull rate limit",
        "manifest for apache/airflow:2.7.1-python3.11 not found: manifest unknown",
    ] {
        let bench = registry_says(said);
        let expected = format!(
            "error: failed to pull apache/airflow:2.7.1-python3.11: docker exited with status 1\n  \
             | {said}\nhint: try it by hand: docker pull apache/airflow:2.7.1-python3.11\n"
        );
        assert_eq!(bench.run(&["build"]), seen(expected, 1));
        let calls = bench.calls();
        assert!(
            !calls.contains("apt-get") && !calls.contains("build --file"),
            "{calls}"
        );
    }
}
