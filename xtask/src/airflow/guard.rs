//! What the DAG's guard will say, foretold.
//!
//! The decision is the guard's alone, by its own clock and environment:
//! `decide` in `etl_pipeline/etl_pipeline/window.py` is the rule, and
//! `airflow/NIGHTLY_RUN.md` says it in words. This tells a person beforehand.

use jiff::civil::{Time, time};
use jiff::{Timestamp, Zoned};

use super::clock::ZONE;
use crate::config::Place;

/// `CLOSES` in window.py: from here on the source belongs to the practice.
const CLOSES: Time = time(6, 0, 0, 0);
/// `OPENS` in window.py: from here on it may be read.
const OPENS: Time = time(21, 0, 0, 0);
/// `OVERRIDE_SWITCH` in window.py.
const SWITCH: &str = "ETL_ALLOW_BUSINESS_HOURS_OVERRIDE";

/// What the guard would say at `now` to a run that a person starts. `asked`:
/// whether it asks to ignore business hours; `permitted`: whether the container
/// lets it; `place`: whose run it is. `None` where this machine does not know the clinic's zone.
pub(crate) fn foretell(
    now: Timestamp,
    asked: bool,
    permitted: bool,
    place: &Place,
) -> Option<String> {
    let local = now.in_tz(ZONE).ok()?;
    let clock = local.strftime("%a %H:%M %Z");
    if !in_business_hours(&local) {
        return Some(format!(
            "the guard would let it start: outside business hours ({clock})"
        ));
    }
    if asked && permitted {
        return Some(format!(
            "the guard would let it start as an exception: business hours ({clock})"
        ));
    }
    let refusal = format!(
        "the guard would refuse it now: business hours ({clock}), open from {}",
        OPENS.strftime("%H:%M")
    );
    Some(if asked {
        let settings = place.host().map_or(".env", |_| "its settings");
        format!(
            "{refusal};\n  an exception needs {SWITCH}=true in {settings}, then {}",
            place.up()
        )
    } else {
        refusal
    })
}

fn in_business_hours(local: &Zoned) -> bool {
    (CLOSES..OPENS).contains(&local.time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hours_are_those_of_the_rule() {
        let rule = include_str!("../../../etl_pipeline/etl_pipeline/window.py");
        let written = |time: Time| format!("time({})", time.hour());
        for line in [
            format!("ZONE = ZoneInfo(\"{ZONE}\")"),
            format!("CLOSES = {}", written(CLOSES)),
            format!("OPENS = {}", written(OPENS)),
            format!("OVERRIDE_SWITCH = \"{SWITCH}\""),
        ] {
            assert!(rule.lines().any(|l| l == line), "{line}");
        }
    }

    #[test]
    fn the_guards_word_is_foretold_by_the_clinics_clock() {
        let day = "the guard would refuse it now: business hours (Sun 14:03 CST), open from 21:00";
        let needs = ";\n  an exception needs ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true in .env, then cargo xtask up";
        for (at, asked, permitted, said) in [
            ("2026-11-22T20:03:00Z", false, false, day.to_owned()),
            ("2026-11-22T20:03:00Z", false, true, day.to_owned()),
            ("2026-11-22T20:03:00Z", true, false, format!("{day}{needs}")),
            (
                "2026-11-22T20:03:00Z",
                true,
                true,
                "the guard would let it start as an exception: business hours (Sun 14:03 CST)"
                    .to_owned(),
            ),
            (
                "2026-07-02T02:00:00Z",
                true,
                false,
                "the guard would let it start: outside business hours (Wed 21:00 CDT)".to_owned(),
            ),
        ] {
            let told = foretell(at.parse().unwrap(), asked, permitted, &Place::default());
            assert_eq!(told.as_deref(), Some(said.as_str()));
        }
    }

    #[test]
    fn the_edges_of_business_hours_are_those_of_the_second() {
        for (at, inside) in [
            ("2026-11-22T05:59:59.999-06:00", false),
            ("2026-11-22T06:00:00-06:00", true),
            ("2026-11-22T20:59:59.999-06:00", true),
            ("2026-11-22T21:00:00-06:00", false),
            ("2026-07-01T06:00:00-05:00", true),
        ] {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(in_business_hours(&at.in_tz(ZONE).unwrap()), inside, "{at}");
        }
    }
}
