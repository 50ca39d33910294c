//! Installation tokens of a GitHub App: an assertion that the key of the app signs.

use http::{HeaderValue, header::ACCEPT, header::AUTHORIZATION};
use url::Url;

use super::{
    jwt::{Claims, SigningKey},
    request::{Minted, TokenRequest, object, token, until},
};
use crate::util::{
    secret::{Secret, SecretText},
    units::Time,
};

/// How long before now an assertion was made, in seconds: the clocks of two machines differ.
const DRIFT: i64 = 60;

/// How long an assertion lives, in seconds. GitHub takes ten minutes, by its own clock.
const LIFETIME: i64 = 9 * 60;

/// An installation of an app.
pub(super) struct Installation {
    pub app_id: String,
    pub id: String,
    pub key: SecretText,
    /// The base URL of the API, without a slash at its end.
    pub api_url: String,
}

impl Installation {
    /// Returns the request for a token.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub(super) fn request(&self, key: &Secret, now: Time) -> Result<TokenRequest, String> {
        let url = format!("{}/app/installations/{}/access_tokens", self.api_url, self.id);
        let url = Url::parse(&url).map_err(|_| "api_url is no URL".to_owned())?;
        let now = now.unix_seconds();
        let claims =
            Claims { iss: &self.app_id, iat: now - DRIFT, exp: now + LIFETIME, aud: None, scope: None };
        let assertion = SigningKey::from_pem(key.expose())?.sign(None, &claims)?;
        let mut request =
            TokenRequest::post(url).secret_header(AUTHORIZATION, &format!("Bearer {assertion}"))?;
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        Ok(request)
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// What is missing or odd. It holds nothing of the answer.
    pub(super) fn read(body: &[u8], now: Time) -> Result<Minted<Secret>, String> {
        let json = object(body)?;
        let value = token(&json["token"], "token")?;
        Ok(Minted { value, lifetime: until(&json["expires_at"], "expires_at", now)? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::upstream::auth::jwt::tests::{KEY, verified};

    #[test]
    fn the_app_asks_for_its_installation() {
        let app = Installation {
            app_id: "12".to_owned(),
            id: "7".to_owned(),
            key: SecretText::inline(Secret::new(KEY)),
            api_url: "https://ghe.example/api/v3".to_owned(),
        };
        let request = app.request(&Secret::new(KEY), Time(1_700_000_000_000)).unwrap();
        assert_eq!(request.url.as_str(), "https://ghe.example/api/v3/app/installations/7/access_tokens");
        let assertion = request.headers[AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let (_, claims) = verified(assertion);
        assert_eq!(claims, json!({"iss": "12", "iat": 1_699_999_940, "exp": 1_700_000_540}));
        assert!(!request.hide(&format!("no {assertion} here")).contains(assertion));
    }

    #[test]
    fn the_answer_tells_when_the_token_ends() {
        let now = Time::parse("2026-01-01T00:00:00Z").unwrap();
        let body =
            r#"{"token":"ghs_x","expires_at":"2026-01-01T01:00:00Z","permissions":{"actions":"read"}}"#;
        let read = Installation::read(body.as_bytes(), now).unwrap();
        assert_eq!((read.value.expose(), read.lifetime), ("ghs_x", Duration::from_hours(1)));
        for body in [r#"{"token":"ghs_x"}"#, r#"{"expires_at":"2026-01-01T01:00:00Z"}"#, "{}", "no"] {
            assert!(Installation::read(body.as_bytes(), now).is_err(), "{body}");
        }
    }
}
