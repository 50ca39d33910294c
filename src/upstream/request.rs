//! Sends one request to a source, and follows its redirects.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION},
};
use tokio::time::timeout;
use url::Url;

use super::{
    Failure, Source, SourceKind,
    auth::Verdict,
    decode,
    failure::{elsewhere, foreign, silent, timed_out},
};

use crate::util::redact;

const JSON: HeaderValue = HeaderValue::from_static("application/json, */*;q=0.1");

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 5;

/// A request to a source, without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRequest {
    /// Its address.
    pub(super) address: String,
    /// It is for a status: an answer whose HTTP status says how far the job is is no redirect.
    pub(super) is_status: bool,
    /// It carries none of our headers, wherever it goes.
    pub(super) is_bare: bool,
    /// Its body. `None`: it is a `GET`; else a `POST` that changes nothing.
    pub(super) post: Option<PostBody>,
}

/// The body of a request by `POST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostBody {
    pub(super) text: Bytes,
    /// Its media type, unless a header of the source names it.
    pub(super) media_type: Option<&'static str>,
}

impl SourceRequest {
    /// Returns a `GET` of this address.
    pub(super) const fn get(address: String) -> Self {
        Self { address, is_status: false, is_bare: false, post: None }
    }
}

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
    pub(super) async fn send(&self, kind: &SourceKind, request: &SourceRequest) -> Result<Response, Failure> {
        if !self.is_own(&request.address) {
            return Err(foreign(&request.address));
        }
        self.follow(kind, request, false).await.map(|found| found.response)
    }

    /// Requests a result, which may be at any origin.
    ///
    /// # Errors
    /// If the guard refuses the address, or no answer comes.
    pub(super) async fn find(
        &self,
        kind: &SourceKind,
        request: &SourceRequest,
    ) -> Result<FoundAnswer, Failure> {
        self.follow(kind, request, true).await
    }

    /// Follows redirects. From the first foreign address on no request carries our headers or a
    /// body: a stranger chooses where it redirects to.
    async fn follow(
        &self,
        kind: &SourceKind,
        request: &SourceRequest,
        may_leave: bool,
    ) -> Result<FoundAnswer, Failure> {
        let no_url = |_| Failure::Refused("the address of the request is no URL".to_owned());
        let mut url = Url::parse(&request.address).map_err(no_url)?;
        let mut has_left = request.is_bare || !self.is_own(&request.address);
        let mut asked = Vec::new();
        for hop in 0..=MAX_REDIRECTS {
            let response = if has_left {
                self.ask_elsewhere(&url).await?
            } else {
                self.unpaid.fetch_add(u32::from(hop > 0), Ordering::Relaxed);
                self.ask(kind, url.as_str(), request.post.as_ref()).await?
            };
            let is_listed = request.is_status && kind.profile.http.has(response.status());
            let Some(next) = target(&response, &url).filter(|_| !is_listed) else {
                let elsewhere = has_left.then_some(url);
                return Ok(FoundAnswer { response, elsewhere });
            };
            let status = response.status().as_u16();
            let next = next.map_err(|to| lost_way(status, &to, "which is no address that can be asked"))?;
            if request.post.is_some() && !matches!(status, 307 | 308) {
                return Err(lost_way(status, &redact::url(&next), "but only 307 and 308 keep a POST"));
            }
            if !self.is_own(next.as_str()) && !has_left {
                if !may_leave || request.post.is_some() {
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

    /// Sends one request with our headers, and once more if its credentials were replaced.
    async fn ask(
        &self,
        kind: &SourceKind,
        address: &str,
        post: Option<&PostBody>,
    ) -> Result<Response, Failure> {
        if let Verdict::Answer(response) = self.ask_once(kind, address, post, true).await? {
            return Ok(response);
        }
        self.unpaid.fetch_add(1, Ordering::Relaxed);
        match self.ask_once(kind, address, post, false).await? {
            Verdict::Answer(response) => Ok(response),
            Verdict::Again => Err(Failure::Unauthorized(StatusCode::UNAUTHORIZED.as_u16())),
        }
    }

    /// Sends one request with our headers. This is the one place that makes a request of our own.
    async fn ask_once(
        &self,
        kind: &SourceKind,
        address: &str,
        post: Option<&PostBody>,
        may_repeat: bool,
    ) -> Result<Verdict, Failure> {
        let mut headers = self.credentials(kind)?;
        for (name, usual) in [(ACCEPT, JSON), (ACCEPT_ENCODING, decode::ACCEPTED)] {
            let is_given = kind.profile.headers.keys().any(|given| given.eq_ignore_ascii_case(name.as_str()));
            if !is_given {
                headers.insert(name, usual);
            }
        }
        if let Some(media_type) = post.and_then(|post| post.media_type) {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(media_type));
        }
        let (method, body) = match post {
            None => (Method::GET, None),
            Some(post) => (Method::POST, Some(post.text.clone())),
        };
        let authorized = self.authorize(&method, address, &mut headers, body.as_deref().unwrap_or_default());
        let carried = authorized.await?;
        let limit = self.config.timeout;
        let make = |client: &reqwest::Client| {
            let request = client.request(method, address).headers(headers);
            match body {
                None => request,
                Some(body) => request.body(body),
            }
        };
        let asked = self.request_again(make);
        let response = timeout(limit.0, asked).await.map_err(|_| silent(limit))??;
        let Some((auth, carried)) = self.auth.as_ref().zip(carried) else {
            return Ok(Verdict::Answer(response));
        };
        let judged = auth.judge(response, &carried, may_repeat);
        timeout(limit.0, judged).await.map_err(|_| timed_out(limit))?
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

/// Returns the address that an answer redirects to, or why there is none.
pub(super) fn redirected(response: &Response) -> Option<Result<String, Failure>> {
    let next = target(response, response.url())?;
    let status = response.status().as_u16();
    Some(match next {
        Ok(url) => Ok(url.into()),
        Err(to) => Err(lost_way(status, &to, "which is no address that can be asked")),
    })
}

fn lost_way(status: u16, to: &str, what: &str) -> Failure {
    Failure::Transient(format!("the source answered {status} and names {to}, {what}"))
}

#[cfg(test)]
mod tests;
