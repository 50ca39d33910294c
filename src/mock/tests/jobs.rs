//! Routes, shapes and lists.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, until};
use crate::{
    mock::{Ending, JobPlan, Kind, MockConfig, Timestamps},
    util::units::{Size, Time},
};

const CREATE: &str = r#"{"endpoint":"/v1/extractions","request":{"n": 9007199254740993,"b":1},"metadata":{"order":"204","mock_duration":"1h"}}"#;

fn config(timestamps: Timestamps) -> MockConfig {
    MockConfig { timestamps, ..MockConfig::default() }
}

/// The keys of an object in the order in which they are written.
fn keys(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find(['{', '}', '[', ']', '"']) {
        let mark = rest.as_bytes()[place];
        rest = &rest[place + 1..];
        match mark {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {
                let end = rest.find('"').unwrap();
                let word = &rest[..end];
                rest = &rest[end + 1..];
                if depth == 1 && rest.starts_with(':') {
                    keys.push(word.to_owned());
                }
            }
        }
    }
    keys
}

#[tokio::test]
async fn a_job_is_created_followed_and_fetched() {
    let bench = Bench::new(config(Timestamps::Iso)).await;
    let created = bench.post("/v1/jobs", CREATE).await;
    assert_eq!(created.status(), 200);
    assert!(created.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    let created = created.text().await.unwrap();
    assert!(created.contains(r#""request":{"n": 9007199254740993,"b":1}"#), "{created}");
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_eq!(created["status"], "validating");
    let id = created["id"].as_str().unwrap();

    let status = format!("/v1/jobs/{id}/status");
    bench.mock.advance(Duration::from_mins(30));
    let running = bench.json(&status).await;
    assert_eq!((&running["status"], &running["attempt_count"]), (&json!("in_progress"), &json!(1)));
    assert_eq!(running["metadata"]["order"], "204");
    Time::parse(running["started_at"].as_str().unwrap()).unwrap();
    bench.mock.advance(Duration::from_mins(30));
    assert_eq!(bench.json(&status).await["status"], "completed");

    let (_, light) = bench.text(&format!("/v1/jobs/{id}?include_request=false&include_response=false")).await;
    assert!(!light.contains("\"request\"") && !light.contains("\"response\""), "{light}");
    let (_, full) = bench.text(&format!("/jobs/{id}?include_response=true")).await;
    assert_eq!(full.as_bytes(), bench.mock.full_body(id).unwrap());
    assert!(full.contains("118.40") && full.contains("9007199254740993"), "{full}");
    assert_eq!(serde_json::from_str::<Value>(&full).unwrap()["response"]["status_code"], 200);
    assert!(bench.json(&format!("/v1/jobs/{id}?include_request=true")).await["request"].is_object());

    let count = |kind| bench.mock.requests(Some(id), Some(kind));
    assert_eq!((count(Kind::Status), count(Kind::Light), count(Kind::Full)), (2, 2, 1));
    assert_eq!(bench.mock.requests(None, Some(Kind::Create)), 1);
    assert_eq!((bench.mock.total(), bench.mock.answers(200)), (6, 6));
}

#[tokio::test]
async fn both_generations_write_the_fields_of_the_documentation_in_order() {
    let common = ["id", "object", "status", "endpoint", "error", "created_at", "started_at", "completed_at"];
    let expected = |rest: &[&'static str]| [&common, rest].concat();
    for (form, rest) in [
        (Timestamps::Epoch, &["expires_at", "organization_id", "metadata"][..]),
        (
            Timestamps::Iso,
            &["expires_at", "metadata", "cancelled", "attempt_count", "last_attempt_at", "last_failure_code"],
        ),
    ] {
        let bench = Bench::new(config(form)).await;
        let plan = JobPlan { age: Duration::from_secs(5), ..JobPlan::new().ending(Ending::Failed) };
        let id = bench.mock.add_job(plan);
        let (_, status) = bench.text(&format!("/v1/jobs/{id}/status")).await;
        assert_eq!(keys(&status), expected(rest), "{status}");
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["error"]["details"]["timeout_s"], 300);
        assert_eq!(status["completed_at"].is_i64(), form == Timestamps::Epoch);
        let (_, full) = bench.text(&format!("/v1/jobs/{id}?include_response=true")).await;
        assert_eq!(keys(&full).contains(&"warnings".to_owned()), form == Timestamps::Iso);
        assert!(full.ends_with(",\"response\":null}"), "{full}");
    }
}

#[tokio::test]
async fn large_responses_have_the_size_asked_for() {
    let bench = Bench::new(MockConfig::default()).await;
    let plan = JobPlan { age: Duration::from_secs(1), ..JobPlan::new().lasting(Duration::ZERO) };
    let id = bench.mock.add_job(plan.size(Size::mib(3)));
    let answer = bench.get(&format!("/v1/jobs/{id}?include_response=true")).await.unwrap();
    let length = answer.content_length().unwrap();
    let full = answer.bytes().await.unwrap();
    assert_eq!(full.len() as u64, length);
    assert_eq!(full, bench.mock.full_body(&id).unwrap());
    let full: Value = serde_json::from_slice(&full).unwrap();
    assert_eq!(full["response"]["body"].to_string().len(), 3 << 20);
}

#[tokio::test]
async fn cancel_and_retry_follow_the_state_machine() {
    let bench = Bench::new(MockConfig::default()).await;
    let id = bench.mock.add_job(JobPlan::new().lasting(Duration::from_hours(1)));
    let act = async |verb: &str| {
        let answer = bench.post(&format!("/v1/jobs/{id}/{verb}"), "").await;
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (code, body) = act("retry").await;
    assert_eq!((code, &body["detail"]["code"]), (400, &json!("HTTP_EXCEPTION")));
    let (code, body) = act("cancel").await;
    assert_eq!((code, &body["status"], &body["cancelled"]), (200, &json!("cancelled"), &json!(true)));
    assert!(body["completed_at"].is_string() && body["started_at"].is_null());
    assert_eq!(act("cancel").await.0, 400);
    let (code, body) = act("retry").await;
    assert_eq!((code, &body["status"], &body["completed_at"]), (200, &json!("queued"), &Value::Null));
    assert_eq!(body["id"], id);

    act("cancel").await;
    bench.mock.set(|faults| faults.late_dispatch = true);
    let (code, body) = act("retry").await;
    assert_eq!((code, &body), (503, &json!({"detail": "Retry queued; dispatch is delayed"})));
    assert_eq!(bench.mock.status(&id).as_deref(), Some("queued"), "it took effect");
    let created = bench.post("/v1/jobs", CREATE).await;
    assert_eq!(created.status(), 202);
    assert_eq!(created.json::<Value>().await.unwrap()["warnings"][0]["code"], "dispatch_delayed");
    assert_eq!(bench.post("/v1/jobs/nobody/cancel", "").await.status(), 404);
}

#[tokio::test]
async fn bad_creations_are_refused_in_the_shapes_of_the_api() {
    let bench = Bench::new(MockConfig::default()).await;
    let refused = async |body: &str| {
        let answer = bench.post("/v1/jobs", body).await;
        assert_eq!(answer.status(), 422, "{body}");
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(refused("{").await["detail"][0]["loc"], json!(["body"]));
    let missing = refused(r#"{"request":{}}"#).await;
    assert_eq!(missing["detail"][0]["loc"], json!(["body", "endpoint"]));
    let kind = refused(r#"{"endpoint":"/v1/extractions","request":[]}"#).await;
    assert_eq!(kind["detail"][0]["type"], "dict_type");
    let endpoint = refused(r#"{"endpoint":"/etc","request":{}}"#).await;
    assert_eq!(endpoint["code"], "VALIDATION_ERROR");
    let wish = refused(&CREATE.replace("1h", "soon")).await;
    assert!(wish["details"]["error"].as_str().unwrap().contains("mock_duration"), "{wish}");
    let long = refused(&CREATE.replace("204", &"x".repeat(513))).await;
    assert_eq!(long["status_code"], 10422);
    assert_eq!(bench.json("/v1/jobs").await["data"], json!([]));
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_paged() {
    let bench = Bench::new(config(Timestamps::Epoch)).await;
    for n in 0..5_u64 {
        let plan = JobPlan { age: Duration::from_secs(100 - n), ..JobPlan::new() };
        let team = if n % 2 == 0 { "even" } else { "odd" };
        bench.mock.add_job(plan.id(format!("job_{n}")).lasting(Duration::ZERO).with_metadata("team", team));
    }
    let open = JobPlan { endpoint: Some("/v1/parses".to_owned()), ..JobPlan::new() };
    bench.mock.add_job(open.id("job_5").lasting(Duration::from_hours(1)));
    let ids = async |query: &str| {
        let page = bench.json(&format!("/v1/jobs?{query}")).await;
        let ids =
            page["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()[4..].to_owned());
        (ids.collect::<String>(), page)
    };
    let (found, page) = ids("").await;
    assert_eq!(found, "543210");
    assert_eq!((&page["object"], &page["has_more"]), (&json!("list"), &json!(false)));
    let (found, page) = ids("limit=2&after=job_4").await;
    assert_eq!(
        (found.as_str(), &page["first_id"], &page["last_id"]),
        ("32", &json!("job_3"), &json!("job_2"))
    );
    assert_eq!(page["has_more"], true);
    for (query, expected) in [
        ("order=asc", "012345"),
        ("limit=2&before=job_1", "32"),
        ("status=completed", "43210"),
        ("job_id=job_3", "3"),
        ("id=job_3", "3"),
        ("endpoint=/v1/parses", "5"),
        ("metadata=%7B%22team%22%3A%20%22odd%22%7D", "31"),
        ("status=failed", ""),
    ] {
        assert_eq!(ids(query).await.0, expected, "{query}");
    }
    for (query, code) in [
        ("limit=0", 422),
        ("limit=21&include_response=true", 422),
        ("order=up", 422),
        ("metadata=odd", 422),
        ("after=job_4&before=job_1", 400),
        ("after=nobody", 400),
    ] {
        assert_eq!(bench.code(&format!("/v1/jobs?{query}")).await, code, "{query}");
    }
    bench.mock.set_timestamps(Timestamps::Iso);
    let page = ids("limit=2&after=job_4&include_response=true").await.1;
    assert_eq!(page["list_metadata"], json!({"before": "job_3", "after": "job_2"}));
    assert_eq!(page["data"][0]["response"]["status_code"], 200);
    assert_eq!(page.get("has_more"), None);
}

#[tokio::test]
async fn jobs_end_by_themselves_in_real_time() {
    let bench = Bench::new(MockConfig::default()).await;
    let id = bench.mock.add_job(JobPlan::new().lasting(Duration::from_millis(20)));
    let path = format!("/v1/jobs/{id}/status");
    until("completed", async || bench.json(&path).await["status"] == "completed").await;
}

#[tokio::test]
async fn ids_may_hold_anything() {
    let bench = Bench::new(MockConfig::default()).await;
    bench.mock.add_job(JobPlan::new().id("../a b/ü?"));
    let job = bench.json("/v1/jobs/..%2Fa%20b%2F%C3%BC%3F/status").await;
    assert_eq!(job["id"], "../a b/ü?");
    assert_eq!(bench.mock.requests(Some("../a b/ü?"), Some(Kind::Status)), 1);
    let (code, body) = bench.text("/v1/jobs/job_none/status").await;
    assert_eq!((code, body.as_str()), (404, r#"{"detail":"Job not found"}"#));
    assert_eq!(bench.text("/v2/jobs").await, (404, r#"{"detail":"Not Found"}"#.to_owned()));
    assert_eq!(bench.post("/v1/jobs/job_none/status", "").await.status(), 405);
}
