//! Lays the keys of a source over those of its built-in profile.

use std::collections::BTreeMap;

use crate::{upstream::SourceConfig, util::secret::SecretValue};

/// Returns the keys of the type with those of the source over them.
pub(super) fn merged(config: &SourceConfig) -> SourceConfig {
    let Some(built_in) = config.profile.built_in() else { return config.clone() };
    let (mut own, base) = (config.clone(), built_in.keys);
    macro_rules! fill {
        ($($key:ident)*) => {$( own.$key = own.$key.take().or(base.$key); )*};
    }
    // The scheme of the profile does not go with another header for the key.
    if own.api_key_header.is_none() {
        own.api_key_scheme = own.api_key_scheme.take().or(base.api_key_scheme);
    }
    fill! {
        base_url api_key_header status_path fallback_status_path status_at status_required outcomes running
        pending_while failed_at result_failure_at result_may_be_html
        result_path result_with_request_path result_at result_status_at result_4xx_is_failure error_at endpoint_at
        metadata_at created_at started_at ended_at attempt_at poll_hint_header allow_origins create_path
        created_id_at retry_path
    }
    let is_given = |name: &String, given: &BTreeMap<String, SecretValue>| {
        given.keys().any(|known| known.eq_ignore_ascii_case(name))
    };
    for (name, value) in base.headers {
        if !is_given(&name, &own.headers) {
            own.headers.insert(name, value);
        }
    }
    for (name, value) in base.vars {
        own.vars.entry(name).or_insert(value);
    }
    own
}
