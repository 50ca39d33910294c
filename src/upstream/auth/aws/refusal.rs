//! What an error answer of AWS means. Its services answer most refusals with 400 and a code, in
//! JSON or in XML.

use http::HeaderMap;
use serde_json::Value;

/// What an error code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Refusal {
    /// The clocks differ, or the keys are wrong: one code may mean both.
    Signature,
    /// The keys have ended, or are unknown.
    Keys,
    /// The keys may not do this.
    Forbidden,
    /// Too many requests.
    Limited,
    /// The job is unknown.
    Missing,
}

/// Returns the error code of an answer, without the namespace before it.
pub(in super::super) fn code(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let whole = header.map(str::to_owned).or_else(|| in_json(body)).or_else(|| in_xml(body))?;
    // `com.amazon.coral.service#ThrottlingException`, or `ThrottlingException:http://…`.
    let word = whole.rsplit('#').next()?.split(':').next()?.trim();
    let is_code = word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    (is_code && !word.is_empty()).then(|| word.to_owned())
}

fn in_json(body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    ["__type", "code", "Code"].iter().find_map(|name| json.get(*name)?.as_str()).map(str::to_owned)
}

fn in_xml(body: &[u8]) -> Option<String> {
    element(std::str::from_utf8(body).ok()?, "Code").map(str::to_owned)
}

/// Returns the text of the first element of this name. AWS writes keys, tokens and times there,
/// which need no escapes.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let begin = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let length = xml[begin..].find(&format!("</{name}>"))?;
    let text = xml[begin..begin + length].trim();
    (!text.is_empty() && !text.contains(['<', '&'])).then_some(text)
}

/// Returns what an error code means, if it is not about the request itself.
pub(in super::super) fn meaning(code: &str) -> Option<Refusal> {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    Some(match code {
        "RequestTimeTooSkewed"
        | "RequestExpired"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "AuthFailure" => Refusal::Signature,
        "ExpiredToken"
        | "InvalidToken"
        | "UnrecognizedClient"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "TokenRefreshRequired" => Refusal::Keys,
        "AccessDenied" | "NotAuthorized" | "UnauthorizedOperation" | "OptInRequired" => Refusal::Forbidden,
        "Throttling"
        | "ThrottledRequest"
        | "RequestThrottled"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "LimitExceeded"
        | "ProvisionedThroughputExceeded"
        | "BandwidthLimitExceeded"
        | "SlowDown" => Refusal::Limited,
        "ResourceNotFound" | "NotFound" | "InvalidJobId" => Refusal::Missing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_in_every_protocol() {
        let none = HeaderMap::new();
        let named = HeaderMap::from_iter([(
            "x-amzn-errortype".parse().unwrap(),
            "ThrottlingException:http://internal.amazon.com/coral/".parse().unwrap(),
        )]);
        for (headers, body, known) in [
            (
                &none,
                r#"{"__type":"com.amazonaws.textract#InvalidJobIdException","Message":"x"}"#,
                Some("InvalidJobIdException"),
            ),
            (&none, r#"{"__type":"ThrottlingException","message":"x"}"#, Some("ThrottlingException")),
            (&none, r#"{"code":"AccessDenied"}"#, Some("AccessDenied")),
            (&named, "{}", Some("ThrottlingException")),
            (
                &none,
                "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code></Error></ErrorResponse>",
                Some("ExpiredToken"),
            ),
            (&none, "<Error><Code>a<b/></Code></Error>", None),
            (&none, "not found", None),
            (&none, r#"{"__type":"a b"}"#, None),
        ] {
            assert_eq!(code(headers, body.as_bytes()).as_deref(), known, "{body}");
        }
    }

    #[test]
    fn a_code_means_the_same_with_and_without_its_ending() {
        for (code, refusal) in [
            ("RequestTimeTooSkewed", Some(Refusal::Signature)),
            ("InvalidSignatureException", Some(Refusal::Signature)),
            ("ExpiredTokenException", Some(Refusal::Keys)),
            ("ExpiredToken", Some(Refusal::Keys)),
            ("AccessDeniedException", Some(Refusal::Forbidden)),
            ("ThrottlingException", Some(Refusal::Limited)),
            ("ResourceNotFoundException", Some(Refusal::Missing)),
            ("ValidationException", None),
        ] {
            assert_eq!(meaning(code), refusal, "{code}");
        }
    }
}
