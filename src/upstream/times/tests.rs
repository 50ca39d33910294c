use proptest::prelude::*;

use super::*;

/// 2026-03-04T08:00:19Z
const END: Time = Time(1_772_611_219_000);

/// What is believed of a value.
fn believed(clock: SourceClock, value: Scalar<'_>) -> Option<Time> {
    read(value).filter(|time| clock.believes(*time))
}

fn clock(now: Time, date: Option<Time>) -> SourceClock {
    let mut headers = HeaderMap::new();
    if let Some(date) = date {
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(date.0).unwrap());
        headers.insert(http::header::DATE, httpdate::fmt_http_date(date).parse().unwrap());
    }
    SourceClock::of(&headers, now)
}

#[test]
fn every_form_of_a_time_is_read() {
    let now = clock(END, None);
    for digits in [
        "1772611219",
        "1772611219.0",
        "1772611219000",
        "1772611219000000",
        "1772611219000000000",
        "1.772611219e9",
    ] {
        assert_eq!(believed(now, Scalar::Number(digits)), Some(END), "{digits}");
        assert_eq!(believed(now, Scalar::Text(digits)), Some(END), "{digits}");
    }
    for text in [
        "2026-03-04T08:00:19Z",
        "2026-03-04T08:00:19.000000000Z",
        "2026-03-04 08:00:19+00:00",
        "2026-03-04T10:00:19+02:00",
        "2026-03-04T08:00:19",
        " 1772611219 ",
    ] {
        assert_eq!(believed(now, Scalar::Text(text)), Some(END), "{text}");
    }
    assert_eq!(believed(now, Scalar::Number("1772611218.5")), Some(Time(END.0 - 500)));
    assert_eq!(believed(now, Scalar::Number("1772611218500250")), Some(Time(END.0 - 500)));
}

#[test]
fn what_cannot_be_a_time_is_absent() {
    let now = clock(END, None);
    for text in [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00",
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59Z",
        "0",
        "0.0",
        "-1",
        "1",
        "946684799",
        "9999-12-31T23:59:59.9999999Z",
        "2026-03-05T08:00:20Z",
        "1772697620",
        "1e300",
        "1e400",
        "inf",
        "nan",
        "99999999999999999999999999",
        "",
        " ",
        "yesterday",
        "true",
    ] {
        assert_eq!(believed(now, Scalar::Text(text)), None, "{text}");
        assert_eq!(believed(now, Scalar::Number(text)), None, "{text}");
    }
    assert_eq!(believed(now, Scalar::Text("2026-03-05T08:00:19Z")), Some(Time(END.0 + MAX_AHEAD)));
}

#[test]
fn a_clock_that_is_off_is_told_by_its_date() {
    for off in [-3_600_000, -600_000, -6_000, 6_000, 600_000, 3_600_000, 10 * MAX_AHEAD] {
        let theirs = clock(END, Some(Time(END.0 + off)));
        assert_eq!(theirs.ahead, off);
        let read = believed(theirs, Scalar::Text(&Time(END.0 + off - 1000).to_string()));
        assert_eq!(read.map(|time| theirs.ours(time)), Some(Time(END.0 - 1000)));
    }
    for off in [-5_000, -999, 0, 999, 5_000] {
        assert_eq!(clock(END, Some(Time((END.0 + off).div_euclid(1000) * 1000))).ahead, 0, "{off}");
    }
    assert_eq!(clock(END, None).ahead, 0);
}

#[test]
fn no_age_is_taken_from_a_clock_that_nothing_tells() {
    let config = crate::upstream::SourceConfig::default();
    let profile = crate::upstream::Profile::of(&config).unwrap();
    let hour_ago = Time(END.0 - 3_600_000);
    let body = format!(
        r#"{{"status":"completed","created_at":"{hour_ago}","started_at":"{hour_ago}","completed_at":"{END}"}}"#
    );
    let never = Time(LATEST.0 + 1000);
    for (date, age) in [(None, None), (Some(Time(0)), None), (Some(never), None), (Some(END), Some(hour_ago))]
    {
        let (mut answer, _) = profile.read(body.as_bytes()).unwrap();
        let run = answer.run.clone();
        assert_eq!(clock(END, date).drop_untrue(&mut answer), None);
        assert_eq!((answer.created_at, answer.started_at, answer.clock_ahead), (age, age, 0), "{date:?}");
        assert_eq!((answer.ended_at, &answer.run), (Some(END), &run), "{date:?}");
    }
}

#[test]
fn the_mark_of_a_run_is_what_it_always_was() {
    for (value, mark) in [
        (Scalar::Number("1772611219"), Some("1772611219000")),
        (Scalar::Number("1772611219.25"), Some("1772611219250")),
        (Scalar::Number("1772611219000"), Some("1772611219000")),
        (Scalar::Number("1772611219000000"), Some("1772611219000000")),
        (Scalar::Text("2026-03-04T08:00:19Z"), Some("1772611219000")),
        (Scalar::Text("2026-03-04T08:00:19.000000+00:00"), Some("1772611219000")),
        (Scalar::Text("1772611219"), Some("1772611219")),
        (Scalar::Text("run 7"), Some("run 7")),
        (Scalar::Text("0001-01-01T00:00:00Z"), None),
        (Scalar::Text("9999-12-31T23:59:59Z"), None),
        (Scalar::Number("0"), None),
        (Scalar::Number("-5"), None),
        (Scalar::Number("1e300"), None),
        (Scalar::Number("1e400"), None),
        (Scalar::Text(""), None),
    ] {
        assert_eq!(run_mark(value).as_deref(), mark, "{value:?}");
    }
}

proptest! {
    #[test]
    fn no_value_panics_or_is_believed_outside_its_bounds(
        text in "\\PC{0,40}", number in any::<f64>(), now in any::<i64>(), date in 0_i64..253_000_000_000,
    ) {
        let clock = clock(Time(now), Some(Time(date * 1000)));
        for value in [Scalar::Text(&text), Scalar::Number(&text), Scalar::Number(&number.to_string())] {
            let _ = run_mark(value);
            if let Some(time) = believed(clock, value) {
                prop_assert!(time >= EARLIEST && clock.ours(time).0 <= now.saturating_add(MAX_AHEAD));
            }
        }
    }
}
