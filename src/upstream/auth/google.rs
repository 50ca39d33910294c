//! Tokens for a Google service account: an assertion that its key signs (RFC 7523).

use serde::Deserialize;
use url::Url;

use super::{
    jwt::{Claims, SigningKey},
    request::TokenRequest,
};
use crate::util::{
    secret::{Secret, SecretText},
    units::Time,
};

/// The scope of all services; the roles of the account decide what it may do.
pub(super) const ALL_SERVICES: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The URL of tokens if the key names none.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// The lifetime of an assertion in seconds, the longest that Google takes.
const LIFETIME: i64 = 3600;

/// The grant of an assertion.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A service account.
pub(super) struct ServiceAccount {
    pub key: SecretText,
    pub scope: String,
    /// Where tokens are, instead of where the key says.
    pub token_url: Option<Url>,
}

/// The file that Google gives for a key, as far as it is needed.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

/// A key, ready to sign.
pub(super) struct AccountKey {
    file: KeyFile,
    signing: SigningKey,
    token_url: Url,
}

impl AccountKey {
    /// Reads the JSON of a key.
    ///
    /// # Errors
    /// A message that holds nothing of it.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        let file: KeyFile = serde_json::from_str(json)
            .map_err(|_| "it is not the JSON key of a service account".to_owned())?;
        if file.kind != "service_account" {
            return Err("it is no key of a service account: its `type` is another one".to_owned());
        }
        if file.client_email.is_empty() {
            return Err("it has no `client_email`".to_owned());
        }
        let signing =
            SigningKey::from_pem(&file.private_key).map_err(|reason| format!("`private_key`: {reason}"))?;
        let token_url = file.token_uri.as_deref().unwrap_or(TOKEN_URL);
        let token_url = Url::parse(token_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let token_url = token_url.ok_or("its `token_uri` is no URL")?;
        Ok(Self { file, signing, token_url })
    }
}

impl ServiceAccount {
    /// Returns the request for a token.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub(super) fn request(&self, key: &Secret, now: Time) -> Result<TokenRequest, String> {
        let AccountKey { file, signing, token_url } = AccountKey::read(key.expose())?;
        let url = self.token_url.clone().unwrap_or(token_url);
        let iat = now.unix_seconds();
        let claims = Claims {
            iss: &file.client_email,
            iat,
            exp: iat + LIFETIME,
            aud: Some(url.as_str()),
            scope: Some(&self.scope),
        };
        let assertion = signing.sign(file.private_key_id.as_deref(), &claims)?;
        Ok(TokenRequest::post(url.clone()).form(&[("grant_type", GRANT)], &[("assertion", &assertion)]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use url::form_urlencoded;

    use super::*;
    use crate::upstream::auth::jwt::tests::{KEY, verified};

    fn key(change: impl FnOnce(&mut serde_json::Value)) -> Secret {
        let mut key = json!({
            "type": "service_account", "project_id": "p", "private_key_id": "k7", "private_key": KEY,
            "client_email": "bot@p.example", "token_uri": "https://oauth2.example/token", "universe_domain": "x",
        });
        change(&mut key);
        Secret::new(key.to_string())
    }

    #[test]
    fn the_assertion_says_who_asks_whom_for_what() {
        let now = Time(1_700_000_000_999);
        let other: Url = "http://127.0.0.1:9/t".parse().unwrap();
        for (token_url, aud) in
            [(None, "https://oauth2.example/token"), (Some(other), "http://127.0.0.1:9/t")]
        {
            let account = ServiceAccount {
                key: SecretText::inline(key(|_| {})),
                scope: ALL_SERVICES.to_owned(),
                token_url,
            };
            let request = account.request(&key(|_| {}), now).unwrap();
            assert_eq!(request.url.as_str(), aud);
            let body = request.body.unwrap().expose().to_owned();
            let form: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            assert_eq!(form[0], ("grant_type".to_owned(), GRANT.to_owned()));
            let (header, claims) = verified(&form[1].1);
            assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k7"}));
            assert_eq!(
                claims,
                json!({
                    "iss": "bot@p.example", "aud": aud, "scope": ALL_SERVICES,
                    "iat": 1_700_000_000, "exp": 1_700_003_600,
                })
            );
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_told_without_its_text() {
        for (secret, reason) in [
            (Secret::new("hunter2"), "not the JSON key"),
            (key(|key| key["type"] = json!("authorized_user")), "no key of a service account"),
            (key(|key| key["client_email"] = json!("")), "no `client_email`"),
            (key(|key| key["private_key"] = json!("hunter2")), "`private_key`: it holds no private key"),
            (key(|key| key["token_uri"] = json!("ftp://x")), "`token_uri`"),
        ] {
            let error = AccountKey::read(secret.expose()).err().unwrap();
            assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
        }
    }
}
