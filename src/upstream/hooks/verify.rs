//! Proves that a hook comes from the source. Pure: headers, query, body, secrets and time go in. All
//! comparisons take the same time wherever two texts differ.

use std::time::Duration;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::SignatureEncoding;
use crate::util::secret::{Secret, SecretError};

/// The most signatures of one hook that are compared.
const MAX_SIGNATURES: usize = 16;
/// The shortest key of Standard Webhooks, in bytes.
const SHORTEST_KEY: usize = 16;
/// The names of the headers of Standard Webhooks, and those of Svix.
const STANDARD: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("webhook-id"),
        HeaderName::from_static("webhook-timestamp"),
        HeaderName::from_static("webhook-signature"),
    ],
    [
        HeaderName::from_static("svix-id"),
        HeaderName::from_static("svix-timestamp"),
        HeaderName::from_static("svix-signature"),
    ],
];

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a hook is not verified.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// The signature, its time or the token is not there.
    #[error("it carries no signature or token")]
    Missing,
    /// A part of the signature cannot be read.
    #[error("its signature cannot be read")]
    Malformed,
    /// The time of the hook is too far from ours.
    #[error("its time is too far from the time of this machine")]
    Stale,
    /// No secret gives this signature, or is this token.
    #[error("its signature or token is wrong")]
    Wrong,
    /// A secret cannot be used.
    #[error("the secret cannot be used: {0}")]
    Secret(String),
}

impl From<SecretError> for Unverified {
    fn from(error: SecretError) -> Self {
        Self::Secret(error.to_string())
    }
}

/// How hooks are verified.
#[derive(Clone, Debug)]
pub(super) enum Check {
    Standard { tolerance: Duration },
    Hmac(HmacCheck),
    Token(TokenPlace),
}

/// Where the HMAC is, and what it is made from.
#[derive(Clone, Debug)]
pub(super) struct HmacCheck {
    pub(super) header: HeaderName,
    pub(super) prefix: String,
    pub(super) encoding: SignatureEncoding,
    pub(super) timestamp: Option<TimestampPlace>,
    pub(super) tolerance: Duration,
    pub(super) signed: Vec<Piece>,
}

/// Where the time of a hook is.
#[derive(Clone, Debug)]
pub(super) enum TimestampPlace {
    /// In a header of its own.
    Header(HeaderName),
    /// In an entry of the header with the HMAC.
    Entry,
}

/// Where the token is.
#[derive(Clone, Debug)]
pub(super) enum TokenPlace {
    /// In a header, behind this text.
    Header(HeaderName, String),
    /// In this parameter of the query.
    Query(String),
}

/// A part of the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Timestamp,
    Body,
}

impl Piece {
    /// Splits a template.
    pub(super) fn parse(text: &str) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let found = [("{timestamp}", Self::Timestamp), ("{body}", Self::Body)];
            let next = found
                .into_iter()
                .filter_map(|(word, piece)| Some((rest.find(word)?, word, piece)))
                .min_by_key(|next| next.0);
            let Some((at, word, piece)) = next else {
                pieces.push(Self::Text(rest.to_owned()));
                break;
            };
            if at > 0 {
                pieces.push(Self::Text(rest[..at].to_owned()));
            }
            pieces.push(piece);
            rest = &rest[at + word.len()..];
        }
        pieces
    }
}

/// Returns the key of a secret of Standard Webhooks.
///
/// # Errors
/// Why it is invalid, without any part of it.
pub(super) fn standard_key(secret: &Secret) -> Result<Vec<u8>, String> {
    let text = secret.expose().trim();
    if text.starts_with("whpk_") || text.starts_with("whsk_") {
        return Err(
            "ed25519 keys are not supported for hooks; take the secret that begins with `whsec_`".to_owned()
        );
    }
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let key = LENIENT
        .decode(encoded)
        .map_err(|_| "it is not standard base64 (after `whsec_`, if present)".to_owned())?;
    if key.len() < SHORTEST_KEY {
        return Err(format!("its key has {} bytes; at least {SHORTEST_KEY} are needed", key.len()));
    }
    Ok(key)
}

/// Checks that a hook carries a signature at all.
pub(super) fn has_signature(check: &Check, headers: &HeaderMap) -> Result<(), Unverified> {
    let is_there = match check {
        Check::Standard { .. } => {
            STANDARD.iter().any(|names| names.iter().all(|name| headers.contains_key(name)))
        }
        Check::Hmac(hmac) => headers.contains_key(&hmac.header),
        Check::Token(_) => true,
    };
    if is_there { Ok(()) } else { Err(Unverified::Missing) }
}

/// Verifies a hook by any of these secrets. `now` is in seconds since 1970.
pub(super) fn verify(
    check: &Check,
    secrets: &[Secret],
    headers: &HeaderMap,
    query: &str,
    body: &[u8],
    now: i64,
) -> Result<(), Unverified> {
    match check {
        Check::Standard { tolerance } => standard(*tolerance, secrets, headers, body, now),
        Check::Hmac(check) => check.verify(secrets, headers, body, now),
        Check::Token(place) => token(place, secrets, headers, query),
    }
}

fn standard(
    tolerance: Duration,
    secrets: &[Secret],
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<(), Unverified> {
    let all = |names: &[HeaderName; 3]| {
        let [id, time, signature] = names;
        Some([text(headers, id)?, text(headers, time)?, text(headers, signature)?])
    };
    let [id, time, signature] = STANDARD.iter().find_map(all).ok_or(Unverified::Missing)?;
    check_time(time, tolerance, now)?;
    let entries = signature.split_ascii_whitespace().filter_map(|entry| entry.strip_prefix("v1,"));
    let given: Vec<Vec<u8>> =
        entries.filter_map(|entry| LENIENT.decode(entry).ok()).take(MAX_SIGNATURES).collect();
    let pieces = [id.as_bytes(), b".", time.as_bytes(), b".", body];
    let keys = secrets.iter().map(standard_key).collect::<Result<Vec<_>, _>>().map_err(Unverified::Secret)?;
    any_matches(&keys, &pieces, &given)
}

impl HmacCheck {
    fn verify(
        &self,
        secrets: &[Secret],
        headers: &HeaderMap,
        body: &[u8],
        now: i64,
    ) -> Result<(), Unverified> {
        let value = text(headers, &self.header).ok_or(Unverified::Missing)?;
        let time = match &self.timestamp {
            None => "",
            Some(TimestampPlace::Header(name)) => text(headers, name).ok_or(Unverified::Missing)?.trim(),
            Some(TimestampPlace::Entry) => {
                let named = entries(value).filter_map(|entry| entry.split_once('='));
                let time = named.into_iter().find(|(name, _)| matches!(*name, "t" | "timestamp"));
                time.ok_or(Unverified::Missing)?.1
            }
        };
        if self.timestamp.is_some() {
            check_time(time, self.tolerance, now)?;
        }
        let given: Vec<Vec<u8>> = entries(value)
            .filter_map(|entry| entry.strip_prefix(self.prefix.as_str()))
            .filter_map(|entry| self.decode(entry))
            .take(MAX_SIGNATURES)
            .collect();
        if given.is_empty() {
            return Err(Unverified::Malformed);
        }
        let piece = |piece: &'_ Piece| match piece {
            Piece::Text(text) => text.clone().into_bytes(),
            Piece::Timestamp => time.as_bytes().to_vec(),
            Piece::Body => Vec::new(),
        };
        let parts: Vec<Vec<u8>> = self.signed.iter().map(piece).collect();
        let pieces: Vec<&[u8]> = self
            .signed
            .iter()
            .zip(&parts)
            .map(|(piece, bytes)| if *piece == Piece::Body { body } else { bytes.as_slice() })
            .collect();
        let keys: Vec<Vec<u8>> =
            secrets.iter().map(|secret| secret.expose().trim().as_bytes().to_vec()).collect();
        any_matches(&keys, &pieces, &given)
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        match self.encoding {
            SignatureEncoding::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
            SignatureEncoding::Base64 => LENIENT.decode(text).ok(),
        }
    }
}

/// Returns the entries of a header, as in `t=1,v1=ab, v1=cd`.
fn entries(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ';', ' ', '\t']).filter(|entry| !entry.is_empty())
}

/// Compares every signature with that of every key.
fn any_matches(keys: &[Vec<u8>], pieces: &[&[u8]], given: &[Vec<u8>]) -> Result<(), Unverified> {
    let mut matches = subtle::Choice::from(0);
    for key in keys {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { continue };
        for piece in pieces {
            mac.update(piece);
        }
        let own = mac.finalize().into_bytes();
        for signature in given {
            matches |= own.as_slice().ct_eq(signature);
        }
    }
    if bool::from(matches) { Ok(()) } else { Err(Unverified::Wrong) }
}

/// Verifies the token in its place.
pub(super) fn token(
    place: &TokenPlace,
    secrets: &[Secret],
    headers: &HeaderMap,
    query: &str,
) -> Result<(), Unverified> {
    let given = match place {
        TokenPlace::Header(name, prefix) => {
            let value = text(headers, name).ok_or(Unverified::Missing)?.trim();
            value.strip_prefix(prefix.as_str()).ok_or(Unverified::Malformed)?.to_owned()
        }
        TokenPlace::Query(name) => {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, _)| key == name).ok_or(Unverified::Missing)?.1.into_owned()
        }
    };
    let mut matches = subtle::Choice::from(0);
    for secret in secrets {
        matches |= secret.expose().trim().as_bytes().ct_eq(given.as_bytes());
    }
    if bool::from(matches) { Ok(()) } else { Err(Unverified::Wrong) }
}

/// Returns the only value of a header. With two of them it is unclear which one counts.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Checks the time of a hook, in seconds or milliseconds since 1970.
fn check_time(text: &str, tolerance: Duration, now: i64) -> Result<(), Unverified> {
    /// Later than any time in seconds that could be meant.
    const MILLIS: i64 = 100_000_000_000;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let at: i64 = text.parse().ok().filter(|_| is_number).ok_or(Unverified::Malformed)?;
    let at = if at >= MILLIS { at / 1000 } else { at };
    if at.abs_diff(now) <= tolerance.as_secs() { Ok(()) } else { Err(Unverified::Stale) }
}
