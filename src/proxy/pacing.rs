//! `proxy.pace`: holds creations to the budget of their source. They wait here, in the order in which
//! they came, and a creation that the source did not take because of a limit is sent again.
//!
//! A creation is sent again only after an answer that says that it was not taken: 429, or 503 with a
//! wait. After anything else it may have been executed.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout_at},
};

use super::forward;
use crate::{
    api::{Code, Problem},
    upstream::{SourceKind, not_taken},
    watcher::{SourceState, Ticket},
};

/// The largest body that is kept for a second request.
const KEPT: usize = 1 << 20;

/// The places for kept bodies. They bound the memory.
static PLACES: Semaphore = Semaphore::const_new(64);

/// The first wait after a limit that asks for none. Each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// A creation that may be sent.
pub(super) struct Admitted {
    ticket: Ticket,
    arrived: Instant,
    until: Instant,
}

/// Waits until a creation may be sent. A caller that hangs up before has created nothing.
///
/// # Errors
/// The answer to a caller whose creation would have to wait for longer than `proxy.max_wait`.
pub(super) async fn admit(watcher: &SourceState) -> Result<Admitted, Response> {
    let (arrived, ticket) = (Instant::now(), watcher.creations.arrive());
    let until = arrived + watcher.source.config.proxy.max_wait.0;
    let turn = turn(watcher, ticket, until).await;
    turn.map(|()| Admitted { ticket, arrived, until }).map_err(|at| {
        count(watcher, "refused");
        let wait = at.saturating_duration_since(Instant::now()).as_secs_f64().ceil().max(1.0);
        let detail = format!(
            "the request budget of the source `{}` has no room for this creation within {}",
            watcher.source.name, watcher.source.config.proxy.max_wait
        );
        let mut response = Problem::new(Code::TooManyCreations, detail).into_response();
        if let Ok(value) = HeaderValue::from_str(&wait.to_string()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    })
}

/// Sends a creation, and sends it again while the source does not take it, within `proxy.max_wait`.
/// Returns the last answer.
///
/// # Errors
/// As [`forward::send`].
pub(super) async fn send(
    watcher: &SourceState,
    kind: &SourceKind,
    address: &str,
    parts: Parts,
    body: Body,
    admitted: Admitted,
) -> Result<reqwest::Response, Problem> {
    let source = &watcher.source;
    // Another key has limits of its own.
    let is_own = source.config.proxy.inject_key || source.is_own_key(&parts.headers);
    let (kept, mut body) = keep(body).await;
    let mut first_wait = FIRST_WAIT;
    watcher
        .metrics
        .paced_wait
        .with_label_values(&[source.name.as_str()])
        .observe(admitted.arrived.elapsed().as_secs_f64());
    count(watcher, "sent");
    loop {
        let sent = Instant::now();
        let answer = forward::send((source, kind), address, parts.clone(), body).await?;
        let limit = not_taken(&answer);
        if is_own && (limit.is_some() || answer.status().is_success()) {
            watcher.creations.answered(sent, limit, rand::random());
        }
        let (Some((_, asked)), Some((bytes, _))) = (limit, &kept) else { return Ok(answer) };
        let next = Instant::now() + asked.unwrap_or_default().max(first_wait);
        first_wait *= 2;
        if next > admitted.until {
            return Ok(answer);
        }
        sleep_until(next).await;
        if turn(watcher, admitted.ticket, admitted.until).await.is_err() {
            return Ok(answer);
        }
        tracing::debug!(source = source.name, "creation sent again after a limit");
        count(watcher, "sent_again");
        body = Body::from(bytes.clone());
    }
}

/// Waits for the turn of a creation. No turn is given while this process may send nothing: all of them would be used at once,
/// once it may.
async fn turn(watcher: &SourceState, ticket: Ticket, until: Instant) -> Result<(), Instant> {
    // After that time the turn is refused.
    let _ = timeout_at(until, watcher.source.term().holds()).await;
    watcher.creations.turn(ticket, until).await
}

fn count(watcher: &SourceState, result: &str) {
    watcher.metrics.paced.with_label_values(&[watcher.source.name.as_str(), result]).inc();
}

/// Reads a body that is small enough to be sent twice. Returns its bytes, unless it is larger, cut, or
/// too many are kept already; and the body to send.
async fn keep(body: Body) -> (Option<(Bytes, Option<SemaphorePermit<'static>>)>, Body) {
    if body.is_end_stream() {
        return (Some((Bytes::new(), None)), Body::empty());
    }
    let too_large = body.size_hint().lower() > KEPT as u64;
    let Some(place) = PLACES.try_acquire().ok().filter(|_| !too_large) else { return (None, body) };
    let mut rest = body.into_data_stream();
    let mut head = BytesMut::new();
    while head.len() <= KEPT {
        match rest.next().await {
            Some(Ok(chunk)) => head.extend_from_slice(&chunk),
            None => {
                let whole = head.freeze();
                return (Some((whole.clone(), Some(place))), Body::from(whole));
            }
            Some(Err(error)) => {
                let cut = stream::iter([Ok(head.freeze()), Err(error)]);
                return (None, Body::from_stream(cut));
            }
        }
    }
    (None, Body::from_stream(stream::iter([Ok(head.freeze())]).chain(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bytes(body: Body) -> Bytes {
        axum::body::to_bytes(body, usize::MAX).await.unwrap()
    }

    #[tokio::test]
    async fn a_small_body_is_kept_and_a_large_one_passes_whole() {
        for (size, is_kept) in [(0, true), (1, true), (KEPT, true), (KEPT + 1, false), (3 * KEPT, false)] {
            let whole: Bytes = (0..=250).cycle().take(size).collect::<Vec<u8>>().into();
            for is_known in [true, false] {
                let parts =
                    whole.chunks(100_000).map(|part| Ok::<_, std::io::Error>(Bytes::copy_from_slice(part)));
                let parts: Vec<_> = parts.collect();
                let body =
                    if is_known { Body::from(whole.clone()) } else { Body::from_stream(stream::iter(parts)) };
                let (kept, body) = keep(body).await;
                assert_eq!(kept.is_some(), is_kept, "{size}");
                assert!(kept.is_none_or(|(kept, _)| kept == whole));
                assert!(bytes(body).await == whole, "{size}");
            }
        }
        let cut: [Result<Bytes, std::io::Error>; 2] =
            [Ok(Bytes::from_static(b"ab")), Err(std::io::Error::other("cut"))];
        let (kept, body) = keep(Body::from_stream(stream::iter(cut))).await;
        assert!(kept.is_none());
        axum::body::to_bytes(body, usize::MAX).await.unwrap_err();
    }
}
