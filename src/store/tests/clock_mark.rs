//! When the clock turns out to have been wrong, its stamps are moved, and ages stay what they are.

use super::*;
use crate::util::clock::Period;

const DAY: i64 = 86_400_000;

fn moved(time: Time, by: i64) -> Time {
    Time(time.0 + by)
}

async fn what_was_stamped_in_the_period_moves_with_the_clock(kind: Kind) {
    for by in [9 * DAY, 20_000 * DAY, -9 * DAY, -400 * DAY] {
        let bench = Bench::on(kind);
        let registration = |job: &str, deadline_is_fixed| Registration {
            deadline: Some(at(3600)),
            deadline_is_fixed,
            ..Registration::new("retab", id(job))
        };
        let mut numbers = Vec::new();
        for (job, fixed, now) in [("before", false, at(-50)), ("span", false, at(0)), ("fixed", true, at(0))]
        {
            let Registered::New(watch) = bench.register(registration(job, fixed), now).await else {
                panic!("new")
            };
            numbers.push(watch.number);
        }
        let done = bench.finish("done", &[]).await;
        let waiting = bench.finish("waiting", &["app"]).await;
        let key = bench.key(&waiting, "app").await;
        bench.store.record_attempt(key, &attempt(0, at(20), AttemptVerdict::Retry(at(3620))), at(20)).await;
        bench.told();

        let period = Period { since: at(0), until: at(30) };
        let count = bench.store.move_stamps(period, by).await.unwrap();
        assert_eq!(count, Moved { watches: 3, deliveries: 1 });
        let [before, span, fixed] = [0, 1, 2].map(|n| bench.read(numbers[n]));
        assert_eq!((before.registered_at, before.deadline), (at(-50), Some(at(3600))));
        assert_eq!((span.registered_at, span.created_at), (moved(at(0), by), moved(at(0), by)));
        assert_eq!((span.deadline, fixed.deadline), (Some(moved(at(3600), by)), Some(at(3600))));
        assert_eq!(bench.read(done.number).closed_at, Some(moved(at(11), by)));
        let delivery = bench.store.delivery(key).await.unwrap().unwrap();
        assert_eq!((delivery.created_at, delivery.updated_at), (moved(at(11), by), moved(at(20), by)));
        // Put right to an earlier time it waits as long as before; to a later one it is due by the clock that is right.
        let due = if by < 0 { moved(at(3620), by) } else { at(3620) };
        assert_eq!((delivery.next_attempt_at, bench.pending()), (due, vec![("app".to_owned(), key, due)]));
        assert!(bench.told().contains(&Change::DeliveryDue {
            sink: "app".to_owned(),
            key,
            due,
            as_of: moved(at(20), by)
        }));
        // Done again it finds nothing: the stamps have left the period.
        assert_eq!(bench.store.move_stamps(period, by).await.unwrap(), Moved::default());
        assert_eq!(bench.store.check(true).await.unwrap(), []);
        // Retention goes by the new stamp.
        let dropped = bench.store.drop_finished(moved(at(11), by), at(40)).await.unwrap();
        assert_eq!(dropped.watches, 0);
        let dropped = bench.store.drop_finished(moved(at(12), by), at(40)).await.unwrap();
        assert_eq!(dropped.watches, 1);
        assert_eq!(bench.reopen().open_watches().len(), 3);
    }
}

async fn the_mark_of_the_clock_is_kept(kind: Kind) {
    let bench = Bench::on(kind);
    assert_eq!(bench.store.clock_mark().await.unwrap(), None);
    let mark = ClockMark {
        boot_id: "b".to_owned(),
        boot_ms: 7,
        wall: at(0),
        since: at(-5),
        leap: Some(Leap { at: at(-1), by_ms: DAY }),
    };
    bench.store.set_clock_mark(mark.clone()).await.unwrap();
    assert_eq!(bench.reopen().store.clock_mark().await.unwrap(), Some(mark));
}

on_every_backend![what_was_stamped_in_the_period_moves_with_the_clock, the_mark_of_the_clock_is_kept,];
