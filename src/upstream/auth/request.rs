//! A request for credentials, and what its answer says.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::util::{
    secret::{REDACTED, Secret},
    units::Time,
};

/// The lifetime of a token that does not tell its own: most live for an hour, and a 401 ends any
/// sooner.
const USUAL_LIFETIME: Duration = Duration::from_hours(1);

/// The longest time for which a token is kept.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

/// The most characters of a reason that are kept.
const MAX_REASON: usize = 300;

/// A shorter text is no secret.
const SHORTEST_SECRET: usize = 4;

/// A request for credentials.
#[derive(Debug)]
pub(super) struct TokenRequest {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// The body. `None`: there is none.
    pub body: Option<Secret>,
    /// What it carries that an answer may repeat and nobody may see.
    pub secrets: Vec<Secret>,
}

impl TokenRequest {
    /// Returns a `GET` that asks for JSON.
    pub(super) fn get(url: Url) -> Self {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { method: Method::GET, url, headers, body: None, secrets: Vec::new() }
    }

    /// Returns a `POST` that asks for JSON.
    pub(super) fn post(url: Url) -> Self {
        Self { method: Method::POST, ..Self::get(url) }
    }

    /// Sends a form (`application/x-www-form-urlencoded`). The values under `secret` are secrets.
    pub(super) fn form(mut self, plain: &[(&str, &str)], secret: &[(&str, &str)]) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in plain.iter().chain(secret) {
            form.append_pair(name, value);
        }
        self.body = Some(Secret::new(form.finish()));
        self.secrets.extend(secret.iter().map(|(_, value)| Secret::new(*value)));
        let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.headers.insert(CONTENT_TYPE, media_type);
        self
    }

    /// Sets a header whose value is a secret.
    ///
    /// # Errors
    /// If no header may hold the value.
    pub(super) fn secret_header(mut self, name: HeaderName, value: &str) -> Result<Self, String> {
        let unfit = |_| format!("the value of the header `{name}` holds characters that no header may hold");
        let mut sent = HeaderValue::from_str(value).map_err(unfit)?;
        sent.set_sensitive(true);
        self.headers.insert(name, sent);
        self.secrets.push(Secret::new(value));
        // `Bearer x` may come back as `x` alone.
        self.secrets.extend(value.split_once(' ').map(|(_, secret)| Secret::new(secret)));
        Ok(self)
    }

    /// Returns a text of the server on one line, without what this request sent.
    pub(super) fn hide(&self, text: &str) -> String {
        let hidden = self.secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST_SECRET);
        let hidden = hidden.fold(text.to_owned(), |text, secret| {
            let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
            let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            [secret, &encoded, &form].iter().fold(text, |text, form| text.replace(form, REDACTED))
        });
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        hidden.chars().map(clean).take(MAX_REASON).collect()
    }
}

/// A token, or a set of keys, that a server made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Minted<T> {
    pub value: T,
    /// How long it lives.
    pub lifetime: Duration,
}

/// Reads the answer of an OAuth 2.0 token endpoint (RFC 6749, section 5.1).
///
/// # Errors
/// What is missing or odd. It holds nothing of the answer.
pub(super) fn oauth2_token(body: &[u8]) -> Result<Minted<Secret>, String> {
    let json = object(body)?;
    if let Some(kind) = json.get("token_type").and_then(Value::as_str)
        && !kind.eq_ignore_ascii_case("bearer")
    {
        return Err("the answer has a token of another type than Bearer".to_owned());
    }
    let lifetime = match &json["expires_in"] {
        Value::Null => Some(USUAL_LIFETIME),
        Value::Number(seconds) => seconds.as_f64().and_then(lasting),
        Value::String(seconds) => seconds.trim().parse().ok().and_then(lasting),
        _ => None,
    };
    let lifetime = lifetime.ok_or("the answer has no usable `expires_in`")?;
    Ok(Minted { value: token(&json["access_token"], "access_token")?, lifetime })
}

/// Reads the text of a token, which goes into a header.
///
/// # Errors
/// If there is none, or no header may hold it.
pub(super) fn token(value: &Value, name: &str) -> Result<Secret, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| format!("the answer has no `{name}`"))?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("the answer has an `{name}` that no header may hold"));
    }
    Ok(Secret::new(text))
}

/// Returns the time until `end`, as an answer writes it. `now` is the clock of its server.
///
/// # Errors
/// If there is no such time, or it has passed.
pub(super) fn until(end: &Value, name: &str, now: Time) -> Result<Duration, String> {
    let end = end.as_str().and_then(Time::parse).ok_or_else(|| format!("the answer has no `{name}`"))?;
    lasting(end.since(now).as_secs_f64()).ok_or_else(|| format!("the answer has an `{name}` that has passed"))
}

/// Reads an object of JSON.
///
/// # Errors
/// If it is none. The message holds nothing of it.
pub(super) fn object(body: &[u8]) -> Result<Value, String> {
    let json = serde_json::from_slice(body).map_err(|_| "the answer is no JSON".to_owned())?;
    match json {
        Value::Object(_) => Ok(json),
        _ => Err("the answer is no JSON object".to_owned()),
    }
}

/// Returns a lifetime in seconds as one that can be used. `None` if it is over.
fn lasting(seconds: f64) -> Option<Duration> {
    let seconds = Some(seconds).filter(|seconds| !seconds.is_nan())?;
    let lifetime = Duration::try_from_secs_f64(seconds.min(LONGEST_LIFETIME.as_secs_f64())).ok()?;
    (lifetime >= Duration::from_millis(100)).then_some(lifetime)
}

/// Returns what an error answer says, in the words of OAuth 2.0 or of a `message`.
pub(super) fn said(body: &[u8]) -> Option<String> {
    let json = object(body).ok()?;
    let text = |name: &str| json[name].as_str().filter(|text| !text.is_empty());
    match (text("error"), text("error_description").or_else(|| text("message"))) {
        (Some(error), Some(more)) => Some(format!("{error}: {more}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_a_token_with_its_lifetime() {
        let hour = Some(3600);
        for (body, lifetime) in [
            (r#"{"access_token":"t","token_type":"bearer","expires_in":3600}"#, hour),
            (r#"{"access_token":"t","token_type":"BEARER","expires_in":"3600"}"#, hour),
            (r#"{"access_token":"t","expires_in":3600.0,"scope":"a"}"#, hour),
            (r#"{"access_token":"t"}"#, hour),
            (r#"{"access_token":"t","expires_in":1e300}"#, Some(86_400)),
            (r#"{"access_token":"t","expires_in":0}"#, None),
            (r#"{"access_token":"t","expires_in":-5}"#, None),
            (r#"{"access_token":"t","expires_in":"NaN"}"#, None),
            (r#"{"access_token":"t","expires_in":[]}"#, None),
            (r#"{"access_token":"","expires_in":5}"#, None),
            (r#"{"access_token":"a\nb","expires_in":5}"#, None),
            (r#"{"access_token":5,"expires_in":5}"#, None),
            (r#"{"access_token":"t","token_type":"mac","expires_in":5}"#, None),
            ("[]", None),
            ("<html>", None),
            ("", None),
        ] {
            let read = oauth2_token(body.as_bytes());
            assert_eq!(
                read.as_ref().ok().map(|minted| minted.lifetime.as_secs()),
                lifetime,
                "{body}: {read:?}"
            );
        }
    }

    #[test]
    fn an_end_is_told_from_the_clock_of_the_server() {
        let (end, now) = (Value::from("2026-01-01T01:00:00Z"), Time::parse("2026-01-01T00:00:00Z").unwrap());
        assert_eq!(until(&end, "expires_at", now).unwrap(), Duration::from_hours(1));
        let later = now.after(Duration::from_hours(2));
        assert!(until(&end, "expires_at", later).unwrap_err().contains("has passed"));
        assert!(until(&Value::Null, "expires_at", now).unwrap_err().contains("no `expires_at`"));
    }

    #[test]
    fn an_error_is_read_in_the_usual_words() {
        for (body, said_so) in [
            (r#"{"error":"invalid_client","error_description":"no"}"#, Some("invalid_client: no")),
            (r#"{"error":"invalid_client"}"#, Some("invalid_client")),
            (r#"{"message":"Bad credentials","documentation_url":"x"}"#, Some("Bad credentials")),
            (r#"{"error":{"code":1}}"#, None),
            ("no", None),
        ] {
            assert_eq!(said(body.as_bytes()).as_deref(), said_so, "{body}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_shows_nothing_that_was_sent(
            secret in "[ -~]{6,40}", before in "[a-z ]{0,9}", after in "[a-z ]{0,9}",
        ) {
            let url: Url = "https://e.example/token".parse().unwrap();
            let request = TokenRequest::post(url).form(&[("grant_type", "x")], &[("client_secret", &secret)]);
            let body = request.body.as_ref().unwrap().expose().to_owned();
            let pairs: Vec<_> = form_urlencoded::parse(body.as_bytes()).collect();
            prop_assert_eq!(&pairs[1].1, &secret);
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            for form in [&secret, &encoded] {
                let shown = request.hide(&format!("{before}{form}{after}"));
                prop_assert!(shown.contains(REDACTED), "{}", shown);
                prop_assert!(!shown.replace(REDACTED, "").contains(form.as_str()), "{}", shown);
            }
        }
    }
}
