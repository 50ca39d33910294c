use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;
use crate::{
    deliver::{
        message::{Body, Subject},
        outcome::AttemptResult,
    },
    model::job::{EventType, Outcome},
};

const JOB: &str = "{ \"a\":1e-400 }\n";

fn message(job_id: &str, body: Body) -> Message {
    let subject = Subject {
        source: "retab".to_owned(),
        job_id: job_id.parse().unwrap(),
        kind: None,
        outcome: Some(Outcome::Completed),
        status: None,
        labels: BTreeMap::new(),
        reason: None,
    };
    let event = EventType::Ended(Outcome::Completed);
    Message::job("evt_1".to_owned(), event, Time(1_779_883_200_500), subject, body)
}

fn small(job_id: &str) -> Message {
    message(job_id, Body::Inline(JOB.into()))
}

fn disk(config: &DiskConfig) -> Disk {
    Disk::new("archive", config).unwrap()
}

async fn write(disk: &Disk, message: &Message) -> Result<(), String> {
    let outcome = disk.attempt(message, Time(0)).await;
    assert_eq!(outcome.result == AttemptResult::Delivered, outcome.error.is_none());
    outcome.error.map_or(Ok(()), Err)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_job_is_written_whole_and_for_the_owner_alone() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("deep/out");
    let disk = disk(&DiskConfig::to(&dir));
    for _ in 0..2 {
        write(&disk, &small("job_1")).await.unwrap();
        assert_eq!(fs::read_to_string(dir.join("retab/job_1.json")).unwrap(), JOB);
    }
    assert_eq!(names(&dir.join("retab")), ["job_1.json"]);
    assert_eq!(mode(&dir.join("retab/job_1.json")), 0o600);
    for folder in ["deep", "deep/out", "deep/out/retab"] {
        assert_eq!(mode(&root.path().join(folder)), 0o700, "{folder}");
    }
    assert_eq!(disk.shown(), dir.display().to_string());
}

#[tokio::test]
async fn no_id_leaves_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let disk = disk(&DiskConfig::to(&dir));
    let long = "/../".repeat(64);
    for id in ["../../etc/passwd", "/etc/passwd", "...", "a/../../b", &long] {
        write(&disk, &small(id)).await.unwrap();
    }
    assert_eq!(names(root.path()), ["out"]);
    assert_eq!(names(&dir), ["retab"]);
    assert_eq!(names(&dir.join("retab")).len(), 5);
}

#[tokio::test]
async fn a_planted_link_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (root.path().join("out"), root.path().join("elsewhere"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, dir.join("retab")).unwrap();
    let config = DiskConfig::to(&dir);
    let error = write(&disk(&config), &small("job_1")).await.unwrap_err();
    assert!(error.starts_with(&format!("cannot write {}/retab/job_1.json: ", dir.display())), "{error}");
    assert!(names(&elsewhere).is_empty());

    // A link in the place of the temporary file or of the target is replaced, not written through.
    let victim = elsewhere.join("victim");
    fs::write(&victim, "safe").unwrap();
    let flat = DiskConfig { path: "{source}+{job_id}".to_owned(), ..config };
    symlink(&victim, dir.join("retab+job_1")).unwrap();
    symlink(&victim, dir.join(temporary_name("evt_1", "archive", "retab+job_1"))).unwrap();
    write(&disk(&flat), &small("job_1")).await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
    assert_eq!(fs::read_to_string(dir.join("retab+job_1")).unwrap(), JOB);
}

#[tokio::test]
async fn a_folder_with_the_name_of_the_file_stays_and_the_event_is_written_beside_it() {
    for path in ["{source}/{job_id}.json", "{job_id}.json", "{source}/{job_id}.{result}"] {
        let root = tempfile::tempdir().unwrap();
        let disk = disk(&DiskConfig { path: path.to_owned(), ..DiskConfig::to(root.path()) });
        let file = root.path().join(path.replace("{source}", "retab").replace("{job_id}", "job_1"));
        let folder =
            file.with_file_name(file.file_name().unwrap().to_str().unwrap().replace("{result}", RESULT));
        fs::create_dir_all(folder.join("kept")).unwrap();
        for _ in 0..2 {
            write(&disk, &small("job_1")).await.unwrap();
            let mut names = names(folder.parent().unwrap());
            names.sort();
            assert_eq!(names.len(), 2, "{path}: {names:?}");
            assert!(folder.join("kept").is_dir(), "{path}");
            let beside = names.iter().find(|name| name.contains('~')).unwrap();
            assert_eq!(fs::read_to_string(folder.with_file_name(beside)).unwrap(), JOB, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_in_the_place_of_a_folder_is_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&dir).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, dir.join("retab")).unwrap();
    let disk = disk(&DiskConfig::to(&dir));
    let (file, place) = (dir.join("retab/job_1.json"), dir.join("retab"));
    let cannot = format!("cannot write {}: {} is ", file.display(), place.display());
    let error = write(&disk, &small("job_1")).await.unwrap_err();
    assert_eq!(error, format!("{cannot}a link, and links below the sink's `dir` are not followed"));
    assert!(names(&elsewhere).is_empty());
    fs::remove_file(&place).unwrap();
    fs::write(&place, "mine").unwrap();
    assert_eq!(write(&disk, &small("job_1")).await.unwrap_err(), format!("{cannot}not a folder"));
}

#[tokio::test]
async fn a_leftover_of_a_crash_is_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let config = DiskConfig { path: "{event_id}".to_owned(), ..DiskConfig::to(root.path()) };
    fs::write(root.path().join(temporary_name("evt_1", "archive", "evt_1")), "x".repeat(9999)).unwrap();
    write(&disk(&config), &small("job_1")).await.unwrap();
    assert_eq!(names(root.path()), ["evt_1"]);
    assert_eq!(fs::read_to_string(root.path().join("evt_1")).unwrap(), JOB);
}

#[tokio::test]
async fn a_failed_write_is_readable_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let taken = root.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    let error = write(&disk(&DiskConfig::to(&taken)), &small("job_1")).await.unwrap_err();
    assert_eq!(error, format!("cannot write {}/retab/job_1.json: Not a directory", taken.display()));

    let dir = root.path().join("out");
    fs::create_dir_all(dir.join("retab/job_1.json/full")).unwrap();
    write(&disk(&DiskConfig::to(&dir)), &small("job_1")).await.unwrap();
    let beside = names(&dir.join("retab")).into_iter().find(|name| name.contains('~')).unwrap();
    fs::remove_file(dir.join("retab").join(&beside)).unwrap();
    fs::create_dir(dir.join("retab").join(&beside)).unwrap();
    let error = write(&disk(&DiskConfig::to(&dir)), &small("job_1")).await.unwrap_err();
    assert!(error.ends_with("Is a directory"), "{error}");
    assert_eq!(names(&dir.join("retab")).len(), 2, "nothing is left of the attempt");

    let gone = Body::Stored { body: crate::store::StoredBody::in_file(root.path().join("gone")), size: 1 };
    let error = write(&disk(&DiskConfig::to(&dir)), &message("job_2", gone)).await.unwrap_err();
    assert!(error.ends_with("the stored job cannot be read: No such file or directory"), "{error}");
}

#[tokio::test]
async fn a_compressed_file_is_the_same_every_time() {
    let root = tempfile::tempdir().unwrap();
    let spooled = root.path().join("job");
    let job = "{\"n\":[1,2,3]}".repeat(50_000);
    fs::write(&spooled, &job).unwrap();
    let body = Body::Stored { body: crate::store::StoredBody::in_file(spooled), size: job.len() as u64 };
    let config = DiskConfig { compress: Some(Compression::Zstd), ..DiskConfig::to(root.path().join("out")) };
    let disk = disk(&config);
    let message = message("job_1", body);
    let mut seen = Vec::new();
    for _ in 0..2 {
        write(&disk, &message).await.unwrap();
        seen.push(fs::read(root.path().join("out/retab/job_1.json.zst")).unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].len() < job.len() / 10);
    assert!(zstd::decode_all(&seen[0][..]).unwrap() == job.as_bytes(), "the job's bytes were changed");
}

#[test]
fn a_bad_template_names_its_key() {
    let config = DiskConfig { path: "{job}".to_owned(), ..DiskConfig::to("out") };
    let error = Disk::new("archive", &config).unwrap_err().to_string();
    assert!(error.starts_with("sinks.archive.path: `{job}` is unknown; there are {source}"), "{error}");
}

/// What is in a file, or the mark of none.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| "none".to_owned())
}

#[tokio::test]
async fn a_file_that_is_there_is_replaced_only_when_it_is_known_to_be_the_jobs() {
    const OURS: [&str; 2] = [JOB, "none"];
    for (path, owner, [there, beside]) in [
        ("{job_id}.json", Owner::Same, OURS),
        ("{job_id}.json", Owner::Other, ["old", JOB]),
        ("{job_id}.json", Owner::Unknown, ["old", JOB]),
        ("{source}-{job_id}.json", Owner::Unknown, ["old", JOB]),
        // No other job can have it.
        ("{source}+{job_id}.json", Owner::Unknown, OURS),
        ("{source}+{job_id}.json", Owner::Other, ["old", JOB]),
        ("{event_id}.json", Owner::Unknown, OURS),
    ] {
        let root = tempfile::tempdir().unwrap();
        let disk = disk(&DiskConfig { path: path.to_owned(), ..DiskConfig::to(root.path()) });
        let message = small("job_1");
        let name = disk.inner.path(&message, RESULT);
        fs::write(&name, "old").unwrap();
        let draft = disk.draft(&message).await.unwrap();
        let present = draft.present();
        let Claim::Taken(draft, old) = draft.claim().await else { panic!("{path}: the name is not free") };
        assert_eq!(present, [old]);
        assert_eq!(draft.settle(owner).await.error, None);
        let names = names(root.path());
        let other = names.iter().find(|other| root.path().join(other) != name);
        let seen =
            [read(&name), other.map_or_else(|| "none".to_owned(), |other| read(&root.path().join(other)))];
        assert_eq!(seen, [there, beside], "{path} {owner:?}");
        assert!(names.iter().all(|name| !name.contains(".part")), "{names:?}");
    }
}

#[tokio::test]
async fn the_name_beside_is_the_jobs_and_the_sinks_alone_and_fits() {
    let root = tempfile::tempdir().unwrap();
    let config = DiskConfig { path: "all.json.gz".to_owned(), ..DiskConfig::to(root.path()) };
    let long = DiskConfig { path: "x".repeat(300) + ".json", ..DiskConfig::to(root.path()) };
    for config in [config, long] {
        for sink in ["a", "b"] {
            let disk = Disk::new(sink, &config).unwrap();
            for job in ["job_1", "job_2", "job_1"] {
                write(&disk, &small(job)).await.unwrap();
            }
        }
    }
    let names = names(root.path());
    // One that came first and has the plain name, and its second event; the others have one each.
    assert_eq!(names.len(), 2 * (1 + 4), "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 255 && name.contains(".json")));
}

#[tokio::test]
async fn a_draft_that_gets_no_name_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk(&DiskConfig::to(root.path()));
    drop(disk.draft(&small("job_1")).await.unwrap());
    assert!(names(&root.path().join("retab")).is_empty());
}
