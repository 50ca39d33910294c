//! The place of a job in a distributed trace, after W3C Trace Context
//! (<https://www.w3.org/TR/trace-context/>).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};
use sha2::{Digest as _, Sha256};

use crate::model::job::JobId;

/// The header that carries a [`TraceParent`].
pub const TRACEPARENT: &str = "traceparent";

/// A span of a caller's trace, as the header `traceparent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The id of the trace, never 0.
    pub trace_id: u128,
    /// The id of the span, never 0.
    pub span_id: u64,
    /// Whether the caller that began the trace records it.
    pub sampled: bool,
}

/// The error of a text that is not a `traceparent`. The standard requires that such a header is
/// ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct BadTraceParent;

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    /// Reads section 3.2.2. Section 3.2.4 requires the known parts of a future version.
    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        let mut parts = text.splitn(5, '-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits).ok_or(BadTraceParent)?;
            let lower = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            u128::from_str_radix(part, 16).ok().filter(|_| lower).ok_or(BadTraceParent)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let is_whole = version != 0 || parts.next().is_none();
        let span_id = u64::try_from(span_id).map_err(|_| BadTraceParent)?;
        match version != 0xff && trace_id != 0 && span_id != 0 && is_whole {
            true => Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 }),
            false => Err(BadTraceParent),
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl Serialize for TraceParent {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl TraceParent {
    /// Returns the span in the headers of a request; `None` without a valid one.
    #[must_use]
    pub fn of(headers: &http::HeaderMap) -> Option<Self> {
        headers.get(TRACEPARENT)?.to_str().ok()?.trim().parse().ok()
    }
}

/// The trace of one watch, and the span of its job. Both are derived from the watch, so the store
/// keeps only the caller's `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobTrace {
    /// The id of the caller's trace, or of a new one.
    pub trace_id: u128,
    /// The caller's span that registered the job.
    pub caller: Option<u64>,
    /// The span of the job, from its registration to its event. It is the parent of every step.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl JobTrace {
    /// Returns the trace of the watch with this number.
    #[must_use]
    pub fn new(caller: Option<TraceParent>, source: &str, job_id: &JobId, number: u64) -> Self {
        Self::of(caller, source, job_id.as_str(), number)
    }

    /// Returns the trace of what has this name and number.
    #[must_use]
    pub fn of(caller: Option<TraceParent>, source: &str, name: &str, number: u64) -> Self {
        let mut digest = Sha256::new();
        for part in [source.as_bytes(), b"\0", name.as_bytes(), b"\0", &number.to_be_bytes()] {
            digest.update(part);
        }
        let digest = digest.finalize();
        let number_at = |at: std::ops::Range<usize>| {
            digest[at].iter().fold(0, |number, byte| number << 8 | u128::from(*byte)).max(1)
        };
        Self {
            trace_id: caller.map_or_else(|| number_at(0..16), |caller| caller.trace_id),
            caller: caller.map(|caller| caller.span_id),
            // Eight bytes fit.
            span_id: u64::try_from(number_at(16..24)).unwrap_or(1),
            sampled: caller.is_none_or(|caller| caller.sampled),
        }
    }

    /// Returns a new child of the job's span, to send to a receiver.
    #[must_use]
    pub fn child(&self) -> TraceParent {
        let span_id = rand::random::<u64>().max(1);
        TraceParent { trace_id: self.trace_id, span_id, sampled: self.sampled }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_invalid_traceparent_is_refused() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(good.parse::<TraceParent>().unwrap().sampled);
        assert!(!good.replace("-01", "-02").parse::<TraceParent>().unwrap().sampled);
        // A future version may have more parts; this version may not.
        format!("cc{}-more", &good[2..]).parse::<TraceParent>().unwrap();
        for bad in [
            String::new(),
            format!("{good}-more"),
            format!("ff{}", &good[2..]),
            good.to_uppercase(),
            good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            good.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            good[..54].to_owned(),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(BadTraceParent), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_was_written(trace_id in 1u128.., span_id in 1u64.., sampled: bool) {
            let parent = TraceParent { trace_id, span_id, sampled };
            prop_assert_eq!(parent.to_string().parse::<TraceParent>(), Ok(parent));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
        }

        #[test]
        fn a_job_stays_in_its_callers_trace(trace_id in 1u128.., span_id in 1u64.., number: u64) {
            let (id, caller) = ("job_1".parse().unwrap(), TraceParent { trace_id, span_id, sampled: true });
            let trace = JobTrace::new(Some(caller), "retab", &id, number);
            prop_assert_eq!((trace.trace_id, trace.caller), (trace_id, Some(span_id)));
            prop_assert_eq!(trace, JobTrace::new(Some(caller), "retab", &id, number));
            prop_assert_ne!(JobTrace::new(None, "retab", &id, number).trace_id, trace_id);
            prop_assert_eq!(trace.child().trace_id, trace_id);
        }
    }
}
