use proptest::prelude::*;
use url::Url;

use super::*;
use crate::util::json_slice::{Pointers, Scan};

fn fill(text: &str, vars: &[(&str, &str)], body: &str) -> Result<String, TemplateError> {
    let vars = vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let template = Template::parse(text).unwrap();
    let pointers = Pointers::new(template.pointers().map(|pointer| (pointer, 1000)));
    let mut scan = Scan::new(&pointers.into());
    scan.push(body.as_bytes()).unwrap();
    template.fill("a/b", &[&vars], Some(scan.values()))
}

#[test]
fn placeholders_are_filled() {
    let body = r#"{"out": null, "err": "f 1", "url": "https:\/\/e.com\/a?b=c"}"#;
    assert_eq!(fill("/v1/{id}/status", &[], body).unwrap(), "/v1/a%2Fb/status");
    assert_eq!(fill("/v1/{+id}", &[], body).unwrap(), "/v1/a/b");
    assert_eq!(fill("/{k}/{+k}", &[("k", "x/y")], body).unwrap(), "/x%2Fy/x/y");
    assert_eq!(fill("/f/{/out|/err}/c", &[], body).unwrap(), "/f/f%201/c");
    assert_eq!(fill("{/url}", &[], body).unwrap(), "https://e.com/a?b=c");
    assert_eq!(fill("/{k}", &[], body), Err(TemplateError::Missing("k".to_owned())));
    assert_eq!(fill("/{/out|/none}", &[], body), Err(TemplateError::Absent("/out or /none".to_owned())));
}

#[test]
fn what_would_change_the_path_is_refused() {
    for value in ["..", ".", "", "a\nb"] {
        assert!(fill("/a/{k}/b", &[("k", value)], "null").is_err(), "{value:?}");
    }
    for value in
        ["../x", "a/../../b", "%2e%2E/x", "a/.%2e", "a\\b", "/api-keys?all=1#", "a//b", "a/", "/", "", "a\tb"]
    {
        assert!(fill("/a/{+k}/b", &[("k", value)], "null").is_err(), "{value:?}");
    }
    for value in [
        "//e.com/a",
        "https://e.com/a/../b",
        "/a/%2e%2e/b",
        "/a#b",
        "/a\\b",
        "/a b",
        "https://u@e.com/a",
        "https://:p@e.com/a",
        "ftp://e.com/a",
        "e.com:80/a",
        "",
    ] {
        assert!(fill("{+k}", &[("k", value)], "null").is_err(), "{value:?}");
    }
}

#[test]
fn what_could_end_the_path_is_encoded() {
    for (value, written) in [
        ("a?b=c&d", "/a/a%3Fb%3Dc%26d/a%3Fb=c%26d?x=1"),
        ("a#b", "/a/a%23b/a%23b?x=1"),
        ("%2e%2e", "/a/%252e%252e/-?x=1"),
        ("...", "/a/.../...?x=1"),
        ("a b;c", "/a/a%20b%3Bc/a%20b%3Bc?x=1"),
        ("a/b:c@d=", "/a/a%2Fb%3Ac%40d%3D/a/b:c@d=?x=1"),
    ] {
        let several = if value.contains("%2e") { "-" } else { value };
        let filled = fill("/a/{k}/{+s}?x=1", &[("k", value), ("s", several)], "null");
        assert_eq!(filled.unwrap(), written);
    }
}

#[test]
fn what_is_no_template_is_refused() {
    for text in [
        "",
        "v1/x",
        "/a/{",
        "/a/{}",
        "/a/{b c}",
        "/a/{/~2}",
        "{id}/x",
        "ftp://e.com/{id}",
        "/{+}",
        "/a#{id}",
        "/a/../{id}",
        "/a\t/{id}",
        "/{id}/%2e",
    ] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_path_is_read_back() {
    let template = Template::parse("/o/{owner}/runs/{id}/retry").unwrap();
    let found = template.matches("/o/a%2Fb/runs/17/retry").unwrap();
    assert_eq!((found["owner"].as_str(), found["id"].as_str()), ("a/b", "17"));
    for path in ["/o/a/runs/17", "/o/a/b/runs/17/retry", "/o//runs/1/retry", "/o/a/runs/1/retry/"] {
        assert_eq!(template.matches(path), None, "{path}");
    }
}

/// Text of a stranger: what URL parsers and servers give a meaning to, and anything else.
fn foreign() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "..",
            ".",
            "/",
            "//",
            "\\",
            "%2e",
            "%2E",
            "%2f",
            "%5c",
            "%00",
            "?",
            "#",
            "&",
            "=",
            "@",
            ":",
            ";",
            "+",
            " ",
            "\t",
            "\n",
            "a",
            "v1",
            "é",
            "http://",
            "https://e.com/",
            "%",
            "[",
            "]",
            "|",
            "\"",
            "'",
            "~",
        ])
        .prop_map(str::to_owned),
        "\\PC{1,3}",
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn an_encoded_value_stays_one_segment(id in "\\PC{1,40}") {
        prop_assume!(!matches!(id.as_str(), "." | ".."));
        let template = Template::parse("/jobs/{id}/status").unwrap();
        let path = template.fill(&id, &[], None).unwrap();
        prop_assert_eq!(path.matches('/').count(), 3);
        prop_assert_eq!(template.matches(&path).unwrap().remove("id"), Some(id));
    }

    #[test]
    fn no_value_changes_the_url_around_it(id in foreign(), var in foreign()) {
        for (text, beginning, keys) in [
            ("/v1/{+v}/{id}?include=false&x={v}", "/v1/", 2),
            ("/{v}/{+id}", "/", 0),
            ("/a/{id}", "/a/", 0),
            ("/{+v}/requests/{id}/status", "/", 0),
            ("/runs/get?run_id={id}&p={+v}", "/runs/get", 2),
            ("https://api.example.com/base/a/{+v}:{id}", "/a/", 0),
        ] {
            let vars = [("v".to_owned(), var.clone())].into();
            let template = Template::parse(text).unwrap();
            let Ok(filled) = template.fill(&id, &[&vars], None) else { continue };
            template.check(&id, &[&vars]).unwrap();
            let base = "https://api.example.com/base";
            let whole = if is_absolute(&filled) { filled.clone() } else { format!("{base}{filled}") };
            let url = Url::parse(&whole).unwrap();
            prop_assert_eq!(url.as_str(), &whole, "a parser reads it as it is written");
            prop_assert_eq!(url.origin().ascii_serialization(), "https://api.example.com");
            prop_assert!(url.username().is_empty() && url.password().is_none());
            prop_assert_eq!(url.fragment(), None);
            prop_assert_eq!(url.query_pairs().count(), keys);
            let begins = format!("/base{beginning}");
            prop_assert!(url.path().starts_with(&begins), "{}", url);
            prop_assert!(!url.path().contains("//") && !url.path().contains('\\'));
            let is_climbing = url.path().split('/').any(|segment| {
                let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
                matches!(decoded.as_ref(), "." | "..")
            });
            prop_assert!(!is_climbing, "{}", url);
        }
    }

    #[test]
    fn a_whole_address_is_read_as_it_is_written(value in foreign()) {
        for value in [value.clone(), format!("/{value}"), format!("https://api.example.com/{value}")] {
            let vars = [("v".to_owned(), value.clone())].into();
            let Ok(filled) = Template::parse("{+v}").unwrap().fill("i", &[&vars], None) else { continue };
            let whole = match is_absolute(&filled) {
                true => filled,
                false if filled.starts_with('/') => format!("https://api.example.com{filled}"),
                false => format!("https://api.example.com/{filled}"),
            };
            let url = Url::parse(&whole).unwrap();
            prop_assert_eq!(url.fragment(), None);
            prop_assert!(url.username().is_empty() && url.password().is_none());
            let is_ours = url.origin().ascii_serialization() == "https://api.example.com";
            prop_assert!(is_ours || value.starts_with("http"), "{}", url);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), path in any::<String>()) {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.matches(&path);
            let _ = template.fill(&path, &[], None);
            Template::parse(&template.to_string()).unwrap();
        }
    }
}
