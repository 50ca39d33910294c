//! What a client takes: media types, encodings, and what it has already. Pure.

use axum::http::{HeaderMap, HeaderName, header};

/// Returns whether a client prefers HTML to JSON. One that takes anything is a program.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let quality = |name| quality(headers, &header::ACCEPT, name).unwrap_or(0.0);
    let html = quality("text/html");
    html > 0.0 && html >= quality("application/json")
}

/// Returns whether a client takes a compressed body.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let quality = |name| quality(headers, &header::ACCEPT_ENCODING, name);
    quality("gzip")
        .or_else(|| quality("x-gzip"))
        .or_else(|| quality("*"))
        .is_some_and(|quality| quality > 0.0)
}

/// Returns whether a client has what `tag` names.
pub(super) fn has(headers: &HeaderMap, tag: &str) -> bool {
    items(headers, &header::IF_NONE_MATCH)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

/// Returns the items of a list in a header.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Returns the quality that a header gives to exactly this name; `None` if it does not name it.
fn quality(headers: &HeaderMap, header: &HeaderName, name: &str) -> Option<f32> {
    items(headers, header).find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        parts.next().filter(|part| part.eq_ignore_ascii_case(name))?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // What cannot be read is not wanted.
        Some(quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0)))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_browser_gets_html_and_a_program_json() {
        for browser in [
            &["text/html"][..],
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"],
            &["TEXT/HTML; charset=utf-8"],
            &["application/json;q=0.9, text/html"],
            &["application/json, text/html"],
            &["image/png", "text/html;q=0.1"],
        ] {
            assert!(prefers_html(&with(&header::ACCEPT, browser)), "{browser:?}");
        }
        for program in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["application/json, text/plain, */*"],
            &["application/json, text/html;q=0.9"],
            &["text/html;q=0"],
            &["text/html;q=x"],
            &["text/htmlx"],
            &["text/plain, */*"],
        ] {
            assert!(!prefers_html(&with(&header::ACCEPT, program)), "{program:?}");
        }
    }

    #[test]
    fn a_body_is_compressed_for_those_who_say_so() {
        for fine in
            [&["gzip"][..], &["br, GZIP;q=0.5"], &["*"], &["deflate", "x-gzip"], &["gzip, identity;q=0"]]
        {
            assert!(takes_gzip(&with(&header::ACCEPT_ENCODING, fine)), "{fine:?}");
        }
        for plain in [&[][..], &["identity"], &["gzip;q=0"], &["gzip;q=0, *"], &["br"], &[""]] {
            assert!(!takes_gzip(&with(&header::ACCEPT_ENCODING, plain)), "{plain:?}");
        }
    }

    #[test]
    fn a_tag_is_compared_weakly() {
        for same in [&["\"a\""][..], &["W/\"a\""], &["\"b\", \"a\""], &["\"b\"", "\"a\""], &["*"]] {
            assert!(has(&with(&header::IF_NONE_MATCH, same), "\"a\""), "{same:?}");
        }
        for other in [&[][..], &["a"], &["\"b\""], &["\"a"]] {
            assert!(!has(&with(&header::IF_NONE_MATCH, other), "\"a\""), "{other:?}");
        }
    }
}
