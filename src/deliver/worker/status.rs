//! What is shown of a sink and of an attempt.

use tokio::time::Instant;

use crate::{
    deliver::{outcome::AttemptOutcome, queue::Queue},
    model::{
        delivery::DeliveryAttempt,
        sink::{SinkState, SinkStatus},
    },
    store::Delivery,
    telemetry::{TraceParent, TraceSpan, number, text},
    util::units::Time,
};

/// Shows how the queue of a sink stands.
pub(super) fn show(queue: &Queue, status: &mut SinkStatus, now: Instant, wall: Time) {
    let later = |at: Instant| wall.after(at.saturating_duration_since(now));
    let breaker = queue.breaker();
    if queue.is_failing(now) {
        status.state = SinkState::Failing;
    }
    status.breaker = breaker.state();
    status.next_probe_at = breaker.probe_at().map(later);
    status.quiet_until = queue.quiet_until(now).map(later);
    status.rate = queue.rate();
    status.success_share = breaker.success_share(now);
    status.failures_in_row = queue.failures_in_row();
}

/// Shows an attempt as a span of the trace of its job.
pub(super) fn attempt_span(
    delivery: &Delivery,
    outcome: &AttemptOutcome,
    span: TraceParent,
    start: Time,
    end: Time,
) -> TraceSpan {
    let mut attributes = vec![
        ("tidings.sink", text(&delivery.sink)),
        ("tidings.event_id", text(&delivery.event_id)),
        ("tidings.attempt", number(delivery.attempt_count + 1)),
    ];
    attributes.extend(outcome.status.map(|status| ("http.response.status_code", number(status))));
    TraceSpan {
        name: "deliver",
        id: Some(span.span_id),
        start,
        end,
        attributes,
        error: outcome.error.clone(),
    }
}

/// Shows an attempt as the API does.
pub(super) fn attempt_record(outcome: &AttemptOutcome, at: Time) -> DeliveryAttempt {
    DeliveryAttempt {
        at,
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        status: outcome.status,
        error: outcome.error.clone(),
        error_class: outcome.error_class,
        response: outcome.response.clone(),
    }
}
