//! Templates that have no end, fill the memory or are nested beyond measure: the attempt fails and says so, and nothing else is hurt.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Value, json};
use tidings::mock::{JobPlan, Mock};

use crate::harness::{Home, Process, Receiver, eventually, http, mock, once, show, write_config};

/// Templates that only go wrong once there is a job, so that no check finds them.
fn without_end() -> Vec<(&'static str, String)> {
    let again = |times: usize, text: &str| text.repeat(times);
    let begin = "{% set ns = namespace(x=[data.status], y=[data.status]) %}";
    let each = |times: usize, work: &str, end: &str| {
        format!("{begin}{{% for i in range({times}) %}}{work}{{% endfor %}}{end}")
    };
    vec![
        (
            "list",
            format!("{{% set x = [data.status] %}}{}{{{{ x|length }}}}", again(40, "{% set x = x + x %}")),
        ),
        ("walk", each(30, "{% set ns.x = ns.x + ns.x %}", "{% for i in ns.x %}{% endfor %}")),
        (
            "empty",
            format!(
                "{begin}{{% set ns.x = [] %}}{}{{{{ ns.x|list }}}}",
                again(40, "{% set ns.x = ns.x + ns.x %}")
            ),
        ),
        (
            "equal",
            each(40, "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}", "{{ ns.x == ns.y }}"),
        ),
        ("print", each(40, "{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x }}")),
        ("deep", each(90_000, "{% set ns.x = [ns.x] %}", "{{ ns.x == ns.x|list }}{{ ns.x }}")),
        ("text", each(60, "{% set ns.x = ns.x ~ ns.x %}", "{{ ns.x }}")),
        ("times", "{{ (data.status * 90000000)|length }}{{ ([data.status] * 90000000)|list }}".to_owned()),
    ]
}

/// Nested 20 000 levels deep, or a chain as long.
fn nested() -> Vec<(&'static str, String)> {
    let deep = |open: &str, middle: &str, close: &str| {
        format!("{}{middle}{}", open.repeat(20_000), close.repeat(20_000))
    };
    vec![
        ("if", deep("{% if true %}", "1", "{% endif %}")),
        ("for", deep("{% for i in [1] %}", "1", "{% endfor %}")),
        ("elif", format!("{{% if false %}}{}{{% endif %}}", deep("{% elif false %}", "1", ""))),
        ("parentheses", format!("{{{{ {} }}}}", deep("(", "1", ")"))),
        ("lists", format!("{{{{ {} }}}}", deep("[", "1", "]"))),
        ("maps", format!("{{{{ {} }}}}", deep("{1:", "1", "}"))),
        ("not", format!("{{{{ {} }}}}", deep("not ", "1", ""))),
        ("minus", format!("{{{{ {} }}}}", deep("-", "1", ""))),
        ("sum", format!("{{{{ {} }}}}", deep("1+", "1", ""))),
        ("else", format!("{{{{ {} }}}}", deep("1 if false else ", "1", ""))),
        ("attributes", format!("{{{{ labels{}|default(1) }}}}", deep(".x", "", ""))),
        ("filters", format!("{{{{ 1{} }}}}", deep("|string", "", ""))),
        ("set", format!("{{% set {} = 1 %}}1", deep("(", "a", ")"))),
    ]
}

/// What a failed attempt says.
const REASONS: [&str; 8] = [
    "it took longer than",
    "it takes more memory than one rendering may",
    "it is nested too deeply, or what it makes is",
    "it does more than one rendering may",
    "its output is longer than",
    "recursion limit",
    "is too large",
    "its process ended without an answer",
];

fn names_a_reason(text: &str) -> bool {
    REASONS.iter().any(|reason| text.contains(reason))
}

fn is_about_depth(text: &str) -> bool {
    text.contains("nest too deeply") || text.contains("exceeds maximum recursion limits")
}

async fn watch(process: &Process, mock: &Mock) -> String {
    let job = mock.add_job(JobPlan::new());
    let url = format!("{}/v1/watches", process.url);
    assert_eq!(http().post(url).json(&json!({"job_id": job})).send().await.unwrap().status(), 202);
    job
}

/// The deliveries of a job, once none is pending.
async fn ended(process: &Process, job: &str) -> Vec<Value> {
    let url = format!("{}/v1/deliveries?job_id={job}", process.url);
    eventually("every delivery ended", || async {
        let page: Value = http().get(&url).send().await.unwrap().json().await.unwrap();
        let deliveries = page["data"].as_array().unwrap().clone();
        let is_over = !deliveries.is_empty() && deliveries.iter().all(|one| one["state"] != "pending");
        is_over.then_some(deliveries)
    })
    .await
}

/// The processes that a process started and that are still there.
fn children(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok()).collect()
}

fn sink(name: &str, url: &str, more: &str) -> String {
    format!(
        "[sinks.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\nformat = \"template\"\n\
         content_type = \"text/plain\"\nretry = {{ schedule = [] }}\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_without_an_end_fails_its_attempt_and_hurts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let mut sinks = sink("good", &receiver.url(), "template = \"{{ data.status }}\"");
    for (name, template) in without_end() {
        fs::write(folder.path().join(name), template).unwrap();
        let more = format!("timeout = \"2s\"\ntemplate_file = \"{name}\"");
        write!(sinks, "{}", sink(name, &receiver.url(), &more)).unwrap();
    }
    write_config(folder.path(), &mock.base_url(), &sinks);
    let process = Process::run(folder.path(), &[]).await;
    process.reset_peak();
    let job = watch(&process, &mock).await;
    for delivery in ended(&process, &job).await {
        let (sink, reason) = (delivery["sink"].as_str().unwrap(), delivery["reason"].as_str());
        match reason {
            None => assert_eq!((sink, &delivery["state"]), ("good", &json!("delivered")), "{delivery}"),
            Some(reason) => assert!(sink != "good" && names_a_reason(reason), "{sink}: {reason}"),
        }
    }
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(receiver.requests()[0].body, b"completed");
    // What was given up is gone, with all that it took.
    assert_eq!(children(process.pid()), "");
    assert!(process.peak() < 128 << 20, "{} bytes", process.peak());
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_nested_beyond_measure_fails_its_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let file = folder.path().join("message.j2");
    fs::write(&file, "fine").unwrap();
    let sinks = sink("app", &receiver.url(), "template_file = \"message.j2\"");
    write_config(folder.path(), &mock.base_url(), &sinks);
    let process = Process::run(folder.path(), &[]).await;
    for (name, template) in nested() {
        fs::write(&file, template).unwrap();
        let job = watch(&process, &mock).await;
        let delivery = ended(&process, &job).await.remove(0);
        let reason = delivery["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("sinks.app.template_file: in message.j2, line 1: "), "{name}: {delivery}");
        assert!(is_about_depth(reason), "{name}: {reason}");
    }
    // A reload reads the template as well.
    fs::write(&file, &nested()[0].1).unwrap();
    let refused = http().post(format!("{}/v1/reload", process.url)).send().await.unwrap();
    assert!(refused.status().is_client_error(), "{}", refused.status());
    fs::write(&file, "fine").unwrap();
    let job = watch(&process, &mock).await;
    assert_eq!(ended(&process, &job).await[0]["state"], "delivered");
    process.terminate().await;
}

async fn check(folder: &Path) -> (Option<i32>, String) {
    let output = once(folder, &["config", "check"]).await;
    (output.status.code(), show(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_survives_every_template_and_refuses_what_every_event_meets() {
    let folder = tempfile::tempdir().unwrap();
    write_config(
        folder.path(),
        "http://127.0.0.1:9",
        &sink("app", "http://127.0.0.1:9", "template_file = \"message.j2\""),
    );
    let file = folder.path().join("message.j2");
    for (name, template) in nested() {
        fs::write(&file, template).unwrap();
        let (status, said) = check(folder.path()).await;
        assert_eq!(status, Some(2), "{name}: {said}");
        assert!(said.contains("sinks.app.template_file") && is_about_depth(&said), "{name}: {said}");
    }
    for (name, template) in without_end() {
        // The others take until the time for a check is over.
        if !["print", "text", "times"].contains(&name) {
            continue;
        }
        fs::write(&file, template.replace("data.status", "'completed'")).unwrap();
        let (status, said) = check(folder.path()).await;
        assert_eq!(status, Some(2), "{name}: {said}");
        assert!(said.contains("sinks.app.template_file") && names_a_reason(&said), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_strict_parser_reads_is_rendered() {
    let receiver = Receiver::start().await;
    let template = "template = \"{{ data.a }} {{ data.b }} {{ data.status }}\"";
    let home = Home::new(&sink("app", &receiver.url(), template)).await;
    let process = home.run().await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let body = format!(
        "\u{feff}{{\"status\":\"completed\",\"a\":NaN,\"deep\":{deep},\"b\":1,\"b\":2,\"c\":\"\\ud800\"}}"
    );
    home.mock.set_raw("odd", tidings::mock::Raw::new(r#"{"status":"completed"}"#, body));
    let url = format!("{}/v1/watches", process.url);
    assert_eq!(http().post(url).json(&json!({"job_id": "odd"})).send().await.unwrap().status(), 202);
    let delivery = ended(&process, "odd").await.remove(0);
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    assert_eq!(String::from_utf8_lossy(&receiver.requests()[0].body), "null 1 completed");
    process.terminate().await;
}
