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
    let list: Value = serde_json::from_str(&ran.out).unwrap();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|watch| &watch["job_id"]).collect();
    assert_eq!((ids, &list["next_cursor"]), (vec![&json!("a"), &json!("b")], &json!("c3")));
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
    assert_eq!(ran.out, "{\"data\":[],\"next_cursor\":null}\n");
}

#[tokio::test]
async fn every_list_has_one_shape_in_json() {
    let page = |entry: Value| (200, json!({"data": [entry], "next_cursor": null}));
    let sink = json!({"name": "app"});
    for (args, answer) in [
        (&["list", "-o", "json"][..], page(watch("a", "watching", None, &[]))),
        (&["deliveries", "-o", "json"], page(delivery())),
        (&["sink", "list", "-o", "json"], page(sink.clone())),
        (&["source", "list", "-o", "json"], page(sink)),
        (&["replicas", "-o", "json"], page(json!({"name": "tidings-0"}))),
        (&["unwatch", "a", "-o", "json"], (204, Value::Null)),
    ] {
        let ran = Stub::new(&[answer]).await.tidings(args).await;
        let list: Value = serde_json::from_str(&ran.out).unwrap();
        let keys: Vec<&str> = list.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            (keys, list["data"].as_array().unwrap().len()),
            (vec!["data", "next_cursor"], 1),
            "{args:?}"
        );
    }
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
async fn what_a_job_says_drives_no_terminal() {
    let nasty = "a\u{1b}[2J\u{9b}31m\u{202e}b\u{85}\u{2028}";
    let mut one = watch("job\u{202e}1", "watching", None, &[]);
    one["status"] = json!(nasty);
    let page = (200, json!({"data": [one], "next_cursor": null}).to_string());
    let stub =
        Stub::raw(VecDeque::from([page.clone(), page, (200, one.to_string()), (200, one.to_string())])).await;
    let json = stub.tidings(&["list", "--output", "json"]).await.out;
    let table = stub.tidings(&["list"]).await.out;
    let got = stub.tidings(&["get", "x", "--output", "json"]).await.out;
    let shown = stub.tidings(&["get", "x"]).await.out;
    for text in [&json, &table, &got, &shown] {
        let is_unsafe = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{2028}'..='\u{202e}'));
        assert!(!text.contains(is_unsafe), "{text:?}");
        assert!(text.contains(r"a\u001b[2J\u009b31m\u202eb\u0085\u2028"), "{text}");
    }
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["data"], json!([one]));
    assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), one);
    let refusal = problem(404, "no\u{9b}code", "no \u{202e}such\nwatch");
    let stub = Stub::new(&[refusal]).await;
    let ran = stub.tidings(&["get", "x"]).await;
    assert!(ran.err.contains(r"no \u202esuch\nwatch") && ran.err.contains(r"no\u009bcode"), "{}", ran.err);
}

#[tokio::test]
async fn unwatching_goes_on_past_a_watch_that_is_not_there() {
    let stub = Stub::raw(VecDeque::from([
        (404, problem(404, "not_found", "no such watch").1.to_string()),
        (204, String::new()),
    ]))
    .await;
    let ran = stub.tidings(&["unwatch", "job_1", "job_2"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Failed, "stopped watching job_2\n"));
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
    assert!(ran.out.contains("ERROR") && ran.out.contains("gave up"), "{}", ran.out);
    let line =
        "GET /v1/deliveries?state=dead&sink=app&job_id=a%2Fb&since=2026-11-23T17%3A00%3A00.000Z&limit=100";
    assert_eq!(stub.lines(), [line]);
    let ran = stub.tidings(&["deliveries", "dlv_1"]).await;
    assert!(
        ran.out.contains("gave up") && ran.out.contains("12ms") && ran.out.contains(r"oh\nno"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn redelivering_by_filter_means_dead_letters_unless_told_otherwise() {
    let stub =
        Stub::new(&[(202, json!({"count": 1})), (202, json!({})), problem(404, "not_found", "no")]).await;
    let ran = stub.tidings(&["redeliver", "--sink", "app", "--until", "2026-11-23T17:00:00Z"]).await;
    assert_eq!(ran.out, "sending 1 delivery again\n");
    assert_eq!(
        stub.seen()[0].body,
        json!({"state": "dead", "sink": "app", "until": "2026-11-23T17:00:00.000Z"})
    );
    let ran = stub.tidings(&["redeliver", "dlv_1", "dlv_2"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Failed, "sending dlv_1 again\n"), "{ran:?}");
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
    let table = stub.tidings(&["sink", "list", "--state", "failing", "--type", "webhook"]).await.out;
    assert!(table.contains("https://slow.example") && table.contains("timed out"), "{table}");
    assert!(table.lines().take(3).all(|line| line.len() <= 100), "{table}");
    let ran = stub.tidings(&["sink", "test", "app"]).await;
    assert_eq!(
        (ran.status, ran.out.as_str()),
        (ExitStatus::Done, "app took the test event with 204 in 5ms\n")
    );
    let ran = stub.tidings(&["sink", "test", "app"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.out.contains("did not take"), "{}", ran.out);
    assert_eq!(stub.lines()[2], "GET /v1/sinks?state=failing&type=webhook");
    assert_eq!(stub.lines()[3..], ["POST /v1/sinks/app/test"; 2]);
}

#[tokio::test]
async fn a_sink_list_fits_a_hundred_columns_and_says_below_what_is_wrong() {
    let long = "x".repeat(200);
    let sink = |name: &str, state: &str| {
        json!({"name": name, "type": "webhook", "target": format!("https://example.com/{long}"), "pending": 12_345,
            "in_flight": 16, "delivered": 1_234_567, "failed": 54_321, "dead": 321, "last_success_at": "2026-11-23T17:00:00Z",
            "last_error": format!("answered 500 {long}"), "breaker": "closed", "state": state, "next_probe_at": null,
            "paused_at": null, "success_share": 0.25, "failures_in_row": 4, "oldest_pending_at": "2026-11-23T17:00:00Z"})
    };
    let sinks = [sink("application", "failing"), sink("archive", "paused"), sink("old", "not_configured")];
    let odd = sink("a-name-as-long-as-that-of-the-department-that-pays", "ok");
    let stub = Stub::new(&[(200, json!({"data": sinks, "next_cursor": null})), (200, json!([odd]))]).await;
    let text = stub.tidings(&["sink", "list"]).await.out;
    let (table, below) = text.split_once("\n\n").unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for said in [
        "sink application is failing: answered 500",
        "4 failures in a row, 25 % taken",
        "`tidings sink resume archive`",
        "sink old is not configured, and keeps 12345 deliveries",
    ] {
        assert!(below.contains(said), "{said}: {below}");
    }
    let table = stub.tidings(&["sink", "list"]).await.out;
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(table.contains("a-name-as-long-as-that-of-the-department-that-pays  ok"), "{table}");
}

#[tokio::test]
async fn the_status_is_one_screen_with_all_that_is_wrong() {
    let sink = json!({"name": "app", "type": "webhook", "target": "http://127.0.0.1:9/", "pending": 3, "in_flight": 0,
        "delivered": 7, "failed": 2, "dead": 1, "last_success_at": null, "last_error": null, "breaker": "closed",
        "state": "paused", "next_probe_at": null, "paused_at": "2026-11-23T17:00:00Z", "success_share": null,
        "oldest_pending_at": null});
    let source = json!({"name": "ci", "type": "custom", "base_url": "http://127.0.0.1:9", "state": "unauthorized",
        "paused_until": null, "open_watches": 4, "max_requests_per_second": 20.0, "requests": 9,
        "last_error": "answered 401", "polling": {"strategy": "learned", "cost_of_a_poll_seconds": 0.2,
        "requests_per_second": 20.0, "budget_used": 0.0, "finished": 0, "polls_per_job": null,
        "mean_delay_seconds": null, "kinds": []}});
    let page = |entries: Value| (200, json!({"data": entries, "next_cursor": null}));
    let answers = || {
        let ready = (200, json!({"status": "degraded", "reasons": ["source `ci` is unauthorized"]}));
        let replicas = page(json!([replica("tidings-0", &[]), replica("tidings-1", &["source:ci"])]));
        let (dead, unrouted) = (page(json!([delivery()])), page(json!([{}, {}])));
        let problems = json!([
            current_problem("bodies_unavailable", "store", "large jobs wait: it is away"),
            current_problem("events_unrouted", "daemon", "no sink took 2 events"),
            current_problem("sink_paused", "sink", "sink `app` is paused"),
        ]);
        let overview = (200, json!({"problems": problems, "sources": [source], "sinks": [sink]}));
        [ready, overview, dead, unrouted, replicas]
    };
    let stub = Stub::new(&answers()).await;
    let ran = stub.tidings(&["status"]).await;
    assert_eq!(ran.status, ExitStatus::Done, "{ran:?}");
    let heading = format!("tidings at {} is degraded", stub.url);
    for said in [
        heading.as_str(),
        "open    4 jobs, 3 deliveries",
        "source ci is unauthorized: answered 401",
        "sink app is paused",
        "wrong   large jobs wait: it is away; see to it",
        "1 dead letter; `tidings deliveries --state dead`",
        "kept    2 events that no sink took",
        "shared  2 replicas, tidings-1 owns the work",
    ] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    assert!(ran.out.lines().count() < 24, "{}", ran.out);
    let ran = Stub::new(&answers()).await.tidings(&["status", "-o", "json"]).await;
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status["open"], json!({"watches": 4, "deliveries": 3}));
    assert_eq!(
        (&status["status"], status["wrong"].as_array().unwrap().len()),
        (&json!("degraded"), 4),
        "{status}"
    );
    let healthy = (200, json!({"status": "ready", "reasons": []}));
    let none = || page(json!([]));
    // A daemon of an older version knows no replicas.
    let unknown = (404, json!({"code": "no_route", "detail": "no such route", "status": 404}));
    let idle = (200, json!({"problems": [], "sources": [], "sinks": []}));
    let stub = Stub::new(&[healthy, idle, none(), none(), unknown]).await;
    let ran = stub.tidings(&["status"]).await;
    assert!(ran.out.contains("is ready") && ran.out.contains("wrong   nothing"), "{}", ran.out);
    assert!(!ran.out.contains("shared"), "{}", ran.out);
}

#[tokio::test]
async fn the_status_shows_what_a_daemon_without_its_database_can_tell() {
    let unavailable = || {
        (503, json!({"status": "unavailable", "reasons": ["store_unavailable"], "details": ["it is away"]}))
    };
    let away = || problem(503, "store_unavailable", "the store is not available: it is away");
    let overview = || {
        let problems = json!([current_problem("store_unavailable", "store", "it is away")]);
        (200, json!({"problems": problems, "sources": [], "sinks": []}))
    };
    let stub = Stub::new(&[unavailable(), overview(), away(), away(), away()]).await;
    let ran = stub.tidings(&["status"]).await;
    assert_eq!(ran.status, ExitStatus::Done, "{ran:?}");
    for said in [
        "is unavailable",
        "open    0 jobs",
        "unknown dead letters, kept events: the store is not available: it is away",
        "wrong   the daemon accepts no jobs: it is away",
        "        it is away; see to it",
    ] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    // A replica that knows no owner asks for nothing twice.
    let answers = [unavailable(), away(), (200, json!({"data": [], "next_cursor": null}))];
    let ran = Stub::new(&answers).await.tidings(&["status", "-o", "json"]).await;
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.status, &status["open"], &status["dead_letters"]),
        (ExitStatus::Done, &json!(null), &json!(null))
    );
    assert_eq!(
        status["unknown"],
        "sources, sinks, open work, dead letters, kept events: the store is not available: it is away"
    );
    assert_eq!(status["wrong"], json!(["the daemon accepts no jobs: it is away"]));
    // A daemon that refuses the caller tells nothing.
    let refused = [unavailable(), problem(401, "unauthorized", "no token")];
    assert_eq!(Stub::new(&refused).await.tidings(&["status"]).await.status, ExitStatus::Failed);
}

fn current_problem(code: &str, kind: &str, summary: &str) -> Value {
    json!({"code": code, "severity": "error", "subject": {"type": kind, "name": null}, "since": null,
        "summary": summary, "remedy": "see to it"})
}

fn replica(name: &str, units: &[&str]) -> Value {
    json!({"name": name, "address": format!("http://{name}:8787"), "since": "2026-11-23T17:00:00Z", "units": units,
        "renewed_at": "2026-11-23T17:00:01Z"})
}

#[tokio::test]
async fn replicas_are_listed_with_what_each_owns() {
    let page = |replicas: Value| (200, json!({"data": replicas, "next_cursor": null}));
    let two = json!([replica("tidings-0", &["source:ci", "sink:app"]), replica("tidings-1", &[])]);
    let stub = Stub::new(&[page(two), page(json!([]))]).await;
    let table = stub.tidings(&["replicas"]).await.out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("NAME       ADDRESS"), "{table}");
    assert!(
        lines[1].starts_with("tidings-0  http://tidings-0:8787") && lines[1].ends_with("source:ci sink:app"),
        "{table}"
    );
    // How far the column reaches depends on the day of the test.
    assert_eq!(lines[2].split_whitespace().rev().take(2).collect::<Vec<_>>(), ["-", "ago"], "{table}");
    let ran = stub.tidings(&["replicas"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, ""));
    assert!(ran.err.contains("a data folder of its own"), "{}", ran.err);
    assert_eq!(stub.lines(), ["GET /v1/replicas"; 2]);
}

#[tokio::test]
async fn past_events_are_delivered_as_they_are_chosen() {
    let count = |count: u64| (202, json!({"count": count}));
    let stub = Stub::new(&[count(1), count(7), count(2)]).await;
    let ran = stub.tidings(&["deliver", "--sink", "app"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, "delivering 1 event to app\n"));
    let since = "2026-11-23T17:00:00.000Z";
    let args =
        ["deliver", "--sink", "app", "--unrouted", "--since", since, "--outcome", "failed", "--dry-run"];
    assert_eq!(stub.tidings(&args).await.out, "would deliver 7 events to app\n");
    stub.tidings(&["deliver", "--sink", "app", "evt_1", "evt_2"]).await;
    let bodies: Vec<Value> = stub.seen().into_iter().map(|seen| seen.body).collect();
    let chosen =
        json!({"sink": "app", "routed": false, "since": since, "outcome": "failed", "dry_run": true});
    assert_eq!(
        bodies,
        [json!({"sink": "app"}), chosen, json!({"sink": "app", "event_ids": ["evt_1", "evt_2"]})]
    );
    assert!(stub.lines().iter().all(|line| line == "POST /v1/deliveries/deliver"));
    for wrong in [
        &["deliver"][..],
        &["deliver", "--sink", "app", "--outcome", "x"],
        &["deliver", "--sink", "a", "e", "--unrouted"],
    ] {
        assert!(Cli::try_parse_from([&["tidings"], wrong].concat()).is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_backlog_is_dropped_or_moved() {
    let answers = [
        (200, json!({"count": 1})),
        (200, json!({"count": 2, "existing": 1})),
        problem(404, "unknown_sink", "there is no sink `none`"),
    ];
    let stub = Stub::new(&answers).await;
    assert_eq!(stub.tidings(&["sink", "drop", "a/b"]).await.out, "dropped 1 pending delivery to a/b\n");
    let ran = stub.tidings(&["sink", "move", "old", "new"]).await;
    assert_eq!(ran.out, "moved 2 deliveries from old to new\n");
    assert!(ran.err.contains("1 event was at new already"), "{}", ran.err);
    assert!(stub.tidings(&["sink", "drop", "none"]).await.err.contains("unknown_sink"));
    assert_eq!(stub.lines()[..2], ["POST /v1/sinks/a%2Fb/drop", "POST /v1/sinks/old/move"]);
    assert_eq!(stub.seen()[1].body, json!({"to": "new"}));
}

#[tokio::test]
async fn redelivery_is_chosen_by_job_and_source_and_tried_first() {
    let stub = Stub::new(&[(202, json!({"count": 3}))]).await;
    let ran = stub.tidings(&["redeliver", "--source", "x", "--job-id", "a/b", "--dry-run"]).await;
    assert_eq!(ran.out, "would send 3 deliveries again\n");
    assert_eq!(
        stub.seen()[0].body,
        json!({"state": "dead", "source": "x", "job_id": "a/b", "dry_run": true})
    );
}

#[tokio::test]
async fn polling_goes_on_past_a_job_that_is_not_watched() {
    let answers = [
        problem(404, "watch_not_found", "no such watch"),
        (202, watch("b", "watching", None, &[])),
        (202, watch("c", "done", Some("completed"), &[])),
    ];
    let stub = Stub::new(&answers).await;
    let ran = stub.tidings(&["poll", "a", "b", "c", "--source", "x"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert_eq!(ran.out, "polling b now\nc has finished (done); no poll is needed\n");
    assert!(ran.err.contains("a: the daemon refused: no such watch"), "{}", ran.err);
    assert_eq!(stub.lines()[1], "POST /v1/watches/x/b/poll");
}

#[tokio::test]
async fn events_that_no_sink_took_are_listed_page_by_page() {
    let event = json!({"type": "job.completed", "timestamp": "2026-11-23T17:00:00Z", "created_at": "2026-11-23T17:00:01Z",
        "id": "evt_1", "source": "retab", "job_id": "job_1", "outcome": "completed", "labels": {}, "job_size": 5,
        "job": "/v1/watches/retab/job_1/job"});
    let page = |next: Value| (200, json!({"data": [event], "next_cursor": next}));
    let stub = Stub::new(&[page(json!("c")), page(Value::Null), page(Value::Null)]).await;
    let ran = stub.tidings(&["events", "--unrouted", "--all", "--source", "retab", "--label", "a=b"]).await;
    assert_eq!(ran.status, ExitStatus::Done);
    assert!(ran.out.contains("evt_1") && ran.out.lines().count() == 3, "{}", ran.out);
    let ran = stub.tidings(&["events", "--unrouted", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["data"][0]["id"], "evt_1");
    assert_eq!(
        stub.lines(),
        [
            "GET /v1/events?routed=false&source=retab&label.a=b&limit=1000",
            "GET /v1/events?routed=false&source=retab&label.a=b&limit=1000&cursor=c",
            "GET /v1/events?routed=false&limit=100",
        ]
    );
    for wrong in [["events", "--all"], ["events", "--limit=3"]] {
        assert!(Cli::try_parse_from(["tidings"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_source_that_the_daemon_does_not_have_is_a_mistake() {
    let nothing = || (202, json!({"count": 0}));
    let stub = Stub::new(&[nothing(), nothing(), nothing()]).await;
    for args in [&["deliver", "--sink", "app", "--source", "retb"][..], &["redeliver", "--source", "retb"]] {
        let ran = stub.tidings(args).await;
        assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Usage, ""), "{args:?}");
        let message = "no source is named `retb`: the daemon has `retab`\nhint: did you mean `retab`?";
        assert_eq!(ran.err, message, "{args:?}");
    }
    let ran = stub.tidings(&["redeliver", "--source", "retab"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, "sending 0 deliveries again\n"));
}

#[tokio::test]
async fn a_timeline_has_a_line_for_each_step() {
    let told = json!({"source": "x", "job_id": "a", "kind": null, "truncated": true, "data": [
        {"at": "2026-11-23T17:00:00Z", "type": "registered"},
        {"at": "2026-11-23T17:00:01Z", "type": "hook"},
        {"at": "2026-11-23T17:00:02Z", "type": "status", "status": "in_progress"},
        {"at": "2026-11-23T17:00:03Z", "type": "finished", "outcome": "completed", "status": "completed", "event_id": "evt_1",
         "ended_at": "2026-11-23T17:00:02Z", "detection_seconds": 0.742, "error": null},
        {"at": "2026-11-23T17:00:04Z", "type": "fetched", "event_id": "evt_1", "size": 782, "deliveries": 1},
        {"at": "2026-11-23T17:00:05Z", "type": "attempt", "delivery_id": "dlv_1", "sink": "app", "event_id": "evt_1",
         "event_type": "job.completed", "number": 1, "state": "failed", "status": 503, "duration_ms": 12,
         "error": "answered 503", "error_class": "status"},
    ]});
    let stub = Stub::new(&[(200, told.clone()), (200, told.clone())]).await;
    let ran = stub.tidings(&["get", "a", "--source", "x", "--timeline"]).await;
    assert_eq!(stub.seen()[0].line, "GET /v1/watches/x/a/timeline");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 7, "{}", ran.out);
    assert!(lines[3].contains("status") && lines[3].ends_with("in_progress"), "{}", ran.out);
    assert!(lines[4].ends_with("completed, noticed after 0.7s"), "{}", ran.out);
    assert!(
        lines[6].ends_with("job.completed to app, attempt 1, failed, answered 503, 12 ms"),
        "{}",
        ran.out
    );
    let ran = stub.tidings(&["get", "a", "--source", "x", "--timeline", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), told);
}
