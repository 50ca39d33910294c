//! How long commands wait: for a daemon that hangs, for one that is not there yet, and for jobs that do not end.

use std::{process::Stdio, time::Duration};

use axum::{Router, routing::get};
use futures_util::future::join_all;
use serde_json::json;
use tidings::mock::JobPlan;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::{TcpListener, UnixListener},
    time::timeout,
};

use crate::harness::{Home, LOOPBACK, PATIENCE, binary, once};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_bounds_a_command_whose_daemon_hangs() {
    let folder = tempfile::tempdir().unwrap();
    // The system accepts connections for a listener that never does.
    let hung = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", hung.local_addr().unwrap());
    let all = format!("the daemon at {url} did not answer within 1s");
    let cases = [
        (&["wait", "--timeout", "1s"][..], all.as_str()),
        (&["wait", "job_1", "--timeout", "1s"], &all),
        (&["watch", "job_1", "--wait", "--timeout", "1s"], &all),
        (&["watch", "job_1", "job_2", "--wait", "--timeout", "1s"], &all),
        (&["healthcheck"], "did not answer within 3s"),
    ];
    let runs = cases.map(async |(args, said)| {
        let args = [&["--url", &url][..], args].concat();
        let ran = timeout(PATIENCE, once(folder.path(), &args)).await.expect("it ends");
        assert_eq!(ran.status.code(), Some(1), "{args:?}");
        assert!(text(&ran.stderr).contains(said), "{args:?}: {}", text(&ran.stderr));
    });
    join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let page = || async { axum::Json(json!({"data": [], "next_cursor": null})) };
    let mut waiting = binary()
        .args(["wait", "--timeout", "30s", "--url", &format!("unix:{}", socket.display())])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).await.unwrap();
    assert!(line.contains("no daemon answers at unix:") && line.contains("trying again for 30s"), "{line}");
    let listener = UnixListener::bind(&socket).unwrap();
    let router = Router::new().route("/v1/watches", get(page));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let status = waiting.wait().await.unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).await.unwrap();
    assert_eq!(
        (status.code(), rest.as_str()),
        (Some(0), ""),
        "nothing is open, so nothing is left to wait for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_by_itself_ends_in_time_and_says_what_is_open() {
    let home = Home::new("").await;
    let quick = home.mock.add_job(JobPlan::new());
    let slow = home.mock.add_job(JobPlan::new().lasting(Duration::from_hours(1)));
    let args = ["run", "--once", "--timeout", "5s", "--watch", &quick, "--watch", &slow];
    let ran = timeout(PATIENCE, home.once(&args)).await.expect("it ends");
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(out.contains(&format!("{quick} completed")), "{out}");
    assert!(out.contains(&format!("{slow} is not done (watching, ")), "{out}");
    assert!(err.contains("1 job is not done after 5s; the next start resumes the open ones"), "{err}");
}
