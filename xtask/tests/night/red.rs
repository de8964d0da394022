//! Nights that go wrong, and the way from each to a green one.

use std::fs;

use serde_json::Value;

use crate::containers::docker_ok;
use crate::stack::Stack;

const NIGHT: [&str; 3] = ["nightly", "--ignore-business-hours", "--json"];
const MODEL: &str = "dbt_dental_models/models/staging/opendental/stg_opendental__patients.sql";

/// What the practice's own books get wrong is told of, and keeps no night from green.
pub(crate) fn books_that_do_not_add_up(stack: &Stack) {
    at_source(
        stack,
        "update paysplit set SplitAmt = SplitAmt + 1 order by SplitNum limit 2;
         update procedurelog set ProvNum = 0 where ProcStatus = 2 order by ProcNum limit 2",
    );
    stack.ok(&["nightly", "--ignore-business-hours", "--no-wait"]);
    let up = stack.ok(&["up"]).stderr;
    assert!(
        up.ends_with("\n  next: cargo xtask nightly --follow\n"),
        "{up}"
    );
    stack.ok(&["nightly", "--follow"]);
    let told = stack.ok(&["logs", "--task", "notify"]).stdout;
    let warned = "; warned: assert_completed_procedures_have_a_provider, \
                  assert_payments_equal_their_splits";
    assert!(told.contains(warned), "{told}");
}

/// Marts that pass every test and cannot be published: the night is red, says why, and what
/// was read before is read on. What the last lines say to type makes it green.
pub(crate) fn a_schema_that_is_somebody_elses(stack: &Stack) {
    let read = "select oid from pg_class where oid = 'marts.mart_ar_aging'::regclass";
    let before = stack.query("analytics", read);
    let owner = stack.query(
        "analytics",
        "select nspowner::regrole from pg_namespace where nspname = 'marts'",
    );
    let own = |who: &str| {
        let container = stack.container("postgres");
        let ask = "psql -qU \"$POSTGRES_USER\" -d \"$POSTGRES_ANALYTICS_DB\" -c \"$1\"";
        let give =
            format!("alter schema marts owner to {who}; grant usage on schema marts to {owner}");
        docker_ok(&["exec", &container, "sh", "-c", ask, "ask", &give]);
    };
    own("current_user");
    let night = stack.run(&NIGHT);
    assert_eq!(night.status, Some(1));
    let why = "on-run-end failed: permission denied for schema marts";
    assert!(night.stderr.contains(why), "{}", night.stderr);
    assert_eq!(stack.query("analytics", read), before);

    own(&owner);
    let mend = night.stderr.lines().last().unwrap().trim();
    let commands: Vec<&str> = mend.split(" && ").collect();
    assert_eq!(commands.len(), 2, "{mend}");
    for command in commands {
        let words = shlex::split(command.strip_prefix("cargo xtask ").unwrap()).unwrap();
        stack.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_ne!(stack.query("analytics", read), before);
}

/// A column that vanished ends the load at its first try; what the hint says, typed as it
/// stands, makes the next night green and loses no value.
pub(crate) fn a_column_that_vanished(stack: &Stack) {
    at_source(stack, "alter table patient drop column DateFirstVisit");
    let night = stack.run(&NIGHT);
    assert_eq!(night.status, Some(1));
    let run: Value = serde_json::from_str(&night.stdout).unwrap();
    let load = &run["tasks"][2];
    assert_eq!(
        (&load["task"], &load["state"], &load["tries"]),
        (&"extract_load".into(), &"failed".into(), &1.into())
    );
    let status = stack.run(&["status"]).stdout;
    let lead = "failed    patient (what is there is ";
    assert!(
        status.lines().any(|line| line.starts_with(lead)),
        "{status}"
    );

    let hint = night
        .stderr
        .lines()
        .find_map(|l| l.strip_prefix("  | hint: "));
    let [lead, build, _, sql, end] = hint.unwrap().split('`').collect::<Vec<_>>()[..] else {
        panic!("the hint has not two commands: {hint:?}");
    };
    assert_eq!(
        (lead, end),
        (
            "take \"DateFirstVisit\" out of stg_opendental__patients, or put null in its place, and ",
            " keeps its values in kept.\"patient_DateFirstVisit\""
        )
    );
    let model = stack.root().join(MODEL);
    let text = fs::read_to_string(&model).unwrap();
    let without = text.replace("\"DateFirstVisit\" as", "null::date as");
    assert_ne!(without, text);
    fs::write(&model, without).unwrap();
    let build = build.strip_prefix("cargo xtask ").unwrap();
    stack.ok(&build.split(' ').collect::<Vec<_>>());
    let (command, statements) = sql.split_once(" -c ").unwrap();
    assert_eq!(command, "cargo xtask sql");
    stack.ok(&["sql", "-c", statements.trim_matches('\'')]);
    stack.ok(&NIGHT);
    let kept = "select count(*) > 0 from kept.\"patient_DateFirstVisit\"";
    assert_eq!(stack.query("analytics", kept), "t");

    fs::write(&model, text).unwrap();
    at_source(
        stack,
        "alter table patient add DateFirstVisit date not null default '0001-01-01'",
    );
}

/// As whoever owns the practice's server.
fn at_source(stack: &Stack, sql: &str) {
    let container = stack.container("mysql");
    let ask = "mariadb -uroot -p\"$MYSQL_ROOT_PASSWORD\" opendental -e \"$1\"";
    docker_ok(&["exec", &container, "sh", "-c", ask, "ask", sql]);
}
