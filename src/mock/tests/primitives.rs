//! Runs of primitives, in the background and at once.

use std::time::Duration;

use serde_json::{Value, json};

use super::Bench;
use crate::mock::{Cut, Kind, MockConfig, Timestamps};

const DOCUMENT: &str = r#"{"filename":"a.pdf","url":"data:application/pdf;base64,AA=="}"#;

/// What a creation of each primitive needs beside the document, the beginning of its ids, and its empty output.
fn primitives() -> [(&'static str, &'static str, Value, Value); 6] {
    let edit = json!({"form_data": [], "filled_document": {"filename": "", "url": ""}});
    [
        ("extractions", "extr_", json!({"json_schema": {"type": "object"}}), json!({})),
        ("parses", "prs_", json!({}), json!({"pages": [], "text": ""})),
        ("splits", "splt_", json!({"subdocuments": [{"name": "invoice"}]}), json!([])),
        ("partitions", "prtn_", json!({"key": "number", "instructions": "by number"}), json!([])),
        (
            "classifications",
            "clss_",
            json!({"categories": [{"name": "invoice"}]}),
            json!({"category": "", "reasoning": ""}),
        ),
        ("edits", "edt_", json!({"instructions": "fill it"}), edit),
    ]
}

fn creation(needs: &Value, more: &Value) -> String {
    let mut body = json!({"document": serde_json::from_str::<Value>(DOCUMENT).unwrap()});
    for fields in [needs, more] {
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    body.to_string()
}

async fn create(bench: &Bench, path: &str, body: &str) -> Value {
    let answer = bench.post(&format!("/v1/{path}"), body).await;
    assert_eq!(answer.status(), 201, "{body}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_run_in_the_background_is_followed_to_its_output() {
    let bench = Bench::new(MockConfig { timestamps: Timestamps::Epoch, ..MockConfig::default() }).await;
    for (path, prefix, needs, empty) in primitives() {
        let wishes = json!({"background": true, "metadata": {"mock_duration": "1h"}});
        let created = create(&bench, path, &creation(&needs, &wishes)).await;
        let id = created["id"].as_str().unwrap();
        assert!(id.starts_with(prefix) && id.len() == prefix.len() + 21, "{created}");
        assert_eq!((&created["status"], &created["output"]), (&json!("queued"), &empty));
        assert_eq!(created["error"], Value::Null);
        for (name, value) in needs.as_object().unwrap() {
            assert!(created[name] == *value || path == "edits", "{created}");
        }
        let address = format!("/v1/{path}/{id}");
        bench.mock.advance(Duration::from_mins(30));
        let running = bench.json(&format!("{address}?include_output=false")).await;
        assert_eq!((&running["status"], &running["output"]), (&json!("in_progress"), &empty));
        assert!(running["created_at"].is_string(), "{running}");
        bench.mock.advance(Duration::from_mins(30));
        let light = bench.json(&format!("{address}?include_output=false")).await;
        assert_eq!((&light["status"], &light["output"]), (&json!("completed"), &empty));
        let (_, whole) = bench.text(&address).await;
        assert_eq!(whole.as_bytes(), bench.mock.full_body(id).unwrap());
        assert_eq!(bench.text(&format!("{address}?include_output=true")).await.1, whole);
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_ne!(whole["output"], empty);
        let count = |kind| bench.mock.requests(Some(id), Some(kind));
        assert_eq!((count(Kind::Light), count(Kind::Full)), (2, 2));
        // Each run belongs to its own routes.
        let other = if path == "parses" { "edits" } else { "parses" };
        for elsewhere in ["jobs", other] {
            assert_eq!(bench.code(&format!("/v1/{elsewhere}/{id}")).await, 404);
        }
        let list = bench.json(&format!("/v1/{path}?status=completed")).await;
        assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][0]), (1, &whole));
        assert_eq!(list["list_metadata"], json!({"before": null, "after": null}));
    }
    assert_eq!(bench.json("/v1/jobs").await["data"], json!([]));
    assert_eq!(bench.mock.requests(None, Some(Kind::Create)), 6);
}

#[tokio::test]
async fn a_run_that_is_not_in_the_background_has_ended_with_the_answer() {
    let bench = Bench::new(MockConfig::default()).await;
    for (path, _, needs, empty) in primitives() {
        let done = create(&bench, path, &creation(&needs, &json!({}))).await;
        assert_eq!(done["status"], "completed");
        assert_ne!(done["output"], empty);
        let id = done["id"].as_str().unwrap();
        assert_eq!(bench.json(&format!("/v1/{path}/{id}")).await, done);
    }
}

#[tokio::test]
async fn wishes_cancellations_and_mistakes() {
    let bench = Bench::new(MockConfig::default()).await;
    let schema = json!({"json_schema": {}});
    let start = async |metadata: Value| {
        let more = json!({"background": true, "metadata": metadata});
        let run = create(&bench, "extractions", &creation(&schema, &more)).await;
        run["id"].as_str().unwrap().to_owned()
    };
    for (outcome, status) in [("failed", "failed"), ("expired", "failed"), ("cancelled", "cancelled")] {
        let id = start(json!({"mock_duration": "0s", "mock_outcome": outcome})).await;
        let run = bench.json(&format!("/v1/extractions/{id}")).await;
        assert_eq!((&run["status"], &run["output"]), (&json!(status), &json!({})));
        assert_eq!(run["error"]["code"].is_string(), status == "failed", "{run}");
    }
    let id = start(json!({"mock_duration": "0s", "mock_size": "1MiB"})).await;
    let (_, whole) = bench.text(&format!("/v1/extractions/{id}")).await;
    assert!(whole.len() > 1 << 20 && whole.len() < (1 << 20) + 1000);
    bench.mock.set(|faults| faults.cut = Some(Cut { after: 1000, times: 1 }));
    bench.get(&format!("/v1/extractions/{id}")).await.unwrap().bytes().await.unwrap_err();

    let id = start(json!({"mock_duration": "1h"})).await;
    for _ in 0..2 {
        let answer = bench.post(&format!("/v1/extractions/{id}/cancel"), "").await;
        assert_eq!(answer.status(), 200, "as often as it is asked for");
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "cancelled");
    }
    bench.mock.advance(Duration::from_hours(24 * 365));
    assert_eq!(bench.json(&format!("/v1/extractions/{id}")).await["status"], "cancelled");

    for (body, place) in [
        (r#"{"json_schema":{}}"#.to_owned(), "document"),
        (format!(r#"{{"document":{DOCUMENT}}}"#), "json_schema"),
        (creation(&schema, &json!({"background": "yes"})), "background"),
    ] {
        let answer = bench.post("/v1/extractions", &body).await;
        assert_eq!(answer.status(), 422, "{body}");
        assert_eq!(answer.json::<Value>().await.unwrap()["detail"][0]["loc"], json!(["body", place]));
    }
    let stream = bench.post("/v1/extractions", &creation(&schema, &json!({"stream": true}))).await;
    assert_eq!(stream.status(), 422);
    assert_eq!(bench.post("/v1/extractions/extr_none/cancel", "").await.status(), 404);
}
