//! The `OpenAPI` document is made from the code; here every route is asked for real, and what it answers is held
//! against what the document says of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidings::{api::Code, mock::JobPlan};

use crate::harness::{Daemon, Receiver, Sinks, config, mock};

/// A request to a documented route: method, path as documented, path as asked, body.
struct Asked(&'static str, &'static str, String, Option<Value>);

/// The schema that the document gives for an answer; `None` when the answer has no JSON.
fn schema(document: &Value, asked: &Asked, status: u16, content_type: &str) -> Option<Value> {
    let Asked(method, path, ..) = asked;
    let answer = &document["paths"][path][method.to_lowercase()]["responses"][status.to_string()];
    assert!(answer.is_object(), "{method} {path} answers {status}, which is not documented");
    let media = content_type.split(';').next().unwrap();
    let content = &answer["content"];
    let schema = content.get(media).or_else(|| content.get("application/json"))?.get("schema")?;
    Some(json!({ "allOf": [schema], "components": document["components"] }))
}

async fn hold(daemon: &Daemon, document: &Value, asked: &Asked) -> u16 {
    let Asked(method, path, url, body) = asked;
    let mut request = daemon.http.request(method.parse().unwrap(), format!("{}{url}", daemon.url));
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let content_type = content_type.unwrap_or_default();
    let text = response.text().await.unwrap();
    let Some(schema) = schema(document, asked, status, &content_type) else { return status };
    if content_type.contains("json") && !content_type.contains("ndjson") {
        let answer: Value = serde_json::from_str(&text).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{method} {path} {status}: {errors:?}\n{answer:#}");
        if content_type == "application/problem+json" {
            let code = Code::ALL.iter().find(|code| answer["code"] == code.as_str()).unwrap();
            assert!(code.statuses().contains(&status), "{code:?} does not come with {status}");
        }
    }
    status
}

/// Requests about many deliveries, or about all that there is.
fn in_bulk() -> [(u16, Asked); 7] {
    [
        (
            202,
            Asked(
                "POST",
                "/v1/deliveries/deliver",
                "/v1/deliveries/deliver".to_owned(),
                Some(json!({"sink": "app", "routed": false, "dry_run": true})),
            ),
        ),
        (
            422,
            Asked(
                "POST",
                "/v1/deliveries/deliver",
                "/v1/deliveries/deliver".to_owned(),
                Some(json!({"sink": "none"})),
            ),
        ),
        (200, Asked("GET", "/v1/events", "/v1/events?routed=true".to_owned(), None)),
        (200, Asked("GET", "/v1/export", "/v1/export".to_owned(), None)),
        (200, Asked("POST", "/v1/sinks/{name}/drop", "/v1/sinks/app/drop".to_owned(), None)),
        (404, Asked("POST", "/v1/sinks/{name}/drop", "/v1/sinks/none/drop".to_owned(), None)),
        (
            200,
            Asked(
                "POST",
                "/v1/sinks/{name}/move",
                "/v1/sinks/callback/move".to_owned(),
                Some(json!({"to": "app"})),
            ),
        ),
    ]
}

const RECONCILE: &str = "/v1/sources/{name}/reconcile";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let daemon = Daemon::start(config(folder.path(), &mock).webhook("app", &receiver.url(), 3)).await;
    let (_, document) = daemon.get("/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let job = mock.add_job(JobPlan::new());
    daemon.watch(&job).await;
    let watch = daemon.finished(&job).await;
    let delivery = watch["deliveries"][0]["id"].as_str().unwrap();
    let one = "/v1/watches/{source}/{job_id}";
    let at = |rest: &str| format!("/v1/watches/retab/{job}{rest}");
    let new = json!({"job_id": mock.add_job(JobPlan::new()), "labels": {"a": "b"}, "deadline": "1h"});
    let requests = [
        (200, Asked("GET", "/v1/overview", "/v1/overview".to_owned(), None)),
        (202, Asked("POST", "/v1/watches", "/v1/watches".to_owned(), Some(new))),
        (422, Asked("POST", "/v1/watches", "/v1/watches".to_owned(), Some(json!({"job_id": ""})))),
        (
            200,
            Asked(
                "POST",
                "/v1/watches/batch",
                "/v1/watches/batch".to_owned(),
                Some(json!({"watches": [{"job_id": "x", "group": "g"}, {}]})),
            ),
        ),
        (200, Asked("GET", "/v1/groups", "/v1/groups?limit=1".to_owned(), None)),
        (202, Asked("POST", "/v1/groups/{name}/close", "/v1/groups/g/close".to_owned(), None)),
        (404, Asked("POST", "/v1/groups/{name}/close", "/v1/groups/none/close".to_owned(), None)),
        (200, Asked("GET", "/v1/groups/{name}", "/v1/groups/g".to_owned(), None)),
        (200, Asked("GET", "/v1/groups/{name}/jobs", "/v1/groups/g/jobs".to_owned(), None)),
        (200, Asked("GET", "/v1/watches", "/v1/watches?limit=1".to_owned(), None)),
        (200, Asked("GET", one, at(""), None)),
        (404, Asked("GET", one, "/v1/watches/retab/none".to_owned(), None)),
        (200, Asked("GET", "/v1/watches/{source}/{job_id}/wait", at("/wait?timeout=1s"), None)),
        (202, Asked("POST", "/v1/watches/{source}/{job_id}/poll", at("/poll"), None)),
        (200, Asked("GET", "/v1/watches/{source}/{job_id}/job", at("/job"), None)),
        (200, Asked("GET", "/v1/watches/{source}/{job_id}/timeline", at("/timeline"), None)),
        (200, Asked("GET", "/v1/config", "/v1/config".to_owned(), None)),
        (200, Asked("GET", "/v1/replicas", "/v1/replicas".to_owned(), None)),
        (409, Asked("POST", "/v1/reload", "/v1/reload".to_owned(), None)),
        (404, Asked("POST", "/v1/shutdown", "/v1/shutdown".to_owned(), None)),
        (200, Asked("GET", "/v1/deliveries", "/v1/deliveries?limit=1".to_owned(), None)),
        (200, Asked("GET", "/v1/deliveries/{id}", format!("/v1/deliveries/{delivery}"), None)),
        (404, Asked("GET", "/v1/deliveries/{id}", "/v1/deliveries/dlv_none".to_owned(), None)),
        (
            202,
            Asked(
                "POST",
                "/v1/deliveries/{id}/redeliver",
                format!("/v1/deliveries/{delivery}/redeliver"),
                None,
            ),
        ),
        (
            202,
            Asked("POST", "/v1/deliveries/redeliver", "/v1/deliveries/redeliver".to_owned(), Some(json!({}))),
        ),
        // The 200 of the stream has no end; `events` reads it.
        (400, Asked("GET", "/v1/events", "/v1/events?team=x".to_owned(), None)),
        (200, Asked("GET", "/v1/sinks", "/v1/sinks".to_owned(), None)),
        (200, Asked("POST", "/v1/sinks/{name}/test", "/v1/sinks/app/test".to_owned(), None)),
        (404, Asked("POST", "/v1/sinks/{name}/test", "/v1/sinks/none/test".to_owned(), None)),
        (200, Asked("POST", "/v1/sinks/{name}/pause", "/v1/sinks/app/pause".to_owned(), None)),
        (200, Asked("POST", "/v1/sinks/{name}/resume", "/v1/sinks/app/resume".to_owned(), None)),
        (200, Asked("GET", "/v1/sources", "/v1/sources".to_owned(), None)),
        (200, Asked("GET", "/v1/sources/{name}", "/v1/sources/retab".to_owned(), None)),
        (404, Asked("GET", "/v1/sources/{name}", "/v1/sources/none".to_owned(), None)),
        (404, Asked("POST", "/hooks/{source}", "/hooks/retab".to_owned(), Some(json!({})))),
        (404, Asked("GET", RECONCILE, "/v1/sources/retab/reconcile".to_owned(), None)),
        (
            202,
            Asked(
                "POST",
                RECONCILE,
                "/v1/sources/retab/reconcile".to_owned(),
                Some(json!({"since": "1h", "dry_run": true})),
            ),
        ),
        (
            422,
            Asked("POST", RECONCILE, "/v1/sources/retab/reconcile".to_owned(), Some(json!({"since": "x"}))),
        ),
        (200, Asked("GET", RECONCILE, "/v1/sources/retab/reconcile".to_owned(), None)),
        (200, Asked("GET", "/", "/".to_owned(), None)),
        (200, Asked("GET", "/healthz", "/healthz".to_owned(), None)),
        (200, Asked("GET", "/readyz", "/readyz".to_owned(), None)),
        (200, Asked("GET", "/metrics", "/metrics".to_owned(), None)),
        (204, Asked("DELETE", one, at(""), None)),
    ];
    let requests: Vec<(u16, Asked)> = in_bulk().into_iter().chain(requests).collect();
    for (status, asked) in &requests {
        assert_eq!(hold(&daemon, &document, asked).await, *status, "{} {}", asked.0, asked.2);
    }
    let asked: BTreeSet<_> =
        requests.iter().map(|(_, asked)| (asked.0.to_lowercase(), asked.1.to_owned())).collect();
    let documented = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), asked, "every documented route is asked, and no other");
    daemon.stop().await;
}
