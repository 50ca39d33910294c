//! A folder of finished jobs: two jobs never share a file, whatever the path says, and neither do two sinks.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::json;
use tidings::{
    config::Config,
    deliver::{DiskConfig, Format, SinkConfig},
    mock::{Ending, JobPlan, Mock},
};

use crate::harness::{Daemon, Sinks as _, config, eventually, http, mock, once, segment, show};

/// The files below a folder, with what is in them.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    named.collect()
}

fn archive(mut config: Config, dir: &Path, path: &str) -> Config {
    let disk = DiskConfig { path: path.to_owned(), ..DiskConfig::to(dir) };
    config.sinks.insert("archive".to_owned(), SinkConfig::Disk(disk));
    config
}

/// Sources of these names, each with a mock of its own.
async fn sources<const N: usize>(mut config: Config, names: [&str; N]) -> (Config, Vec<Mock>) {
    let mut mocks = Vec::new();
    let retab = config.sources.remove("retab").unwrap();
    for name in names {
        let mock = mock().await;
        let mut source = retab.clone();
        source.base_url = Some(mock.base_url());
        config.sources.insert(name.to_owned(), source);
        mocks.push(mock);
    }
    (config, mocks)
}

async fn watch(daemon: &Daemon, source: &str, job: &str) {
    let body = json!({"source": source, "job_id": job});
    assert_eq!(daemon.post("/v1/watches", &body).await.0, 202);
}

async fn delivered(daemon: &Daemon, source: &str, job: &str) {
    let path = format!("/v1/watches/{source}/{}", segment(job));
    eventually(&format!("{job} of {source} is delivered"), || async {
        (daemon.get(&path).await.1["phase"] == "done").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_same_id_in_three_sources_makes_three_files() {
    let folder = tempfile::tempdir().unwrap();
    let (out, names) = (folder.path().join("out"), ["one", "two", "three"]);
    let (config, mocks) = sources(config(folder.path(), &mock().await), names).await;
    let daemon = Daemon::start(archive(config, &out, "{job_id}.json")).await;
    for (name, mock) in names.iter().zip(&mocks) {
        mock.add_job(JobPlan::new().id("job_1").with_metadata("of", name));
        watch(&daemon, name, "job_1").await;
    }
    for name in names {
        delivered(&daemon, name, "job_1").await;
    }
    let files = files(&out);
    assert_eq!(files.len(), 3, "{:?}", files.keys());
    assert!(files.contains_key("job_1.json"));
    for mock in &mocks {
        let body = mock.full_body("job_1").unwrap();
        assert_eq!(files.values().filter(|file| **file == body).count(), 1);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn names_that_run_into_each_other_make_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (config, mocks) = sources(config(folder.path(), &mock().await), ["a", "a-b"]).await;
    let daemon = Daemon::start(archive(config, &out, "{source}-{job_id}.json")).await;
    // Not a byte tells the two apart.
    for (mock, id) in mocks.iter().zip(["b-x", "x"]) {
        mock.set_raw(id, tidings::mock::Raw::new(r#"{"status":"completed"}"#, r#"{"status":"completed"}"#));
    }
    watch(&daemon, "a", "b-x").await;
    delivered(&daemon, "a", "b-x").await;
    watch(&daemon, "a-b", "x").await;
    delivered(&daemon, "a-b", "x").await;
    let files = files(&out);
    assert_eq!(files.len(), 2, "{:?}", files.keys());
    assert!(files.contains_key("a-b-x.json"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_retried_job_replaces_its_own_file_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (out, names) = (folder.path().join("out"), ["one", "two"]);
    let (config, mocks) = sources(config(folder.path(), &mock().await), names).await;
    let daemon = Daemon::start(archive(config, &out, "{job_id}.json")).await;
    for (name, mock) in names.iter().zip(&mocks) {
        mock.add_job(JobPlan::new().id("job_1").ending(Ending::Failed).with_metadata("of", name));
        watch(&daemon, name, "job_1").await;
        delivered(&daemon, name, "job_1").await;
    }
    let before = files(&out);
    assert_eq!(before.len(), 2, "{:?}", before.keys());
    for (name, mock) in names.iter().zip(&mocks) {
        let url = format!("{}/v1/jobs/job_1/retry", mock.base_url());
        assert!(http().post(url).send().await.unwrap().status().is_success());
        watch(&daemon, name, "job_1").await;
        let path = format!("/v1/watches/{name}/job_1");
        eventually("the retried job is delivered", || async {
            let watch = daemon.get(&path).await.1;
            let body = mock.full_body("job_1").unwrap();
            (watch["phase"] == "done" && files(&out).into_values().any(|file| file == body)).then_some(())
        })
        .await;
    }
    let after = files(&out);
    assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
    for mock in &mocks {
        let body = mock.full_body("job_1").unwrap();
        assert_eq!(after.values().filter(|file| **file == body).count(), 1);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn two_sinks_with_one_folder_have_a_file_each() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let out = folder.path().join("out");
    let mut config = config(folder.path(), &mock).disk("raw", &out).disk("whole", &out);
    let Some(SinkConfig::Disk(disk)) = config.sinks.get_mut("whole") else { panic!("a disk") };
    disk.format = Format::Envelope;
    let daemon = Daemon::start(config).await;
    let job = mock.add_job(JobPlan::new().id("job_1"));
    daemon.watch(&job).await;
    daemon.finished(&job).await;
    let files = files(&out.join("retab"));
    assert_eq!(files.len(), 2, "{:?}", files.keys());
    assert_eq!(files.values().filter(|file| **file == mock.full_body(&job).unwrap()).count(), 1);
    // Each finds its own again.
    let body = json!({"state": "delivered"});
    assert_eq!(daemon.post("/v1/deliveries/redeliver", &body).await, (202, json!({"count": 2})));
    daemon.finished(&job).await;
    assert_eq!(self::files(&out.join("retab")), files);
    daemon.stop().await;
}

#[tokio::test]
async fn a_file_of_somebody_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("job_1.json"), "notes").unwrap();
    let daemon = Daemon::start(archive(config(folder.path(), &mock), &out, "{job_id}.json")).await;
    let job = mock.add_job(JobPlan::new().id("job_1"));
    daemon.watch(&job).await;
    daemon.finished(&job).await;
    let files = files(&out);
    assert_eq!(files.len(), 2, "{:?}", files.keys());
    assert_eq!(files["job_1.json"], b"notes");
    daemon.stop().await;
}

#[tokio::test]
async fn an_earlier_event_that_is_late_does_not_take_the_file_of_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock().await;
    let out = folder.path().join("out");
    let daemon = Daemon::start(config(folder.path(), &mock).disk("archive", &out)).await;
    let job = mock.add_job(JobPlan::new().id("job_1").ending(Ending::Failed));
    daemon.watch(&job).await;
    let first = daemon.finished(&job).await;
    let early = mock.full_body(&job).unwrap();
    let retry = format!("{}/v1/jobs/job_1/retry", mock.base_url());
    assert!(http().post(retry).send().await.unwrap().status().is_success());
    daemon.watch(&job).await;
    let done = |watch: &serde_json::Value| watch["phase"] == "done" && watch["event_id"] != first["event_id"];
    daemon.until(&job, "ends again", done).await;
    let late = mock.full_body(&job).unwrap();
    assert_eq!(files(&out.join("retab")).into_values().collect::<Vec<_>>(), [late.to_vec()]);
    let path = format!("/v1/deliveries/{}", first["deliveries"][0]["id"].as_str().unwrap());
    assert_eq!(daemon.post(&format!("{path}/redeliver"), &json!({})).await.0, 202);
    eventually("the first event is written again", || async {
        (daemon.get(&path).await.1["state"] == "delivered").then_some(())
    })
    .await;
    let files = files(&out.join("retab"));
    assert_eq!(files["job_1.json"], late);
    assert_eq!(files.into_values().filter(|file| *file == early).count(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_check_notes_a_path_that_two_jobs_can_have() {
    let folder = tempfile::tempdir().unwrap();
    let sources = ["[sources.retab]", "[sources.retab]\n[sources.other]\ntype = \"retab\""];
    for (path, noted) in [
        ("{source}/{job_id}.json", [false, false]),
        ("{job_id}.json", [false, true]),
        ("{source}-{job_id}.json", [true, true]),
        ("{outcome}.{job_id}.json", [true, true]),
    ] {
        for (sources, noted) in sources.iter().zip(noted) {
            let text =
                format!("{sources}\n[sinks.archive]\ntype = \"disk\"\ndir = \"out\"\npath = \"{path}\"\n");
            fs::write(folder.path().join("tidings.toml"), text).unwrap();
            let output = once(folder.path(), &["config", "check"]).await;
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(0), "{}", show(&output));
            assert_eq!(
                said.contains("sinks.archive.path can be the same for two jobs"),
                noted,
                "{path}: {said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_event_never_takes_the_place_of_a_later_one() {
    const JOBS: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let (out, late, mock) = (folder.path().join("out"), folder.path().join("late"), mock().await);
    let mut config = config(folder.path(), &mock).disk("archive", &out).disk("late", &late);
    for (name, events) in [("archive", "job.completed"), ("late", "job.expired")] {
        let Some(SinkConfig::Disk(disk)) = config.sinks.get_mut(name) else { panic!("{name} is there") };
        (disk.events, disk.path) = (vec![events.to_owned()], "{job_id}.json".to_owned());
    }
    let daemon = Daemon::start(config).await;
    let jobs: Vec<String> = (0..JOBS).map(|n| format!("job_{n}")).collect();
    for job in &jobs {
        mock.add_job(JobPlan::new().id(job).ending(Ending::Failed));
        watch(&daemon, "retab", job).await;
    }
    for job in &jobs {
        delivered(&daemon, "retab", job).await;
        let url = format!("{}/v1/jobs/{job}/retry", mock.base_url());
        assert!(http().post(url).send().await.unwrap().status().is_success());
        watch(&daemon, "retab", job).await;
    }
    for job in &jobs {
        let path = format!("/v1/watches/retab/{job}");
        eventually("the retried job is delivered", || async {
            let watch = daemon.get(&path).await.1;
            (watch["phase"] == "done" && watch["outcome"] == "completed").then_some(())
        })
        .await;
    }
    // One sink has the later events alone, the other one has nothing yet.
    for (sink, count) in [("archive", JOBS), ("late", 2 * JOBS)] {
        let answer = daemon.post("/v1/deliveries/deliver", &json!({"sink": sink})).await;
        assert_eq!((answer.0, &answer.1["count"]), (202, &json!(count)));
    }
    eventually("all is delivered", || async {
        let page = daemon.get("/v1/deliveries?limit=1000&state=delivered").await.1;
        (page["data"].as_array()?.len() == 4 * JOBS).then_some(())
    })
    .await;
    for dir in [&out, &late] {
        let files = files(dir);
        for job in &jobs {
            let file = &files[&format!("{job}.json")];
            assert!(*file == mock.full_body(job).unwrap(), "{job} in {}", dir.display());
        }
    }
    daemon.stop().await;
}
