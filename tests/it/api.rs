//! What callers may do wrong: the right problem, and nothing stored.

use serde_json::{Value, json};
use tidings::{
    app::App,
    util::{listen::Listen, secret::Secret},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::harness::{Daemon, Sinks, config, mock};

async fn problem(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status, "{problem}");
    for key in ["type", "title", "detail", "code"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {problem}");
    }
    (status, problem["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_and_store_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(config(folder.path(), &mock).disk("disk", folder.path())).await;
    let long = "x".repeat(257);
    let seventeen: Value =
        (0..17).map(|n| (n.to_string(), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let posts = [
        ("{bad", 400, "bad_json"),
        ("", 400, "bad_json"),
        ("{\"job_id\":\"a\"} trailing", 400, "bad_json"),
        ("[]", 422, "invalid_body"),
        ("{\"job_id\":5}", 422, "invalid_body"),
        ("{\"job_id\":\"a\",\"colour\":1}", 422, "invalid_body"),
        ("{\"job_id\":\"a\",\"job_id\":\"b\"}", 422, "invalid_body"),
        ("{\"job_id\":\"\"}", 422, "invalid_job_id"),
        ("{\"job_id\":\"..\"}", 422, "invalid_job_id"),
        ("{\"job_id\":\"a\\nb\"}", 422, "invalid_job_id"),
        (&format!("{{\"job_id\":\"{long}\"}}"), 422, "invalid_job_id"),
        (&json!({"job_id": "a", "labels": seventeen}).to_string(), 422, "invalid_labels"),
        (&json!({"job_id": "a", "labels": {"k": "v".repeat(513)}}).to_string(), 422, "invalid_labels"),
        (&json!({"job_id": "a", "labels": {"k".repeat(65): "v"}}).to_string(), 422, "invalid_labels"),
        (&json!({"job_id": "a", "source": "other"}).to_string(), 422, "unknown_source"),
        (&json!({"job_id": "a", "sinks": ["other"]}).to_string(), 422, "unknown_sink"),
        (&json!({"job_id": "a", "sinks": ["callback"]}).to_string(), 422, "unknown_sink"),
        (&json!({"job_id": "a", "deadline": "soon"}).to_string(), 422, "invalid_deadline"),
        (&json!({"job_id": "a", "deadline": "2020-01-01T00:00:00Z"}).to_string(), 422, "invalid_deadline"),
        (
            &json!({"job_id": "a", "callback": {"url": "ftp://x.example"}}).to_string(),
            422,
            "callback_refused",
        ),
        (
            &json!({"job_id": "a", "callback": {"url": "http://10.0.0.1/"}}).to_string(),
            422,
            "callback_blocked",
        ),
        (
            &json!({"job_id": "a", "callback": {"url": "http://x.example", "secret": "short"}}).to_string(),
            422,
            "callback_refused",
        ),
    ];
    for (body, status, code) in posts {
        let request =
            daemon.http.post(format!("{}/v1/watches", daemon.url)).header("content-type", "application/json");
        let answer = problem(request.body(body.to_owned()).send().await.unwrap()).await;
        assert_eq!(answer, (status, code.to_owned()), "{body}");
    }
    let get = |path: &str| daemon.http.get(format!("{}{path}", daemon.url)).send();
    for (path, status, code) in [
        ("/v1/nothing", 404, "no_such_route"),
        ("/v1/watches?limit=0", 400, "bad_parameter"),
        ("/v1/watches?limit=1001", 400, "bad_parameter"),
        ("/v1/watches?cursor=!", 400, "bad_parameter"),
        ("/v1/watches?phase=gone", 400, "bad_parameter"),
        ("/v1/watches?colour=red", 400, "unknown_parameter"),
        ("/v1/deliveries?state=lost", 400, "bad_parameter"),
        ("/v1/watches/retab/x/wait?timeout=6m", 400, "bad_parameter"),
        ("/v1/watches/retab/x/wait", 404, "watch_not_found"),
        ("/v1/watches/retab/x/job", 404, "watch_not_found"),
        ("/v1/watches/other/x", 404, "watch_not_found"),
        ("/v1/watches/retab/%ff", 400, "bad_path"),
        ("/v1/sources/other", 404, "unknown_source"),
        ("/proxy/other/v1/jobs", 404, "unknown_source"),
        ("/v1/deliveries/dlv_x", 404, "delivery_not_found"),
    ] {
        assert_eq!(problem(get(path).await.unwrap()).await, (status, code.to_owned()), "{path}");
    }
    let put = daemon.http.put(format!("{}/v1/watches", daemon.url)).send().await.unwrap();
    assert_eq!(put.headers()["allow"], "POST,GET,HEAD");
    assert_eq!(problem(put).await, (405, "method_not_allowed".to_owned()));
    let plain = daemon.http.post(format!("{}/v1/watches", daemon.url)).body("job_id=a").send().await.unwrap();
    assert_eq!(problem(plain).await, (415, "not_json".to_owned()));
    let (_, list) = daemon.get("/v1/watches").await;
    assert_eq!(list["data"], json!([]), "nothing was stored");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(config(folder.path(), &mock)).await;
    let big = vec![b' '; (8 << 20) + 1];
    let post =
        || daemon.http.post(format!("{}/v1/watches", daemon.url)).header("content-type", "application/json");
    let (status, code) = problem(post().body(big).send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (413, "body_too_large"));
    let most = format!("{{\"job_id\":\"a\"{}}}", " ".repeat((8 << 20) - 14));
    assert_eq!(post().body(most).send().await.unwrap().status(), 202, "8 MiB are allowed");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_stores_what_is_right_and_names_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(config(folder.path(), &mock)).await;
    daemon.watch("known").await;
    let watches = json!([{"job_id": "a"}, {"job_id": ""}, {"job_id": "known"}, {"job_id": "b", "x": 1}, 7, {"job_id": "a"}]);
    let (status, answer) = daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    assert_eq!((status, &answer["accepted"], &answer["existing"]), (200, &json!(1), &json!(2)), "{answer}");
    let rejected: Vec<_> =
        answer["rejected"].as_array().unwrap().iter().map(|one| one["index"].clone()).collect();
    assert_eq!(rejected, [1, 3, 4], "{answer}");
    let many: Vec<_> = (0..10_001).map(|n| json!({"job_id": n.to_string()})).collect();
    let (status, answer) = daemon.post("/v1/watches/batch", &json!({"watches": many})).await;
    assert_eq!((status, answer["code"].as_str()), (422, Some("batch_too_large")));
    let (status, answer) = daemon.post("/v1/watches/batch", &json!({"watches": &many[..10_000]})).await;
    assert_eq!((status, answer["accepted"].as_u64()), (200, Some(10_000)), "{answer}");
    let mut seen = 0;
    let mut path = "/v1/watches?limit=1000".to_owned();
    loop {
        let (_, page) = daemon.get(&path).await;
        seen += page["data"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/watches?limit=1000&cursor={cursor}");
    }
    assert_eq!(seen, 10_002, "the pages hold every watch once");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_and_strangers_are_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let mut config = config(folder.path(), &mock);
    config.server.token = Some(Secret::new("open sesame"));
    config.server.allowed_hosts = vec!["tidings.internal".to_owned()];
    let daemon = Daemon::start(config).await;
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let mut request = daemon.http.get(format!("{}{path}", daemon.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let token = ("authorization", "Bearer open sesame");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path, &[]).await.unwrap().status(), 200, "{path} needs no token");
    }
    for path in ["/metrics", "/v1/watches", "/openapi.json", "/v1/nothing"] {
        for wrong in ["", "Bearer ", "Bearer open", "Bearer open sesame!", "Basic open sesame"] {
            let (status, code) = problem(ask(path, &[("authorization", wrong)]).await.unwrap()).await;
            assert_eq!((status, code.as_str()), (401, "unauthorized"), "{path} {wrong}");
        }
    }
    assert_eq!(ask("/v1/watches", &[token]).await.unwrap().status(), 200);
    for fine in ["localhost", "127.0.0.1:1", "[::1]", "tidings.internal"] {
        assert_eq!(ask("/v1/watches", &[token, ("host", fine)]).await.unwrap().status(), 200, "{fine}");
    }
    for foreign in ["evil.example", "10.0.0.1", "127.0.0.1.evil.example", "localhost.evil.example:8787"] {
        let (status, code) = problem(ask("/v1/watches", &[token, ("host", foreign)]).await.unwrap()).await;
        assert_eq!((status, code.as_str()), (403, "host_refused"), "{foreign}");
    }
    for header in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let (status, code) = problem(ask("/v1/watches", &[token, header]).await.unwrap()).await;
        assert_eq!((status, code.as_str()), (403, "cross_origin"), "{header:?}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_slow_clients_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let daemon = Daemon::start(config(folder.path(), &mock)).await;
    let address = daemon.url.trim_start_matches("http://");
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /v1/watches HTTP/1.1\r\nhost: localhost\r\ncontent-le").await.unwrap();
        slow.push(stream);
    }
    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(b"\x16\x03\x01 not http\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    garbage.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    daemon.watch("job_1").await;
    drop(slow);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_shows_health_and_never_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let mut config = config(folder.path(), &mock);
    config.server.listen = format!("unix:{}", folder.path().join("api.sock").display());
    config.server.admin_listen = Some("127.0.0.1:0".to_owned());
    let app = App::bind(config, true).await.unwrap();
    let (Some(Listen::Unix(socket)), Some(admin)) = (app.addr().cloned(), app.admin_addr().cloned()) else {
        panic!("both listen")
    };
    let handle = app.handle();
    let running = tokio::spawn(app.run());
    handle.loaded().await;
    let http = crate::harness::http();
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/watches", 404)] {
        let answer = http.get(format!("http://{admin}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream
        .write_all(b"GET /v1/watches HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    handle.stop();
    running.await.unwrap().unwrap();
    assert!(!socket.exists(), "the socket goes with the daemon");
}
