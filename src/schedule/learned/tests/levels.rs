//! Compares the queue of levels with a naive one.

#![expect(clippy::cast_precision_loss, reason = "counts")]

use std::{collections::BTreeMap, ops::Range};

use crate::schedule::learned::levels::{ASKED, LEVELS, LevelQueue, Standing, leaves, level};
use proptest::prelude::*;

#[derive(Default)]
struct Naive {
    watches: BTreeMap<u64, (Standing, u64)>,
    turn: u64,
}

impl Naive {
    fn put(&mut self, number: u64, standing: Standing) {
        self.turn += 1;
        let stays = self.watches.get(&number).filter(|(before, _)| before.level == standing.level);
        let turn = stays.map_or(self.turn, |(_, turn)| *turn);
        self.watches.insert(number, (standing, turn));
    }

    fn pop(&mut self, levels: &Range<u8>) -> Option<(u64, u8)> {
        let ready = self
            .watches
            .iter()
            .filter_map(|(number, (standing, turn))| Some((standing.level?, *turn, *number)))
            .filter(|(level, ..)| levels.contains(level));
        let (level, _, number) = ready.max_by_key(|(level, turn, _)| (*level, u64::MAX - turn))?;
        self.watches.remove(&number);
        Some((number, level))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, Option<u8>, u64),
    Remove(u64),
    Pop(Range<u8>),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Numbers that lie far apart and close together.
    let number = prop_oneof![0u64..20, (0u64..20).prop_map(|n| n << 40)];
    prop_oneof![
        4 => (number.clone(), prop::option::of(0..=ASKED), 0u64..1000).prop_map(|(n, l, t)| Step::Put(n, l, t)),
        1 => number.prop_map(Step::Remove),
        1 => (0..=ASKED, 0..=ASKED + 1).prop_map(|(from, to)| Step::Pop(from..to)),
        1 => (0u64..1000).prop_map(Step::Advance),
    ]
}

proptest! {
    #[test]
    fn it_does_as_the_naive_one(steps in prop::collection::vec(step(), 0..400)) {
        let (mut queue, mut naive) = (LevelQueue::default(), Naive::default());
        for step in steps {
            match step {
                Step::Put(number, level, until) => {
                    queue.put(number, Standing { level, until });
                    naive.put(number, Standing { level, until });
                }
                Step::Remove(number) => {
                    prop_assert_eq!(queue.remove(number), naive.watches.remove(&number).is_some());
                }
                Step::Pop(levels) => prop_assert_eq!(queue.pop(levels.clone()), naive.pop(&levels)),
                Step::Advance(now) => {
                    let mut asked = Vec::new();
                    let more = queue.advance(now, usize::MAX, |number| {
                        asked.push(number);
                        Standing { level: Some((number % 7) as u8), until: now + 1 + number % 100 }
                    });
                    prop_assert!(!more);
                    let mut due: Vec<u64> = naive.watches.iter().filter(|(_, (s, _))| s.until <= now).map(|(n, _)| *n).collect();
                    for number in &asked {
                        naive.put(*number, Standing { level: Some((number % 7) as u8), until: now + 1 + number % 100 });
                    }
                    asked.sort_unstable();
                    due.sort_unstable();
                    prop_assert_eq!(asked, due);
                }
            }
            prop_assert_eq!(queue.len(), naive.watches.len());
            prop_assert_eq!(queue.ready(), naive.watches.values().filter(|(s, _)| s.level.is_some()).count());
            prop_assert_eq!(queue.next_time(), naive.watches.values().map(|(s, _)| s.until).min());
            for (number, (standing, _)) in &naive.watches {
                prop_assert_eq!(queue.standing(*number), Some(*standing));
            }
        }
    }

    #[test]
    fn a_job_leaves_its_level_where_the_next_begins(waiting in 1e-6..1e9f64, theta in 1e-4..1e3f64) {
        let at = level(waiting, theta);
        if at < LEVELS - 1 {
            prop_assert!(leaves(at, theta) > waiting * 0.999_999);
            prop_assert_eq!(level(leaves(at, theta) * 1.000_001, theta), at + 1);
        }
    }
}

#[test]
fn odd_waitings_have_a_level() {
    assert_eq!(level(f64::NAN, 0.2), 0);
    assert_eq!(level(1.0, 0.0), LEVELS - 1);
    assert_eq!(level(0.0, 0.2), 0);
    assert_eq!(level(0.8, 0.2), 2);
}

#[test]
fn a_million_watches_take_less_than_64_bytes_each() {
    for count in [1_000_000_u64, 1_200_000, 900_000] {
        let mut queue = LevelQueue::default();
        for number in 0..count {
            queue.put(number * 7, Standing { level: None, until: number ^ 0x5555 });
        }
        let each = queue.bytes() as f64 / count as f64;
        assert!(each <= 64.0, "{each} bytes with {count}");
    }
}
