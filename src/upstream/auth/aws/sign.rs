//! Signature Version 4. Pure: the keys and the time are arguments.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::AwsKeys;
use crate::util::units::Time;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The service whose paths are encoded once, and which wants the digest of the body as a header.
const ENCODED_ONCE: &str = "s3";

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same without the slash.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Signs requests to one service in one region.
pub(in super::super) struct Signer {
    pub service: String,
    pub region: String,
}

impl Signer {
    /// Adds the headers of the signature to those of a request. Every header that the service must
    /// be able to trust has to be there already.
    ///
    /// # Errors
    /// If the URL has no host, or the keys hold characters that no header may hold.
    pub(in super::super) fn sign(
        &self,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
        body: &[u8],
        keys: &AwsKeys,
        now: Time,
    ) -> Result<(), String> {
        let unfit = |_| "the AWS keys hold characters that no header may hold".to_owned();
        let stamp = stamp(now);
        let digest = HEXLOWER.encode(&Sha256::digest(body));
        headers.insert(DATE, HeaderValue::from_str(&stamp).map_err(unfit)?);
        if self.service == ENCODED_ONCE {
            headers.insert(CONTENT, HeaderValue::from_str(&digest).map_err(unfit)?);
        }
        headers.remove(SESSION);
        if let Some(session) = &keys.session {
            let mut value = HeaderValue::from_str(session.expose()).map_err(unfit)?;
            value.set_sensitive(true);
            headers.insert(SESSION, value);
        }
        let host = host(url).ok_or("the address has no host")?;
        let (canonical, signed) = canonical(
            method.as_str(),
            &path(url.path(), self.service == ENCODED_ONCE),
            &query(url.query().unwrap_or_default()),
            &host,
            headers,
            &digest,
        );
        let scope = format!("{}/{}/{}/aws4_request", &stamp[..8], self.region, self.service);
        let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", HEXLOWER.encode(&Sha256::digest(canonical)));
        let signature = HEXLOWER.encode(&mac(&self.key(keys, &stamp[..8]), &text));
        let id = keys.id.expose();
        let text =
            format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}");
        let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    fn key(&self, keys: &AwsKeys, day: &str) -> Vec<u8> {
        let first = format!("AWS4{}", keys.secret.expose()).into_bytes();
        [day, &self.region, &self.service, "aws4_request"].iter().fold(first, |key, text| mac(&key, text))
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes a key of any length, so this never fails.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Returns `20150830T123600Z`.
fn stamp(now: Time) -> String {
    let time = now.calendar();
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Returns the host as the request names it: with its port unless that is the usual one.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Returns a path as it is signed. Most services encode the path that was sent once more.
fn path(sent: &str, encoded_once: bool) -> String {
    let sent = if sent.is_empty() { "/" } else { sent };
    if !encoded_once {
        return utf8_percent_encode(sent, RESERVED_IN_PATH).to_string();
    }
    let segment = |part: &str| {
        let bytes: Vec<u8> = percent_decode_str(part).collect();
        percent_encoding::percent_encode(&bytes, RESERVED).to_string()
    };
    sent.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Returns a query as it is signed: each name and value encoded in one way, and in order.
fn query(sent: &str) -> String {
    let encoded = |text: &str| {
        let text = text.replace('+', " ");
        let bytes: Vec<u8> = percent_decode_str(&text).collect();
        percent_encoding::percent_encode(&bytes, RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = sent
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Returns the canonical request, and the names of the headers that it covers: the host, the type
/// of the body, and all of AWS.
fn canonical(
    method: &str,
    path: &str,
    query: &str,
    host: &str,
    headers: &HeaderMap,
    digest: &str,
) -> (String, String) {
    let is_covered =
        |name: &&HeaderName| **name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-");
    let text = |name: &HeaderName| {
        let values = headers.get_all(name).iter().map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        });
        values.collect::<Vec<_>>().join(",")
    };
    let mut covered: Vec<(String, String)> =
        headers.keys().filter(is_covered).map(|name| (name.as_str().to_owned(), text(name))).collect();
    covered.push(("host".to_owned(), host.to_owned()));
    covered.sort();
    let names: Vec<&str> = covered.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: Vec<String> = covered.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    (format!("{method}\n{path}\n{query}\n{}\n\n{names}\n{digest}", lines.join("\n")), names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::secret::Secret;

    const SUITE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn keys(id: &str, secret: &str) -> AwsKeys {
        AwsKeys { id: Secret::new(id), secret: Secret::new(secret), session: None }
    }

    fn signature(
        signer: (&str, &str),
        method: &str,
        url: &str,
        given: &[(&'static str, &'static str)],
        body: &str,
        keys: &AwsKeys,
        now: &str,
    ) -> (String, HeaderMap) {
        let signer = Signer { service: signer.0.to_owned(), region: signer.1.to_owned() };
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let (method, url) = (method.parse().unwrap(), url.parse().unwrap());
        signer.sign(&method, &url, &mut headers, body.as_bytes(), keys, Time::parse(now).unwrap()).unwrap();
        let text = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
        (text.rsplit_once("Signature=").unwrap().1.to_owned(), headers)
    }

    /// Requests of AWS's own test suite for Signature Version 4.
    #[test]
    fn the_signatures_are_those_of_the_test_suite() {
        for (method, url, headers, body, known) in [
            (
                "GET",
                "https://example.amazonaws.com/",
                &[][..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                "https://example.amazonaws.com/",
                &[],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "GET",
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "POST",
                "https://example.amazonaws.com/",
                &[("content-type", "application/x-www-form-urlencoded")],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let keys = keys("AKIDEXAMPLE", SUITE_SECRET);
            let signer = ("service", "us-east-1");
            let (found, _) = signature(signer, method, url, headers, body, &keys, "2015-08-30T12:36:00Z");
            assert_eq!(found, known, "{method} {url}");
        }
    }

    /// The example of the documentation, and that of S3.
    #[test]
    fn the_signatures_are_those_of_the_documentation() {
        let (found, _) = signature(
            ("iam", "us-east-1"),
            "GET",
            "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            "",
            &keys("AKIDEXAMPLE", SUITE_SECRET),
            "2015-08-30T12:36:00Z",
        );
        assert_eq!(found, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
        let (found, headers) = signature(
            ("s3", "us-east-1"),
            "GET",
            "https://examplebucket.s3.amazonaws.com/?lifecycle",
            &[],
            "",
            &keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            "2013-05-24T00:00:00Z",
        );
        assert_eq!(found, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
        assert_eq!(headers[CONTENT].len(), 64);
    }

    #[test]
    fn a_session_is_sent_and_covered() {
        let mut keys = keys("AKIDEXAMPLE", SUITE_SECRET);
        keys.session = Some(Secret::new("a-session"));
        let (_, headers) = signature(
            ("service", "us-east-1"),
            "POST",
            "http://127.0.0.1:99/x",
            &[("x-amz-target", "T.Get"), ("content-type", "application/x-amz-json-1.1"), ("accept", "*/*")],
            "{}",
            &keys,
            "2015-08-30T12:36:00Z",
        );
        assert_eq!(headers[SESSION], "a-session");
        let text = headers[header::AUTHORIZATION].to_str().unwrap();
        let covered = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target,";
        assert!(text.contains(covered), "{text}");
        assert!(headers[header::AUTHORIZATION].is_sensitive() && headers[SESSION].is_sensitive());
        let moved = stamp(Time::parse("2015-08-30T12:36:00Z").unwrap());
        assert_eq!(moved, "20150830T123600Z");
    }

    #[test]
    fn paths_and_queries_are_written_in_one_way() {
        for (sent, most, s3) in [
            ("", "/", "/"),
            ("/a/b-c_d.e~f", "/a/b-c_d.e~f", "/a/b-c_d.e~f"),
            ("/job/arn:aws:x", "/job/arn%3Aaws%3Ax", "/job/arn%3Aaws%3Ax"),
            ("/job/arn%3Aaws%3Ax", "/job/arn%253Aaws%253Ax", "/job/arn%3Aaws%3Ax"),
            ("/\u{1234}", "/%E1%88%B4", "/%E1%88%B4"),
            ("/a%20b//c/", "/a%2520b//c/", "/a%20b//c/"),
        ] {
            assert_eq!((path(sent, false).as_str(), path(sent, true).as_str()), (most, s3), "{sent}");
        }
        assert_eq!(query("b=2&a=x%2fy&a=1&c&&-=%7E+"), "-=~%20&a=1&a=x%2Fy&b=2&c=");
    }

    proptest! {
        #[test]
        fn a_query_signs_alike_however_it_is_written(
            pairs in proptest::collection::vec(("[a-z ]{1,4}", "\\PC{0,6}"), 0..6), seed in any::<usize>(),
        ) {
            let write = |pairs: &[(String, String)]| {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(name, value)| {
                        format!(
                            "{}={}", utf8_percent_encode(name, NON_ALPHANUMERIC), utf8_percent_encode(value, RESERVED)
                        )
                    })
                    .collect();
                pairs.join("&")
            };
            let mut other = pairs.clone();
            let middle = if other.is_empty() { 0 } else { seed % other.len() };
            other.rotate_left(middle);
            prop_assert_eq!(query(&write(&pairs)), query(&write(&other)));
            prop_assert_eq!(query(&query(&write(&pairs))), query(&write(&pairs)));
        }
    }
}
