//! The stack's commands as a person runs them: the real program in a checkout of
//! its own, with stand-ins for docker and Compose on PATH.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod bench;

use std::path::Path;

use bench::{BUILTIN, Bench, Seen, copy, seen, without_durations};

const COMPOSE: &str = "docker-compose --project-name dental --file docker-compose.yml \
                       --file docker-compose.override.yml --profile demo --profile init";
const VOLUMES: &str = "'volume ls') echo dental_postgres-data; echo dental_mysql-data ;;";
/// What changes nothing, by how a call begins.
const ASKS: [&str; 10] = [
    "docker build --help",
    "docker compose version",
    "docker container inspect",
    "docker image inspect",
    "docker image ls",
    "docker info",
    "docker network ls",
    "docker ps",
    "docker version",
    "docker volume",
];

/// The calls that may change something.
fn changes(bench: &Bench) -> Vec<String> {
    let calls = bench.calls();
    let asks = |line: &str| {
        line == "docker-compose version --short" || ASKS.iter().any(|ask| line.starts_with(ask))
    };
    let changes = calls.lines().filter(|line| !asks(line));
    changes.map(str::to_owned).collect()
}

/// Cases of an engine with a running container for each service: its id is the
/// service's name.
fn running(services: &[&str]) -> String {
    let container = |service: &&str| {
        format!(
            r#"{{"Id":"{service}","Name":"/dental-{service}-1","Image":"sha256:1","State":{{"Status":"running","ExitCode":0}},"Config":{{"Image":"i","Labels":{{"com.docker.compose.service":"{service}","com.docker.compose.version":"1.29.2"}}}},"NetworkSettings":{{"Ports":{{}}}}}}"#
        )
    };
    let list: Vec<String> = services.iter().map(container).collect();
    format!(
        "'ps --all') printf '%s\\n' {} ;;\n'container inspect') printf '%s\\n' '[{}]' ;;\n\
         'exec -i') echo 'an answer'; echo 'a word' >&2; exit 3 ;;",
        services.join(" "),
        list.join(",")
    )
}

fn refused(bench: &Bench, args: &[&str], stderr: &str, status: i32) {
    assert_eq!(bench.run(args), seen(stderr.to_owned(), status), "{args:?}");
    assert_eq!(changes(bench), [""; 0], "{args:?}");
}

#[test]
fn a_dry_run_of_up_prints_every_step_and_takes_none() {
    let bench = Bench::stocked("");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in [
        "airflow/bootstrap",
        "airflow/dags",
        "etl_pipeline/opendental_demo",
    ] {
        copy(&repository.join(folder), &bench.tree().join(folder));
    }
    let (hash, image) = bench.hash_and_image();
    let base = "apache/airflow:2.7.1-python3.11";
    let labels = bench.labels(&hash, base, true);
    let compose = format!(
        "would run: AIRFLOW_IMAGE={image} POSTGRES_IMAGE=postgres:15 MYSQL_IMAGE=mariadb:10.11 \
         <root>/one/{COMPOSE}"
    );
    let expected = format!(
        "! disk: /var/lib/docker on a-host-of-no-name cannot be seen from here\n    \
         look there: docker system df\n\
         would run: DOCKER_BUILDKIT=1 <root>/one/docker build --file Dockerfile.airflow \
         --tag {image} --tag airflow-dbt-dental:latest --build-arg BASE_IMAGE={base} \
         --build-arg SOURCE_DATE_EPOCH=315532800{labels} .\n\
         {compose} up --detach --no-deps --no-build postgres mysql\n\
         {compose} run --rm --no-deps -T demo-seed\n\
         {compose} run --rm --no-deps -T airflow-init\n\
         {compose} up --detach --no-deps --no-build airflow-webserver airflow-scheduler\n\
         would wait for a fresh heartbeat, no import errors and the expected DAGs\n"
    );
    assert_eq!(bench.run(&["up", "--dry-run"]), seen(expected, 0));
    assert_eq!(changes(&bench), [""; 0]);
    assert!(!bench.tree().join("airflow/logs").exists());
}

/// The engine has another network; the containers know one that is gone.
fn without_network(services: &[&str]) -> String {
    let lost = r#""NetworkSettings":{"Networks":{"dental_default":{"NetworkID":"gone"}},"#;
    let cases = running(services)
        .replace(r#""NetworkSettings":{"#, lost)
        .replace(r#""Status":"running""#, r#""Status":"exited""#);
    format!("{cases}\n'network ls') echo another ;;")
}

#[test]
fn containers_whose_network_is_gone_are_made_anew_by_up_and_named_by_status() {
    let bench = Bench::stocked(&without_network(&["postgres", "airflow-webserver"]));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["airflow/bootstrap", "etl_pipeline/opendental_demo"] {
        copy(&repository.join(folder), &bench.tree().join(folder));
    }
    let plan = bench.run(&["up", "--dry-run"]).stderr;
    let steps: Vec<&str> = plan
        .lines()
        .filter(|l| l.contains("docker-compose"))
        .collect();
    assert!(
        steps[0].ends_with(" stop --timeout 20 postgres airflow-webserver"),
        "{plan}"
    );
    assert!(
        steps[1].ends_with(" rm --force postgres airflow-webserver"),
        "{plan}"
    );
    assert!(steps[2].contains(" up --detach "), "{plan}");
    let status = bench.run(&["status"]);
    let webserver =
        "services  airflow-webserver  no network   i  (its network is gone: cargo xtask up)\n";
    assert!(status.stdout.contains(webserver), "{}", status.stdout);
    assert_eq!(status.status, 1);
}

#[test]
fn down_with_nothing_running_says_so() {
    let bench = Bench::stocked("'volume ls') ;;");
    for args in [
        &["down"][..],
        &["down", "--dry-run"],
        &["down", "--volumes", "--yes"],
    ] {
        refused(&bench, args, "✓ nothing runs\n", 0);
    }
}

#[test]
fn down_keeps_data_and_says_where() {
    let bench = Bench::stocked(&format!("{}\n{VOLUMES}", running(&["postgres"])));
    let plan = format!("would run: <root>/one/{COMPOSE} down --remove-orphans\n");
    refused(&bench, &["down", "--dry-run"], &plan, 0);
    let mut seen_down = bench.run(&["down"]);
    seen_down.stderr = without_durations(&seen_down.stderr);
    let expected = "✓ stack is down  <time>\n  \
                    data is kept in dental_postgres-data, dental_mysql-data\n";
    assert_eq!(seen_down, seen(expected.to_owned(), 0));
    assert_eq!(
        changes(&bench),
        [format!("{COMPOSE} down --remove-orphans")]
    );
}

#[test]
fn data_is_not_removed_where_nobody_can_be_asked() {
    for containers in [running(&["postgres"]), String::new()] {
        let bench = Bench::stocked(&format!("{containers}\n{VOLUMES}"));
        let plan = format!(
            "would run: <root>/one/{COMPOSE} down --remove-orphans --volumes\n\
             ! would remove all data in dental_postgres-data, dental_mysql-data\n"
        );
        refused(&bench, &["down", "--volumes", "--dry-run"], &plan, 0);
        let expected = "error: failed to ask: standard input is no terminal\n\
                        hint: cargo xtask down --volumes --yes\n";
        refused(&bench, &["down", "--volumes"], expected, 2);
        assert_eq!(bench.run(&["down", "--volumes", "--yes"]).status, 0);
        assert_eq!(
            changes(&bench),
            [format!("{COMPOSE} down --remove-orphans --volumes")]
        );
    }
}

#[test]
fn without_a_stack_each_command_says_how_to_start_it() {
    let bench = Bench::stocked("");
    for (args, service) in [
        (&["etl", "--", "x"][..], "airflow-scheduler"),
        (&["dbt", "--", "debug"], "airflow-scheduler"),
        (&["airflow", "--", "dags", "list"], "airflow-scheduler"),
        (&["sql"], "postgres"),
        (&["sql", "metadata", "-c", "select 1"], "postgres"),
        (&["sql", "source"], "mysql"),
        (&["shell"], "airflow-scheduler"),
        (&["restart"], "airflow-webserver"),
    ] {
        let expected = format!(
            "error: failed to find {service} running: it is not created\nhint: cargo xtask up\n"
        );
        refused(&bench, args, &expected, 2);
    }
    let expected =
        "error: failed to read the logs: dental has no containers\nhint: cargo xtask up\n";
    refused(&bench, &["logs"], expected, 2);
    let nobody = "nothing answers at http://127.0.0.1:<web>";
    let expected = format!(
        "error: failed to ask Airflow for its health: {nobody}: io: Connection refused \
         (os error 111)\nhint: cargo xtask up; where that does not mend it: cargo xtask down, \
         then up again\n"
    );
    refused(&bench, &["nightly"], &expected, 1);
}

#[test]
fn status_of_no_stack_says_how_to_start_it_and_is_a_failure() {
    let bench = Bench::stocked("");
    let (_, image) = bench.hash_and_image();
    let error = "failed to ask Airflow for its health: nothing answers at http://127.0.0.1:<web>";
    let stdout = format!(
        "project   dental\nservices  none; start them: cargo xtask up\ntree      {image}\n\
         airflow   {error}\n"
    );
    let expected = Seen {
        stdout,
        stderr: String::new(),
        status: 1,
    };
    assert_eq!(bench.run(&["status"]), expected);
    let json = bench.run(&["status", "--json"]);
    assert_eq!((json.stderr.as_str(), json.status), ("", 1));
    let told: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "healthy": false,
            "project": "dental",
            "url": "http://127.0.0.1:<web>",
            "services": [],
            "changed_since_up": [],
            "unfinished_up": false,
            "down": ["postgres", "mysql", "airflow-webserver", "airflow-scheduler"],
            "image_of_tree": image,
            "airflow": null,
            "airflow_error": error,
            "last_run": null,
            "etl": null,
        })
    );
    assert_eq!(changes(&bench), [""; 0]);
}

#[test]
fn what_runs_in_a_container_is_passed_on_whole_with_its_status() {
    let bench = Bench::stocked(&running(&["postgres", "airflow-scheduler"]));
    for (args, argv) in [
        (
            &["etl", "--", "run", "--table", "patient"][..],
            "python -m etl_pipeline run --table patient",
        ),
        (&["dbt", "--", "debug"], "dbt debug"),
        (&["airflow", "--", "dags", "list"], "airflow dags list"),
        (&["shell"], "bash"),
    ] {
        bench.forget();
        let expected = Seen {
            stdout: "an answer\n".to_owned(),
            stderr: "a word\n".to_owned(),
            status: 3,
        };
        assert_eq!(bench.run(args), expected, "{args:?}");
        assert_eq!(
            changes(&bench),
            [format!(
                "docker exec -i --env XTASK_CALL=<call> airflow-scheduler {argv}"
            )]
        );
    }
}

#[test]
fn a_tools_arguments_need_no_dashes_before_them() {
    let bench = Bench::stocked(&running(&["airflow-scheduler"]));
    for args in [
        &["dbt", "build", "--select", "x"][..],
        &["dbt", "--", "build", "--select", "x"],
    ] {
        bench.forget();
        bench.run(args);
        let call =
            "docker exec -i --env XTASK_CALL=<call> airflow-scheduler dbt build --select x\n";
        assert!(bench.calls().contains(call), "{}", bench.calls());
    }
}

#[test]
fn a_databases_password_stays_where_its_server_has_it() {
    let bench = Bench::stocked(&running(&["postgres", "mysql"]));
    let psql = "psql --no-psqlrc -v ON_ERROR_STOP=1 -h 127.0.0.1 -p 5432";
    for (database, call, variable, password) in [
        (
            "analytics",
            format!("postgres {psql} -U analytics -d opendental_analytics -c select 1"),
            "PGPASSWORD",
            "POSTGRES_ANALYTICS_PASSWORD",
        ),
        (
            "metadata",
            format!("postgres {psql} -U airflow -d airflow -c select 1"),
            "PGPASSWORD",
            "AIRFLOW_DB_PASSWORD",
        ),
        (
            "source",
            "mysql mariadb --protocol=tcp -h 127.0.0.1 -P 3306 -u opendental_reader opendental \
             -e select 1"
                .to_owned(),
            "MYSQL_PWD",
            "OPENDENTAL_SOURCE_PASSWORD",
        ),
    ] {
        bench.forget();
        let seen = bench.run(&["sql", database, "-v", "-c", "select 1"]);
        assert_eq!((seen.stdout.as_str(), seen.status), ("an answer\n", 3));
        let (service, client) = call.split_once(' ').unwrap();
        let script = format!("export {variable}=\"${password}\"; exec \"$@\"");
        let expected =
            format!("docker exec -i --env XTASK_CALL=<call> {service} sh -c {script} sql {client}");
        assert_eq!(changes(&bench), [expected]);
        // As .env of the bench has it.
        let value = format!("{password}-1");
        assert!(!seen.stderr.contains(&value), "{}", seen.stderr);
        assert!(!bench.environment("docker exec").contains(&value));
        assert!(!bench.calls().contains(&value));
    }
}

#[test]
fn what_the_shell_exports_does_not_shadow_the_env_file() {
    let bench = Bench::stocked(&running(&["postgres"]));
    let shell = [
        ("AIRFLOW_FERNET_KEY", "from-the-shell"),
        ("COMPOSE_PROJECT_NAME", "from-the-shell"),
        ("POSTGRES_PASSWORD", "from-the-shell"),
        ("OF_NO_CONCERN", "passed-on"),
    ];
    let expected = Seen {
        stdout: "1.29.2\n".to_owned(),
        stderr: String::new(),
        status: 0,
    };
    assert_eq!(bench.run_with(&["logs"], &shell), expected);
    let call = format!("{COMPOSE} logs");
    let environment = bench.environment(&call);
    assert!(!environment.contains("from-the-shell"), "{environment}");
    assert!(environment.contains("export OF_NO_CONCERN='passed-on'\n"));
}

#[test]
fn logs_that_nobody_looks_at_have_no_colour() {
    let bench = Bench::stocked(&running(&["postgres"]));
    for (args, rest) in [
        (&["logs"][..], "--tail 200 --no-color"),
        (
            &["logs", "--tail", "5", "-f", "postgres"],
            "--tail 5 --no-color --follow postgres",
        ),
    ] {
        bench.forget();
        assert_eq!(bench.run(args).status, 0);
        assert_eq!(
            changes(&bench),
            [format!("{COMPOSE} logs --timestamps {rest}")]
        );
    }
}

#[test]
fn prune_removes_only_what_neither_this_tree_nor_a_container_uses() {
    let mut bench = Bench::stocked("");
    let (hash, _) = bench.hash_and_image();
    let image = |id: &str, hash: &str| {
        format!(
            r#"{{"Id":"sha256:{id}","RepoTags":["airflow-dbt-dental:{}"],"Config":{{"Labels":{{"dental.image.inputs":"{hash}"}}}}}}"#,
            &hash[..12]
        )
    };
    let list = [
        image("current", &hash),
        image("old", &"1".repeat(64)),
        image("older", &"2".repeat(64)),
        image("used", &"3".repeat(64)),
        // By a name of its own it is somebody's.
        image("named", &"4".repeat(64)).replace("airflow-dbt-dental:", "kept-by-me:"),
    ]
    .join(",");
    let container = running(&["x"]).replace("sha256:1", "sha256:used");
    let by_id = format!("case \"$3\" in sha256:*) printf '%s\\n' '[{list}]'; exit ;; esac");
    let inspect = "'image inspect')";
    let stock = bench
        .stock()
        .replacen(inspect, &format!("{inspect} {by_id}\n"), 1);
    let ids = "'image ls') printf 'sha256:%s\\n' current old older used named old ;;";
    bench.docker("one", BUILTIN, &format!("{ids}\n{stock}\n{container}"));
    bench.forget();
    let remove = "docker image rm --force sha256:old sha256:older";
    let names = "  airflow-dbt-dental:111111111111\n  airflow-dbt-dental:222222222222\n";
    let plan = format!("{names}would run: <root>/one/{remove}\n");
    refused(&bench, &["prune", "--dry-run"], &plan, 0);
    let mut pruned = bench.run(&["prune"]);
    pruned.stderr = without_durations(&pruned.stderr);
    assert_eq!(
        pruned,
        seen(format!("{names}✓ 2 images removed  <time>\n"), 0)
    );
    assert_eq!(changes(&bench), [remove]);
    let bench = Bench::stocked("");
    refused(&bench, &["prune"], "✓ no images of earlier builds\n", 0);
}

#[test]
fn a_stack_can_be_stopped_whatever_became_of_its_env() {
    let bench = Bench::stocked(&running(&["postgres"]));
    let env = bench.tree().join(".env");
    let text = std::fs::read_to_string(&env).unwrap();
    std::fs::write(&env, format!("{text}no line of any kind\n")).unwrap();
    let down = bench.run(&["down"]);
    assert_eq!(
        (down.stdout.as_str(), down.status),
        ("", 0),
        "{}",
        down.stderr
    );
    assert_eq!(
        changes(&bench),
        [
            "docker stop --time 60 postgres",
            "docker rm --force postgres"
        ]
    );
}

#[test]
fn an_engine_that_is_down_is_a_failure_with_a_way_out() {
    let down = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.";
    let cases = format!("'ps --all' | 'version --format') echo '{down}' >&2; exit 1 ;;");
    let bench = Bench::stocked(&cases);
    let expected = format!(
        "error: failed to reach the docker engine: docker exited with status 1\n  | {down}\n\
         hint: sudo systemctl start docker, or: cargo xtask doctor --fix\n"
    );
    for command in ["down", "status", "logs", "shell"] {
        refused(&bench, &[command], &expected, 1);
    }
}

#[test]
fn a_tool_that_a_signal_ended_is_named() {
    let bench = Bench::stocked("'ps --all') kill -9 $$ ;;");
    let expected = "error: failed to list the project's containers: docker was ended by a signal\n";
    for command in ["down", "status", "shell"] {
        refused(&bench, &[command], expected, 1);
    }
    let mut bench = Bench::stocked(&running(&["postgres"]));
    let body = "case \"$1\" in version) echo 1.29.2 ;; *) kill -9 $$ ;; esac";
    bench.program("one", "docker-compose", body);
    // As a shell has it, where a command's own output was all there is to see.
    assert_eq!(bench.run(&["logs"]), seen(String::new(), 128 + 9));
}

#[test]
fn a_secret_in_a_tools_error_is_not_repeated() {
    let mut bench = Bench::stocked("");
    assert_eq!(bench.run(&["build"]).status, 0);
    let (_, image) = bench.hash_and_image();
    let body = "case \"$1\" in version) echo 1.29.2 ;; \
                *) echo 'cannot start with POSTGRES_PASSWORD-1 and AIRFLOW_DB_PASSWORD-1' >&2\n\
                exit 7 ;; esac";
    bench.program("one", "docker-compose", body);
    let mut failed = bench.run(&["init"]);
    failed.stderr = without_durations(&failed.stderr);
    let expected = format!(
        "✓ image {image} is there; inputs unchanged\n\
         ✗ postgres, mysql healthy  <time>\n\
         error: failed to start the databases: docker-compose exited with status 7\n  \
         | cannot start with ******** and ********\n"
    );
    assert_eq!(failed, seen(expected, 1));
    let bench = Bench::stocked("'ps --all') echo 'not with POSTGRES_PASSWORD-1' >&2; exit 1 ;;");
    let expected = "error: failed to list the project's containers: docker exited with status 1\n  \
                    | not with ********\n";
    refused(&bench, &["down"], expected, 1);
}
