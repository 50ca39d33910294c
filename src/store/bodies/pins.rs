//! Keeps bodies that an export still needs.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Whether an export needs every body that is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_pinned: bool,
    /// A body that nothing refers to was left because of that.
    left: bool,
}

impl Pins {
    /// Pins every body; `None` while there is a pin.
    pub(super) fn pin(&self) -> Option<Pin> {
        let was_pinned = std::mem::replace(&mut self.state().is_pinned, true);
        (!was_pinned).then(|| Pin(self.clone()))
    }

    /// Removes a body by `remove`, or leaves it while there is a pin.
    pub(super) fn unless_pinned(&self, remove: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        if state.is_pinned {
            state.left = true;
            return Ok(());
        }
        remove()
    }

    pub(super) fn are_pinned(&self) -> bool {
        self.state().is_pinned
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps every body until it lets go.
pub(in crate::store) struct Pin(Pins);

impl Pin {
    /// Lets go. Returns whether bodies were left that nothing refers to.
    pub(in crate::store) fn let_go(&self) -> bool {
        std::mem::take(&mut *self.0.state()).left
    }
}
