//! `tidings store …`: a data folder is counted, checked, written out and taken in again.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tidings::mock::{JobPlan, Mock};

use crate::harness::{Process, Receiver, Reply, http, mock, once, show, write_config};

/// A folder whose daemon was killed with a job that is open, one that is delivered, and one that waits to be.
struct Killed {
    mock: Mock,
    receiver: Receiver,
    folder: tempfile::TempDir,
    open: String,
    done: String,
    waiting: String,
}

fn sink(receiver: &Receiver) -> String {
    let url = receiver.url();
    format!(
        "[sinks.app]\ntype = \"webhook\"\nurl = \"{url}\"\nretry = {{ schedule = [\"1s\", \"1s\", \"1s\"] }}\n"
    )
}

impl Killed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mock, receiver) = (mock().await, Receiver::start().await);
        write_config(folder.path(), &mock.base_url(), &sink(&receiver));
        let process = Process::run(folder.path(), &[]).await;
        let open = mock.add_job(JobPlan::new().lasting(Duration::from_secs(3600)));
        let (done, waiting) = (mock.add_job(JobPlan::new()), mock.add_job(JobPlan::new()));
        process.watch(&open).await;
        process.watch(&done).await;
        process.until(&done, "is done", |watch| watch["phase"] == "done").await;
        receiver.always(Reply::status(503));
        process.watch(&waiting).await;
        receiver.at_least(2).await;
        process.until(&waiting, "is delivering", |watch| watch["phase"] == "delivering").await;
        process.kill().await;
        Self { mock, receiver, folder, open, done, waiting }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn store(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = once(self.path(), &[&["store"], args].concat()).await;
        (output.status.code(), show(&output))
    }

    /// The files of the small stored jobs.
    fn segments(&self) -> Vec<std::path::PathBuf> {
        let segments = fs::read_dir(self.path().join("data/spool/segments")).unwrap();
        segments.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_store_goes_on_elsewhere_where_it_stopped() {
    let killed = Killed::new().await;
    let (status, said) = killed.store(&["stats", "--output", "json"]).await;
    assert_eq!(status, Some(0), "{said}");
    let output = once(killed.path(), &["store", "stats", "--output", "json"]).await;
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stats["watches"], json!({"retab": {"watching": 1, "delivering": 1, "done": 1}}), "{stats}");
    assert_eq!(stats["deliveries"], json!({"app": {"pending": 1, "delivered": 1}}), "{stats}");
    assert_eq!((&stats["jobs"], &stats["events"]), (&json!(2), &json!(2)), "{stats}");
    assert_eq!(killed.store(&["check", "--hashes"]).await.0, Some(0));
    let (status, said) = killed.store(&["export", "backup.jsonl"]).await;
    assert_eq!(status, Some(0), "{said}");
    let mode =
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(killed.path().join("backup.jsonl")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    // A file that is there is not written over.
    let (status, said) = killed.store(&["export", "backup.jsonl"]).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("cannot write backup.jsonl: it exists already") && said.contains("hint: "),
        "{said}"
    );
    let (status, said) = killed.store(&["export", "nowhere/backup.jsonl"]).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot write nowhere/backup.jsonl: there is no folder nowhere"), "{said}");
    assert!(said.contains("hint: ") && !said.contains("tmp"), "{said}");
    let (status, said) = killed.store(&["import", "backup.jsonl", "--data-dir", "restored"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(killed.store(&["check", "--hashes", "--data-dir", "restored"]).await.0, Some(0));
    // The same again is the same.
    assert_eq!(killed.store(&["export", "again.jsonl", "--data-dir", "restored"]).await.0, Some(0));
    let lines = |name: &str| {
        let text = fs::read_to_string(killed.path().join(name)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // The jobs may come in another order, and so the hash is another one.
        lines.pop();
        lines.sort();
        lines
    };
    assert!(lines("backup.jsonl") == lines("again.jsonl"));

    let before = killed.receiver.requests();
    let event = before.last().unwrap().header("webhook-id").to_owned();
    killed.receiver.always(Reply::status(204));
    let process = Process::run(killed.path(), &["--data-dir", "restored"]).await;
    process.until(&killed.waiting, "is done", |watch| watch["phase"] == "done").await;
    killed.mock.advance(Duration::from_secs(3600));
    process.until(&killed.open, "is done", |watch| watch["phase"] == "done").await;
    let after = killed.receiver.requests().split_off(before.len());
    assert_eq!(after.len(), 2, "what was delivered is not delivered again");
    assert_eq!(after[0].header("webhook-id"), event);
    let job =
        http().get(format!("{}/v1/watches/retab/{}/job", process.url, killed.done)).send().await.unwrap();
    assert_eq!(job.bytes().await.unwrap(), killed.mock.full_body(&killed.done).unwrap());
    // A folder that is in use is left alone.
    let (status, said) = killed.store(&["check", "--data-dir", "restored"]).await;
    assert!(status == Some(1) && said.contains("stop it"), "{said}");
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_whole_or_nothing() {
    let killed = Killed::new().await;
    assert_eq!(killed.store(&["export", "backup.jsonl"]).await.0, Some(0));
    let text = fs::read_to_string(killed.path().join("backup.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let header = lines[0].replace("\"format\":1", "\"format\":9");
    let other = text.replacen("\"watch\":2", "\"watch\":3", 1);
    assert!(other != text);
    let cases = [
        (lines[..lines.len() - 1].join("\n") + "\n", "not whole"),
        (text[..text.len() / 2].to_owned(), "not whole"),
        (other, "was changed"),
        (format!("{header}\n"), "format 9"),
        ("{}\n".to_owned(), "no line of an export"),
        (text.clone() + &text, "there is more after the end of the export"),
        (text.clone() + "\n{}", "there is more after the end of the export"),
    ];
    for (broken, expected) in cases {
        fs::write(killed.path().join("broken.jsonl"), broken).unwrap();
        let (status, said) = killed.store(&["import", "broken.jsonl", "--data-dir", "new"]).await;
        assert!(status == Some(1) && said.contains(expected), "{expected}: {said}");
        assert!(!killed.path().join("new").exists());
    }
    fs::write(killed.path().join("spaced.jsonl"), text + "\n \n").unwrap();
    let (status, said) = killed.store(&["import", "spaced.jsonl", "--data-dir", "spaced"]).await;
    assert_eq!(status, Some(0), "{said}");
    let left = fs::read_dir(killed.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".tidings")).collect();
    assert!(left.is_empty(), "{left:?}");
    let (status, said) = killed.store(&["import", "backup.jsonl", "--data-dir", "data"]).await;
    assert!(status == Some(1) && said.contains("is not empty"), "{said}");
    let (status, said) = killed.store(&["check", "--data-dir", "nowhere"]).await;
    assert!(status == Some(1) && said.contains("no store in nowhere"), "{said}");
    assert!(!killed.path().join("nowhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_what_does_not_hold_together() {
    let killed = Killed::new().await;
    let segments = killed.segments();
    assert_eq!(segments.len(), 1, "{segments:?}");
    let mut bytes = fs::read(&segments[0]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segments[0], bytes).unwrap();
    assert_eq!(killed.store(&["check"]).await.0, Some(0), "its size is right");
    let (status, said) = killed.store(&["check", "--hashes"]).await;
    assert!(status == Some(1) && said.contains("other bytes than were fetched"), "{said}");
    let stored = fs::File::options().write(true).open(&segments[0]).unwrap();
    stored.set_len(stored.metadata().unwrap().len() - 1).unwrap();
    fs::write(killed.path().join("data/spool/00000000000000ff-evt_none.json"), "{}").unwrap();
    let (status, said) = killed.store(&["check"]).await;
    // A stored job that belongs to no watch is no damaged record, and no backup brings it back.
    assert!(said.contains("2 problems found") && !said.contains("damaged"), "{said}");
    assert!(
        status == Some(1) && said.contains("cannot be read") && said.contains("belongs to no watch"),
        "{said}"
    );
}
