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
        format!(
            "building {image} from 3 files\nthe builder talks\n✓ image {image} is built\n  \
             466 MB: 34 MB on the base's 432 MB\n"
        ),
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
fn build_words(bench: &Bench, quoted: bool, extra: &str) -> String {
    let base = "apache/airflow:2.7.1-python3.11";
    let (hash, image) = bench.hash_and_image();
    let labels = bench.labels(&hash, base, quoted);
    format!(
        "docker build --file Dockerfile.airflow --tag {image} --tag airflow-dbt-dental:latest \
         --build-arg BASE_IMAGE={base} --build-arg SOURCE_DATE_EPOCH=315532800{labels}{extra} ."
    )
}

#[test]
fn a_dry_run_of_build_shows_the_whole_command() {
    let bench = Bench::stocked("");
    let command = build_words(&bench, true, "");
    let expected = format!("would run: DOCKER_BUILDKIT=1 <root>/one/{command}\n");
    assert_eq!(bench.run(&["build", "--dry-run"]), seen(expected, 0));
    assert_eq!(build_call(&bench), "");
    assert!(!bench.calls().contains("docker tag"), "{}", bench.calls());
    // Without a base there is no hash, and the registry is not asked either.
    let bench = Bench::healthy();
    let labels = bench.labels("<hash of inputs>", "<base>", true);
    let command = format!(
        "docker build --file Dockerfile.airflow --tag 'airflow-dbt-dental:<hash of inputs>' \
         --tag airflow-dbt-dental:latest --build-arg 'BASE_IMAGE=<base>' \
         --build-arg SOURCE_DATE_EPOCH=315532800{labels} ."
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
    assert_eq!(build_call(&bench), build_words(&bench, false, ""));
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
    let (_, image) = bench.hash_and_image();
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
        assert_eq!(build_call(&bench), build_words(&bench, false, extra));
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

/// The hash in a checkout whose engine has this base and no other image.
fn hash_on(image: &str, change: impl FnOnce(&Bench)) -> String {
    let mut bench = Bench::healthy();
    let inspect = format!(
        "'image inspect') printf '%s\\n' '[{image}]' ;;\n{}",
        engine_up()
    );
    bench.docker("one", BUILTIN, &inspect);
    change(&bench);
    let seen = bench.run_with(
        &["hash"],
        &[("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Asia/Tokyo")],
    );
    assert_eq!((seen.stderr.as_str(), seen.status), ("", 0));
    seen.stdout
}

fn in_deploy(bench: &Bench, from: &str, to: &str) {
    let path = bench.tree().join("deploy.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn the_base_its_platform_and_the_dockerfile_are_inputs() {
    let base = |id: &str, digests: &str, platform: &str, tag: &str| {
        format!(
            r#"{{"Id":"sha256:{id}","RepoTags":["{tag}"],"RepoDigests":[{digests}],"Os":"linux","Architecture":"{platform}","Config":null}}"#
        )
    };
    let (tag, other_tag) = (
        "apache/airflow:2.7.1-python3.11",
        "apache/airflow:2.7.1-python3.10",
    );
    let nothing = |_: &Bench| {};
    let one = r#""apache/airflow@sha256:1""#;
    let hash = hash_on(&base("a", one, "amd64", tag), nothing);
    let same = [
        (
            "the id where the digest is known",
            base("b", one, "amd64", tag),
        ),
        (
            "a push to another registry",
            base(
                "a",
                r#""a.test/a@sha256:9","apache/airflow@sha256:1""#,
                "amd64",
                tag,
            ),
        ),
    ];
    for (what, image) in same {
        assert_eq!(hash_on(&image, nothing), hash, "{what}");
    }
    let two = r#""apache/airflow@sha256:2""#;
    let mut moved = vec![
        hash.clone(),
        hash_on(&base("a", two, "amd64", tag), nothing),
        hash_on(&base("a", "", "amd64", tag), nothing),
        hash_on(&base("b", "", "amd64", tag), nothing),
        hash_on(&base("a", one, "arm64", tag), nothing),
        hash_on(&base("a", one, "amd64", other_tag), |bench| {
            in_deploy(bench, tag, other_tag);
        }),
        hash_on(&base("a", one, "amd64", tag), |bench| {
            let folder = bench.tree();
            let (from, to) = ("Dockerfile.airflow", "Dockerfile.other");
            fs::copy(folder.join(from), folder.join(to)).unwrap();
            in_deploy(bench, from, to);
        }),
    ];
    let count = moved.len();
    moved.sort();
    moved.dedup();
    assert_eq!(moved.len(), count, "each is another image");
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
    let (_, image) = bench.hash_and_image();
    let command = build_words(&bench, true, "");
    let expected = format!("would run: DOCKER_BUILDKIT=1 <root>/two/{command}\n");
    assert_eq!(bench.run(&["build", "--dry-run"]), seen(expected, 0));
    assert_eq!(bench.run(&["build"]), built(&image));
    assert_eq!(build_call(&bench), build_words(&bench, false, ""));
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

#[test]
fn the_hash_stands_alone_and_with_its_parts() {
    let bench = Bench::stocked("");
    let (hash, image) = bench.hash_and_image();
    let alone = Seen {
        stdout: format!("{hash}\n"),
        stderr: String::new(),
        status: 0,
    };
    assert_eq!(bench.run(&["hash"]), alone);
    let told: Value = serde_json::from_str(&bench.run(&["hash", "--json"]).stdout).unwrap();
    assert_eq!(
        (&told["hash"], &told["image"]),
        (&json!(hash), &json!(image))
    );
    let base = "apache/airflow:2.7.1-python3.11";
    assert_eq!(
        told["base"],
        json!({"reference": base, "content": format!("sha256:{base}"), "resolved": false,
               "origin": "registry"})
    );
    assert!(
        told["not_pinned"][0]
            .as_str()
            .unwrap()
            .contains("unresolved"),
        "{told}"
    );
    let part = |name: &str| told["files"][name].as_str().unwrap()[5..].to_owned();
    let file = |name: &str| format!("  file          {}  {name}\n", part(name));
    let expected = format!(
        "{hash}\n  base          {base}\n  base content  sha256:{base}\n  \
         build-arg SOURCE_DATE_EPOCH 315532800\n  \
         dockerfile    Dockerfile.airflow\n  platform      linux/amd64\n{}{}{}",
        file("Dockerfile.airflow"),
        file("requirements-airflow.lock"),
        file("requirements-installer.lock"),
    );
    assert_eq!(bench.run(&["hash", "--files"]).stdout, expected);
    let bench = Bench::healthy();
    let refused = bench.run(&["hash"]);
    assert_eq!((refused.stdout.as_str(), refused.status), ("", 2));
    assert!(
        refused.stderr.ends_with("hint: cargo xtask build\n"),
        "{}",
        refused.stderr
    );
}

/// What `build --why` says.
fn why(bench: &Bench, more: &[&str]) -> String {
    let told = bench.run(&[&["build", "--why"], more].concat());
    assert_eq!(
        (told.stderr.as_str(), told.status),
        ("", 0),
        "{}",
        told.stdout
    );
    assert_eq!(build_call(bench), "", "it explains and builds nothing");
    told.stdout
}

#[test]
fn why_names_what_changed_since_the_last_build_apart_from_an_image_that_was_pruned() {
    let bench = Bench::stocked("");
    let (_, first) = bench.hash_and_image();
    assert_eq!(
        why(&bench, &[]),
        format!(
            "nothing was built from this checkout before\n\
             {first} is not built yet: cargo xtask build\n"
        )
    );
    assert_eq!(bench.run(&["build"]).status, 0);
    bench.forget();
    let same = format!("inputs are those of the last build, {first}\n");
    assert_eq!(why(&bench, &[]), format!("{same}{first} is there\n"));
    let record = bench.root.path().join("built");
    let kept = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    assert_eq!(
        why(&bench, &[]),
        format!("{same}{first} was built before and is gone from the engine: cargo xtask build\n")
    );
    fs::write(&record, kept).unwrap();
    let tree = bench.tree();
    let ignore = fs::read_to_string(tree.join(".dockerignore")).unwrap();
    let ignore = ignore.replace("!requirements-installer.lock", "!deploy.toml");
    fs::write(tree.join(".dockerignore"), ignore).unwrap();
    let lock = tree.join("requirements-airflow.lock");
    fs::write(&lock, "another==1\n").unwrap();
    fs::set_permissions(
        tree.join("Dockerfile.airflow"),
        Permissions::from_mode(0o755),
    )
    .unwrap();
    let (_, second) = bench.hash_and_image();
    assert_eq!(
        why(&bench, &["--since", "last"]),
        format!(
            "since the last build, {first}:\n  ~ Dockerfile.airflow: file → executable\n  \
             + deploy.toml\n  ~ requirements-airflow.lock\n  - requirements-installer.lock\n\
             {second} is not built yet: cargo xtask build\n"
        )
    );
    let told: Value = serde_json::from_str(&why(&bench, &["--json"])).unwrap();
    assert_eq!(
        told["changes"][1],
        json!({"change": "appeared", "part": "deploy.toml"})
    );
}

#[test]
fn why_holds_the_tree_against_a_git_revision() {
    let mut bench = Bench::stocked("");
    for name in ["git", "tar"] {
        let real = which::which(name).unwrap();
        bench.program("one", name, &format!("exec {} \"$@\"", real.display()));
    }
    let tree = bench.tree();
    fs::create_dir_all(tree.join("xtask")).unwrap();
    let git = |args: &[&str]| {
        let ran = std::process::Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args)
            .current_dir(&tree)
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "first"]);
    git(&["tag", "v1"]);
    let (_, first) = bench.hash_and_image();
    fs::write(tree.join("requirements-airflow.lock"), "another==1\n").unwrap();
    let (_, second) = bench.hash_and_image();
    let told = why(&bench, &["--since", "v1"]);
    let (lead, rest) = told.split_once(", ").unwrap();
    assert!(
        lead.starts_with("since revision ") && lead.len() == 27,
        "{told}"
    );
    assert_eq!(
        rest,
        format!(
            "{first}:\n  ~ requirements-airflow.lock\n\
             {second} is not built yet: cargo xtask build\n"
        )
    );
    let left = fs::read_dir(tree.join(".cache")).unwrap();
    let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["programs.json"], "the revision's tree is gone");
    let unknown = bench.run(&["build", "--why", "--since", "v2"]);
    let expected = "error: failed to find v2: it is neither an image that says what it was made \
                    of nor a git revision\nhint: docker image ls airflow-dbt-dental\n";
    assert_eq!(unknown, seen(expected.to_owned(), 2));
}

#[test]
fn a_platform_that_the_engine_cannot_build_for_has_a_way_out() {
    let bench = Bench::stocked("'version --format') echo linux/amd64 ;;");
    let refused = bench.run(&["build", "--platform", "linux/arm64"]);
    let expected = "error: failed to build for linux/arm64: this engine builds for linux/amd64 \
                    alone\nhint: build on a machine of that kind: a checkout there, then cargo \
                    xtask build or push\n      or by emulation, many times slower: install \
                    qemu-user-static and binfmt-support, restart docker, and see whether docker \
                    buildx inspect names linux/arm64\n";
    assert_eq!(refused, seen(expected.to_owned(), 2));
    assert_eq!(build_call(&bench), "");
    assert_eq!(bench.run(&["build", "--platform", "linux/amd64"]).status, 0);
}

#[test]
fn what_is_not_committed_is_named_by_build_and_refused_by_push() {
    let mut bench = Bench::stocked("");
    let status = "printf '# branch.oid 0123456789abcdef\\0? bases/new\\0'";
    bench.program("one", "git", status);
    let (_, image) = bench.hash_and_image();
    let mut expected = built(&image);
    expected.stderr = expected
        .stderr
        .replace("  466 MB", "! not committed: bases/new\n  466 MB");
    let mut lines: Vec<String> = bench
        .run(&["build"])
        .stderr
        .lines()
        .map(str::to_owned)
        .collect();
    let mut wanted: Vec<String> = expected.stderr.lines().map(str::to_owned).collect();
    lines.sort();
    wanted.sort();
    assert_eq!(lines, wanted);
    bench.forget();
    let refused = bench.run(&["push", "--registry", "r.example/team"]);
    let expected = "error: failed to push: not committed: bases/new\n\
                    hint: commit, or push it as it is: cargo xtask push --allow-dirty\n";
    assert_eq!(refused, seen(expected.to_owned(), 2));
    assert!(!bench.calls().contains("docker push"), "{}", bench.calls());
    let nowhere = bench.run(&["push"]);
    assert_eq!(nowhere.status, 2);
    assert!(
        nowhere
            .stderr
            .starts_with("error: failed to push: no registry is named\n")
    );
    let plan = bench.run(&[
        "push",
        "--registry",
        "r.example/team/",
        "--allow-dirty",
        "--dry-run",
        "--channel",
        "stable",
    ]);
    let would = |tag: &str| {
        format!(
            "would push r.example/team/airflow-dbt-dental:{tag}, unless the registry holds it\n"
        )
    };
    let hash = image.split_once(':').unwrap().1;
    let expected = [hash, "git-0123456789ab-dirty", "stable"]
        .map(would)
        .concat();
    assert_eq!(plan, seen(expected, 0));
}

#[test]
fn an_image_that_the_registry_does_not_have_is_built_here() {
    let silent = "dial tcp: lookup registry.test: no such host";
    for (said, told) in [
        (
            "manifest unknown",
            "  nobody has pushed it yet\n".to_owned(),
        ),
        (silent, format!("! it is built here: {silent}\n")),
    ] {
        let bench = Bench::stocked(&format!("'pull '*) echo '{said}' >&2; exit 1 ;;"));
        in_deploy(
            &bench,
            "[image]\n",
            "[image]\nregistry = \"registry.test/team\"\n",
        );
        let (_, image) = bench.hash_and_image();
        let plan = bench.run(&["build", "--dry-run"]);
        let first = format!("would pull {image} from registry.test/team, if it is there; else:\n");
        assert!(plan.stderr.starts_with(&first), "{}", plan.stderr);
        let run = bench.run(&["build"]);
        let asked = format!("✓ {image}, from registry.test/team  <time>\n{told}");
        assert_eq!(
            without_durations(&run.stderr),
            asked + &built(&image).stderr
        );
        assert!(
            bench
                .calls()
                .contains(&format!("docker pull --quiet registry.test/team/{image}\n"))
        );
    }
}

#[test]
fn what_moved_the_image_stands_on_the_page_of_a_run_as_well() {
    let bench = Bench::stocked("");
    let page = bench.root.path().join("summary.md");
    fs::write(&page, "before\n").unwrap();
    let at = page.display().to_string();
    let there = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", &at)];
    let told = bench.run_with(&["build", "--why"], &there);
    let why = "nothing was built from this checkout before\n";
    assert!(told.stdout.starts_with(why), "{}", told.stdout);
    let expected = format!(
        "before\n### What moved the image\n\n```text\n{}```\n\n",
        told.stdout
    );
    assert_eq!(fs::read_to_string(&page).unwrap(), expected);
    // Elsewhere the variable is nobody's.
    bench.run_with(&["build", "--why"], &there[1..]);
    assert_eq!(fs::read_to_string(page).unwrap(), expected);
}
