use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::deliver::message::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LIMIT: Duration = Duration::from_secs(60);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn message(job_id: &str, reason: Option<&str>, body: Body) -> Message {
    let outcome = if reason.is_some() { Outcome::Lost } else { Outcome::Completed };
    let subject = Subject {
        source: "retab".to_owned(),
        job_id: job_id.parse().unwrap(),
        kind: None,
        outcome: Some(outcome),
        status: None,
        labels: BTreeMap::from([("team".to_owned(), "bil\"ling".to_owned())]),
        reason: reason.map(str::to_owned),
    };
    Message::job("evt_1".to_owned(), EventType::Ended(outcome), Time(1_779_883_200_500), subject, body)
}

fn job(body: impl Into<Bytes>) -> Message {
    message("job_1", None, Body::Inline(body.into()))
}

fn rendered(template: &str, content_type: HeaderValue, message: &Message) -> Result<String, String> {
    let payload = BodyTemplate::inline(template, content_type)
        .render(message, LIMIT)
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    payload.reader().unwrap().read_to_string(&mut text).unwrap();
    Ok(text)
}

fn plain(template: &str, message: &Message) -> String {
    rendered(template, TEXT, message).unwrap()
}

fn failure(template: &str, message: &Message) -> String {
    rendered(template, JSON, message).unwrap_err()
}

fn check(template: &str) -> Result<(), String> {
    BodyTemplate::inline(template, JSON).check().map_err(|error| error.to_string())
}

#[test]
fn an_event_has_its_names() {
    let template = "{{ type }} {{ timestamp }} {{ id }} {{ source }} {{ job_id }} {{ outcome }} {{ labels.team }} \
                    {{ reason }} {{ data.a[1] }}";
    assert_eq!(
        plain(template, &job(r#"{"a":[1,{"b":"é"}]}"#)),
        r#"job.completed 2026-05-27T12:00:00.500Z evt_1 retab job_1 completed bil"ling null {"b":"é"}"#
    );
    let lost = message("job_1", Some("past its deadline"), Body::Null);
    assert_eq!(plain("{{ type }}: {{ reason }}, {{ data }}", &lost), "job.lost: past its deadline, null");
    let test = Message::test("evt_t".to_owned(), Time(0), "hello");
    assert_eq!(
        plain("{{ type }} {{ job_id }} {{ labels }} {{ data.message }}", &test),
        "tidings.test test {} hello"
    );
}

#[test]
fn what_is_not_there_fails_with_its_line() {
    let job = job("{}");
    assert_eq!(failure("{\n\"a\": \"{{ data.total }}\"}", &job), "line 2: `data.total` is undefined");
    assert_eq!(failure("\n\n{% if labels.tier %}1{% endif %}", &job), "line 3: `labels.tier` is undefined");
    assert_eq!(failure("{{ nobody }}", &job), "line 1: `nobody` is undefined");
    assert_eq!(rendered("\"{{ data.total|default('-') }}\"", JSON, &job).unwrap(), "\"-\"");
}

#[test]
fn values_are_escaped_for_what_the_output_is() {
    let odd = message(
        "a\"b\\<&é",
        None,
        Body::Inline(Bytes::from_static(br#"{"n":1.5,"t":"\n\u0001","o":[true]}"#)),
    );
    let template = r#"{"id":"{{ job_id }}","t":"{{ data.t }}","o":"{{ data.o }}","whole":{{ data|tojson }}}"#;
    let value: serde_json::Value = serde_json::from_str(&rendered(template, JSON, &odd).unwrap()).unwrap();
    let expected = json!({ "id": "a\"b\\<&é", "t": "\n\u{1}", "o": "[true]", "whole": {"n": 1.5, "t": "\n\u{1}", "o": [true]} });
    assert_eq!(value, expected);
    // What was put together first is escaped once.
    let template = "{% set x %}<{{ job_id }}>{% endset %}{% macro m(v) %}{{ v }}{% endmacro %}[\"{{ x }}\",\"{{ m(job_id) }}\",\"{{ '\"' ~ job_id }}\"]";
    let value: serde_json::Value = serde_json::from_str(&rendered(template, JSON, &odd).unwrap()).unwrap();
    assert_eq!(value, json!(["<a\"b\\<&é>", "a\"b\\<&é", "\"a\"b\\<&é"]));
    let suffix = HeaderValue::from_static("application/vnd.x+json; charset=utf-8");
    assert_eq!(rendered("\"{{ job_id }}\"", suffix, &odd).unwrap(), r#""a\"b\\<&é""#);
    let html = rendered("<b>{{ job_id }}</b>", HeaderValue::from_static("text/html"), &odd).unwrap();
    assert_eq!(html, "<b>a&quot;b\\&lt;&amp;é</b>");
    assert_eq!(plain("{{ job_id }} {{ job_id|urlencode }}", &odd), "a\"b\\<&é a%22b%5C%3C%26%C3%A9");
}

#[test]
fn numbers_and_the_order_of_keys_survive() {
    let text = r#"{"z": [9007199254740993, -9223372036854775808, 18446744073709551616, 340282366920938463463374607431768211455], "a": [0.1, 1.5, -2.25]}"#;
    assert_eq!(plain("{{ data|tojson }}", &job(text)), text);
    assert_eq!(
        plain("{{ data.z[2] + 1 }} {{ data.z[3] }}", &job(text)),
        "18446744073709551617 340282366920938463463374607431768211455"
    );
    // The documented limits.
    assert_eq!(
        plain("{{ data }}", &job("[1.10, 1E2, 0.1234567890123456789]")),
        "[1.1,100.0,0.12345678901234568]"
    );
}

#[test]
fn a_job_is_read_as_tolerantly_as_elsewhere() {
    let deep = |levels: usize| job("[".repeat(levels) + "7" + &"]".repeat(levels));
    let nested = format!("{}7{}", "[".repeat(2000), "]".repeat(2000));
    assert_eq!(plain("{{ data }}", &deep(2000)), nested);
    assert_eq!(rendered("{{ data|tojson }}", JSON, &deep(200)).unwrap().len(), 401);
    let error = rendered("{{ data }}", TEXT, &deep(2001)).unwrap_err();
    assert_eq!(error, "the job cannot be read as JSON: it is nested more than 2000 levels deep");
    let error = rendered("{{ data }}", TEXT, &deep(200_000)).unwrap_err();
    assert_eq!(error, "the job cannot be read as JSON: it is nested more than 2000 levels deep");
    for (job_text, template, expected) in [
        ("\u{feff}{\"a\":1}", "{{ data.a }}", "1"),
        (
            r#"{"a":NaN,"b":-Infinity,"c":[NaN,1e999]}"#,
            "{{ data.a }} {{ data.b < 0 }} {{ data.c }}",
            "null true [null,null]",
        ),
        (r#"{"a":1,"a":{"a":2},"b":3}"#, "{{ data.a }} {{ data.b }} {{ data }}", "1 3 {\"a\":1,\"b\":3}"),
        (r#"{"a\u0041":"\ud800 \ud83d\ude00 \x \"}"}"#, "{{ data.aA }}", "\u{fffd} \u{1f600} x \"}"),
        (" [ [ ] , { } , \"\" ,\tTrue ] \n", "{{ data }}", r#"[[],{},"","True"]"#),
        ("\"\\\\\"", "{{ data }}", "\\"),
        ("7", "{{ data + 1 }}", "8"),
    ] {
        assert_eq!(plain(template, &job(job_text.to_owned())), expected, "{job_text}");
    }
    for (job_text, expected) in [
        ("{\"a\":1", "it ends after 6 bytes, within its value"),
        ("{\"a\":1}}", "its value ends before byte 7, and more follows"),
        ("<html>", "unexpected `<` at byte 0"),
    ] {
        let error = rendered("{{ data }}", TEXT, &job(job_text)).unwrap_err();
        assert_eq!(error, format!("the job cannot be read as JSON: {expected}"));
    }
}

#[test]
fn output_that_is_not_json_is_not_sent() {
    let job = job("{}");
    let error = failure("{\n  \"a\": 1,\n  \"b\": {{ job_id }}\n}", &job);
    assert!(error.starts_with("line 3: its output is not JSON: expected value at line 3 column"), "{error}");
    assert!(failure("", &job).contains("EOF while parsing"));
    let error = failure("{\"a\": 1,\n\n}", &job);
    assert!(error.starts_with("line 3: ") && error.contains("key must be a string"), "{error}");
    assert_eq!(plain("{ no JSON", &job), "{ no JSON");
}

#[test]
fn a_large_job_is_read_only_by_a_template_that_uses_it() {
    let size = MAX_DATA.0 + 1;
    // Not even opened.
    let body = Body::Stored { body: crate::store::StoredBody::in_file("/nowhere"), size };
    let large = message("job_1", None, body);
    assert_eq!(plain("{{ job_id }}", &large), "job_1");
    let error = rendered("{% if false %}{{ data }}{% endif %}", TEXT, &large).unwrap_err();
    assert_eq!(
        error,
        "it uses `data`, and the job has 4194305 bytes; up to 4MiB are read. Leave `data` out, or take another format"
    );
    let body = "1".repeat(38);
    let longest =
        format!("[{}{body}]", format!("{body},").repeat(usize::try_from(MAX_DATA.0).unwrap() / 39 - 2));
    assert!(plain("{{ data|tojson }}", &job(longest.clone())).len() >= longest.len());
    // What would take a hundred times its size is not taken apart.
    for crowd in ["{\"\":0},", "[],", "0,"] {
        let job = job(format!("[{}0]", crowd.repeat(1_100_000 / crowd.len() * 3)));
        let error = rendered("{{ data|length }}", TEXT, &job).unwrap_err();
        assert_eq!(error, "the job cannot be read as JSON: it holds more values than a template may read");
    }
}

#[test]
fn no_template_runs_for_long_or_fills_the_memory() {
    let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
    for template in
        [endless, "{{ 'x' * 10000000000 }}", "{{ ('x' * 60000000) ~ ('x' * 60000000) ~ ('x' * 60000000) }}"]
    {
        let error = failure(template, &job("{}"));
        assert_eq!(error, "line 1: it does more than one rendering may: a loop or a text is too long");
    }
    assert_eq!(failure("{{ 'x' * 9000000 }}", &job("{}")), "its output is longer than 8MiB");
    let error = failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", &job("{}"));
    assert!(error.contains("recursion limit exceeded"), "{error}");
    assert!(failure("{% include '/etc/passwd' %}", &job("{}")).contains("unknown statement include"));
}

#[test]
fn what_nests_too_deeply_is_refused_before_it_is_parsed() {
    let sum = |words: usize| format!("\n{{{{ {}1 }}}}", "1+".repeat(words / 2));
    assert_eq!(plain(&sum(9_990), &job("{}")), "\n4996");
    let error = rendered(&sum(10_010), TEXT, &job("{}")).unwrap_err();
    assert_eq!(error, "line 2: a tag has more than 10000 words, which nest too deeply");
    let branches =
        |count: usize| format!("{{% if false %}}{}{{% endif %}}1", "{% elif false %}".repeat(count - 1));
    assert_eq!(plain(&branches(1000).repeat(2), &job("{}")), "11");
    let error = rendered(&branches(1001), TEXT, &job("{}")).unwrap_err();
    assert_eq!(error, "line 1: an `if` has more than 1000 branches, which nest too deeply");
    // What is many, and not deep.
    let many = "{{ 1 }}{% if elif %}{% endif %}".repeat(6_000);
    assert_eq!(plain(&format!("{{% set elif = false %}}{many}"), &job("{}")).len(), 6_000);
}

#[test]
fn a_check_finds_what_is_wrong_with_every_event() {
    for (template, expected) in [
        ("{\n{% for x in data %}}", "line 2: unexpected end of input, expected end of block"),
        ("{\n\"a\": \"{{ job_idd }}\"}", "line 2: `job_idd` is undefined"),
        ("\"{{ job_id|shout }}\"", "line 1: filter shout is unknown"),
        ("\"{{ job_id is loud }}\"", "line 1: test loud is unknown"),
        ("\"{{ now() }}\"", "line 1: now is unknown"),
        ("{\"a\": {{ job_id }}}", "line 1: its output is not JSON: "),
    ] {
        let error = check(template).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_check_passes_what_only_an_event_can_tell() {
    for template in [
        "{{ data.total|tojson }}",
        "\"{{ labels.team }}\"",
        "{% if outcome == 'failed' %}{% set y = 1 %}{% endif %}{{ y }}",
        "{{ reason|upper|length }}{{ data }}",
        "{{ nobody|default(1) }}",
        "{% for key, value in labels|items %}{{ nothing }}{% endfor %}{}",
    ] {
        assert_eq!(check(template), Ok(()), "{template}");
    }
}

#[test]
fn a_file_is_read_for_every_rendering() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slack.j2");
    let template = BodyTemplate::file(folder.path(), Path::new("slack.j2"), JSON);
    let at = "slack.j2";
    // A name that leads nowhere may be a key that was pasted into its place.
    assert!(template.check().unwrap_err().to_string().starts_with("in [redacted]: No such file"));
    std::fs::write(&path, "\n{{ x }").unwrap();
    assert!(template.check().unwrap_err().to_string().starts_with(&format!("in {at}, line 2: ")));
    std::fs::write(&path, "\"{{ id }}\"\n").unwrap();
    assert_eq!(template.check(), Ok(()));
    assert_eq!(template.render(&job("{}"), LIMIT).unwrap().len(), 7);
    std::fs::write(&path, "x".repeat(usize::try_from(MAX_TEMPLATE.0).unwrap() + 1)).unwrap();
    assert_eq!(
        template.render(&job("{}"), LIMIT).unwrap_err().to_string(),
        format!("in {at}: it is longer than 1MiB")
    );
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|value| json!(value)),
            prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|value| json!(value)),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_comes_out_as_it_is(text in "[^\\p{Cc}]{1,60}", value in any::<String>()) {
        // `.` alone is no id.
        prop_assume!(text.parse::<crate::model::job::JobId>().is_ok());
        let body = json!({ "v": value }).to_string();
        let out = rendered(r#"["{{ job_id }}","{{ data.v }}",{{ data.v|tojson }}]"#, JSON, &message(&text, None, Body::Inline(body.into())));
        let seen: serde_json::Value = serde_json::from_str(&out.unwrap()).unwrap();
        prop_assert_eq!(seen, json!([text, value, value]));
    }

    /// What is strict JSON is read as a strict parser reads it.
    #[test]
    fn strict_json_comes_out_as_it_is(value in json_value()) {
        let text = value.to_string();
        let seen: serde_json::Value = serde_json::from_str(&plain("{{ data|tojson }}", &job(text))).unwrap();
        prop_assert_eq!(seen, value);
    }

    #[test]
    fn whole_numbers_come_out_as_they_are(a in any::<i128>(), b in any::<u128>(), c in any::<u64>(), d in any::<i64>()) {
        let text = format!("[{a}, {b}, {c}, {d}]");
        prop_assert_eq!(plain("{{ data|tojson }}", &job(text.clone())), text);
    }

    #[test]
    fn floats_keep_their_value(x in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
        let text = serde_json::to_string(&x).unwrap();
        let seen: f64 = plain("{{ data }}", &job(text)).parse().unwrap();
        prop_assert_eq!(seen.to_bits(), x.to_bits());
    }

    #[test]
    fn no_template_and_no_job_panic(template in ".{0,60}", tags in "(\\{\\{|\\{%|%\\}|\\}\\}| data| set|x|=|\\|tojson|'|1|[*]|\\n){0,12}", body in any::<Vec<u8>>()) {
        for text in [&template, &tags] {
            let _ = (check(text), rendered(text, JSON, &job(body.clone())));
        }
    }
}
