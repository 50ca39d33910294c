//! Forwards requests of the proxy to a source.

use std::time::Duration;

use reqwest::{
    Body, Method, Response,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use super::{
    Failure, Source, SourceKind,
    auth::AuthType,
    failure::{foreign, refusal},
};

/// Returns the limit for which a source did not take a request, with its status and the wait that it
/// asks for: 429, or 503 with a wait.
#[must_use]
pub fn not_taken(answer: &Response) -> Option<(u16, Option<Duration>)> {
    match refusal(answer)? {
        Failure::RateLimited { status: status @ (429 | 503), retry_after } => Some((status, retry_after)),
        _ => None,
    }
}

impl Source {
    /// Forwards a request. With `inject` our key and the headers of that kind replace those of the caller, and a bearer token, by
    /// which some clients send their key.
    ///
    /// # Errors
    /// If the address is of another origin, our key cannot be read, or no answer comes. An answer
    /// with an error status is an answer.
    pub async fn forward(
        &self,
        method: Method,
        address: &str,
        mut headers: HeaderMap,
        body: Option<Body>,
        inject: Option<&SourceKind>,
    ) -> Result<Response, Failure> {
        if !self.is_own(address) {
            return Err(foreign(address));
        }
        let mut carried = None;
        if let Some(kind) = inject {
            let key = &kind.profile.key_header.0;
            let own = self.credentials(kind)?;
            if own.contains_key(key) && headers.get(AUTHORIZATION).is_some_and(is_bearer) {
                headers.remove(AUTHORIZATION);
            }
            for (name, value) in own {
                if let Some(name) = name.filter(|name| name == key || !headers.contains_key(name)) {
                    headers.insert(name, value);
                }
            }
            if self.auth_type() == Some(AuthType::AwsSigv4) {
                let reason = "no key can be added to the request of a caller: the source signs its own alone";
                return Err(Failure::Credentials(reason.to_owned()));
            }
            if self.auth.is_some() {
                headers.remove(key);
                carried = self.authorize(&method, address, &mut headers, &[]).await?;
            }
        }
        let answer = self.request(|client| {
            let request = client.request(method, address).headers(headers);
            match body {
                Some(body) => request.body(body),
                None => request,
            }
        });
        let answer = answer.await?;
        if let Some((auth, carried)) = self.auth.as_ref().zip(carried) {
            // The body is gone; the next request gets another token.
            auth.notice(answer.status(), &carried);
        }
        Ok(answer)
    }
}

fn is_bearer(value: &HeaderValue) -> bool {
    value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}
