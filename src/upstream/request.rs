//! One request to a source.

use reqwest::{
    Response,
    header::{ACCEPT, HeaderValue},
};

use super::{Failure, Source, failure::foreign};

impl Source {
    pub(super) async fn send(&self, address: &str) -> Result<Response, Failure> {
        if !self.is_own(address) {
            return Err(foreign(address));
        }
        let mut headers = self.credentials()?;
        if !self.profile.headers.keys().any(|name| name.eq_ignore_ascii_case("accept")) {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
        }
        self.request(|client| client.get(address).headers(headers)).await
    }
}
