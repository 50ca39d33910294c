//! Lays the keys of a source over those of its built-in profile.

use crate::upstream::{ProfileKeys, SourceConfig};

/// Returns a source with the keys that all its kinds share, from its profile where they are unset.
pub(super) fn shared(config: &SourceConfig, built_in: Option<&SourceConfig>) -> SourceConfig {
    let mut own = config.clone();
    let Some(base) = built_in.cloned() else { return own };
    // The scheme of the profile does not go with another header for the key.
    if own.api_key_header.is_none() {
        own.api_key_scheme = own.api_key_scheme.take().or(base.api_key_scheme);
    }
    own.base_url = own.base_url.take().or(base.base_url);
    own.api_key_header = own.api_key_header.take().or(base.api_key_header);
    own.allow_origins = own.allow_origins.take().or(base.allow_origins);
    own.default_kind = own.default_kind.take().or(base.default_kind);
    own
}

/// Returns the keys of one kind; of the default kind without a name.
///
/// The keys of the source itself describe its default kind. Another kind takes from there what
/// nothing else gives, and all headers and variables.
pub(super) fn keys_of(
    config: &SourceConfig,
    built_in: Option<&SourceConfig>,
    kind: Option<&str>,
    is_default: bool,
) -> ProfileKeys {
    let table = |of: &SourceConfig| kind.and_then(|kind| of.kinds.get(kind)).cloned().unwrap_or_default();
    let own = table(config).with_maps_of(&config.keys());
    let own = if is_default { own.or(&config.keys()) } else { own };
    let filled = match built_in {
        Some(built_in) => own.or(&table(built_in)).or(&built_in.keys()),
        None => own,
    };
    filled.or(&config.keys())
}
