//! Values that many watches share: their kind and their status.

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// The number of values at which the pool drops those that no watch uses.
const SHARED: usize = 1024;

/// A set of shared values.
#[derive(Debug)]
pub(super) struct Pool<T>(HashSet<Arc<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// Returns the shared copy of a value.
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
