//! What built-in profiles make of the states that their APIs really have, and what a caller may write into their paths.

use serde_json::{Value, json};
use tidings::{deliver::Format, upstream::SourceConfig};

use crate::{
    harness::{Site, eventually},
    sources::{custom, flow_of, list, source},
};

/// The rest of a URL belongs to the operator: whatever a caller writes into a variable or an id stays where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_callers_words_do_not_leave_their_place_in_a_url() {
    let site = Site::start().await;
    let flow = flow_of(source("retab-extractions", &site), Format::Raw).await;
    for kind in [
        "/api-keys?all=1#",
        "..",
        "../api-keys",
        "a/../api-keys",
        "%2e%2e/api-keys",
        "a//b",
        "a\\b",
        "a/",
        "",
        "a\nb",
    ] {
        let body = json!({"job_id": "e1", "vars": {"kind": kind}});
        let (status, problem) = flow.daemon.post("/v1/watches", &body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_vars")), "{kind}: {problem}");
    }
    for id in [".", ".."] {
        let (status, problem) = flow.daemon.post("/v1/watches", &json!({"job_id": id})).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_job_id")), "{id}: {problem}");
    }
    let place = "/v1/api-keys%3Fall=1%23/e%3F2%23";
    site.json(&format!("{place}?include_output=false"), r#"{"status":"completed"}"#);
    site.json(&format!("{place}?include_output=true"), r#"{"status":"completed","output":[1]}"#);
    flow.daemon.register(&json!({"job_id": "e?2#", "vars": {"kind": "api-keys?all=1#"}})).await;
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, b"[1]");
    flow.stop().await;

    let flow = flow_of(source("google-lro", &site), Format::Raw).await;
    site.json("/v1/operations/build/acme/ab:c=%23d%3Fe", r#"{"done":true,"response":{"n":1}}"#);
    flow.daemon.register(&json!({"job_id": "operations/build/acme/ab:c=#d?e"})).await;
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, br#"{"n":1}"#);
    let (status, problem) =
        flow.daemon.post("/v1/watches", &json!({"job_id": "operations/../../admin"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_vars")), "{problem}");
    flow.stop().await;
}

/// Registers a job that shows `before`, sees it polled and not ended, and then ended by `after`.
async fn ends_only_with(
    source: SourceConfig,
    site: &Site,
    vars: Value,
    path: &str,
    before: &str,
    after: &str,
) -> Value {
    let flow = flow_of(source, Format::Raw).await;
    site.json(path, before);
    flow.daemon.register(&json!({"job_id": "7", "vars": vars})).await;
    let polls = site.requests(path).len();
    let watch = eventually("it is polled again", || async {
        let (_, watch) = flow.daemon.get("/v1/watches/jobs/7").await;
        (site.requests(path).len() >= polls + 3).then_some(watch)
    })
    .await;
    assert_eq!((&watch["phase"], &watch["outcome"]), (&json!("watching"), &Value::Null), "{watch}");
    site.json(path, after);
    let watch = flow.done("7").await;
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, after.as_bytes());
    flow.stop().await;
    watch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_final_word_that_goes_on_has_not_ended() {
    let site = Site::start().await;
    let path = "/v2/organizations/acme/pipelines/app/builds/7";
    let watch = ends_only_with(
        source("buildkite", &site),
        &site,
        json!({"org": "acme", "pipeline": "app"}),
        path,
        r#"{"state":"passed","blocked":true}"#,
        r#"{"state":"failed","blocked":false}"#,
    )
    .await;
    assert_eq!(watch["outcome"], "failed");

    let path = "/api/2.2/jobs/runs/get?run_id=7";
    let watch = ends_only_with(
        source("databricks-run", &site),
        &site,
        json!({}),
        path,
        r#"{"state":{"life_cycle_state":"RUNNING","result_state":"FAILED"}}"#,
        r#"{"state":{"life_cycle_state":"TERMINATED","result_state":"SUCCESS"}}"#,
    )
    .await;
    assert_eq!((&watch["outcome"], &watch["status"]), (&json!("completed"), &json!("SUCCESS")));

    // Jenkins keeps `result` null while it builds, and may have one before it has ended.
    let keys = SourceConfig { pending_while: Some(list(&["/building"])), ..custom(&site) };
    let watch = ends_only_with(
        keys,
        &site,
        json!({}),
        "/tasks/7",
        r#"{"state":"broken","building":true}"#,
        r#"{"state":"done","building":false}"#,
    )
    .await;
    assert_eq!(watch["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_word_is_no_failure_and_an_error_beside_the_end_is() {
    let site = Site::start().await;
    let flow = flow_of(source("google-lro", &site), Format::Raw).await;
    for (id, error, outcome) in [
        ("a", "{\"code\":1}", "cancelled"),
        ("b", "{\"code\":4}", "expired"),
        ("c", "{\"code\":404}", "failed"),
    ] {
        site.json(&format!("/v1/{id}"), &format!(r#"{{"done":true,"error":{error}}}"#));
        flow.daemon.register(&json!({"job_id": id})).await;
        assert_eq!(flow.done(id).await["outcome"], outcome, "{error}");
    }
    flow.stop().await;
    let path = "/fal-ai/flux/requests/7/status";
    site.answer("/fal-ai/flux/requests/7", 200, "application/json", r#"{"status":"COMPLETED"}"#);
    let watch = ends_only_with(
        source("fal", &site),
        &site,
        json!({"app": "fal-ai/flux"}),
        path,
        r#"{"status":"RESCHEDULED","error":"the runner was lost"}"#,
        r#"{"status":"COMPLETED"}"#,
    )
    .await;
    assert_eq!(watch["outcome"], "completed");
}

/// What the result of a failed request of fal answers, beside what stands between it and us.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_place_of_a_result_is_of_the_job_or_of_the_source() {
    let site = Site::start().await;
    let flow = flow_of(source("fal", &site), Format::Raw).await;
    let own = r#"{"detail":"No runner","error_type":"runner_scheduling_failure"}"#;
    let typed = r#"{"detail":[{"loc":["body"],"msg":"It took too long","type":"generation_timeout"}]}"#;
    let (done, failed) = (r#"{"status":"COMPLETED"}"#, r#"{"status":"COMPLETED","error":"No runner"}"#);
    for (id, said, status, media_type, answer, delivered) in [
        ("own500", done, 500, "application/json", own, own),
        ("own503", done, 503, "application/json", own, own),
        ("own504", done, 504, "application/json", typed, typed),
        ("own422", done, 422, "application/json", typed, typed),
        ("told500", failed, 500, "application/json", own, own),
        ("told503", failed, 503, "text/html", "<html>nginx</html>", failed),
        ("told400", failed, 400, "application/json", r#"{"detail":"x"}"#, failed),
    ] {
        let path = format!("/fal-ai/flux/requests/{id}");
        site.json(&format!("{path}/status"), said);
        site.answer(&path, status, media_type, answer);
        flow.daemon.register(&json!({"job_id": id, "vars": {"app": "fal-ai/flux"}})).await;
        assert_eq!(flow.done(id).await["outcome"], "failed", "{id}");
        let (_, stored) = flow.daemon.get_bytes(&format!("/v1/watches/jobs/{id}/job")).await;
        assert_eq!(String::from_utf8(stored).unwrap(), delivered, "{id}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_is_no_failure_of_the_job() {
    for (status, media_type, answer) in [
        (503, "text/html", "<html>nginx</html>"),
        (500, "application/json", r#"{"detail":"Internal Server Error"}"#),
        (400, "application/json", r#"{"detail":"Request is still in progress"}"#),
        (408, "application/json", r#"{"error_type":"x"}"#),
        (409, "application/json", r#"{"error_type":"x"}"#),
    ] {
        let site = Site::start().await;
        let flow = flow_of(source("fal", &site), Format::Raw).await;
        site.json("/fal-ai/flux/requests/r/status", r#"{"status":"COMPLETED"}"#);
        site.answer("/fal-ai/flux/requests/r", status, media_type, answer);
        flow.daemon.register(&json!({"job_id": "r", "vars": {"app": "fal-ai/flux"}})).await;
        eventually("the result is asked for", || async { site.requests("/fal-ai/flux/requests/r").pop() })
            .await;
        site.json("/fal-ai/flux/requests/r", r#"{"images":[]}"#);
        flow.daemon.post("/v1/watches/jobs/r/poll", &json!({})).await;
        assert_eq!(flow.done("r").await["outcome"], "completed", "{status}");
        assert_eq!(flow.receiver.at_least(1).await.remove(0).body, br#"{"images":[]}"#);
        flow.stop().await;
    }
}
