//! A watch in few bytes: version 2 of its record.
//!
//! | bytes | hold |
//! | --- | --- |
//! | flags | the stage, two statements, and which of the later fields are there |
//! | `created_at` | milliseconds |
//! | `registered_at`, `updated_at`, `deadline`, `job_created_at` | milliseconds after `created_at`, if flagged |
//! | `source`, `job_id` | a length and the text |
//! | the rest | in the order of the flags |
//!
//! Integers are LEB128; those with a sign are zigzag. A watch with any other field is JSON.

use std::collections::BTreeMap;

use crate::{
    model::job::{Kind, Run},
    store::{GroupRef, History, Step, StepKind, StoreError, Watch, WatchStage},
    telemetry::TraceParent,
    util::units::Time,
};

/// The version byte.
pub(super) const VERSION: u8 = 2;

const STAGES: [WatchStage; 3] = [WatchStage::Watching, WatchStage::Fetching, WatchStage::Finished];
const STAGE: u64 = 0b11;

const DEADLINE_IS_FIXED: u64 = 1 << 2;
const SEEN_RUNNING: u64 = 1 << 3;
const REGISTERED_AT: u64 = 1 << 4;
const UPDATED_AT: u64 = 1 << 5;
const DEADLINE: u64 = 1 << 6;
const JOB_CREATED_AT: u64 = 1 << 7;
const STATUS: u64 = 1 << 8;
const ENDPOINT: u64 = 1 << 9;
const LAST_BODY: u64 = 1 << 10;
const KEY: u64 = 1 << 11;
const POLLS: u64 = 1 << 12;
const TRACE: u64 = 1 << 13;
const LABELS: u64 = 1 << 14;
const METADATA: u64 = 1 << 15;
const STARTED: u64 = 1 << 16;
const KIND: u64 = 1 << 17;
const GROUP: u64 = 1 << 18;
const KIND_IS_DEFAULT: u64 = 1 << 19;
const HISTORY: u64 = 1 << 20;
const ALL: u64 = (1 << 21) - 1;

const COMPLETED_AT: u64 = 1;
const ATTEMPT_COUNT: u64 = 1 << 1;
const STARTED_AT: u64 = 1 << 2;

/// The bytes of a watch, with the version; `None` when it has a field that they do not carry.
#[expect(clippy::too_many_lines, reason = "it names every field")]
pub(super) fn encode(watch: &Watch) -> Option<Vec<u8>> {
    // Every field is named, so that a new one cannot be left out by mistake.
    let Watch {
        number: _,
        source,
        job_id,
        kind,
        vars,
        labels,
        group,
        sinks,
        callback,
        traceparent,
        created_at,
        registered_at,
        updated_at,
        deadline,
        deadline_is_fixed,
        stage,
        status,
        job_created_at,
        endpoint,
        metadata,
        last_body,
        key,
        polls,
        pending_completion,
        completion,
        seen_running,
        rewatch,
        started,
        end_events,
        progress_events,
        progress_count,
        pending,
        dead,
        dead_current_run,
        closed_at,
        last_error,
        history,
    } = watch;
    let is_plain = vars.is_empty()
        && sinks.is_none()
        && callback.is_none()
        && pending_completion.is_none()
        && completion.is_none()
        && !rewatch
        && end_events.is_empty()
        && progress_events.is_empty()
        && *progress_count == 0
        && [*pending, *dead, *dead_current_run] == [0; 3]
        && closed_at.is_none()
        && last_error.is_none();
    if !is_plain {
        return None;
    }
    let created = written(*created_at);
    let moment = |at: &Time| (written(*at) != created).then(|| written(*at).wrapping_sub(created));
    let moments = [moment(registered_at), moment(updated_at)];
    let later = [deadline, job_created_at].map(|at| at.map(|at| written(at).wrapping_sub(created)));
    let flagged = [
        (DEADLINE_IS_FIXED, *deadline_is_fixed),
        (SEEN_RUNNING, *seen_running),
        (REGISTERED_AT, moments[0].is_some()),
        (UPDATED_AT, moments[1].is_some()),
        (DEADLINE, deadline.is_some()),
        (JOB_CREATED_AT, job_created_at.is_some()),
        (STATUS, status.is_some()),
        (ENDPOINT, endpoint.is_some()),
        (LAST_BODY, last_body.is_some()),
        (KEY, key.is_some()),
        (POLLS, *polls > 0),
        (TRACE, traceparent.is_some()),
        (LABELS, !labels.is_empty()),
        (METADATA, metadata.is_some()),
        (STARTED, started.is_some()),
        (GROUP, group.is_some()),
        (KIND, kind.is_some()),
        (HISTORY, !history.steps.is_empty()),
        (KIND_IS_DEFAULT, kind.as_ref().is_some_and(|kind| kind.is_default)),
    ];
    let stage = STAGES.iter().position(|one| one == stage)? as u64;
    let flags = flagged.iter().filter(|(_, is_set)| *is_set).fold(stage, |flags, (flag, _)| flags | flag);
    let mut out = Writer(Vec::with_capacity(24 + source.len() + job_id.as_str().len()));
    out.0.push(VERSION);
    out.unsigned(flags);
    out.signed(created);
    moments.into_iter().chain(later).flatten().for_each(|after| out.signed(after));
    out.text(source);
    out.text(job_id.as_str());
    [status, endpoint, last_body, key].into_iter().flatten().for_each(|text| out.text(text));
    if *polls > 0 {
        out.unsigned(*polls);
    }
    if let Some(TraceParent { trace_id, span_id, sampled }) = traceparent {
        out.0.extend(trace_id.to_be_bytes());
        out.0.extend(span_id.to_be_bytes());
        out.0.push(u8::from(*sampled));
    }
    if !labels.is_empty() {
        out.pairs(labels);
    }
    if let Some(metadata) = metadata {
        out.pairs(metadata);
    }
    if let Some(run) = started {
        out.run(run);
    }
    if let Some(group) = group {
        out.unsigned(group.number);
        out.text(group.name.as_str());
    }
    if let Some(kind) = kind {
        out.text(&kind.name);
    }
    if !history.steps.is_empty() {
        out.history(history, created);
    }
    Some(out.0)
}

/// Reads what [`encode`] wrote, behind the version.
pub(super) fn decode(bytes: &[u8]) -> Result<Watch, StoreError> {
    read(&mut Reader(bytes)).ok_or_else(|| StoreError::Record("its compact form is damaged".to_owned()))
}

fn read(from: &mut Reader<'_>) -> Option<Watch> {
    let flags = from.unsigned().filter(|flags| flags & !ALL == 0)?;
    let has = |flag| flags & flag != 0;
    let stage = *STAGES.get(usize::try_from(flags & STAGE).ok()?)?;
    let created = from.signed()?;
    let moment = |from: &mut Reader<'_>, flag| match has(flag) {
        true => from.signed().map(|after| Some(Time(created.wrapping_add(after)))),
        false => Some(None),
    };
    let created_at = Time(created);
    let registered_at = moment(from, REGISTERED_AT)?.unwrap_or(created_at);
    let updated_at = moment(from, UPDATED_AT)?.unwrap_or(created_at);
    let (deadline, job_created_at) = (moment(from, DEADLINE)?, moment(from, JOB_CREATED_AT)?);
    let (source, job_id) = (from.text()?, from.text()?.parse().ok()?);
    let mut text = |flag| if has(flag) { from.text().map(Some) } else { Some(None) };
    let (status, endpoint) = (text(STATUS)?, text(ENDPOINT)?);
    let (last_body, key) = (text(LAST_BODY)?, text(KEY)?);
    let polls = if has(POLLS) { from.unsigned()? } else { 0 };
    let traceparent = if has(TRACE) { Some(from.trace()?) } else { None };
    let labels = if has(LABELS) { from.pairs()? } else { BTreeMap::new() };
    let metadata = if has(METADATA) { Some(from.pairs()?) } else { None };
    let started = if has(STARTED) { Some(Box::new(from.run()?)) } else { None };
    let group = if has(GROUP) { Some(Box::new(from.group()?)) } else { None };
    let kind = match has(KIND) {
        true => Some(Kind { name: from.text()?, is_default: has(KIND_IS_DEFAULT) }),
        false => None,
    };
    let history = if has(HISTORY) { from.history(created)? } else { History::default() };
    from.0.is_empty().then_some(())?;
    Some(Watch {
        kind,
        labels,
        group,
        traceparent,
        registered_at,
        updated_at,
        deadline,
        deadline_is_fixed: has(DEADLINE_IS_FIXED),
        stage,
        status,
        job_created_at,
        endpoint,
        metadata,
        last_body,
        key,
        polls,
        seen_running: has(SEEN_RUNNING),
        started,
        history,
        ..Watch::new(0, source, job_id, created_at)
    })
}

/// A time as JSON would have written it.
fn written(time: Time) -> i64 {
    time.0.clamp(Time::MIN.0, Time::MAX.0)
}

struct Writer(Vec<u8>);

impl Writer {
    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn signed(&mut self, value: i64) {
        self.unsigned((value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned());
    }

    fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn pairs(&mut self, pairs: &BTreeMap<String, String>) {
        self.unsigned(pairs.len() as u64);
        for (key, value) in pairs {
            self.text(key);
            self.text(value);
        }
    }

    fn run(&mut self, run: &Run) {
        let Run { completed_at, attempt_count, started_at, rerun } = run;
        let texts = [(COMPLETED_AT, completed_at), (ATTEMPT_COUNT, attempt_count), (STARTED_AT, started_at)];
        self.unsigned(texts.iter().filter(|(_, text)| text.is_some()).map(|(flag, _)| flag).sum());
        texts.iter().filter_map(|(_, text)| text.as_ref()).for_each(|text| self.text(text));
        self.unsigned(u64::from(*rerun));
    }

    fn history(&mut self, history: &History, created: i64) {
        self.unsigned(history.steps.len() as u64);
        for Step { at, what } in &history.steps {
            self.unsigned(what.code());
            self.signed(at.0.wrapping_sub(created));
            if let StepKind::Status(status) = what {
                self.text(status);
            }
        }
    }
}

/// The bytes that are left.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok().map(str::to_owned)
    }

    fn pairs(&mut self) -> Option<BTreeMap<String, String>> {
        let mut pairs = BTreeMap::new();
        for _ in 0..self.unsigned()? {
            pairs.insert(self.text()?, self.text()?);
        }
        Some(pairs)
    }

    fn trace(&mut self) -> Option<TraceParent> {
        let trace_id = u128::from_be_bytes(self.take(16)?.try_into().ok()?);
        let span_id = u64::from_be_bytes(self.take(8)?.try_into().ok()?);
        let sampled = self.take(1)? == [1];
        Some(TraceParent { trace_id, span_id, sampled })
    }

    fn group(&mut self) -> Option<GroupRef> {
        Some(GroupRef { number: self.unsigned()?, name: self.text()?.parse().ok()? })
    }

    fn run(&mut self) -> Option<Run> {
        let flags = self.unsigned()?;
        let mut text = |flag| if flags & flag != 0 { self.text().map(Some) } else { Some(None) };
        let (completed_at, attempt_count) = (text(COMPLETED_AT)?, text(ATTEMPT_COUNT)?);
        let started_at = text(STARTED_AT)?;
        let rerun = u32::try_from(self.unsigned()?).ok()?;
        Some(Run { completed_at, attempt_count, started_at, rerun })
    }

    fn history(&mut self, created: i64) -> Option<History> {
        let mut steps = Vec::new();
        for _ in 0..self.unsigned()? {
            let (code, after) = (self.unsigned()?, self.signed()?);
            let what = match code {
                0 => StepKind::Status(self.text()?),
                code => StepKind::of_code(code)?,
            };
            steps.push(Step { at: Time(created.wrapping_add(after)), what });
        }
        Some(History { steps })
    }
}
