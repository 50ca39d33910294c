//! `[sources.NAME.hooks]`: the webhook of the source itself.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::{secret::Secret, units::HumanDuration};

/// How a hook proves that it comes from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyMethod {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, or the same with
    /// `svix-`.
    StandardWebhooks,
    /// An HMAC-SHA256 in `header`.
    HmacSha256,
    /// The secret itself, in `header` or `query`.
    Token,
}

impl VerifyMethod {
    /// Returns the word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard-webhooks",
            Self::HmacSha256 => "hmac-sha256",
            Self::Token => "token",
        }
    }
}

/// How the bytes of an HMAC are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureEncoding {
    /// Hexadecimal.
    #[default]
    Hex,
    /// Base64.
    Base64,
}

/// The hooks of one source. Requests to `/hooks/NAME` that are verified make the poll of their job
/// due. Keys that are unset are those of the profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// How a hook proves that it comes from the source.
    pub verify: Option<VerifyMethod>,
    /// The secret: `whsec_…` for `standard-webhooks`, else the text as it is.
    pub secret: Option<Secret>,
    /// The file with the secret, read again when it changes.
    pub secret_file: Option<PathBuf>,
    /// Several secrets, for a rotation: a hook is verified by any of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// The file with several secrets, one a line, read again when it changes.
    pub secrets_file: Option<PathBuf>,
    /// The header with the HMAC or the token. It may hold several entries, as in `t=…,v1=…`.
    pub header: Option<String>,
    /// The text before the HMAC in its entry of the header, for example `sha256=` or `v1=`, or before
    /// the token. Entries with other beginnings do not count. Unset: none.
    pub prefix: Option<String>,
    /// How the HMAC is written. Default: `hex`.
    pub encoding: Option<SignatureEncoding>,
    /// The header with the time of the hook, in seconds since 1970. The same as `header`: its entry
    /// that begins with `t=` or `timestamp=`. Unset: the HMAC tells no time.
    pub timestamp_header: Option<String>,
    /// How far the time of a hook may be from ours. Default: 5m.
    pub tolerance: Option<HumanDuration>,
    /// The text that the HMAC is made from, with `{timestamp}` and `{body}`. Default:
    /// `{timestamp}.{body}` with `timestamp_header`, else `{body}`.
    pub signed: Option<String>,
    /// The name of the query parameter with the token.
    pub query: Option<String>,
    /// JSON pointers to the id of the job in the hook. The first that is present counts.
    pub id_at: Option<Vec<String>>,
    /// JSON pointers to the kind of the job. Unset: the beginning of the id tells, else it is the
    /// default kind.
    pub kind_at: Option<Vec<String>>,
    /// Whether a hook for an unknown job registers it.
    pub register: Option<bool>,
}
