//! Sends one request to a source, and follows its redirects.

use std::sync::atomic::Ordering;

use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, HeaderValue, LOCATION},
};
use tokio::time::timeout;
use url::Url;

use super::{
    Failure, Source, decode,
    failure::{elsewhere, foreign, silent},
};

use crate::util::redact;

const JSON: HeaderValue = HeaderValue::from_static("application/json, */*;q=0.1");

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 5;

/// An answer, and the address that gave it.
pub(super) struct FoundAnswer {
    /// The answer. It is no redirect.
    pub(super) response: Response,
    /// Its address, if it was requested without our headers.
    pub(super) elsewhere: Option<Url>,
}

impl Source {
    /// Requests something that comes from this source alone. It waits for the head of the answer
    /// for at most `timeout`, and as long for each redirect.
    ///
    /// # Errors
    /// If the address, or one that it redirects to, is of another origin, or no answer comes.
    pub(super) async fn send(&self, address: &str) -> Result<Response, Failure> {
        if !self.is_own(address) {
            return Err(foreign(address));
        }
        self.follow(address, false).await.map(|found| found.response)
    }

    /// Requests a result, which may be at any origin.
    ///
    /// # Errors
    /// If the guard refuses the address, or no answer comes.
    pub(super) async fn find(&self, address: &str) -> Result<FoundAnswer, Failure> {
        self.follow(address, true).await
    }

    /// Follows redirects. From the first foreign address on no request carries our headers: a
    /// stranger chooses where it redirects to.
    async fn follow(&self, address: &str, may_leave: bool) -> Result<FoundAnswer, Failure> {
        let no_url = |_| Failure::Refused("the address of the request is no URL".to_owned());
        let mut url = Url::parse(address).map_err(no_url)?;
        let mut has_left = !self.is_own(address);
        let mut asked = Vec::new();
        for hop in 0..=MAX_REDIRECTS {
            let response = if has_left {
                self.ask_elsewhere(&url).await?
            } else {
                self.unpaid.fetch_add(u32::from(hop > 0), Ordering::Relaxed);
                self.ask(url.as_str()).await?
            };
            let Some(next) = target(&response, &url) else {
                let elsewhere = has_left.then_some(url);
                return Ok(FoundAnswer { response, elsewhere });
            };
            let status = response.status().as_u16();
            let next = next.map_err(|to| lost_way(status, &to, "which is no address that can be asked"))?;
            if !self.is_own(next.as_str()) && !has_left {
                if !may_leave {
                    return Err(lost_way(status, &redact::url(&next), "which is of a foreign origin"));
                }
                has_left = true;
            }
            asked.push(std::mem::replace(&mut url, next));
            // In a circle, each further request would take the place of one for another job.
            if asked.contains(&url) {
                break;
            }
        }
        let what = match asked.contains(&url) {
            true => "redirects in a circle".to_owned(),
            false => format!("is the last of more than {MAX_REDIRECTS} redirects"),
        };
        Err(match has_left {
            true => elsewhere(&url, &what),
            false => Failure::Transient(format!("{} {what}", redact::url(&url))),
        })
    }

    /// Sends one request with our headers.
    async fn ask(&self, address: &str) -> Result<Response, Failure> {
        let mut headers = self.credentials()?;
        for (name, usual) in [(ACCEPT, JSON), (ACCEPT_ENCODING, decode::ACCEPTED)] {
            let is_given = self.profile.headers.keys().any(|given| given.eq_ignore_ascii_case(name.as_str()));
            if !is_given {
                headers.insert(name, usual);
            }
        }
        let limit = self.config.timeout;
        let asked = self.request(|client| client.get(address).headers(headers));
        timeout(limit.0, asked).await.map_err(|_| silent(limit))?
    }

    /// Sends one request without our headers.
    async fn ask_elsewhere(&self, url: &Url) -> Result<Response, Failure> {
        let limit = self.config.timeout;
        let late = |_| elsewhere(url, &format!("gives no answer within {limit}"));
        timeout(limit.0, self.links.get(url.clone())).await.map_err(late)?
    }
}

/// Returns the target of a redirect: a URL, or the text of one that cannot be requested.
fn target(response: &Response, from: &Url) -> Option<Result<Url, String>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    let text = String::from_utf8_lossy(location.as_bytes());
    Some(match from.join(&text) {
        Ok(mut url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            url.set_fragment(None);
            Ok(url)
        }
        Ok(url) => Err(redact::url(&url)),
        Err(_) => Err("a Location that is no URL".to_owned()),
    })
}

fn lost_way(status: u16, to: &str, what: &str) -> Failure {
    Failure::Transient(format!("the source answered {status} and names {to}, {what}"))
}

#[cfg(test)]
mod tests;
