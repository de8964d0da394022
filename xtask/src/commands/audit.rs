//! `audit`: known advisories about what is locked, held against audit.toml.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{print_json, summary};
use crate::audit::{
    Crates, Finding, Judged, Looked, PYTHON_LOCK, Python, Service, Verdict, judge, unused,
};
use crate::cli;
use crate::config::{Allow, Allowed};
use crate::context::Context;
use crate::error::{self, Failure};
use crate::exec::{Step, plural};
use crate::image::{self, BaseName};

/// How many names an error lists.
const NAMES: usize = 5;

/// What was looked at, and what stood in the way.
#[derive(Default)]
struct Seen {
    looked: Looked,
    failures: Vec<anyhow::Error>,
}

pub(crate) fn run(context: &Context, args: &cli::Audit) -> Result<()> {
    let allowed = Allowed::read(&context.workspace)?.allow;
    // What is missing is told before the minutes that the other half takes.
    let crates = match args.python {
        true => None,
        false => Some(Crates::find(&context.machine)?),
    };
    let service = match args.service {
        cli::Service::Pypi => Service::Pypi,
        cli::Service::Osv => Service::Osv,
    };
    let mut seen = Seen::default();
    if !args.cargo {
        python(context, service, args.dry.dry_run, &mut seen)?;
    }
    if let Some(crates) = &crates {
        if args.dry.dry_run {
            would_run(context, &crates.step());
        } else {
            let hint = "cargo audit";
            seen.half(context, "cargo: the crates of Cargo.lock", hint, || {
                crates.look()
            });
        }
    }
    if args.dry.dry_run {
        return Ok(());
    }
    seen.looked.findings.sort_by(|a, b| {
        let key = |one: &Finding| (one.package.clone(), one.id.clone());
        key(a).cmp(&key(b))
    });
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let judged = judge(&seen.looked.findings, &allowed, today);
    let whole = !args.python && !args.cargo;
    let unused = match whole && seen.failures.is_empty() {
        true => unused(&allowed, &seen.looked.findings.iter().collect::<Vec<_>>()),
        // What was not looked at may be what they are about.
        false => Vec::new(),
    };
    if args.json {
        print_json(&as_json(&seen, &judged, &unused))?;
    } else if let Some(table) = table(&judged) {
        summary::tell("Known advisories", &table)?;
    }
    for entry in unused {
        context.term.warn(&format!(
            "{} for {} matches nothing any more: remove it from audit.toml",
            entry.id, entry.package
        ));
    }
    let mut failures = seen.failures;
    failures.extend(refused(&judged).map(Into::into));
    let Some(last) = failures.pop() else {
        context.term.done(&format!(
            "{} looked at; {}",
            plural(seen.looked.packages, "package"),
            match judged.len() {
                0 => "no advisory".to_owned(),
                1 => "1 advisory, which is allowed".to_owned(),
                all => format!("{all} advisories, each of which is allowed"),
            }
        ));
        return Ok(());
    };
    for failure in failures {
        context.term.say(error::show(&failure).text.trim_end());
    }
    Err(last)
}

impl Seen {
    /// One half; the other one is looked at whatever becomes of it. `hint` is for
    /// packages that were missed.
    fn half(
        &mut self,
        context: &Context,
        what: &str,
        hint: &str,
        look: impl FnOnce() -> Result<Looked>,
    ) {
        let looked = context.term.task(what, || {
            let looked = look()?;
            let missed = missed(&looked, hint);
            self.looked.packages += looked.packages;
            self.looked.missed.extend(looked.missed);
            self.looked.findings.extend(looked.findings);
            missed.map_or(Ok(()), |failure| Err(failure.into()))
        });
        self.failures.extend(looked.err());
    }
}

/// The Python half.
fn python(context: &Context, service: Service, dry: bool, seen: &mut Seen) -> Result<()> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let (workspace, airflow) = (&context.workspace, BaseName::Airflow);
    let half = Python::new(&engine, workspace, service);
    if dry {
        let base = image::find_base(&engine, workspace, &deploy.bases, airflow)?;
        let base = match base {
            Some(base) => base.reference,
            None => {
                let upstream = deploy.bases.airflow.clone();
                context.term.say(&format!("would pull or make {upstream}"));
                upstream
            }
        };
        for step in half.steps(&base) {
            would_run(context, &step);
        }
        return Ok(());
    }
    image::ensure_bases(&engine, workspace, &deploy.bases, &[airflow], false)?;
    let base = image::find_base(&engine, workspace, &deploy.bases, airflow)?
        .context("failed to find the base image that was just made")?;
    let what = format!(
        "python: the packages of {}, asked of {}",
        PYTHON_LOCK,
        service.name()
    );
    seen.half(context, &what, &service.hint(), || {
        half.look(&base.reference)
    });
    Ok(())
}

fn would_run(context: &Context, step: &Step) {
    context.term.say(&format!("would run: {}", step.line()));
}

/// The failure of what was not looked at; nothing is known about that.
fn missed(looked: &Looked, hint: &str) -> Option<Failure> {
    let first = looked.missed.first()?;
    let names = looked.missed.iter().map(|one| one.package.as_str());
    Some(
        Failure::tool(format!(
            "failed to audit {} of {}: {}\n  | {}",
            looked.missed.len(),
            plural(looked.packages, "package"),
            some(names),
            first.why
        ))
        .hint(hint),
    )
}

/// The failure of what was found and may not stay.
fn refused(judged: &[Judged<'_>]) -> Option<Failure> {
    let of = |verdict| {
        let ids: Vec<&str> = judged
            .iter()
            .filter(|one| one.verdict == verdict)
            .map(|one| one.finding.id.as_str())
            .collect();
        (!ids.is_empty()).then_some(ids)
    };
    let says = |ids: Vec<&str>, why: &str| format!("{why}: {}", some(ids.into_iter()));
    let parts: Vec<String> = [
        of(Verdict::NotAllowed).map(|ids| says(ids, "not in audit.toml")),
        of(Verdict::Expired).map(|ids| says(ids, "past the day in audit.toml")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        return None;
    }
    Some(
        Failure::tool(format!(
            "found advisories that may not stay, {}",
            parts.join("; ")
        ))
        .hint(
            "read each; then cargo xtask lock --upgrade PACKAGE, or cargo update PACKAGE,\n\
             or an entry in audit.toml that says until when it may stay, and why",
        ),
    )
}

/// The first few of them, and how many more there are.
fn some<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// One line a finding; `None` where there is none.
fn table(judged: &[Judged<'_>]) -> Option<String> {
    if judged.is_empty() {
        return None;
    }
    let titles = [
        "package", "version", "advisory", "fixed in", "reaches", "verdict",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(judged.iter().map(|one| {
        let fixed = match one.finding.fixed_in.is_empty() {
            true => "–".to_owned(),
            false => one.finding.fixed_in.join(", "),
        };
        let reaches = match one.by.map(|entry| entry.reaches) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        };
        [
            one.finding.package.clone(),
            one.finding.version.clone(),
            one.finding.id.clone(),
            fixed,
            reaches.to_owned(),
            verdict(one),
        ]
    }));
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max();
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|n| width(n).unwrap_or_default());
    let lines: Vec<String> = rows
        .iter()
        .map(|[package, version, id, fixed, reaches, verdict]| {
            format!("{package:<a$}  {version:<b$}  {id:<c$}  {fixed:<d$}  {reaches:<e$}  {verdict}")
        })
        .collect();
    Some(lines.join("\n"))
}

fn verdict(one: &Judged<'_>) -> String {
    match (one.verdict, one.by) {
        (Verdict::Allowed, Some(entry)) => format!("allowed until {}", entry.until),
        (Verdict::Expired, Some(entry)) => format!("expired on {}", entry.until),
        (_, _) => "not allowed".to_owned(),
    }
}

fn as_json(seen: &Seen, judged: &[Judged<'_>], unused: &[&Allow]) -> serde_json::Value {
    let finding = |one: &Judged<'_>| {
        json!({
            "package": one.finding.package,
            "version": one.finding.version,
            "id": one.finding.id,
            "aliases": one.finding.aliases,
            "fixed_in": one.finding.fixed_in,
            "says": one.finding.says,
            "verdict": one.verdict,
            "until": one.by.map(|entry| entry.until.to_string()),
            "reaches": one.by.map(|entry| entry.reaches),
            "reason": one.by.map(|entry| entry.reason.trim()),
        })
    };
    let failures = seen.failures.iter().map(|failure| format!("{failure:#}"));
    json!({
        "packages": seen.looked.packages,
        "missed": seen.looked.missed,
        // A half that failed has no packages and no findings: that is not «none».
        "failures": failures.collect::<Vec<_>>(),
        "findings": judged.iter().map(finding).collect::<Vec<_>>(),
        "unused": unused
            .iter()
            .map(|entry| json!({"id": entry.id, "package": entry.package}))
            .collect::<Vec<_>>(),
    })
}
