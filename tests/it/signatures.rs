//! What the real binary signs, verified by Standard Webhooks' own libraries in the receivers of `docs/examples`.
//!
//! They need those libraries, so they run only when asked for: `.ci/run` installs them and sets
//! `STANDARDWEBHOOKS_PYTHON` (an interpreter) and `NODE_PATH`.

use std::{path::Path, process::Stdio};

use tidings::mock::JobPlan;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{PATIENCE, Process, http, mock};

const OLD: &str = "whsec_b2xkIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXIsIDMyIGI=";
const NEW: &str = "whsec_bmV3IHNlY3JldCBvZiB0aGUgcmVjZWl2ZXIsIDMyIGI=";

/// A receiver of `docs/examples`, with what it prints.
struct Example {
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Example {
    async fn start(mut command: Command, file: &str, secret: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(file);
        command.arg(path).env("WEBHOOK_SECRET", secret).env("PORT", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut example = Self { url: String::new(), lines, _child: child };
        let line = example.line().await;
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        example.url = String::from(url);
        example
    }

    async fn line(&mut self) -> String {
        let line =
            timeout(PATIENCE, self.lines.next_line()).await.expect("it prints a line in time").unwrap();
        line.expect("it is still running")
    }
}

/// Verifies what the binary sends to `receiver` with its two secrets, of which the receiver knows one, and that the
/// receiver refuses the same with one byte changed.
async fn verified(mut receiver: Example) {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let config = format!(
        "[sources.retab]\nbase_url = {:?}\napi_key = \"key\"\n\
         [sinks.app]\ntype = \"webhook\"\nurl = {:?}\nsecrets = [{NEW:?}, {OLD:?}]\n",
        mock.base_url(),
        receiver.url
    );
    std::fs::write(folder.path().join("tidings.toml"), config).unwrap();
    let daemon = Process::run(folder.path(), &[]).await;
    let job = mock.add_job(JobPlan::new());
    let body = serde_json::json!({ "job_id": job });
    let answer = http().post(format!("{}/v1/watches", daemon.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let line = receiver.line().await;
    let id =
        line.strip_prefix("verified ").and_then(|rest| rest.strip_suffix(&format!(" job.completed {job}")));
    let id = id.unwrap_or_else(|| panic!("{line}")).to_owned();

    let url = format!("{}/v1/deliveries/redeliver", daemon.url);
    let again = serde_json::json!({ "state": "delivered" });
    // The receiver answers before the attempt is recorded; until then there is nothing to redeliver.
    loop {
        let answer = http().post(&url).json(&again).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        if answer.json::<serde_json::Value>().await.unwrap()["count"] == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(receiver.line().await, format!("again {id}"));

    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signed = tidings::deliver::sign::signature(
        &tidings::secret::Secret::new(OLD),
        "evt_x",
        &now.to_string(),
        b"{}",
    );
    let forged = http()
        .post(&receiver.url)
        .header("webhook-id", "evt_x")
        .header("webhook-timestamp", now)
        .header("webhook-signature", signed.unwrap())
        .body("{ }")
        .send()
        .await
        .unwrap();
    assert_eq!(forged.status(), 400);
    let line = receiver.line().await;
    assert!(line.starts_with("refused: "), "{line}");
    assert_eq!(daemon.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with standardwebhooks; .ci/run provides it"]
async fn python_verifies_what_is_sent() {
    let python = std::env::var_os("STANDARDWEBHOOKS_PYTHON").unwrap_or_else(|| "python3".into());
    verified(Example::start(Command::new(python), "receiver.py", OLD).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node with standardwebhooks; .ci/run provides it"]
async fn node_verifies_what_is_sent() {
    verified(Example::start(Command::new("node"), "receiver.js", NEW).await).await;
}
