//! What the process may take from the system: descriptors, and whether its memory may be dumped.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The share of the descriptors that the requests of one source, or one sink, may take. A source has as many for polls as for
/// results, and a result takes a file, too.
const IN_FLIGHT_SHARE: usize = 16;

/// So many requests may be in flight anyway.
const MIN_IN_FLIGHT: usize = 4;

/// Raises the soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where that is forbidden, what is there must do: connections are bounded by it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// How many descriptors the process may have open.
#[must_use]
pub(crate) fn descriptor_limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many requests one source, or one sink, may have in flight: what the configuration allows, within a share of the
/// descriptors. Beyond it a request would fail for want of one, and its peer would get the blame.
#[must_use]
pub(crate) fn in_flight(configured: usize) -> usize {
    share(configured, descriptor_limit())
}

fn share(configured: usize, descriptors: usize) -> usize {
    configured.min((descriptors / IN_FLIGHT_SHARE).max(MIN_IN_FLIGHT))
}

/// Sets whether the kernel may dump the memory of this process, and another process of the same user may read it. Keys and
/// tokens are in it.
pub fn allow_core_dumps(allowed: bool) {
    let behavior = if allowed { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    // A kernel without it refuses; there is nothing else to do about it.
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
