//! A large job goes through without being held in memory.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, extract::State, http::HeaderMap, http::StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tidings::{
    mock::JobPlan,
    util::units::{HumanDuration, Size},
};
use tokio::net::TcpListener;

use crate::harness::{Home, LOOPBACK, Process, Site, eventually, http, is_finished, serve, write_config};

const LARGE: u64 = 64 << 20;
const MOST_GROWTH: u64 = 24 << 20;

/// What came of a request: its event's id, how many bytes, and their hash.
type Came = Arc<Mutex<Vec<(String, u64, Vec<u8>)>>>;

async fn count(State(came): State<Came>, headers: HeaderMap, mut body: Body) -> StatusCode {
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            hash.update(&data);
        }
    }
    let event = headers["webhook-id"].to_str().unwrap().to_owned();
    came.lock().unwrap().push((event, bytes, hash.finalize().to_vec()));
    StatusCode::NO_CONTENT
}

/// A receiver that keeps nothing of what it is sent.
async fn receiver() -> (String, Came) {
    let came = Came::default();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().fallback(count).with_state(Arc::clone(&came));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, came)
}

async fn through(process: &Process, job: &str) -> serde_json::Value {
    let http = http();
    let body = json!({"job_id": job});
    let answer = http.post(format!("{}/v1/watches", process.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    // Unoptimised, hashing and checking so much takes a while: it is waited for at the daemon's own door first.
    let url = format!("{}/v1/watches/retab/{job}", process.url);
    assert_eq!(http.get(format!("{url}/wait?timeout=5m")).send().await.unwrap().status(), 200);
    eventually(&format!("{job} is delivered"), || async {
        let url = &url;
        let watch: serde_json::Value = http.get(url).send().await.unwrap().json().await.unwrap();
        (watch["phase"] == "done").then_some(watch)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_job_passes_through_in_bounded_memory() {
    let (url, came) = receiver().await;
    let sinks = format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{url}\"\nformat = \"raw\"\ntimeout = \"{}\"\n\n\
         [sinks.disk]\ntype = \"disk\"\ndir = \"out\"\n",
        HumanDuration::secs(600)
    );
    let home = Home::new(&sinks).await;
    let process = home.run().await;
    // What a first job brings along (connections, threads, buffers) is no part of the question.
    through(&process, &home.mock.add_job(JobPlan::new())).await;
    let before = process.rss();
    process.reset_peak();
    let job = home.mock.add_job(JobPlan::new().size(Size(LARGE)));
    let watch = through(&process, &job).await;
    let growth = process.peak().saturating_sub(before);
    println!("{} MiB went through; resident memory grew by at most {} KiB", LARGE >> 20, growth >> 10);
    let bytes = home.mock.full_body(&job).unwrap();
    assert!(bytes.len() as u64 > LARGE && watch["job_size"] == bytes.len(), "{}", watch["job_size"]);
    assert!(std::fs::read(home.path().join(format!("out/retab/{job}.json"))).unwrap() == bytes);
    let hash = Sha256::digest(&bytes).to_vec();
    let event = watch["event_id"].as_str().unwrap().to_owned();
    assert_eq!(came.lock().unwrap().last(), Some(&(event, bytes.len() as u64, hash)));
    assert!(growth < MOST_GROWTH, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
}

/// 64 KiB that are not all the same.
fn chunk() -> bytes::Bytes {
    (0..64 << 10).map(|n: u32| (n % 251) as u8).collect()
}

fn large() -> reqwest::Body {
    let chunks = (0..LARGE / chunk().len() as u64).map(|_| Ok::<_, std::io::Error>(chunk()));
    reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
}

/// An API that takes and gives large bodies and keeps nothing of them.
async fn api() -> String {
    async fn take(mut body: Body) -> String {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.into_data().map_or(0, |data| data.len());
        }
        bytes.to_string()
    }
    async fn give() -> Body {
        Body::new(large())
    }
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/files", axum::routing::post(take).get(give));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_the_proxy_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &api().await, "");
    let process = Process::run(folder.path(), &[]).await;
    let url = format!("{}/proxy/retab/v1/files", process.url);
    let through = || async {
        let taken = http().post(&url).body(large()).send().await.unwrap().text().await.unwrap();
        assert_eq!(taken, LARGE.to_string());
        let mut given = http().get(&url).send().await.unwrap();
        let mut bytes = 0;
        while let Some(part) = given.chunk().await.unwrap() {
            bytes += part.len() as u64;
        }
        assert_eq!(bytes, LARGE);
    };
    through().await;
    let before = process.rss();
    process.reset_peak();
    through().await;
    let growth = process.peak().saturating_sub(before);
    println!("{} MiB went each way; resident memory grew by at most {} KiB", LARGE >> 20, growth >> 10);
    assert!(growth < MOST_GROWTH, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
}

/// Resident memory grows by no more than this while a body of that many values is read.
const MOST_FOR_A_CROWD: u64 = 48 << 20;

/// As many small objects as go into so many bytes.
fn crowd(bytes: usize) -> String {
    r#"{"":0},"#.repeat(bytes / 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_a_million_values_is_read_in_bounded_memory() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::start().await);
    write_config(folder.path(), &site.url(), "");
    let process = Process::run(folder.path(), &[]).await;
    let status = |word: &str| format!("{{\"x\":[{}0],\"status\":\"{word}\"}}", crowd(15 << 20));
    let full = "/v1/jobs/job_1?include_request=false&include_response=true";
    site.json("/v1/jobs/job_1/status", r#"{"status":"queued"}"#);
    site.json(full, r#"{"status":"completed"}"#);
    process.register(&json!({"job_id": "job_1"})).await;
    eventually("it was polled", || async { site.requests("/v1/jobs/job_1/status").pop() }).await;
    let before = process.rss();
    process.reset_peak();
    site.json("/v1/jobs/job_1/status", &status("in_progress"));
    eventually("the large status is seen", || async {
        let url = format!("{}/v1/watches/retab/job_1", process.url);
        let watch: serde_json::Value = http().get(url).send().await.unwrap().json().await.unwrap();
        (watch["status"] == "in_progress").then_some(())
    })
    .await;
    site.json("/v1/jobs/job_1/status", &status("completed"));
    assert_eq!(process.until_in("retab", "job_1", "finishes", is_finished).await["outcome"], "completed");
    let growth = process.peak().saturating_sub(before);
    println!("15 MiB of small objects in a status; resident memory grew by at most {} KiB", growth >> 10);
    assert!(growth < MOST_FOR_A_CROWD, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_nested_junk_is_read_in_bounded_memory() {
    let home = Home::new("").await;
    let process = home.run().await;
    let room = (8 << 20) - 200;
    let crowd = crowd(room);
    let (nested, pairs) = ("[".repeat(room / 2) + &"]".repeat(room / 2), r#""":"","#.repeat(room / 6));
    let bodies = [
        format!("{{\"watches\":[{{\"job_id\":\"a\",\"x\":[{crowd}0]}}]}}"),
        format!("{{\"watches\":[{{\"job_id\":\"a\",\"x\":{nested}}}]}}"),
        format!("{{\"watches\":[{crowd}0]}}"),
        format!("{{\"watches\":[{{\"job_id\":\"a\",\"labels\":{{{pairs}\"\":\"\"}}}}]}}"),
        format!("{{\"watches\":[{{\"job_id\":\"a\",\"sinks\":[{}\"\"]}}]}}", "\"\",".repeat(room / 3)),
        format!("{{\"job_id\":\"a\",\"x\":[{crowd}0]}}"),
    ];
    let answers =
        ["invalid_body", "invalid_body", "batch_too_large", "invalid_labels", "unknown_sink", "invalid_body"];
    let post = async |body: String| {
        let post = http().post(format!("{}/v1/watches/batch", process.url));
        let answer = post.header("content-type", "application/json").body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };
    post(json!({"watches": []}).to_string()).await;
    let before = process.rss();
    process.reset_peak();
    for (body, code) in bodies.iter().zip(answers) {
        let (status, answer) = post(body.clone()).await;
        let told = if status == 200 { &answer["rejected"][0] } else { &answer };
        assert_eq!(told["code"], code);
    }
    let alone = process.peak().saturating_sub(before);
    let many = (0..12).map(|n| post(bodies[n % bodies.len()].clone()));
    assert_eq!(futures_util::future::join_all(many).await.len(), 12);
    let growth = process.peak().saturating_sub(before);
    println!(
        "8 MiB of junk: resident memory grew by at most {} KiB; 12 at once: {} KiB",
        alone >> 10,
        growth >> 10
    );
    assert!(alone < MOST_FOR_A_CROWD, "it grew by {} KiB", alone >> 10);
    assert!(growth < 3 * MOST_FOR_A_CROWD, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
}

/// A status body with a result of 100 MiB in it, made as it is sent.
async fn inline() -> Body {
    const PARTS: usize = 1600;
    let part = format!("\"{}\",", "x".repeat((64 << 10) - 3));
    let parts = (0..PARTS).map(move |_| part.clone());
    let ends = |text: &str| std::iter::once(text.to_owned());
    let all = ends("{\"result\":[").chain(parts).chain(ends("0],\"status\":\"completed\"}"));
    Body::from_stream(futures_util::stream::iter(all.map(Ok::<_, std::io::Error>)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_with_the_whole_result_passes_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (address, server) = serve(Router::new().fallback(inline)).await;
    let source = format!(
        "[sources.inline]\ntype = \"custom\"\nbase_url = \"http://{address}\"\nstatus_path = \"/{{id}}\"\n\
         status_at = [\"/status\"]\noutcomes = {{ completed = [\"completed\"] }}\nmax_job_size = \"200MiB\"\n"
    );
    write_config(folder.path(), "http://127.0.0.1:9", &source);
    let process = Process::run(folder.path(), &[]).await;
    let before = process.rss();
    process.reset_peak();
    process.register(&json!({"source": "inline", "job_id": "a"})).await;
    let url = format!("{}/v1/watches/inline/a", process.url);
    // Unoptimised, reading so much takes a while.
    assert_eq!(http().get(format!("{url}/wait?timeout=5m")).send().await.unwrap().status(), 200);
    let watch: serde_json::Value = http().get(&url).send().await.unwrap().json().await.unwrap();
    let growth = process.peak().saturating_sub(before);
    println!("100 MiB in a status; resident memory grew by at most {} KiB", growth >> 10);
    assert!(watch["outcome"] == "completed" && watch["job_size"].as_u64() > Some(100 << 20), "{watch}");
    assert!(growth < MOST_GROWTH, "it grew by {} KiB", growth >> 10);
    assert_eq!(process.terminate().await.0, Some(0));
    server.abort();
}
