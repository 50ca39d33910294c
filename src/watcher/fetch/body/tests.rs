use std::fs;

use super::*;

fn status(body: &str) -> Result<Option<String>, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), body).unwrap();
    let pointers = ["/job/status", "/status"].map(str::to_owned);
    let values = values_at(&pointers, &StoredBody::in_file(file.path()))
        .unwrap()
        .map_err(|error| format!("no JSON: {error}"))?;
    Ok(values.first(&pointers).and_then(crate::util::json_slice::Raw::word))
}

#[test]
fn a_whole_job_is_told_from_a_piece_of_one() {
    let odd = "\n{ \"response\" : {\"n\":1e-400,\"m\":1234567890123456789012345,\"s\":\"\\ud83d\\ud83d\"},\"status\"\t:\"completed\"} \n";
    assert_eq!(status(odd), Ok(Some("completed".to_owned())));
    assert!(status(&odd[..odd.len() - 4]).unwrap_err().contains("no JSON"));
    assert!(status("{\"status\":\"completed\"} {").unwrap_err().contains("no JSON"));
    assert_eq!(status("[]"), Ok(None));
    assert_eq!(status("{\"id\":1}"), Ok(None));
    assert_eq!(status(r#"{"status":"a","job":{"status":"b"}}"#), Ok(Some("b".to_owned())));
    assert!(status("<html></html>").unwrap_err().contains("no JSON"));
}

#[test]
fn a_careless_job_is_a_job() {
    let number = "9".repeat(100_000);
    for odd in [
        "\u{feff}{\"status\":\"completed\"}",
        r#"{"x":[NaN,-Infinity,1e400],"status":"completed"}"#,
        r#"{"x":"\ud83d","status":"completed","status":"queued"}"#,
        &format!(r#"{{"x":{number},"status":"completed"}}"#),
    ] {
        assert_eq!(status(odd), Ok(Some("completed".to_owned())), "{}", &odd[..40]);
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{{\"status\":\"failed\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(status(&deep), Ok(Some("failed".to_owned())));
}

#[test]
fn lines_are_told_from_a_value_that_is_cut() {
    let lines = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        has_lines(&StoredBody::in_file(file.path())).unwrap()
    };
    let long = format!("[{}]\n", "1,".repeat(100_000) + "2").repeat(3);
    for good in ["{}\n[]", "1\n\n2\n", "{\"a\":1}\r\n{\"a\":NaN}\r\n", &long] {
        assert!(lines(good), "{}", &good[..6]);
    }
    for bad in ["{}\n{", "{} {}\n", "{\n}\n", "{}\n<html>\n", &long[..long.len() - 2]] {
        assert!(!lines(bad), "{}", &bad[..3]);
    }
}

#[test]
fn a_page_is_seen_by_its_type_or_its_beginning() {
    for (media_type, text) in [
        ("text/html", "{}"),
        ("application/xhtml+xml", ""),
        ("", "<!DocType HTML>"),
        ("text/plain", "<HTML lang=en>"),
    ] {
        assert!(is_page(media_type, text.as_bytes()), "{media_type} {text}");
    }
    for (media_type, text) in
        [("text/plain", "html"), ("application/xml", "<?xml?><html>"), ("", "<h"), ("", "")]
    {
        assert!(!is_page(media_type, text.as_bytes()), "{media_type} {text}");
    }
}
