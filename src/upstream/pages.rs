//! Requests several results of a job, page after page.

use std::collections::BTreeMap;

use reqwest::{
    StatusCode,
    header::{HeaderMap, LINK},
};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    Failure, ItemValues, JobRef, JobStream, NextPlace, Pages, ResultRequest, Source, SourceKind,
    TemplateError,
    address::unfillable,
    failure::{elsewhere, foreign, refusal},
    request::{FoundAnswer, PostBody, SourceRequest},
    result::misses,
};
use crate::util::{json_slice::Values, redact};

/// The longest name of a next page.
const MAX_NEXT: usize = 8 << 10;

/// The answer to the request for a page.
pub enum PageAnswer {
    /// It may be the page.
    Found(Box<ResultPage>),
    /// There is nothing: 404 or 410.
    Missing(Failure),
}

/// A page while it arrives.
pub struct ResultPage {
    /// Its body.
    pub stream: JobStream,
    /// What its header names as the next one.
    pub next: Option<String>,
}

impl SourceRequest {
    /// Returns what tells it from every other request.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let body = self.post.as_ref().map(|post| post.text.clone()).unwrap_or_default();
        Sha256::new().chain_update(&self.address).chain_update([0]).chain_update(body).finalize().into()
    }

    /// Returns the request for the page that comes next, as a page of this result named it.
    ///
    /// # Errors
    /// If the name is no address, or one of another origin.
    pub fn next(&self, pages: &Pages, named: &str) -> Result<Self, Failure> {
        let fail = |what: &str| Failure::Transient(format!("a page names a next one that {what}"));
        if named.len() > MAX_NEXT {
            return Err(fail("is too long"));
        }
        if let (Some(param), Some(post)) = (&pages.param, &self.post) {
            let post = with_member(post, param, named).ok_or_else(|| fail("its body cannot take"))?;
            return Ok(Self { post: Some(post), ..self.clone() });
        }
        let mut url = Url::parse(&self.address).map_err(|_| fail("has no address to begin from"))?;
        let Some(param) = &pages.param else {
            // The target of a link may be relative (RFC 8288). Elsewhere a word is no address.
            let is_link = matches!(&pages.next, NextPlace::Header(name) if name == LINK);
            let is_web = || Url::parse(named).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !is_link && !named.starts_with('/') && !is_web() {
                return Err(fail("is neither a URL nor a path that begins with /"));
            }
            let mut next = url.join(named).map_err(|_| fail("is no address"))?;
            next.set_fragment(None);
            let is_plain = next.username().is_empty() && next.password().is_none();
            if next.origin() != url.origin() || !is_plain {
                return Err(fail(&format!("is of another origin: {}", redact::url(&next))));
            }
            return Ok(Self { address: next.into(), ..self.clone() });
        };
        let others = url.query_pairs().filter(|(name, _)| name != param);
        let others: Vec<(String, String)> = others.map(|(name, value)| (name.into(), value.into())).collect();
        url.query_pairs_mut().clear().extend_pairs(&others).append_pair(param, named);
        Ok(Self { address: url.into(), ..self.clone() })
    }
}

/// Returns a body whose JSON object has this member, in the place of one with its name.
fn with_member(post: &PostBody, name: &str, value: &str) -> Option<PostBody> {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&post.text).ok()?;
    object.insert(name.to_owned(), value.into());
    let text = serde_json::to_vec(&object).ok()?.into();
    Some(PostBody { text, media_type: post.media_type })
}

impl Source {
    /// Returns the request for the first page of a result; `None` when the status body, or the
    /// item, does not name it.
    ///
    /// # Errors
    /// If a variable is missing, or the address cannot be requested.
    pub fn first_page(
        &self,
        kind: &SourceKind,
        job: JobRef<'_>,
        result: &ResultRequest,
        status: &Values,
        item: Option<&ItemValues>,
    ) -> Result<Option<SourceRequest>, Failure> {
        let none = BTreeMap::new();
        let vars = [item.unwrap_or(&none), job.vars, &kind.profile.vars];
        let address = match result.path.fill(job.id.as_str(), &vars, Some(status)) {
            Ok(address) => self.absolute(address)?,
            Err(TemplateError::Absent(_)) => return Ok(None),
            Err(TemplateError::Missing(_)) if item.is_some() => return Ok(None),
            Err(error) => return Err(unfillable(&error)),
        };
        let post = match &result.post {
            None => None,
            Some(_) if !self.is_own(&address) => return Err(foreign(&address)),
            Some(body) => Some(PostBody {
                text: body.fill(job.id.as_str(), &vars[1..]).map_err(|error| unfillable(&error))?.into(),
                media_type: body.media_type(),
            }),
        };
        Ok(Some(SourceRequest { address, is_status: false, is_bare: result.is_bare, post }))
    }

    /// Requests a page.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn page(
        &self,
        kind: &SourceKind,
        request: &SourceRequest,
        pages: Option<&Pages>,
    ) -> Result<PageAnswer, Failure> {
        let FoundAnswer { response, elsewhere: place } = self.find(kind, request).await?;
        let status = response.status();
        let failure = match &place {
            Some(url) if !status.is_success() => {
                Some(elsewhere(url, &format!("answered {}", status.as_u16())))
            }
            _ => refusal(&response),
        };
        if let Some(failure) = failure {
            return match matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
                true => Ok(PageAnswer::Missing(failure)),
                false => Err(failure),
            };
        }
        if let Some(reason) = misses(status, response.headers(), false) {
            return Err(Failure::Transient(reason));
        }
        let next = pages.and_then(|pages| next_in(response.headers(), pages));
        Ok(PageAnswer::Found(Box::new(ResultPage { stream: self.stream(response, place)?, next })))
    }
}

/// Returns what the headers of a page name as the next one.
fn next_in(headers: &HeaderMap, pages: &Pages) -> Option<String> {
    let NextPlace::Header(name) = &pages.next else { return None };
    if name == LINK {
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        return links.flat_map(links_in).find_map(|(target, is_next)| is_next.then(|| target.to_owned()));
    }
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the targets of a header `Link` (RFC 8288), and whether each is that of the next page.
fn links_in(header: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        let (parameters, more) = after.split_at(end);
        rest = more;
        let parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let is_next = |(name, value): (&str, &str)| {
            let words = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && words.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("next"))
        };
        Some((target, parameters.into_iter().any(is_next)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: &str, body: Option<&str>) -> SourceRequest {
        let post = body.map(|text| PostBody { text: text.to_owned().into(), media_type: None });
        SourceRequest { post, ..SourceRequest::get(address.to_owned()) }
    }

    fn pages(param: Option<&str>) -> Pages {
        let next = NextPlace::Body("/next".to_owned());
        Pages { next, param: param.map(str::to_owned), items_at: Some("/items".to_owned()) }
    }

    #[test]
    fn the_next_page_is_of_the_same_origin() {
        let first = request("https://e.com/v1/rows?limit=2&after=x", None);
        let kept = "https://e.com/v1/rows?limit=2&after=x&page=https%3A%2F%2Fevil.com%2F";
        for (param, named, address) in [
            (None, "https://e.com/v1/rows?skip=2#x", Some("https://e.com/v1/rows?skip=2")),
            (None, "/v1/rows?skip=2", Some("https://e.com/v1/rows?skip=2")),
            (None, "?skip=2", None),
            (None, "rows", None),
            (None, "5", None),
            (None, "/\\\\evil.com/v1/rows", None),
            (None, "https://evil.com/v1/rows", None),
            (None, "//evil.com/v1/rows", None),
            (None, "http://e.com/v1/rows", None),
            (None, "https://e.com:8443/v1/rows", None),
            (None, "https://user:k@e.com/v1/rows", None),
            (None, "file:///etc/passwd", None),
            (Some("after"), "a&b=c d", Some("https://e.com/v1/rows?limit=2&after=a%26b%3Dc+d")),
            (Some("page"), "https://evil.com/", Some(kept)),
        ] {
            let next = first.next(&pages(param), named).ok().map(|next| next.address);
            assert_eq!(next.as_deref(), address, "{named}");
        }
        let link = Pages { next: NextPlace::Header(LINK), ..pages(None) };
        assert_eq!(first.next(&link, "?skip=2").unwrap().address, "https://e.com/v1/rows?skip=2");
        first.next(&pages(None), &"x".repeat(MAX_NEXT + 1)).unwrap_err();
        let posted = request("https://e.com/", Some(r#"{"JobId":"j","NextToken":"old"}"#));
        let next = posted.next(&pages(Some("NextToken")), "a\"b").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&next.post.as_ref().unwrap().text).unwrap();
        assert_eq!(body, serde_json::json!({"JobId": "j", "NextToken": "a\"b"}));
        assert_ne!(posted.fingerprint(), next.fingerprint());
    }

    #[test]
    fn the_next_link_is_found() {
        let pages = Pages { next: NextPlace::Header(LINK), ..pages(None) };
        for (header, next) in [
            ("<https://e.com/?p=2>; rel=\"next\"", Some("https://e.com/?p=2")),
            ("</?p=1,2>; rel=prev, </?p=3>; title=\"x\"; REL=\"last Next\"", Some("/?p=3")),
            ("</?p=3>; rel=next, </?p=9>; rel=last", Some("/?p=3")),
            ("</?p=9>; rel=last", None),
            ("rel=next", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, header.parse().unwrap())]);
            assert_eq!(next_in(&headers, &pages).as_deref(), next, "{header}");
        }
    }
}
