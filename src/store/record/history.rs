//! What happened to a watch, as far as its events and deliveries do not tell.

use serde::{Deserialize, Serialize};

use crate::{model::status_answer::Hint, util::units::Time};

/// Steps that the record of a watch shows.
const SHOWN: usize = 16;

/// The latest steps of a watch, oldest first. Bounded, and written only with changes that are written anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    /// One more than is shown: it tells that there were earlier ones.
    pub(in crate::store) steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StepFields", into = "StepFields")]
pub struct Step {
    /// When it happened.
    pub at: Time,
    /// What happened.
    pub what: StepKind,
}

/// What happened to a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A poll saw this status, which is not the one before and not a final one.
    Status(String),
    /// A caller registered the job again.
    Again,
    /// Something asked for a poll.
    Hint(Hint),
}

impl History {
    /// Adds a step. The same one again in a row, other than a status, only has the later time.
    pub(in crate::store) fn push(&mut self, at: Time, what: StepKind) {
        let last = self.steps.last_mut();
        if let Some(last) = last.filter(|last| last.what == what && !matches!(what, StepKind::Status(_))) {
            last.at = at;
            return;
        }
        self.steps.push(Step { at, what });
        if self.steps.len() > SHOWN + 1 {
            self.steps.remove(0);
        }
    }

    /// Returns the latest steps, oldest first, and whether there were earlier ones.
    #[must_use]
    pub fn shown(&self) -> (&[Step], bool) {
        let hidden = self.steps.len().saturating_sub(SHOWN);
        (&self.steps[hidden..], hidden > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A step as JSON holds it: milliseconds, and a status or a code. There are many of them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StepFields {
    Status(i64, String),
    Other(i64, u64),
}

impl StepKind {
    /// The number of what is no status.
    pub(in crate::store) const fn code(&self) -> u64 {
        match self {
            Self::Status(_) => 0,
            Self::Again => 1,
            Self::Hint(Hint::Hook) => 2,
            Self::Hint(Hint::Caller) => 3,
        }
    }

    /// Reads what [`code`](Self::code) wrote of what is no status.
    pub(in crate::store) const fn of_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Again),
            2 => Some(Self::Hint(Hint::Hook)),
            3 => Some(Self::Hint(Hint::Caller)),
            _ => None,
        }
    }
}

impl From<Step> for StepFields {
    fn from(Step { at, what }: Step) -> Self {
        match what {
            StepKind::Status(status) => Self::Status(at.0, status),
            other => Self::Other(at.0, other.code()),
        }
    }
}

impl TryFrom<StepFields> for Step {
    type Error = &'static str;

    fn try_from(fields: StepFields) -> Result<Self, &'static str> {
        match fields {
            StepFields::Status(at, status) => Ok(Self { at: Time(at), what: StepKind::Status(status) }),
            StepFields::Other(at, code) => {
                let what = StepKind::of_code(code).ok_or("a step of its history is unknown")?;
                Ok(Self { at: Time(at), what })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_bounded_and_tells_that_steps_are_missing() {
        let mut history = History::default();
        for number in 0..16 {
            history.push(Time(number), StepKind::Status(number.to_string()));
        }
        assert_eq!((history.shown().0.len(), history.shown().1), (16, false));
        for number in 16..100 {
            history.push(Time(number), StepKind::Status(number.to_string()));
        }
        let (steps, is_cut) = history.shown();
        assert_eq!((steps.len(), is_cut, history.steps.len()), (16, true, 17));
        assert_eq!((steps[0].at, steps[15].at), (Time(84), Time(99)));
    }

    #[test]
    fn many_hints_in_a_row_are_one_step() {
        let mut history = History::default();
        history.push(Time(1), StepKind::Status("queued".to_owned()));
        for at in 2..100 {
            history.push(Time(at), StepKind::Hint(Hint::Hook));
        }
        history.push(Time(100), StepKind::Again);
        let written = serde_json::to_string(&history).unwrap();
        assert_eq!(written, r#"[[1,"queued"],[99,2],[100,1]]"#);
        assert_eq!(serde_json::from_str::<History>(&written).unwrap(), history);
    }
}
