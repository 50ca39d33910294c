//! What is stored: watches, groups, events and deliveries.

mod completion;
mod delivery;
mod event;
mod group;
mod history;
mod key;
mod notice;
mod watch;

pub use completion::{BodyPlace, Completion, Said, StoredJob};
pub use delivery::{AttemptVerdict, Delivery, FileMark};
pub use event::{Event, JobTopic, News, NoticeGiven, ProgressStep, Topic};
pub use group::{Group, GroupEnd, GroupRef, Member};
pub use history::{History, Step, StepKind};
pub use key::DeliveryKey;
pub use notice::{HeldDead, NoticeState};
pub use watch::{Callback, Watch, WatchStage};

pub(super) use completion::SegmentUse;

/// Records are many and most of their fields are at their default most of the time: those are not written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
