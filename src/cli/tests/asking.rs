//! Usage, connections and errors.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_tree_of_commands_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn bad_usage_is_told_by_the_parser() {
    for bad in [
        &["redeliver", "dlv_1", "--all"][..],
        &["watch"],
        &["watch", "job_1", "--label", "team"],
        &["watch", "job_1", "--timeout", "5m"],
        &["get", ".."],
        &["get", "job_1", "--job", "--output", "json"],
        &["list", "--phase", "sleeping"],
        &["list", "--limit", "0"],
        &["deliveries", "dlv_1", "--state", "dead"],
        &["deliveries", "--since", "yesterday"],
        &["run", "--watch", ""],
        &["group", "get", ".."],
        &["group", "get", ".", "--jobs"],
        &["group", "close", ".."],
        &["group", "close", ""],
    ] {
        assert_eq!(parses(bad), 2, "{bad:?}");
    }
    for good in [
        &["redeliver", "--sink", "app"][..],
        &["redeliver", "dlv_1", "dlv_2"],
        &["watch", "-", "--wait", "--timeout", "5m"],
        &["list", "--url", "http://x"],
        &["run", "--once", "--watch", "job_1", "--watch", "job_2", "--config", "c.toml"],
    ] {
        assert_eq!(parses(good), 0, "{good:?}");
    }
}

#[tokio::test]
async fn health_is_the_exit_status() {
    let degraded = json!({"status": "degraded", "reasons": ["source_failing:retab"]});
    let away = json!({"status": "unavailable", "reasons": ["disk_full"], "details": ["the disk is full"]});
    let bare = json!({"status": "unavailable", "reasons": ["disk_full"]});
    let stub = Stub::new(&[(200, degraded), (503, away), (503, bare)]).await;
    let ran = stub.tidings(&["healthcheck"]).await;
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (ExitStatus::Done, "", ""));
    let ran = stub.tidings(&["healthcheck"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert_eq!(ran.err, "the daemon is not ready: the disk is full");
    assert_eq!(stub.tidings(&["healthcheck"]).await.err, "the daemon is not ready: disk_full");
    assert_eq!(stub.lines(), ["GET /readyz"; 3]);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ran = tidings(&["--url", &free.to_string(), "list"], "").await;
    assert_eq!(ran.status, ExitStatus::Failed);
    let message = format!(
        "no daemon answers at http://{free}: Connection refused\nhint: start a daemon with `tidings run`, or name it with --url \
         or TIDINGS_URL"
    );
    assert_eq!(ran.err, message);

    let stub = Stub::new(&[problem(401, "unauthorized", "a token is needed"), (302, json!({}))]).await;
    let ran = stub.tidings(&["list"]).await;
    let message = "the daemon refused: a token is needed (unauthorized)\nhint: give the daemon's token with --token-file or \
                   TIDINGS_TOKEN";
    assert_eq!(ran.err, message);
    let ran = stub.tidings(&["list"]).await;
    assert!(ran.err.contains("answered 302"), "{}", ran.err);
}

#[tokio::test]
async fn a_token_is_given_once_and_never_shown() {
    let args = ["--url", "http://127.0.0.1:1", "--token", "hunter2", "--token-file", "/nowhere", "list"];
    let ran = tidings(&args, "").await;
    assert_eq!(ran.status, ExitStatus::Usage);
    assert!(!ran.err.contains("hunter2"));
    let cli = Cli::try_parse_from(["tidings", "--token", "hunter2", "list"]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_token_is_sent_without_the_white_space_around_it() {
    let stub = Stub::new(&[(200, json!({"status": "ready"})), (200, json!({"status": "ready"}))]).await;
    assert_eq!(stub.tidings(&["--token", " hunter2\r\n", "healthcheck"]).await.status, ExitStatus::Done);
    assert_eq!(stub.tidings(&["--token", "\n", "healthcheck"]).await.status, ExitStatus::Done);
    let sent: Vec<_> = stub.seen().into_iter().map(|seen| seen.token).collect();
    assert_eq!(sent, [Some("Bearer hunter2".to_owned()), None]);
}

#[tokio::test]
async fn a_token_that_no_header_can_have_is_bad_usage_and_not_shown() {
    let stub = Stub::new(&[]).await;
    for token in ["hunter2\nb", "hunter2\u{7f}"] {
        let ran = stub.tidings(&["--token", token, "list"]).await;
        assert_eq!(ran.status, ExitStatus::Usage, "{}", ran.err);
        assert!(
            ran.err.starts_with("the daemon's token cannot be sent: it holds a line break"),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("\nhint: ") && !ran.err.contains("hunter2"), "{}", ran.err);
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answers: Answers = Arc::new(Mutex::new((VecDeque::from([(200, "{}".to_owned())]), Vec::new())));
    let app = Router::new().fallback(answer).with_state(answers);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let url = format!("unix:{}", path.display());
    assert_eq!(tidings(&["--url", &url, "healthcheck"], "").await.status, ExitStatus::Done);
    let ran = tidings(&["--url", "unix:/nowhere/at/all", "healthcheck"], "").await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.err.contains("no daemon answers at unix:/nowhere/at/all"), "{}", ran.err);
}

#[tokio::test]
async fn completions_need_no_daemon() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = tidings(&["completions", shell], "").await;
        assert_eq!(ran.status, ExitStatus::Done, "{shell}");
        assert!(ran.out.contains("_TIDINGS_COMPLETE"), "{shell}: {}", ran.out);
    }
}

#[test]
fn an_https_daemon_can_be_asked() {
    // Reads the certificates of the system, whichever they are.
    let target = Target::parse("https://jobs.example.com").unwrap();
    Client::new(target, None).unwrap();
}

#[tokio::test]
async fn events_wait_for_a_daemon_that_was_there_once() {
    let event = |id: u64| {
        let data = json!({"type": "job.completed", "timestamp": "2026-11-23T17:00:00Z",
            "created_at": "2026-11-23T17:00:00Z", "id": "evt_1", "source": "retab",
            "job_id": format!("job_{id}"), "outcome": "completed", "labels": {}, "job_size": null, "job": null});
        (200, format!("id: {id}\nevent: job.completed\ndata: {data}\n\n"))
    };
    let away = || (503, problem(503, "stopping", "the daemon stops").1.to_string());
    let refused = (401, problem(401, "unauthorized", "another token").1.to_string());
    let stub = Stub::raw(VecDeque::from([event(1), away(), event(2), refused])).await;
    let ran = stub.tidings(&["events"]).await;
    assert_eq!(ran.status, ExitStatus::Failed);
    assert!(ran.out.contains("job_1") && ran.out.contains("job_2"), "{}", ran.out);
    assert!(
        ran.err.contains("the stream ended; trying again") && ran.err.contains("another token"),
        "{}",
        ran.err
    );
}

/// Time passes at once. A Unix socket needs no network that could be slower than that.
#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (hung, absent) = (folder.path().join("hung.sock"), folder.path().join("absent.sock"));
    // The system accepts connections for a listener that never does.
    let _listener = tokio::net::UnixListener::bind(&hung).unwrap();
    for (socket, args, said) in [
        (&hung, &["healthcheck"][..], "did not answer within 3s"),
        (&hung, &["events"], "did not answer within 10s"),
        (&hung, &["list"], "did not answer within 15s"),
        (&hung, &["sink", "test", "app"], "did not answer within 15s"),
        (&absent, &["events"], "trying again for 10s"),
        (&absent, &["events"], "gave up after 10s"),
    ] {
        let url = format!("unix:{}", socket.display());
        let ran = tidings(&[&["--url", &url], args].concat(), "").await;
        assert_eq!(ran.status, ExitStatus::Failed, "{args:?}: {ran:?}");
        assert!(ran.err.contains(said), "{args:?}: {ran:?}");
    }
}
