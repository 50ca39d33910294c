//! Requests for results at other origins: without any of our headers, and under the guard.

use std::sync::OnceLock;

use ipnet::IpNet;
use reqwest::{Client, Response, header::ACCEPT_ENCODING};
use url::Url;

use super::{Failure, decode, failure::elsewhere};
use crate::util::{
    http_client::{
        Clients, Outgoing, find,
        guard::{Blocked, ResolveError, Trust, check_url},
        innermost,
    },
    redact,
};

/// The connections that are kept open to one host after use.
const IDLE: usize = 4;

/// The clients for links. They use no proxy: a proxy resolves names itself, so the guard would
/// vouch for addresses that it never saw.
pub struct Links {
    trust: Trust,
    clients: OnceLock<Clients>,
}

impl Links {
    /// Creates links that reach global addresses and those of `allow`.
    #[must_use]
    pub fn new(allow: &[IpNet]) -> Self {
        Self { trust: Trust::Callback { allow: allow.to_vec() }, clients: OnceLock::new() }
    }

    /// Requests what is at `url`.
    ///
    /// # Errors
    /// If the guard refuses its address, or no answer comes.
    pub(super) async fn get(&self, url: Url) -> Result<Response, Failure> {
        check_url(&url, &self.trust).map_err(|blocked| refused(&url, &blocked))?;
        let clients = self.clients().map_err(|error| elsewhere(&url, &error.to_string()))?;
        let make = |client: &Client| client.get(url.clone()).header(ACCEPT_ENCODING, decode::ACCEPTED);
        clients.send(make, || {}).await.map_err(|error| match find(&error) {
            Some(ResolveError::Blocked(blocked)) => refused(&url, blocked),
            _ => elsewhere(&url, &format!("gives no answer: {}", innermost(&error))),
        })
    }

    fn clients(&self) -> reqwest::Result<&Clients> {
        if let Some(clients) = self.clients.get() {
            return Ok(clients);
        }
        let outgoing = Outgoing::direct(self.trust.clone());
        let clients = Clients::new(&outgoing, |builder| builder.pool_max_idle_per_host(IDLE))?;
        Ok(self.clients.get_or_init(|| clients))
    }
}

fn refused(url: &Url, blocked: &Blocked) -> Failure {
    Failure::Refused(format!(
        "the result is at {}, which the guard blocks: {blocked}; callbacks.allow can open a range of addresses",
        redact::url(url)
    ))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[tokio::test]
    async fn a_link_whose_name_leads_inside_is_refused() {
        let trust = Trust::Callback { allow: Vec::new() };
        let script = Arc::new(Mutex::new(VecDeque::from([vec!["10.0.0.1:0".parse().unwrap()]])));
        let outgoing = Outgoing::scripted(Arc::new(trust.clone()), script);
        let clients = Clients::new(&outgoing, |builder| builder).unwrap();
        let links = Links { trust, clients: OnceLock::from(clients) };
        let failure = links.get("http://inside.example/x".parse().unwrap()).await.unwrap_err();
        let Failure::Refused(text) = failure else { panic!("{failure}") };
        assert!(text.contains("blocked address: private; callbacks.allow"), "{text}");
    }
}
