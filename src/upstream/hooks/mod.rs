//! Hooks: webhooks that the source itself sends. A hook is a hint and never believed: it says which
//! job to poll now.
//!
//! `config` has the keys, `read` turns them into [`Hooks`] and finds invalid ones, `verify` proves that
//! a request comes from the source.

mod config;
mod read;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderMap;

pub use config::{HooksConfig, SignatureEncoding, VerifyMethod};
pub use read::{InvalidHooks, check_plain_secret, check_standard_secret};
pub use verify::Unverified;

use self::verify::Check;
use crate::util::{
    json_slice::{Pointers, Scan},
    secret::{SecretList, SecretSource},
};

/// The longest id or kind that is read, in bytes of the text.
const MAX_VALUE: usize = 2048;

/// What a hook names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedJob {
    /// The id of the job.
    pub id: Option<String>,
    /// The kind of the job.
    pub kind: Option<String>,
}

/// The hooks of one source.
#[derive(Clone, Debug)]
pub struct Hooks {
    check: Check,
    single: Vec<SecretSource>,
    list: Option<SecretList>,
    id_at: Vec<String>,
    kind_at: Vec<String>,
    pointers: Arc<Pointers>,
    /// Whether a hook for an unknown job registers it.
    pub register: bool,
}

impl Hooks {
    /// Checks what can be known before the body: whether a signature is there at all, or the token. So
    /// a stranger's body is not read.
    ///
    /// # Errors
    /// Why the request cannot be verified, whatever its body is.
    pub fn verify_head(&self, headers: &HeaderMap, query: &str) -> Result<(), Unverified> {
        match &self.check {
            Check::Token(place) => verify::token(place, &self.secrets()?, headers, query),
            Check::Standard { .. } | Check::Hmac(_) => verify::has_signature(&self.check, headers),
        }
    }

    /// Verifies a hook. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why the request is not verified.
    pub fn verify(&self, headers: &HeaderMap, query: &str, body: &[u8], now: i64) -> Result<(), Unverified> {
        verify::verify(&self.check, &self.secrets()?, headers, query, body, now)
    }

    /// Returns the present secrets. Reads files again when they have changed.
    fn secrets(&self) -> Result<Vec<crate::util::secret::Secret>, Unverified> {
        let single = self.single.iter().map(SecretSource::get);
        let mut secrets: Vec<_> = single.collect::<Result<_, _>>()?;
        secrets.extend(self.list.as_ref().map(SecretList::get).transpose()?.unwrap_or_default());
        Ok(secrets)
    }

    /// Reads which job a hook names. A body that is not JSON names none.
    #[must_use]
    pub fn named_job(&self, body: &[u8]) -> NamedJob {
        let mut scan = Scan::new(&self.pointers);
        if scan.push(body).and_then(|()| scan.finish()).is_err() {
            return NamedJob::default();
        }
        let values = scan.values();
        let word = |pointers: &[String]| {
            values.first(pointers).and_then(crate::util::json_slice::Raw::word).filter(|word| word != "{}")
        };
        NamedJob { id: word(&self.id_at), kind: word(&self.kind_at) }
    }
}
