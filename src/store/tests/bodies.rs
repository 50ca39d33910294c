//! Bodies: small ones go with their events, and give their room back.

use super::*;
use crate::store::{Bodies, MAX_SMALL};

/// Makes the tests on every backend, and with the large bodies in object storage.
macro_rules! in_every_place {
    ($($name:ident),* $(,)?) => {
        on_every_backend! { $($name),* }

        mod in_object_storage {
            use crate::store::tests::Kind;
            $(
                #[tokio::test]
                #[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
                async fn $name() {
                    super::$name(Kind::Objects).await;
                }
            )*
        }
    };
}

in_every_place! {
    a_small_body_is_stored_with_its_event_and_goes_with_it,
    a_large_body_is_a_file_of_its_own,
    a_body_that_grows_is_what_was_written,
    what_is_removed_gives_its_room_back,
    few_bodies_are_moved_together,
    moving_and_removing_at_once_lose_nothing,
    an_export_has_what_is_removed_and_moved_meanwhile,
}

impl Bench {
    /// Later: what was moved a while ago may go.
    pub(super) async fn end_grace(&self) {
        self.store.bodies().end_grace();
        self.store.sweep_segments().await.unwrap();
    }

    async fn finish_all(&self, jobs: std::ops::Range<u32>) -> Vec<Watch> {
        let mut watches = Vec::new();
        for job in jobs {
            watches.push(self.finish_with(&format!("job_{job}"), &[], content(job).as_bytes()).await);
        }
        watches
    }

    async fn remove_all(&self, jobs: std::ops::Range<u32>) {
        for job in jobs {
            assert!(self.store.remove("retab", &id(format!("job_{job}")), None).await.unwrap());
        }
    }

    fn body_of(&self, watch: &Watch) -> Option<Vec<u8>> {
        self.body(watch.number, event_of(watch))
    }

    /// The names of the files below the spool.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["spool", "spool/segments"] {
            let Ok(files) = std::fs::read_dir(self.folder.path().join(folder)) else { continue };
            let files = files.map(Result::unwrap).filter(|file| file.path().is_file());
            found.extend(files.map(|file| file.file_name().into_string().unwrap()));
        }
        found
    }
}

fn event_of(watch: &Watch) -> &str {
    &watch.completion.as_ref().unwrap().event_id
}

fn content(job: u32) -> String {
    format!("{{\"job\":{job},\"text\":\"{}\"}}", "x".repeat(500))
}

async fn a_small_body_is_stored_with_its_event_and_goes_with_it(kind: Kind) {
    let bench = Bench::on(kind);
    for bytes in [b"".as_slice(), b"1", &vec![b'1'; MAX_SMALL]] {
        let watch = bench.finish_with("job_1", &["app"], bytes).await;
        let job = bench.stored_job(event_of(&watch)).unwrap();
        assert_eq!(watch.completion.as_ref().unwrap().job.as_ref(), Some(&job), "both records say the same");
        assert_eq!((job.at.is_some(), job.size), (matches!(kind, Kind::Sled), bytes.len() as u64));
        assert!(bench.store.bodies().has(watch.number, event_of(&watch), &job).unwrap());
        assert_eq!(bench.body_of(&watch).as_deref(), Some(bytes));
        let bench = &bench;
        assert_eq!(bench.store.stats().await.unwrap().job_bytes, bytes.len() as u64);
        assert!(bench.store.remove("retab", &id("job_1"), None).await.unwrap());
        assert_eq!(bench.body_of(&watch), None);
        assert!(matches!(kind, Kind::Memory) || !bench.store.bodies().has(9, "evt", &job).unwrap());
    }
    let bench = bench.reopen();
    bench.store.sweep_spool().await.unwrap();
    assert_eq!((bench.store.bodies().bytes(), bench.files()), (0, Vec::new()));
}

async fn a_large_body_is_a_file_of_its_own(kind: Kind) {
    let bench = Bench::on(kind);
    let large = vec![b'1'; MAX_SMALL + 1];
    let watch = bench.finish_with("job_1", &["app"], &large).await;
    let job = bench.stored_job(event_of(&watch)).unwrap();
    assert_eq!((job.at, job.size), (None, large.len() as u64));
    let bench = bench.reopen();
    assert_eq!(bench.body_of(&watch), Some(large));
    assert_eq!(bench.store.stats().await.unwrap().jobs, 1);
    assert!(bench.store.remove("retab", &id("job_1"), None).await.unwrap());
    assert_eq!((bench.body_of(&watch), bench.files()), (None, Vec::new()));
}

async fn a_body_that_grows_is_what_was_written(kind: Kind) {
    let bench = Bench::on(kind);
    for parts in [1, 3, 5] {
        let part = vec![b'0' + parts; MAX_SMALL / 4];
        let mut incoming = bench.store.bodies().begin(1, "evt_1");
        for _ in 1..parts {
            incoming.write(&part).await.unwrap();
        }
        // Judged before its end, as the part of a result is.
        incoming.written().await.unwrap();
        let last = part.clone();
        let (mut incoming, ()) = incoming.fill(move |to| to.write_all(&last)).await.unwrap();
        let mut judged = Vec::new();
        incoming.written().await.unwrap().read().unwrap().read_to_end(&mut judged).unwrap();
        assert_eq!(judged, part.repeat(usize::from(parts)));
        let body = incoming.finish().await.unwrap();
        assert_eq!(body.job.size, judged.len() as u64);
        let is_file = parts == 5 && !matches!(kind, Kind::Memory | Kind::Objects);
        assert_eq!(bench.store.bodies().finished(1, "evt_1").await.unwrap(), is_file.then_some(body.job));
    }
}

async fn what_is_removed_gives_its_room_back(kind: Kind) {
    let bench = Bench::on(kind);
    bench.finish_all(0..20).await;
    bench.store.bodies().seal();
    let kept = bench.finish_all(20..21).await;
    let bodies: &Bodies = bench.store.bodies();
    assert!(bodies.bytes() > 20 * 500);
    bench.remove_all(0..19).await;
    bench.store.drop_finished(at(11), at(50)).await.unwrap();
    bench.remove_all(19..20).await;
    // The thread that commits answers first, and has removed the file when it answers the next caller.
    bench.watch("later").await;
    assert!(bodies.bytes() < 2 * 600, "{} bytes are left", bodies.bytes());
    assert_eq!(bench.body_of(&kept[0]).unwrap(), content(20).as_bytes());
    assert_eq!(bench.store.check(true).await.unwrap(), []);
}

async fn few_bodies_are_moved_together(kind: Kind) {
    let bench = Bench::on(kind);
    let watches = bench.finish_all(0..20).await;
    bench.store.bodies().seal();
    bench.remove_all(2..12).await;
    assert_eq!(bench.store.compact_bodies().await.unwrap(), 0, "half of it is needed");
    bench.remove_all(12..20).await;
    let before = *bench.store.newest_event().borrow();
    bench.told();
    let moved = bench.store.compact_bodies().await.unwrap();
    assert_eq!(moved, if matches!(kind, Kind::Sled) { 2 } else { 0 });
    assert_eq!((bench.told(), *bench.store.newest_event().borrow()), (Vec::new(), before), "no event is new");
    let again = |watch: &Watch| bench.read(watch.number);
    for (n, watch) in (0..).zip(&watches[..2]) {
        assert_eq!(bench.body_of(watch).unwrap(), content(n).as_bytes());
        let job = again(watch).completion.unwrap().job.unwrap();
        assert_eq!(bench.stored_job(event_of(watch)), Some(job), "both records say the same");
        // One that was read a moment ago leads to its body all the same.
        let old = watch.completion.as_ref().unwrap().job.as_ref().unwrap();
        let read = bench.store.bodies().get(watch.number, event_of(watch), old).bytes().await;
        assert_eq!(read.unwrap().unwrap(), content(n).as_bytes());
    }
    bench.end_grace().await;
    assert!(bench.store.bodies().bytes() < 3 * 600, "{} bytes are left", bench.store.bodies().bytes());
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    let bench = bench.reopen();
    for (n, watch) in (0..).zip(&watches[..2]) {
        assert_eq!(bench.body_of(watch).unwrap(), content(n).as_bytes());
    }
}

async fn moving_and_removing_at_once_lose_nothing(kind: Kind) {
    let bench = Bench::on(kind);
    let mut watches = Vec::new();
    for round in 0..4 {
        watches.extend(bench.finish_all(round * 40..round * 40 + 40).await);
        bench.store.bodies().seal();
        bench.remove_all(round * 40..round * 40 + 25).await;
    }
    let compact = async || {
        bench.store.compact_bodies().await.unwrap();
    };
    let remove = async |round: u32| bench.remove_all(round * 40 + 25..round * 40 + 32).await;
    tokio::join!(compact(), remove(0), remove(1), compact(), remove(2), remove(3));
    compact().await;
    for (n, watch) in (0..).zip(&watches) {
        let is_left = n % 40 >= 32;
        assert_eq!(bench.body_of(watch), is_left.then(|| content(n).into_bytes()), "job {n}");
    }
    bench.end_grace().await;
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    assert_eq!(bench.store.stats().await.unwrap().jobs, 32);
}

async fn an_export_has_what_is_removed_and_moved_meanwhile(kind: Kind) {
    let bench = Bench::on(kind);
    let watches = bench.finish_all(0..20).await;
    bench.finish_with("large", &[], &vec![b'1'; MAX_SMALL + 1]).await;
    bench.store.bodies().seal();
    let export = bench.store.begin_export().unwrap();
    bench.remove_all(0..19).await;
    assert_eq!(bench.store.compact_bodies().await.unwrap(), 0, "an export needs it where it is");
    let mut text = Vec::new();
    let exported = export.write(&mut text).unwrap();
    assert_eq!(exported.jobs, 21);
    bench.end_grace().await;
    bench.store.compact_bodies().await.unwrap();
    bench.end_grace().await;
    assert!(bench.store.bodies().bytes() < (MAX_SMALL + 2 * 600) as u64);

    if matches!(kind, Kind::Memory) {
        // It has no mark of a database on disk, so nothing imports it.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(!String::from_utf8(text.clone()).unwrap().contains("\"segment\""), "earlier versions read it");
    let imported = import(&mut text.as_slice(), &config(&data)).unwrap();
    assert_eq!((imported.records, imported.jobs), (exported.records, 21));
    let store = Store::open(&config(&data)).unwrap();
    assert_eq!(store.check(true).await.unwrap(), []);
    for (n, watch) in (0..).zip(&watches) {
        let job = store.watch_now(watch.number).unwrap().unwrap().completion.unwrap().job.unwrap();
        let mut bytes = Vec::new();
        let body = store.bodies().get(watch.number, event_of(watch), &job);
        body.read().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, content(n).as_bytes());
    }
}
