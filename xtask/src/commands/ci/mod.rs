//! `ci`: everything that a change has to pass, the same here and in CI. Parts go on
//! after a failure, so that one run tells everything.
//!
//! Two lanes run side by side: what looks at files, and what runs databases, stacks and
//! hosts. A part of the first shows what it said when it has ended, in one piece; the
//! second speaks as it goes. Once the files are looked at, both work on the stacks, which
//! by themselves leave cores idle while they start.

mod github;
mod lane;
mod outcome;
mod parts;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::lane::{Lane, Queue};
use self::outcome::Outcome;
use self::parts::{CHECKS, EVERY_FAULT, Part, STACKS};
use super::build;
use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{LastWord, millis, plural};
use crate::image::BaseName;
use crate::testing::{TESTS, TestImage};

/// What the parts that run in containers stand on.
const IMAGES: &str = "images";

pub(crate) fn run(context: &Context, args: &cli::Ci) -> Result<()> {
    if let Some(cli::Suite::Faults) = args.suite {
        images(context)?;
        let step =
            parts::on_containers(context, "the faults of a deploy", "deploy", &[EVERY_FAULT]);
        return context.machine.show(&step);
    }
    let wanted = Wanted::of(args)?;
    if args.list {
        return wanted.list();
    }
    let _word = LastWord::set("stopped; what had ended by then stands above");
    let outcome = wanted.run(context, args.within)?;
    tell(context, &outcome)
}

/// The parts that a person asked for.
#[derive(Debug)]
struct Wanted {
    checks: Vec<Part>,
    stacks: Vec<Part>,
    /// Asked for, but not run.
    left_out: Option<String>,
}

impl Wanted {
    fn of(args: &cli::Ci) -> Result<Self> {
        let named = |words: &[String], what: &str| {
            let what = what.to_lowercase();
            words.iter().any(|word| what.contains(&word.to_lowercase()))
        };
        for word in args.only.iter().chain(&args.skip) {
            let known = CHECKS.iter().chain(&STACKS);
            if !known
                .clone()
                .any(|part| named(std::slice::from_ref(word), part.what))
            {
                return Err(Failure::user(format!(
                    "failed to find a part with {word:?} in its name"
                ))
                .hint("cargo xtask ci --list")
                .into());
            }
        }
        let chosen = |all: &[Part]| -> Vec<Part> {
            all.iter()
                .filter(|part| args.only.is_empty() || named(&args.only, part.what))
                .filter(|part| !named(&args.skip, part.what))
                .copied()
                .collect()
        };
        let (mut checks, mut stacks) = (chosen(&CHECKS), chosen(&STACKS));
        let before = checks.len() + stacks.len();
        if args.fast {
            checks.retain(|part| !part.needs_images());
            stacks.clear();
        }
        let left = checks.len() + stacks.len();
        if left == 0 {
            // Nothing that failed is not the same as something that passed.
            return Err(
                Failure::user("failed to find a part to run: none is left of those")
                    .hint("cargo xtask ci --list")
                    .into(),
            );
        }
        let fewer = before - left;
        Ok(Self {
            left_out: (fewer > 0).then(|| format!("{}: containers", plural(fewer, "part"))),
            checks,
            stacks,
        })
    }

    /// One line for each part on standard output, in the order of a run.
    fn list(&self) -> Result<()> {
        for part in self.checks.iter().chain(&self.stacks) {
            let usual = millis(Duration::from_secs(part.usual));
            super::print(&format!("{:<48}{usual}", part.what))?;
        }
        Ok(())
    }

    fn run(self, context: &Context, within: Option<u64>) -> Result<Outcome> {
        let begun = Instant::now();
        let within = within.map(|minutes| Duration::from_secs(minutes * 60));
        let mut lane = Lane::new(begun, within);
        let needs_images = |parts: &[Part]| parts.iter().any(Part::needs_images);
        let in_need = needs_images(&self.checks) || needs_images(&self.stacks);
        let ground = |lane: &mut Lane| -> Option<TestImage> {
            let mut made = None;
            if in_need {
                lane.ground(context, IMAGES, || {
                    made = Some(images(context)?);
                    Ok(())
                });
            }
            made
        };
        let parts = self.checks.len() + self.stacks.len();
        let mut outcome = if self.stacks.is_empty() || parts == 1 {
            let all = self.checks.iter().chain(&self.stacks);
            let (after, before): (Vec<&Part>, Vec<&Part>) = all.partition(|p| p.needs_images());
            lane.live(context, &before, None);
            let image = ground(&mut lane);
            lane.live(context, &after, image.as_ref());
            lane.ended()
        } else {
            let other = context.again()?;
            let (made, image) = mpsc::channel();
            let (checks, queue) = (self.checks, Queue::new(self.stacks));
            let queue = &queue;
            thread::scope(|scope| -> Result<Outcome> {
                let beside = scope.spawn(move || {
                    let mut lane = Lane::new(begun, within);
                    lane.beside(&other, &checks, queue, &image);
                    lane.ended()
                });
                let image = ground(&mut lane);
                // Nobody waits where the other lane has panicked.
                made.send(image.clone()).ok();
                lane.live_of(context, queue, image.as_ref());
                let beside = beside
                    .join()
                    .ok()
                    .context("failed to join the other lane")?;
                Ok(lane.ended().and(beside))
            })?
        };
        outcome.left_out.extend(self.left_out);
        Ok(outcome)
    }
}

/// The lines at the end, and the exit status.
fn tell(context: &Context, outcome: &Outcome) -> Result<()> {
    let term = &context.term;
    term.say("");
    for done in &outcome.done {
        let line = format!("{}  {}", done.what, term.dim(&millis(done.took)));
        match done.passed {
            true => term.done(&line),
            false => term.fail(&line),
        }
    }
    for what in &outcome.left_out {
        term.warn(&format!("left out: {what}"));
    }
    github::summary(outcome)?;
    let failed: Vec<&str> = outcome
        .done
        .iter()
        .filter(|done| !done.passed)
        .map(|done| done.what.as_str())
        .collect();
    let passed = outcome.done.len() - failed.len();
    super::print(&format!("{passed} passed, {} failed", failed.len()))?;
    if failed.is_empty() {
        return Ok(());
    }
    let failures = plural(failed.len(), "part");
    let message = format!("{failures} failed: {}", failed.join(", "));
    Err(Failure::tool(message).into())
}

fn images(context: &Context) -> Result<TestImage> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let bases = [BaseName::Airflow, BaseName::Postgres, BaseName::Mysql];
    let facts = build::ensure(context, &engine, &deploy, &bases, false)?;
    TestImage::ensure(context, &engine, &facts, TESTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(only: &[&str], skip: &[&str], fast: bool) -> Vec<&'static str> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let args = cli::Ci {
            only: words(only),
            skip: words(skip),
            fast,
            ..cli::Ci::default()
        };
        let wanted = Wanted::of(&args).unwrap();
        let all = wanted.checks.iter().chain(&wanted.stacks);
        all.map(|part| part.what).collect()
    }

    #[test]
    fn a_part_is_wanted_by_any_word_of_its_name() {
        assert_eq!(
            wanted(&["RUFF", "night"], &["format"], false),
            ["lint (ruff)", "one night, end to end"]
        );
        assert_eq!(
            wanted(&[], &[], true),
            [
                "format (rustfmt)",
                "lint (clippy)",
                "unit and command-line tests (Rust)",
                "reference of the command line"
            ]
        );
        assert_eq!(wanted(&[], &[], false).len(), CHECKS.len() + STACKS.len());
    }

    #[test]
    fn to_run_nothing_is_a_mistake() {
        for (only, skip, fast) in [("ruff", "ruff", false), ("deploy", "locks", true)] {
            let args = cli::Ci {
                only: vec![only.into()],
                skip: vec![skip.into()],
                fast,
                ..cli::Ci::default()
            };
            let error = crate::error::show(&Wanted::of(&args).unwrap_err());
            assert_eq!(
                error.text,
                "error: failed to find a part to run: none is left of those\n\
                 hint: cargo xtask ci --list\n"
            );
        }
    }

    #[test]
    fn a_word_that_no_part_has_is_a_mistake() {
        let args = cli::Ci {
            skip: vec!["ruf".into(), "rufff".into()],
            ..cli::Ci::default()
        };
        let error = crate::error::show(&Wanted::of(&args).unwrap_err());
        assert_eq!(
            error.text,
            "error: failed to find a part with \"rufff\" in its name\n\
             hint: cargo xtask ci --list\n"
        );
        assert_eq!(error.status, 2);
    }
}
