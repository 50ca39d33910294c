//! The spans of jobs. Each span is recorded at its end and queued for [`super::otlp`].

use std::sync::OnceLock;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span as ProtoSpan, Status, span::SpanKind, status::StatusCode},
};
use prometheus::IntCounter;
use tokio::sync::mpsc;

use super::trace::JobTrace;
use crate::util::units::Time;

/// The largest number of queued spans. Further spans are dropped and counted.
const WAITING: usize = 4096;

/// One step of the work for a job.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// The name of the step.
    pub name: &'static str,
    /// The id of the span; `None` for the span of the job itself.
    pub id: Option<u64>,
    /// The start of the step.
    pub start: Time,
    /// The end of the step.
    pub end: Time,
    /// The attributes of the span.
    pub attributes: Vec<(&'static str, Value)>,
    /// The error of a failed step.
    pub error: Option<String>,
}

/// The queue of spans. Without an exporter it drops spans at no cost.
#[derive(Debug)]
pub struct Spans {
    queue: OnceLock<mpsc::Sender<ProtoSpan>>,
    dropped: IntCounter,
}

impl Spans {
    pub(crate) fn new(dropped: IntCounter) -> Self {
        Self { queue: OnceLock::new(), dropped }
    }

    /// Starts to queue spans for an exporter. Returns `None` when there already is one.
    pub(super) fn listen(&self) -> Option<mpsc::Receiver<ProtoSpan>> {
        let (queue, spans) = mpsc::channel(WAITING);
        self.queue.set(queue).ok().map(|()| spans)
    }

    /// Records a span, if its trace is sampled and there is an exporter.
    pub fn record(&self, trace: &JobTrace, kind: SpanKind, span: impl FnOnce() -> TraceSpan) {
        let Some(queue) = self.queue.get().filter(|_| trace.sampled) else { return };
        if queue.try_send(proto(trace, kind, span())).is_err() {
            self.dropped.inc();
        }
    }
}

/// Returns a text as the value of an attribute.
#[must_use]
pub fn text(value: impl Into<String>) -> Value {
    Value::StringValue(value.into())
}

/// Returns a whole number as the value of an attribute.
#[must_use]
pub fn number(value: impl TryInto<i64>) -> Value {
    Value::IntValue(value.try_into().unwrap_or(i64::MAX))
}

pub(super) fn attribute((key, value): (impl Into<String>, Value)) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Returns the Unix time in nanoseconds.
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
