//! Events that no sink took, past events for a new sink, and the backlog of one sink: ended, or handed to another.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::{Value, json};
use sha2::Digest as _;
use tidings::{
    deliver::{SinkConfig, WebhookConfig},
    mock::{Ending, JobPlan, Mock},
    util::units::{HumanDuration, Size},
};

use crate::harness::{
    Flow, Home, Process, Receiver, Reply, Sinks as _, eventually, http, mock, once, show, webhook,
    write_config,
};

/// The ids of the jobs on a page of events that no sink took.
async fn unrouted(flow: &Flow, query: &str) -> Vec<String> {
    let (status, page) = flow.daemon.get(&format!("/v1/events?routed=false{query}")).await;
    assert_eq!(status, 200, "{page}");
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["job_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn metric(url: &str, line: &str) -> String {
    let text = http().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.unwrap_or_else(|| panic!("no {line}\n{text}")).trim().to_owned()
}

async fn deliver(flow: &Flow, body: Value) -> (u16, Value) {
    flow.daemon.post("/v1/deliveries/deliver", &body).await
}

async fn ended(flow: &Flow, plan: JobPlan) -> (String, Value) {
    let job = flow.mock.add_job(plan.lasting(Duration::ZERO));
    flow.daemon.watch(&job).await;
    let watch = flow.daemon.finished(&job).await;
    (job, watch)
}

/// The answer of a request to deliver, while every stored job is there.
fn delivered(count: u64, existing: u64) -> Value {
    json!({"count": count, "existing": existing, "missing": 0})
}

/// How often each event reached a receiver.
fn came(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut came = BTreeMap::new();
    for request in receiver.requests() {
        *came.entry(request.header("webhook-id").to_owned()).or_default() += 1;
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_sink_takes_is_counted_and_listed_and_delivered_later() {
    let flow = Flow::start(&[], |config| config.sinks.clear()).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let (job, watch) = ended(&flow, JobPlan::new()).await;
        assert_eq!((&watch["phase"], &watch["deliveries"]), (&json!("done"), &json!([])));
        jobs.push(job);
    }
    assert_eq!(metric(&flow.daemon.url, r#"tidings_unrouted_events_total{source="retab"}"#).await, "3");
    jobs.reverse();
    assert_eq!(unrouted(&flow, "").await, jobs, "newest first");
    assert!(
        unrouted(&flow, "&outcome=failed").await.is_empty() && unrouted(&flow, "&source=x").await.is_empty()
    );
    // Page by page.
    let (_, first) = flow.daemon.get("/v1/events?routed=false&limit=2").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(unrouted(&flow, &format!("&limit=2&cursor={cursor}")).await, jobs[2..]);

    let receiver = Receiver::start().await;
    let url = receiver.url();
    let flow = flow.down().await.change(|config| *config = std::mem::take(config).webhook("late", &url, 3));
    // Attempts that hang use up the drain time.
    let flow = flow.change(|config| config.server.drain = HumanDuration::millis(200)).start().await;
    assert_eq!(unrouted(&flow, "").await, jobs, "they are derived from what is stored");
    let (status, answer) = deliver(&flow, json!({"sink": "late", "dry_run": true})).await;
    assert_eq!((status, answer), (202, delivered(3, 0)));
    assert_eq!(flow.deliveries("").await.len(), 0, "nothing changed");
    receiver.always(Reply::Hang);
    assert_eq!(deliver(&flow, json!({"sink": "late"})).await, (202, delivered(3, 0)));
    for job in &jobs {
        flow.daemon.until(job, "goes back", |watch| watch["phase"] == "delivering").await;
    }
    assert!(unrouted(&flow, "").await.is_empty());
    let down = flow.down().await;
    receiver.always(Reply::status(204));
    let before = receiver.requests().len();
    let flow = down.start().await;
    for job in &jobs {
        let watch = flow.daemon.finished(job).await;
        assert_eq!((&watch["phase"], &watch["deliveries"][0]["sink"]), (&json!("done"), &json!("late")));
        let told =
            receiver.requests().into_iter().rfind(|told| told.json()["job_id"] == job.as_str()).unwrap();
        assert_eq!(told.header("webhook-id"), watch["event_id"]);
        let data = [b"\"data\":".as_slice(), &flow.mock.full_body(job).unwrap(), b"}"].concat();
        assert!(told.body.ends_with(&data));
    }
    // What was asked for later says nothing about how long a delivery takes.
    assert_eq!(metric(&flow.daemon.url, r#"tidings_delivered_delay_seconds_count{sink="late"}"#).await, "0");
    let again = deliver(&flow, json!({"sink": "late"})).await;
    assert_eq!(again, (202, delivered(0, 3)), "never a second delivery");
    assert_eq!(receiver.requests().len(), before + 3);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_delivered_to_another_sink() {
    let other = Receiver::start().await;
    let url = other.url();
    let flow = Flow::start(&[], |config| {
        *config = std::mem::take(config).webhook("other", &url, 0);
        config.routes =
            toml::from_str::<tidings::config::Config>("[[routes]]\nto = [\"app\"]").unwrap().routes;
    })
    .await;
    let (job, watch) = ended(&flow, JobPlan::new()).await;
    let (neighbour, _) = ended(&flow, JobPlan::new()).await;
    let asked = json!({"sink": "other", "source": "retab", "job_id": job});
    let with = |key: &str, value: Value| {
        let mut asked = asked.clone();
        asked[key] = value;
        asked
    };
    assert_eq!(deliver(&flow, with("dry_run", json!(true))).await, (202, delivered(1, 0)));
    assert_eq!(deliver(&flow, with("outcome", json!("failed"))).await, (202, delivered(0, 0)));
    assert_eq!(deliver(&flow, with("routed", json!(false))).await, (202, delivered(0, 0)));
    assert_eq!(deliver(&flow, asked.clone()).await, (202, delivered(1, 0)));
    let came = other.at_least(1).await;
    assert_eq!(came[0].header("webhook-id"), watch["event_id"]);
    // There is nothing to do, and the answer says why.
    assert_eq!(deliver(&flow, asked.clone()).await, (202, delivered(0, 1)));
    let watch = flow.daemon.finished(&job).await;
    assert_eq!(watch["deliveries"].as_array().unwrap().len(), 2, "{watch}");
    assert_eq!(flow.daemon.finished(&neighbour).await["deliveries"].as_array().unwrap().len(), 1);
    // The default source, and the kind.
    let plain = json!({"sink": "other", "job_id": job, "kind": "jobs"});
    assert_eq!(deliver(&flow, plain).await, (202, delivered(0, 1)));
    for (asked, status, code) in [
        (with("job_id", json!("none")), 404, "watch_not_found"),
        (with("job_id", json!("")), 422, "invalid_job_id"),
        (with("kind", json!("none")), 404, "unknown_kind"),
        (with("event_ids", json!([watch["event_id"]])), 422, "conflicting_filters"),
        (json!({"sink": "other", "kind": "jobs"}), 422, "invalid_body"),
    ] {
        let (found, problem) = deliver(&flow, asked.clone()).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{asked}: {problem}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_gets_the_past_events_that_are_asked_for() {
    let new = Receiver::start().await;
    let url = new.url();
    let flow = Flow::start(&[], |config| {
        webhook(config, |app| app.events = vec!["job.failed".to_owned()]);
        let mut late = WebhookConfig::to(&url);
        late.events = vec!["job.failed".to_owned(), "job.started".to_owned()];
        config.sinks.insert("late".to_owned(), SinkConfig::Webhook(late));
        config.routes =
            toml::from_str::<tidings::config::Config>("[[routes]]\nto = [\"app\"]").unwrap().routes;
    })
    .await;
    let (good, _) = ended(&flow, JobPlan::new()).await;
    let between = eventually("a later millisecond", || async {
        let (_, page) = flow.daemon.get("/v1/events?routed=false").await;
        let made = tidings::util::units::Time::parse(page["data"][0]["created_at"].as_str()?)?;
        Some(made.after(Duration::from_millis(1)))
    })
    .await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (bad, watch) = ended(&flow, JobPlan::new().ending(Ending::Failed)).await;
    assert_eq!(watch["deliveries"][0]["sink"], "app");
    assert_eq!(unrouted(&flow, "").await, [good.as_str()]);
    let count = async |body: Value| {
        let mut body = body;
        body["sink"] = "late".into();
        body["dry_run"] = true.into();
        let (status, answer) = deliver(&flow, body).await;
        assert_eq!(status, 202, "{answer}");
        answer["count"].as_u64().unwrap()
    };
    assert_eq!(
        count(json!({})).await,
        2,
        "an end goes to the sink that is named, whatever routes and `events` say"
    );
    assert_eq!(count(json!({"routed": false})).await, 1);
    assert_eq!(count(json!({"outcome": "failed"})).await, 1);
    assert_eq!(count(json!({"outcome": "lost"})).await, 0);
    assert_eq!(count(json!({"source": "other"})).await, 0);
    assert_eq!(count(json!({"since": between})).await, 1);
    assert_eq!(count(json!({"until": between})).await, 1);
    assert_eq!(count(json!({"event_ids": []})).await, 0);
    assert_eq!(count(json!({"event_ids": [watch["event_id"], watch["event_id"]]})).await, 1);
    let named = json!({"sink": "late", "event_ids": [watch["event_id"]]});
    assert_eq!(deliver(&flow, named.clone()).await, (202, delivered(1, 0)));
    new.at_least(1).await;
    assert_eq!(deliver(&flow, named).await, (202, delivered(0, 1)));
    assert_eq!(deliver(&flow, json!({"sink": "late"})).await.1["count"], 1);
    for job in [&good, &bad] {
        assert_eq!(flow.daemon.finished(job).await["phase"], "done");
    }
    assert_eq!(came(&new).into_values().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(came(&flow.receiver).len(), 1, "the other sink got nothing of it");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_refused_and_changes_nothing() {
    let flow = Flow::start(&[], |_| ()).await;
    let (_, watch) = ended(&flow, JobPlan::new()).await;
    let many: Vec<String> = (0..1001).map(|n| format!("evt_{n}")).collect();
    let (early, late) = ("2026-11-23T17:00:00Z", "2026-11-23T18:00:00Z");
    let table = [
        (json!({}), 422, "invalid_body"),
        (json!({"sink": "nobody"}), 422, "unknown_sink"),
        (json!({"sink": "callback"}), 422, "unknown_sink"),
        (json!({"sink": ""}), 422, "unknown_sink"),
        (json!({"sink": "app", "since": "yesterday"}), 422, "invalid_body"),
        (json!({"sink": "app", "until": 7}), 422, "invalid_body"),
        (json!({"sink": "app", "since": late, "until": early}), 422, "invalid_range"),
        (json!({"sink": "app", "since": early, "until": early}), 422, "invalid_range"),
        (json!({"sink": "app", "outcome": "perfect"}), 422, "invalid_body"),
        (json!({"sink": "app", "event": "evt_1"}), 422, "invalid_body"),
        (json!({"sink": "app", "event_ids": ["evt_1"], "outcome": "failed"}), 422, "conflicting_filters"),
        (json!({"sink": "app", "event_ids": [], "since": early}), 422, "conflicting_filters"),
        (json!({"sink": "app", "event_ids": [watch["event_id"], "evt_1"]}), 404, "event_not_found"),
        (json!({"sink": "app", "event_ids": many}), 422, "invalid_body"),
        (json!(["app"]), 422, "invalid_body"),
    ];
    for (body, status, code) in table {
        let (answered, problem) = deliver(&flow, body.clone()).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{body}: {problem}");
    }
    for (path, body, status, code) in [
        ("/v1/sinks/nobody/drop", json!({}), 404, "unknown_sink"),
        ("/v1/sinks/nobody/move", json!({"to": "app"}), 404, "unknown_sink"),
        ("/v1/sinks/app/move", json!({"to": "nobody"}), 422, "unknown_sink"),
        ("/v1/sinks/app/move", json!({"to": "callback"}), 422, "unknown_sink"),
        ("/v1/sinks/app/move", json!({"to": "app"}), 422, "same_sink"),
        ("/v1/sinks/app/move", json!({}), 422, "invalid_body"),
        ("/v1/deliveries/redeliver", json!({"since": late, "until": early}), 422, "invalid_range"),
    ] {
        let (answered, problem) = flow.daemon.post(path, &body).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{path} {body}: {problem}");
    }
    for (query, code) in [
        ("routed=maybe", "bad_parameter"),
        ("limit=0", "bad_parameter"),
        ("cursor=!", "bad_parameter"),
        ("since=x", "bad_parameter"),
        ("outcome=x", "bad_parameter"),
        ("state=x", "unknown_parameter"),
    ] {
        let (status, problem) = flow.daemon.get(&format!("/v1/events?routed=false&{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{query}: {problem}");
    }
    let request = http().get(format!("{}/v1/events?limit=5", flow.daemon.url));
    let answer = request.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(answer.status(), 400, "a stream has no pages");
    assert_eq!((flow.deliveries("").await.len(), flow.receiver.requests().len()), (1, 1));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_its_stored_job_is_not_delivered() {
    let flow = Flow::start(&[], |config| config.sinks.clear()).await;
    // A job of that size is a file of its own.
    let (_, gone) = ended(&flow, JobPlan::new().size(Size::kib(300))).await;
    let (kept, _) = ended(&flow, JobPlan::new()).await;
    let spool = flow.config.store.path.join("spool");
    let name = gone["event_id"].as_str().unwrap();
    for entry in std::fs::read_dir(&spool).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains(name) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let flow = flow.restart(|config| *config = std::mem::take(config).webhook("late", &url, 3)).await;
    let (status, problem) = deliver(&flow, json!({"sink": "late", "event_ids": [name]})).await;
    assert_eq!((status, &problem["code"]), (410, &json!("job_dropped")), "{problem}");
    assert_eq!(deliver(&flow, json!({"sink": "late"})).await.1["count"], 1);
    assert_eq!(flow.daemon.finished(&kept).await["phase"], "done");
    assert_eq!(receiver.requests().len(), 1);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_of_one_sink_is_dropped_alone() {
    let other = Receiver::start().await;
    let url = other.url();
    let flow = Flow::start(&[HumanDuration::secs(60)], |config| {
        config.sinks.insert("other".to_owned(), SinkConfig::Webhook(WebhookConfig::to(&url)));
    })
    .await;
    let (first, _) = ended(&flow, JobPlan::new()).await;
    flow.receiver.always(Reply::status(500));
    let waiting = flow.jobs(3).await;
    for job in &waiting {
        flow.daemon.until(job, "waits", |watch| watch["phase"] == "delivering").await;
    }
    other.at_least(4).await;
    eventually("only one sink waits", || async {
        (flow.deliveries("state=pending").await.len() == 3).then_some(())
    })
    .await;
    assert_eq!(flow.daemon.post("/v1/sinks/app/drop", &Value::Null).await, (200, json!({"count": 3})));
    assert_eq!(flow.daemon.post("/v1/sinks/app/drop", &Value::Null).await, (200, json!({"count": 0})));
    assert_eq!(flow.sink("app").await.unwrap()["pending"], 0);
    for job in &waiting {
        let watch = flow.daemon.finished(job).await;
        assert_eq!(watch["phase"], "done", "{watch}");
        assert_eq!(
            (watch["deliveries"].as_array().unwrap().len(), &watch["deliveries"][0]["sink"]),
            (1, &json!("other"))
        );
        assert_eq!(flow.daemon.get(&format!("/v1/watches/retab/{job}/job")).await.0, 200, "the job stays");
    }
    assert_eq!(flow.daemon.finished(&first).await["deliveries"].as_array().unwrap().len(), 2);
    // It was dropped, not delivered: it can still be.
    flow.receiver.always(Reply::status(204));
    assert_eq!(deliver(&flow, json!({"sink": "app"})).await.1["count"], 3);
    for job in &waiting {
        assert_eq!(flow.daemon.finished(job).await["deliveries"].as_array().unwrap().len(), 2);
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_sink_that_is_gone_is_dropped_or_moved() {
    let flow = Flow::start(&[], |_| ()).await;
    flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await;
    let jobs = flow.jobs(4).await;
    for job in &jobs {
        flow.daemon.until(job, "waits", |watch| watch["phase"] == "delivering").await;
    }
    let flow = flow.restart(|config| {
        let app = config.sinks.remove("app").unwrap();
        config.sinks.insert("renamed".to_owned(), app);
    });
    let flow = flow.await;
    assert_eq!(flow.sink("app").await.unwrap()["state"], "not_configured");
    let moved = flow.daemon.post("/v1/sinks/app/move", &json!({"to": "renamed"})).await;
    assert_eq!(moved, (200, json!({"count": 4, "existing": 0})));
    for job in &jobs {
        let watch = flow.daemon.finished(job).await;
        assert_eq!((&watch["phase"], &watch["deliveries"][0]["sink"]), (&json!("done"), &json!("renamed")));
        assert_eq!(came(&flow.receiver)[watch["event_id"].as_str().unwrap()], 1);
    }
    assert!(flow.sink("app").await.is_none(), "nothing waits for it any more");
    // Again there is nothing to do, and that is no mistake.
    let again = flow.daemon.post("/v1/sinks/app/move", &json!({"to": "renamed"})).await;
    assert_eq!(again, (200, json!({"count": 0, "existing": 0})));
    assert_eq!(flow.daemon.post("/v1/sinks/app/drop", &Value::Null).await, (200, json!({"count": 0})));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_deliveries_go_in_order_and_none_twice() {
    let other = Receiver::start().await;
    let url = other.url();
    let flow = Flow::start(&[HumanDuration::secs(60)], |config| {
        webhook(config, |app| app.ordered = true);
        let mut other = WebhookConfig::to(&url);
        other.ordered = true;
        other.events = vec!["job.failed".to_owned()];
        other.retry.schedule = Vec::new();
        config.sinks.insert("other".to_owned(), SinkConfig::Webhook(other));
    })
    .await;
    flow.daemon.post("/v1/sinks/app/pause", &Value::Null).await;
    // The other sink takes the first failure, and refuses that of another job for good.
    let failed = flow.mock.add_job(JobPlan::new().ending(Ending::Failed).lasting(Duration::ZERO));
    flow.daemon.watch(&failed).await;
    other.at_least(1).await;
    other.then([Reply::status(410)]);
    let dead = flow.mock.add_job(JobPlan::new().ending(Ending::Failed).lasting(Duration::ZERO));
    flow.daemon.watch(&dead).await;
    other.at_least(2).await;
    eventually("one is a dead letter", || async {
        (flow.deliveries("sink=other&state=dead").await.len() == 1).then_some(())
    })
    .await;
    // Each is retried in place, and completes.
    for job in [&failed, &dead] {
        let url = format!("{}/v1/jobs/{job}/retry", flow.mock.base_url());
        assert!(flow.daemon.http.post(url).send().await.unwrap().status().is_success());
        flow.daemon.watch(job).await;
        let is_told = |watch: &Value| watch["phase"] == "delivering" && watch["outcome"] == "completed";
        flow.daemon.until(job, "completes", is_told).await;
    }
    let done = flow.daemon.post("/v1/sinks/app/move", &json!({"to": "other"})).await;
    assert_eq!(done, (200, json!({"count": 3, "existing": 1})));
    for job in [&failed, &dead] {
        assert_eq!(flow.daemon.finished(job).await["phase"], "done");
        let told = other.requests().into_iter().filter(|told| told.json()["job_id"] == job.as_str());
        let types: Vec<String> = told.map(|told| told.json()["type"].as_str().unwrap().to_owned()).collect();
        let expected: &[&str] = match job == &failed {
            true => &["job.failed", "job.completed"],
            false => &["job.failed", "job.failed", "job.completed"],
        };
        assert_eq!(types, expected);
    }
    assert_eq!(flow.receiver.requests().len(), 0);
    assert_eq!(flow.sink("app").await.unwrap()["pending"], 0);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivery_is_chosen_by_job_and_source_and_can_be_tried_first() {
    let flow = Flow::start(&[], |_| ()).await;
    let (one, _) = ended(&flow, JobPlan::new()).await;
    let (two, _) = ended(&flow, JobPlan::new()).await;
    let post = async |body: Value| {
        let (status, answer) = flow.daemon.post("/v1/deliveries/redeliver", &body).await;
        assert_eq!(status, 202, "{answer}");
        answer["count"].as_u64().unwrap()
    };
    assert_eq!(post(json!({"state": "delivered", "dry_run": true})).await, 2);
    assert_eq!(post(json!({"state": "delivered", "source": "other"})).await, 0);
    assert_eq!(
        post(json!({"state": "delivered", "job_id": one, "source": "retab", "dry_run": true})).await,
        1
    );
    assert_eq!(flow.deliveries("state=delivered").await.len(), 2, "nothing was sent");
    assert_eq!(post(json!({"state": "delivered", "job_id": one, "source": "retab"})).await, 1);
    flow.receiver.at_least(3).await;
    flow.daemon.finished(&one).await;
    let of = |job: &str| flow.receiver.requests().iter().filter(|told| told.json()["job_id"] == job).count();
    assert_eq!((of(&one), of(&two)), (2, 1));
    flow.stop().await;
}

async fn post(url: &str, path: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
    let answer = http().post(format!("{url}{path}")).json(body).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// Registers jobs that end at once, and waits until they have.
async fn ended_many(process: &Process, mock: &Mock, prefix: &str, jobs: usize) -> Vec<String> {
    let ids: Vec<String> = (0..jobs)
        .map(|n| mock.add_job(JobPlan::new().id(format!("{prefix}_{n}")).lasting(Duration::ZERO)))
        .collect();
    let watches: Vec<Value> = ids.iter().map(|id| json!({"job_id": id})).collect();
    assert_eq!(post(&process.url, "/v1/watches/batch", &json!({"watches": watches})).await.unwrap().0, 200);
    for phase in ["watching", "fetching"] {
        eventually(&format!("none is {phase}"), || async {
            let url = format!("{}/v1/watches?phase={phase}&limit=1", process.url);
            let page: Value = http().get(url).send().await.ok()?.json().await.ok()?;
            page["data"].as_array()?.is_empty().then_some(())
        })
        .await;
    }
    ids
}

fn sink(name: &str, receiver: &Receiver) -> String {
    format!("[sinks.{name}]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url())
}

async fn run(folder: &Path, process: &Process, args: &[&str]) -> String {
    let output = once(folder, &[&["--url", &process.url], args].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", show(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_end_while_the_configuration_names_no_sink_are_delivered_once_it_does() {
    let receiver = Receiver::start().await;
    let home = Home::new(&sink("app", &receiver)).await;
    let process = home.run().await;
    // All sinks are lost: what looks like a mistake is refused, and can be meant.
    home.configure("");
    let refused = home.once(&["--url", &process.url, "reload"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with(
            "tidings: the daemon refused: the configuration has 1 mistake; the previous configuration stays "
        ),
        "{said}"
    );
    assert!(
        said.contains(" (invalid_configuration)\n\n  tidings.toml  `sinks` disappeared from the file"),
        "{said}"
    );
    home.configure("[sinks]\n");
    run(home.path(), &process, &["reload"]).await;
    let jobs = ended_many(&process, &home.mock, "job", 7).await;
    let warnings = process.log().lines().filter(|line| line.contains("event without a sink")).count();
    assert_eq!(warnings, 1, "not one an event: {}", process.log());
    assert!(process.log().contains("no api_key or api_key_file is configured"), "{}", process.log());
    assert_eq!(metric(&process.url, r#"tidings_unrouted_events_total{source="retab"}"#).await, "7");
    let listed = run(home.path(), &process, &["events", "--unrouted"]).await;
    assert!(jobs.iter().all(|job| listed.contains(job.as_str())), "{listed}");
    home.configure(&sink("app", &receiver));
    run(home.path(), &process, &["reload"]).await;
    let args = ["deliver", "--sink", "app", "--unrouted", "--since", "1h"];
    let tried = run(home.path(), &process, &[&args[..], &["--dry-run"]].concat()).await;
    assert_eq!(tried, "would deliver 7 events to app\n");
    assert_eq!(run(home.path(), &process, &args).await, "delivering 7 events to app\n");
    let told = receiver.at_least(7).await;
    let mut told: Vec<String> =
        told.iter().map(|one| one.json()["job_id"].as_str().unwrap().to_owned()).collect();
    told.sort();
    assert_eq!(told, jobs);
    assert_eq!(run(home.path(), &process, &args).await, "delivering 0 events to app\n");
    assert_eq!(process.terminate().await.0, Some(0));
}

/// Makes the data folder of a daemon with so many jobs that ended and went to no sink: one, exported, and that many times
/// imported. Returns the ids of the jobs.
async fn many_ended(folder: &Path, mock: &Mock, jobs: u64) -> Vec<String> {
    write_config(folder, &mock.base_url(), "");
    let process = Process::run(folder, &["--data-dir", "one"]).await;
    ended_many(&process, mock, "job", 1).await;
    assert_eq!(process.terminate().await.0, Some(0));
    let exported = once(folder, &["store", "export", "-", "--data-dir", "one"]).await;
    let lines = exported.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let many = multiplied(&lines, jobs);
    std::fs::write(folder.join("many.jsonl"), many).unwrap();
    let imported = once(folder, &["store", "import", "many.jsonl"]).await;
    assert_eq!(imported.status.code(), Some(0), "{}", show(&imported));
    let check = once(folder, &["store", "check", "--hashes"]).await;
    assert_eq!(check.status.code(), Some(0), "{}", show(&check));
    (0..jobs).map(|n| format!("job_{n}")).collect()
}

/// An export with so many copies of the one job that another export has.
fn multiplied(lines: &[Value], jobs: u64) -> Vec<u8> {
    let (watch, event) = (|n: u64| 1000 + 2 * n, |n: u64| 1001 + 2 * n);
    let (mut text, mut records) = (Vec::new(), 0);
    let mut write = |line: &Value| text.extend_from_slice(format!("{line}\n").as_bytes());
    for line in lines.iter().filter(|line| line["end"].is_null()) {
        let of_kind = ["record", "bytes"].into_iter().find(|kind| line[kind].is_object());
        records += usize::from(of_kind.is_some());
        let key = of_kind.map_or("", |kind| line[kind]["key"].as_str().unwrap());
        let copies = matches!(key.get(..2), Some("w:" | "e:" | "i:" | "r:"));
        if copies {
            records += usize::try_from(jobs).unwrap() - 1;
        }
        match key.get(..2) {
            _ if key == "m:6e657874" => {
                let next = data_encoding::BASE64.encode(&watch(jobs).to_be_bytes());
                write(&json!({"bytes": {"key": key, "base64": next}}));
            }
            Some("w:" | "e:") => (0..jobs).for_each(|n| {
                let mut line = line.clone();
                let number = if key.starts_with("w:") { watch(n) } else { event(n) };
                line["record"]["key"] = format!("{}{number:016x}", &key[..2]).into();
                let record = &mut line["record"]["json"];
                record["job_id"] = format!("job_{n}").into();
                record["end"]["event_id"] = format!("evt_{n}").into();
                match key.starts_with("w:") {
                    true => record["events"] = json!([event(n)]),
                    false => record["watch"] = watch(n).into(),
                }
                write(&line);
            }),
            Some("i:") => (0..jobs).for_each(|n| {
                let id = data_encoding::HEXLOWER.encode(format!("retab\0job_{n}").as_bytes());
                let number = [b"+".as_slice(), &watch(n).to_be_bytes()].concat();
                let number = data_encoding::BASE64.encode(&number);
                write(&json!({"bytes": {"key": format!("i:{id}"), "base64": number}}));
            }),
            Some("r:") => (0..jobs).for_each(|n| {
                write(&json!({"bytes": {"key": format!("{}{:016x}", &key[..18], watch(n)), "base64": ""}}));
            }),
            _ if line["job"].is_null() && line["data"].is_null() => write(line),
            _ => {}
        }
    }
    let body = lines.iter().position(|line| line["job"].is_object()).unwrap();
    for n in 0..jobs {
        let file = format!("{:016x}-evt_{n}.json", watch(n));
        write(&json!({"job": {"file": file, "size": lines[body]["job"]["size"]}}));
        lines[body + 1..].iter().take_while(|line| line["data"].is_string()).for_each(&mut write);
    }
    let sha256 = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(&text));
    text.extend_from_slice(
        format!("{}\n", json!({"end": {"records": records, "jobs": jobs, "sha256": sha256}})).as_bytes(),
    );
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_in_the_middle_is_repeated_without_loss_or_double() {
    const JOBS: u64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let jobs = many_ended(folder.path(), &mock, JOBS).await;
    write_config(folder.path(), &mock.base_url(), &sink("late", &receiver));
    let pending = async |url: &str| -> Option<u64> {
        let page: Value = http().get(format!("{url}/v1/sinks")).send().await.ok()?.json().await.ok()?;
        page["data"].as_array()?.iter().find(|sink| sink["name"] == "late")?["pending"].as_u64()
    };
    let mut process = Process::run(folder.path(), &[]).await;
    // Nothing goes out, so that what is pending is what was made.
    post(&process.url, "/v1/sinks/late/pause", &json!({})).await.unwrap();
    let mut in_the_middle = 0;
    for _ in 0..5 {
        let url = process.url.clone();
        let asked =
            tokio::spawn(async move { post(&url, "/v1/deliveries/deliver", &json!({"sink": "late"})).await });
        eventually("the first are made", || async { pending(&process.url).await.filter(|made| *made > 0) })
            .await;
        process.kill().await;
        let answered = asked.await.unwrap().is_ok();
        process = Process::run(folder.path(), &[]).await;
        let made = pending(&process.url).await.unwrap();
        assert!(made > 0 && made <= JOBS, "{made} of {JOBS}");
        assert!(!answered || made == JOBS, "what was answered is on disk: {made}");
        if made < JOBS {
            in_the_middle += 1;
            break;
        }
        // It was faster than the kill: once more.
        post(&process.url, "/v1/sinks/late/drop", &json!({})).await.unwrap();
    }
    assert!(in_the_middle > 0, "no kill came in the middle");
    let made = pending(&process.url).await.unwrap();
    let (status, answer) =
        post(&process.url, "/v1/deliveries/deliver", &json!({"sink": "late"})).await.unwrap();
    assert_eq!((status, answer["count"].as_u64().unwrap()), (202, JOBS - made));
    assert_eq!(pending(&process.url).await, Some(JOBS));
    post(&process.url, "/v1/sinks/late/resume", &json!({})).await.unwrap();
    eventually("nothing is pending", || async { pending(&process.url).await.filter(|left| *left == 0) })
        .await;
    let mut told: Vec<String> =
        receiver.requests().iter().map(|one| one.json()["job_id"].as_str().unwrap().to_owned()).collect();
    told.sort();
    let mut jobs = jobs;
    jobs.sort();
    assert!(told == jobs, "{} requests for {} jobs", told.len(), jobs.len());
    assert_eq!(process.terminate().await.0, Some(0));
    let check = once(folder.path(), &["store", "check", "--hashes"]).await;
    assert_eq!(check.status.code(), Some(0), "{}", show(&check));
}
