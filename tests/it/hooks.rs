//! Hooks of the source: the real daemon, a mock upstream, and hooks over sockets.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tidings::{
    config::Config,
    mock::{JobPlan, Mock, MockHooks},
    schedule::PollingConfig,
    upstream::{HooksConfig, VerifyMethod},
    util::{
        secret::Secret,
        units::{HumanDuration, Size},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Daemon, Home, config, eventually, http, mock, polled_seldom, together};

const SECRET: &str = "a secret of the source";

/// A daemon that polls so seldom that only a hook can make it poll.
fn hooked(mut config: Config, change: impl FnOnce(&mut HooksConfig)) -> Config {
    let source = config.sources.get_mut("retab").unwrap();
    source.polling = polled_seldom();
    let mut hooks = HooksConfig {
        verify: Some(VerifyMethod::HmacSha256),
        secret: Some(Secret::new(SECRET)),
        header: Some("X-Signature".to_owned()),
        prefix: Some("sha256=".to_owned()),
        id_at: Some(vec!["/data/id".to_owned()]),
        ..HooksConfig::default()
    };
    change(&mut hooks);
    source.hooks = Some(hooks);
    config
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()))
}

async fn send(url: &str, signature: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
    let request = http().post(url).header("x-signature", signature).body(body.into());
    // A vendor comes through an ingress, with a name that the daemon does not know.
    let answer = request.header("host", "hooks.example.com").send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Sends a signed hook for a job.
async fn hook(daemon: &Daemon, id: &str) -> u16 {
    let body = json!({"type": "job.completed", "data": {"id": id}}).to_string();
    send(&daemon.hooks(), &signature(SECRET, body.as_bytes()), body).await.0
}

trait Hooked {
    fn hooks(&self) -> String;
    async fn counted(&self, result: &str) -> u64;
}

impl Hooked for Daemon {
    fn hooks(&self) -> String {
        format!("{}/hooks/retab", self.url)
    }

    async fn counted(&self, result: &str) -> u64 {
        let (_, text) = self.get_bytes("/metrics").await;
        let series = format!("tidings_hooks_total{{result=\"{result}\",source=\"retab\"}} ");
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }
}

/// Jobs that a poll finds finished.
fn ended(mock: &Mock) -> String {
    mock.add_job(JobPlan::new().lasting(Duration::ZERO))
}

async fn hook_source(daemon: &Daemon) -> Value {
    daemon.get("/v1/sources/retab").await.1["hooks"].clone()
}

#[tokio::test]
async fn a_verified_hook_makes_the_poll_due_now() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let daemon = Daemon::start(hooked(config(folder.path(), &mock), |_| {})).await;
    let id = mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
    daemon.watch(&id).await;
    // The first poll comes by itself; from then on the job would be left alone for an hour.
    daemon.until(&id, "polled once", |watch| watch["polls"] == 1).await;
    mock.advance(Duration::from_secs(7200));
    assert_eq!(hook(&daemon, &id).await, 204);
    let watch = daemon.finished(&id).await;
    assert_eq!((watch["polls"].as_u64(), watch["outcome"].as_str()), (Some(2), Some("completed")));
    // Hooks for a finished job change nothing.
    let requests = mock.total();
    for _ in 0..3 {
        assert_eq!(hook(&daemon, &id).await, 204);
    }
    assert_eq!(daemon.counted("finished").await, 3);
    assert_eq!(mock.total(), requests);
    let hooks = hook_source(&daemon).await;
    assert_eq!((hooks["received"].as_u64(), hooks["announced"].as_u64()), (Some(4), Some(1)), "{hooks}");
    assert!(hooks["last_at"].is_string() && hooks["reliability"] == 1.0, "{hooks}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_hook_that_is_not_verified_changes_nothing() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let daemon =
        Daemon::start(hooked(config(folder.path(), &mock), |hooks| hooks.register = Some(true))).await;
    let (watched, unknown) = (mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600))), ended(&mock));
    daemon.watch(&watched).await;
    daemon.until(&watched, "polled once", |watch| watch["polls"] == 1).await;
    let requests = mock.total();
    let mut refused = 0;
    for id in [&watched, &unknown] {
        let body = json!({"data": {"id": id}}).to_string();
        let other = signature("another secret", body.as_bytes());
        let cut = signature(SECRET, &body.as_bytes()[1..]);
        for sum in [other.as_str(), &cut, "", "sha256=", "sha256=zz", "sha1=00"] {
            let (status, problem) = send(&daemon.hooks(), sum, body.clone()).await;
            assert_eq!((status, problem["code"].as_str()), (401, Some("hook_unverified")), "{sum}");
            refused += 1;
        }
        let bare = http().post(daemon.hooks()).body(body).send().await.unwrap();
        assert_eq!(bare.status(), 401);
        refused += 1;
    }
    assert_eq!(daemon.counted("unverified").await, refused);
    assert_eq!(daemon.get(&format!("/v1/watches/retab/{unknown}")).await.0, 404);
    assert_eq!(daemon.get(&format!("/v1/watches/retab/{watched}")).await.1["polls"], 1);
    assert_eq!(mock.total(), requests);
    let hooks = hook_source(&daemon).await;
    assert_eq!((&hooks["received"], &hooks["refused"]), (&json!(0), &json!(refused)), "{hooks}");
    assert!(hooks["last_refusal"].is_string(), "{hooks}");
    assert_eq!(hook(&daemon, &watched).await, 204);
    assert!(hook_source(&daemon).await["last_refusal"].is_null(), "a verified hook followed");
    daemon.stop().await;
}

#[tokio::test]
async fn an_unknown_job_is_registered_only_where_that_is_wanted() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let daemon =
        Daemon::start(hooked(config(folder.path(), &mock), |hooks| hooks.register = Some(true))).await;
    let id = ended(&mock);
    assert_eq!(hook(&daemon, &id).await, 204);
    assert_eq!(daemon.finished(&id).await["outcome"], "completed");
    assert_eq!(daemon.counted("registered").await, 1);
    // A hook that names no job, or none that can be, is not sent again for ever.
    for body in ["{}", "not json", "", r#"{"data":{"id":"a\nb"}}"#, r#"{"data":{"id":".."}}"#] {
        let (status, _) = send(&daemon.hooks(), &signature(SECRET, body.as_bytes()), body).await;
        assert_eq!(status, 204, "{body}");
    }
    assert_eq!(daemon.counted("no_id").await, 5);
    daemon.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(hooked(config(folder.path(), &mock), |_| {})).await;
    let id = ended(&mock);
    assert_eq!(hook(&daemon, &id).await, 204);
    assert_eq!(daemon.counted("unknown").await, 1);
    assert_eq!(daemon.get(&format!("/v1/watches/retab/{id}")).await.0, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn a_flood_leads_to_one_poll_at_a_time_within_the_budget() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let mut config = hooked(config(folder.path(), &mock), |_| {});
    let source = config.sources.get_mut("retab").unwrap();
    source.polling.min_interval = HumanDuration::secs(1800);
    source.max_requests_per_second = 5.0;
    let daemon = Daemon::start(config).await;
    let ids: Vec<String> =
        (0..20).map(|_| mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)))).collect();
    for id in &ids {
        daemon.watch(id).await;
    }
    let began = tokio::time::Instant::now();
    let url = daemon.hooks();
    together(ids.clone().into_iter().map(|id| {
        let url = url.clone();
        async move {
            let body = json!({"data": {"id": id}}).to_string();
            for _ in 0..50 {
                assert_eq!(send(&url, &signature(SECRET, body.as_bytes()), body.clone()).await.0, 204);
            }
        }
    }))
    .await;
    for id in &ids {
        daemon.until(id, "polled", |watch| watch["polls"].as_u64() >= Some(1)).await;
    }
    let most = 5.0 * began.elapsed().as_secs_f64() + 5.0;
    let polls = mock.requests(None, Some(tidings::mock::Kind::Status));
    #[expect(clippy::cast_precision_loss, reason = "a few polls")]
    let sent = polls as f64;
    assert!(sent <= most, "{polls} polls, {most} allowed");
    for id in &ids {
        let polls = mock.requests(Some(id), Some(tidings::mock::Kind::Status));
        assert!(polls <= 2, "{polls} polls of one job");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_too_large_or_unknown_has_its_own_answer() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let mut config = hooked(config(folder.path(), &mock), |_| {});
    let plain = tidings::upstream::SourceConfig { hooks: None, ..config.sources["retab"].clone() };
    config.sources.insert("plain".to_owned(), plain);
    config.server.token = Some(Secret::new("the token of the daemon"));
    let daemon = Daemon::start(config).await;
    let largest = usize::try_from(Size::mib(1).0).unwrap();
    let padded = |id: &str, length: usize| {
        let start = format!("{{\"data\":{{\"id\":\"{id}\"}}}}");
        format!("{start}{}", " ".repeat(length - start.len()))
    };
    let fits = padded("a", largest);
    assert_eq!(send(&daemon.hooks(), &signature(SECRET, fits.as_bytes()), fits).await.0, 204);
    let large = padded("a", largest + 1);
    let (status, problem) = send(&daemon.hooks(), &signature(SECRET, large.as_bytes()), large).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("body_too_large")));
    for name in ["plain", "nobody"] {
        let (status, problem) = send(&format!("{}/hooks/{name}", daemon.url), "", "{}").await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("no_hooks")), "{name}");
    }
    // The rest still needs the token.
    for path in ["/v1/sources", "/metrics", "/v1/watches"] {
        assert_eq!(http().get(format!("{}{path}", daemon.url)).send().await.unwrap().status(), 401, "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn hooks_that_hang_do_not_keep_out_real_ones() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let daemon = Daemon::start(hooked(config(folder.path(), &mock), |_| {})).await;
    let id = ended(&mock);
    daemon.watch(&id).await;
    daemon.finished(&id).await;
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut hung = Vec::new();
    for number in 0..200 {
        let length = if number % 2 == 0 { "Content-Length: 1000" } else { "Transfer-Encoding: chunked" };
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let head = format!("POST /hooks/retab HTTP/1.1\r\nHost: x\r\nX-Signature: sha256=00\r\n{length}\r\n");
        // Asked to go on: the daemon reads the body.
        stranger.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
        hung.push(stranger);
    }
    assert_eq!(hook(&daemon, &id).await, 204);
    let mut said = [0; 12];
    for stranger in &mut hung {
        stranger.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 100", "each is read");
    }
    drop(hung);
    daemon.stop().await;
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_restart_and_a_token_never_shows() {
    let home = Home::new("").await;
    let keys = home.path().join("hook-secrets");
    std::fs::write(&keys, "first-secret\n").unwrap();
    home.configure(
        "[sources.retab.hooks]\nverify = \"token\"\nquery = \"key\"\nsecrets_file = \"hook-secrets\"\nid_at = [\"/id\"]\n",
    );
    let process = home.run_with(&["-v"]).await;
    let hook = async |token: &str| {
        let url = format!("{}/hooks/retab?key={token}", process.url);
        http().post(url).body("{\"id\":\"job_1\"}").send().await.unwrap().status().as_u16()
    };
    assert_eq!((hook("first-secret").await, hook("second-secret").await), (204, 401));
    let beside = home.path().join("beside");
    std::fs::write(&beside, "second-secret\nfirst-secret\n").unwrap();
    std::fs::rename(&beside, &keys).unwrap();
    assert_eq!((hook("first-secret").await, hook("second-secret").await), (204, 204));
    std::fs::write(&beside, "second-secret\n").unwrap();
    std::fs::rename(&beside, &keys).unwrap();
    assert_eq!((hook("first-secret").await, hook("second-secret").await), (401, 204));
    std::fs::remove_file(&keys).unwrap();
    assert_eq!(hook("second-secret").await, 503, "the source sends it again");
    let log = process.log();
    assert!(!log.contains("first-secret") && !log.contains("second-secret"), "{log}");
    process.kill().await;
}

#[tokio::test]
async fn hooks_of_the_mock_announce_every_end() {
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let config = hooked(config(folder.path(), &mock), |hooks| {
        *hooks = HooksConfig {
            verify: Some(VerifyMethod::StandardWebhooks),
            secret: Some(secret.clone()),
            id_at: Some(vec!["/data/id".to_owned()]),
            ..HooksConfig::default()
        };
    });
    let daemon = Daemon::start(config).await;
    mock.send_hooks(MockHooks { url: daemon.hooks(), secret, share: 1.0 }).unwrap();
    let ids: Vec<String> =
        (0..20).map(|_| mock.add_job(JobPlan::new().lasting(Duration::from_secs(1)))).collect();
    for id in &ids {
        daemon.watch(id).await;
    }
    for id in &ids {
        assert_eq!(daemon.finished(id).await["outcome"], "completed");
    }
    assert_eq!(hook_source(&daemon).await["announced"], 20);
    daemon.stop().await;
}

#[tokio::test]
async fn the_reliability_survives_a_restart() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock().await);
    let learned = |mut config: Config| {
        config.sources.get_mut("retab").unwrap().polling = PollingConfig::default();
        config
    };
    let daemon = Daemon::start(learned(hooked(config(folder.path(), &mock), |_| {}))).await;
    for _ in 0..12 {
        let id = mock.add_job(JobPlan::new().lasting(Duration::from_secs(600)));
        daemon.watch(&id).await;
        mock.advance(Duration::from_secs(700));
        assert_eq!(hook(&daemon, &id).await, 204);
        daemon.finished(&id).await;
    }
    let hooks = hook_source(&daemon).await;
    let share = hooks["reliability"].as_f64().unwrap();
    assert!(share > 0.8, "{hooks}");
    daemon.stop().await;
    let daemon = Daemon::start(learned(hooked(config(folder.path(), &mock), |_| {}))).await;
    let after =
        eventually("the learned model", async || hook_source(&daemon).await["reliability"].as_f64()).await;
    assert!((after - share).abs() < 1e-3, "{after} instead of {share}");
    daemon.stop().await;
}
