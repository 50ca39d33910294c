//! What is done for a job, as spans: made when it is over, queued for [`super::otlp`].

use std::sync::OnceLock;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span as ProtoSpan, Status, span::SpanKind, status::StatusCode},
};
use prometheus::IntCounter;
use tokio::sync::mpsc;

use super::trace::JobTrace;
use crate::util::units::Time;

/// Spans that wait to be sent, at the most; more are dropped and counted.
const WAITING: usize = 4096;

/// One thing that was done for a job.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// What was done.
    pub name: &'static str,
    /// Its own id; `None` for the span of the job itself.
    pub id: Option<u64>,
    /// From when.
    pub start: Time,
    /// Until when.
    pub end: Time,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where spans go. Costs nothing until somebody listens.
#[derive(Debug)]
pub struct Spans {
    queue: OnceLock<mpsc::Sender<ProtoSpan>>,
    dropped: IntCounter,
}

impl Spans {
    pub(crate) fn new(dropped: IntCounter) -> Self {
        Self { queue: OnceLock::new(), dropped }
    }

    /// Begins to keep spans. `None` when somebody listens already.
    pub(super) fn listen(&self) -> Option<mpsc::Receiver<ProtoSpan>> {
        let (queue, spans) = mpsc::channel(WAITING);
        self.queue.set(queue).ok().map(|()| spans)
    }

    /// Takes a span, if its trace is recorded and somebody listens.
    pub fn record(&self, trace: &JobTrace, kind: SpanKind, span: impl FnOnce() -> TraceSpan) {
        let Some(queue) = self.queue.get().filter(|_| trace.sampled) else { return };
        if queue.try_send(proto(trace, kind, span())).is_err() {
            self.dropped.inc();
        }
    }
}

/// An attribute of text.
#[must_use]
pub fn text(value: impl Into<String>) -> Value {
    Value::StringValue(value.into())
}

/// An attribute that is a whole number.
#[must_use]
pub fn number(value: impl TryInto<i64>) -> Value {
    Value::IntValue(value.try_into().unwrap_or(i64::MAX))
}

pub(super) fn attribute((key, value): (impl Into<String>, Value)) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Unix time in nanoseconds.
pub(super) fn nanos(time: Time) -> u64 {
    u64::try_from(time.0).unwrap_or(0).saturating_mul(1_000_000)
}

fn proto(trace: &JobTrace, kind: SpanKind, span: TraceSpan) -> ProtoSpan {
    let id_of = |id: u64| id.to_be_bytes().to_vec();
    let parent = match span.id {
        Some(_) => Some(trace.span_id),
        None => trace.caller,
    };
    ProtoSpan {
        trace_id: trace.trace_id.to_be_bytes().to_vec(),
        span_id: id_of(span.id.unwrap_or(trace.span_id)),
        parent_span_id: parent.map(id_of).unwrap_or_default(),
        flags: 1,
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        status: span.error.map(|message| Status { message, code: StatusCode::Error.into() }),
        ..ProtoSpan::default()
    }
}
