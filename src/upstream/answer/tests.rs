use super::*;
use crate::upstream::{SourceConfig, SourceType};

fn read(body: &str) -> Result<StatusAnswer, String> {
    let profile = Profile::of(&super::super::SourceConfig::default()).unwrap();
    profile.read(body.as_bytes()).map(|(answer, _)| answer)
}

#[test]
fn both_generations_name_the_same_run() {
    let epoch = read(r#"{"status":"completed","completed_at":1772611219,"started_at":1772611202}"#).unwrap();
    let iso = read(
        r#"{"status":"completed","completed_at":"2026-03-04T08:00:19Z","started_at":"2026-03-04T08:00:02.000000+00:00","attempt_count":1}"#,
    )
    .unwrap();
    assert!(epoch.run.same_run(&iso.run), "{epoch:?} {iso:?}");
    assert_eq!(epoch.ended_at, iso.ended_at);
    assert_eq!(epoch.class, StatusClass::Finished(Outcome::Completed));
}

#[test]
fn missing_and_unknown_fields_are_accepted() {
    let answer = read(r#"{"status":"in_progress","novel":[1],"metadata":{"a":"b","n":3}}"#).unwrap();
    assert_eq!(answer.class, StatusClass::Pending);
    assert_eq!(answer.metadata.unwrap()["n"], "3");
    assert!(answer.run.is_silent());
    assert_eq!(read(r#"{"status":"paused_for_lunch"}"#).unwrap().class, StatusClass::Unknown);
}

#[test]
fn what_is_no_status_is_an_error() {
    for body in ["", "<html>", "[]", "{}", r#"{"status":null}"#, r#"{"status":""}"#] {
        assert!(read(body).is_err(), "{body}");
    }
}

#[test]
fn a_careless_body_says_what_a_careful_one_does() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let long = "9".repeat(100_000);
    for rest in [
        r#""x":[NaN,-Infinity,undefined]"#,
        r#""x":"\ud83d""#,
        r#""x":1e400"#,
        r#""status":"queued","completed_at":"2026-03-04T09:00:19Z","metadata":{"a":"second"}"#,
        &format!(r#""x":{}"#, deep(150)),
        &format!(r#""x":{}"#, deep(200)),
        &format!(r#""x":{}"#, deep(100_000)),
        &format!(r#""x":{long}"#),
    ] {
        let body = format!(
            "\u{feff}{{\"status\":\"completed\",\"completed_at\":1772611219,\"metadata\":{{\"a\":\"b\",\"a\":1}},{rest}}}"
        );
        let answer = read(&body).unwrap();
        assert_eq!(
            (answer.class, answer.ended_at),
            (StatusClass::Finished(Outcome::Completed), Some(Time(1_772_611_219_000)))
        );
        assert_eq!(answer.metadata.unwrap(), [("a".to_owned(), "b".to_owned())].into(), "{}", &rest[..10]);
    }
    let odd = read(r#"{"status":"failed","error":NaN,"completed_at":NaN,"metadata":{"n":NaN,"o":{"x": 1}}}"#)
        .unwrap();
    assert_eq!((odd.error, odd.ended_at, odd.run.completed_at), (None, None, None));
    let metadata = odd.metadata.unwrap();
    assert_eq!((metadata["n"].as_str(), metadata["o"].as_str()), ("NaN", r#"{"x": 1}"#));
}

#[test]
fn what_is_too_long_is_absent_and_an_error_is_cut() {
    let long = "x".repeat(1 << 20);
    let answer = read(&format!(
        r#"{{"status":"failed","error":"{long}","attempt_count":"{long}","metadata":{{"a":"{long}"}}}}"#
    ))
    .unwrap();
    assert_eq!(answer.error.map(|error| error.len()), Some(MAX_ERROR));
    assert_eq!((answer.run.attempt_count, answer.metadata), (None, None));
    read(&format!(r#"{{"status":"{long}"}}"#)).unwrap_err();
    let config = SourceConfig { profile: SourceType::named("fal").unwrap(), ..SourceConfig::default() };
    let (answer, _) = Profile::of(&config)
        .unwrap()
        .read(format!(r#"{{"status":"COMPLETED","error":"{long}"}}"#).as_bytes())
        .unwrap();
    assert_eq!(answer.class, StatusClass::Finished(Outcome::Failed), "an error that is no word is one");
}
