//! How jobs of the mock end.

use std::{fmt, str::FromStr};

/// How a run of a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It ends with a response.
    Completed,
    /// It ends with an error.
    Failed,
    /// It ends as if somebody had cancelled it.
    Cancelled,
    /// Its data is gone when it ends.
    Expired,
    /// It never ends and stays in progress.
    Stuck,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::Cancelled, Self::Expired, Self::Stuck];

    /// Returns its word. For all but `stuck` it is also the status that the API shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Stuck => "stuck",
        }
    }
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == text).ok_or_else(|| {
            format!("`{text}` is not an outcome; use completed, failed, cancelled, expired or stuck")
        })
    }
}

/// Endings with weights, written `completed` or `completed=8,failed=1,stuck=1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endings(Vec<(Ending, f64)>);

impl Endings {
    /// Returns the same ending for every job.
    #[must_use]
    pub fn always(ending: Ending) -> Self {
        Self(vec![(ending, 1.0)])
    }

    /// Returns endings that complete, but fail with this share (0 to 1).
    #[must_use]
    pub fn failing(share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self(vec![(Ending::Completed, 1.0 - share), (Ending::Failed, share)])
    }

    /// Returns the ending at `point`, a place between 0 and 1 on the line of all weights.
    pub(super) fn at(&self, point: f64) -> Ending {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = point * total;
        for &(ending, weight) in &self.0 {
            left -= weight;
            if left < 0.0 {
                return ending;
            }
        }
        self.0.last().map_or(Ending::Completed, |&(ending, _)| ending)
    }
}

impl FromStr for Endings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut list = Vec::new();
        for part in text.split(',') {
            let (word, weight) = part.split_once('=').unwrap_or((part, "1"));
            let weight: f64 = weight.trim().parse().map_err(|_| format!("`{weight}` is not a weight"))?;
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(format!("a weight is zero or more, not {weight}"));
            }
            list.push((word.trim().parse()?, weight));
        }
        if list.iter().all(|&(_, weight)| weight == 0.0) {
            return Err("at least one weight must be above zero".to_owned());
        }
        Ok(Self(list))
    }
}

impl fmt::Display for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ending, weight)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}={weight}", ending.as_str())?;
        }
        Ok(())
    }
}
