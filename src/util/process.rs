//! The limits of this process: its descriptors, and whether others may dump its memory.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The share of the descriptors that the requests of one source or sink may take. A source has as
/// many for polls as for results, and a result needs a file too.
const IN_FLIGHT_SHARE: usize = 16;

/// The requests that may be in flight at any limit.
const MIN_IN_FLIGHT: usize = 4;

/// Raises the soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If the system forbids it, the present limit applies: it bounds the connections.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Returns the number of descriptors that the process may have open.
#[must_use]
pub(crate) fn descriptor_limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Returns the requests that one source or sink may have in flight: the configured number, within a
/// share of the descriptors. Any further request would fail without a descriptor, and its peer
/// would get the blame.
#[must_use]
pub(crate) fn in_flight(configured: usize) -> usize {
    share(configured, descriptor_limit())
}

fn share(configured: usize, descriptors: usize) -> usize {
    configured.min((descriptors / IN_FLIGHT_SHARE).max(MIN_IN_FLIGHT))
}

/// Sets whether the kernel may dump the memory of this process, and another process of the same
/// user may read it. The memory holds keys and tokens.
pub fn allow_core_dumps(allowed: bool) {
    let behavior = if allowed { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    // A kernel without this call refuses it, and offers no other.
    let _ = set_dumpable_behavior(behavior);
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn requests_in_flight_fit_the_descriptors() {
        for (configured, descriptors, fit) in [
            (32, 1024, 32),
            (1_000_000, 1024, 64),
            (32, 128, 8),
            (16, 20, 4),
            (1, 20, 1),
            (1_000_000, usize::MAX, 1_000_000),
        ] {
            assert_eq!(share(configured, descriptors), fit, "{configured} of {descriptors}");
        }
    }
}
