//! The key and the headers of a source, and whose key a request carries.

use std::sync::{MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use reqwest::{
    Method,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::{
    Failure, Source, SourceKind,
    auth::{Auth, AuthType, Carried},
};
use crate::util::secret::{Secret, SecretError, SecretSource};

/// The bytes of a key's digest in its fingerprint: enough to tell keys apart, and too few to guess
/// one from.
const FINGERPRINT_BYTES: usize = 16;

impl Source {
    /// Adds the credentials that are made for the source, if there are any. The request is complete
    /// otherwise.
    pub(super) async fn authorize(
        &self,
        method: &Method,
        address: &str,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<Option<Carried>, Failure> {
        let Some(auth) = &self.auth else { return Ok(None) };
        let no_url = |_| Failure::Refused("the address of the request is no URL".to_owned());
        let url = Url::parse(address).map_err(no_url)?;
        auth.authorize(method, &url, headers, body).await.map(Some)
    }

    /// Returns how the credentials of the source are made. `None`: it has a key, or none.
    #[must_use]
    pub fn auth_type(&self) -> Option<AuthType> {
        self.auth.as_ref().map(Auth::kind)
    }

    /// Returns the headers of a kind, with the one that carries the key.
    pub(super) fn credentials(&self, kind: &SourceKind) -> Result<HeaderMap, Failure> {
        let unreadable = |error: SecretError| Failure::Credentials(error.to_string());
        let unfit =
            |what: &str| Failure::Credentials(format!("{what} holds characters that no header may hold"));
        let mut headers = HeaderMap::new();
        for (name, secret) in &kind.headers {
            let text = secret.get().map_err(unreadable)?;
            let mut value =
                HeaderValue::from_str(text.expose()).map_err(|_| unfit(&format!("the header `{name}`")))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let key = self.key().map_err(unreadable)?;
        self.sent().clone_from(&key);
        if let Some(key) = key {
            let value = self.key_value(&key).ok_or_else(|| unfit("the key"))?;
            headers.insert(self.default_kind().profile.key_header.0.clone(), value);
        }
        Ok(headers)
    }

    /// Returns whether a request carries our own key: in the header of the source, or without that
    /// header as a bearer token, since clients of one API differ in that. It compares digests in
    /// constant time, so that neither the time nor the length tells anything about the key.
    #[must_use]
    pub fn is_own_key(&self, headers: &HeaderMap) -> bool {
        let Ok(Some(key)) = self.key() else { return false };
        let (name, _) = &self.default_kind().profile.key_header;
        let (name, own) = match headers.contains_key(name) {
            true => (name, self.key_text(&key)),
            false => (&AUTHORIZATION, format!("Bearer {}", key.expose())),
        };
        let mut given = headers.get_all(name).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return false };
        let own = Sha256::digest(own);
        Sha256::digest(given.as_bytes()).ct_eq(&own).into()
    }

    /// Returns the fingerprint of the current key: the beginning of its SHA-256, hexadecimal.
    /// `None` without a key.
    #[must_use]
    pub fn key_fingerprint(&self) -> Option<String> {
        self.key().ok().flatten().map(|key| fingerprint(&key))
    }

    /// Returns the fingerprint of the key that was sent last.
    #[must_use]
    pub fn sent_key_fingerprint(&self) -> Option<String> {
        self.sent().as_ref().map(fingerprint)
    }

    /// Returns the text of the header that carries a key.
    pub(super) fn key_text(&self, key: &Secret) -> String {
        match &self.default_kind().profile.key_header.1 {
            Some(scheme) => format!("{scheme} {}", key.expose()),
            None => key.expose().to_owned(),
        }
    }

    /// Returns the header that carries a key, or `None` if the key holds a character that no header
    /// may hold.
    pub(super) fn key_value(&self, key: &Secret) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.key_text(key)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns whether the key, or the secret that credentials are made from, differs from the one
    /// that was used last.
    #[must_use]
    pub fn key_changed(&self) -> bool {
        match &self.auth {
            Some(auth) => auth.has_changed(),
            None => matches!(self.key(), Ok(key) if key != *self.sent()),
        }
    }

    /// Locks the key that was sent last.
    pub(super) fn sent(&self) -> MutexGuard<'_, Option<Secret>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn key(&self) -> Result<Option<Secret>, SecretError> {
        self.key.as_ref().map(SecretSource::get).transpose()
    }
}

fn fingerprint(key: &Secret) -> String {
    let digest = Sha256::digest(key.expose());
    HEXLOWER.encode(&digest[..FINGERPRINT_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        upstream::{SourceConfig, SourceType},
        util::http_client::{Outgoing, guard::Trust},
    };

    fn source(profile: &str) -> Source {
        let config = SourceConfig {
            profile: SourceType::named(profile).unwrap(),
            api_key: Some(Secret::new("k1")),
            ..SourceConfig::default()
        };
        Source::new(profile, &config, &Outgoing::direct(Trust::Operator)).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_the_own_key_in_its_own_header_or_as_bearer_is_ours() {
        let (plain, bearer) = (source("retab"), source("openai-batch"));
        assert!(plain.is_own_key(&headers(&[("api-key", "k1")])));
        assert!(plain.is_own_key(&headers(&[("authorization", "Bearer k1")])));
        assert!(bearer.is_own_key(&headers(&[("authorization", "Bearer k1")])));
        assert!(!bearer.is_own_key(&headers(&[("api-key", "k1")])));
        for other in [
            headers(&[]),
            headers(&[("api-key", "k")]),
            headers(&[("api-key", "k12")]),
            headers(&[("api-key", "K1")]),
            headers(&[("authorization", "k1")]),
            headers(&[("authorization", "Bearer k12")]),
            headers(&[("authorization", "Basic k1")]),
            headers(&[("authorization", "Bearer k1"), ("authorization", "Bearer k2")]),
            headers(&[("api-key", "k2"), ("authorization", "Bearer k1")]),
            headers(&[("api-key", "k1"), ("api-key", "k2")]),
        ] {
            assert!(!plain.is_own_key(&other), "{other:?}");
        }
        let keyless =
            Source::new("retab", &SourceConfig::default(), &Outgoing::direct(Trust::Operator)).unwrap();
        assert!(!keyless.is_own_key(&headers(&[("api-key", "")])) && !keyless.is_own_key(&headers(&[])));
        assert!(!keyless.is_own_key(&headers(&[("authorization", "Bearer ")])));
    }

    #[test]
    fn a_print_is_no_key() {
        let print = source("retab").key_fingerprint().unwrap();
        assert_eq!((print.len(), print.contains("k1")), (2 * FINGERPRINT_BYTES, false));
        assert_eq!(source("fal").key_fingerprint(), Some(print));
    }
}
