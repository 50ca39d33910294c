//! What a commit changed, for the tasks that have to know.

use std::sync::Arc;

use super::{DeliveryKey, Watch};
use crate::{model::job::JobId, util::units::Time};

/// Something became due, or is gone. The backend tells it after it is durable. A change that is lost costs time, never work:
/// the next start reads the same from the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This watch is open: its source polls or fetches it, by its stage.
    WatchOpened(Arc<Watch>),
    /// This watch is finished or gone: its source leaves it alone.
    WatchClosed {
        /// The source's name.
        source: String,
        /// The watch's number.
        watch: u64,
    },
    /// The job of this watch ended, or the watch is gone. Waiters read it again.
    WatchSettled {
        /// The watch's number.
        watch: u64,
    },
    /// Every member of a closed group has ended: its event is to be made.
    GroupDue,
    /// This delivery is pending.
    DeliveryDue {
        /// The sink's name.
        sink: String,
        /// The key of the delivery.
        key: DeliveryKey,
        /// When it is due.
        due: Time,
        /// The wall clock when `due` was decided. The clock may have jumped since.
        as_of: Time,
    },
    /// This event was made and goes to no sink.
    EventUnrouted {
        /// The source's name.
        source: String,
        /// The job.
        job_id: JobId,
        /// The event's id.
        event_id: String,
    },
    /// This delivery is gone: with its watch, or on request.
    DeliveryGone {
        /// The sink's name.
        sink: String,
        /// The key of the delivery.
        key: DeliveryKey,
    },
}
