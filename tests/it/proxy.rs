//! The drop-in proxy: what an application's own client sends to its job API, by way of the daemon.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tidings::{
    config::Config,
    mock::{Cut, Ending, JobPlan, Kind},
    util::secret::Secret,
    util::units::HumanDuration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Api, Flow, PATIENCE, Setup, Site, eventually};

const KEY: &str = "key-of-the-source";

/// As Retab's SDK asks.
const LIGHT: &str = "include_request=false&include_response=false";
const FULL: &str = "include_request=false&include_response=true";

/// A flow whose source has a key, and which writes to the sink `disk`.
async fn keyed(change: impl FnOnce(&mut Config)) -> Flow {
    Setup::new()
        .await
        .retab(|source| source.api_key = Some(Secret::new(KEY)))
        .disk()
        .change(change)
        .start()
        .await
}

impl Flow {
    /// A request through the proxy with this key.
    async fn ask(&self, method: Method, path: &str, key: &str) -> Response {
        let url = format!("{}/proxy/retab/v1{path}", self.daemon.url);
        self.daemon.http.request(method, url).header("api-key", key).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, KEY).await
    }

    /// Creates a job through the proxy.
    async fn create(&self, duration: &str) -> String {
        let body = json!({
            "endpoint": "/v1/extractions", "request": {"document": "d"}, "metadata": {"mock_duration": duration}
        });
        let url = format!("{}/proxy/retab/v1/jobs", self.daemon.url);
        let answer = self.daemon.http.post(url).header("api-key", KEY).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        assert_eq!(answer.headers()["tidings-watch"], "accepted");
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }
}

fn is_known(answer: &Response) -> bool {
    answer.headers().get("cache-status").is_some_and(|value| value == "tidings; hit")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_created_through_the_proxy_is_watched_before_the_answer() {
    let flow = keyed(|_| {}).await;
    let job = flow.create("100ms").await;
    let (status, watch) = flow.daemon.get(&format!("/v1/watches/retab/{job}")).await;
    assert_eq!((status, &watch["job_id"]), (200, &json!(job)), "{watch}");
    flow.daemon.finished(&job).await;
    let bytes = std::fs::read(flow.path().join(format!("out/retab/{job}.json"))).unwrap();
    assert_eq!(bytes, flow.mock.full_body(&job).unwrap());
    assert_eq!(flow.mock.requests(None, Some(Kind::Create)), 1);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_client_costs_one_full_fetch_and_gets_the_same_bytes() {
    let flow = keyed(|_| {}).await;
    let job = flow.create("300ms").await;
    let status = eventually("the client sees the end", || async {
        let answer = flow.get(&format!("/jobs/{job}?{LIGHT}")).await;
        assert_eq!(answer.status(), 200);
        let job: Value = answer.json().await.unwrap();
        (job["status"] == "completed").then_some(job)
    })
    .await;
    assert!(status["response"].is_null(), "a light answer: {status}");
    let full = flow.get(&format!("/jobs/{job}?{FULL}")).await;
    assert!(is_known(&full), "{:?}", full.headers());
    assert_eq!(full.headers()["content-type"], "application/json");
    assert_eq!(full.bytes().await.unwrap(), flow.mock.full_body(&job).unwrap());
    assert_eq!(flow.mock.requests(Some(&job), Some(Kind::Full)), 1, "it was fetched once");
    assert_eq!(flow.mock.requests(Some(&job), Some(Kind::Light)), 0, "the looks are our own");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_for_the_key_that_fetched_it() {
    let flow = keyed(|_| {}).await;
    let job = flow.create("0s").await;
    flow.daemon.finished(&job).await;
    let asked = || flow.mock.total();
    let before = asked();
    for query in [LIGHT, FULL] {
        let answer = flow.get(&format!("/jobs/{job}?{query}")).await;
        assert!(is_known(&answer), "{query}");
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "completed");
    }
    assert!(is_known(&flow.get(&format!("/jobs/{job}/status")).await));
    assert_eq!(asked(), before, "the source was not asked");
    for key in ["", "other", "key-of-the-sourc", "key-of-the-source2", "KEY-OF-THE-SOURCE"] {
        for query in [LIGHT, FULL] {
            assert!(!is_known(&flow.ask(Method::GET, &format!("/jobs/{job}?{query}"), key).await), "{key}");
        }
    }
    assert_eq!(asked(), before + 10, "the source decides about other keys");
    // In the header of another scheme it is not our key.
    let url = format!("{}/proxy/retab/v1/jobs/{job}/status", flow.daemon.url);
    assert!(!is_known(&flow.daemon.http.get(url).basic_auth("", Some(KEY)).send().await.unwrap()));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_known_after_a_restart_unless_the_key_changed() {
    let flow = keyed(|_| {}).await;
    let job = flow.create("0s").await;
    flow.daemon.finished(&job).await;
    let flow = flow.restart(|_| {}).await;
    assert!(is_known(&flow.get(&format!("/jobs/{job}?{FULL}")).await));
    assert!(is_known(&flow.get(&format!("/jobs/{job}?{LIGHT}")).await));
    let another =
        |config: &mut Config| config.sources.get_mut("retab").unwrap().api_key = Some(Secret::new("another"));
    let flow = flow.restart(another).await;
    for key in [KEY, "another"] {
        for query in [LIGHT, FULL] {
            assert!(!is_known(&flow.ask(Method::GET, &format!("/jobs/{job}?{query}"), key).await), "{key}");
        }
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_present_the_key_of_the_source_as_a_bearer_token() {
    let flow = keyed(|_| {}).await;
    let url = format!("{}/proxy/retab/v1/extractions", flow.daemon.url);
    let bearer = format!("Bearer {KEY}");
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let request = flow.daemon.http.get(format!("{url}{path}"));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    let body = json!({"document": {}, "json_schema": {}, "background": true, "metadata": {"mock_duration": "100ms"}});
    let request = flow.daemon.http.post(&url).header("authorization", &bearer).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["tidings-watch"]),
        (201, &"accepted".parse().unwrap())
    );
    let id = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    flow.daemon.finished(&id).await;
    let (light, whole) = (format!("/{id}?include_output=false"), format!("/{id}?include_output=true"));
    let before = flow.mock.total();
    for path in [&light, &whole] {
        assert!(is_known(&ask(path, &[("authorization", &bearer)]).await.unwrap()), "{path}");
    }
    let stored = ask(&whole, &[("authorization", &bearer)]).await.unwrap().bytes().await.unwrap();
    assert_eq!(stored, flow.mock.full_body(&id).unwrap());
    assert_eq!(flow.mock.total(), before, "the source was not asked");
    flow.mock.set(|faults| faults.key = Some(KEY.to_owned()));
    let longer = format!("{bearer}2");
    let foreign: [&[(&str, &str)]; 5] = [
        &[],
        &[("authorization", "Bearer other")],
        &[("authorization", &longer)],
        &[("authorization", KEY)],
        &[("api-key", "other"), ("authorization", &bearer)],
    ];
    for headers in foreign {
        for path in [&light, &whole] {
            let answer = ask(path, headers).await.unwrap();
            assert_eq!((answer.status().as_u16(), is_known(&answer)), (401, false), "{headers:?}");
        }
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_one_job_are_one_request() {
    let flow = keyed(|config| {
        let source = config.sources.get_mut("retab").unwrap();
        source.polling.min_interval = HumanDuration::secs(60);
        source.polling.max_interval = Some(HumanDuration::secs(60));
    })
    .await;
    let job = flow.create("1h").await;
    let path = format!("/jobs/{job}?{LIGHT}");
    assert_eq!(flow.get(&path).await.json::<Value>().await.unwrap()["id"], job);
    let before = flow.mock.total();
    let answers = futures_util::future::join_all((0..50).map(|_| flow.get(&path))).await;
    assert!(answers.iter().all(is_known));
    assert_eq!(flow.mock.total(), before, "the look of a moment ago answers them all");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_watched_again_also_when_503_says_that_it_starts_late() {
    let flow = keyed(|_| {}).await;
    let plan = || JobPlan::new().ending(Ending::Failed);
    for (late, status) in [(false, 200), (true, 503)] {
        let job = flow.mock.add_job(plan());
        flow.daemon.watch(&job).await;
        let first = flow.daemon.finished(&job).await;
        assert_eq!(first["outcome"], "failed");
        flow.mock.set(|faults| faults.late_dispatch = late);
        let answer = flow.ask(Method::POST, &format!("/jobs/{job}/retry"), KEY).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["tidings-watch"]),
            (status, &"accepted".parse().unwrap())
        );
        let second = flow
            .daemon
            .until(&job, "ends again", |watch| watch["phase"] == "done" && watch["outcome"] == "completed")
            .await;
        assert_ne!(first["event_id"], second["event_id"]);
        let answer: Value = flow.get(&format!("/jobs/{job}?{LIGHT}")).await.json().await.unwrap();
        assert_eq!(answer["status"], "completed");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_while_the_job_is_fetched_is_not_answered_with_the_end_before_it() {
    let flow = keyed(|_| {}).await;
    flow.mock.set(|faults| faults.cut = Some(Cut { after: 10, times: u32::MAX }));
    let job = flow.mock.add_job(JobPlan::new().ending(Ending::Failed));
    flow.daemon.watch(&job).await;
    flow.daemon.until(&job, "is fetched", |watch| watch["phase"] == "fetching").await;
    let answer: Value = flow.get(&format!("/jobs/{job}?{LIGHT}")).await.json().await.unwrap();
    assert_eq!(answer["status"], "failed");
    assert_eq!(flow.ask(Method::POST, &format!("/jobs/{job}/retry"), KEY).await.status(), 200);
    let answer: Value = flow.get(&format!("/jobs/{job}?{LIGHT}")).await.json().await.unwrap();
    assert_ne!(answer["status"], "failed", "{answer}");
    flow.mock.set(|faults| faults.cut = None);
    flow.daemon
        .until(&job, "ends again", |watch| watch["phase"] == "done" && watch["outcome"] == "completed")
        .await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_polled_at_once() {
    let flow = keyed(|config| {
        let source = config.sources.get_mut("retab").unwrap();
        source.polling.min_interval = HumanDuration::secs(3600);
        source.polling.max_interval = Some(HumanDuration::secs(3600));
    })
    .await;
    let job = flow.create("1h").await;
    assert_eq!(flow.ask(Method::POST, &format!("/jobs/{job}/cancel"), KEY).await.status(), 200);
    assert_eq!(flow.daemon.finished(&job).await["outcome"], "cancelled");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_its_job_watched() {
    let flow = keyed(|_| {}).await;
    flow.mock.set(|faults| faults.latency = Duration::from_millis(300));
    let body = json!({"endpoint": "/v1/extractions", "request": {"document": "d"}});
    let url = format!("{}/proxy/retab/v1/jobs", flow.daemon.url);
    let request = flow.daemon.http.post(url).header("api-key", KEY).json(&body);
    let asking = tokio::spawn(request.send());
    eventually("the creation reaches the source", || async {
        (flow.mock.requests(None, Some(Kind::Create)) == 1).then_some(())
    })
    .await;
    asking.abort();
    flow.mock.set(|faults| faults.latency = Duration::ZERO);
    eventually("its job is watched", || async {
        let (_, page) = flow.daemon.get("/v1/watches").await;
        (page["data"].as_array()?.len() == 1).then_some(())
    })
    .await;
    flow.stop().await;
}

/// A daemon with a source of type retab at a site that keeps what it is asked.
async fn at_a_site(change: impl FnOnce(&mut Config)) -> (Flow, Site) {
    let site = Site::start().await;
    let flow = keyed(|config| {
        config.sources.get_mut("retab").unwrap().base_url = Some(format!("{}/api", site.url()));
        change(config);
    })
    .await;
    (flow, site)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_sent() {
    let (flow, site) = at_a_site(|_| {}).await;
    let target = "/api/v1/jobs%2Fx?metadata=%7B%22a%22%3A+1%7D&b=1&b=2";
    site.answer(target, 418, "text/tea", "short and stout");
    let url = format!("{}/proxy/retab/v1/jobs%2Fx?metadata=%7B%22a%22%3A+1%7D&b=1&b=2", flow.daemon.url);
    let request = flow
        .daemon
        .http
        .patch(url)
        .header("api-key", "the caller's")
        .header("connection", "x-mine")
        .header("x-mine", "hop")
        .header("proxy-authorization", "Basic x")
        .header("x-end", "to end")
        .header("accept-encoding", "br")
        .header("user-agent", "the caller")
        .body("{ \"exactly\" : 1e-400 }");
    let answer = request.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (418, &"text/tea".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), "short and stout");
    let asked = site.requests(target).pop().unwrap();
    assert_eq!(
        (asked.method.as_str(), asked.body.as_slice()),
        ("PATCH", b"{ \"exactly\" : 1e-400 }".as_slice())
    );
    for (name, value) in [
        ("api-key", "the caller's"),
        ("x-mine", ""),
        ("proxy-authorization", ""),
        ("x-end", "to end"),
        ("accept-encoding", "br"),
        ("user-agent", "the caller"),
        ("content-length", "22"),
        ("via", "1.1 tidings"),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    assert_eq!(format!("http://{}", asked.header("host")), site.url());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_key_goes_out_only_where_that_is_asked_for() {
    for inject in [false, true] {
        let (flow, site) =
            at_a_site(|config| config.sources.get_mut("retab").unwrap().proxy.inject_key = inject).await;
        site.json("/api/v1/models", "[]");
        for given in [Some("theirs"), None] {
            let mut request = flow.daemon.http.get(format!("{}/proxy/retab/v1/models", flow.daemon.url));
            if let Some(key) = given {
                request = request.header("api-key", key);
            }
            assert_eq!(request.send().await.unwrap().status(), 200);
            let sent = site.requests("/api/v1/models").pop().unwrap();
            let expected = if inject { KEY } else { given.unwrap_or_default() };
            assert_eq!(sent.header("api-key"), expected, "{inject} {given:?}");
        }
        // Newer clients of the same API send their key as a bearer token.
        let url = format!("{}/proxy/retab/v1/models", flow.daemon.url);
        let request = flow.daemon.http.get(url).header("authorization", "Bearer theirs");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let sent = site.requests("/api/v1/models").pop().unwrap();
        let expected = if inject { (KEY, "") } else { ("", "Bearer theirs") };
        assert_eq!((sent.header("api-key"), sent.header("authorization")), expected);
        flow.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_the_daemon_does_not_go_on() {
    let (flow, site) = at_a_site(|config| config.server.token = Some(Secret::new("door"))).await;
    site.json("/api/v1/models", "[]");
    let url = format!("{}/proxy/retab/v1/models", flow.daemon.url);
    let get = |headers: &'static [(&'static str, &'static str)]| {
        let request = flow.daemon.http.get(&url);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    for refused in [
        &[][..],
        &[("authorization", "Bearer upstream")],
        &[("authorization", "Bearer door"), ("proxy-authorization", "Bearer wrong")],
    ] {
        assert_eq!(get(refused).await.unwrap().status(), 401, "{refused:?}");
    }
    assert!(site.requests("/api/v1/models").is_empty());
    assert_eq!(get(&[("authorization", "Bearer door")]).await.unwrap().status(), 200);
    let both: &[_] = &[("authorization", "Bearer upstream"), ("proxy-authorization", "Bearer door")];
    assert_eq!(get(both).await.unwrap().status(), 200);
    let sent: Vec<String> =
        site.requests("/api/v1/models").iter().map(|sent| sent.header("authorization").to_owned()).collect();
    assert_eq!(sent, ["", "Bearer upstream"]);
    flow.daemon.handle.stop();
}

/// Sends a target as it is: a client's own URL parser would tidy it up.
async fn raw(daemon: &Api, target: &str) -> String {
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_passed_on_is_told() {
    let (flow, site) = at_a_site(|_| {}).await;
    site.json("/secret", "\"outside of the base URL\"");
    for target in ["/proxy/retab/../secret", "/proxy/retab/%2e%2E/secret", "/proxy/retab/v1/../../secret"] {
        let answer = raw(&flow.daemon, target).await;
        assert!(
            answer.contains("bad_proxy_path") && answer.starts_with("HTTP/1.1 400"),
            "{target}: {answer}"
        );
    }
    let answer = raw(&flow.daemon, "/proxy/other/v1/jobs").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("unknown_source"), "{answer}");
    assert!(site.requests("/secret").is_empty());
    flow.stop().await;

    let flow = keyed(|_| {}).await;
    flow.mock.go_dark().await;
    let answer = flow.get("/jobs").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "upstream_unreachable");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_ends() {
    let flow = keyed(|_| {}).await;
    let url = flow.daemon.url.clone();
    let around = |config: &mut Config| {
        config.sources.get_mut("retab").unwrap().base_url = Some(format!("{url}/proxy/retab"));
    };
    let circle = keyed(around).await;
    let behind = &circle.daemon;
    // Two daemons one behind the other are fine.
    let answer = behind.http.get(format!("{}/proxy/retab/v1/jobs", behind.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    let five = ["1.1 tidings"; 5].join(", ");
    let request = behind.http.get(format!("{}/proxy/retab/v1/jobs", behind.url)).header("via", five);
    assert_eq!(request.send().await.unwrap().status(), 508);
    circle.stop().await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_well_answers_for_itself() {
    let flow = keyed(|_| {}).await;
    let job = flow.create("1h").await;
    flow.mock.set(|faults| faults.key = Some("changed".to_owned()));
    let answer = flow.get(&format!("/jobs/{job}?{LIGHT}")).await;
    assert!(answer.status() == 401 || is_known(&answer), "{}", answer.status());
    eventually("the caller hears 401 from the source", || async {
        let answer = flow.get(&format!("/jobs/{job}?{LIGHT}")).await;
        (answer.status() == 401).then_some(())
    })
    .await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_is_watched_by_the_id_in_its_own_place() {
    let site = Site::start().await;
    let flow = keyed(|config| {
        let mut source = tidings::upstream::SourceConfig {
            profile: tidings::upstream::SourceType::named("custom").unwrap(),
            base_url: Some(site.url()),
            api_key: Some(Secret::new(KEY)),
            status_path: Some("/{team}/tasks/{id}".to_owned()),
            status_at: Some(vec!["/state".to_owned()]),
            create_path: Some("/{team}/tasks".to_owned()),
            created_id_at: Some("/data/task".to_owned()),
            ..Default::default()
        };
        source.outcomes =
            Some(tidings::upstream::Outcomes { completed: vec!["DONE".to_owned()], ..Default::default() });
        source.polling.min_interval = HumanDuration::millis(20);
        config.sources.insert("tasks".to_owned(), source);
    })
    .await;
    site.answer("/red/tasks", 201, "application/json", r#"{"request":{"big":[1,2]},"data":{"task":17}}"#);
    site.json("/red/tasks/17", r#"{"state":"DONE","sum":0.10}"#);
    let answer =
        flow.daemon.http.post(format!("{}/proxy/tasks/red/tasks", flow.daemon.url)).body("x").send().await;
    assert_eq!(answer.unwrap().headers()["tidings-watch"], "accepted");
    let event = flow.receiver.at_least(1).await.remove(0);
    assert_eq!(event.json()["job_id"], "17");
    assert!(event.body.ends_with(br#""data":{"state":"DONE","sum":0.10}}"#), "{}", event.json());
    site.answer("/red/tasks", 201, "application/json", r#"{"nothing":"here"}"#);
    let url = format!("{}/proxy/tasks/red/tasks", flow.daemon.url);
    let answer = flow.daemon.http.post(url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["tidings-watch"]),
        (201, &"failed".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), r#"{"nothing":"here"}"#);
    flow.stop().await;
}
