//! Who learns what: from probes, from stored bodies, and through the drop-in proxy.

use serde_json::{Value, json};
use tidings::{
    config::Config,
    mock::JobPlan,
    upstream::{Outcomes, SourceConfig, SourceType},
    util::secret::Secret,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{
    Answer, Daemon, PATIENCE, Process, Receiver, Reply, Site, config, eventually, mock, once, write_config,
};

/// Sends a head as it is, and reads the answer to its end.
async fn raw(daemon: &Daemon, first_line: &str, headers: &str) -> String {
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{first_line} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // Not shut down: an upgrade that was granted would keep the connection open.
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") || !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it ended early");
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a problem is answered");
    String::from_utf8(answer).unwrap()
}

/// A daemon whose source `site` has a key that the drop-in proxy injects.
async fn injecting(folder: &std::path::Path, site: &Site) -> Daemon {
    let mut config = config(folder, &mock().await);
    let source = config.sources.get_mut("retab").unwrap();
    source.base_url = Some(format!("{}/api", site.url()));
    source.api_key = Some(Secret::new("key-of-the-source"));
    source.proxy.inject_key = true;
    Daemon::start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_a_server_could_decode_out_of_the_base_url_never_get_the_key() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    let daemon = injecting(folder.path(), &site).await;
    for path in [
        "/v1/..%2f..%2fadmin",
        "/..%2Fadmin",
        "/v1/..;/..;/admin",
        "/..%5cadmin",
        "/%252e%252e%252fadmin",
        "/v1/%2e%2e%2fadmin",
        "//admin.example/x",
        "/%2f%2fadmin.example/x",
        "/..%c0%afadmin",
        "/v1/x%00/..%2f",
        "/v1/%zz",
    ] {
        let answer = raw(&daemon, &format!("GET /proxy/retab{path}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        assert!(answer.contains(r#""code":"bad_proxy_path""#), "{path}: {answer}");
    }
    assert_eq!(site.all().len(), 0, "the source was asked nothing");
    site.json("/api/v1/jobs%2Fa..b", "{}");
    let answer = raw(&daemon, "GET /proxy/retab/v1/jobs%2Fa..b", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(site.all()[0].header("api-key"), "key-of-the-source");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_upgrades_of_the_connection_never_get_the_key() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    let daemon = injecting(folder.path(), &site).await;
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\n";
    for (method, headers) in [
        ("TRACE", ""),
        ("TRACK", ""),
        ("CONNECT", ""),
        ("GET", websocket),
        ("POST", "connection: keep-alive, Upgrade\r\ncontent-length: 0\r\n"),
        ("GET", "upgrade: TLS/1.2\r\n"),
    ] {
        let target = if method == "CONNECT" { "http://127.0.0.1/proxy/retab/v1" } else { "/proxy/retab/v1" };
        let answer = raw(&daemon, &format!("{method} {target}"), headers).await;
        assert!(answer.starts_with("HTTP/1.1 501 "), "{method} {headers}: {answer}");
        assert!(answer.contains(r#""code":"not_proxied""#), "{method} {headers}: {answer}");
    }
    assert_eq!(site.all().len(), 0, "the source was asked nothing");
    // Clients of Java offer this with every request; it is left unanswered, as a server may.
    site.json("/api/v1/jobs", "{}");
    let h2c = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let answer = raw(&daemon, "GET /proxy/retab/v1/jobs", h2c).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for header in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(site.all()[0].header(header), "", "{header}");
    }
    daemon.stop().await;
}

/// What `/readyz` says to a request with these headers.
async fn ready(daemon: &Daemon, headers: &[(&str, &str)]) -> Value {
    let mut request = daemon.http.get(format!("{}/readyz", daemon.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{headers:?}");
    answer.json().await.unwrap()
}

/// A daemon whose source refuses the key.
async fn unauthorized(folder: &std::path::Path, change: impl FnOnce(&mut Config)) -> Daemon {
    let mock = mock().await;
    mock.set(|faults| faults.key = Some("another".to_owned()));
    let mut config = config(folder, &mock);
    change(&mut config);
    let token = config.server.token.clone();
    let daemon = Daemon::start(config).await;
    for _ in 0..3 {
        let body = json!({"job_id": mock.add_job(JobPlan::new())});
        let mut post = daemon.http.post(format!("{}/v1/watches", daemon.url)).json(&body);
        if let Some(token) = &token {
            post = post.bearer_auth(token.expose());
        }
        assert_eq!(post.send().await.unwrap().status(), 202);
    }
    eventually("the source is unauthorized", || async {
        (ready(&daemon, &[]).await["status"] == "degraded").then_some(())
    })
    .await;
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_strangers_codes_alone() {
    let codes = json!({"status": "degraded", "reasons": ["source_unauthorized:retab"]});
    let mut whole = codes.clone();
    whole["details"] = json!(["source `retab` is unauthorized: the source answered 401"]);

    let folder = tempfile::tempdir().unwrap();
    let daemon = unauthorized(folder.path(), |_| {}).await;
    for own in [&[][..], &[("host", "localhost:1")], &[("sec-fetch-site", "same-origin")]] {
        assert_eq!(ready(&daemon, own).await, whole, "{own:?}");
    }
    for strange in [
        &[("host", "rebound.example")][..],
        &[("host", "127.0.0.1.rebound.example:8787")],
        &[("origin", "http://evil.example")],
        &[("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(ready(&daemon, strange).await, codes, "{strange:?}");
    }
    daemon.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let daemon =
        unauthorized(folder.path(), |config| config.server.token = Some(Secret::new("door-key"))).await;
    let right = ("authorization", "Bearer door-key");
    assert_eq!(ready(&daemon, &[right]).await, whole);
    for strange in [&[][..], &[("authorization", "Bearer door")], &[right, ("host", "rebound.example")]] {
        assert_eq!(ready(&daemon, strange).await, codes, "{strange:?}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_page_does_nothing_in_a_browser() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    let mut config = config(folder.path(), &mock().await);
    let source = SourceConfig {
        profile: SourceType::named("custom").unwrap(),
        base_url: Some(site.url()),
        status_path: Some("/tasks/{id}".to_owned()),
        status_at: Some(vec!["/state".to_owned()]),
        result_path: Some("/tasks/{id}/result".to_owned()),
        result_may_be_html: Some(true),
        outcomes: Some(Outcomes { completed: vec!["completed".to_owned()], ..Outcomes::default() }),
        ..Default::default()
    };
    config.sources.insert("pages".to_owned(), source);
    let daemon = Daemon::start(config).await;
    let page = "<script>fetch('/v1/watches')</script>";
    for (job, media_type, disposition) in [
        ("page", "text/html; charset=utf-8", Some("attachment")),
        ("image", "image/svg+xml", Some("attachment")),
        ("data", "application/json", None),
    ] {
        let body = if disposition.is_none() { "{}" } else { page };
        site.json(&format!("/tasks/{job}"), r#"{"state":"completed"}"#);
        site.answer(&format!("/tasks/{job}/result"), 200, media_type, body);
        let watch = json!({"job_id": job, "source": "pages"});
        assert_eq!(daemon.post("/v1/watches", &watch).await.0, 202);
        let path = format!("{}/v1/watches/pages/{job}", daemon.url);
        let wait = daemon.http.get(format!("{path}/wait")).send().await.unwrap();
        assert_eq!(wait.status(), 200);
        let stored = daemon.http.get(format!("{path}/job")).send().await.unwrap();
        let proxied = daemon.http.get(format!("{}/proxy/pages/tasks/{job}/result", daemon.url));
        let shown = |name: &str| stored.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(shown("content-type").as_deref(), Some(media_type));
        assert_eq!(shown("content-disposition").as_deref(), disposition, "{job}");
        for answer in [&stored, &proxied.send().await.unwrap()] {
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; sandbox");
        }
        assert_eq!(stored.text().await.unwrap(), body);
    }
    daemon.stop().await;
}

/// What the log and the summary say of a job whose id and status hold controls.
async fn said_of_a_nasty_job(folder: &std::path::Path, format: &str) -> String {
    let site = Site::start().await;
    let id = "x%E2%80%AEy%E2%80%A8z";
    let status = |word: &str| Answer::json(&json!({"id": "x", "status": word}).to_string());
    let nasty = "gone\nERROR forged\u{1b}[31m\u{9b}31m\u{202e}";
    site.script(&format!("/v1/jobs/{id}/status"), [status(nasty), status("completed")]);
    site.json(
        &format!("/v1/jobs/{id}?include_request=false&include_response=true"),
        "{\"status\":\"completed\"}",
    );
    write_config(folder, &site.url(), "");
    let output =
        once(folder, &["run", "--once", "--watch", "x\u{202e}y\u{2028}z", "--log-format", format]).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_says_drives_no_terminal_and_forges_no_line() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let said = said_of_a_nasty_job(folder.path(), format).await;
        let warning = said.lines().find(|line| line.contains("unknown status")).unwrap();
        assert!(warning.contains(r"x\u202ey\u2028z") && warning.contains("forged"), "{warning}");
        let summary = said.lines().find(|line| line.contains("polls")).unwrap();
        assert!(summary.starts_with(r"x\u202ey\u2028z completed"), "{summary}");
        let is_unsafe = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{2028}'..='\u{202e}'));
        assert!(!said.contains(is_unsafe), "{said:?}");
        assert!(!said.lines().any(|line| line.starts_with("ERROR")), "{said}");
        if format == "json" {
            let warning: Value = serde_json::from_str(warning).unwrap();
            assert_eq!(warning["job_id"], "x\u{202e}y\u{2028}z");
        }
    }
}

/// The secret in the path of a webhook, as chat services have it.
const IN_PATH: &str = "Zm9yLXRoZS1jaGF0LXNlcnZpY2U";

#[tokio::test(flavor = "multi_thread")]
async fn a_url_in_a_file_is_read_again_and_never_shown() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let folder = folder.path();
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let secret = |receiver: &Receiver, rest: &str| {
        format!("{}/{IN_PATH}{rest}", receiver.url().replace("/hooks/jobs", "/services/T0000"))
    };
    // A receiver that says where it was asked.
    let echo = secret(&first, "?token=in-the-query");
    first.always(Reply::Status(302, vec![("location", echo.clone())]));
    std::fs::write(folder.join("url"), format!("{echo}\n")).unwrap();
    let retry = "retry = { schedule = [\"100ms\", \"100ms\"], jitter = 0.0 }";
    let inline = secret(&second, "/inline");
    let text = format!(
        "[sinks.filed]\ntype = \"webhook\"\nurl_file = \"url\"\n{retry}\n\
         [sinks.inline]\ntype = \"webhook\"\nurl = \"{inline}\"\n"
    );
    write_config(folder, &mock.base_url(), &text);
    let process = Process::run(folder, &[]).await;
    let http = crate::harness::http();
    let mut said = Vec::new();
    let job = mock.add_job(JobPlan::new());
    let post = http.post(format!("{}/v1/watches", process.url)).json(&json!({"job_id": job}));
    said.push(post.send().await.unwrap().text().await.unwrap());
    let dead = eventually("the redirect makes a dead letter", || async {
        let list = http.get(format!("{}/v1/deliveries?state=dead", process.url)).send().await.unwrap();
        let list: Value = list.json().await.unwrap();
        list["data"].get(0).map(|delivery| delivery["id"].as_str().unwrap().to_owned())
    })
    .await;
    let requests = first.requests();
    assert_eq!(
        requests[0].uri.to_string(),
        echo[echo.find("/services").unwrap()..],
        "the whole URL is asked"
    );
    for path in [&format!("/v1/deliveries/{dead}"), "/v1/sinks", "/readyz", "/metrics"] {
        let answer = http.get(format!("{}{path}", process.url)).send().await.unwrap();
        said.push(answer.text().await.unwrap());
    }
    assert!(said[1].contains("redirect to http://") && said[1].contains("/services/…"), "{}", said[1]);
    assert_eq!(said[2].matches("/services/…").count(), 2 + 1, "targets, and a last error: {}", said[2]);

    // The file changed: the next attempt goes to the other receiver.
    std::fs::write(folder.join("url"), secret(&second, "")).unwrap();
    let again = http.post(format!("{}/v1/deliveries/{dead}/redeliver", process.url));
    assert_eq!(again.send().await.unwrap().status(), 202);
    let paths = || second.requests().iter().map(|it| it.uri.path().to_owned()).collect::<Vec<_>>();
    let filed = format!("/services/T0000/{IN_PATH}");
    eventually("the new URL is asked", || async { paths().contains(&filed).then_some(()) }).await;

    std::fs::write(folder.join("url"), format!("ftp://{IN_PATH}.example/\n")).unwrap();
    let test = http.post(format!("{}/v1/sinks/filed/test", process.url)).json(&json!({}));
    let attempt = test.send().await.unwrap().text().await.unwrap();
    assert!(attempt.contains("in url_file: the scheme `ftp` is not http or https"), "{attempt}");
    said.push(attempt);
    let url = process.url.clone();
    for args in [
        &["config", "show"][..],
        &["config", "check"],
        &["--url", &url, "sink", "list"],
        &["--url", &url, "sink", "list", "--output", "json"],
        &["--url", &url, "deliveries", "--output", "json"],
    ] {
        let output = once(folder, args).await;
        said.extend([output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()));
    }
    said.push(process.terminate().await.1);
    for text in said {
        assert!(!text.contains(IN_PATH) && !text.contains("in-the-query"), "{text}");
    }
}
