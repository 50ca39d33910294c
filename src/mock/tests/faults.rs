//! The faults of the mock.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Bench, until};
use crate::{
    mock::{Cut, Down, Faults, JobPlan, Kind, MockConfig, RateLimit, Raw},
    util::units::Size,
};

async fn bench_with(faults: Faults) -> (Bench, String, String) {
    let bench = Bench::new(MockConfig { faults, ..MockConfig::default() }).await;
    let plan = JobPlan { age: Duration::from_secs(1), ..JobPlan::new().lasting(Duration::ZERO) };
    let id = bench.mock.add_job(plan.size(Size::mib(1)));
    let (status, full) = (format!("/v1/jobs/{id}/status"), format!("/v1/jobs/{id}?include_response=true"));
    (bench, status, full)
}

#[tokio::test]
async fn the_key_can_be_changed_while_it_runs() {
    let (bench, status, _) = bench_with(Faults { key: Some("old".to_owned()), ..Faults::default() }).await;
    let code = async |key: &str| {
        let url = format!("{}{status}", bench.mock.base_url());
        bench.client.get(url).header("Api-Key", key).send().await.unwrap().status().as_u16()
    };
    let (refused, body) = bench.text(&status).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((refused, &body["detail"]["message"]), (401, &json!("Unauthorized")));
    assert!(body["detail"]["details"]["error"].is_string());
    assert_eq!((code("old").await, code("new").await), (200, 401));
    bench.mock.set(|faults| faults.key = Some("new".to_owned()));
    assert_eq!((code("old").await, code("new").await), (401, 200));
    assert_eq!(bench.mock.answers(401), 3);
}

#[tokio::test]
async fn limits_errors_and_outages_come_and_go() {
    let (bench, status, _) = bench_with(Faults::default()).await;
    let limit = RateLimit { every: 2, retry_after: Some("7".to_owned()) };
    bench.mock.set(|faults| faults.rate_limit = Some(limit));
    let mut codes = Vec::new();
    for _ in 0..4 {
        let answer = bench.get(&status).await.unwrap();
        let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        codes.push((answer.status().as_u16(), wait));
    }
    assert_eq!(codes[0], (200, None));
    assert_eq!(codes[1], (429, Some("7".to_owned())));
    assert_eq!(codes[2..], codes[..2]);

    bench.mock.set(|faults| *faults = Faults { error_rate: 1.0, ..Faults::default() });
    assert_eq!(bench.code(&status).await, 500);
    let down = Down::Unavailable { retry_after: Some("1".to_owned()) };
    bench.mock.set(|faults| *faults = Faults { down, ..Faults::default() });
    let answer = bench.get(&status).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    bench.mock.set(|faults| *faults = Faults { drop_rate: 1.0, ..Faults::default() });
    bench.get(&status).await.unwrap_err();
    bench.mock.set(|faults| *faults = Faults::default());
    assert_eq!(bench.code(&status).await, 200);
}

#[tokio::test]
async fn a_closed_service_hangs_up_on_old_and_new_connections() {
    let (bench, status, _) = bench_with(Faults::default()).await;
    let mut kept = TcpStream::connect(bench.mock.addr()).await.unwrap();
    let request = format!("GET {status} HTTP/1.1\r\nhost: mock\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    assert!(kept.read(&mut [0; 4096]).await.unwrap() > 0);
    bench.mock.set(|faults| faults.down = Down::Close);
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    // Both ways of closing leave not a byte of an answer.
    let _ = kept.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"));
    bench.get(&status).await.unwrap_err();
    bench.mock.set(|faults| faults.down = Down::No);
    assert_eq!(bench.code(&status).await, 200);
}

#[tokio::test]
async fn going_dark_refuses_connections_until_it_comes_back() {
    let (bench, status, _) = bench_with(Faults::default()).await;
    assert_eq!(bench.code(&status).await, 200);
    bench.mock.go_dark().await;
    assert!(bench.get(&status).await.unwrap_err().is_connect());
    bench.mock.come_back().await.unwrap();
    assert_eq!(bench.code(&status).await, 200);
    assert_eq!(bench.mock.total(), 2, "what never arrived is not counted");
    let addr = bench.mock.addr();
    bench.mock.stop().await;
    TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn dropping_it_closes_the_port() {
    let (bench, _, _) = bench_with(Faults::default()).await;
    let addr = bench.mock.addr();
    drop(bench);
    until("closed", async || TcpStream::connect(addr).await.is_err()).await;
}

#[tokio::test]
async fn the_status_route_can_be_missing_and_fresh_jobs_can_lag() {
    let (bench, status, full) = bench_with(Faults { no_status_route: true, ..Faults::default() }).await;
    assert_eq!((bench.code(&status).await, bench.code(&full).await), (404, 200));

    let (bench, status, full) = bench_with(Faults::default()).await;
    bench.mock.set(|faults| faults.lag.requests = 2);
    let codes = [bench.code(&status).await, bench.code(&full).await, bench.code(&status).await];
    assert_eq!(codes, [404, 404, 200]);
    bench.mock.set(|faults| faults.lag.period = Duration::from_hours(1));
    assert_eq!(bench.code(&status).await, 404);
    bench.mock.advance(Duration::from_hours(1));
    assert_eq!(bench.code(&status).await, 200);
}

#[tokio::test]
async fn raw_answers_are_passed_byte_for_byte() {
    let bench = Bench::new(MockConfig::default()).await;
    let (status, full) =
        ("{ \"status\" :\t\"completed\"}\r\n", "{\"z\":1.10,\"a\":[ ],\"n\":123456789012345678901}\n");
    bench.mock.set_raw("odd", Raw::new(status, full));
    assert_eq!(bench.text("/v1/jobs/odd/status").await, (200, status.to_owned()));
    assert_eq!(bench.text("/v1/jobs/odd?include_response=false").await, (200, status.to_owned()));
    assert_eq!(bench.text("/v1/jobs/odd?include_response=true").await, (200, full.to_owned()));
    assert_eq!(bench.mock.full_body("odd").unwrap(), full);
    bench.mock.set_raw("odd", Raw::code(418));
    assert_eq!(bench.code("/v1/jobs/odd/status").await, 418);
}

/// Returns the length of the body that arrived, and whether it was whole.
async fn take(bench: &Bench, path: &str) -> (usize, bool) {
    let mut answer = bench.get(path).await.unwrap();
    let mut got = 0;
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => got += chunk.len(),
            Ok(None) => return (got, true),
            Err(_) => return (got, false),
        }
    }
}

#[tokio::test]
async fn full_bodies_break_off_as_often_as_told() {
    let cut = Cut { after: 300_000, times: 3 };
    let (bench, status, full) = bench_with(Faults { cut: Some(cut), ..Faults::default() }).await;
    for _ in 0..2 {
        assert_eq!(bench.code(&status).await, 200);
        let (got, whole) = take(&bench, &full).await;
        assert!(!whole && got > 0 && got <= 300_000, "{got}");
    }
    bench.mock.set_raw("short", Raw::new("{}", "[1,2,3,4,5]"));
    let short = "/v1/jobs/short?include_response=true";
    assert_eq!(take(&bench, short).await, (5, false), "a short one breaks in its middle");
    assert_eq!(take(&bench, short).await, (11, true));
    assert!(take(&bench, &full).await.0 > 1 << 20);
}

#[tokio::test]
async fn slow_answers_overlap_and_are_counted_as_open() {
    let (bench, status, _) = bench_with(Faults::default()).await;
    bench.mock.set(|faults| faults.latency = Duration::from_hours(1));
    let url = format!("{}{status}", bench.mock.base_url());
    let asking: Vec<_> = (0..5).map(|_| tokio::spawn(bench.client.get(&url).send())).collect();
    until("five at once", async || bench.mock.peak() == 5).await;
    assert_eq!(bench.mock.requests(None, Some(Kind::Status)), 5);
    assert_eq!(bench.mock.busiest(Duration::from_mins(1)), 5);
    assert!(bench.mock.log().is_sorted_by_key(|seen| seen.at));
    for task in asking {
        task.abort();
    }
    // Stopping does not wait for answers that never come.
    bench.mock.stop().await;
}
