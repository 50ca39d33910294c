//! One request to a source.

use reqwest::{Response, header::ACCEPT};

use super::{
    Failure, Source,
    failure::{foreign, trouble},
};

impl Source {
    pub(super) async fn send(&self, address: &str) -> Result<Response, Failure> {
        if !self.is_own(address) {
            return Err(foreign(address));
        }
        let mut request = self.http().get(address).headers(self.credentials()?);
        if !self.profile.headers.keys().any(|name| name.eq_ignore_ascii_case("accept")) {
            request = request.header(ACCEPT, "application/json, */*;q=0.1");
        }
        self.count_request();
        request.send().await.map_err(|error| trouble(&error))
    }
}
