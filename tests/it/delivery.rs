//! A finished job on its way to receivers that fail, ask for patience, hang or have had enough.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tidings::{
    deliver::{RetryConfig, SinkConfig, WebhookConfig},
    util::secret::Secret,
    util::units::{HumanDuration, Time},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::harness::{Flow, LOOPBACK, Receiver, Reply, eventually, webhook};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_c2Vjb25kIHNlY3JldCBvZiBhIHJvdGF0aW9u";

/// So many quick retries.
fn quick(retries: usize) -> Vec<HumanDuration> {
    vec![HumanDuration::millis(20); retries]
}

/// One field of each attempt.
fn each<'a>(delivery: &'a Value, field: &str) -> Vec<&'a Value> {
    delivery["attempts"].as_array().unwrap().iter().map(|attempt| &attempt[field]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_three_times_gets_the_same_event_a_fourth_time() {
    let flow = Flow::start(&[HumanDuration::millis(1100); 3], |_| ()).await;
    flow.receiver.then([500, 503, 302].map(Reply::status));
    let job = flow.job().await;
    let watch = flow.daemon.finished(&job).await;
    assert_eq!(watch["phase"], "done", "{watch}");
    let delivery = flow.delivery(&watch).await;
    assert_eq!(each(&delivery, "status"), [500, 503, 302, 204]);
    let errors = ["answered 500", "answered 503", "answered 302"];
    assert_eq!(each(&delivery, "error")[..3], errors);
    assert_eq!((&delivery["state"], &delivery["attempt_count"]), (&"delivered".into(), &4.into()));
    let told = flow.receiver.requests();
    assert_eq!(told.len(), 4);
    let stamp = |at: usize| told[at].header("webhook-timestamp").parse::<i64>().unwrap();
    for at in 1..4 {
        assert_eq!(told[at].header("webhook-id"), watch["event_id"]);
        assert_eq!(told[at].body, told[0].body);
        // The steps are longer than a second, so each attempt has another time.
        assert!(stamp(at) > stamp(at - 1), "{} {}", stamp(at), stamp(at - 1));
        assert_ne!(told[at].header("traceparent"), told[0].header("traceparent"));
    }
    let times: Vec<i64> = each(&delivery, "at")
        .iter()
        .map(|at| Time::parse(at.as_str().unwrap()).unwrap().unix_seconds())
        .collect();
    assert_eq!(times, (0..4).map(stamp).collect::<Vec<_>>());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (flow, elsewhere) = (Flow::start(&quick(1), |_| ()).await, Receiver::start().await);
    let redirect = |code| Reply::Status(code, vec![("location", elsewhere.url())]);
    flow.receiver.then([redirect(301), redirect(308)]);
    let job = flow.job().await;
    let watch = flow.daemon.finished(&job).await;
    assert_eq!((&watch["phase"], &watch["deliveries"][0]["last_status"]), (&"dead".into(), &308.into()));
    assert!(elsewhere.requests().is_empty());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_times_out_and_slows_no_other() {
    let other = Receiver::start().await;
    let flow = Flow::start(&quick(1), |config| {
        webhook(config, |app| (app.timeout, app.max_in_flight) = (HumanDuration::millis(400), 1));
        let fast = WebhookConfig::to(other.url());
        config.sinks.insert("fast".to_owned(), SinkConfig::Webhook(fast));
    })
    .await;
    flow.receiver.always(Reply::Hang);
    let jobs = [flow.job().await, flow.job().await, flow.job().await, flow.job().await, flow.job().await];
    let begun = Instant::now();
    other.at_least(5).await;
    // Five deliveries to the hanging sink, two attempts each and one at a time, take at least 4 s.
    let tried = flow.receiver.requests().len();
    assert!(tried < 10, "the fast sink waited for the hanging one: {:?}", begun.elapsed());
    let watch = flow.daemon.finished(&jobs[0]).await;
    assert_eq!(watch["phase"], "dead");
    let delivery = flow.delivery(&watch).await;
    assert_eq!(each(&delivery, "error"), ["timed out after 400ms"; 2]);
    assert_eq!(each(&delivery, "status"), [&Value::Null; 2]);
    assert!(each(&delivery, "duration_ms").iter().all(|took| took.as_u64().unwrap() >= 400), "{delivery}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_no_success() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 64 << 10];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nha").await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    });
    let flow = Flow::start(&quick(1), |config| webhook(config, |app| app.url = Some(url))).await;
    let job = flow.job().await;
    let watch = flow.daemon.finished(&job).await;
    assert_eq!(watch["phase"], "dead", "{watch}");
    let delivery = flow.delivery(&watch).await;
    // Which part of the exchange the reset strikes, and so its words, is up to the network.
    assert!(each(&delivery, "error").iter().all(|error| error.is_string()), "{delivery}");
    server.abort();
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_is_a_dead_letter_at_once() {
    let flow = Flow::start(&quick(5), |_| ()).await;
    flow.receiver.then([Reply::status(410)]);
    let job = flow.job().await;
    let watch = flow.daemon.finished(&job).await;
    assert_eq!(watch["phase"], "dead");
    let delivery = flow.delivery(&watch).await;
    assert_eq!((&delivery["state"], &delivery["attempt_count"]), (&"dead".into(), &1.into()));
    assert!(delivery["reason"].as_str().unwrap().contains("410"), "{delivery}");
    // It is for this event alone: the next one goes out.
    let next = flow.job().await;
    assert_eq!(flow.daemon.finished(&next).await["phase"], "done");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_a_pause_gets_one() {
    let flow = Flow::start(&quick(2), |_| ()).await;
    let wait = |code, text: &str| Reply::Status(code, vec![("retry-after", text.to_owned())]);
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(4));
    flow.receiver.then([wait(429, "2"), wait(503, &date)]);
    let job = flow.job().await;
    let watch = flow.daemon.finished(&job).await;
    assert_eq!(watch["phase"], "done", "{watch}");
    assert!(std::time::SystemTime::now() >= httpdate::parse_http_date(&date).unwrap());
    let delivery = flow.delivery(&watch).await;
    assert_eq!(each(&delivery, "status"), [429, 503, 204]);
    let at: Vec<Time> =
        each(&delivery, "at").iter().map(|at| Time::parse(at.as_str().unwrap()).unwrap()).collect();
    assert!(at[1].since(at[0]) >= Duration::from_secs(2), "{delivery}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_can_be_sent_again() {
    let flow = Flow::start(&quick(2), |_| ()).await;
    flow.receiver.always(Reply::status(500));
    let job = flow.job().await;
    let dead = flow.daemon.finished(&job).await;
    assert_eq!(dead["phase"], "dead");
    let delivery = flow.delivery(&dead).await;
    assert_eq!((&delivery["state"], &delivery["attempt_count"]), (&"dead".into(), &3.into()));
    assert!(delivery["reason"].as_str().unwrap().contains("answered 500"), "{delivery}");
    for (asked, shown) in [("0", 0), ("2", 2), ("9", 3)] {
        let (_, page) = flow.daemon.get(&format!("/v1/deliveries?state=dead&attempts={asked}")).await;
        let one = &page["data"][0];
        let latest = delivery["attempts"].as_array().unwrap()[3 - shown..].to_vec();
        assert_eq!((&one["attempts"], &one["attempt_count"]), (&json!(latest), &json!(3)), "{asked}");
        assert_eq!(one["last_status"], 500);
    }
    assert_eq!(flow.daemon.get("/v1/deliveries?attempts=few").await.1["code"], "bad_parameter");
    // The fresh schedule has all of its steps again.
    flow.receiver.always(Reply::status(204));
    flow.receiver.then([500, 500].map(Reply::status));
    let path = format!("/v1/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
    let (status, pending) = flow.daemon.post(&path, &json!({})).await;
    assert_eq!((status, &pending["state"]), (202, &"pending".into()));
    let done = flow.daemon.until(&job, "is delivered", |watch| watch["phase"] == "done").await;
    assert_eq!(done["event_id"], dead["event_id"]);
    assert_eq!(flow.delivery(&done).await["attempt_count"], 6);
    let told = flow.receiver.requests();
    let ids: BTreeSet<_> = told.iter().map(|told| told.header("webhook-id")).collect();
    assert_eq!((told.len(), ids.len()), (6, 1), "the same event every time");
    let (status, problem) = flow.daemon.post("/v1/deliveries/dlv_none/redeliver", &json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &"delivery_not_found".into()));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_sent_again_by_filter() {
    let other = Receiver::start().await;
    let flow = Flow::start(&quick(0), |config| {
        let webhook = WebhookConfig {
            retry: RetryConfig { schedule: vec![], jitter: 0.0 },
            ..WebhookConfig::to(other.url())
        };
        config.sinks.insert("other".to_owned(), SinkConfig::Webhook(webhook));
    })
    .await;
    flow.receiver.always(Reply::status(500));
    other.always(Reply::status(500));
    let jobs = [flow.job().await, flow.job().await, flow.job().await];
    for job in &jobs {
        assert_eq!(flow.daemon.finished(job).await["phase"], "dead");
    }
    flow.receiver.always(Reply::status(204));
    let (status, answer) = flow.daemon.post("/v1/deliveries/redeliver", &json!({"sink": "app"})).await;
    assert_eq!((status, &answer["count"]), (202, &3.into()));
    eventually("three are delivered", || async {
        let (_, page) = flow.daemon.get("/v1/deliveries?state=delivered").await;
        (page["data"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
    assert_eq!(other.requests().len(), 3, "the other sink was left alone");
    let (_, answer) =
        flow.daemon.post("/v1/deliveries/redeliver", &json!({"until": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(answer["count"], 0);
    other.always(Reply::status(204));
    let (_, answer) = flow.daemon.post("/v1/deliveries/redeliver", &json!({})).await;
    assert_eq!(answer["count"], 3, "what is delivered is no dead letter");
    for job in &jobs {
        flow.daemon.until(job, "is done", |watch| watch["phase"] == "done").await;
    }
    assert_eq!(flow.receiver.requests().len(), 6);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_library_accepts_the_signature() {
    let rotating = Receiver::start().await;
    let flow = Flow::start(&quick(0), |config| {
        webhook(config, |app| app.secret = Some(Secret::new(OLD)));
        let mut both = WebhookConfig::to(rotating.url());
        both.secrets = vec![Secret::new(NEW), Secret::new(OLD)];
        config.sinks.insert("rotating".to_owned(), SinkConfig::Webhook(both));
    })
    .await;
    let job = flow.job().await;
    flow.daemon.finished(&job).await;
    let verify = |receiver: &Receiver, secret: &str| {
        let told = &receiver.requests()[0];
        Webhook::new(secret).unwrap().verify(&told.body, &told.headers).is_ok()
    };
    assert!(verify(&flow.receiver, OLD));
    assert!(!verify(&flow.receiver, NEW));
    assert!(verify(&rotating, OLD) && verify(&rotating, NEW));
    assert_eq!(rotating.requests()[0].header("webhook-signature").split(' ').count(), 2);
    let told = &flow.receiver.requests()[0];
    let forged = [told.body.as_slice(), b" "].concat();
    Webhook::new(OLD).unwrap().verify(&forged, &told.headers).unwrap_err();
    flow.stop().await;
}
