//! What the real binary signs, verified in the receivers of `docs/examples`: by Standard Webhooks' own libraries, by
//! those of Svix in their place, and, for ed25519, by Node itself.
//!
//! They need those libraries, so they run only when asked for: `.ci/run` installs them and sets
//! `STANDARDWEBHOOKS_PYTHON` (an interpreter) and `NODE_PATH`.

use std::{path::Path, process::Stdio};

use tidings::{
    deliver::webhook::sign::Signer,
    mock::JobPlan,
    util::secret::{Secret, SecretSource},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{PATIENCE, Process, http, mock};

const OLD: &str = "whsec_b2xkIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXIsIDMyIGI=";
const NEW: &str = "whsec_bmV3IHNlY3JldCBvZiB0aGUgcmVjZWl2ZXIsIDMyIGI=";
const ED25519: &str = "whsk_ZWQyNTUxOSBzZWVkIG9mIHRoZSB0ZXN0cywgMzIgYiE=";

/// A receiver of `docs/examples`, with what it prints.
struct Example {
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Example {
    /// Starts a receiver of `docs/examples` that knows one key.
    async fn start(command: Command, file: &str, key: (&str, &str)) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(file);
        Self::run(command, &path, key).await
    }

    /// The same with another library, which has to be all that changes.
    async fn with(command: Command, file: &str, swaps: [(&str, &str); 2], secret: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(file);
        let mut text = std::fs::read_to_string(path).unwrap();
        for (ours, theirs) in swaps {
            assert_eq!(text.matches(ours).count(), 1, "{file} has `{ours}` once");
            text = text.replace(ours, theirs);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        Self::run(command, &path, ("WEBHOOK_SECRET", secret)).await
    }

    async fn run(mut command: Command, path: &Path, (variable, key): (&str, &str)) -> Self {
        command.arg(path).env(variable, key).env("PORT", "0");
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

/// Verifies what the binary sends to `receiver` with its three secrets, of which the receiver knows one, and that the
/// receiver refuses what `known` signed with one byte changed.
async fn verified(mut receiver: Example, known: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let config = format!(
        "[sources.retab]\nbase_url = {:?}\napi_key = \"key\"\n\
         [sinks.app]\ntype = \"webhook\"\nurl = {:?}\nsecrets = [{NEW:?}, {ED25519:?}, {OLD:?}]\n",
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
    let signed =
        tidings::deliver::webhook::sign::signature(&Secret::new(known), "evt_x", &now.to_string(), b"{}");
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
    let (status, log) = daemon.terminate().await;
    assert_eq!(status, Some(0));
    assert!(log.contains(&public_key()), "receivers are told the public key: {log}");
}

/// The public key of [`ED25519`].
fn public_key() -> String {
    let signer = Signer::new(vec![SecretSource::Inline(Secret::new(ED25519))], None).unwrap();
    signer.public_keys().unwrap().remove(0)
}

fn python() -> Command {
    Command::new(std::env::var_os("STANDARDWEBHOOKS_PYTHON").unwrap_or_else(|| "python3".into()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with standardwebhooks; .ci/run provides it"]
async fn python_verifies_what_is_sent() {
    verified(Example::start(python(), "receiver.py", ("WEBHOOK_SECRET", OLD)).await, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node with standardwebhooks; .ci/run provides it"]
async fn node_verifies_what_is_sent() {
    verified(Example::start(Command::new("node"), "receiver.js", ("WEBHOOK_SECRET", NEW)).await, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with svix; .ci/run provides it"]
async fn python_verifies_with_svix() {
    // Theirs verifies and leaves the reading to the caller.
    let swaps = [
        ("from standardwebhooks import", "import json\nfrom svix.webhooks import"),
        (
            "event = webhook.verify(body, dict(self.headers))",
            "webhook.verify(body, dict(self.headers)); event = json.loads(body)",
        ),
    ];
    verified(Example::with(python(), "receiver.py", swaps, NEW).await, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node with svix; .ci/run provides it"]
async fn node_verifies_with_svix() {
    let swaps = [
        ("require(\"standardwebhooks\")", "require(\"svix\")"),
        (
            "event = webhook.verify(Buffer.concat(chunks), request.headers);",
            "const body = Buffer.concat(chunks); webhook.verify(body, request.headers); event = JSON.parse(body);",
        ),
    ];
    verified(Example::with(Command::new("node"), "receiver.js", swaps, OLD).await, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node; .ci/run provides it"]
async fn node_verifies_ed25519() {
    let key = ("WEBHOOK_PUBLIC_KEY", public_key());
    let receiver = Example::start(Command::new("node"), "receiver-ed25519.js", (key.0, &key.1)).await;
    verified(receiver, ED25519).await;
}
