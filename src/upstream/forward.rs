//! Forwards requests of the proxy to a source.

use reqwest::{Body, Method, Response, header::HeaderMap};

use super::{Failure, Source, failure::foreign};

impl Source {
    /// Forwards a request. With `inject` our key and headers replace those of the caller.
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
        inject: bool,
    ) -> Result<Response, Failure> {
        if !self.is_own(address) {
            return Err(foreign(address));
        }
        if inject {
            let key = &self.profile.key_header.0;
            for (name, value) in self.credentials()? {
                if let Some(name) = name.filter(|name| name == key || !headers.contains_key(name)) {
                    headers.insert(name, value);
                }
            }
        }
        self.request(|client| {
            let request = client.request(method, address).headers(headers);
            match body {
                Some(body) => request.body(body),
                None => request,
            }
        })
        .await
    }
}
