//! The files of the spool.

use super::*;
use crate::store::MAX_SMALL;

/// A body that is a file of its own.
const LARGE: &[u8] = &[b' '; MAX_SMALL + 1];

#[tokio::test]
async fn bodies_that_nobody_refers_to_are_swept_and_the_others_stay() {
    let bench = Bench::new();
    let watch = bench.finish_with("job_1", &["app"], LARGE).await;
    for (number, event_id) in [(watch.number, "evt_other"), (999, "evt_orphan")] {
        bench.new_body(number, event_id, LARGE).await;
    }
    let mut half = bench.store.bodies().begin(5, "evt_half");
    half.write(LARGE).await.unwrap();
    assert_eq!(fs::read_dir(bench.folder.path().join("spool/incoming")).unwrap().count(), 1);
    drop(half);
    let bench = bench.reopen();
    assert_eq!(fs::read_dir(bench.folder.path().join("spool/incoming")).unwrap().count(), 0);
    assert_eq!(bench.store.sweep_spool().await.unwrap(), 1);
    let mut left: Vec<_> =
        bench.store.bodies().entries().unwrap().into_iter().map(|body| body.event_id).collect();
    left.sort();
    let mut expected = vec!["evt_other".to_owned(), watch.completion.unwrap().event_id];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn the_bytes_in_the_spool_are_counted_without_walking_it() {
    let bench = Bench::new();
    let put = async |bench: &Bench, watch: u64, event_id: &str, size: usize| {
        bench.new_body(watch, event_id, &vec![b' '; LARGE.len() + size]).await;
    };
    let count = |bench: &Bench| {
        let files = bench.store.bodies().bytes();
        (files / LARGE.len() as u64, files % LARGE.len() as u64)
    };
    put(&bench, 1, "evt_old", 100).await;
    put(&bench, 2, "evt_replaced", 20).await;
    put(&bench, 3, "evt_gone", 3).await;
    put(&bench, 3, "evt_gone", 4).await;
    assert_eq!(count(&bench), (3, 124));
    let bench = bench.reopen();
    // Before the walk has come upon them.
    put(&bench, 2, "evt_replaced", 50).await;
    put(&bench, 4, "evt_new", 1000).await;
    bench.store.bodies().remove(3, "evt_gone").unwrap();
    assert_eq!(count(&bench), (2, 1050));
    for _ in 0..2 {
        bench.store.bodies().entries().unwrap();
        assert_eq!(count(&bench), (3, 1150));
    }
    // And after it.
    put(&bench, 2, "evt_replaced", 10).await;
    bench.store.bodies().remove(1, "evt_old").unwrap();
    bench.store.bodies().remove(1, "evt_old").unwrap();
    assert_eq!(count(&bench), (2, 1010));
}
