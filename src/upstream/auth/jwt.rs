//! Signed assertions: JSON Web Tokens with RS256 (RFC 7515, RFC 7519).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::Serialize;

/// An RSA key that signs.
pub(super) struct SigningKey(RsaKeyPair);

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

/// The claims of an assertion. Times are Unix seconds.
#[derive(Debug, Serialize)]
pub(super) struct Claims<'a> {
    /// Who makes the assertion.
    pub iss: &'a str,
    /// When it was made.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
    /// For whom it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<&'a str>,
    /// What is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'a str>,
}

impl SigningKey {
    /// Reads a key in PEM: PKCS #1 or PKCS #8.
    ///
    /// # Errors
    /// A message that holds nothing of the key.
    pub(super) fn from_pem(text: &str) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| "it holds no private key in PEM".to_owned())?;
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err("the private key is not one of RSA".to_owned()),
        };
        key.map(Self).map_err(|error| format!("the private key cannot be used: {error}"))
    }

    /// Returns the assertion of these claims. `key_id` names the key to a server that knows
    /// several.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn sign(&self, key_id: Option<&str>, claims: &Claims<'_>) -> Result<String, String> {
        let unusable = |_| "the assertion cannot be signed".to_owned();
        let header = Header { alg: "RS256", typ: "JWT", kid: key_id };
        let part = |json: Result<String, serde_json::Error>| {
            json.map(|json| BASE64_URL_SAFE_NO_PAD.encode(json)).map_err(|error| error.to_string())
        };
        let signed =
            format!("{}.{}", part(serde_json::to_string(&header))?, part(serde_json::to_string(claims))?);
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(unusable)?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    /// A key that signs nothing but tests, as PKCS #8.
    pub(in crate::upstream::auth) const KEY: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/rsa-pkcs8.pem"));

    /// The same key as PKCS #1.
    const OLD_KEY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/rsa-pkcs1.pem"));

    /// Returns header and claims of an assertion whose signature is right.
    pub(in crate::upstream::auth) fn verified(token: &str) -> (Value, Value) {
        let key = SigningKey::from_pem(KEY).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.0.public().as_ref());
        public.verify(signed.as_bytes(), &signature).expect("the signature is right");
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        (json(header), json(claims))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_signed_is_verified_and_says_the_same(
            iss in "\\PC{1,40}", aud in proptest::option::of("\\PC{0,40}"), kid in proptest::option::of("\\PC{0,20}"),
            iat in 0..4_000_000_000_i64,
        ) {
            let claims = Claims { iss: &iss, iat, exp: iat + 60, aud: aud.as_deref(), scope: None };
            let token = SigningKey::from_pem(OLD_KEY).unwrap().sign(kid.as_deref(), &claims).unwrap();
            let (header, said) = verified(&token);
            prop_assert_eq!(&header["alg"], "RS256");
            prop_assert_eq!(header.get("kid").and_then(Value::as_str), kid.as_deref());
            prop_assert_eq!(&said["iss"], &iss);
            prop_assert_eq!(said.get("aud").and_then(Value::as_str), aud.as_deref());
            prop_assert_eq!((said["iat"].as_i64(), said["exp"].as_i64()), (Some(iat), Some(iat + 60)));
        }
    }

    #[test]
    fn a_key_that_cannot_sign_is_told_without_its_text() {
        let ec = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for (text, reason) in [
            ("secret", "no private key"),
            ("", "no private key"),
            (ec, "not one of RSA"),
            (broken, "cannot be used"),
        ] {
            let error = SigningKey::from_pem(text).err().unwrap();
            assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        }
    }
}
