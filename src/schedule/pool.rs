//! What many watches have in common, kept once: their kind, their status.

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// Values that are shared before those that nobody uses any more are let go.
const SHARED: usize = 1024;

/// Values of which each is kept once.
#[derive(Debug)]
pub(super) struct Pool<T>(HashSet<Arc<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// The value as all who have it share it.
    pub(super) fn share(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.0.get(&value) {
            return Arc::clone(known);
        }
        if self.0.len() >= SHARED {
            self.0.retain(|value| Arc::strong_count(value) > 1);
        }
        let value = Arc::new(value);
        self.0.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_not_for_ever() {
        let mut pool = Pool::default();
        let kept = pool.share(0);
        assert!(Arc::ptr_eq(&kept, &pool.share(0)));
        for value in 1..5 * SHARED {
            pool.share(value);
        }
        assert!(pool.0.len() <= SHARED + 1, "{} values are kept", pool.0.len());
        assert!(Arc::ptr_eq(&kept, &pool.share(0)), "one in use stays");
    }
}
