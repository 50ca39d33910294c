//! Whether a sink gets an event, and why.

use std::fmt;

use super::Unmet;

/// Whether a sink gets an event, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDecision {
    /// The sink's name; [`CALLBACK_SINK`] for the webhook that a watch brought.
    pub sink: String,
    /// Why.
    pub reason: RouteReason,
}

/// Why a sink gets an event, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteReason {
    /// It does: the watch names it.
    Named,
    /// It does: the watch brought it along.
    Brought,
    /// It does: there are no routes, so every sink gets what it takes.
    Unrouted,
    /// It does: this route, counted from 0, leads to it.
    Route(usize),
    /// Its `events` do not take this type.
    NotTaken(Vec<String>),
    /// The watch names others.
    NotNamed,
    /// A callback gets ends alone.
    EndsOnly,
    /// No route that holds leads to it; those that would, each with what does not hold.
    NoRoute(Vec<(usize, Unmet)>),
}

impl RouteDecision {
    /// Whether the sink gets it.
    #[must_use]
    pub const fn gets(&self) -> bool {
        matches!(
            self.reason,
            RouteReason::Named | RouteReason::Brought | RouteReason::Unrouted | RouteReason::Route(_)
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
