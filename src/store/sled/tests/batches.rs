//! Operations go into batches of bounded size, each whole.

use super::*;
use crate::store::{
    Event, JobTopic, News, ProgressStep, Topic,
    records::{Records, Txn},
};

fn event(watch: u64) -> Event {
    let step = ProgressStep {
        kind: crate::model::job::Progress::Updated,
        status: String::new(),
        event_id: "evt".to_owned(),
        noticed_at: at(0),
    };
    Event {
        topic: Topic::Job(JobTopic { watch, source: "retab".to_owned(), job_id: id("job"), kind: None }),
        labels: BTreeMap::new(),
        traceparent: None,
        news: News::Progress(step),
        created_at: at(0),
        last_body: None,
        closed_at: None,
    }
}

/// The watches that the events name, with how many events of each there are.
fn counts(records: &dyn Records) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for entry in records.events(0, u64::MAX) {
        *counts.entry(entry.unwrap().1.unwrap().topic.owner()).or_default() += 1;
    }
    counts
}

#[test]
fn no_batch_is_larger_than_bounded_and_no_operation_is_split() {
    let folder = tempfile::tempdir().unwrap();
    let db = sled::Config::default().path(folder.path()).open().unwrap();
    let (unreadable, snapshots) = (Unreadable::default(), Snapshots::default());
    let records = Keyed(SledPairs { db: &db, unreadable: &unreadable, snapshots: &snapshots });
    let mut txn = Txn::new(&records);
    let mut applied = 0;
    for operation in 0..1000_u64 {
        for part in 0..operation % 7 {
            txn.put_event(1 + operation * 10 + part, event(operation)).unwrap();
        }
        txn.end_operation().unwrap();
        let now = db.len();
        assert!(now - applied <= batch::MAX_WRITES, "a batch of {}", now - applied);
        applied = now;
    }
    assert!(counts(&records).iter().all(|(operation, count)| *count == operation % 7));
    let committed = txn.finish().unwrap();
    assert_eq!(counts(&records).values().sum::<u64>(), (0..1000).map(|operation| operation % 7).sum::<u64>());
    assert_eq!(committed.newest.number, 1 + 999 * 10 + 4);
}

#[test]
fn an_operation_sees_what_those_before_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let db = sled::Config::default().path(folder.path()).open().unwrap();
    let (unreadable, snapshots) = (Unreadable::default(), Snapshots::default());
    let records = Keyed(SledPairs { db: &db, unreadable: &unreadable, snapshots: &snapshots });
    let mut txn = Txn::new(&records);
    txn.put_event(1, event(1)).unwrap();
    txn.put_event(2, event(1)).unwrap();
    txn.finish().unwrap();
    let mut txn = Txn::new(&records);
    txn.put_event(1, event(7)).unwrap();
    txn.delete_event(2, None).unwrap();
    txn.end_operation().unwrap();
    assert_eq!(txn.event(1).unwrap().map(|event| event.topic.owner()), Some(7));
    assert_eq!(txn.event(2).unwrap(), None);
    txn.put_event(3, event(1)).unwrap();
    txn.abandon_operation();
    assert_eq!(txn.event(3).unwrap(), None);
    assert_eq!(counts(&records), BTreeMap::from([(1, 2)]), "nothing is applied yet");
    assert_eq!((txn.next_number().unwrap(), txn.next_number().unwrap()), (1, 2));
    txn.finish().unwrap();
    assert_eq!(counts(&records), BTreeMap::from([(7, 1)]));
    assert_eq!(Txn::new(&records).next_number().unwrap(), 3);
}
