//! `GET /v1/events` and `tidings events`: live, resumed, filtered, and with readers that do not read.

use std::{collections::BTreeSet, fmt::Write as _, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tidings::{
    config::{Config, StreamLimits},
    mock::Mock,
    util::units::HumanDuration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Daemon, Home, PATIENCE, Process, Sinks as _, binary, config, eventually, http, mock};

/// One message of the stream.
#[derive(Clone, Debug, Default)]
struct Message {
    id: String,
    event: String,
    data: String,
    comment: bool,
}

impl Message {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A client of the stream that reads it as a browser does.
struct Reader {
    answer: reqwest::Response,
    text: Vec<u8>,
}

impl Reader {
    async fn open(url: &str, query: &str, after: Option<&str>) -> Self {
        let mut request = http().get(format!("{url}/v1/events{query}")).header("accept", "text/event-stream");
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        Self { answer, text: Vec::new() }
    }

    /// The next message of any kind; `None` at the end.
    async fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let block = String::from_utf8(std::mem::replace(&mut self.text, rest)).unwrap();
                let mut message = Message::default();
                for line in block.lines() {
                    match line.split_once(':') {
                        Some(("id", value)) => value.trim().clone_into(&mut message.id),
                        Some(("event", value)) => value.trim().clone_into(&mut message.event),
                        Some(("data", value)) => value.trim().clone_into(&mut message.data),
                        Some(("", _)) => message.comment = true,
                        _ => {}
                    }
                }
                return Some(message);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("something comes");
            match chunk {
                Ok(Some(chunk)) => self.text.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next event.
    async fn event(&mut self) -> Message {
        loop {
            let message = self.message().await.expect("an event comes");
            if !message.data.is_empty() {
                return message;
            }
        }
    }
}

async fn start(change: impl FnOnce(&mut Config)) -> (Mock, Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let mut config = config(folder.path(), &mock);
    change(&mut config);
    let daemon = Daemon::start(config).await;
    (mock, daemon, folder)
}

/// Watches a job that ends at once.
async fn job(mock: &Mock, daemon: &Daemon, id: &str, team: &str) {
    mock.add_job(tidings::mock::JobPlan::new().id(id).lasting(Duration::ZERO));
    let (status, watch) = daemon.post("/v1/watches", &json!({"job_id": id, "labels": {"team": team}})).await;
    assert_eq!(status, 202, "{watch}");
}

#[tokio::test]
async fn events_come_live_with_what_a_reader_needs() {
    let (mock, daemon, _folder) = start(|_| {}).await;
    job(&mock, &daemon, "before", "a").await;
    daemon.finished("before").await;
    let mut reader = Reader::open(&daemon.url, "", None).await;
    job(&mock, &daemon, "job/1", "billing").await;
    let message = reader.event().await;
    let watch = daemon.finished("job/1").await;
    let event = message.json();
    assert_eq!((message.event.as_str(), &event["type"]), ("job.completed", &"job.completed".into()));
    assert_eq!((&event["id"], &event["job_id"]), (&watch["event_id"], &"job/1".into()));
    assert_eq!((&event["job_size"], &event["outcome"]), (&watch["job_size"], &"completed".into()));
    assert_eq!(event["labels"], json!({"team": "billing"}));
    let (_, bytes) = daemon.get_bytes(event["job"].as_str().unwrap()).await;
    assert_eq!(bytes, mock.full_body("job/1").unwrap());
    // From the start of what is kept.
    let mut all = Reader::open(&daemon.url, "", Some("0")).await;
    assert_eq!(all.event().await.json()["job_id"], "before");
    assert_eq!(all.event().await.id, message.id);
    let (_, metrics) = daemon.get_bytes("/metrics").await;
    assert!(String::from_utf8(metrics).unwrap().contains("tidings_event_readers 2"));
    daemon.stop().await;
    assert!(reader.message().await.is_none(), "it ends with the daemon");
}

#[tokio::test]
async fn a_reader_chooses_and_wrong_choices_are_refused() {
    let (mock, daemon, _folder) = start(|_| {}).await;
    let mut sales = Reader::open(&daemon.url, "?source=retab&label.team=sales", None).await;
    let mut none = Reader::open(&daemon.url, "?source=other", None).await;
    job(&mock, &daemon, "job_1", "billing").await;
    daemon.finished("job_1").await;
    job(&mock, &daemon, "job_2", "sales").await;
    assert_eq!(sales.event().await.json()["job_id"], "job_2");
    let (status, problem) = daemon.get("/v1/events?team=x").await;
    assert_eq!((status, &problem["code"]), (400, &"unknown_parameter".into()));
    for bad in ["evt_1", "-1", ""] {
        let request = http().get(format!("{}/v1/events", daemon.url)).header("last-event-id", bad);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains("Last-Event-ID"));
    }
    daemon.stop().await;
    while let Some(message) = none.message().await {
        assert!(message.data.is_empty(), "{message:?}");
    }
}

#[tokio::test]
async fn a_stream_shows_only_what_no_sink_took() {
    let (mock, daemon, folder) = start(|_| ()).await;
    daemon.stop().await;
    let mut config = config(folder.path(), &mock).disk("files", &folder.path().join("out"));
    if let Some(tidings::deliver::SinkConfig::Disk(files)) = config.sinks.get_mut("files") {
        files.events = vec!["job.failed".to_owned()];
    }
    let daemon = Daemon::start(config).await;
    let mut unrouted = Reader::open(&daemon.url, "?routed=false", None).await;
    mock.add_job(
        tidings::mock::JobPlan::new().id("bad").lasting(Duration::ZERO).ending(tidings::mock::Ending::Failed),
    );
    daemon.watch("bad").await;
    daemon.finished("bad").await;
    job(&mock, &daemon, "good", "a").await;
    assert_eq!(unrouted.event().await.json()["job_id"], "good");
    let mut all = Reader::open(&daemon.url, "?routed=true", Some("0")).await;
    assert_eq!(all.event().await.json()["job_id"], "bad");
    daemon.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_is_alive_and_readers_are_limited() {
    let limits = StreamLimits { heartbeat: Duration::from_millis(20), readers: 1, ..StreamLimits::default() };
    let (_mock, daemon, _folder) = start(|config| config.server.streams = limits).await;
    let mut reader = Reader::open(&daemon.url, "", None).await;
    for _ in 0..3 {
        while !reader.message().await.expect("a comment comes").comment {}
    }
    let (status, problem) = daemon.get("/v1/events").await;
    assert_eq!((status, &problem["code"]), (503, &"too_many_readers".into()));
    drop(reader);
    eventually("the place is free again", || async {
        let answer = http().get(format!("{}/v1/events", daemon.url)).send().await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_reader_comes_back_after_a_kill_without_gap_or_double() {
    let home = Home::new("").await;
    let ids: Vec<String> = (0..60).map(|n| format!("job_{n}")).collect();
    for id in &ids {
        home.mock.add_job(tidings::mock::JobPlan::new().id(id).lasting(Duration::ZERO));
    }
    let watch = async |url: &str, ids: &[String]| {
        let watches: Vec<_> = ids.iter().map(|id| json!({"job_id": id})).collect();
        let body = json!({"watches": watches});
        let answer = http().post(format!("{url}/v1/watches/batch")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    let process = home.run().await;
    let mut reader = Reader::open(&process.url, "", None).await;
    watch(&process.url, &ids[..30]).await;
    let mut seen = Vec::new();
    while seen.len() < 7 {
        seen.push(reader.event().await);
    }
    process.kill().await;
    let process = home.run().await;
    watch(&process.url, &ids[30..]).await;
    let last = seen.last().unwrap().id.clone();
    let mut reader = Reader::open(&process.url, "", Some(&last)).await;
    while seen.len() < 60 {
        seen.push(reader.event().await);
    }
    let jobs: BTreeSet<String> = seen.iter().map(|one| one.json()["job_id"].to_string()).collect();
    assert_eq!((jobs.len(), seen.len()), (60, 60));
    let places: Vec<u64> = seen.iter().map(|one| one.id.parse().unwrap()).collect();
    assert!(places.is_sorted());
    process.terminate().await;
}

/// A client with the least of a receive buffer that asks for the stream and then reads nothing.
async fn mute(daemon: &Daemon) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET /v1/events HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // Its place is taken once the head is there.
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    stream
}

/// Ends many jobs whose events are as large as they get.
async fn flood(mock: &Mock, daemon: &Daemon, count: usize) {
    let labels: serde_json::Map<String, Value> =
        (0..16).map(|n| (format!("label_{n}"), "\u{1F4E8}".repeat(512).into())).collect();
    let mut watches = Vec::new();
    for n in 0..count {
        let id = mock.add_job(tidings::mock::JobPlan::new().id(format!("big_{n}")).lasting(Duration::ZERO));
        watches.push(json!({"job_id": id, "labels": labels}));
    }
    for part in watches.chunks(100) {
        assert_eq!(daemon.post("/v1/watches/batch", &json!({"watches": part})).await.0, 200);
    }
    eventually("all have ended", || async {
        let (_, text) = daemon.get_bytes("/metrics").await;
        let line = format!(r#"tidings_events_total{{outcome="completed",source="retab"}} {count}"#);
        String::from_utf8(text).unwrap().contains(&line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_is_told_that_it_fell_behind() {
    let limits = StreamLimits { behind: 20, ..StreamLimits::default() };
    let (mock, daemon, _folder) = start(|config| config.server.streams = limits).await;
    let mut slow = mute(&daemon).await;
    flood(&mock, &daemon, 250).await;
    let mut text = String::new();
    slow.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("event: dropped"), "{} bytes came", text.len());
    assert!(text.contains("fell more than 20 events behind"));
    let (_, metrics) = daemon.get_bytes("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains(r#"tidings_event_readers_dropped_total{reason="behind"} 1"#), "{metrics}");
    // One that comes back from afar is catching up, and is not dropped for that.
    let mut back = Reader::open(&daemon.url, "", Some("0")).await;
    for _ in 0..250 {
        assert_eq!(back.event().await.event, "job.completed");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_holds_up_no_stop() {
    let (mock, daemon, _folder) =
        start(|config| config.server.write_timeout = HumanDuration::millis(200)).await;
    let _mute = mute(&daemon).await;
    flood(&mock, &daemon, 250).await;
    eventually("it is cut off", || async {
        let (_, metrics) = daemon.get_bytes("/metrics").await;
        let line = r#"tidings_event_readers_dropped_total{reason="write_timeout"} 1"#;
        String::from_utf8(metrics).unwrap().contains(line).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_terminal_follows_over_a_restart() {
    let home = Home::new("").await;
    let first = home.run().await;
    let url = first.url.clone();
    let mut child = binary()
        .args(["events", "--url", &url, "--since-id", "0", "--output", "json"])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut remarks = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    let ended = async |url: &str, id: &str| {
        home.mock.add_job(tidings::mock::JobPlan::new().id(id).lasting(Duration::ZERO));
        let body = json!({"job_id": id});
        let answer = http().post(format!("{url}/v1/watches")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    };
    ended(&url, "one").await;
    let _ = write!(seen, "{}", lines.next_line().await.unwrap().unwrap());
    first.kill().await;
    assert!(remarks.next_line().await.unwrap().unwrap().contains("trying again"));
    let listen = url.strip_prefix("http://").unwrap();
    let mut command = binary();
    command.args(["run", "--listen", listen]).current_dir(home.path());
    let second = Process::spawn(command).await;
    eventually("it is ready", || async { http().get(format!("{url}/readyz")).send().await.ok() }).await;
    ended(&url, "two").await;
    let _ = write!(seen, "{}", lines.next_line().await.unwrap().unwrap());
    assert!(seen.contains(r#""job_id":"one""#) && seen.contains(r#""job_id":"two""#), "{seen}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    second.terminate().await;
}

#[tokio::test]
async fn a_route_is_explained_as_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/concepts/events.md")).unwrap();
    let block = |language: &str| {
        let start = text.find(&format!("```{language}\n")).unwrap() + language.len() + 4;
        text[start..start + text[start..].find("```").unwrap()].to_owned()
    };
    std::fs::write(folder.path().join("tidings.toml"), block("toml")).unwrap();
    let run = async |line: &str| {
        let words = shlex::split(line).unwrap();
        // A file that is named is explained, whatever daemon runs on this machine.
        let mut command = binary();
        command.args(&words[1..]).current_dir(folder.path()).env("TIDINGS_CONFIG", "tidings.toml");
        let output = command.output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let commands = block("sh");
    let mut commands = commands.lines();
    assert_eq!(run(commands.next().unwrap()).await, (0, block("text")));
    let (status, json) = run(commands.next().unwrap()).await;
    let explained: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &explained["sinks"][1]["gets"]), (0, &true.into()), "{json}");
    let (status, nowhere) = run("tidings config route --outcome expired").await;
    assert_eq!(status, 0);
    assert!(nowhere.contains("goes nowhere") && nowhere.contains("labels.team wants `billing`"), "{nowhere}");
    for (line, known) in [
        ("tidings config route --outcome done", "`completed`"),
        ("tidings config route --event job.done", "`job.updated`"),
        ("tidings config route --outcome lost --sink ap", "`board`"),
        ("tidings config route --outcome lost --source retap", "`retab`"),
    ] {
        let (status, told) = run(line).await;
        assert_eq!(status, 2, "{line}: {told}");
        assert!(told.contains(known), "{told}");
    }
}

/// Waits for the next message that says that something changed.
async fn changed(reader: &mut Reader) -> std::time::Instant {
    loop {
        let message = reader.message().await.expect("a message comes");
        if message.event == "changed" {
            assert_eq!((message.data.as_str(), message.id.as_str()), ("{}", ""), "it moves no position");
            return std::time::Instant::now();
        }
    }
}

#[tokio::test]
async fn a_page_is_told_of_every_change_at_once_and_then_once_a_second() {
    let (mock, daemon, _folder) = start(|_| {}).await;
    let mut page = Reader::open(&daemon.url, "?changes=true&types=group.*", None).await;
    let mut other = Reader::open(&daemon.url, "", None).await;
    let before = std::time::Instant::now();
    // A registration, statuses, the end, the result: far more than two changes.
    for n in 0..20 {
        job(&mock, &daemon, &format!("job_{n}"), "a").await;
    }
    for told in 0..2 {
        let at = changed(&mut page).await;
        assert!(at.duration_since(before) >= Duration::from_secs(told), "{told}: {:?}", at - before);
    }
    for n in 0..20 {
        daemon.finished(&format!("job_{n}")).await;
    }
    // All is done: what was left to tell is told, then there is silence. The next change ends it.
    let mut told = 0;
    while tokio::time::timeout(Duration::from_millis(2500), changed(&mut page)).await.is_ok() {
        told += 1;
        assert!(told <= 3, "nothing changes any more");
    }
    job(&mock, &daemon, "last", "a").await;
    changed(&mut page).await;
    loop {
        let message = other.event().await;
        assert_ne!(message.event, "changed", "who did not ask is not told");
        if message.json()["job_id"] == "last" {
            break;
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_page_is_told_of_health_and_pauses_which_no_event_tells() {
    let receiver = crate::harness::Receiver::start().await;
    let (mock, daemon, _folder) = {
        let folder = tempfile::tempdir().unwrap();
        let mock = mock().await;
        let daemon = Daemon::start(config(folder.path(), &mock).webhook("app", &receiver.url(), 0)).await;
        (mock, daemon, folder)
    };
    let mut page = Reader::open(&daemon.url, "?changes=true", None).await;
    assert_eq!(daemon.post("/v1/sinks/app/pause", &Value::Null).await.0, 200);
    changed(&mut page).await;
    assert_eq!(daemon.post("/v1/sinks/app/resume", &Value::Null).await.0, 200);
    changed(&mut page).await;
    // The source refuses the key: polls are recorded nowhere, but its health is another.
    let id = mock.add_job(tidings::mock::JobPlan::new().lasting(Duration::from_secs(3600)));
    daemon.watch(&id).await;
    daemon.until(&id, "is polled", |watch| watch["polls"].as_u64() > Some(1)).await;
    drop(mock);
    loop {
        changed(&mut page).await;
        let (_, seen) = daemon.get("/v1/overview").await;
        if seen["problems"].as_array().unwrap().iter().any(|problem| problem["code"] == "source_failing") {
            break;
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn only_the_stream_takes_changes() {
    let (_mock, daemon, _folder) = start(|_| {}).await;
    for query in ["changes=yes", "changes=true&limit=5", "changes=true&routed=false"] {
        let (status, problem) = daemon.get(&format!("/v1/events?{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &"bad_parameter".into()), "{query}: {problem}");
    }
    daemon.stop().await;
}
