use proptest::prelude::*;

use super::*;
use crate::fixture::NOON;

fn berlin() -> SiteZone {
    SiteZone::new("Europe/Berlin").unwrap()
}

fn at(rfc3339: &str) -> Timestamp {
    Timestamp::from_jiff(rfc3339.parse().unwrap())
}

#[test]
fn people_write_times_in_many_ways() {
    // Noon UTC is 13:00 in Berlin.
    for (text, means) in [
        ("now", "2026-11-23T12:00:00Z"),
        ("2026-11-23 22:00", "2026-11-23T21:00:00Z"),
        ("2026-11-23T22:00", "2026-11-23T21:00:00Z"),
        ("2026-11-23 22:00:30", "2026-11-23T21:00:30Z"),
        ("2026-07-01 22:00", "2026-07-01T20:00:00Z"),
        ("2026-11-23T22:00:00Z", "2026-11-23T22:00:00Z"),
        ("2026-11-23T22:00:00-05:00", "2026-11-24T03:00:00Z"),
        ("2026-11-23 22:00+02:00", "2026-11-23T20:00:00Z"),
        ("22:00", "2026-11-23T21:00:00Z"),
        ("12:59", "2026-11-24T11:59:00Z"),
        ("13:00", "2026-11-24T12:00:00Z"),
        ("00:00", "2026-11-23T23:00:00Z"),
        ("today 22:00", "2026-11-23T21:00:00Z"),
        ("tomorrow 06:00", "2026-11-24T05:00:00Z"),
        ("+4h", "2026-11-23T16:00:00Z"),
        ("+4h30m", "2026-11-23T16:30:00Z"),
        (" +1d ", "2026-11-24T12:00:00Z"),
    ] {
        assert_eq!(berlin().parse(text, NOON), Ok(at(means)), "{text}");
    }
}

#[test]
fn an_end_before_the_start_of_day_is_the_next_morning() {
    let start = berlin().parse("22:00", NOON).unwrap();
    assert_eq!(berlin().parse("06:00", start), Ok(at("2026-11-24T05:00:00Z")));
}

#[test]
fn a_time_that_comes_twice_or_never_is_refused_with_both_offsets() {
    let before = at("2026-10-24T12:00:00Z");
    let twice = berlin().parse("2026-10-25 02:30", before).unwrap_err().to_string();
    assert!(twice.contains("2026-10-25T02:30+02:00 for the first or 2026-10-25T02:30+01:00"), "{twice}");
    assert!(matches!(berlin().parse("tomorrow 02:30", before), Err(TimeError::Twice { .. })));
    assert_eq!(berlin().parse("2026-10-25T02:30+01:00", before), Ok(at("2026-10-25T01:30:00Z")));
    let never = berlin().parse("2026-03-29 02:30", NOON).unwrap_err().to_string();
    assert!(
        never.contains("does not exist") && never.contains("+01:00") && never.contains("+02:00"),
        "{never}"
    );
    // Around the change, hours of the day and hours that pass differ.
    let evening = berlin().parse("2026-10-24 22:00", before).unwrap();
    assert_eq!(berlin().parse("06:00", evening).unwrap().since(evening) / 3_600_000_000, 9);
    assert_eq!(berlin().parse("+8h", evening).unwrap().since(evening) / 3_600_000_000, 8);
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "x",
        "25:00",
        "22:60",
        "2:00",
        "22",
        "tomorrow",
        "tomorrow x",
        "yesterday 06:00",
        "2026-13-01 00:00",
        "2026-02-30 10:00",
        "+",
        "+4",
        "+4x",
        "+h",
        "+0h",
        "2026-11-23",
        "22:00:",
        "２２:００",
        "-4h",
        "9999999999999999999999999999",
    ] {
        assert!(berlin().parse(text, NOON).is_err(), "{text}");
    }
    assert!(SiteZone::new("Europe/Atlantis").is_err());
}

#[test]
fn durations_are_whole_units_in_falling_order() {
    for (text, seconds) in
        [("4h30m", 16_200), ("90m", 5_400), ("2d", 172_800), ("1d2h3m4s", 93_784), ("45s", 45)]
    {
        assert_eq!(parse_duration(text), Ok(seconds));
    }
    for text in ["", "4", "h", "30m4h", "4h4h", "0s", "-4h", "1.5h", "99999999999d", "5000d"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn times_are_shown_with_their_offset_and_what_is_left_in_words() {
    assert_eq!(berlin().show(NOON), "2026-11-23 13:00 +01:00");
    assert_eq!(berlin().show(at("2026-07-01T12:00:00Z")), "2026-07-01 14:00 +02:00");
    for (seconds, words) in [
        (0, "over"),
        (-5, "over"),
        (45, "45 s"),
        (119, "119 s"),
        (600, "10 min"),
        (4_320, "1 h 12 min"),
        (97_200, "1 d 3 h"),
    ] {
        assert_eq!(time_left(NOON, NOON.plus_seconds(seconds)), words);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        let _outcome = berlin().parse(&text, NOON);
        let _outcome = parse_duration(&text);
    }

    #[test]
    fn what_is_shown_reads_back(seconds in 0i64..4_000_000_000) {
        let minute = Timestamp::from_seconds(seconds - seconds % 60);
        let shown = berlin().show(minute);
        let (local, offset) = shown.rsplit_once(' ').unwrap();
        prop_assert_eq!(berlin().parse(&format!("{local}{offset}"), NOON), Ok(minute));
    }

    #[test]
    fn a_bare_time_lies_after_its_base_and_within_a_day_or_so(base in 0i64..4_000_000_000, h in 0i64..24, m in 0i64..60) {
        let base = Timestamp::from_seconds(base);
        if let Ok(then) = berlin().parse(&format!("{h:02}:{m:02}"), base) {
            prop_assert!(then > base && then.since(base) <= 25 * 3_600_000_000);
        }
    }
}
