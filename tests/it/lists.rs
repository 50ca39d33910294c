//! Lists: jobs that nobody registered are discovered and recovered, and pages answer polls.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tidings::{
    deliver::Format,
    mock::{Ending, JobPlan, Kind},
    schedule::{ListPolling, Strategy},
    upstream::{DiscoverConfig, ListNext, Since, SourceConfig},
    util::units::HumanDuration,
};

use crate::{
    harness::{Answer, Flow, Process, Receiver, Setup, Site, eventually, mock, once, show},
    sources::{custom, flow_of},
};

const LONG: Duration = Duration::from_hours(1);

fn discover() -> DiscoverConfig {
    DiscoverConfig { every: HumanDuration::millis(50), ..DiscoverConfig::default() }
}

/// A source with a list at `/tasks?limit=2`, whose pages are linked by the last id.
fn listed(site: &Site) -> SourceConfig {
    SourceConfig {
        list_path: Some("/tasks?limit=2".to_owned()),
        list_at: Some("/items".to_owned()),
        list_id_at: Some("/id".to_owned()),
        list_next: Some(ListNext {
            last_id: true,
            param: Some("after".to_owned()),
            more_at: Some("/more".to_owned()),
            ..ListNext::default()
        }),
        created_at: Some(vec!["/made".to_owned()]),
        ended_at: Some(vec!["/over".to_owned()]),
        ..custom(site)
    }
}

fn ago(seconds: u64) -> String {
    tidings::util::clock::now().before(Duration::from_secs(seconds)).to_string()
}

fn item(id: &str, state: &str, made: u64) -> Value {
    json!({"id": id, "state": state, "made": ago(made), "payload": "x".repeat(1000)})
}

fn page(items: &[Value], more: bool) -> String {
    json!({"items": items, "more": more}).to_string()
}

/// Lets a job of the site be done.
fn done(site: &Site, id: &str) {
    site.json(&format!("/tasks/{id}"), r#"{"state":"done"}"#);
}

/// The ids of all watches.
async fn watched(flow: &Flow) -> BTreeSet<String> {
    let (_, page) = flow.daemon.get("/v1/watches?limit=1000").await;
    let ids =
        page["data"].as_array().unwrap().iter().map(|watch| watch["job_id"].as_str().unwrap().to_owned());
    ids.collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Waits until the list was read so many more times.
async fn rounds(site: &Site, target: &str, more: usize) {
    let before = site.requests(target).len();
    eventually("the list is read again", || async {
        (site.requests(target).len() >= before + more).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_nobody_watched_is_recovered_and_nothing_else() {
    let flow = Flow::quick(|_| {}).await;
    let seen = flow.job().await;
    flow.done(&seen).await;
    let missed: Vec<String> = (0..120).map(|_| flow.mock.add_job(JobPlan::new())).collect();
    let failed = flow.mock.add_job(JobPlan::new().ending(Ending::Failed));
    let running = flow.mock.add_job(JobPlan::new().lasting(LONG));
    eventually("all have finished", || async {
        missed
            .iter()
            .chain([&failed])
            .all(|id| {
                flow.mock.status(id).is_some_and(|s| s != "queued" && s != "in_progress" && s != "validating")
            })
            .then_some(())
    })
    .await;
    let path = "/v1/sources/retab/reconcile";
    assert_eq!(flow.daemon.get(path).await.1["code"], "no_reconciliation");
    let reconcile = async |body: Value| {
        let (status, begun) = flow.daemon.post(path, &body).await;
        assert_eq!((status, &begun["done"]), (202, &json!(false)), "{begun}");
        eventually("it is done", || async {
            let (_, state) = flow.daemon.get(path).await;
            state["done"].as_bool().unwrap().then_some(state)
        })
        .await
    };
    let dry = reconcile(json!({"since": "7d", "dry_run": true})).await;
    for (key, count) in [("checked", 123), ("known", 1), ("running", 1), ("recovered", 121)] {
        assert_eq!(dry[key], json!(count), "{key}: {dry}");
    }
    assert_eq!((&dry["dry_run"], &dry["error"], &dry["pages"]), (&json!(true), &Value::Null, &json!(2)));
    assert_eq!(watched(&flow).await, set(&[&seen]), "a dry run registers nothing");
    let real = reconcile(json!({"since": "1h"})).await;
    assert_eq!(real["recovered"], 121, "{real}");
    for id in &missed {
        flow.done(id).await;
    }
    assert_eq!(flow.done(&failed).await["outcome"], "failed");
    assert!(!watched(&flow).await.contains(&running), "a job that goes on is not what was missed");
    let again = reconcile(json!({})).await;
    assert_eq!((&again["known"], &again["recovered"]), (&json!(122), &json!(0)), "{again}");
    let sent = flow.receiver.requests().len();
    assert_eq!(sent, 122, "each is told once");
    let source = flow.source().await;
    assert_eq!((&source["list"]["discovered"], &source["list"]["last_page_jobs"]), (&json!(121), &json!(23)));
    for (body, status, code) in [
        (json!({"since": "soon"}), 422, "invalid_body"),
        (json!({"since": "2999-01-01T00:00:00Z"}), 422, "invalid_body"),
        (json!({"before": "1h"}), 422, "invalid_body"),
        (json!({"kind": "nothing"}), 422, "unknown_kind"),
    ] {
        let (answered, problem) = flow.daemon.post(path, &body).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    assert_eq!(flow.daemon.post("/v1/sources/nobody/reconcile", &json!({})).await.0, 404);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reconciliation_runs_at_a_time_and_a_list_that_fails_is_named() {
    let site = Site::start().await;
    let flow = flow_of(listed(&site), Format::Raw).await;
    site.answer("/tasks?limit=2", 200, "text/html", "<html>");
    let path = "/v1/sources/jobs/reconcile";
    assert_eq!(flow.daemon.post(path, &json!({})).await.0, 202);
    let (status, problem) = flow.daemon.post(path, &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("reconcile_running")), "{problem}");
    eventually("it tells what fails while it goes on", || async {
        let (_, state) = flow.daemon.get(path).await;
        (state["done"] == false && state["error"].is_string()).then_some(())
    })
    .await;
    let state = eventually("it gives up", || async {
        let (_, state) = flow.daemon.get(path).await;
        state["done"].as_bool().unwrap().then_some(state)
    })
    .await;
    assert!(state["error"].as_str().unwrap().contains("HTML page"), "{state}");
    assert!(flow.source().await["last_error"].as_str().unwrap().contains("list: "));
    assert_eq!(flow.source().await["state"], "ok", "a list says nothing about the jobs");
    flow.stop().await;

    let flow = flow_of(custom(&site), Format::Raw).await;
    let (status, problem) = flow.daemon.post(path, &json!({})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("no_list")), "{problem}");
    for key in ["list_path", "list_at", "list_id_at"] {
        assert!(problem["detail"].as_str().unwrap().contains(key), "{problem}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_in_a_circle_under_ever_new_cursors_is_an_error() {
    let site = Site::start().await;
    let next =
        ListNext { cursor_at: Some("/next".to_owned()), param: Some("c".to_owned()), ..ListNext::default() };
    let source = SourceConfig {
        list_path: Some("/tasks".to_owned()),
        list_next: Some(next),
        discover: Some(discover()),
        ..listed(&site)
    };
    for (round, pages) in [(0, vec![vec!["a"], vec!["b"]]), (1, vec![vec!["c", "d", "e"], vec!["f"], vec![]])]
    {
        let target = |page: usize| match page {
            0 => "/tasks".to_owned(),
            page => format!("/tasks?c={round}{page}"),
        };
        let shown = pages.iter().cycle().enumerate().take(200);
        for (at, ids) in shown {
            let items: Vec<Value> = ids.iter().map(|id| item(id, "busy", 0)).collect();
            let text = json!({"items": items, "next": format!("{round}{}", at + 1)});
            site.json(&target(at), &text.to_string());
        }
        let flow = flow_of(source.clone(), Format::Raw).await;
        eventually("the discovery tells it", || async {
            let source = flow.source().await;
            let told = source["list"]["last_error"].as_str()?.to_owned();
            told.contains("the list goes in a circle: page 4 repeats").then_some(())
        })
        .await;
        let path = "/v1/sources/jobs/reconcile";
        assert_eq!(flow.daemon.post(path, &json!({"dry_run": true})).await.0, 202);
        eventually("the reconciliation tells it", || async {
            let (_, state) = flow.daemon.get(path).await;
            let told = state["error"].as_str()?.to_owned();
            told.contains("circle").then_some(())
        })
        .await;
        assert!(site.requests(&target(4)).is_empty(), "no page is read behind the one that repeats");
        flow.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_two_pages_counts_once_in_a_dry_run_as_in_a_real_one() {
    let site = Site::start().await;
    let flow = flow_of(listed(&site), Format::Raw).await;
    let first = "/tasks?limit=2";
    for id in ["a", "b", "c"] {
        done(&site, id);
    }
    // The list moves while it is read: `b` is on two pages, `r` too, and `c` ends meanwhile.
    site.json(first, &page(&[item("r", "busy", 1), item("a", "done", 2), item("b", "done", 3)], true));
    site.json(
        "/tasks?limit=2&after=b",
        &page(&[item("r", "busy", 1), item("b", "done", 3), item("c", "busy", 4)], true),
    );
    site.json("/tasks?limit=2&after=c", &page(&[item("c", "done", 4), item("c", "done", 4)], false));
    let path = "/v1/sources/jobs/reconcile";
    for (dry_run, known) in [(true, 0_usize), (false, 0), (true, 3)] {
        let body = json!({"since": "1h", "dry_run": dry_run});
        assert_eq!(flow.daemon.post(path, &body).await.0, 202);
        let state = eventually("it is done", || async {
            let (_, state) = flow.daemon.get(path).await;
            state["done"].as_bool().unwrap().then_some(state)
        })
        .await;
        assert_eq!(state["error"], Value::Null, "{state}");
        for (key, count) in [("checked", 4), ("known", known), ("running", 1), ("recovered", 3 - known)] {
            assert_eq!(state[key], json!(count), "{key}: {state}");
        }
        assert_eq!(watched(&flow).await.len(), if dry_run { known } else { 3 });
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_is_watched_and_a_finished_or_removed_watch_is_not_watched_again() {
    let site = Site::start().await;
    let first = "/tasks?limit=2";
    site.json(first, &page(&[item("old", "done", 3600)], false));
    let labels = [("from".to_owned(), "list".to_owned())].into();
    let mut source =
        SourceConfig { discover: Some(DiscoverConfig { labels, ..discover() }), ..listed(&site) };
    let flow = flow_of(source.clone(), Format::Raw).await;
    rounds(&site, first, 2).await;
    assert!(watched(&flow).await.is_empty(), "what was there before the start is not what appears");
    for id in ["a", "b", "gone"] {
        done(&site, id);
    }
    // A job slips in front between the two pages, another one is on both of them, a third was made before and ends now.
    let late = json!({"id": "late", "state": "done", "made": ago(7200), "over": ago(0)});
    done(&site, "late");
    site.json(first, &page(&[item("gone", "busy", 0), item("b", "busy", 0)], true));
    site.json("/tasks?limit=2&after=b", &page(&[item("b", "busy", 0), item("a", "busy", 0), late], false));
    let watch = flow.done("a").await;
    assert_eq!(watch["labels"], json!({"from": "list"}));
    for id in ["b", "gone", "late"] {
        flow.done(id).await;
    }
    let url = format!("{}/v1/watches/jobs/gone", flow.daemon.url);
    assert_eq!(flow.daemon.http.delete(url).send().await.unwrap().status(), 204);
    rounds(&site, first, 3).await;
    assert_eq!(
        watched(&flow).await,
        set(&["a", "b", "late"]),
        "the list still shows the one that was removed"
    );
    // The mark is on the disk: after a restart nothing is new, and what appeared meanwhile is.
    let flow = flow.down().await.start().await;
    done(&site, "meanwhile");
    site.json(first, &page(&[item("meanwhile", "busy", 0), item("gone", "busy", 0)], true));
    flow.done("meanwhile").await;
    rounds(&site, first, 2).await;
    assert_eq!(watched(&flow).await, set(&["a", "b", "late", "meanwhile"]));
    assert_eq!(flow.receiver.requests().len(), 5, "each was told once");
    // Another `since` begins from the start.
    let before = Some(DiscoverConfig { since: Since::Before(HumanDuration::secs(7200)), ..discover() });
    source.discover = before;
    done(&site, "old");
    site.json(first, &page(&[item("old", "done", 3600)], false));
    let flow = flow.restart(|config| drop(config.sources.insert("jobs".to_owned(), source))).await;
    flow.done("old").await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_none_costs_no_job_and_stops_no_poll() {
    let site = Site::start().await;
    let first = "/tasks?limit=2";
    let second = "/tasks?limit=2&after=x";
    let source = SourceConfig { discover: Some(discover()), ..listed(&site) };
    let flow = flow_of(source, Format::Raw).await;
    let good = page(&[item("x", "busy", 0)], true);
    for (name, at_first, at_second, error) in [
        ("html", Answer::typed(200, "text/html", "<html>"), None, "an HTML page, not JSON"),
        ("empty", Answer::json(""), None, "no JSON"),
        ("object", Answer::json(r#"{"items":{"id":"a"}}"#), None, "no list at"),
        ("missing", Answer::json(r#"{"error":"nope"}"#), None, "no list at"),
        ("cut", Answer::json(r#"{"items":[{"id":"a"},"#), None, "no JSON"),
        ("ids", Answer::json(r#"{"items":[{"id":{}},{"id":""},7]}"#), None, "none has the id"),
        ("404", Answer::bare(404, ""), None, "answered 404 to the request for its list"),
        ("500", Answer::bare(500, ""), None, "answered 500"),
        ("repeats", Answer::json(&good), Some(Answer::json(&good)), "repeats"),
        ("foreign", Answer::to(302, "https://evil.example.net/"), None, "foreign origin"),
    ] {
        site.script(first, [at_first]);
        site.script(second, [at_second.unwrap_or_else(|| Answer::json("{}"))]);
        eventually(&format!("{name} is told"), || async {
            let source = flow.source().await;
            let told = source["list"]["last_error"].as_str().is_some_and(|told| told.contains(error));
            assert_eq!(source["state"], "ok", "{name}: {source}");
            told.then_some(())
        })
        .await;
        // Meanwhile jobs are polled, fetched and delivered.
        site.json(&format!("/tasks/{name}"), r#"{"state":"busy"}"#);
        flow.daemon.register(&json!({"job_id": name})).await;
        done(&site, name);
        flow.done(name).await;
    }
    // Readings that fail are further and further apart; a restart reads at once.
    let flow = flow.restart(|_| {}).await;
    done(&site, "x");
    done(&site, "y");
    site.json(first, &page(&[item("y", "busy", 0), json!({"id": {}}), item("x", "busy", 0)], false));
    flow.done("x").await;
    flow.done("y").await;
    assert!(flow.source().await["list"]["last_error"].as_str().unwrap().contains("1 items of the list"));
    let (_, metrics) = flow.daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("tidings_lists_total{result=\"read\",source=\"jobs\"}"), "{metrics}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_waits_as_long_as_its_source_asks() {
    let site = Site::start().await;
    let first = "/tasks?limit=2";
    site.script(first, [Answer::bare(429, "").with("retry-after", "1"), Answer::json(&page(&[], false))]);
    let flow = flow_of(SourceConfig { discover: Some(discover()), ..listed(&site) }, Format::Raw).await;
    eventually("the source is limited", || async {
        (flow.source().await["state"] == "limited").then_some(())
    })
    .await;
    assert_eq!(site.requests(first).len(), 1);
    // Nothing is open, so the list itself finds out that the pause is over.
    rounds(&site, first, 2).await;
    eventually("the source is well", || async { (flow.source().await["state"] == "ok").then_some(()) }).await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_while_it_discovers_loses_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let text = format!(
        "[sources.retab]\nbase_url = \"{}\"\napi_key = \"any\"\nmax_requests_per_second = 500\n\
         polling = {{ min_interval = \"20ms\" }}\n\
         discover = {{ every = \"20ms\", since = \"1h\" }}\n\
         [sinks.app]\ntype = \"webhook\"\nurl = \"{}\"\nretry = {{ schedule = [\"30ms\", \"30ms\", \"30ms\"] }}\n",
        mock.base_url(),
        receiver.url(),
    );
    std::fs::write(folder.path().join("tidings.toml"), text).unwrap();
    let mut jobs = BTreeSet::new();
    for round in 0..6 {
        jobs.extend((0..150).map(|_| mock.add_job(JobPlan::new())));
        let process = Process::start(folder.path(), &[]).await;
        let enough = 40 * (round + 1);
        eventually("some are discovered", || async { (receiver.requests().len() >= enough).then_some(()) })
            .await;
        let log = process.kill().await;
        assert!(!log.contains("panic"), "{log}");
    }
    let process = Process::run(folder.path(), &[]).await;
    let told = || {
        receiver
            .requests()
            .iter()
            .map(|request| request.json()["job_id"].as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    eventually("every job is told", || async { (told() == jobs).then_some(()) }).await;
    let events: BTreeSet<String> =
        receiver.requests().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(events.len(), jobs.len(), "one event a job");
    assert_eq!(process.terminate().await.0, Some(0));
}

/// Runs so many jobs at a small budget to their end. Returns the requests for a status and for a list.
async fn polled(list: ListPolling, jobs: usize) -> (u64, u64, Value) {
    let flow = Setup::new()
        .await
        .retab(|source| {
            source.max_requests_per_second = 20.0;
            source.polling.list = list;
            source.polling.strategy = Strategy::Fixed;
            source.polling.interval = HumanDuration::millis(100);
        })
        .start()
        .await;
    let long: Vec<String> = (0..jobs).map(|_| flow.mock.add_job(JobPlan::new().lasting(LONG))).collect();
    let watches: Vec<Value> = long.iter().map(|id| json!({"job_id": id})).collect();
    assert_eq!(flow.daemon.post("/v1/watches/batch", &json!({"watches": watches})).await.0, 200);
    eventually("each was seen", || async {
        let (_, page) = flow.daemon.get("/v1/watches?limit=1000").await;
        page["data"].as_array().unwrap().iter().all(|watch| !watch["status"].is_null()).then_some(())
    })
    .await;
    flow.mock.advance(LONG * 2);
    for id in &long {
        assert_eq!(flow.done(id).await["outcome"], "completed");
    }
    let counts = (flow.mock.requests(None, Some(Kind::Status)), flow.mock.requests(None, Some(Kind::List)));
    let list = flow.source().await["list"].clone();
    assert_eq!(flow.receiver.requests().len(), jobs, "each is told once");
    flow.stop().await;
    (counts.0, counts.1, list)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_page_answers_many_polls_when_the_budget_is_small() {
    let ((without, none, _), (with, pages, list)) =
        tokio::join!(polled(ListPolling::Off, 60), polled(ListPolling::Auto, 60));
    assert_eq!(none, 0, "switched off, no list is read");
    assert!(pages > 0 && list["answered"].as_u64().unwrap() >= 2 * pages, "{pages} pages: {list}");
    assert!(with + pages < without, "{with} polls and {pages} pages instead of {without} polls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_other_jobs_is_not_read_for_long() {
    let flow = Setup::new()
        .await
        .retab(|source| {
            source.max_requests_per_second = 50.0;
            source.polling.strategy = Strategy::Fixed;
            source.polling.interval = HumanDuration::millis(100);
        })
        .start()
        .await;
    let own: Vec<String> = (0..30).map(|_| flow.mock.add_job(JobPlan::new().lasting(LONG))).collect();
    for _ in 0..300 {
        flow.mock.add_job(JobPlan::new());
    }
    let watches: Vec<Value> = own.iter().map(|id| json!({"job_id": id})).collect();
    flow.daemon.post("/v1/watches/batch", &json!({"watches": watches})).await;
    eventually("they are polled", || async {
        (flow.mock.requests(None, Some(Kind::Status)) > 150).then_some(())
    })
    .await;
    let pages = flow.mock.requests(None, Some(Kind::List));
    assert!(pages <= 8, "{pages} pages that answered nothing");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_a_list_and_reconciles() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[sources.retab]\nbase_url = \"{}\"\napi_key = \"any\"\n[sinks.disk]\ntype = \"disk\"\ndir = \"out\"\n",
        mock.base_url()
    );
    std::fs::write(folder.path().join("tidings.toml"), text).unwrap();
    for _ in 0..3 {
        mock.add_job(JobPlan::new());
    }
    let job = mock.add_job(JobPlan::new().lasting(LONG));
    let shown = once(folder.path(), &["source", "test", "retab", "--list"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{}", show(&shown));
    for part in ["4 at `/data`", "next page", job.as_str(), "not finished"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let process = Process::run(folder.path(), &[]).await;
    eventually("they have finished", || async {
        (once(
            folder.path(),
            &["--url", &process.url, "reconcile", "--since", "1h", "--dry-run", "-o", "json"],
        )
        .await)
            .stdout
            .windows(14)
            .any(|part| part == b"\"recovered\":3,")
            .then_some(())
    })
    .await;
    let done = once(folder.path(), &["--url", &process.url, "reconcile", "retab", "--since", "1h"]).await;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{}", show(&done));
    assert!(
        text.contains("RECOVERED")
            && text.lines().nth(1).unwrap().split_whitespace().eq(["retab", "4", "0", "1", "3"]),
        "{text}"
    );
    let source = once(folder.path(), &["--url", &process.url, "source", "show", "retab"]).await;
    assert!(String::from_utf8_lossy(&source.stdout).contains("3 jobs discovered"), "{}", show(&source));
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovery_that_cannot_work_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for (keys, said) in [
        ("type = \"runpod\"\nvars = { endpoint_id = \"e\" }\ndiscover = {}", "list_path"),
        ("type = \"github-actions\"\nvars = { owner = \"acme\" }\ndiscover = {}", "`repo`"),
        ("discover = { kinds = [\"nothing\"] }", "kind"),
        ("discover = { since = \"soon\" }", "since"),
        ("discover = { every = \"0s\" }", "every"),
        ("list_next = { link = true, param = \"x\" }", "list_next"),
    ] {
        std::fs::write(folder.path().join("tidings.toml"), format!("[sources.jobs]\n{keys}\n")).unwrap();
        let checked = once(folder.path(), &["config", "check"]).await;
        let text = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{keys}: {}", show(&checked));
        assert!(text.contains("sources.jobs.") && text.contains(said), "{keys}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovered_job_is_of_the_kind_of_its_list() {
    let site = Site::start().await;
    let source = SourceConfig {
        discover: Some(DiscoverConfig {
            kinds: vec!["extractions".to_owned(), "workflows/runs".to_owned()],
            ..discover()
        }),
        ..crate::sources::source("retab", &site)
    };
    let listed =
        |id: &str| json!({"data": [{"id": id, "status": "completed", "created_at": ago(0)}]}).to_string();
    // The same id under two kinds is two jobs.
    site.json("/v1/extractions?limit=100", &listed("one"));
    site.json("/v1/workflows/runs?limit=100", &listed("one"));
    site.json("/v1/extractions/one?include_output=false", r#"{"status":"completed"}"#);
    site.json("/v1/extractions/one?include_output=true", r#"{"status":"completed","output":{}}"#);
    site.json("/v1/workflows/runs/one", r#"{"lifecycle":{"status":"completed"}}"#);
    let flow = flow_of(source, Format::Raw).await;
    let kinds = eventually("both are delivered", || async {
        let (_, page) = flow.daemon.get("/v1/watches").await;
        let watches = page["data"].as_array().unwrap();
        let all_done = watches.len() == 2 && watches.iter().all(|watch| watch["phase"] == "done");
        all_done.then(|| {
            watches.iter().map(|watch| watch["kind"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        })
    })
    .await;
    assert_eq!(kinds, set(&["extractions", "workflows/runs"]));
    flow.stop().await;
}
