//! `docs/guide/any-api.md`, followed step by step: its configurations, and its API in Python.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::harness::{Process, once};

/// The configurations of the page, with its API at `url`.
fn configurations(url: &str) -> Vec<String> {
    let page = include_str!("../../docs/guide/any-api.md");
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| block.replace("http://127.0.0.1:8070", url)).collect()
}

/// Writes a configuration, and the files of secrets that the page makes.
fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("tidings.toml"), text).unwrap();
    std::fs::write(folder.join("render-key"), "rk_demo").unwrap();
    std::fs::write(folder.join("hook-secret"), "hook-secret").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_a_valid_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let all = configurations("http://127.0.0.1:8070");
    assert_eq!(all.len(), 6);
    for text in all {
        write(folder.path(), &text);
        let output = once(folder.path(), &["config", "check"]).await;
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The API of the page, on any free port.
async fn renders() -> (Child, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/renders.py");
    let mut command = Command::new("python3");
    command.arg(script).env("PORT", "0").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    (child, line.strip_prefix("renders at ").unwrap().to_owned())
}

/// Creates a job at this URL. Returns the answer.
async fn create(url: &str, body: Value) -> reqwest::Response {
    let request = crate::harness::http().post(url).header("x-render-key", "rk_demo");
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    answer
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3, with which .ci/run runs it"]
async fn the_page_is_followed_from_the_first_test_to_the_last_event() {
    let (_api, url) = renders().await;
    let folder = tempfile::tempdir().unwrap();
    let steps = configurations(&url);
    create(&format!("{url}/v2/renders"), json!({"scene": "teapot"})).await;
    create(&format!("{url}/v2/renders"), json!({"scene": "melted"})).await;
    for (step, code, said) in [
        (0, 1, "api_key would go into `authorization`"),
        (1, 1, "nothing is at /phase"),
        (2, 0, "is not the end"),
    ] {
        write(folder.path(), &steps[step]);
        let output = once(folder.path(), &["source", "test", "renders", "rnd_1"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(said), "{said}\n{text}");
    }
    write(folder.path(), &format!("{}{}", steps[3], steps[4]));
    let daemon = Process::run(folder.path(), &[]).await;
    for job in ["rnd_1", "rnd_2"] {
        daemon.register(&json!({"source": "renders", "job_id": job})).await;
    }
    let finished =
        async |job: &str| daemon.until_in("renders", job, "is done", |watch| watch["phase"] == "done").await;
    let broken = finished("rnd_2").await;
    assert_eq!((&broken["outcome"], &broken["last_error"]), (&json!("failed"), &json!("the scene melted")));
    assert_eq!(finished("rnd_1").await["outcome"], "completed");
    let stored = |job: &str| {
        let bytes = std::fs::read(folder.path().join(format!("out/renders/{job}.json"))).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    assert_eq!(stored("rnd_1"), json!({"image": "img_rnd_1", "pixels": [[0, 1], [1, 0]]}));
    assert_eq!(stored("rnd_2")["render"]["problem"]["text"], "the scene melted");
    write(folder.path(), &steps[5]);
    assert_eq!(daemon.post("/v1/reload", &Value::Null).await.0, 200);
    let hook = format!("{}/hooks/renders", daemon.url);
    for (route, body, job) in [
        ("renders", json!({"scene": "cube", "notify": hook}), "rnd_3"),
        ("previews", json!({"scene": "cube"}), "prv_1"),
    ] {
        let answer = create(&format!("{}/proxy/renders/v2/{route}", daemon.url), body).await;
        assert_eq!(answer.headers()["tidings-watch"], "accepted");
        assert_eq!(finished(job).await["outcome"], "completed");
        assert_eq!(stored(job)["image"], format!("img_{job}"));
    }
    let (_, metrics) = daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    let took = metrics.lines().filter(|line| line.starts_with("tidings_hooks_total{"));
    let verified: u64 = took
        .filter(|line| !line.contains("unverified"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(verified, 1, "{metrics}");
    daemon.terminate().await;
}
