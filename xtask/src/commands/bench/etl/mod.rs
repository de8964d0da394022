//! `bench etl`: what a copy of a clinic's tables costs, by the loader and by others,
//! beside the least that it can cost: the client of one server piped into the client
//! of the other. All run in one container beside servers with their own defaults.

mod bench;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::bench::Bench;
use super::{Figure, bytes, figure, median, seconds};
use crate::cli;
use crate::commands::build;
use crate::context::Context;
use crate::image::BaseName;
use crate::testing::{Purpose, RIVALS, TestImage, Throwaway};

/// Most of a clinic's rows.
const LARGE: [&str; 5] = [
    "securitylog",
    "sheetfield",
    "paysplit",
    "commlog",
    "procedurelog",
];
/// For those who would take too long on more.
const ONE: [&str; 1] = ["paysplit"];
/// What an increment is measured on.
const CHANGED: &str = "procedurelog";
/// Its rows by then.
const GROWN: u64 = 2_000_000;
/// Nights that are measured, each after a day of its own.
const NIGHTS: usize = 3;
/// Copiers by the names that copiers.py gives them, the floor first.
const FLOOR: &str = "floor";
const OF_LARGE: [&str; 5] = [FLOOR, "ours", "ours-2", "pgloader", "sling"];
const OF_ONE: [&str; 5] = [FLOOR, "ours", "pgloader", "sling", "dlt"];
/// From so many times the floor on, a copier runs only [`FEW`] times.
const SLOW: f64 = 3.0;
const FEW: usize = 2;
/// Characters of what a copier says where it failed; JSON has more.
const MOST_WORDS: usize = 140;

/// One run of a copier.
#[derive(Debug, Clone, Serialize)]
struct Run {
    /// From the start of its process to its end.
    seconds: f64,
    /// CPU seconds of all its processes.
    client_cpu: f64,
    mariadb_cpu: f64,
    postgres_cpu: f64,
    /// Bytes, of its largest process.
    peak_rss: u64,
    /// Told, but never believed.
    status: i64,
    /// What its copy lacks, and its last words.
    wrong: Option<Wrong>,
}

#[derive(Debug, Clone, Serialize)]
struct Wrong {
    what: String,
    said: String,
}

/// All runs of one copier on one set of tables.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    what: String,
    /// That there are at the source.
    rows: u64,
    /// Median of the runs.
    seconds: f64,
    times_the_floor: Option<f64>,
    /// Why there are no runs.
    not_measured: Option<String>,
    runs: Vec<Run>,
    note: String,
}

/// What copiers.py says about one.
#[derive(Debug, Clone, Default, Deserialize)]
struct Copier {
    #[serde(default)]
    version: String,
    missing: Option<String>,
}

/// A copier on one set of tables.
#[derive(Debug)]
struct Contender {
    name: &'static str,
    what: String,
    copier: Copier,
    runs: Vec<Run>,
}

pub(super) fn rows(context: &Context, args: &cli::BenchEtl, runs: usize) -> Result<Vec<Row>> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let bases = [BaseName::Airflow, BaseName::Postgres, BaseName::Mysql];
    let facts = build::ensure(context, &engine, &deploy, &bases, false)?;
    let image = TestImage::ensure(context, &engine, &facts, RIVALS)?;
    let servers = context.term.task("two servers", || {
        Throwaway::start(context, Purpose::Benchmark)
    })?;
    let bench = Bench::start(context, &servers, &image)?;
    let copiers = bench.copiers()?;
    let what = format!("a clinic of scale {}", args.scale);
    context.term.task(&what, || -> Result<()> {
        bench.fill(args.scale)?;
        bench.plain(&LARGE)
    })?;
    let only = Only(args.only.as_deref().unwrap_or_default().to_lowercase());
    let mut rows = Vec::new();
    for (set, tables, names) in [
        ("one table", &ONE[..], OF_ONE),
        ("large tables", &LARGE[..], OF_LARGE),
    ] {
        let contenders = only.contenders(set, &names, &copiers);
        if !contenders.is_empty() {
            let done = side_by_side(&bench, tables, contenders, runs, &mut rows);
            or_told(set, done, &mut rows);
        }
    }
    if only.wants("whole clinic") {
        let done = whole(&bench, runs, &mut rows);
        or_told("whole clinic", done, &mut rows);
    }
    if only.wants("increment") {
        let done = increment(&bench, runs, &mut rows);
        or_told("increment", done, &mut rows);
    }
    Ok(rows)
}

/// What was measured before is worth an hour: it is not given up for what failed.
fn or_told(what: &str, done: Result<()>, rows: &mut Vec<Row>) {
    if let Err(error) = done {
        let why = format!("{error:#}");
        let mut row = Row::of(what, 0, Vec::new(), String::new());
        row.not_measured = why.lines().next().map(str::to_owned);
        rows.push(row);
    }
}

/// What a person asked for.
struct Only(String);

impl Only {
    fn wants(&self, what: &str) -> bool {
        what.to_lowercase().contains(&self.0)
    }

    /// Those that are wanted, and the floor wherever one is.
    fn contenders(
        &self,
        set: &str,
        names: &[&'static str],
        copiers: &BTreeMap<String, Copier>,
    ) -> Vec<Contender> {
        let all = names.iter().map(|name| {
            let copier = copiers.get(*name).cloned().unwrap_or_default();
            Contender {
                name,
                what: format!("{set}, {}", title(name, &copier.version)),
                copier,
                runs: Vec::new(),
            }
        });
        let all: Vec<Contender> = all.collect();
        if !all.iter().any(|one| self.wants(&one.what)) {
            return Vec::new();
        }
        all.into_iter()
            .filter(|one| one.name == FLOOR || self.wants(&one.what))
            .collect()
    }
}

fn title(name: &str, version: &str) -> String {
    match name {
        FLOOR => "the floor: mariadb | psql".to_owned(),
        "ours-2" => "ours, 2 connections".to_owned(),
        _ => format!("{name} {version}").trim_end().to_owned(),
    }
}

/// In turns, so that what else the machine does meets all alike.
fn side_by_side(
    bench: &Bench<'_>,
    tables: &[&str],
    mut contenders: Vec<Contender>,
    runs: usize,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let there = bench.rows("source", tables)?;
    for turn in 0..runs {
        for at in 0..contenders.len() {
            let floor = right(&contenders[0].runs);
            let one = &mut contenders[at];
            if one.copier.missing.is_some() || !again(&one.runs, floor, turn) {
                continue;
            }
            let what = format!("{}, run {}", one.what, turn + 1);
            let run = bench.context.term.task(&what, || -> Result<Run> {
                bench.prepare(one.name, tables)?;
                let mut run = bench.measured(&what, bench::PREPARED)?;
                run.lacks(compare(&there, &bench.rows("raw", tables)?));
                Ok(run)
            })?;
            one.runs.push(run);
        }
    }
    let all = there.values().flatten().sum();
    let floor = contenders.first().and_then(|one| right(&one.runs));
    rows.extend(contenders.into_iter().map(|one| one.row(all, floor, runs)));
    Ok(())
}

/// Seconds of runs that count: a copy that lacks rows is no measure of another.
fn right(runs: &[Run]) -> Option<f64> {
    let all = !runs.is_empty() && runs.iter().all(|run| run.wrong.is_none());
    all.then(|| median_of(runs, |run| run.seconds))
}

/// Whether it is worth another run: one that is slow or wrong tells no more by many.
fn again(runs: &[Run], floor: Option<f64>, turn: usize) -> bool {
    let Some(first) = runs.first() else {
        return turn == 0;
    };
    let slow = floor.is_some_and(|floor| first.seconds > SLOW * floor);
    first.wrong.is_none() && (!slow || turn < FEW)
}

/// What a copy lacks, by its tables' counts: exit statuses are not to be believed.
fn compare(
    there: &BTreeMap<String, Option<u64>>,
    copied: &BTreeMap<String, Option<u64>>,
) -> Option<String> {
    let lacking: Vec<String> = there
        .iter()
        .filter(|(table, rows)| copied.get(*table) != Some(rows))
        .map(|(table, rows)| {
            let rows = grouped(rows.unwrap_or_default());
            match copied.get(table).copied().flatten() {
                Some(copied) => format!("{table} has {} of {rows} rows", grouped(copied)),
                None => format!("{table} is not there, of {rows} rows"),
            }
        })
        .collect();
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

impl Contender {
    fn row(self, rows: u64, floor: Option<f64>, wanted: usize) -> Row {
        let fewer = self.copier.missing.is_none() && self.runs.len() < wanted;
        let note = match self.runs.len() {
            _ if !fewer => String::new(),
            1 => "1 run".to_owned(),
            n => format!("{n} runs: slower than {SLOW:.0} x the floor"),
        };
        let mut row = Row::of(self.what, rows, self.runs, note);
        row.not_measured = self.copier.missing;
        let own = right(&row.runs).filter(|_| self.name != FLOOR);
        row.times_the_floor = own.zip(floor).map(|(own, floor)| own / floor);
        row
    }
}

/// A hundredth of a table's rows is changed, others each time.
fn increment(bench: &Bench<'_>, runs: usize, rows: &mut Vec<Row>) -> Result<()> {
    let term = &bench.context.term;
    let what = format!("increment, 1 % of {CHANGED}");
    term.task("increment: all of it first", || {
        bench.grow(CHANGED, GROWN)?;
        bench.prepare("ours", &[CHANGED])?;
        bench.measured("load all of it first", bench::PREPARED)
    })?;
    let (mut all, mut changed) = (Vec::new(), 0);
    for number in 1..=runs {
        let run = term.task(&format!("{what}, run {number}"), || -> Result<Run> {
            changed = bench.touch(CHANGED)?;
            bench.rest()?;
            let command = format!("exec python -m etl_pipeline run --table {CHANGED}");
            let mut run = bench.measured(&what, &command)?;
            let (there, copied) = (bench.sums("source", CHANGED)?, bench.sums("raw", CHANGED)?);
            run.lacks((there != copied).then(|| "sums differ".to_owned()));
            Ok(run)
        })?;
        all.push(run);
    }
    let there = bench.rows("source", &[CHANGED])?;
    let note = format!("{} rows changed", grouped(changed));
    rows.push(Row::of(what, there.values().flatten().sum(), all, note));
    Ok(())
}

/// All tables, from nothing, then with nothing to do, then after a day.
fn whole(bench: &Bench<'_>, runs: usize, rows: &mut Vec<Row>) -> Result<()> {
    let term = &bench.context.term;
    let tables = bench.tables()?;
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let mut there = bench.rows("source", &tables)?;
    let run = |what: &str, command: &str, there: &BTreeMap<_, _>| {
        term.task(what, || -> Result<Run> {
            let mut run = bench.measured(what, command)?;
            let failed = (run.status != 0).then(|| "it failed".to_owned());
            run.lacks(compare(there, &bench.rows("raw", &tables)?).or(failed));
            Ok(run)
        })
    };
    let all: u64 = there.values().flatten().sum();
    let told = format!("{} tables", tables.len());
    let usual = "exec python -m etl_pipeline run";
    for connections in 1..=2 {
        bench.prepare("ours", &tables)?;
        let what = format!("whole clinic, from nothing, connections: {connections}");
        let one = run(
            &what,
            &format!("{usual} --connections {connections}"),
            &there,
        )?;
        rows.push(Row::of(what, all, vec![one], told.clone()));
    }
    let what = "whole clinic, verified";
    let one = run(what, "exec python -m etl_pipeline verify", &there)?;
    rows.push(Row::of(what, all, vec![one], told.clone()));
    let what = "whole clinic, nothing changed";
    let mut unchanged = Vec::new();
    for number in 1..=runs {
        unchanged.push(run(&format!("{what}, run {number}"), usual, &there)?);
    }
    rows.push(Row::of(what, all, unchanged, told));
    let what = "whole clinic, after 1 % of changes";
    let (mut nights, mut verified) = (Vec::new(), Vec::new());
    for number in 1..=runs.min(NIGHTS) {
        term.task("a day of business", || {
            bench.advance()?;
            bench.rest()
        })?;
        there = bench.rows("source", &tables)?;
        nights.push(run(&format!("{what}, night {number}"), usual, &there)?);
        let check = "exec python -m etl_pipeline verify";
        verified.push(run(&format!("  verified, night {number}"), check, &there)?);
    }
    let all = there.values().flatten().sum();
    rows.push(Row::of(what, all, nights, String::new()));
    rows.push(Row::of(
        "  verified that night",
        all,
        verified,
        String::new(),
    ));
    Ok(())
}

impl Run {
    fn lacks(&mut self, what: Option<String>) {
        if let Some(wrong) = &mut self.wrong {
            // Without a fault in the copy its words are nobody's.
            let said = std::mem::take(&mut wrong.said);
            self.wrong = what.map(|what| Wrong { what, said });
        }
    }
}

impl Row {
    fn of(what: impl Into<String>, rows: u64, runs: Vec<Run>, note: String) -> Self {
        Self {
            what: what.into(),
            rows,
            seconds: median_of(&runs, |run| run.seconds),
            times_the_floor: None,
            not_measured: None,
            runs,
            note,
        }
    }

    fn wrong(&self) -> Option<&Wrong> {
        self.runs.iter().find_map(|run| run.wrong.as_ref())
    }
}

fn median_of(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    median(&runs.iter().map(of).collect::<Vec<_>>())
}

/// The table for a person.
pub(super) fn figures(rows: &[Row]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for row in rows {
        if let Some(why) = &row.not_measured {
            let note = format!("not measured: {why}");
            figures.push(figure(row.what.clone(), "none", Vec::new(), note));
            continue;
        }
        let of = |of: fn(&Run) -> f64| row.runs.iter().map(of).collect::<Vec<f64>>();
        figures.push(seconds(row.what.clone(), of(|run| run.seconds), told(row)));
        let client = median_of(&row.runs, |run| run.client_cpu);
        let mariadb = median_of(&row.runs, |run| run.mariadb_cpu);
        let postgres = median_of(&row.runs, |run| run.postgres_cpu);
        figures.push(seconds(
            "  CPU",
            of(|run| run.client_cpu + run.mariadb_cpu + run.postgres_cpu),
            format!("client {client:.2} s, MariaDB {mariadb:.2} s, Postgres {postgres:.2} s"),
        ));
        let peaks: Vec<u64> = row.runs.iter().map(|run| run.peak_rss).collect();
        figures.push(bytes(
            "  peak memory of its largest process",
            &peaks,
            String::new(),
        ));
    }
    figures
}

/// How it compares.
fn told(row: &Row) -> String {
    let mut words = Vec::new();
    if let Some(wrong) = row.wrong() {
        words.push(format!("WRONG: {}", wrong.what));
        words.extend(last_words(&wrong.said).map(|said| format!("it says: {said}")));
    }
    if let Some(times) = row.times_the_floor {
        words.push(format!("{times:.2} x the floor"));
    }
    words.push(format!("{} rows", grouped(row.rows)));
    if !row.note.is_empty() {
        words.push(row.note.clone());
    }
    words.join(", ")
}

/// The last line about an error, or the last: as much of it as fits beside a figure.
fn last_words(said: &str) -> Option<String> {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = |mark: &&str| lines().rfind(|line| line.contains(mark));
    // As Postgres and pgloader spell it, Go, and Python's drivers; not a table's heading.
    let found = ["ERROR", "rror:", ".errors."].iter().find_map(error);
    let line = found.or_else(|| lines().next_back())?;
    // `ESC [ 31 m` is a colour.
    let mut pieces = line.split('\u{1b}');
    let first = pieces.next().unwrap_or_default();
    let rest = pieces.map(|piece| piece.split_once('m').map_or(piece, |(_, rest)| rest));
    let plain: String = std::iter::once(first).chain(rest).collect();
    Some(plain.chars().take(MOST_WORDS).collect())
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: f64) -> Run {
        Run {
            seconds,
            client_cpu: 1.0,
            mariadb_cpu: 2.0,
            postgres_cpu: 3.0,
            peak_rss: 30_000_000,
            status: 0,
            wrong: None,
        }
    }

    fn wrong(what: &str) -> Option<Wrong> {
        Some(Wrong {
            what: what.to_owned(),
            said: "INFO a\n\u{1b}[31mERROR b\nTotal 0\n\n".to_owned(),
        })
    }

    fn counts(all: &[(&str, Option<u64>)]) -> BTreeMap<String, Option<u64>> {
        let owned = |(table, rows): &(&str, Option<u64>)| ((*table).to_owned(), *rows);
        all.iter().map(owned).collect()
    }

    #[test]
    fn a_copy_is_what_its_tables_count() {
        let there = counts(&[("a", Some(1000)), ("b", Some(0)), ("c", Some(7))]);
        assert_eq!(compare(&there, &there), None);
        let copied = counts(&[("a", Some(999)), ("b", Some(0)), ("c", None)]);
        assert_eq!(
            compare(&there, &copied).unwrap(),
            "a has 999 of 1,000 rows, c is not there, of 7 rows"
        );
        let mut run = Run {
            wrong: wrong(""),
            ..run(1.0)
        };
        run.lacks(None);
        assert!(run.wrong.is_none());
    }

    #[test]
    fn what_is_slow_or_wrong_runs_less_often() {
        assert!(again(&[], None, 0));
        assert!(again(&[run(1.0)], Some(1.0), 4));
        assert!(again(&[run(3.1)], Some(1.0), 1));
        assert!(!again(&[run(3.1)], Some(1.0), 2));
        let wrong = Run {
            wrong: wrong("a is not there"),
            ..run(0.1)
        };
        assert!(!again(&[wrong], Some(1.0), 1));
    }

    #[test]
    fn only_right_copies_are_compared() {
        let contender = |runs| Contender {
            name: "sling",
            what: "one table, sling".to_owned(),
            copier: Copier::default(),
            runs,
        };
        assert_eq!(right(&[]), None);
        let row = contender(vec![run(3.0), run(5.0)]).row(9, right(&[run(2.0)]), 2);
        assert_eq!(told(&row), "2.00 x the floor, 9 rows");
        let bad = Run {
            wrong: wrong("a is not there"),
            ..run(0.1)
        };
        let row = contender(vec![run(3.0)]).row(9, right(&[bad]), 2);
        assert_eq!(row.times_the_floor, None);
        let said = "x.errors.Y: z\ntable errors rows\n";
        assert_eq!(last_words(said).unwrap(), "x.errors.Y: z");
        assert_eq!(last_words(" \n"), None);
        assert_eq!(last_words("a\nb\n").unwrap(), "b");
    }

    #[test]
    fn the_floor_comes_with_whoever_is_wanted() {
        let copiers = BTreeMap::from([(
            "sling".to_owned(),
            Copier {
                version: "1.4.11".to_owned(),
                missing: None,
            },
        )]);
        let names = |only: &str| -> Vec<String> {
            Only(only.to_owned())
                .contenders("one table", &OF_ONE, &copiers)
                .into_iter()
                .map(|one| one.what)
                .collect()
        };
        assert_eq!(
            names("sling"),
            [
                "one table, the floor: mariadb | psql",
                "one table, sling 1.4.11"
            ]
        );
        assert_eq!(names("").len(), OF_ONE.len());
        assert_eq!(names("large"), Vec::<String>::new());
    }

    #[test]
    fn a_row_says_what_is_wrong_before_how_fast_it_was() {
        let contender = Contender {
            name: "pgloader",
            what: "one table, pgloader".to_owned(),
            copier: Copier::default(),
            runs: vec![Run {
                wrong: wrong("a has 0 of 9 rows"),
                ..run(3.0)
            }],
        };
        let row = contender.row(1_234_567, Some(2.0), 5);
        assert_eq!(
            told(&row),
            "WRONG: a has 0 of 9 rows, it says: ERROR b, 1,234,567 rows, 1 run"
        );
        let figures = figures(&[row]);
        assert_eq!(figures.len(), 3);
        assert!((figures[1].value - 6.0).abs() < f64::EPSILON);
        assert!(figures[1].note.contains("MariaDB 2.00 s"));
    }

    #[test]
    fn one_that_cannot_run_says_why() {
        let row = Row {
            not_measured: Some("not found".to_owned()),
            ..Row::of("x", 1, Vec::new(), String::new())
        };
        let shown = super::super::row(&figures(&[row])[0]);
        assert!(shown.ends_with("–  not measured: not found"), "{shown}");
    }
}
