//! Lists, single records, and what is done to them.

use super::*;

#[tokio::test]
async fn a_list_follows_cursors_up_to_its_limit() {
    let page = |ids: &[&str], next: Value| {
        let data: Vec<Value> = ids.iter().map(|id| watch(id, "watching", None, &[])).collect();
        (200, json!({"data": data, "next_cursor": next}))
    };
    let stub =
        Stub::new(&[page(&["a"], json!("c/1")), page(&[], json!("c2")), page(&["b"], json!("c3"))]).await;
    let args = ["list", "--limit", "2", "--phase", "watching", "--label", "a b=c&d", "--output", "json"];
    let ran = stub.tidings(&args).await;
    let ids: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ids.iter().map(|watch| watch["job_id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(ran.err.contains("--all"), "{}", ran.err);
    assert_eq!(
        stub.lines(),
        [
            "GET /v1/watches?phase=watching&label.a%20b=c%26d&limit=2",
            "GET /v1/watches?phase=watching&label.a%20b=c%26d&limit=1&cursor=c%2F1",
            "GET /v1/watches?phase=watching&label.a%20b=c%26d&limit=1&cursor=c2",
        ]
    );

    let long = "x".repeat(256);
    let stub = Stub::new(&[page(&[&long], Value::Null), page(&[], Value::Null)]).await;
    let ran = stub.tidings(&["list", "--all"]).await;
    assert!(ran.out.starts_with("JOB") && ran.out.contains(&long), "{}", ran.out);
    assert_eq!(stub.lines(), ["GET /v1/watches?limit=1000"]);
    let ran = stub.tidings(&["list", "--output", "json"]).await;
    assert_eq!(ran.out, "[]\n");
}

#[tokio::test]
async fn a_watch_and_its_job_are_shown_as_they_are() {
    let odd = "{ \"b\": 1.0,\n\t\"a\": 12345678901234567890123 }";
    let shown = watch("a/b", "dead", Some("completed"), &["dead"]).to_string();
    let answers = [(200, odd.to_owned()), (200, shown.clone()), (200, shown.clone())];
    let stub = Stub::raw(VecDeque::from(answers)).await;
    let ran = stub.tidings(&["get", "a/b", "--job"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, odd));
    assert_eq!(stub.tidings(&["get", "a/b", "--output", "json"]).await.out, shown + "\n");
    let table = stub.tidings(&["get", "a/b", "--source", "x y"]).await.out;
    assert!(table.contains("labels") && table.contains("team=billing") && table.contains("dlv_1"), "{table}");
    assert_eq!(
        stub.lines(),
        ["GET /v1/watches/retab/a%2Fb/job", "GET /v1/watches/retab/a%2Fb", "GET /v1/watches/x%20y/a%2Fb",]
    );
}

#[tokio::test]
async fn unwatching_goes_on_past_a_watch_that_is_not_there() {
    let stub = Stub::raw(VecDeque::from([
        (404, problem(404, "not_found", "no such watch").1.to_string()),
        (204, String::new()),
    ]))
    .await;
    let ran = stub.tidings(&["unwatch", "job_1", "job_2"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Failed, "job_2 is watched no more\n"));
    assert!(ran.err.contains("job_1: the daemon refused: no such watch (not_found)"), "{}", ran.err);
    assert_eq!(stub.lines()[1], "DELETE /v1/watches/retab/job_2");
}

#[tokio::test]
async fn deliveries_are_filtered_and_one_is_shown_with_its_attempts() {
    let page = json!({"data": [delivery()], "next_cursor": null});
    let stub = Stub::new(&[(200, page), (200, delivery())]).await;
    let args = [
        "deliveries",
        "--state",
        "dead",
        "--sink",
        "app",
        "--job-id",
        "a/b",
        "--since",
        "2026-11-23T17:00:00Z",
    ];
    let ran = stub.tidings(&args).await;
    assert!(ran.out.contains("dlv_1") && ran.out.contains("job.completed"), "{}", ran.out);
    let line =
        "GET /v1/deliveries?state=dead&sink=app&job_id=a%2Fb&since=2026-11-23T17%3A00%3A00.000Z&limit=100";
    assert_eq!(stub.lines(), [line]);
    let ran = stub.tidings(&["deliveries", "dlv_1"]).await;
    assert!(
        ran.out.contains("gave up") && ran.out.contains("12ms") && ran.out.contains("oh no"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn redelivering_by_filter_means_dead_letters_unless_told_otherwise() {
    let stub =
        Stub::new(&[(202, json!({"count": 1})), (202, json!({})), problem(404, "not_found", "no")]).await;
    let ran = stub.tidings(&["redeliver", "--sink", "app", "--until", "2026-11-23T17:00:00Z"]).await;
    assert_eq!(ran.out, "1 delivery is sent again\n");
    assert_eq!(
        stub.seen()[0].body,
        json!({"state": "dead", "sink": "app", "until": "2026-11-23T17:00:00.000Z"})
    );
    let ran = stub.tidings(&["redeliver", "dlv_1", "dlv_2"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Failed, "dlv_1 is sent again\n"), "{ran:?}");
    assert_eq!(
        stub.lines()[1..],
        ["POST /v1/deliveries/dlv_1/redeliver", "POST /v1/deliveries/dlv_2/redeliver"]
    );
}

#[tokio::test]
async fn sinks_are_listed_and_tested() {
    let sink = json!({"name": "app", "type": "webhook", "target": "http://127.0.0.1:9/", "pending": 1, "in_flight": 0,
        "delivered": 7, "failed": 2, "dead": 0, "last_success_at": null, "last_error": null, "breaker": "open",
        "state": "failing", "next_probe_at": null, "paused_at": null, "success_share": 0.25,
        "oldest_pending_at": "2026-11-23T17:00:00Z"});
    let mut callback = sink.clone();
    callback["name"] = "callback".into();
    callback["origins"] = json!([{"origin": "https://slow.example", "state": "failing", "breaker": "open", "pending": 3,
        "in_flight": 1, "failures_in_row": 4, "last_error": "timed out after 15s"}]);
    let attempt = |error: Value, status: u16| {
        (
            200,
            json!({"at": "2026-11-23T17:00:00Z", "duration_ms": 5, "status": status, "error": error, "response": ""}),
        )
    };
    let stub = Stub::new(&[
        (200, json!([sink])),
        (200, json!({"data": [sink], "next_cursor": null})),
        (200, json!({"data": [callback], "next_cursor": null})),
        attempt(Value::Null, 204),
        attempt(json!("answered 500"), 500),
    ])
    .await;
    for _ in 0..2 {
        let table = stub.tidings(&["sink", "list"]).await.out;
        assert!(table.contains("app   webhook"), "bare or a page");
        assert!(table.contains("failing") && table.contains("25 %"), "{table}");
    }
    let table = stub.tidings(&["sink", "list"]).await.out;
    assert!(table.contains("https://slow.example") && table.contains("timed out"), "{table}");
    let ran = stub.tidings(&["sink", "test", "app"]).await;
    assert_eq!(
        (ran.status, ran.out.as_str()),
        (ExitStatus::Done, "app took the test event with 204 in 5ms\n")
    );
    let ran = stub.tidings(&["sink", "test", "app"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.out.contains("did not take"), "{}", ran.out);
    assert_eq!(stub.lines()[4], "POST /v1/sinks/app/test");
}
