//! Watches and deliveries are found by what an operator knows of them.

use serde_json::{Value, json};
use tidings::mock::JobPlan;

use crate::harness::{Api, Flow, Reply, Sinks, is_finished};

/// Registers jobs that the source does not know yet.
async fn register(api: &Api, ids: impl Iterator<Item = String>, more: &Value) {
    let watches: Vec<Value> = ids
        .map(|id| {
            let mut watch = more.clone();
            watch["job_id"] = id.into();
            watch
        })
        .collect();
    let (status, answer) = api.post("/v1/watches/batch", &json!({"watches": watches})).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(watches.len())), "{answer}");
}

/// The values of a field on every page, each page of at most `limit`.
async fn all(api: &Api, path: &str, limit: usize, field: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = api.get(&format!("{path}&limit={limit}{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= limit);
        found.extend(data.iter().map(|entry| entry[field].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn watches_are_found_by_the_begin_of_their_id() {
    let flow = Flow::quick(|config| {
        let other = config.sources["retab"].clone();
        config.sources.insert("retab2".to_owned(), other);
    })
    .await;
    let daemon = &flow.daemon;
    register(daemon, (0..30).map(|number| format!("job_a{number:02}")), &json!({"source": "retab"})).await;
    register(
        daemon,
        (0..5).map(|number| format!("job_a{number:02}")),
        &json!({"source": "retab2", "labels": {"team": "x"}}),
    )
    .await;
    register(daemon, (0..9).map(|number| format!("job_b{number}")), &json!({"source": "retab"})).await;
    register(daemon, ["é1".to_owned(), "job".to_owned()].into_iter(), &json!({"source": "retab"})).await;
    let newest_first: Vec<String> = (0..30).rev().map(|number| format!("job_a{number:02}")).collect();
    let found = all(daemon, "/v1/watches?source=retab&job_id_prefix=job_a", 7, "job_id").await;
    assert_eq!(found, newest_first);
    assert_eq!(all(daemon, "/v1/watches?job_id_prefix=job_a", 7, "job_id").await.len(), 35);
    assert_eq!(all(daemon, "/v1/watches?job_id_prefix=job", 10, "job_id").await.len(), 45);
    let of_label = all(daemon, "/v1/watches?job_id_prefix=job_a&label.team=x", 2, "source").await;
    assert_eq!(of_label, ["retab2"; 5]);
    assert_eq!(all(daemon, "/v1/watches?job_id_prefix=%C3%A9", 2, "job_id").await, ["é1"]);
    for nothing in ["job_c", "ob_a", "job_a000", "%C3%A92"] {
        assert!(all(daemon, &format!("/v1/watches?job_id_prefix={nothing}"), 2, "job_id").await.is_empty());
    }
    let none = all(daemon, "/v1/watches?source=none&job_id_prefix=job", 2, "job_id").await;
    assert!(none.is_empty());
    daemon.forget("job_b3").await;
    assert_eq!(all(daemon, "/v1/watches?job_id_prefix=job_b", 3, "job_id").await.len(), 8);
    for bad in ["", "a%00b", "%0A"] {
        let (status, problem) = daemon.get(&format!("/v1/watches?job_id_prefix={bad}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_parameter")), "{problem}");
    }
    flow.stop().await;
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let flow = Flow::quick(|_| {}).await;
    let daemon = &flow.daemon;
    let body = |id: &String| json!({"job_id": id, "group": "g"});
    for _ in 0..2 {
        let job = flow.mock.add_job(JobPlan::new());
        daemon.register(&body(&job)).await;
        daemon.until(&job, "finishes", is_finished).await;
    }
    daemon.register(&json!({"job_id": "x", "group": "h"})).await;
    let lists =
        ["/v1/watches?", "/v1/deliveries?", "/v1/events?routed=true&", "/v1/groups?", "/v1/groups/g/jobs?"];
    let mut cursors = Vec::new();
    for list in lists {
        let (status, page) = daemon.get(&format!("{list}limit=1")).await;
        assert_eq!(status, 200, "{page}");
        cursors.push(page["next_cursor"].as_str().unwrap_or_else(|| panic!("{list}: {page}")).to_owned());
    }
    for list in lists {
        for (cursor, of) in cursors.iter().zip(lists) {
            let (status, answer) = daemon.get(&format!("{list}cursor={cursor}")).await;
            assert_eq!(status == 200, of == list, "a cursor of {of} for {list}: {answer}");
            assert!(status == 200 || answer["code"] == "bad_parameter", "{answer}");
        }
    }
    flow.stop().await;
}

#[tokio::test]
async fn deliveries_are_found_by_sink_state_and_time() {
    let flow =
        Flow::quick(|config| *config = std::mem::take(config).webhook("gone", "http://127.0.0.1:9/", 0))
            .await;
    let daemon = &flow.daemon;
    flow.receiver.always(Reply::status(204));
    for _ in 0..3 {
        let job = flow.mock.add_job(JobPlan::new());
        daemon.watch(&job).await;
        daemon.finished(&job).await;
    }
    let times = all(daemon, "/v1/deliveries?sink=gone&state=dead", 2, "created_at").await;
    assert_eq!(times.len(), 3);
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let until = all(daemon, &format!("/v1/deliveries?sink=gone&until={}", times[0]), 2, "created_at").await;
    assert_eq!(until, times[1..]);
    let between = format!("/v1/deliveries?sink=gone&since={}&until={}", times[1], times[0]);
    assert_eq!(all(daemon, &between, 2, "created_at").await, times[1..2]);
    for (path, code) in [
        ("since=x", "bad_parameter"),
        ("until=x", "bad_parameter"),
        ("until=2026-01-01T00:00:00Z&since=2026-01-01T00:00:00Z", "invalid_range"),
    ] {
        let (status, problem) = daemon.get(&format!("/v1/deliveries?{path}")).await;
        assert!(status == 400 || status == 422, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
    }
    flow.stop().await;
}
