//! What a caller may bring along: a callback, a choice of sinks, odd ids; and what a restart keeps of it.

use std::{os::unix::ffi::OsStrExt as _, time::Duration};

use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tidings::{
    deliver::{RetryConfig, SinkConfig},
    mock::{JobPlan, Kind},
    util::units::HumanDuration,
};

use crate::harness::{Daemon, Receiver, Reply, Sinks, config, mock, segment};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_in_an_opened_range_is_called_and_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, app, callback) = (mock().await, Receiver::start().await, Receiver::start().await);
    let mut config = config(folder.path(), &mock).webhook("app", &app.url(), 0);
    config.callbacks.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new());
    let asked = json!({"job_id": job, "callback": {"url": callback.url(), "secret": SECRET}});
    let (status, watch) = daemon.post("/v1/watches", &asked).await;
    assert_eq!(status, 202);
    assert!(!watch.to_string().contains("whsec_"), "{watch}");
    let watch = daemon.finished(&job).await;
    assert_eq!(watch["phase"], "done");
    let sinks: Vec<&Value> = watch["deliveries"].as_array().unwrap().iter().map(|one| &one["sink"]).collect();
    assert!(
        sinks.len() == 2 && sinks.contains(&&"app".into()) && sinks.contains(&&"callback".into()),
        "{watch}"
    );
    let told = &callback.requests()[0];
    Webhook::new(SECRET).unwrap().verify(&told.body, &told.headers).unwrap();
    assert_eq!(told.header("webhook-id"), watch["event_id"]);
    assert_eq!(told.body, app.requests()[0].body);
    assert_eq!(app.requests()[0].header("webhook-signature"), "", "the secret is the callback's own");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_out_of_bounds_is_refused_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, callback) = (mock().await, Receiver::start().await);
    let daemon = Daemon::start(config(folder.path(), &mock)).await;
    let job = mock.add_job(JobPlan::new());
    let local = callback.url().replace("127.0.0.1", "localhost");
    for (url, code) in [
        (callback.url().as_str(), "callback_blocked"),
        (&local, "callback_blocked"),
        ("http://169.254.169.254/", "callback_blocked"),
        ("ftp://example.com/", "callback_refused"),
        ("http://user@example.com/", "callback_refused"),
        ("no url", "callback_refused"),
    ] {
        let asked = json!({"job_id": job, "callback": {"url": url}});
        let (status, problem) = daemon.post("/v1/watches", &asked).await;
        assert_eq!((status, &problem["code"]), (422, &code.into()), "{url}");
    }
    let bad = json!({"job_id": job, "callback": {"url": "https://example.com/", "secret": "hunter2"}});
    let (status, problem) = daemon.post("/v1/watches", &bad).await;
    assert_eq!((status, &problem["code"]), (422, &"callback_refused".into()));
    assert!(!problem.to_string().contains("hunter2"));
    let (status, problem) = daemon.post("/v1/watches", &json!({"job_id": job, "sinks": ["none"]})).await;
    assert_eq!((status, &problem["code"]), (422, &"unknown_sink".into()));
    assert_eq!(daemon.get(&format!("/v1/watches/retab/{job}")).await.0, 404);
    assert_eq!(daemon.get("/v1/watches").await.1["data"], json!([]));
    daemon.stop().await;
    assert_eq!(mock.total(), 0, "nothing was asked");
    assert!(callback.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_chooses_its_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, one, two) = (mock().await, Receiver::start().await, Receiver::start().await);
    let config = config(folder.path(), &mock).webhook("one", &one.url(), 0).webhook("two", &two.url(), 0);
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new());
    assert_eq!(daemon.post("/v1/watches", &json!({"job_id": job, "sinks": ["two"]})).await.0, 202);
    let watch = daemon.finished(&job).await;
    assert_eq!(watch["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!((one.requests().len(), two.requests().len()), (0, 1));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_watch_is_neither_polled_nor_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, app) = (mock().await, Receiver::start().await);
    let mut config = config(folder.path(), &mock).webhook("app", &app.url(), 0);
    let Some(SinkConfig::Webhook(webhook)) = config.sinks.get_mut("app") else { panic!("there is a sink") };
    webhook.retry = RetryConfig { schedule: vec![HumanDuration::secs(1)], jitter: 0.0 };
    let daemon = Daemon::start(config).await;
    app.then([Reply::status(500)]);
    let pending = mock.add_job(JobPlan::new());
    let running = mock.add_job(JobPlan::new().lasting(Duration::from_hours(1)));
    daemon.watch(&pending).await;
    daemon.watch(&running).await;
    daemon.until(&pending, "was tried", |watch| watch["deliveries"][0]["attempts"] == 1).await;
    for job in [&pending, &running] {
        let url = format!("{}/v1/watches/retab/{job}", daemon.url);
        assert_eq!(daemon.http.delete(&url).send().await.unwrap().status(), 204);
        assert_eq!(daemon.http.delete(&url).send().await.unwrap().status(), 404);
        assert_eq!(daemon.get(&format!("/v1/watches/retab/{job}")).await.0, 404);
    }
    assert_eq!(daemon.get("/v1/deliveries").await.1["data"], json!([]));
    // A job registered after it is looked at, retried after the same second and delivered: by then the deleted
    // ones would have been, too.
    app.then([Reply::status(500)]);
    let polled = mock.requests(Some(&running), None);
    let later = mock.add_job(JobPlan::new());
    daemon.watch(&later).await;
    assert_eq!(daemon.finished(&later).await["phase"], "done");
    let about = |job: &str| app.requests().iter().filter(|told| told.json()["job_id"] == job).count();
    assert_eq!((about(&pending), about(&later)), (1, 2));
    // One look may have been under way.
    assert!(mock.requests(Some(&running), None) <= polled + 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_ids_go_the_whole_way() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, app) = (mock().await, Receiver::start().await);
    let out = folder.path().join("out");
    let daemon =
        Daemon::start(config(folder.path(), &mock).webhook("app", &app.url(), 0).disk("disk", &out)).await;
    let (long, wide) = ("x".repeat(256), "ü".repeat(128));
    let ids = [
        "../../x",
        "..%2f..%2fx",
        "a%2fb",
        "a/b",
        "a b",
        ".hidden",
        "%2e%2e",
        "?q=1#f",
        "Ωμέγα 🦀",
        "a\\b",
        "con",
        "\"quoted\"",
        &long,
        &wide,
    ];
    for id in ids {
        mock.add_job(JobPlan::new().id(id));
        assert_eq!(daemon.watch(id).await["job_id"], id);
    }
    for id in ids {
        let watch = daemon.finished(id).await;
        assert_eq!((&watch["phase"], &watch["job_id"]), (&"done".into(), &id.into()));
        assert_eq!(mock.requests(Some(id), Some(Kind::Full)), 1, "{id}");
        let (_, stored) = daemon.get_bytes(&format!("/v1/watches/retab/{}/job", segment(id))).await;
        assert_eq!(stored, mock.full_body(id).unwrap(), "{id}");
        assert_eq!(app.requests().iter().filter(|told| told.json()["job_id"] == id).count(), 1, "{id}");
    }
    let files: Vec<_> = std::fs::read_dir(out.join("retab")).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), ids.len(), "{files:?}");
    for file in files {
        let job: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        assert!(ids.contains(&job["id"].as_str().unwrap()), "{job}");
        assert!(file.file_name().as_bytes().iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\'));
    }
    let top: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(top.len() == 2 && top.contains(&"out".into()) && top.contains(&"data".into()), "{top:?}");
    for id in ["", "a\u{0}b", "a\nb", "..", &"x".repeat(257)] {
        let (status, problem) = daemon.post("/v1/watches", &json!({"job_id": id})).await;
        assert_eq!((status, &problem["code"]), (422, &"invalid_job_id".into()), "{id:?}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, app) = (mock().await, Receiver::start().await);
    let config = config(folder.path(), &mock).webhook("app", &app.url(), 5000);
    let daemon = Daemon::start(config.clone()).await;
    app.always(Reply::status(503));
    let ended = mock.add_job(JobPlan::new());
    let running = mock.add_job(JobPlan::new().lasting(Duration::from_hours(1)));
    daemon.watch(&ended).await;
    let labelled = json!({"job_id": running, "labels": {"team": "a"}});
    assert_eq!(daemon.post("/v1/watches", &labelled).await.0, 202);
    daemon.until(&running, "is seen", |watch| !watch["status"].is_null()).await;
    let tried = |watch: &Value| watch["deliveries"][0]["attempts"].as_u64() > Some(0);
    let before = daemon.until(&ended, "was tried", tried).await;
    daemon.stop().await;
    let (tries, full) = (app.requests().len(), mock.requests(Some(&ended), None));
    app.always(Reply::status(204));
    let daemon = Daemon::start(config).await;
    let after = daemon.finished(&ended).await;
    assert_eq!((&after["phase"], &after["event_id"]), (&"done".into(), &before["event_id"]));
    assert_eq!(after["deliveries"][0]["id"], before["deliveries"][0]["id"]);
    assert_eq!(app.requests().len(), tries + 1, "one attempt more");
    assert!(app.requests().iter().all(|told| told.header("webhook-id") == before["event_id"]));
    assert_eq!(mock.requests(Some(&ended), None), full, "what is stored is not asked for again");
    mock.advance(Duration::from_hours(2));
    let watch = daemon.finished(&running).await;
    assert_eq!((&watch["phase"], &watch["labels"]), (&"done".into(), &json!({"team": "a"})));
    assert_eq!(app.requests().len(), tries + 2);
    daemon.stop().await;
}
