//! The decision whether a sink gets an event, with its reason.

use std::fmt;

use super::Unmet;

/// Whether a sink gets an event, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDecision {
    /// The name of the sink, or [`CALLBACK_SINK`](crate::deliver::CALLBACK_SINK) for the watch's
    /// own webhook.
    pub sink: String,
    /// The reason.
    pub reason: RouteReason,
}

/// Why a sink gets an event, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteReason {
    /// It does: the watch names it.
    Named,
    /// It does: it is the watch's own webhook.
    Brought,
    /// It does: there are no routes, so every sink gets what it takes.
    Unrouted,
    /// It does: this route, counted from 0, names it.
    Route(usize),
    /// It does: its `events` take a notice, which no route leads anywhere.
    Taken,
    /// It does not: its `events` do not take this type.
    NotTaken(Vec<String>),
    /// It does not: the watch names others.
    NotNamed,
    /// It does not: a callback gets only ends.
    EndsOnly,
    /// It does not: no matching route names it. Each route that does, with its first unmet
    /// condition.
    NoRoute(Vec<(usize, Unmet)>),
}

impl RouteDecision {
    /// Returns whether the sink gets the event.
    #[must_use]
    pub const fn gets(&self) -> bool {
        matches!(
            self.reason,
            RouteReason::Named
                | RouteReason::Brought
                | RouteReason::Unrouted
                | RouteReason::Route(_)
                | RouteReason::Taken
        )
    }
}

impl fmt::Display for RouteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named => f.write_str("the watch names it"),
            Self::Brought => f.write_str("the watch brought it along"),
            Self::Unrouted => f.write_str("there are no routes, and its events take it"),
            Self::Route(index) => write!(f, "routes[{index}] leads to it"),
            Self::Taken => f.write_str("its events take it"),
            Self::NotTaken(events) => {
                write!(f, "its events take only `{}`", events.join("`, `"))
            }
            Self::NotNamed => f.write_str("the watch names other sinks"),
            Self::EndsOnly => f.write_str("a callback gets the ends of jobs alone"),
            Self::NoRoute(routes) if routes.is_empty() => f.write_str("no route leads to it"),
            Self::NoRoute(routes) => {
                for (nth, (index, unmet)) in routes.iter().enumerate() {
                    let comma = if nth == 0 { "" } else { "; " };
                    write!(f, "{comma}routes[{index}].when.{unmet}")?;
                }
                Ok(())
            }
        }
    }
}
