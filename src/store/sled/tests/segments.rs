//! Segments that a crash or a disk damaged.

use super::*;

/// A closed store with five jobs in one segment, and where each of them lies.
async fn five() -> (tempfile::TempDir, Vec<(Watch, u64)>) {
    let bench = Bench::new();
    let mut jobs = Vec::new();
    for n in 0..5 {
        let watch = bench.finish(&format!("job_{n}"), &[]).await;
        let at = watch.completion.as_ref().unwrap().job.as_ref().unwrap().at.unwrap();
        assert_eq!(at.segment, 1);
        jobs.push((watch, at.offset));
    }
    (bench.close(), jobs)
}

fn segment(folder: &Path) -> PathBuf {
    folder.join("spool/segments/0000000000000001.seg")
}

fn readable(bench: &Bench, jobs: &[(Watch, u64)]) -> Vec<bool> {
    let event_id = |watch: &Watch| watch.completion.as_ref().unwrap().event_id.clone();
    jobs.iter()
        .map(|(watch, _)| bench.body(watch.number, &event_id(watch)).as_deref() == Some(BODY))
        .collect()
}

#[tokio::test]
async fn a_torn_tail_is_no_problem_and_is_not_written_to() {
    let (folder, jobs) = five().await;
    let mut torn = fs::read(segment(folder.path())).unwrap();
    let (whole, start) = (torn.len(), usize::try_from(jobs[4].1).unwrap());
    torn.extend_from_within(start..whole - 1);
    fs::write(segment(folder.path()), &torn).unwrap();
    let bench = Bench::open(folder);
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    let next = bench.finish("next", &[]).await.completion.unwrap().job.unwrap().at.unwrap();
    assert_eq!((next.segment, next.offset), (2, 0));
    assert_eq!(readable(&bench, &jobs), [true; 5]);
    for n in 0..4 {
        bench.store.remove("retab", &id(format!("job_{n}")), None).await.unwrap();
    }
    assert_eq!(bench.store.compact_bodies().await.unwrap(), 1);
    assert_eq!(readable(&bench, &jobs)[4..], [true]);
}

#[tokio::test]
async fn a_segment_that_was_cut_costs_only_its_own_bodies() {
    let (folder, jobs) = five().await;
    let path = segment(folder.path());
    fs::File::options().write(true).open(&path).unwrap().set_len(jobs[3].1 - 1).unwrap();
    let bench = Bench::open(folder);
    let found = bench.store.check(false).await.unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    let is_named = |problem: &StoreProblem| {
        problem.at.ends_with("spool/segments/0000000000000001.seg") && problem.what.contains("cannot be read")
    };
    assert!(found.iter().all(is_named), "{found:?}");
    assert_eq!(readable(&bench, &jobs), [true, true, false, false, false]);
    // Nothing that may be left of them is thrown away with what is whole.
    for n in 0..2 {
        bench.store.remove("retab", &id(format!("job_{n}")), None).await.unwrap();
    }
    bench.store.compact_bodies().await.unwrap();
    bench.store.sweep_spool().await.unwrap();
    assert!(path_in(&bench).exists());
    for n in 2..5 {
        bench.store.remove("retab", &id(format!("job_{n}")), None).await.unwrap();
    }
    bench.store.bodies().end_grace();
    bench.store.sweep_spool().await.unwrap();
    assert!(!path_in(&bench).exists());
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

fn path_in(bench: &Bench) -> PathBuf {
    segment(bench.folder.path())
}

#[tokio::test]
async fn other_bytes_in_a_segment_are_found_by_their_hash() {
    let (folder, jobs) = five().await;
    let mut bytes = fs::read(segment(folder.path())).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(segment(folder.path()), bytes).unwrap();
    let bench = Bench::open(folder);
    assert_eq!(bench.store.check(false).await.unwrap(), [], "its size is right");
    let found = bench.store.check(true).await.unwrap();
    assert!(found.len() == 1 && found[0].what.contains("other bytes"), "{found:?}");
    assert_eq!(readable(&bench, &jobs), [true, true, true, true, false]);
}

#[tokio::test]
async fn an_export_counts_the_bodies_that_are_gone() {
    let (folder, jobs) = five().await;
    let path = segment(folder.path());
    fs::File::options().write(true).open(&path).unwrap().set_len(jobs[3].1 - 1).unwrap();
    let bench = Bench::open(folder);
    let done = bench.store.export(&mut Vec::new()).unwrap();
    assert_eq!((done.jobs, done.lost), (2, 3));
    fs::remove_file(&path).unwrap();
    // The descriptor that read it is still open.
    let bench = Bench::open(bench.close());
    let done = bench.store.export(&mut Vec::new()).unwrap();
    assert_eq!((done.jobs, done.lost), (0, 5));
    // What cannot be read now may be read later: that is no export without it.
    fs::create_dir(&path).unwrap();
    let bench = Bench::open(bench.close());
    let failed = bench.store.export(&mut Vec::new());
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test]
async fn the_room_of_a_segment_that_is_written_is_given_back() {
    let bench = Bench::new();
    let large = vec![b'7'; 200 << 10];
    for n in 0..20 {
        let name = format!("job_{n}");
        bench.finish_with(&name, &[], &large).await;
        bench.store.remove("retab", &id(&name), None).await.unwrap();
    }
    eventually("the room of all but the last is back", || {
        (bench.store.bodies().bytes() < 2 << 20).then_some(())
    })
    .await;
    let kept = bench.finish_with("kept", &[], &large).await;
    bench.finish_with("gone", &[], &large).await;
    bench.store.remove("retab", &id("gone"), None).await.unwrap();
    let event_id = kept.completion.unwrap().event_id;
    assert_eq!(bench.body(kept.number, &event_id), Some(large));
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

#[tokio::test]
async fn a_segment_that_is_cut_while_it_is_written_is_followed_by_another() {
    let bench = Bench::new();
    let lost = bench.finish("lost", &[]).await;
    fs::File::options().write(true).open(path_in(&bench)).unwrap().set_len(3).unwrap();
    let next = bench.finish("next", &[]).await;
    let at = |watch: &Watch| watch.completion.as_ref().unwrap().job.as_ref().unwrap().at.unwrap();
    assert_eq!((at(&lost).segment, at(&next).segment, at(&next).offset), (1, 2, 0));
    assert_eq!(readable(&bench, &[(lost, 0), (next, 0)]), [false, true]);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_next_segment_is_passed_over() {
    let bench = Bench::new();
    fs::write(path_in(&bench), "left by a try whose folder could not be synced").unwrap();
    let watch = bench.finish("job", &[]).await;
    assert_eq!(watch.completion.as_ref().unwrap().job.as_ref().unwrap().at.unwrap().segment, 2);
    assert_eq!(readable(&bench, &[(watch, 0)]), [true]);
}

#[tokio::test]
async fn a_segment_without_a_record_is_swept_at_the_start() {
    let (folder, _) = five().await;
    let orphan = folder.path().join("spool/segments/0000000000000009.seg");
    fs::copy(segment(folder.path()), &orphan).unwrap();
    let bench = Bench::open(folder);
    // A clean end leaves one like it, too: it costs room until then, and nothing is wrong.
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    assert_eq!(bench.store.sweep_spool().await.unwrap(), 0);
    assert!(!orphan.exists());
    assert_eq!(bench.finish("next", &[]).await.completion.unwrap().job.unwrap().at.unwrap().segment, 10);
}

#[tokio::test]
async fn a_segment_that_is_removed_while_it_is_written_closes_the_store() {
    let bench = Bench::new();
    bench.finish("job_1", &[]).await;
    fs::remove_file(path_in(&bench)).unwrap();
    let refused = bench.store.register(vec![Registration::new("retab", id("job_2"))], at(1)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("0000000000000001.seg was removed"), "{refused}");
}
