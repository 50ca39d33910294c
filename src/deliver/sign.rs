//! Standard Webhooks signatures (specification 1.0.0, "Signature scheme", symmetric).

use std::io::{self, Read as _};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::envelope::{CHUNK, Payload, PayloadError};
use crate::secret::{Secret, SecretError, SecretSource};

/// How a symmetric secret is shown.
const PREFIX: &str = "whsec_";

/// The bytes that a key may have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Secrets are copied by hand, and padding is what gets lost.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is not a signing secret. Nothing of the text is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Another prefix, or none.
    #[error("a signing secret begins with `whsec_`; this one does not")]
    Prefix,
    /// An ed25519 key.
    #[error("a signing secret begins with `whsec_`; asymmetric keys (`whsk_`, `whpk_`) are not supported")]
    Asymmetric,
    /// What follows the prefix cannot be decoded.
    #[error("what follows `whsec_` in the signing secret is not standard base64")]
    Base64,
    /// Too short to be safe, or longer than the specification has it.
    #[error("a signing secret has 24 to 64 bytes; this one has {0}")]
    Length(usize),
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A secret cannot be read.
    #[error(transparent)]
    Source(#[from] SecretError),
    /// A secret is none.
    #[error(transparent)]
    Secret(#[from] BadSecret),
    /// The payload cannot be read.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// The secrets of one webhook; all of them sign, so that a receiver may switch from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Signer {
    secrets: Vec<SecretSource>,
}

impl Signer {
    /// A signer with these secrets, in the order of their entries in the header.
    ///
    /// # Errors
    /// When one of them cannot be read now or is none.
    pub fn new(secrets: Vec<SecretSource>) -> Result<Self, SignError> {
        let signer = Self { secrets };
        signer.begin("", 0)?;
        Ok(signer)
    }

    /// Whether there is no secret, so that nothing is signed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The value of `webhook-signature`; reads the payload through and blocks while it does.
    ///
    /// # Errors
    /// When a secret or the payload cannot be read.
    pub fn sign(&self, id: &str, timestamp: i64, payload: &Payload) -> Result<String, SignError> {
        let mut signature = self.begin(id, timestamp)?;
        let mut reader = payload.reader()?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(signature.finish()),
                Ok(read) => signature.update(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PayloadError::from(error).into()),
            }
        }
    }

    /// Begins a signature; the secrets are read here, those in files again when they changed.
    fn begin(&self, id: &str, timestamp: i64) -> Result<Signature, SignError> {
        let macs = self.secrets.iter().map(|source| Ok(mac(&source.get()?)?));
        let mut signature = Signature { macs: macs.collect::<Result<_, SignError>>()? };
        signature.update(format!("{id}.{timestamp}.").as_bytes());
        Ok(signature)
    }
}

/// The `webhook-signature` that a request with these headers and this body must have, for a receiver.
///
/// # Errors
/// When the secret is none.
pub fn signature(secret: &Secret, id: &str, timestamp: &str, body: &[u8]) -> Result<String, BadSecret> {
    let mut signature = Signature { macs: vec![mac(secret)?] };
    signature.update(format!("{id}.{timestamp}.").as_bytes());
    signature.update(body);
    Ok(signature.finish())
}

/// Signatures in the making, one for each secret.
struct Signature {
    macs: Vec<Hmac<Sha256>>,
}

impl Signature {
    fn update(&mut self, bytes: &[u8]) {
        for mac in &mut self.macs {
            mac.update(bytes);
        }
    }

    fn finish(self) -> String {
        let entry = |mac: Hmac<Sha256>| format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.macs.into_iter().map(entry).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a text is a signing secret.
///
/// # Errors
/// What is wrong with it.
pub fn check_secret(secret: &Secret) -> Result<(), BadSecret> {
    mac(secret).map(drop)
}

fn mac(secret: &Secret) -> Result<Hmac<Sha256>, BadSecret> {
    let text = secret.expose().trim();
    let Some(encoded) = text.strip_prefix(PREFIX) else {
        let asymmetric = text.starts_with("whsk_") || text.starts_with("whpk_");
        return Err(if asymmetric { BadSecret::Asymmetric } else { BadSecret::Prefix });
    };
    let key = LENIENT.decode(encoded).map_err(|_| BadSecret::Base64)?;
    if !KEY_BYTES.contains(&key.len()) {
        return Err(BadSecret::Length(key.len()));
    }
    Hmac::new_from_slice(&key).map_err(|_| BadSecret::Length(key.len()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use standardwebhooks::Webhook;

    use super::*;
    use crate::{
        clock,
        deliver::{
            envelope::Wrapping,
            parcel::{Body, Parcel},
        },
        units::Time,
    };

    fn secret(key: &[u8]) -> Secret {
        Secret::new(format!("whsec_{}", STANDARD.encode(key)))
    }

    fn signer(keys: &[&[u8]]) -> Signer {
        Signer::new(keys.iter().map(|key| SecretSource::Inline(secret(key))).collect()).unwrap()
    }

    fn raw(body: Body) -> Payload {
        let mut parcel = Parcel::test("evt_1".to_owned(), Time(0), "");
        parcel.body = body;
        Payload::of(&parcel, Wrapping::Raw)
    }

    #[test]
    fn the_vector_of_the_reference_implementation_holds() {
        let signer =
            Signer::new(vec![SecretSource::Inline(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))]);
        let payload = raw(Body::Inline(Bytes::from_static(b"{\"test\": 2432232314}")));
        let signature = signer.unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, &payload);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_bad_secret_is_told_without_showing_it() {
        let short = STANDARD.encode([7; 23]);
        let long = STANDARD.encode([7; 65]);
        for (text, wrong) in [
            ("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", BadSecret::Prefix),
            ("", BadSecret::Prefix),
            ("whsk_c2VjcmV0", BadSecret::Asymmetric),
            ("whsec_c2Vj*mV0", BadSecret::Base64),
            ("whsec_", BadSecret::Length(0)),
            (&format!("whsec_{short}"), BadSecret::Length(23)),
            (&format!("whsec_{long}"), BadSecret::Length(65)),
        ] {
            let error = check_secret(&Secret::new(text)).unwrap_err();
            assert_eq!(error, wrong, "{text}");
            assert!(!error.to_string().contains("c2Vj"), "{error}");
        }
        assert_eq!(check_secret(&Secret::new(secret(&[9; 25]).expose().trim_end_matches('='))), Ok(()));
    }

    #[test]
    fn every_secret_signs_in_order_and_a_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, secret(&[1; 32]).expose()).unwrap();
        let file = SecretSource::of(None, Some(&path)).unwrap();
        let both = Signer::new(vec![file, SecretSource::Inline(secret(&[2; 32]))]).unwrap();
        let payload = raw(Body::Null);
        let one = |key: u8| signer(&[&[key; 32]]).sign("evt_1", 7, &payload).unwrap();
        assert_eq!(both.sign("evt_1", 7, &payload).unwrap(), format!("{} {}", one(1), one(2)));
        std::fs::write(&path, format!("{} ", secret(&[3; 32]).expose())).unwrap();
        assert_eq!(both.sign("evt_1", 7, &payload).unwrap(), format!("{} {}", one(3), one(2)));
        std::fs::write(&path, "whsec_short").unwrap();
        assert!(both.sign("evt_1", 7, &payload).is_err());
    }

    proptest! {
        #[test]
        fn signatures_are_those_of_the_reference_implementation(
            key in proptest::collection::vec(any::<u8>(), 24..=64),
            id in "[a-zA-Z0-9_]{1,40}",
            timestamp in 0_i64..10_000_000_000,
            body in "\\PC{1,2000}",
        ) {
            let payload = raw(Body::Inline(body.clone().into()));
            let ours = signer(&[&key]).sign(&id, timestamp, &payload).unwrap();
            let theirs = Webhook::new(secret(&key).expose()).unwrap();
            prop_assert_eq!(&ours, &theirs.sign(&id, timestamp, body.as_bytes()).unwrap());

            let now = clock::now().unix_seconds();
            let rotating = signer(&[&[0; 24], &key]).sign(&id, now, &payload).unwrap();
            let mut headers = http::HeaderMap::new();
            headers.insert("webhook-id", id.parse().unwrap());
            headers.insert("webhook-timestamp", now.into());
            headers.insert("webhook-signature", rotating.parse().unwrap());
            prop_assert!(theirs.verify(body.as_bytes(), &headers).is_ok());
            let other = body + " ";
            prop_assert!(theirs.verify(other.as_bytes(), &headers).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn a_file_signs_like_the_same_bytes_in_memory(body in proptest::collection::vec(any::<u8>(), 1..200_000)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("job");
            std::fs::write(&path, &body).unwrap();
            let file = raw(Body::File { path, size: body.len() as u64 });
            let signer = signer(&[&[5; 32]]);
            let inline = raw(Body::Inline(body.into()));
            prop_assert_eq!(signer.sign("e", 1, &file).unwrap(), signer.sign("e", 1, &inline).unwrap());
        }
    }
}
