//! Parts one after the other.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::github;
use super::outcome::{Done, Outcome};
use super::parts::Part;
use crate::context::Context;
use crate::error::show;
use crate::exec::{self, millis};
use crate::testing::TestImage;

/// How much slower this machine is than the one on which the usual times were taken.
#[derive(Debug, Default)]
struct Pace {
    usual: Duration,
    took: Duration,
}

impl Pace {
    fn took(&mut self, usual: Duration, took: Duration) {
        self.usual += usual;
        self.took += took;
    }

    fn foretell(&self, usual: Duration) -> Duration {
        let slower = self.took.as_secs_f64() / self.usual.as_secs_f64().max(1.0);
        usual.mul_f64(slower.max(1.0))
    }
}

/// Parts that wait for a lane; the first to be free takes the next.
#[derive(Debug)]
pub(super) struct Queue(Mutex<VecDeque<Part>>);

impl Queue {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        Self(Mutex::new(parts.into()))
    }

    /// The next that `fits`, which nobody else has then.
    fn take(&self, fits: impl Fn(&Part) -> bool) -> Option<Part> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = left.iter().position(fits)?;
        left.remove(at)
    }
}

/// Parts that run one after the other.
#[derive(Debug)]
pub(super) struct Lane {
    begun: Instant,
    /// No part begins that would end later than this.
    within: Option<Duration>,
    pace: Pace,
    outcome: Outcome,
}

impl Lane {
    pub(super) fn new(begun: Instant, within: Option<Duration>) -> Self {
        Self {
            begun,
            within,
            pace: Pace::default(),
            outcome: Outcome::default(),
        }
    }

    pub(super) fn ended(self) -> Outcome {
        self.outcome
    }

    /// Parts that speak as they go.
    pub(super) fn live(&mut self, context: &Context, parts: &[&Part], image: Option<&TestImage>) {
        for part in parts {
            self.part(part, image.is_some(), |lane| {
                lane.ground(context, part.what, || part.show(context, image));
            });
        }
    }

    /// The same with what `queue` has, to its end.
    pub(super) fn live_of(&mut self, context: &Context, queue: &Queue, image: Option<&TestImage>) {
        while let Some(part) = queue.take(|_| true) {
            self.live(context, &[&part], image);
        }
    }

    /// Parts whose words are shown when they have ended, each in one piece, and then
    /// what `queue` has of such. The image comes when it is made.
    pub(super) fn beside(
        &mut self,
        context: &Context,
        parts: &[Part],
        queue: &Queue,
        made: &Receiver<Option<TestImage>>,
    ) {
        let (after, before): (Vec<&Part>, Vec<&Part>) =
            parts.iter().partition(|part| part.needs_images());
        for part in before {
            self.part(part, false, |lane| lane.piece(context, part, None));
        }
        let image = made.recv().ok().flatten();
        let mut piece = |part: &Part| {
            self.part(part, image.is_some(), |lane| {
                lane.piece(context, part, image.as_ref());
            });
        };
        after.into_iter().for_each(&mut piece);
        while let Some(part) = queue.take(Part::is_one_command) {
            piece(&part);
        }
    }

    /// Runs a part, unless it cannot end in time or has nothing to stand on.
    fn part(&mut self, part: &Part, has_images: bool, run: impl FnOnce(&mut Self)) {
        let mut leave_out = |why: String| {
            let line = format!("{}: {why}", part.what);
            self.outcome.left_out.push(line);
        };
        if exec::met() {
            return leave_out("Ctrl-C".to_owned());
        }
        if part.needs_images() && !has_images {
            return leave_out("there are no images".to_owned());
        }
        let (begun, usual) = (self.begun.elapsed(), Duration::from_secs(part.usual));
        let end = begun + self.pace.foretell(usual);
        if self.within.is_some_and(|within| end > within) {
            return leave_out(format!("it would have ended after {}", millis(end)));
        }
        run(self);
        self.pace.took(usual, self.begun.elapsed() - begun);
    }

    /// Work that others stand on or that speaks as it goes, under a title.
    pub(super) fn ground(
        &mut self,
        context: &Context,
        what: &str,
        work: impl FnOnce() -> Result<()>,
    ) {
        let term = &context.term;
        term.say(&format!("\n{}", term.bold(&format!("── {what}"))));
        let started = Instant::now();
        let result = work();
        if let Err(error) = &result {
            term.say(&github::failed(what, show(error).text.trim_end()));
        }
        self.done(what, started, result.is_ok());
    }

    fn piece(&mut self, context: &Context, part: &Part, image: Option<&TestImage>) {
        let term = &context.term;
        let started = Instant::now();
        let shown = part
            .step(context, image)
            .and_then(|step| context.machine.block(&step));
        let (said, passed) = match shown {
            Ok((said, result)) => match result {
                Ok(()) => (said, true),
                Err(failure) => (said + &show(&failure.into()).text, false),
            },
            Err(error) => (show(&error).text, false),
        };
        let took = millis(started.elapsed());
        let title = term.bold(&format!("── {}  {took}", part.what));
        let said = said.trim_end();
        term.say(&match passed {
            true => github::passed(&title, said),
            false => format!("\n{title}\n{}", github::failed(part.what, said)),
        });
        self.done(part.what, started, passed);
    }

    fn done(&mut self, what: &str, started: Instant, passed: bool) {
        self.outcome.done.push(Done {
            what: what.to_owned(),
            took: started.elapsed(),
            passed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::STACKS;
    use super::*;

    #[test]
    fn each_part_is_taken_once_by_a_lane_that_it_fits() {
        let queue = Queue::new(STACKS.to_vec());
        let mut taken = Vec::new();
        while let Some(part) = queue.take(Part::is_one_command) {
            taken.push(part.what);
        }
        let mut rest = Vec::new();
        while let Some(part) = queue.take(|_| true) {
            rest.push(part.what);
        }
        assert_eq!(
            rest,
            [
                "ETL tests (MariaDB, Postgres)",
                "DAG and bootstrap tests (Airflow)",
                "image, on another machine with a newer engine"
            ]
        );
        assert_eq!(taken.len() + rest.len(), STACKS.len());
    }

    #[test]
    fn a_slow_machine_takes_longer_for_what_is_left_too() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let mut pace = Pace::default();
        assert_eq!(pace.foretell(minutes(2)), minutes(2));
        pace.took(minutes(1), minutes(3));
        pace.took(minutes(3), minutes(5));
        assert_eq!(pace.foretell(minutes(2)), minutes(4));
        // A quick one had something of it already.
        pace.took(minutes(10), minutes(1));
        assert_eq!(pace.foretell(minutes(2)), minutes(2));
    }
}
