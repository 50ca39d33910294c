//! A group of watches: one event when it is closed and all of it has ended, exactly once, whatever happens in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tidings::{
    deliver::Format,
    mock::{Ending, JobPlan},
    util::units::HumanDuration,
};

use crate::harness::{
    Api, Flow, Process, Receiver, Request, Setup, Sinks as _, eventually, http, mock, once, segment, show,
    write_config,
};

/// Registers jobs as members of a group.
async fn join(api: &Api, group: &str, jobs: &[String], close: bool) -> Value {
    let watches: Vec<Value> = jobs.iter().map(|job| json!({"job_id": job, "group": group})).collect();
    let (status, answer) =
        api.post("/v1/watches/batch", &json!({"watches": watches, "close_group": close})).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn group(api: &Api, name: &str) -> Value {
    let (status, group) = api.get(&format!("/v1/groups/{}", segment(name))).await;
    assert_eq!(status, 200, "{group}");
    group
}

async fn finished(api: &Api, name: &str) -> Value {
    eventually(&format!("group {name} finishes"), || async {
        let group = group(api, name).await;
        (group["state"] == "finished").then_some(group)
    })
    .await
}

/// What came of groups.
fn of_groups(receiver: &Receiver) -> Vec<Request> {
    let requests = receiver.requests().into_iter();
    requests.filter(|request| request.json()["type"] == "group.finished").collect()
}

async fn told(receiver: &Receiver) -> Request {
    eventually("the event of the group arrives", || async { of_groups(receiver).pop() }).await
}

/// With the sink `app` for events of groups alone, and `jobs` with the default `events`.
async fn flow() -> (Flow, Receiver) {
    let jobs = Receiver::start().await;
    let url = jobs.url();
    let setup = Setup::new().await.app(|app| app.events = vec!["group.*".to_owned()]);
    (setup.change(|config| *config = std::mem::take(config).webhook("jobs", &url, 3)).start().await, jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_tells_once_how_all_of_it_ended() {
    let (flow, jobs) = flow().await;
    let quick = |ending| JobPlan::new().lasting(Duration::from_millis(30)).ending(ending);
    let good = flow.mock.add_job(quick(Ending::Completed));
    let bad = flow.mock.add_job(quick(Ending::Failed));
    let slow = flow.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    let name = "nightly/2026 ü";
    let answer = join(&flow.daemon, name, &[good.clone(), bad.clone(), slow.clone()], false).await;
    assert_eq!((&answer["accepted"], &answer["closed_groups"]), (&json!(3), &Value::Null));
    flow.done(&good).await;
    flow.done(&bad).await;
    let open = group(&flow.daemon, name).await;
    assert_eq!((&open["state"], &open["jobs"], &open["open"]), (&json!("open"), &json!(3), &json!(1)));
    assert_eq!(open["event_id"], Value::Null);

    let close = format!("/v1/groups/{}/close", segment(name));
    let (status, closed) = flow.daemon.post(&close, &json!({})).await;
    assert_eq!((status, &closed["state"], &closed["closed"]), (202, &json!("closed"), &json!(true)));
    let (status, again) = flow.daemon.post(&close, &json!({})).await;
    assert_eq!((status, &again["event_id"]), (200, &closed["event_id"]));
    let (status, problem) = flow.daemon.post("/v1/watches", &json!({"job_id": "new", "group": name})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("group_closed")));
    let (status, problem) = flow.daemon.post("/v1/watches", &json!({"job_id": slow, "group": "x"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("group_conflict")));
    let (status, _) = flow.daemon.post("/v1/watches", &json!({"job_id": slow, "group": name})).await;
    assert_eq!(status, 200, "a member may come again");
    assert!(of_groups(&flow.receiver).is_empty());
    flow.daemon.forget(&slow).await;

    let request = told(&flow.receiver).await;
    let ended = finished(&flow.daemon, name).await;
    let told = request.json();
    assert_eq!(request.header("webhook-id"), ended["event_id"]);
    assert_eq!((&told["id"], &told["group"]), (&closed["event_id"], &json!(name)));
    assert_eq!((told.get("job_id"), told.get("source")), (None, None), "it is about no job");
    let counts = json!({"completed": 1, "failed": 1, "cancelled": 0, "expired": 0, "lost": 0, "removed": 1});
    assert_eq!((&told["data"]["group"], &told["data"]["counts"]), (&json!(name), &counts));
    let outcomes: BTreeMap<&str, &Value> = told["data"]["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["job_id"].as_str().unwrap(), job))
        .collect();
    assert_eq!(outcomes.len(), 3);
    for (job, outcome) in [(&good, "completed"), (&bad, "failed"), (&slow, "removed")] {
        let found = outcomes[job.as_str()];
        assert_eq!((&found["outcome"], &found["source"]), (&json!(outcome), &json!("retab")));
        assert_eq!(found["event_id"].is_null(), outcome == "removed", "{found}");
    }
    assert_eq!(ended["counts"], counts);
    assert_eq!(ended["deliveries"].as_array().unwrap().len(), 1, "only to the sink that asks for it");
    assert!(of_groups(&jobs).is_empty());

    // What is said of it elsewhere.
    let (_, members) = flow.daemon.get(&format!("/v1/groups/{}/jobs?limit=2", segment(name))).await;
    let cursor = members["next_cursor"].as_str().unwrap();
    let (_, rest) =
        flow.daemon.get(&format!("/v1/groups/{}/jobs?limit=2&cursor={cursor}", segment(name))).await;
    let listed = [members["data"].as_array().unwrap().as_slice(), rest["data"].as_array().unwrap()].concat();
    assert_eq!(json!(listed), told["data"]["jobs"]);
    let (_, watches) = flow.daemon.get(&format!("/v1/watches?group={}", segment(name))).await;
    let watched: BTreeSet<&str> =
        watches["data"].as_array().unwrap().iter().map(|watch| watch["job_id"].as_str().unwrap()).collect();
    assert_eq!(watched, BTreeSet::from([good.as_str(), bad.as_str()]));
    let (_, groups) = flow.daemon.get("/v1/groups").await;
    assert_eq!(groups["data"][0]["name"], name);
    assert_eq!(flow.daemon.get("/v1/groups/nobody").await.0, 404);
    assert_eq!(flow.daemon.post("/v1/groups/nobody/close", &json!({})).await.0, 404);
    // Readers of the events of jobs see nothing new; those who ask do.
    let (_, events) = flow.daemon.get("/v1/events?limit=1000").await;
    assert!(events["data"].as_array().unwrap().iter().all(|event| event["job_id"].is_string()));
    let (_, events) = flow.daemon.get("/v1/events?types=group.*&limit=10").await;
    assert_eq!(events["data"].as_array().unwrap().len(), 1);
    assert_eq!((&events["data"][0]["group"], &events["data"][0]["id"]), (&json!(name), &closed["event_id"]));
    assert_eq!(flow.daemon.get("/v1/events?types=grup.*&limit=10").await.0, 400);
    // Sent again, and to another sink, which has to ask for it.
    let id = ended["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(flow.daemon.post(&format!("/v1/deliveries/{id}/redeliver"), &json!({})).await.0, 202);
    eventually("it comes again", || async { (of_groups(&flow.receiver).len() == 2).then_some(()) }).await;
    let named = json!({"sink": "jobs", "event_ids": [closed["event_id"]]});
    let (status, problem) = flow.daemon.post("/v1/deliveries/deliver", &named).await;
    assert_eq!((status, &problem["code"]), (422, &json!("event_not_taken")));
    let flow = flow.restart(|_| {}).await;
    assert_eq!(group(&flow.daemon, name).await["event_id"], closed["event_id"]);
    assert_eq!(of_groups(&flow.receiver).len(), 2, "a restart tells nothing again");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_closes_its_group_and_a_retry_in_place_is_waited_for() {
    let (flow, _jobs) = flow().await;
    let plan = || JobPlan::new().lasting(Duration::from_millis(20));
    let job = flow.mock.add_job(plan().ending(Ending::Failed));
    let last = flow.mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    // With an entry that is refused the group stays open.
    let entries = json!([{"job_id": job, "group": "g"}, {"job_id": "", "group": "g"}]);
    let body = json!({"watches": entries, "close_group": true});
    let (_, answer) = flow.daemon.post("/v1/watches/batch", &body).await;
    assert_eq!((answer["rejected"].as_array().unwrap().len(), answer.get("closed_groups")), (1, None));
    let (status, problem) = flow
        .daemon
        .post("/v1/watches/batch", &json!({"watches": [{"job_id": "x"}], "close_group": true}))
        .await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_body")), "no group to close");
    let answer = join(&flow.daemon, "g", &[job.clone(), last.clone()], true).await;
    assert_eq!(answer["closed_groups"], json!(["g"]));
    flow.done(&job).await;
    assert_eq!(group(&flow.daemon, "g").await["counts"]["failed"], 1);
    // Watched again before the event, it is open again.
    let url = format!("{}/v1/jobs/{job}/retry", flow.mock.base_url());
    assert!(http().post(url).send().await.unwrap().status().is_success());
    flow.daemon.register(&json!({"job_id": job})).await;
    assert_eq!(group(&flow.daemon, "g").await["open"], 2);
    flow.done(&job).await;
    flow.daemon.forget(&last).await;
    let data = told(&flow.receiver).await.json()["data"].clone();
    assert_eq!(data["counts"]["removed"], 1);
    assert_eq!(data["jobs"].as_array().unwrap().len(), 2);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_ten_thousand_jobs_come_by_link() {
    const JOBS: usize = 10_001;
    let flow = Setup::new()
        .await
        .app(|app| {
            app.events = vec!["*".to_owned()];
            app.format = Format::CloudEvents;
        })
        // Nobody polls them: what is counted here is their removal.
        .retab(|retab| {
            retab.polling.min_interval = HumanDuration::secs(3600);
            retab.polling.max_interval = Some(HumanDuration::secs(3600));
            retab.max_requests_per_second = 0.1;
        })
        .start()
        .await;
    let jobs: Vec<String> = (0..JOBS).map(|n| format!("job_{n:05}")).collect();
    join(&flow.daemon, "big", &jobs[..5000], false).await;
    join(&flow.daemon, "big", &jobs[5000..], true).await;
    let api = &flow.daemon.api;
    stream::iter(&jobs).for_each_concurrent(64, |job| async move { api.forget(job).await }).await;
    let ended = finished(&flow.daemon, "big").await;
    assert_eq!((&ended["jobs"], &ended["counts"]["removed"]), (&json!(JOBS), &json!(JOBS)));
    let request = flow.receiver.at_least(1).await.remove(0).json();
    assert_eq!(request["type"], "dev.tidings.group.finished");
    assert_eq!((&request["source"], &request["subject"]), (&json!("/tidings"), &json!("big")));
    assert_eq!(request["data"]["jobs"], Value::Null);
    let url = request["data"]["jobs_url"].as_str().unwrap().to_owned();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = flow.daemon.get(&format!("{url}?limit=1000{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let data = page["data"].as_array().unwrap();
        found.extend(data.iter().map(|job| job["job_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, jobs);
    flow.stop().await;
}

/// Kills a loop of daemons around the last ends of groups.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_finishes_exactly_once_however_often_the_daemon_is_killed() {
    const ROUNDS: usize = 12;
    let seed =
        std::env::var("TIDINGS_TEST_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("repeat with TIDINGS_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let sinks = format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nevents = [\"group.*\"]\n\
         retry = {{ schedule = [\"30ms\", \"30ms\", \"1m\"], jitter = 0.0 }}\n",
        receiver.url()
    );
    write_config(folder.path(), &mock.base_url(), &sinks);
    let mut accepted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let process = Process::start(folder.path(), &[]).await;
        let name = format!("round {round}");
        let plans = (0..rng.random_range(1..5)).map(|_| {
            let lasting = Duration::from_millis(rng.random_range(0..250));
            JobPlan::new().lasting(lasting).ending(if rng.random() {
                Ending::Failed
            } else {
                Ending::Completed
            })
        });
        let plans: Vec<JobPlan> = plans.collect();
        let jobs: Vec<String> = plans.into_iter().map(|plan| mock.add_job(plan)).collect();
        join(&process.api, &name, &jobs, true).await;
        accepted.insert(name, jobs.into_iter().collect());
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
        let log = process.kill().await;
        assert!(!log.contains("panic") && !log.contains("ERROR"), "round {round}: {log}");
    }
    let process = Process::run(folder.path(), &[]).await;
    let mut ids = BTreeMap::new();
    for (name, jobs) in &accepted {
        let group = finished(&process.api, name).await;
        assert_eq!((&group["jobs"], &group["open"]), (&json!(jobs.len()), &json!(0)));
        ids.insert(name.clone(), group["event_id"].as_str().unwrap().to_owned());
    }
    eventually("every event of a group arrives", || async {
        let came: BTreeSet<String> =
            of_groups(&receiver).iter().map(|one| one.json()["group"].as_str().unwrap().to_owned()).collect();
        (came.len() == ids.len()).then_some(())
    })
    .await;
    for request in of_groups(&receiver) {
        let told = request.json();
        let name = told["group"].as_str().unwrap();
        assert_eq!(told["id"], ids[name].as_str(), "{name} has one event, however often it comes");
        let jobs = told["data"]["jobs"].as_array().unwrap();
        let named: BTreeSet<String> =
            jobs.iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(named, accepted[name]);
        for job in jobs {
            let watch = format!("/v1/watches/retab/{}", job["job_id"].as_str().unwrap());
            let (_, watch) = process.get(&watch).await;
            assert_eq!((&watch["event_id"], &watch["outcome"]), (&job["event_id"], &job["outcome"]));
        }
    }
    let (_, events) = process.get("/v1/events?types=group.*&limit=1000").await;
    assert_eq!(events["data"].as_array().unwrap().len(), ids.len());
    assert_eq!(process.terminate().await.0, Some(0));
    let sound = once(folder.path(), &["store", "check", "--hashes"]).await;
    assert_eq!(sound.status.code(), Some(0), "{}", show(&sound));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_close_and_show_a_group() {
    let (flow, _jobs) = flow().await;
    let jobs = [flow.mock.add_job(JobPlan::new()), flow.mock.add_job(JobPlan::new())];
    let (folder, url) = (flow.path(), flow.daemon.url.as_str());
    let run = async |args: &[&str]| {
        let output = once(folder, &[&["--url", url], args].concat()).await;
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, out) = run(&["watch", &jobs[0], &jobs[1], "--group", "g", "--close-group"]).await;
    assert_eq!((status, out.as_str()), (Some(0), "2 accepted, 0 existing\n"));
    assert_eq!(run(&["watch", "other", "--group", "g"]).await.0, Some(1));
    told(&flow.receiver).await;
    let (_, out) = run(&["group", "get", "g"]).await;
    assert!(out.contains("finished") && out.contains("2 completed") && out.contains("app"), "{out}");
    let (_, out) = run(&["group", "get", "g", "--jobs", "-o", "json"]).await;
    let page: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    let (_, out) = run(&["group", "list"]).await;
    assert!(out.lines().any(|line| line.starts_with("g ") && line.contains("finished")), "{out}");
    let (status, out) = run(&["group", "close", "g"]).await;
    assert_eq!((status, out.as_str()), (Some(0), "g was closed already: 2 jobs, 0 open\n"));
    let (_, out) = run(&["list", "--group", "g", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["data"].as_array().unwrap().len(), 2);
    assert_eq!(run(&["group", "get", "nobody"]).await.0, Some(1));
    flow.stop().await;
}
