//! Whatever a record holds, it can be read back.

use std::collections::BTreeMap;

use proptest::{collection, option, prelude::*};

use super::{codec, keys};
use crate::{
    model::{
        delivery::{DeliveryAttempt, DeliveryState, ErrorClass},
        group::MemberEnd,
        job::{EventType, JobId, Kind, Outcome, Progress, Run},
        notice::Notice,
        status_answer::Hint,
    },
    store::{
        BodyPlace, Callback, Completion, Delivery, Event, FileMark, Group, GroupEnd, GroupRef, HeldDead,
        History, JobTopic, Member, News, NoticeGiven, NoticeState, ProgressStep, Step, StepKind, StoredJob,
        Topic, Watch, WatchStage, records::JobKey,
    },
    telemetry::TraceParent,
    util::{secret::Secret, units::Time},
};

/// Any instant, those that no calendar holds among them.
fn time() -> impl Strategy<Value = Time> + Clone {
    prop_oneof![
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX),
        -62_167_219_200_000..=253_402_207_200_000_i64,
        Just(1_000_000_000_000_000_000),
    ]
    .prop_map(Time)
}

fn word() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[\\x00-\\x7f]{0,40}",
        Just("\u{feff}\u{0}\"\\/\u{2028}".to_owned())
    ]
}

fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    collection::btree_map(word(), word(), 0..4)
}

fn job_id() -> impl Strategy<Value = JobId> {
    "[^\\p{Cc}]{1,60}".prop_filter_map("an id", |text| text.parse().ok())
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(Outcome::ALL.to_vec())
}

fn run() -> BoxedStrategy<Run> {
    (option::of(word()), option::of(word()), option::of(word()), any::<u32>())
        .prop_map(|(completed_at, attempt_count, started_at, rerun)| Run {
            completed_at,
            attempt_count,
            started_at,
            rerun,
        })
        .boxed()
}

fn stored_job() -> impl Strategy<Value = StoredJob> {
    let at = any::<(u64, u64)>().prop_map(|(segment, offset)| BodyPlace { segment, offset });
    (any::<u64>(), word(), option::of(word()), any::<bool>(), option::of(at)).prop_map(
        |(size, sha256, content_type, has_mark, at)| StoredJob { size, sha256, content_type, has_mark, at },
    )
}

fn an_end() -> BoxedStrategy<Completion> {
    let texts = (word(), option::of(word()), option::of(word()));
    let times = (time(), option::of(time()), any::<i64>());
    (outcome(), run(), texts, times, option::of(stored_job()), any::<bool>())
        .prop_map(
            |(
                outcome,
                attempt,
                (event_id, reason, result),
                (noticed_at, ended_at, clock_ahead),
                job,
                refused,
            )| {
                Completion {
                    outcome,
                    attempt,
                    event_id,
                    noticed_at,
                    ended_at,
                    clock_ahead,
                    reason,
                    job,
                    result,
                    refused,
                }
            },
        )
        .boxed()
}

fn traceparent() -> impl Strategy<Value = TraceParent> {
    (1..=u128::MAX, 1..=u64::MAX, any::<bool>()).prop_map(|(trace_id, span_id, sampled)| TraceParent {
        trace_id,
        span_id,
        sampled,
    })
}

fn callback() -> impl Strategy<Value = Callback> {
    (word(), option::of(word())).prop_map(|(url, secret)| Callback { url, secret: secret.map(Secret::new) })
}

fn job_kind() -> impl Strategy<Value = Kind> {
    (word(), any::<bool>()).prop_map(|(name, is_default)| Kind { name, is_default })
}

fn group_ref() -> impl Strategy<Value = GroupRef> {
    let name = "[^\\p{Cc}]{1,60}".prop_filter_map("a name", |text| text.parse().ok());
    (any::<u64>(), name).prop_map(|(number, name)| GroupRef { number, name })
}

fn topic() -> impl Strategy<Value = Topic> {
    let job = (any::<u64>(), word(), job_id(), option::of(job_kind()))
        .prop_map(|(watch, source, job_id, kind)| Topic::Job(JobTopic { watch, source, job_id, kind }));
    prop_oneof![job, group_ref().prop_map(Topic::Group), Just(Topic::Daemon)]
}

fn group() -> impl Strategy<Value = Group> {
    let ends = prop::sample::select(MemberEnd::ALL.to_vec());
    let counts = collection::btree_map(ends, any::<u64>(), 0..4);
    let times = (time(), option::of(time()), option::of(time()));
    (group_ref(), times, counts, any::<[u64; 2]>(), option::of(word()), option::of(any::<u64>())).prop_map(
        |(GroupRef { number, name }, times, counts, [open, revision], event_id, event)| Group {
            number,
            name,
            created_at: times.0,
            closed_at: times.1,
            finished_at: times.2,
            counts,
            open,
            revision,
            event_id,
            event,
        },
    )
}

fn member() -> impl Strategy<Value = Member> {
    let ends = prop::sample::select(MemberEnd::ALL.to_vec());
    (word(), job_id(), option::of(job_kind()), option::of(ends), option::of(word()))
        .prop_map(|(source, job_id, kind, end, event_id)| Member { source, job_id, kind, end, event_id })
}

fn history() -> impl Strategy<Value = History> {
    let hint = prop::sample::select(vec![Hint::Hook, Hint::Caller]).prop_map(StepKind::Hint);
    let what = prop_oneof![word().prop_map(StepKind::Status), Just(StepKind::Again), hint];
    let steps = collection::vec((time(), what).prop_map(|(at, what)| Step { at, what }), 0..4);
    steps.prop_map(|steps| History { steps })
}

fn watch() -> impl Strategy<Value = Watch> {
    let who = (word(), job_id(), pairs(), pairs(), option::of(group_ref()), option::of(job_kind()));
    let ways = (option::of(collection::vec(word(), 0..3)), option::of(callback()), option::of(traceparent()));
    let times = (time(), time(), time(), option::of(time()), option::of(time()), option::of(time()));
    let stage = prop::sample::select(vec![WatchStage::Watching, WatchStage::Fetching, WatchStage::Finished]);
    let said = (
        option::of(word()),
        option::of(word()),
        option::of(pairs()),
        option::of(word()),
        option::of(word()),
        option::of(word()),
    );
    let ends = (option::of(an_end()), option::of(an_end()), option::of(run()), any::<[bool; 3]>());
    let numbers = (collection::vec(any::<u64>(), 0..4), collection::vec(any::<u64>(), 0..4));
    let counts = (any::<[u64; 2]>(), any::<[u32; 3]>(), history());
    // In boxes: unpacked, all of it would not fit on a test's stack.
    let (who, ways, times, said, ends) =
        (who.boxed(), ways.boxed(), times.boxed(), said.boxed(), ends.boxed());
    (who, ways, times, stage, said, ends, numbers.boxed(), counts.boxed()).prop_map(
        |(who, ways, times, stage, said, ends, numbers, counts)| Watch {
            number: 7,
            source: who.0,
            job_id: who.1,
            vars: who.2,
            labels: who.3,
            group: who.4.map(Box::new),
            kind: who.5,
            sinks: ways.0,
            callback: ways.1,
            traceparent: ways.2,
            created_at: times.0,
            registered_at: times.1,
            updated_at: times.2,
            deadline: times.3,
            job_created_at: times.4,
            closed_at: times.5,
            stage,
            status: said.0,
            endpoint: said.1,
            metadata: said.2,
            last_body: said.3,
            key: said.4,
            last_error: said.5,
            pending_completion: ends.0.map(Box::new),
            completion: ends.1.map(Box::new),
            started: ends.2.map(Box::new),
            seen_running: ends.3[0],
            rewatch: ends.3[1],
            deadline_is_fixed: ends.3[2],
            end_events: numbers.0,
            progress_events: numbers.1,
            polls: counts.0[0],
            progress_count: counts.0[1],
            pending: counts.1[0],
            dead: counts.1[1],
            dead_current_run: counts.1[2],
            history: counts.2,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(vec![Progress::Started, Progress::Updated]);
    let step = (kind, word(), word(), time()).prop_map(|(kind, status, event_id, noticed_at)| {
        News::Progress(ProgressStep { kind, status, event_id, noticed_at })
    });
    let end = (word(), time(), stored_job())
        .prop_map(|(event_id, finished_at, job)| News::Group(GroupEnd { event_id, finished_at, job }));
    let notices = prop::sample::select(Notice::ALL.to_vec());
    let notice =
        (notices, word(), word(), time(), word()).prop_map(|(notice, subject, event_id, at, data)| {
            News::Notice(NoticeGiven { notice, subject, event_id, at, data })
        });
    let news = prop_oneof![an_end().prop_map(News::Completion), step, end, notice];
    let times = (time(), option::of(time()));
    (topic(), pairs(), option::of(traceparent()), news.boxed(), times, option::of(word())).prop_map(
        |(topic, labels, traceparent, news, (created_at, closed_at), last_body)| Event {
            topic,
            labels,
            traceparent,
            news,
            created_at,
            last_body,
            closed_at,
        },
    )
}

fn attempt_view() -> impl Strategy<Value = DeliveryAttempt> {
    let class = option::of(prop::sample::select(vec![ErrorClass::Timeout, ErrorClass::Status]));
    (time(), any::<u64>(), option::of(any::<u16>()), option::of(word()), class, option::of(word())).prop_map(
        |(at, duration_ms, status, error, error_class, response)| DeliveryAttempt {
            at,
            duration_ms,
            status,
            error,
            error_class,
            response,
        },
    )
}

fn file_mark() -> impl Strategy<Value = FileMark> {
    any::<(u64, u64, i64, i64)>().prop_map(|(inode, size, seconds, nanos)| FileMark {
        inode,
        size,
        seconds,
        nanos,
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let states = vec![DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Dead];
    let words = (word(), word(), option::of(word()));
    let of = (topic(), prop::sample::select(EventType::ALL.to_vec()));
    let attempts = (collection::vec(attempt_view(), 0..3), collection::vec(file_mark(), 0..3));
    (of, words, prop::sample::select(states), (time(), time(), time()), any::<([u32; 4], u64)>(), attempts)
        .prop_map(|(of, words, state, times, (counts, spared_ms), (attempts, files))| Delivery {
            topic: of.0,
            event_type: of.1,
            sink: words.0,
            event_id: words.1,
            reason: words.2,
            state,
            created_at: times.0,
            updated_at: times.1,
            next_attempt_at: times.2,
            step: counts[0],
            attempt_count: counts[1],
            generation: counts[2],
            spared: counts[3],
            spared_ms,
            attempts,
            files,
        })
}

/// Writes, reads and writes again: the same bytes. What no calendar holds has become the nearest instant that one does.
fn holds<T: serde::Serialize + codec::Record + PartialEq + std::fmt::Debug>(
    record: &T,
) -> Result<T, TestCaseError> {
    let written = codec::encode(record).unwrap();
    let read: T = codec::decode(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&codec::encode(&read).unwrap(), &written);
    let again: T = codec::decode(&written).unwrap();
    prop_assert_eq!(&read, &again);
    Ok(read)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_watch_can_be_read(watch in watch()) {
        let read = holds(&watch)?;
        prop_assert_eq!((&read.job_id, &read.labels, read.polls), (&watch.job_id, &watch.labels, watch.polls));
        if (Time::MIN..=Time::MAX).contains(&watch.registered_at) {
            prop_assert_eq!(read.registered_at, watch.registered_at);
        }
    }

    #[test]
    fn the_compact_form_of_a_watch_says_what_its_json_says(watch in watch(), cut in any::<prop::sample::Index>()) {
        // Most watches have none of these.
        let plain = Watch {
            vars: BTreeMap::new(), sinks: None, callback: None, pending_completion: None, completion: None, rewatch: false,
            end_events: Vec::new(), progress_events: Vec::new(), progress_count: 0, pending: 0, dead: 0, dead_current_run: 0,
            closed_at: None, last_error: None, ..watch.clone()
        };
        for watch in [watch, plain.clone()] {
            let read: Watch = codec::decode(&codec::encode_watch(&watch).unwrap()).unwrap();
            let json: Watch = codec::decode(&codec::encode(&watch).unwrap()).unwrap();
            prop_assert_eq!(read, json);
        }
        let bytes = codec::encode_watch(&plain).unwrap();
        prop_assert_eq!(bytes[0], 2);
        let json = codec::watch_as_json(&bytes).unwrap();
        prop_assert_eq!(json, codec::encode(&plain).unwrap());
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(codec::decode::<Watch>(cut).is_err());
        prop_assert!(codec::decode::<Watch>(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn every_event_can_be_read(event in event()) {
        let read = holds(&event)?;
        prop_assert_eq!((read.news.event_id(), &read.last_body), (event.news.event_id(), &event.last_body));
        prop_assert_eq!(read.topic, event.topic);
    }

    #[test]
    fn every_group_and_member_can_be_read(group in group(), member in member(), given in time()) {
        let read = holds(&group)?;
        prop_assert_eq!((&read.name, &read.counts, read.open), (&group.name, &group.counts, group.open));
        prop_assert_eq!(keys::group_name_of(&keys::group_name(&group.name)), Some(group.name));
        prop_assert_eq!(holds(&member)?, member);
        let dead = Some(HeldDead { count: 7, last: "{}".to_owned() });
        holds(&NoticeState { since: Some(given), given: BTreeMap::from([(Notice::SinkFailing, given)]), dead })?;
    }

    #[test]
    fn every_delivery_can_be_read(delivery in delivery()) {
        let read = holds(&delivery)?;
        prop_assert_eq!((&read.sink, read.attempts.len()), (&delivery.sink, delivery.attempts.len()));
    }

    #[test]
    fn every_other_value_can_be_read(at in time(), number in any::<u64>(), source in "[^\\x00]{0,20}", job in job_id(), kind in option::of(job_kind())) {
        prop_assert_eq!(keys::time_of(&at.0.to_be_bytes()), Some(at));
        for key in [keys::watch(number), keys::closed(at, number)] {
            prop_assert_eq!(keys::number_of(&key), Some(number));
        }
        let job = JobKey::new(&source, &job, kind.as_ref());
        prop_assert_eq!(keys::job_of_id(&keys::id(&job)), Some(job.clone()));
        prop_assert_eq!(keys::member_of(&keys::member(number, &job)), Some((number, job.clone())));
        prop_assert_eq!(keys::dropped_of(&keys::dropped(at, &job)).map(|(_, job)| job), Some(job));
    }
}
