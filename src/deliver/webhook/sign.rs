//! Standard Webhooks signatures (specification 1.0.0, "Signature scheme"): symmetric `v1` and
//! asymmetric `v1a`.

use std::{
    cell::RefCell,
    io::{self, Read as _},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use ed25519_dalek::{
    SECRET_KEY_LENGTH, SigningKey,
    hazmat::{ExpandedSecretKey, raw_sign_byupdate},
};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    deliver::{
        encode::payload::{CHUNK, Payload, PayloadError},
        outcome::AttemptFailure,
    },
    model::delivery::ErrorClass,
    util::secret::{Secret, SecretError, SecretList, SecretSource},
};

/// The prefix of a symmetric secret.
const SYMMETRIC: &str = "whsec_";
/// The prefix of an ed25519 private key.
const PRIVATE: &str = "whsk_";
/// The prefix of an ed25519 public key.
const PUBLIC: &str = "whpk_";

/// The length of a symmetric key in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Base64 with or without padding, which people often lose when they copy a secret.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The reason why a text is not a signing secret, without any part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Another prefix, or none.
    #[error("a signing secret begins with `whsec_` or, for ed25519, with `whsk_`; this one does not")]
    Prefix,
    /// A public key, which receivers use.
    #[error("this is a public key (`whpk_`), which only verifies; signing takes its private key (`whsk_`)")]
    Public,
    /// The part after the prefix is not base64.
    #[error("what follows `{0}` in the signing secret is not standard base64")]
    Base64(&'static str),
    /// Too short to be safe, or longer than the specification allows.
    #[error("a signing secret has 24 to 64 bytes; this one has {0}")]
    Length(usize),
    /// Neither a seed nor a seed with its public key.
    #[error("an ed25519 private key has 32 bytes, or 64 with its public key; this one has {0}")]
    PrivateLength(usize),
    /// The public key in a private key belongs to another one.
    #[error("the second half of this ed25519 private key is not its public key")]
    Mismatch,
}

/// The error of a signature that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A secret cannot be read.
    #[error(transparent)]
    Source(#[from] SecretError),
    /// A secret is invalid.
    #[error(transparent)]
    Secret(#[from] BadSecret),
    /// The payload cannot be read.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Two readings of the payload differ.
    #[error("the stored job cannot be read: it changed while it was signed")]
    Changed,
}

impl From<SignError> for AttemptFailure {
    fn from(error: SignError) -> Self {
        let class = match error {
            SignError::Source(_) | SignError::Secret(_) => ErrorClass::Config,
            SignError::Payload(_) | SignError::Changed => ErrorClass::Payload,
        };
        Self::new(class, error.to_string())
    }
}

/// The secrets of one webhook. All of them sign, so that a receiver may switch from one to the
/// next.
#[derive(Clone, Debug, Default)]
pub struct Signer {
    secrets: Vec<SecretSource>,
    list: Option<SecretList>,
}

impl Signer {
    /// Returns a signer with these secrets, in the order of the header's entries; those of `list`
    /// come last.
    ///
    /// # Errors
    /// When one of them cannot be read or is invalid.
    pub fn new(secrets: Vec<SecretSource>, list: Option<SecretList>) -> Result<Self, SignError> {
        let signer = Self { secrets, list };
        signer.keys()?;
        Ok(signer)
    }

    /// Returns whether there is no secret, so that requests go unsigned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.list.is_none()
    }

    /// Returns the public keys (`whpk_…`) of the ed25519 secrets, for receivers.
    ///
    /// # Errors
    /// When a secret cannot be read or is invalid.
    pub fn public_keys(&self) -> Result<Vec<String>, SignError> {
        let public = |key: &Key| match key {
            Key::Symmetric(_) => None,
            Key::Ed25519(pair) => Some(format!("{PUBLIC}{}", STANDARD.encode(pair.verifying_key()))),
        };
        Ok(self.keys()?.iter().filter_map(public).collect())
    }

    /// Returns the value of `webhook-signature`. Blocks while it reads the payload: once for all
    /// symmetric secrets, and twice for each ed25519 key.
    ///
    /// # Errors
    /// When a secret or the payload cannot be read.
    pub fn sign(&self, id: &str, timestamp: i64, payload: &Payload) -> Result<String, SignError> {
        let begin = format!("{id}.{timestamp}.");
        entries(self.keys()?, |take| {
            take(begin.as_bytes());
            read_through(payload, take)
        })
    }

    /// Returns what [`sign`](Self::sign) does for a payload in memory.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub fn sign_bytes(&self, id: &str, timestamp: i64, payload: &[u8]) -> Result<String, SignError> {
        signed(self.keys()?, id, &timestamp.to_string(), payload)
    }

    /// Returns whether a secret is in a file, which may have to be read again.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.list.is_some() || self.secrets.iter().any(|secret| matches!(secret, SecretSource::File(_)))
    }

    /// Returns the current keys. Reads files again when they have changed.
    fn keys(&self) -> Result<Vec<Key>, SignError> {
        let single = self.secrets.iter().map(|source| Ok(Key::of(&source.get()?)?));
        let mut keys: Vec<Key> = single.collect::<Result<_, SignError>>()?;
        for secret in self.list.as_ref().map(SecretList::get).transpose()?.unwrap_or_default() {
            keys.push(Key::of(&secret)?);
        }
        Ok(keys)
    }
}

/// Returns the `webhook-signature` that a request with these headers and this body must have.
///
/// # Errors
/// When the secret is invalid.
pub fn signature(secret: &Secret, id: &str, timestamp: &str, body: &[u8]) -> Result<String, SignError> {
    signed(vec![Key::of(secret)?], id, timestamp, body)
}

/// Signs a body in memory.
fn signed(keys: Vec<Key>, id: &str, timestamp: &str, body: &[u8]) -> Result<String, SignError> {
    let begin = format!("{id}.{timestamp}.");
    entries(keys, |take| {
        take(begin.as_bytes());
        take(body);
        Ok(())
    })
}

/// Checks a signing secret.
///
/// # Errors
/// The reason why it is invalid.
pub fn check_secret(secret: &Secret) -> Result<(), BadSecret> {
    Key::of(secret).map(drop)
}

/// A key that signs.
enum Key {
    Symmetric(Hmac<Sha256>),
    Ed25519(Box<SigningKey>),
}

impl Key {
    fn of(secret: &Secret) -> Result<Self, BadSecret> {
        let text = secret.expose().trim();
        let decode = |prefix, encoded| LENIENT.decode(encoded).map_err(|_| BadSecret::Base64(prefix));
        if let Some(encoded) = text.strip_prefix(SYMMETRIC) {
            let key = decode(SYMMETRIC, encoded)?;
            let mac = Hmac::new_from_slice(&key).ok().filter(|_| KEY_BYTES.contains(&key.len()));
            return mac.map(Self::Symmetric).ok_or(BadSecret::Length(key.len()));
        }
        if let Some(encoded) = text.strip_prefix(PRIVATE) {
            return ed25519(&decode(PRIVATE, encoded)?).map(Box::new).map(Self::Ed25519);
        }
        Err(if text.starts_with(PUBLIC) { BadSecret::Public } else { BadSecret::Prefix })
    }
}

/// Reads a private key: the seed of RFC 8032, 5.1.5, alone or followed by the public key, as Svix
/// writes it.
fn ed25519(bytes: &[u8]) -> Result<SigningKey, BadSecret> {
    let wrong = BadSecret::PrivateLength(bytes.len());
    let (seed, public) = bytes.split_at_checked(SECRET_KEY_LENGTH).ok_or(wrong.clone())?;
    let key = SigningKey::from_bytes(seed.try_into().map_err(|_| wrong.clone())?);
    match public.len() {
        0 => Ok(key),
        SECRET_KEY_LENGTH if key.verifying_key().as_bytes() == public => Ok(key),
        SECRET_KEY_LENGTH => Err(BadSecret::Mismatch),
        _ => Err(wrong),
    }
}

/// Takes the signed message in pieces, from its start.
type Take<'a> = &'a mut dyn FnMut(&[u8]);

/// Returns one entry for each key, in their order.
fn entries(
    mut keys: Vec<Key>,
    read: impl Fn(Take<'_>) -> Result<(), PayloadError>,
) -> Result<String, SignError> {
    if keys.iter().any(|key| matches!(key, Key::Symmetric(_))) {
        read(&mut |bytes| {
            for key in &mut keys {
                if let Key::Symmetric(mac) = key {
                    mac.update(bytes);
                }
            }
        })?;
    }
    let entry = |key| match key {
        Key::Symmetric(mac) => Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))),
        Key::Ed25519(pair) => Ok(format!("v1a,{}", STANDARD.encode(twice_read(&pair, &read)?))),
    };
    Ok(keys.into_iter().map(entry).collect::<Result<Vec<_>, SignError>>()?.join(" "))
}

/// Returns the ed25519 signature of a message that is too large for memory. The scheme reads the
/// message twice (RFC 8032, 5.1.6). Two readings that differ would reveal the private key, so they
/// give an error instead.
fn twice_read(
    pair: &SigningKey,
    read: impl Fn(Take<'_>) -> Result<(), PayloadError>,
) -> Result<[u8; 64], SignError> {
    let readings = RefCell::new(Vec::with_capacity(2));
    let expanded = ExpandedSecretKey::from(&pair.to_bytes());
    let signature = raw_sign_byupdate(
        &expanded,
        |hash: &mut Sha512| {
            let mut seen = Sha256::new();
            let done = read(&mut |bytes| {
                hash.update(bytes);
                seen.update(bytes);
            });
            let reading = done.map(|()| seen.finalize());
            let same = match (&reading, readings.borrow().first()) {
                (Ok(now), Some(Ok(before))) => now == before,
                (now, _) => now.is_ok(),
            };
            readings.borrow_mut().push(reading);
            same.then_some(()).ok_or_else(ed25519_dalek::SignatureError::new)
        },
        &pair.verifying_key(),
    );
    signature.map(|signature| signature.to_bytes()).map_err(|_| {
        let failed = readings.into_inner().into_iter().find_map(Result::err);
        failed.map_or(SignError::Changed, SignError::Payload)
    })
}

fn read_through(payload: &Payload, take: Take<'_>) -> Result<(), PayloadError> {
    let mut reader = payload.reader()?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
