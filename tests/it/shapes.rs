//! Job APIs of other shapes: a status by POST, by the HTTP status alone, several results, pages.

use serde_json::{Value, json};
use tidings::{
    deliver::{Format, SinkConfig},
    upstream::{SourceConfig, StatusMethod},
};

use crate::{
    harness::{Answer, Flow, Home, Request, Setup, Site, eventually, show},
    sources::{custom, flow_of, list},
};

/// The keys of a source over those of `custom`, as a configuration file has them.
fn with(site: &Site, keys: &str) -> SourceConfig {
    let base = custom(site);
    let mut tree = serde_json::to_value(&base).unwrap();
    let more: Value = serde_json::to_value(toml::from_str::<toml::Table>(keys).unwrap()).unwrap();
    for (name, value) in more.as_object().unwrap() {
        tree[name] = value.clone();
    }
    tree.as_object_mut().unwrap().remove("api_key");
    SourceConfig { api_key: base.api_key, ..serde_json::from_value(tree).unwrap() }
}

impl Flow {
    async fn fails(&self, job: &str) -> String {
        let watch = self.until(job, "fails", |watch| watch["last_error"].is_string()).await;
        watch["last_error"].as_str().unwrap().to_owned()
    }
}

const GRAPHQL: &str = r#"
status_path = "/graphql"
status_method = "POST"
status_body = '{{"query":"query($id: ID!) {{ run(id: $id) {{ state }} }}","variables":{{"id":"{id}","tenant":{tenant}}}}}'
status_at = ["/data/run/state"]
status_required = true
error_at = ["/errors/0/message"]
vars = { tenant = "7" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_asked_for_by_post() {
    let site = Site::start().await;
    let flow = flow_of(with(&site, GRAPHQL), Format::Raw).await;
    // GraphQL answers 200 where it fails.
    let refused = r#"{"errors":[{"message":"run service is down"}],"data":null}"#;
    site.json("/graphql", refused);
    let id = r#"r"1\"#;
    flow.daemon.register(&json!({"job_id": id})).await;
    let error = flow.fails(id).await;
    assert_eq!(error, "the answer has no status at `/data/run/state`: run service is down");
    // Another address, which 307 and 308 send the same body to.
    site.script("/graphql", [Answer::to(307, "/graphql/v2")]);
    let done = r#"{"data":{"run":{"state":"done","big":12345678901234567890}}}"#;
    site.script("/graphql/v2", [Answer::json(r#"{"data":{"run":{"state":"busy"}}}"#), Answer::json(done)]);
    flow.done(id).await;
    for request in site.requests("/graphql").iter().chain(&site.requests("/graphql/v2")) {
        assert_eq!((request.method.as_str(), request.header("content-type")), ("POST", "application/json"));
        assert_eq!(request.header("authorization"), "Bearer k1");
        let query = "query($id: ID!) { run(id: $id) { state } }";
        assert_eq!(request.json(), json!({"query": query, "variables": {"id": id, "tenant": 7}}));
    }
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, done.as_bytes());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_never_turned_into_a_get() {
    let site = Site::start().await;
    let flow = flow_of(with(&site, GRAPHQL), Format::Raw).await;
    for status in [301, 302, 303] {
        let job = format!("r{status}");
        site.script("/graphql", [Answer::to(status, "/graphql/v2")]);
        flow.daemon.register(&json!({"job_id": job})).await;
        let error = flow.fails(&job).await;
        let told = format!("the source answered {status} and names {}/graphql/", site.url());
        assert!(error.starts_with(&told) && error.ends_with("but only 307 and 308 keep a POST"), "{error}");
    }
    assert_eq!(site.requests("/graphql/v2").len(), 0);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_the_media_type_of_the_headers() {
    let site = Site::start().await;
    let keys = r#"
        status_path = "/"
        status_method = "POST"
        status_body = '{{"JobId":"{id}"}}'
        headers = { "X-Amz-Target" = "Textract.GetDocumentAnalysis", "Content-Type" = "application/x-amz-json-1.1" }
    "#;
    let flow = flow_of(with(&site, keys), Format::Raw).await;
    site.json("/", r#"{"state":"done"}"#);
    flow.daemon.register(&json!({"job_id": "j\"1"})).await;
    flow.done("j\"1").await;
    let request = site.requests("/").remove(0);
    assert_eq!(request.headers.get_all("content-type").iter().count(), 1);
    assert_eq!(request.header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(request.body, br#"{"JobId":"j\"1"}"#);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_would_change_the_body_is_refused() {
    let site = Site::start().await;
    let keys = SourceConfig {
        status_method: Some(StatusMethod::Post),
        status_body: Some(r#"{{"id":{id}}}"#.to_owned()),
        status_at: Some(list(&["/state"])),
        ..custom(&site)
    };
    let flow = Setup::new().await.jobs_at(keys).start().await;
    let (status, problem) = flow.daemon.post("/v1/watches", &json!({"job_id": r#"1,"all":true"#})).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("in the body of the request"), "{problem}");
    flow.stop().await;
}

const BY_CODE: &str = r"
status_at = []
outcomes = { pending = [] }
status_http = { pending = [202, 404], completed = [200, 303], failed = [422, 500, 503], expired = [410] }
";

/// A source without a status word.
fn by_code(site: &Site) -> SourceConfig {
    SourceConfig { status_at: None, outcomes: None, ..with(site, BY_CODE) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_status_says_how_far_a_job_is() {
    let site = Site::start().await;
    let flow = flow_of(by_code(&site), Format::Raw).await;
    let page = "<html>It broke</html>";
    let png = b"\x89PNG\r\n\x1a\n\xff\x00";
    let rows: [(&str, Answer, &str, &[u8], &str); 7] = [
        ("json", Answer::json("[1e400, NaN]"), "completed", b"[1e400, NaN]", "application/json"),
        ("png", Answer::typed(200, "image/png", png), "completed", png, "image/png"),
        (
            "failed",
            Answer::typed(422, "application/json", r#"{"why":"x"}"#),
            "failed",
            br#"{"why":"x"}"#,
            "application/json",
        ),
        ("page", Answer::typed(500, "text/html", page), "failed", page.as_bytes(), "text/html"),
        ("bare", Answer::bare(500, "It broke"), "failed", b"It broke", "application/octet-stream"),
        ("empty", Answer::bare(500, ""), "failed", b"null", "application/jsonl"),
        ("gone", Answer::typed(410, "application/json", "{}"), "expired", b"{}", "application/json"),
    ];
    for (at, (job, answer, outcome, body, media_type)) in rows.into_iter().enumerate() {
        let path = format!("/tasks/{job}");
        // It is not there at first, and then not ready.
        site.script(&path, [Answer::bare(404, ""), Answer::bare(202, "")]);
        flow.daemon.register(&json!({"job_id": job})).await;
        flow.until(job, "is not ready", |watch| watch["status"] == "202").await;
        // This code is not listed, and 503 with a wait is the limit of the source.
        site.script(&path, [Answer::bare(502, "")]);
        assert!(flow.fails(job).await.contains("502"));
        site.script(&path, [Answer::bare(503, "").with("retry-after", "0"), answer.clone()]);
        let watch = flow.done(job).await;
        assert_eq!(
            (&watch["outcome"], &watch["status"]),
            (&json!(outcome), &json!(answer.status.to_string()))
        );
        let event = flow.receiver.at_least(at + 1).await.remove(at);
        assert_eq!((event.body.as_slice(), event.header("content-type")), (body, media_type), "{job}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_form_says_too_little_is_no_result_and_the_watch_tells_it() {
    let site = Site::start().await;
    let flow = flow_of(by_code(&site), Format::Raw).await;
    let page = || Answer::typed(200, "text/html", "<html>A report</html>");
    for (job, answer, told) in [
        ("page", page(), "an HTML page"),
        ("bare page", Answer::bare(200, "<!DOCTYPE html>"), "an HTML page"),
        ("bare", Answer::bare(200, "A report"), "no JSON"),
        ("csv", Answer::json("a,b\n1,2\n"), "no JSON"),
        ("csv lines", Answer::typed(200, "application/jsonl", ",a\n"), "no JSONL"),
    ] {
        site.script(&format!("/tasks/{}", job.replace(' ', "%20")), [answer]);
        flow.daemon.register(&json!({"job_id": job})).await;
        let error = flow.fails(job).await;
        assert!(error.contains(told), "{job}: {error}");
        flow.until(job, "is fetched", |watch| watch["phase"] == "fetching").await;
    }
    assert!(flow.receiver.requests().is_empty());
    // Each has a way out.
    site.answer("/tasks/bare", 200, "text/plain", "A report");
    assert_eq!(flow.done("bare").await["outcome"], "completed");
    let keys = format!("{BY_CODE}result_may_be_html = true\n");
    let keys = SourceConfig { status_at: None, outcomes: None, ..with(&site, &keys) };
    let flow = flow.restart(|config| drop(config.sources.insert("jobs".to_owned(), keys))).await;
    assert_eq!(flow.done("page").await["outcome"], "completed");
    let taken: Vec<_> = flow.receiver.at_least(2).await.into_iter().map(|event| event.body).collect();
    assert_eq!(taken, [&b"A report"[..], b"<html>A report</html>"]);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_says_the_end_leads_to_the_result() {
    let (site, elsewhere) = (Site::start().await, Site::start().await);
    let allow = "127.0.0.0/8".parse().unwrap();
    let setup = Setup::new().await.jobs_at(by_code(&site)).format(Format::Raw);
    let flow = setup.change(|config| config.callbacks.allow = vec![allow]).start().await;
    site.script("/tasks/own", [Answer::to(303, "/out/1")]);
    // What is not there yet is asked for again, and so is the status that names it.
    site.script("/out/1", [Answer::bare(404, ""), Answer::json("[1]")]);
    site.script("/tasks/foreign", [Answer::to(303, &format!("{}/signed?x=1", elsewhere.url()))]);
    elsewhere.answer("/signed?x=1", 200, "text/csv", "a,b\n");
    for (at, (job, body)) in [("own", "[1]"), ("foreign", "a,b\n")].into_iter().enumerate() {
        flow.daemon.register(&json!({"job_id": job})).await;
        let watch = flow.done(job).await;
        assert_eq!((&watch["outcome"], &watch["status"]), (&json!("completed"), &json!("303")));
        assert_eq!(flow.receiver.at_least(at + 1).await.remove(at).body, body.as_bytes());
    }
    assert_eq!(site.requests("/out/1").pop().unwrap().header("authorization"), "Bearer k1");
    assert_eq!(elsewhere.requests("/signed?x=1").pop().unwrap().header("authorization"), "");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_http_status_counts_before_the_word() {
    let site = Site::start().await;
    let keys = with(
        &site,
        r#"
        status_http = { pending = [202], failed = [424] }
        pending_while = ["/locked"]
    "#,
    );
    let flow = flow_of(keys, Format::Raw).await;
    site.script("/tasks/t", [Answer::typed(202, "application/json", r#"{"state":"done"}"#)]);
    flow.daemon.register(&json!({"job_id": "t"})).await;
    flow.until("t", "is not ready", |watch| watch["status"] == "202").await;
    site.script("/tasks/t", [Answer::json(r#"{"state":"done","locked":true}"#)]);
    flow.until("t", "is locked", |watch| watch["status"] == "done").await;
    site.script("/tasks/t", [Answer::typed(424, "application/json", r#"{"state":"done","locked":true}"#)]);
    flow.until("t", "is locked still", |watch| watch["status"] == "424").await;
    site.script("/tasks/t", [Answer::typed(424, "application/json", r#"{"state":"done"}"#)]);
    assert_eq!(flow.done("t").await["outcome"], "failed");
    flow.stop().await;
}

/// Both files of a batch, a part of the status, pages and a link.
const SEVERAL: &str = r#"
[[results]]
name = "output"
path = "/files/{/output}/content"
[[results]]
name = "errors"
path = "/files/{/errors}/content"
optional = true
[[results]]
name = "usage"
at = "/usage"
[[results]]
name = 'a "name"/..'
path = "/rows?limit=2"
next_at = "/next"
next_param = "cursor"
items_at = "/rows"
[[results]]
name = "picture"
path = "{/link}"
auth = "none"
"#;

fn several_at(site: &Site, link: &str) -> &'static [u8] {
    let status =
        json!({"state": "done", "output": "f1", "errors": null, "usage": {"tokens": 7}, "link": link});
    site.json("/tasks/t", &status.to_string());
    site.answer("/files/f1/content", 200, "application/jsonl", "{\"id\":\"a\"}\n{\"id\":\"\u{e9}\"}\n");
    site.json("/rows?limit=2", r#"{"rows":[1e400, NaN],"next":"a&b"}"#);
    site.json("/rows?limit=2&cursor=a%26b", r#"{"rows":[],"next":"c"}"#);
    site.json("/rows?limit=2&cursor=c", r#"{"rows":[ {"n": 12345678901234567890} ],"next":null}"#);
    b"\x89PNG\r\n\x1a\n\xff\x00"
}

#[tokio::test(flavor = "multi_thread")]
async fn several_results_are_delivered_as_one_body_and_as_files() {
    let (site, elsewhere) = (Site::start().await, Site::start().await);
    let link = format!("{}/signed?x=1", elsewhere.url());
    let png = several_at(&site, &link);
    elsewhere.answer("/signed?x=1", 200, "image/png", png);
    let setup = Setup::new().await.jobs_at(with(&site, SEVERAL)).format(Format::Envelope).disk();
    let allow = "127.0.0.0/8".parse().unwrap();
    let flow = setup.change(|config| {
        config.callbacks.allow = vec![allow];
        let Some(SinkConfig::Disk(disk)) = config.sinks.get_mut("disk") else { panic!("no disk") };
        (disk.path, disk.format) = ("{source}/{job_id}/{result}".to_owned(), Format::Raw);
    });
    let flow = flow.start().await;
    flow.daemon.register(&json!({"job_id": "t"})).await;
    let watch = flow.done("t").await;
    assert_eq!(watch["outcome"], "completed");
    let (status, stored) = flow.daemon.get_bytes("/v1/watches/jobs/t/job").await;
    let stored = String::from_utf8(stored).unwrap();
    let state = String::from_utf8(flow.receiver.at_least(1).await.remove(0).body).unwrap();
    assert!(
        status == 200 && state.contains(&format!("\"data\":{stored}}}")),
        "the envelope has the same bytes: {state}"
    );
    let rows = "[1e400, NaN,{\"n\": 12345678901234567890} ]";
    let lines = "{\\\"id\\\":\\\"a\\\"}\\n{\\\"id\\\":\\\"\u{e9}\\\"}\\n";
    let expected = format!(
        "\"results\":{{\"output\":{{\"content_type\":\"application/jsonl\",\"text\":\"{lines}\"}},\"usage\": {{\"tokens\":7}},\
         \"a \\\"name\\\"/..\": {rows},\"picture\":{{\"content_type\":\"image/png\",\"base64\":\"iVBORw0KGgr/AA==\"}}}}}}"
    );
    assert!(stored.starts_with("{\"status\": {") && stored.ends_with(&expected), "{stored}");
    let read = |name: &str| std::fs::read(flow.path().join("out/jobs/t").join(name)).unwrap();
    assert_eq!(read("output"), "{\"id\":\"a\"}\n{\"id\":\"\u{e9}\"}\n".as_bytes());
    assert_eq!((read("a%20%22name%22%2F.."), read("picture").as_slice()), (rows.into(), png));
    assert_eq!((read("usage"), &read("status")[..2]), (br#"{"tokens":7}"#.to_vec(), &b"{\""[..]));
    assert_eq!(std::fs::read_dir(flow.path().join("out/jobs/t")).unwrap().count(), 5);
    assert_eq!(elsewhere.requests("/signed?x=1")[0].header("authorization"), "");
    assert_eq!(site.requests("/files/f1/content")[0].header("authorization"), "Bearer k1");
    // The same event writes the same files again, and none beside them.
    let usage = flow.path().join("out/jobs/t/usage");
    std::fs::remove_file(&usage).unwrap();
    let id = flow.deliveries("sink=disk").await[0]["id"].as_str().unwrap().to_owned();
    let (status, _) = flow.daemon.post(&format!("/v1/deliveries/{id}/redeliver"), &json!({})).await;
    assert_eq!(status, 202);
    eventually("it is written again", || async { usage.exists().then_some(()) }).await;
    flow.done("t").await;
    assert_eq!(std::fs::read_dir(flow.path().join("out/jobs/t")).unwrap().count(), 5);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_file_gives_each_result_of_each_kind_its_file() {
    let site = Site::start().await;
    let keys = |path: &str, format: &str| {
        format!(
            r#"
            [sources.jobs]
            type = "custom"
            base_url = "{}"
            api_key = "k1"
            status_path = "/tasks/{{id}}"
            status_at = ["/state"]
            outcomes = {{ pending = ["busy"], completed = ["done"], failed = ["broken"] }}
            polling.min_interval = "20ms"
            [[sources.jobs.results]]
            name = "rows"
            path = "/rows/{{/out}}"
            [[sources.jobs.results]]
            name = "usage"
            at = "/usage"
            [sources.jobs.kinds.drafts]
            status_path = "/drafts/{{id}}"
            [sinks.disk]
            type = "disk"
            dir = "out"
            path = "{path}"
            format = "{format}"
            "#,
            site.url()
        )
    };
    let path = "{source}/{job_id}/{result}.part";
    let home = Home::new(&keys(path, "raw")).await;
    let daemon = home.run().await;
    // Both kinds have a job of one id, in either order.
    for (id, kinds) in [("t", ["tasks", "drafts"]), ("u", ["drafts", "tasks"])] {
        let folder = home.path().join("out/jobs").join(id);
        for (at, kind) in kinds.into_iter().enumerate() {
            site.json(
                &format!("/{kind}/{id}"),
                &json!({"state": "done", "out": kind, "usage": at}).to_string(),
            );
            site.answer(&format!("/rows/{kind}"), 200, "text/plain", kind);
            let mut watch = json!({"job_id": id, "source": "jobs"});
            if kind == "drafts" {
                watch["kind"] = json!(kind);
            }
            daemon.register(&watch).await;
            eventually("its files are written", || async {
                let names = std::fs::read_dir(&folder).ok()?.map(|file| file.unwrap().file_name());
                let names = names.filter(|name| !name.to_string_lossy().starts_with('.'));
                (names.count() == 3 * (at + 1)).then_some(())
            })
            .await;
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(
            (read("rows.part"), read("usage.part")),
            ("tasks".to_owned(), json!(u8::from(id == "u")).to_string())
        );
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| std::fs::read_to_string(file).unwrap() == "drafts");
        let name = files[0].file_name().unwrap().to_string_lossy();
        assert!(files.len() == 1 && name.starts_with("rows~") && name.ends_with(".part"), "{files:?}");
    }
    assert_eq!(daemon.terminate().await.0, Some(0));
    for (path, format, told) in [
        ("{source}/{result}.part", "raw", "each job would overwrite the one before"),
        (path, "envelope", "{result} writes each result as it came"),
        ("{job_id}/{results}", "raw", "did you mean `result`?"),
    ] {
        home.configure(&keys(path, format));
        let refused = home.once(&["config", "check"]).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(told), "{}", show(&refused));
        assert!(said.contains("sinks.disk.path"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_page_is_told_and_fetched_again() {
    let site = Site::start().await;
    let keys = with(
        &site,
        r#"
        [[results]]
        name = "rows"
        path = "/rows/{id}"
        next_at = "/next"
        items_at = "/rows"
    "#,
    );
    let flow = flow_of(keys, Format::Raw).await;
    let naming = |next: Value| Answer::json(&json!({"rows": [1], "next": next}).to_string());
    let circle = |next: &str| naming(json!(next));
    let no_address = "names a next one that is neither a URL nor a path that begins with /";
    let page = || Answer::typed(200, "text/html", "<html>Please wait</html>");
    for (at, (answers, told)) in [
        (vec![circle("/rows/0?p=2"), circle("/rows/0?p=2")], "page 2 names one that was fetched before"),
        (vec![circle("/rows/1")], "page 1 names one that was fetched before"),
        (vec![circle("http://elsewhere.test/rows")], "is of another origin"),
        (vec![page()], "HTML page"),
        (vec![circle("/rows/4?p=2"), page()], "HTML page"),
        (vec![Answer::json(r#"{"error":"x"}"#)], "has no list at `/rows`"),
        (vec![circle("/rows/6?p=2"), Answer::bare(404, "")], "page 2 is missing"),
        (vec![Answer::bare(500, "")], "500"),
        (vec![naming(json!(5))], no_address),
        (vec![circle("rows/9")], no_address),
        (vec![circle("?p=2")], no_address),
        (vec![circle("mailto:a@b")], no_address),
        (vec![naming(json!({"x": 1}))], "the next page at `/next` is neither a text nor a number"),
        (vec![naming(json!(["/rows/13"]))], "the next page at `/next` is neither a text nor a number"),
        (vec![naming(json!(true))], "the next page at `/next` is neither a text nor a number"),
    ]
    .into_iter()
    .enumerate()
    {
        let job = at.to_string();
        site.json(&format!("/tasks/{job}"), r#"{"state":"done"}"#);
        let (first, second) = (format!("/rows/{job}"), format!("/rows/{job}?p=2"));
        site.script(&first, [answers[0].clone()]);
        answers.get(1).into_iter().for_each(|answer| site.script(&second, [answer.clone()]));
        flow.daemon.register(&json!({"job_id": job})).await;
        let error = flow.fails(&job).await;
        assert!(error.contains(told), "{error}");
        assert_eq!(flow.receiver.requests().len(), at, "nothing of it is delivered");
        site.script(&first, [circle(&second)]);
        // This is no name, so there is no further page.
        let end = [json!(null), json!(""), json!(false)][at % 3].clone();
        site.json(&second, &json!({"rows": [2], "next": end}).to_string());
        flow.done(&job).await;
        assert_eq!(
            flow.receiver.at_least(at + 1).await[at].body,
            b"[1,2]",
            "one result is delivered as it is"
        );
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_of_a_list_has_a_result_and_a_failed_job_what_there_is() {
    let site = Site::start().await;
    let keys = with(
        &site,
        r#"
        [[results]]
        name = "outputs"
        each_at = "/tasks"
        path = "/outputs?run={item/run_id}"
        at = "/result"
        [[results]]
        name = "lines"
        path = "/lines/{id}"
        next_at = "Link"
    "#,
    );
    let flow = flow_of(keys, Format::Raw).await;
    site.json("/tasks/t", r#"{"state":"done","tasks":[{"run_id":1},{"run_id":"a b"}, {"run_id":3}]}"#);
    site.json("/outputs?run=1", r#"{"result": [1 ]}"#);
    site.answer("/outputs?run=a%20b", 200, "text/plain", "no \"JSON\"");
    site.json("/outputs?run=3", r#"{"result":null}"#);
    let lines = |body: &str| Answer::typed(200, "application/x-ndjson", body);
    site.script("/lines/t", [lines("{\"a\":1}").with("link", "</lines/t?p=2>; rel=\"next\"")]);
    site.script("/lines/t?p=2", [lines("{\"a\":2}\n")]);
    site.json("/tasks/f", r#"{"state":"broken"}"#);
    flow.daemon.register(&json!({"job_id": "t"})).await;
    flow.done("t").await;
    let body = String::from_utf8(flow.receiver.at_least(1).await[0].body.clone()).unwrap();
    let results = "\"results\":{\"outputs\": [ [1 ],{\"content_type\":\"text/plain\",\"text\":\"no \\\"JSON\\\"\"}, null],\
                   \"lines\":{\"content_type\":\"application/x-ndjson\",\"text\":\"{\\\"a\\\":1}\\n{\\\"a\\\":2}\\n\"}}}";
    assert!(body.ends_with(results), "{body}");
    flow.daemon.register(&json!({"job_id": "f"})).await;
    assert_eq!(flow.done("f").await["outcome"], "failed");
    assert_eq!(flow.receiver.at_least(2).await[1].body, br#"{"status": {"state":"broken"},"results":{}}"#);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_of_several_results_begins_again_after_a_restart_and_stays_within_its_limit() {
    let site = Site::start().await;
    let mut keys = with(&site, SEVERAL);
    keys.max_job_size = tidings::util::units::Size::mib(1);
    let allow = "127.0.0.0/8".parse().unwrap();
    let setup = Setup::new().await.jobs_at(keys).format(Format::Raw);
    let flow = setup.change(|config| config.callbacks.allow = vec![allow]).start().await;
    let link = format!("{}/big", site.url());
    several_at(&site, &link);
    // As text it would fit; as base64 it does not.
    site.answer("/big", 200, "application/octet-stream", vec![0xff; 900 << 10]);
    flow.daemon.register(&json!({"job_id": "t"})).await;
    assert!(flow.fails("t").await.contains("max_job_size"));
    site.answer("/big", 200, "application/octet-stream", vec![0xff; 700 << 10]);
    let flow = flow.restart(|_| {}).await;
    flow.done("t").await;
    let body: Value =
        serde_json::from_slice(&flow.receiver.at_least(1).await[0].body.clone()).unwrap_or_default();
    let text = String::from_utf8(flow.receiver.requests()[0].body.clone()).unwrap();
    assert!(body.is_null() && text.contains("NaN") && text.len() > 900 << 10 && text.ends_with("\"}}}"));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_a_creation_names_the_job_that_is_watched() {
    let site = Site::start().await;
    let keys = r#"
        status_path = "{+url}"
        create_path = "/models/{model}:analyze"
        create_location = "Operation-Location"
    "#;
    let flow = flow_of(with(&site, keys), Format::Raw).await;
    let place = format!("{}/models/m/results/r1?api-version=1", site.url());
    site.json("/models/m/results/r1?api-version=1", r#"{"state":"done"}"#);
    let create = "/models/m:analyze?api-version=1";
    for (location, word) in [
        (Some(place.as_str()), "accepted"),
        (Some("https://evil.example/models/m/results/r1"), "failed"),
        (Some(place.replace("://", "://user:pw@").as_str()), "failed"),
        (Some(""), "failed"),
        (None, "failed"),
    ] {
        let answer = location.map_or(Answer::bare(202, "no JSON"), |location| {
            Answer::bare(202, "no JSON").with("operation-location", location)
        });
        site.script(create, [answer]);
        let url = format!("{}/proxy/jobs{create}", flow.daemon.url);
        let answer =
            flow.daemon.http.post(url).header("authorization", "Bearer k1").body("x").send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["tidings-watch"]),
            (202, &word.parse().unwrap())
        );
        assert_eq!(answer.headers().get("operation-location").map(|it| it.to_str().unwrap()), location);
        assert_eq!(answer.text().await.unwrap(), "no JSON");
    }
    let (_, watches) = flow.daemon.get("/v1/watches").await;
    assert_eq!(watches["data"].as_array().unwrap().len(), 1, "{watches}");
    let watch = flow.done("r1").await;
    assert_eq!((&watch["outcome"], &watch["vars"]), (&json!("completed"), &json!({"url": place})));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_many_results_takes_few_of_the_requests_that_others_need() {
    let site = Site::start().await;
    let keys = with(
        &site,
        r#"
        max_requests_per_second = 200
        polling = { strategy = "fixed", interval = "20ms", min_interval = "20ms" }
        [[results]]
        name = "outputs"
        each_at = "/tasks"
        path = "/outputs/{item/n}"
    "#,
    );
    let flow = flow_of(keys, Format::Raw).await;
    // More than the budget can poll.
    for n in 0..30 {
        site.json(&format!("/tasks/open_{n}"), r#"{"state":"busy"}"#);
        flow.daemon.register(&json!({"job_id": format!("open_{n}")})).await;
    }
    let tasks: Vec<_> = (0..40).map(|n| json!({"n": n})).collect();
    (0..40).for_each(|n| site.json(&format!("/outputs/{n}"), "{}"));
    site.json("/tasks/many", &json!({"state": "done", "tasks": tasks}).to_string());
    flow.daemon.register(&json!({"job_id": "many"})).await;
    flow.done("many").await;
    let is_output = |request: &Request| request.uri.path().starts_with("/outputs/");
    let all = site.all();
    let outputs: Vec<_> = (0..all.len()).filter(|at| is_output(&all[*at])).collect();
    let (first, last) = (outputs[10], outputs[39]);
    assert!(last - first >= 29 * 8, "{} requests for others meanwhile", last - first - 29);
    flow.stop().await;
}
