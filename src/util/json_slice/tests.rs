use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Reads a text in parts of this many bytes.
fn scan(text: &[u8], pointers: &[&str], part: usize) -> (Scan, Result<(), NotJson>) {
    let mut scan = Scan::new(&Arc::new(Pointers::new(pointers.iter().map(|pointer| (*pointer, 1 << 20)))));
    let read = text.chunks(part).try_for_each(|part| scan.push(part)).and_then(|()| scan.finish());
    (scan, read)
}

fn word(text: &[u8], pointer: &str) -> Option<String> {
    let words: Vec<_> = [1, 2, 3, 7, usize::MAX]
        .map(|part| {
            let (scan, read) = scan(text, &[pointer], part);
            assert_eq!(read, Ok(()), "{}", String::from_utf8_lossy(text));
            scan.values().at(pointer).and_then(Raw::word)
        })
        .into();
    assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
    words[0].clone()
}

#[test]
fn what_careless_sources_write_is_read() {
    let deep = |levels: usize| format!(r#"{{"x":{}{},"s":"ok"}}"#, "[".repeat(levels), "]".repeat(levels));
    let objects = format!(r#"{{"x":{}1{},"s":"ok"}}"#, r#"{"s":"#.repeat(100_000), "}".repeat(100_000));
    for text in [
        r#"{"x":NaN,"y":[-Infinity,Infinity,undefined],"s":"ok"}"#.as_bytes(),
        br#"{"x":"\ud83d","y\udc00":1,"s":"ok"}"#,
        b"\xef\xbb\xbf {\"s\":\"ok\"}",
        b"{\"x\":\"\xff\xfe\",\"\xc3\":1,\"s\":\"ok\"}",
        br#"{"x":1e400,"y":-1E+99999,"s":"ok"}"#,
        format!(r#"{{"x":{},"s":"ok"}}"#, "9".repeat(100_000)).as_bytes(),
        br#"{"s":"ok","s":"second","x":{"s":"third"}}"#,
        br#"{"x":"a\x\"b\u12","s":"\u006f\u006B"}"#,
        b"{\"x\":\"tab\there\nand a line\",\"s\":\"ok\"}",
        deep(150).as_bytes(),
        deep(200).as_bytes(),
        deep(100_000).as_bytes(),
        objects.as_bytes(),
    ] {
        assert_eq!(
            word(text, "/s").as_deref(),
            Some("ok"),
            "{}",
            String::from_utf8_lossy(&text[..text.len().min(80)])
        );
    }
}

#[test]
fn beyond_the_deepest_level_brackets_are_counted() {
    let levels = MAX_DEPTH + 10;
    let mut text = br#"{"x":"#.to_vec();
    text.extend(vec![b'['; levels]);
    text.extend(br#"{"]":"\"]}"}"#);
    text.extend(vec![b']'; levels]);
    text.extend(br#","s":"ok"}"#);
    let (scan, read) = scan(&text, &["/s"], usize::MAX);
    assert_eq!((read, scan.values().at("/s").and_then(Raw::word)), (Ok(()), Some("ok".to_owned())));
    assert!(scan.objects.capacity() * 8 <= MAX_DEPTH / 8 * 2, "a bit a level");
}

#[test]
fn what_is_no_json_is_told() {
    let unexpected = |byte: u8, at| NotJson::Unexpected { byte, at };
    for (text, wrong) in [
        ("", NotJson::Empty),
        (" \n", NotJson::Empty),
        ("\u{feff}", NotJson::Empty),
        ("<html>", unexpected(b'<', 0)),
        ("OK", unexpected(b'O', 0)),
        ("Not found", unexpected(b'N', 0)),
        ("{\"a\":1", NotJson::Cut { at: 6 }),
        ("{\"a\":\"1", NotJson::Cut { at: 7 }),
        ("{\"a\":1}}", NotJson::Trailing { at: 7 }),
        ("{} {", NotJson::Trailing { at: 3 }),
        ("1 2", NotJson::Trailing { at: 2 }),
        ("[1,]", unexpected(b']', 3)),
        ("[,1]", unexpected(b',', 1)),
        ("[1 2]", unexpected(b'2', 3)),
        ("[}", unexpected(b'}', 1)),
        ("{]", unexpected(b']', 1)),
        ("{\"a\":[}", unexpected(b'}', 6)),
        ("{\"a\":[1}", unexpected(b'}', 7)),
        ("[{\"a\":1]", unexpected(b']', 7)),
        ("{\"a\" 1}", unexpected(b'1', 5)),
        ("{\"a\":}", unexpected(b'}', 5)),
        ("{\"a\":1,}", unexpected(b'}', 7)),
        ("{a:1}", unexpected(b'a', 1)),
        ("{'a':1}", unexpected(b'\'', 1)),
        ("[\"a\":1]", unexpected(b':', 4)),
        ("\u{1f}\u{8b}", unexpected(0x1f, 0)),
    ] {
        for part in [1, 2, usize::MAX] {
            assert_eq!(scan(text.as_bytes(), &["/a"], part).1, Err(wrong.clone()), "{text:?}");
        }
    }
    for whole in ["null", "-Infinity", "NaN", "17", "-1.5e+3", "\"x\"", " [] ", "\u{feff}{}"] {
        assert_eq!(scan(whole.as_bytes(), &[], 1).1, Ok(()), "{whole}");
    }
}

#[test]
fn the_first_of_two_counts_everywhere() {
    let text =
        br#"{"a":{"b":1,"b":2},"a":{"b":3,"c":4},"l":[{"x":5,"x":6}],"l":[{"x":7}],"n":8,"n":{"m":9}}"#;
    for (pointer, found) in
        [("/a/b", Some("1")), ("/a/c", None), ("/l/0/x", Some("5")), ("/n", Some("8")), ("/n/m", None)]
    {
        assert_eq!(word(text, pointer).as_deref(), found, "{pointer}");
        let mut out = Vec::new();
        let is_there = copy_value(&text[..], pointer, &mut out).unwrap();
        assert_eq!(is_there.then(|| String::from_utf8(out).unwrap()).as_deref(), found, "{pointer}");
    }
}

#[test]
fn a_value_is_a_word_or_not() {
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(2 << 20));
    for (text, found) in [
        (r#"{"a":"queued"}"#, Some("queued")),
        (r#"{"a":"\ud83d\ude00\ud83d\u00e9"}"#, Some("\u{1f600}\u{fffd}é")),
        (r#"{"a":10}"#, Some("10")),
        (r#"{"a":-1.50E3 }"#, Some("-1.50E3")),
        (r#"{"a":false}"#, Some("false")),
        (r#"{"a":{"b":[]}}"#, Some("{}")),
        (r#"{"a":[1]}"#, Some("{}")),
        (r#"{"a":null}"#, None),
        (r#"{"a":NaN}"#, None),
        (r#"{"a":-Infinity}"#, None),
        (r#"{"a":""}"#, None),
        (r#"{"b":"a"}"#, None),
        ("[1]", None),
        (&long, None),
    ] {
        assert_eq!(word(text.as_bytes(), "/a").as_deref(), found, "{}", &text[..text.len().min(40)]);
    }
}

#[test]
fn members_are_those_of_the_text() {
    let text = br#"{"m" : { "a" : "b" ,"n":3, "o":{"x":[1,"}"]},"q\"":NaN,"a":2,"e":"" } }"#;
    let (scan, _) = scan(text, &["/m"], 5);
    let members = scan.values().at("/m").unwrap().members().unwrap();
    let shown: Vec<_> = members.iter().map(|(name, raw)| (name.as_str(), raw.shown())).collect();
    let wanted = [("a", "b"), ("n", "3"), ("o", r#"{"x":[1,"}"]}"#), ("q\"", "NaN"), ("a", "2"), ("e", "")];
    assert_eq!(shown, wanted.map(|(name, text)| (name, text.into())));
    assert_eq!(scan.values().at("/m").unwrap().word().as_deref(), Some("{}"));
}

#[test]
fn reading_may_stop_when_all_is_known() {
    let mut scan =
        Scan::new(&Arc::new(Pointers::new([("/status", 64), ("/error/text", 64), ("/later", 64)])));
    let known = |scan: &Scan, names: &[&str]| {
        scan.values().is_known(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    scan.push(br#"{"status":"que"#).unwrap();
    assert!(!known(&scan, &["/status"]) && scan.values().at("/status").is_none());
    scan.push(br#"ued","error":{"code":1"#).unwrap();
    assert!(known(&scan, &["/status", "/later"]) && !known(&scan, &["/error/text", "/status"]));
    scan.push(b"}").unwrap();
    assert!(known(&scan, &["/error/text", "/status"]) && !known(&scan, &["/error/text", "/later"]));
    scan.push(br#","later":1"#).unwrap();
    assert!(!scan.values().is_settled(), "a number may go on");
    scan.push(b",").unwrap();
    assert!(scan.values().is_settled());
}

#[test]
fn memory_follows_the_pointers_and_not_the_text() {
    const LIMIT: usize = 1000;
    let mut scan = Scan::new(&Arc::new(Pointers::new([("", LIMIT), ("/a", LIMIT), ("/a/0", LIMIT)])));
    scan.push(br#"{"a":["#).unwrap();
    for _ in 0..10_000 {
        scan.push(br#"{"":0},"a long text that is one of many",["#).unwrap();
        scan.push(br#"],{"a long name that is none of those":[{}]},"#).unwrap();
    }
    let name = scan.name.as_ref().map_or(0, Vec::capacity);
    let kept = scan.kept.capacity() * size_of::<Kept>() + scan.objects.capacity() * 8;
    let path = scan.path.capacity() * size_of::<Level>();
    let all = scan.values().capacity() + name + kept + path;
    assert!(all < 4 * LIMIT, "{all} bytes");
}

#[test]
fn the_bytes_are_those_of_the_text() {
    let text = r#" {"a\/b" : {"x\"}":[ 1e-400 , {"y":"]\\"} ,12345678901234567890.0 ]},"c":true }"#;
    let copied = |text: &str, pointer: &str, buffer: usize| {
        let mut out = Vec::new();
        let reader = io::BufReader::with_capacity(buffer, text.as_bytes());
        copy_value(reader, pointer, &mut out).map(|found| found.then(|| String::from_utf8(out).unwrap()))
    };
    let found = |text: &str, pointer: &str, buffer: usize| copied(text, pointer, buffer).unwrap();
    assert_eq!(found(text, "/a~1b/x\"}/0", 3).as_deref(), Some("1e-400"));
    assert_eq!(found(text, "/a~1b/x\"}/1", 1).as_deref(), Some(r#"{"y":"]\\"}"#));
    assert_eq!(found(text, "/a~1b/x\"}/2", 8).as_deref(), Some("12345678901234567890.0"));
    assert_eq!(found(text, "/c", 8).as_deref(), Some("true"));
    for none in ["/d", "/c/x", "/a~1b/x\"}/3", "/a~1b/x\"}/01", "/a~1b/x\"}/-", "/a~1b/x\"}/+1"] {
        assert_eq!(found(text, none, 8), None, "{none}");
    }
    assert_eq!(found("17", "", 1).as_deref(), Some("17"));
    assert!(copied(r#"{"a":[1"#, "/a", 2).is_err() && copied("<p>", "/a", 2).is_err());
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-c0~/\"\\\\é]{0,2}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn all_pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let token = key.replace('~', "~0").replace('/', "~1");
            all_pointers(value, &format!("{at}/{token}"), found);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| all_pointers(value, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

/// Writes everything that is not ASCII, and the solidus, as escapes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'/') => out.push_str("\\/"),
            Ok(ascii) if ascii.is_ascii() => out.push(char::from(ascii)),
            _ => out.extend(["\\u".to_owned(), format!("{unit:04X}")]),
        }
    }
    out
}

proptest! {
    #[test]
    fn every_value_is_found(
        value in json(), parts in prop::collection::vec(1usize..20, 1..20), pretty in any::<bool>(), escape in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let text = if escape { escaped(&text) } else { text };
        let mut all = Vec::new();
        all_pointers(&value, "", &mut all);
        let absent = ["/c/c/c/c/c/c".to_owned(), "/nothing".to_owned(), "/17".to_owned()];
        let pointers = all.iter().chain(&absent).map(|pointer| (pointer.as_str(), usize::MAX));
        let mut scan = Scan::new(&Arc::new(Pointers::new(pointers)));
        let (mut rest, mut sizes) = (text.as_bytes(), parts.iter().cycle());
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            scan.push(part).unwrap();
            rest = after;
        }
        scan.finish().unwrap();
        prop_assert!(scan.values().is_settled());
        for pointer in &all {
            let found = scan.values().at(pointer).map(Raw::lossless);
            let read: Option<Value> = found.and_then(|bytes| serde_json::from_slice(bytes).ok());
            prop_assert_eq!(read.as_ref(), value.pointer(pointer), "{}", pointer);
            let (from, to) = scan.values().span(pointer).unwrap();
            let span = usize::try_from(from).unwrap()..usize::try_from(to.unwrap()).unwrap();
            prop_assert_eq!(found, Some(&text.as_bytes()[span]));
            let text = scan.values().at(pointer).unwrap().text();
            prop_assert_eq!(text.as_deref(), value.pointer(pointer).unwrap().as_str());
        }
        for pointer in absent.iter().filter(|pointer| value.pointer(pointer).is_none()) {
            prop_assert_eq!(scan.values().at(pointer), None);
        }
    }

    #[test]
    fn what_serde_reads_is_read_and_what_is_read_in_parts_is_read_whole(
        text in prop::collection::vec(prop_oneof![
            prop::sample::select(br#"{}[]:,"\/ 0123456789-+.eEtrufalsn"#.to_vec()), any::<u8>(),
        ], 0..40),
        part in 1usize..10,
    ) {
        let (whole, read_whole) = scan(&text, &["", "/a", "/0", "/0/0"], usize::MAX);
        let (parts, read_parts) = scan(&text, &["", "/a", "/0", "/0/0"], part);
        prop_assert_eq!(&read_whole, &read_parts);
        if serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok() {
            prop_assert_eq!(read_whole, Ok(()));
        }
        for pointer in ["", "/a", "/0", "/0/0"] {
            let (one, other) = (whole.values().at(pointer), parts.values().at(pointer));
            prop_assert_eq!(one, other);
            if let Some(raw) = one {
                let _ = (raw.word(), raw.shown(), raw.number(), raw.members());
            }
        }
    }

    #[test]
    fn broken_documents_never_panic(value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let place = at.index(text.len());
        text[place] = byte;
        text.truncate(cut.index(text.len() + 1));
        let (scan, _) = scan(&text, &["", "/a", "/a/b", "/0"], 3);
        for pointer in ["", "/a", "/a/b", "/0"] {
            if let Some(raw) = scan.values().at(pointer) {
                let _ = (raw.word(), raw.shown(), raw.members());
            }
        }
        let mut out = Vec::new();
        let _ = copy_value(&text[..], "/a", &mut out);
    }
}
