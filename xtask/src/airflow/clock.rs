//! The clinic's clock.

/// Its zone, which the schedule and the guard go by.
pub(super) const ZONE: &str = "America/Chicago";

/// An ISO 8601 instant as that clock shows it; as it is where it cannot be read.
pub(crate) fn central(instant: &str) -> String {
    instant
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| at.in_tz(ZONE).ok())
        .map_or_else(
            || instant.to_owned(),
            |at| at.strftime("%a %Y-%m-%d %H:%M %Z").to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_shown_by_the_clinics_clock() {
        assert_eq!(
            central("2026-11-23T03:00:00+00:00"),
            "Sun 2026-11-22 21:00 CST"
        );
        assert_eq!(central("2026-07-01T02:00:00Z"), "Tue 2026-06-30 21:00 CDT");
        assert_eq!(central("soon"), "soon");
    }
}
