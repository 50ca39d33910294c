//! Durations, sizes and instants as people write them: `30s`, `64KiB`, `2026-11-23T17:00:02.5Z`.

mod duration;
mod size;
mod time;

pub use duration::HumanDuration;
pub(crate) use duration::rounded;
pub use size::Size;
pub use time::Time;
