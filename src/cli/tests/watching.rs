//! Registering jobs and waiting for them.

use std::time::Duration;

use serde_json::json;

use super::{
    super::waiting::{AwaitedJob, Progress, RetryLimit, WaitLimits, wait_for},
    *,
};

#[tokio::test]
async fn one_job_is_registered_with_all_that_was_said_of_it() {
    let stub = Stub::new(&[(202, watch("job_1", "watching", None, &[]))]).await;
    let args = [
        "--token",
        "hush",
        "watch",
        "job_1",
        "--source",
        "retab",
        "--label",
        "team=billing",
        "--sink",
        "app",
        "--callback",
        "https://example.com/h",
        "--deadline",
        "2h",
    ];
    let ran = stub.tidings(&args).await;
    assert_eq!((ran.status, ran.out.as_str()), (ExitStatus::Done, "job_1 accepted\n"), "{ran:?}");
    let seen = &stub.seen()[0];
    assert_eq!(seen.line, "POST /v1/watches");
    assert_eq!(seen.token.as_deref(), Some("Bearer hush"));
    assert_eq!(
        seen.body,
        json!({"job_id": "job_1", "source": "retab", "labels": {"team": "billing"},
        "sinks": ["app"], "callback": {"url": "https://example.com/h"}, "deadline": "2h"})
    );
}

#[tokio::test]
async fn many_jobs_are_registered_by_the_thousand() {
    let full = json!({"accepted": 999, "existing": 1, "rejected": []});
    let rest =
        json!({"accepted": 0, "existing": 0, "rejected": [{"index": 0, "code": "bad", "detail": "no room"}]});
    let stub = Stub::new(&[(200, full), (200, rest)]).await;
    let stdin = (0..1001).fold(String::new(), |text, n| text + &format!("job_{n}\n# no job\n\n"));
    let ran = stub.tidings_with(&["watch", "-", "--label", "a=b"], &stdin).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert_eq!(ran.out, "999 accepted, 1 existing\n");
    assert!(ran.err.contains("job_1000 was refused: no room (bad)"), "{}", ran.err);
    let seen = stub.seen();
    assert_eq!(seen[0].line, "POST /v1/watches/batch");
    assert_eq!(seen[0].body["watches"].as_array().unwrap().len(), 1000);
    assert_eq!(seen[1].body, json!({"watches": [{"job_id": "job_1000", "labels": {"a": "b"}}]}));
}

#[tokio::test]
async fn waiting_goes_on_over_a_timeout_and_a_restart_until_deliveries_are_settled() {
    let stub = Stub::new(&[
        (202, watch("job_1", "watching", None, &[])),
        (202, watch("job_1", "watching", None, &[])),
        problem(503, "stopping", "the daemon stops"),
        (200, watch("job_1", "delivering", Some("completed"), &["pending"])),
        (200, watch("job_1", "delivering", Some("completed"), &["pending"])),
        (200, watch("job_1", "done", Some("completed"), &["delivered"])),
    ])
    .await;
    let ran = stub.tidings(&["watch", "job_1", "--wait"]).await;
    assert_eq!(ran.status, ExitStatus::Done, "{ran:?}");
    assert_eq!(ran.out, "job_1 accepted\njob_1 completed (3 polls, 1 delivery)\n");
    let lines = stub.lines();
    assert_eq!(lines[1], "GET /v1/watches/retab/job_1/wait?timeout=30s");
    assert_eq!(lines[3], lines[1]);
    assert_eq!(lines[4..], ["GET /v1/watches/retab/job_1", "GET /v1/watches/retab/job_1"]);
}

#[tokio::test]
async fn the_exit_status_tells_the_worst_that_happened() {
    let batch = || (200, json!({"accepted": 2, "existing": 0, "rejected": []}));
    let failed = || (200, watch("job_1", "done", Some("failed"), &["delivered"]));
    let done = || (200, watch("job_2", "done", Some("completed"), &[]));
    let dead = || (200, watch("job_2", "dead", Some("completed"), &["dead", "delivered"]));
    let cases = [
        (vec![batch(), done(), done()], ExitStatus::Done),
        (vec![batch(), failed(), done()], ExitStatus::NotCompleted),
        (vec![batch(), failed(), dead()], ExitStatus::DeadLetter),
        (vec![batch(), dead(), failed()], ExitStatus::DeadLetter),
        (vec![batch(), dead(), problem(404, "not_found", "no such watch")], ExitStatus::Failed),
    ];
    for (answers, status) in cases {
        let stub = Stub::new(&answers).await;
        let ran = stub.tidings(&["watch", "job_1", "job_2", "--wait"]).await;
        assert_eq!(ran.status, status, "{ran:?}");
    }
}

#[tokio::test]
async fn waiting_ends_when_its_time_is_up() {
    let open = || (202, watch("job_1", "watching", None, &[]));
    let stub = Stub::new(&[open(), open(), open(), open()]).await;
    let ran = stub.tidings(&["watch", "job_1", "--wait", "--timeout", "100ms"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.err.contains("1 job of 1 not settled after 100ms"), "{}", ran.err);
}

#[tokio::test]
async fn a_daemon_that_stays_away_is_given_up() {
    let stub = Stub::new(&[]).await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console =
        Console { out: &mut out, err: &mut err, input: &mut &b""[..], live: false, quiet: false, width: 100 };
    let client =
        Cli::try_parse_from(["tidings", "--url", &stub.url, "list"]).unwrap().global.client().unwrap();
    let jobs = ["a", "b", "c"].map(|id| AwaitedJob {
        source: "retab".to_owned(),
        job_id: id.parse().unwrap(),
        kind: None,
    });
    let limits =
        WaitLimits { retry: RetryLimit::of_outages(Duration::from_millis(300)), ..WaitLimits::default() };
    let mut progress = Progress::new(&mut console, jobs.len());
    let error = wait_for(&client, jobs.to_vec(), &limits, &mut progress).await.unwrap_err();
    assert!(format!("{error:#}").contains("gave up waiting for the jobs"), "{error:#}");
    let asked = stub.lines().len();
    assert!(asked < 20, "{asked} requests to a failing daemon");
}

#[tokio::test]
async fn each_job_is_a_line_of_json_for_programs() {
    let lines = |ran: &Ran| -> Vec<Value> {
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let stub = Stub::new(&[(202, watch("a", "watching", None, &[]))]).await;
    let ran = stub.tidings(&["watch", "a", "-o", "json"]).await;
    assert_eq!(lines(&ran)[..], [watch_line("a", "watching", None)], "{ran:?}");

    let batch = json!({"accepted": 1, "existing": 0,
        "rejected": [{"index": 1, "code": "invalid_vars", "detail": "no room"}]});
    let stub = Stub::new(&[(200, batch.clone()), (200, watch("a", "watching", None, &[]))]).await;
    let ran = stub.tidings(&["watch", "a", "b", "-o", "json"]).await;
    let refused = json!({"job_id": "b", "code": "invalid_vars", "detail": "no room"});
    assert_eq!(lines(&ran), [refused.clone(), watch("a", "watching", None, &[])]);
    assert_eq!(ran.status, ExitStatus::Failed);

    let stub = Stub::new(&[(200, batch), (200, watch("a", "done", Some("failed"), &[]))]).await;
    let ran = stub.tidings(&["watch", "a", "b", "--wait", "-o", "json"]).await;
    assert_eq!(lines(&ran), [refused, watch_line("a", "done", Some("failed"))]);
}

/// A watch as a program reads it.
fn watch_line(job_id: &str, phase: &str, outcome: Option<&str>) -> Value {
    let view: crate::api::view::WatchView =
        serde_json::from_value(watch(job_id, phase, outcome, &[])).unwrap();
    serde_json::to_value(view).unwrap()
}

#[tokio::test]
async fn a_quiet_command_prints_results_and_errors_alone() {
    let stub =
        Stub::new(&[(200, json!({"data": [], "next_cursor": null})), problem(500, "internal", "broken")])
            .await;
    let ran = stub.tidings(&["-q", "list"]).await;
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    let ran = stub.tidings(&["-q", "list"]).await;
    assert!(ran.err.contains("broken"), "{}", ran.err);
    for (args, level) in [
        (&["-v", "list"][..], Some("info,tidings=debug")),
        (&["list", "-vv"], Some("trace")),
        (&["-q", "list"], Some("warn")),
    ] {
        let cli = Cli::try_parse_from([&["tidings"], args].concat()).unwrap();
        assert_eq!(cli.global.level().as_deref(), level);
    }
    assert_eq!(parses(&["-q", "-v", "list"]), 2);
    assert_eq!(parses(&["-c", "c.toml", "list", "-o", "json"]), 0);
}
