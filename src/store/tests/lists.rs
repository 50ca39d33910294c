//! What is known of listed jobs, and how far a list was read.

use super::*;

async fn a_list_is_told_known_jobs_from_others(kind: Kind) {
    let bench = Bench::on(kind);
    let Registered::New(open) = bench.register(Registration::new("retab", id("open")), at(0)).await else {
        panic!("new")
    };
    let done = bench.finish("done", &[]).await;
    bench.finish("dropped", &[]).await;
    bench.store.drop_finished(at(12), at(12)).await.unwrap();
    let again = bench.finish("finished", &[]).await;
    let ids = ["open", "finished", "dropped", "new"].map(id).to_vec();
    let known = bench.store.known("retab", None, ids.clone()).await.unwrap();
    let wanted = [
        JobKnowledge::Watch(open.number),
        JobKnowledge::Watch(again.number),
        JobKnowledge::Dropped,
        JobKnowledge::Nothing,
    ];
    assert_eq!(known, wanted, "{done:?}");
    assert_eq!(bench.store.known("other", None, ids).await.unwrap(), [JobKnowledge::Nothing; 4]);
}

async fn a_mark_stays_with_its_list(kind: Kind) {
    let bench = Bench::on(kind);
    assert_eq!(bench.store.list_mark("retab", "jobs").await.unwrap(), None);
    let mark = |through| ListMark {
        asked: "{}".to_owned(),
        since: at(0),
        through: Some(at(through)),
        late_ms: 7,
        deep_at: None,
        seen: vec![1, u64::MAX],
        is_full: true,
    };
    for (source, list, through) in
        [("retab", "jobs", 1), ("retab", "", 2), ("reta", "bjobs", 3), ("retab", "jobs", 4)]
    {
        bench.store.set_list_mark(source, list, mark(through)).await.unwrap();
    }
    for (source, list, through) in [("retab", "jobs", 4), ("retab", "", 2), ("reta", "bjobs", 3)] {
        assert_eq!(
            bench.store.list_mark(source, list).await.unwrap(),
            Some(mark(through)),
            "{source} {list}"
        );
    }
    assert_eq!(bench.store.check(true).await.unwrap(), []);
    if kind as u8 == Kind::Sled as u8 {
        let bench = Bench::open(bench.close());
        assert_eq!(bench.store.list_mark("retab", "jobs").await.unwrap(), Some(mark(4)));
    }
}

on_every_backend!(a_list_is_told_known_jobs_from_others, a_mark_stays_with_its_list);
