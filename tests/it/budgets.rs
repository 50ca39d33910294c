//! Budgets that several sources share, and creations that the proxy holds to a budget, against a
//! hostile upstream.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::harness::{Process, Pulse, eventually, serve};

/// A request that the upstream got.
#[derive(Clone, Debug)]
struct Got {
    at: Instant,
    post: bool,
    path: String,
    key: String,
    body: Bytes,
}

/// An answer: a status, a `Retry-After`, and the status word or the id of the job.
type Said = (u16, Option<u32>, String);

/// An upstream in Retab's shape that answers by a rule.
struct Vendor {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    pulse: Pulse,
    server: JoinHandle<()>,
}

impl Vendor {
    async fn start(rule: impl Fn(&Got) -> Said + Send + Sync + 'static) -> Self {
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (kept, rule) = (Arc::clone(&got), Arc::new(rule));
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (kept, rule) = (Arc::clone(&kept), Arc::clone(&rule));
            async move {
                let key =
                    headers.get("api-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
                let path = uri.path().to_owned();
                let got = Got { at: Instant::now(), post: method == Method::POST, path, key, body };
                let (status, wait, word) = rule(&got);
                kept.lock().unwrap().push(got.clone());
                let id = if got.post { word.as_str() } else { id_of(&got.path) };
                let state = if got.post { "queued" } else { word.as_str() };
                let mut response =
                    Response::builder().status(status).header("content-type", "application/json");
                if let Some(wait) = wait {
                    response = response.header("retry-after", wait);
                }
                response.body(Body::from(json!({"id": id, "status": state}).to_string())).unwrap()
            }
        };
        let (address, server) = serve(Router::new().fallback(answer)).await;
        Self { url: format!("http://{address}"), got, pulse: Pulse::start(), server }
    }

    /// One whose jobs never end.
    async fn endless() -> Self {
        Self::start(|_| (200, None, "in_progress".to_owned())).await
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn posts(&self) -> Vec<Got> {
        self.got().into_iter().filter(|got| got.post).collect()
    }

    /// Checks that no second had more requests than a budget allows, with a tenth of it at once.
    fn kept_to(&self, rate: u32) {
        let arrived: Vec<_> = self.got().iter().map(|got| got.at).collect();
        self.pulse.kept_to(&arrived, rate.into(), f64::from(rate) / 10.0);
    }

    async fn at_least(&self, count: usize) {
        eventually("the upstream got more", || async { (self.got().len() >= count).then_some(()) }).await;
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn id_of(path: &str) -> &str {
    path.trim_start_matches("/v1/jobs/").trim_end_matches("/status")
}

/// A configuration whose sources share the budget `key`. `each` are further lines of every source.
fn shared(vendor: &Vendor, rate: u32, sources: &[&str], each: &str) -> String {
    let budget = format!("[store]\npath = \"data\"\n[budgets.key]\nmax_requests_per_second = {rate}\n");
    let one = |name: &&str| {
        format!(
            "[sources.{name}]\nbase_url = \"{}\"\nbudget = \"key\"\n{each}\n[sources.{name}.polling]\n\
             strategy = \"fixed\"\ninterval = \"200ms\"\nmin_interval = \"20ms\"\n",
            vendor.url
        )
    };
    sources.iter().map(one).fold(budget, |text, source| text + &source)
}

/// Writes the configuration, and starts the daemon.
async fn run(folder: &std::path::Path, text: &str) -> Process {
    std::fs::write(folder.join("tidings.toml"), text).unwrap();
    Process::run(folder, &[]).await
}

async fn register(daemon: &Process, source: &str, count: usize) {
    let watches: Vec<_> =
        (0..count).map(|n| json!({"source": source, "job_id": format!("{source}_{n}")})).collect();
    let (status, answer) = daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    assert_eq!((status, &answer["accepted"]), (200, &count.into()), "{answer}");
}

async fn source(daemon: &Process, name: &str) -> Value {
    daemon.get(&format!("/v1/sources/{name}")).await.1
}

/// Waits until each source is in this state, and returns what is shown of them.
async fn all_are(daemon: &Process, names: &[&str], state: &str) -> Vec<Value> {
    let mut shown = Vec::new();
    for name in names {
        let is = || async { Some(source(daemon, name).await).filter(|source| source["state"] == state) };
        shown.push(eventually(state, is).await);
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn three_sources_stay_within_one_budget_over_a_reload_and_a_restart() {
    const RATE: u32 = 40;
    let (vendor, folder) = (Vendor::endless().await, tempfile::tempdir().unwrap());
    let daemon = run(folder.path(), &shared(&vendor, RATE, &["a", "b", "c"], "")).await;
    for name in ["a", "b", "c"] {
        register(&daemon, name, 40).await;
    }
    vendor.at_least(100).await;
    let shown = source(&daemon, "b").await;
    assert_eq!(
        (&shown["budget"], &shown["max_requests_per_second"]),
        (&json!("key"), &json!(40.0)),
        "{shown}"
    );
    assert!(shown["polling"]["budget_used"].as_f64() > Some(0.0), "{shown}");
    // Every source changes, one goes and one comes, and the budget is set again.
    for (sources, each) in
        [(&["a", "b"][..], "timeout = \"20s\""), (&["a", "b", "c", "d"], ""), (&["a", "c"], "")]
    {
        std::fs::write(folder.path().join("tidings.toml"), shared(&vendor, RATE, sources, each)).unwrap();
        let (status, answer) = daemon.post("/v1/reload", &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        vendor.at_least(vendor.got().len() + 30).await;
    }
    daemon.terminate().await;
    let daemon = Process::run(folder.path(), &[]).await;
    vendor.at_least(vendor.got().len() + 60).await;
    daemon.terminate().await;
    vendor.kept_to(RATE);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_jobs_are_polled_as_if_ten_thousand_others_were_not_there() {
    let (vendor, folder) = (Vendor::endless().await, tempfile::tempdir().unwrap());
    let daemon = run(folder.path(), &shared(&vendor, 50, &["many", "few"], "")).await;
    register(&daemon, "many", 10_000).await;
    vendor.at_least(20).await;
    register(&daemon, "few", 3).await;
    let before = vendor.got().len();
    vendor.at_least(before + 400).await;
    let few = vendor.got()[before..before + 400].iter().filter(|got| got.path.contains("few_")).count();
    // 400 requests take eight seconds. In their share of half of them the three could be asked about
    // 200 times, and at their interval of 200 ms 120 times.
    assert!((60..=200).contains(&few), "{few} of 400");
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_one_source_is_told_pauses_all() {
    let limited = AtomicUsize::new(0);
    let vendor = Vendor::start(move |got| {
        match got.path.contains("/a_") && limited.fetch_add(1, Ordering::SeqCst) == 3 {
            true => (429, Some(3), String::new()),
            false => (200, None, "in_progress".to_owned()),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = run(folder.path(), &shared(&vendor, 20, &["a", "b"], "")).await;
    register(&daemon, "a", 3).await;
    register(&daemon, "b", 3).await;
    let shown = all_are(&daemon, &["a", "b"], "limited").await;
    assert!(shown.iter().all(|source| source["last_error"] == "the source answered 429"), "{shown:?}");
    all_are(&daemon, &["a", "b"], "ok").await;
    let got = vendor.got();
    let told = got.iter().filter(|got| got.path.contains("/a_")).nth(3).unwrap().at;
    let early = got.iter().filter(|got| got.at > told && got.at - told < Duration::from_millis(2900)).count();
    assert!(early <= 3, "{early} requests before the end, where a few may have been in flight");
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_refused_for_all_and_a_new_one_restores_all() {
    let vendor = Vendor::start(|got| match got.key == "new" || got.path.contains("first") {
        true => (200, None, "in_progress".to_owned()),
        false => (401, None, String::new()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "old").unwrap();
    let text = shared(&vendor, 50, &["a", "b"], "api_key_file = \"key\"");
    let daemon = run(folder.path(), &text).await;
    register(&daemon, "a", 6).await;
    register(&daemon, "b", 1).await;
    let shown = all_are(&daemon, &["a", "b"], "unauthorized").await;
    assert!(shown.iter().all(|source| source["last_error"] == "the source answered 401"), "{shown:?}");
    let (_, ready) = daemon.get("/readyz").await;
    assert_eq!(ready["status"], "degraded", "{ready}");
    std::fs::write(folder.path().join("key"), "new").unwrap();
    all_are(&daemon, &["a", "b"], "ok").await;
    // Both go on with the new key.
    let polled =
        |name: &str| vendor.got().iter().filter(|got| got.key == "new" && got.path.contains(name)).count();
    for name in ["/a_", "/b_"] {
        eventually("it is polled", || async { (polled(name) >= 2).then_some(()) }).await;
    }
    let refused = vendor.got().iter().filter(|got| got.key == "old").count();
    assert!(refused <= 20, "{refused} requests with the refused key");
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_credentials_stops_no_other_of_the_same_budget() {
    let (vendor, folder) = (Vendor::endless().await, tempfile::tempdir().unwrap());
    // No sign of a key that is refused: nobody got one.
    let text = shared(&vendor, 50, &["a", "b"], "").replacen(
        "budget = \"key\"\n",
        "budget = \"key\"\napi_key_file = \"later\"\n",
        1,
    );
    std::fs::write(folder.path().join("later"), "key").unwrap();
    let daemon = run(folder.path(), &text).await;
    std::fs::remove_file(folder.path().join("later")).unwrap();
    register(&daemon, "a", 3).await;
    register(&daemon, "b", 3).await;
    let shown = all_are(&daemon, &["a"], "unauthorized").await;
    assert!(shown[0]["last_error"].as_str().unwrap().contains("No such file"), "{shown:?}");
    let of_b = || vendor.got().iter().filter(|got| got.path.contains("/b_")).count();
    let before = of_b();
    eventually("the other one is polled", || async { (of_b() >= before + 20).then_some(()) }).await;
    let other = source(&daemon, "b").await;
    assert_eq!((&other["state"], &other["last_error"]), (&json!("ok"), &Value::Null), "{other}");
    assert_eq!(source(&daemon, "a").await["state"], "unauthorized");
    // Once there are some, it goes on at once.
    std::fs::write(folder.path().join("later"), "key").unwrap();
    all_are(&daemon, &["a"], "ok").await;
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_stops_no_source_of_the_same_budget() {
    let (vendor, folder) = (Vendor::endless().await, tempfile::tempdir().unwrap());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = shared(&vendor, 50, &["a", "b"], "");
    let text =
        text.replacen(&format!("base_url = \"{}\"", vendor.url), &format!("base_url = \"http://{gone}\""), 1);
    let daemon = run(folder.path(), &text).await;
    register(&daemon, "a", 3).await;
    register(&daemon, "b", 3).await;
    all_are(&daemon, &["a"], "failing").await;
    let before = vendor.got().len();
    vendor.at_least(before + 30).await;
    assert_eq!(source(&daemon, "b").await["state"], "ok");
    daemon.terminate().await;
}

/// A configuration with one source whose creations are paced.
fn paced(url: &str, rate: u32, max_wait: &str) -> String {
    format!(
        "[store]\npath = \"data\"\n[sources.retab]\nbase_url = \"{url}\"\napi_key = \"k\"\n\
         max_requests_per_second = {rate}\nproxy = {{ pace = true, max_wait = \"{max_wait}\" }}\n\
         [sources.retab.polling]\nstrategy = \"fixed\"\ninterval = \"200ms\"\nmin_interval = \"20ms\"\n"
    )
}

/// Creates a job through the proxy. Returns the status, the headers and the body of the answer.
async fn create(daemon: &Process, body: Vec<u8>) -> (u16, HeaderMap, Value) {
    let url = format!("{}/proxy/retab/v1/jobs", daemon.url);
    let answer = daemon.http.post(url).header("api-key", "k").body(body).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_becomes_a_short_wait_and_every_creation_is_taken_once() {
    let (asked, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let vendor = Vendor::start(move |got| match got.post {
        true if [2, 3].contains(&asked.fetch_add(1, Ordering::SeqCst)) => (429, Some(1), String::new()),
        true => (201, None, format!("job_{}", taken.fetch_add(1, Ordering::SeqCst))),
        false => (200, None, "in_progress".to_owned()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = run(folder.path(), &paced(&vendor.url, 20, "60s")).await;
    let mut all = JoinSet::new();
    for n in 0..12 {
        let request = daemon.http.post(format!("{}/proxy/retab/v1/jobs", daemon.url)).header("api-key", "k");
        all.spawn(async move { request.body(format!("document {n}")).send().await.unwrap() });
    }
    let mut ids = BTreeSet::new();
    while let Some(answer) = all.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["tidings-watch"]),
            (201, &"accepted".parse().unwrap())
        );
        ids.insert(answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 12, "{ids:?}");
    let posts = vendor.posts();
    let again = posts.len() - 12;
    assert!((1..=2).contains(&again), "{again} were sent again");
    let bodies: BTreeSet<Bytes> = posts.iter().map(|got| got.body.clone()).collect();
    assert_eq!(bodies, (0..12).map(|n| Bytes::from(format!("document {n}"))).collect());
    let (_, metrics) = daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in [
        "tidings_paced_creations_total{result=\"sent\",source=\"retab\"} 12".to_owned(),
        format!("tidings_paced_creations_total{{result=\"sent_again\",source=\"retab\"}} {again}"),
        "tidings_paced_wait_seconds_count{source=\"retab\"} 12".to_owned(),
    ] {
        assert!(metrics.lines().any(|there| there == line), "{line}\n{metrics}");
    }
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_and_polls_each_have_their_share() {
    let taken = AtomicUsize::new(0);
    let vendor = Vendor::start(move |got| match got.post {
        true => (201, None, format!("new_{}", taken.fetch_add(1, Ordering::SeqCst))),
        false => (200, None, "in_progress".to_owned()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = run(folder.path(), &paced(&vendor.url, 40, "60s")).await;
    register(&daemon, "retab", 500).await;
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let request = daemon.http.post(format!("{}/proxy/retab/v1/jobs", daemon.url)).header("api-key", "k");
        all.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    while let Some(status) = all.join_next().await {
        assert_eq!(status.unwrap(), 201);
    }
    let got = vendor.got();
    let (first, last) =
        (got.iter().position(|got| got.post).unwrap(), got.iter().rposition(|got| got.post).unwrap());
    let polls = last - first + 1 - 100;
    assert!((70..=140).contains(&polls), "{polls} polls beside 100 creations");
    vendor.kept_to(40);
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_would_wait_too_long_is_refused_or_gets_the_answer_of_the_vendor() {
    let limits = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&limits);
    let vendor = Vendor::start(move |got| {
        let is_limited =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        match got.post {
            true if is_limited => (429, Some(600), "vendor".to_owned()),
            true => (201, None, "job_1".to_owned()),
            false => (200, None, "in_progress".to_owned()),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    // One creation every hundred seconds.
    let text = paced(&vendor.url, 20, "200ms").replace("second = 20", "second = 0.01");
    let daemon = run(folder.path(), &text).await;
    assert_eq!(create(&daemon, b"1".to_vec()).await.0, 201);
    let (status, headers, problem) = create(&daemon, b"2".to_vec()).await;
    assert_eq!((status, &problem["code"]), (429, &json!("too_many_creations")), "{problem}");
    assert!(headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1, "{headers:?}");
    assert_eq!(vendor.posts().len(), 1, "the vendor did not hear of it");
    std::fs::write(folder.path().join("tidings.toml"), paced(&vendor.url, 1000, "5s")).unwrap();
    assert_eq!(daemon.post("/v1/reload", &Value::Null).await.0, 200);
    limits.store(1, Ordering::SeqCst);
    let (status, headers, body) = create(&daemon, b"3".to_vec()).await;
    assert_eq!(
        (status, &body["id"], &headers["retry-after"]),
        (429, &json!("vendor"), &"600".parse().unwrap())
    );
    // The polls pause too, and a further creation is refused at once.
    assert_eq!(source(&daemon, "retab").await["state"], "limited");
    assert_eq!(create(&daemon, b"4".to_vec()).await.2["code"], "too_many_creations");
    assert_eq!(vendor.posts().len(), 2);
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_executed_is_never_sent_twice() {
    // Answers that do not say that the creation was not taken, and a body that is too large to keep.
    let vendor = Vendor::start(|got| match got.body.first() {
        Some(b'5') => (500, None, String::new()),
        Some(b'3') => (503, None, String::new()),
        Some(b'L') => (429, Some(1), String::new()),
        _ => (502, Some(1), String::new()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = run(folder.path(), &paced(&vendor.url, 1000, "20s")).await;
    for (body, status) in
        [(b"5".to_vec(), 500), (b"3".to_vec(), 503), (b"2".to_vec(), 502), (vec![b'L'; 2 << 20], 429)]
    {
        let before = vendor.posts().len();
        assert_eq!(create(&daemon, body.clone()).await.0, status);
        let posts = vendor.posts();
        assert_eq!(posts.len(), before + 1, "{status}");
        assert!(posts[before].body == body, "{status}: it came changed");
    }
    daemon.terminate().await;
    // A connection that ends after the request was read.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut head, counted) = (vec![0; 4096], Arc::clone(&counted));
            tokio::spawn(async move {
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    let other = tempfile::tempdir().unwrap();
    let daemon = run(other.path(), &paced(&format!("http://{address}"), 1000, "20s")).await;
    let (status, _, problem) = create(&daemon, b"document".to_vec()).await;
    assert_eq!((status, &problem["code"]), (502, &json!("upstream_unreachable")), "{problem}");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    daemon.terminate().await;
    server.abort();
}
