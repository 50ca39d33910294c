//! What the real binary sends in both modes of `CloudEvents`, read by their SDK for Python.
//!
//! It needs that library, so it runs only when asked for: `.ci/run` installs it and sets `CLOUDEVENTS_PYTHON` (an
//! interpreter).

use std::{path::Path, process::Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tidings::{mock::JobPlan, util::units::Time};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::harness::{Process, Receiver, Request, eventually, http, mock, segment, write_config};

/// What the two APIs of the SDK make of a request.
async fn parsed(request: &Request) -> [Value; 2] {
    let python = std::env::var_os("CLOUDEVENTS_PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cloudevents/parse.py");
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let headers: serde_json::Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let asked = json!({ "headers": headers, "body": BASE64_STANDARD.encode(&request.body) });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(asked.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "the SDK refuses {:?}", request.headers);
    let mut seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["core", "v1"].map(|api| seen[api].take())
}

/// Compares the attributes; `time` as an instant, for one API reads it and prints it in its own way.
fn check(seen: &Value, expected: &Value, ended: Time) {
    let mut attributes = seen["attributes"].clone();
    let time = attributes.as_object_mut().unwrap().remove("time").unwrap();
    assert_eq!(Time::parse(time.as_str().unwrap()), Some(ended), "{time}");
    assert_eq!(&attributes, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with cloudevents; .ci/run provides it"]
async fn the_python_sdk_reads_both_modes() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, structured, binary) = (mock().await, Receiver::start().await, Receiver::start().await);
    let sinks: String =
        [("structured", "cloudevents", &structured), ("binary", "cloudevents-binary", &binary)]
            .map(|(name, format, receiver)| {
                format!(
                    "[sinks.{name}]\ntype = \"webhook\"\nurl = {:?}\nformat = {format:?}\n",
                    receiver.url()
                )
            })
            .concat();
    write_config(folder.path(), &mock.base_url(), &sinks);
    let daemon = Process::run(folder.path(), &[]).await;
    let odd = "job ü%\"1\"";
    mock.add_job(JobPlan::new().id(odd));
    let plain = mock.add_job(JobPlan::new());
    for (at, (job, outcome)) in
        [(plain.as_str(), "completed"), (odd, "completed"), ("nowhere", "lost")].into_iter().enumerate()
    {
        let body = json!({ "job_id": job });
        let answer = http().post(format!("{}/v1/watches", daemon.url)).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let url = format!("{}/v1/watches/retab/{}", daemon.url, segment(job));
        let watch: Value = eventually("it is delivered", || async {
            let watch: Value = http().get(&url).send().await.ok()?.json().await.ok()?;
            (watch["phase"] == "done").then_some(watch)
        })
        .await;
        let bytes = http().get(format!("{url}/job")).send().await.unwrap().bytes().await.unwrap();
        let data: Value =
            if outcome == "lost" { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        let mut expected = json!({
            "specversion": "1.0", "id": watch["event_id"], "source": "/sources/retab",
            "type": format!("dev.tidings.job.{outcome}"), "subject": job, "kind": "jobs", "outcome": outcome,
        });
        for receiver in [&structured, &binary] {
            let request = receiver.at_least(at + 1).await.remove(at);
            let [core, v1] = parsed(&request).await;
            // A lost job did not end; its time is when it was given up.
            let ended = data["completed_at"].as_str().or(core["attributes"]["time"].as_str());
            let ended = Time::parse(ended.unwrap()).unwrap();
            if outcome == "lost" {
                expected["reason"] = core["attributes"]["reason"].clone();
                assert!(expected["reason"].is_string());
            } else {
                expected["datacontenttype"] = "application/json".into();
            }
            check(&core, &expected, ended);
            assert_eq!((&core["data"], &v1["data"]), (&data, &data));
            // The older API does not undo the percent-encoding of headers.
            let binary = request.headers.contains_key("ce-id");
            if !binary || (job != odd && outcome != "lost") {
                check(&v1, &expected, ended);
            }
        }
    }
    assert_eq!(daemon.terminate().await.0, Some(0));
}
