//! One source for all kinds of job of an API: with one key, and each kind by its own routes.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::deliver::Format;

use crate::{
    harness::{Flow, Home, Receiver, Setup, Site, eventually},
    sources::source,
};

/// A flow with a source of this type at a site, whose key is `k1`.
async fn flow(kind: &str, site: &Site) -> Flow {
    let mut source = source(kind, site);
    source.max_requests_per_second = 2000.0;
    Setup::new().await.jobs_at(source).format(Format::Envelope).disk().start().await
}

/// Sets the bodies of an extraction: its light status, and the whole of it.
fn extraction(site: &Site, kind: &str, id: &str, status: &str) {
    site.json(
        &format!("/v1/{kind}/{id}?include_output=false"),
        &format!(r#"{{"id":"{id}","status":"{status}"}}"#),
    );
    site.json(
        &format!("/v1/{kind}/{id}?include_output=true"),
        &format!(r#"{{"id":"{id}", "status":"{status}","output":{{"of":"{kind}","total": 1.0}}}}"#),
    );
}

/// Sets the bodies of a job of the Jobs API.
fn job(site: &Site, id: &str, status: &str) {
    site.json(&format!("/v1/jobs/{id}/status"), &format!(r#"{{"id":"{id}","status":"{status}"}}"#));
    site.json(
        &format!("/v1/jobs/{id}?include_request=false&include_response=true"),
        &format!(r#"{{"id":"{id}","status":"{status}","response":{{"of":"jobs"}}}}"#),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_comes_from_the_watch_from_the_id_or_is_the_default() {
    let site = Site::start().await;
    let flow = flow("retab", &site).await;
    job(&site, "job_1", "completed");
    extraction(&site, "extractions", "extr_1", "completed");
    extraction(&site, "parses", "odd", "completed");
    for (request, job, kind) in [
        (json!({"job_id": "job_1"}), "job_1", "jobs"),
        (json!({"job_id": "extr_1"}), "extr_1", "extractions"),
        (json!({"job_id": "odd", "kind": "parses"}), "odd", "parses"),
    ] {
        let watch = flow.daemon.register(&request).await;
        assert_eq!(watch["kind"], kind, "{watch}");
        let watch = flow.done(job).await;
        assert_eq!((&watch["kind"], &watch["outcome"]), (&json!(kind), &json!("completed")));
    }
    let mut told: Vec<(String, String)> = Vec::new();
    for event in flow.receiver.at_least(3).await {
        let event = event.json();
        let of = event["data"].get("response").or(event["data"].get("output")).unwrap()["of"].clone();
        told.push((event["kind"].as_str().unwrap().to_owned(), of.as_str().unwrap().to_owned()));
    }
    told.sort();
    let same = |kind: &str| (kind.to_owned(), kind.to_owned());
    assert_eq!(told, [same("extractions"), same("jobs"), same("parses")]);
    for request in site.all() {
        assert_eq!(request.header("api-key"), "k1", "{request:?}");
    }
    let (_, source) = flow.daemon.get("/v1/sources/jobs").await;
    let kinds: Vec<&str> = source["kinds"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(kinds[0], "jobs");
    for kind in ["extractions", "edits", "files/blueprints", "schemas/generate", "workflows/runs"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_can_be_watched_under_two_kinds() {
    let site = Site::start().await;
    let flow = flow("retab", &site).await;
    extraction(&site, "parses", "x/1", "completed");
    site.json("/v1/parses/x%2F1?include_output=false", r#"{"status":"completed"}"#);
    site.json("/v1/parses/x%2F1?include_output=true", r#"{"status":"completed","output":1}"#);
    site.json("/v1/splits/x%2F1?include_output=false", r#"{"status":"failed","error":"no pages"}"#);
    site.json("/v1/splits/x%2F1?include_output=true", r#"{"status":"failed","error":"no pages"}"#);
    let path = "/v1/watches/jobs/x%2F1";
    for kind in ["parses", "splits"] {
        let (status, watch) = flow.daemon.post("/v1/watches", &json!({"job_id": "x/1", "kind": kind})).await;
        assert_eq!((status, &watch["kind"]), (202, &json!(kind)), "{watch}");
        let (status, watch) = flow.daemon.post("/v1/watches", &json!({"job_id": "x/1", "kind": kind})).await;
        assert!(status == 200 || status == 202, "{watch}");
    }
    let outcomes = [("parses", "completed"), ("splits", "failed")];
    for (kind, outcome) in outcomes {
        let path = format!("{path}?kind={kind}");
        let watch = eventually("it is done", || async {
            let (_, watch) = flow.daemon.get(&path).await;
            (watch["phase"] == "done").then_some(watch)
        })
        .await;
        assert_eq!((&watch["kind"], &watch["outcome"]), (&json!(kind), &json!(outcome)), "{watch}");
        let (status, body) = flow.daemon.get(&format!("{path}&x=1").replace("?kind", "/job?kind")).await;
        assert_eq!((status, &body["status"]), (200, &json!(outcome)));
    }
    let events = flow.receiver.at_least(2).await;
    assert_ne!(events[0].header("webhook-id"), events[1].header("webhook-id"));
    // Files of the two do not replace each other.
    let files = std::fs::read_dir(flow.path().join("out/jobs")).unwrap().count();
    assert_eq!(files, 2);
    let (_, list) = flow.daemon.get("/v1/watches?kind=splits").await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    let (_, list) = flow.daemon.get("/v1/deliveries?sink=app").await;
    let kinds: BTreeSet<_> =
        list["data"].as_array().unwrap().iter().map(|one| one["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        BTreeSet::from([Some("parses"), Some("splits")]),
        "a delivery names the kind of its job"
    );
    // Nothing of the default kind has this id, and which of the others is meant nobody can tell.
    let (status, problem) = flow.daemon.get(path).await;
    assert_eq!((status, &problem["code"]), (409, &json!("kind_missing")), "{problem}");
    let removed = flow.daemon.http.delete(format!("{}{path}", flow.daemon.url)).send().await.unwrap();
    assert_eq!(removed.status(), 409);
    let (status, problem) = flow.daemon.get(&format!("{path}?kind=songs")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_kind")), "{problem}");
    assert_eq!(flow.daemon.get(&format!("{path}?kind=jobs")).await.0, 404);
    let (status, problem) = flow.daemon.post("/v1/watches", &json!({"job_id": "a", "kind": "songs"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("unknown_kind")), "{problem}");
    let removed =
        flow.daemon.http.delete(format!("{}{path}?kind=splits", flow.daemon.url)).send().await.unwrap();
    assert_eq!(removed.status(), 204);
    assert_eq!(flow.daemon.get(&format!("{path}?kind=splits")).await.0, 404);
    assert_eq!(flow.daemon.get(&format!("{path}?kind=parses")).await.0, 200);
    assert_eq!(flow.daemon.get(path).await.1["kind"], "parses", "the only one");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_of_any_kind_is_watched_unless_it_has_ended() {
    let site = Site::start().await;
    let flow = flow("openai", &site).await;
    let create = async |path: &str, answer: &str, media_type: &str| {
        site.answer(path, 200, media_type, answer);
        let url = format!("{}/proxy/jobs{path}", flow.daemon.url);
        let request = flow.daemon.http.request(Method::POST, url).header("authorization", "Bearer k1");
        let response = request.body("{}").send().await.unwrap();
        let told = response.headers()["tidings-watch"].to_str().unwrap().to_owned();
        assert_eq!(response.text().await.unwrap(), answer);
        told
    };
    let json = "application/json";
    site.json("/v1/responses/resp_1", r#"{"id":"resp_1","status":"queued"}"#);
    site.json("/v1/batches/batch_1", r#"{"id":"batch_1","status":"validating"}"#);
    assert_eq!(create("/v1/responses", r#"{"id":"resp_1","status":"queued"}"#, json).await, "accepted");
    assert_eq!(create("/v1/responses", r#"{"id":"resp_1","status":"queued"}"#, json).await, "existing");
    assert_eq!(create("/v1/batches", r#"{"status":"validating","id":"batch_1"}"#, json).await, "accepted");
    assert_eq!(create("/v1/responses", r#"{"id":"resp_2","status":"completed"}"#, json).await, "final");
    assert_eq!(create("/v1/responses", "event: response.created\n\n", "text/event-stream").await, "failed");
    assert_eq!(create("/v1/videos", r#"{"status":"queued"}"#, json).await, "failed");
    let (_, list) = flow.daemon.get("/v1/watches").await;
    let mut watched: Vec<(&str, &str)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|watch| (watch["job_id"].as_str().unwrap(), watch["kind"].as_str().unwrap()))
        .collect();
    watched.sort_unstable();
    assert_eq!(watched, [("batch_1", "batches"), ("resp_1", "responses")]);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_can_have_kinds_of_its_own_and_route_by_them() {
    let (site, receiver) = (Site::start().await, Receiver::start().await);
    let home = Home::new(&format!(
        r#"
        [sources.ci]
        type = "custom"
        base_url = "{}"
        api_key = "k1"
        status_path = "/runs/{{id}}"
        status_at = ["/state"]
        outcomes = {{ pending = ["busy"], completed = ["done"], failed = ["broken"] }}
        polling.min_interval = "20ms"
        [sources.ci.kinds.deployments]
        id_prefixes = ["d-"]
        status_path = "/{{kind}}/{{id}}"
        [sinks.deployments]
        type = "webhook"
        url = "{}"
        [[routes]]
        when = {{ kind = ["deployments"] }}
        to = ["deployments"]
        "#,
        site.url(),
        receiver.url()
    ))
    .await;
    let daemon = home.run().await;
    site.json("/runs/1", r#"{"state":"done"}"#);
    site.json("/deployments/d-1", r#"{"state":"done"}"#);
    for id in ["1", "d-1"] {
        daemon.register(&json!({"job_id": id, "source": "ci"})).await;
        daemon.until_in("ci", id, "is done", |watch| watch["phase"] == "done").await;
    }
    let events = receiver.at_least(1).await;
    assert_eq!((events.len(), &events[0].json()["kind"]), (1, &json!("deployments")));
    let (_, watch) = daemon.get("/v1/watches/ci/1").await;
    assert!(watch["kind"].is_null() && watch["deliveries"] == json!([]), "{watch}");
    daemon.terminate().await;
    home.configure(
        "[sources.ci]\ntype = \"custom\"\nbase_url = \"http://127.0.0.1:1\"\nstatus_path = \"/r/{id}\"\nstatus_at = [\"/s\"]\n\
         outcomes = { completed = [\"done\"] }\n[sources.ci.kinds.\"a//b\"]\n[sources.ci.kinds.x]\nstatus_at = [\"s\"]\n\
         songs = 1\n",
    );
    let output = home.once(&["config", "check"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("sources.ci.kinds.x.songs"), "{said}");
}
