//! Joins the pages of a result, in bounded memory.

use std::io::{self, BufReader, Write};

use super::body::values_at;
use crate::{store::StoredBody, util::json_slice::copy_value};

/// A page that was read.
pub(super) struct JoinedPage {
    /// Whether an item was written, by this page or by one before it.
    pub(super) is_begun: bool,
    /// What its body names as the next page.
    pub(super) next: Option<String>,
}

/// Writes the items of a page's list behind those of the pages before. The inner error says why the
/// page is none.
pub(super) fn append_items(
    out: &mut dyn Write,
    page: &StoredBody,
    items_at: &str,
    next_at: Option<&str>,
    is_begun: bool,
) -> io::Result<Result<JoinedPage, String>> {
    let next = match next_at.map(|pointer| next_in(page, pointer)).transpose()? {
        Some(Err(reason)) => return Ok(Err(reason)),
        Some(Ok(next)) => next,
        None => None,
    };
    let mut items = Items { out, state: State::Before, is_begun };
    if !copy_value(BufReader::with_capacity(64 << 10, page.read()?), items_at, &mut items)? {
        return Ok(Err(format!("a page has no list at `{items_at}`")));
    }
    match items.state {
        State::Within { held: Some(b']'), .. } | State::Null => {
            Ok(Ok(JoinedPage { is_begun: items.is_begun, next }))
        }
        _ => Ok(Err(format!("the value at `{items_at}` of a page is no list"))),
    }
}

/// Returns what the body of a page names as the next one.
fn next_in(page: &StoredBody, pointer: &str) -> io::Result<Result<Option<String>, String>> {
    let found = match values_at(&[pointer.to_owned()], page)? {
        Ok(found) => found,
        Err(error) => return Ok(Err(format!("a page is no JSON: {error}"))),
    };
    let Some(raw) = found.at(pointer) else { return Ok(Ok(None)) };
    Ok(match raw.word() {
        None if raw.is_there() => Err(format!("the next page at `{pointer}` has too long a name")),
        Some(word) if raw.text().is_some() || raw.number().is_some() => Ok(Some(word)),
        // A flag says only that there is none.
        None => Ok(None),
        Some(word) if word == "false" => Ok(None),
        Some(_) => Err(format!("the next page at `{pointer}` is neither a text nor a number")),
    })
}

/// What a list, as it is written, has come to.
#[derive(Clone, Copy)]
enum State {
    /// Nothing of it came.
    Before,
    /// It is `null`, as careless encoders write an empty list.
    Null,
    /// Its inside comes, and `has_begun` once more than white space did. The last byte is held back:
    /// it may be the closing bracket.
    Within { held: Option<u8>, has_begun: bool },
    /// It is no list.
    Other,
}

/// Takes a JSON list, and passes on what is between its brackets.
struct Items<'a> {
    out: &'a mut dyn Write,
    state: State,
    is_begun: bool,
}

impl Items<'_> {
    /// Takes bytes behind the opening bracket.
    fn within(&mut self, bytes: &[u8], held: Option<u8>, has_begun: bool) -> io::Result<()> {
        let bytes = if has_begun { bytes } else { bytes.trim_ascii_start() };
        let Some((last, before)) = bytes.split_last() else { return Ok(()) };
        let is_empty = !has_begun && bytes == b"]";
        if !has_begun && !is_empty {
            if self.is_begun {
                self.out.write_all(b",")?;
            }
            self.is_begun = true;
        }
        self.out.write_all(held.as_slice())?;
        self.out.write_all(before)?;
        self.state = State::Within { held: Some(*last), has_begun: !is_empty };
        Ok(())
    }
}

impl Write for Items<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inside = bytes;
        if let (State::Before, [first, rest @ ..]) = (self.state, bytes) {
            self.state = match first {
                b'[' => State::Within { held: None, has_begun: false },
                b'n' => State::Null,
                _ => State::Other,
            };
            inside = rest;
        }
        if let State::Within { held, has_begun } = self.state {
            self.within(inside, held, has_begun)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pages: &[&str]) -> Result<(String, Vec<Option<String>>), String> {
        let (mut out, mut is_begun, mut next) = (Vec::new(), false, Vec::new());
        for page in pages {
            let body = StoredBody::in_memory(Some(page.as_bytes().to_vec().into()));
            let page = append_items(&mut out, &body, "/data", Some("/next"), is_begun).unwrap()?;
            is_begun = page.is_begun;
            next.push(page.next);
        }
        Ok((String::from_utf8(out).unwrap(), next))
    }

    #[test]
    fn the_items_of_all_pages_stand_in_one_list() {
        let some = |text: &str| Some(text.to_owned());
        for (pages, items, next) in [
            (
                vec![
                    r#"{"data":[1, 2 ],"next":"a"}"#,
                    r#"{"next":7,"data":[ ]}"#,
                    r#"{"data":[{"b":[NaN]}]}"#,
                ],
                "1, 2 ,{\"b\":[NaN]}",
                vec![some("a"), some("7"), None],
            ),
            (
                vec![
                    r#"{"data":null,"next":null}"#,
                    r#"{"data":[],"next":""}"#,
                    r#"{"data":["]"],"next":false}"#,
                ],
                "\"]\"",
                vec![None, None, None],
            ),
            (vec![r#"{"data":[[]],"next":"https://e.com/?p=2"}"#], "[]", vec![some("https://e.com/?p=2")]),
        ] {
            assert_eq!(joined(&pages).unwrap(), (items.to_owned(), next), "{pages:?}");
        }
    }

    #[test]
    fn a_page_that_is_none_is_told() {
        let long = format!(r#"{{"data":[],"next":"{}"}}"#, "x".repeat(20_000));
        for (page, told) in [
            (r#"{"error":"x"}"#, "has no list at `/data`"),
            (r#"{"data":{"a":1}}"#, "is no list"),
            (r#"{"data":"[1]"}"#, "is no list"),
            ("<html>", "is no JSON"),
            (&long, "too long a name"),
        ] {
            let error = joined(&[page]).unwrap_err();
            assert!(error.contains(told), "{page}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_item_is_lost_or_changed(
            pages in prop::collection::vec(prop::collection::vec("[0-9]{1,30}|\"[]a,\\[ ]{0,9}\"|\\[[0-9]?\\]|\\{\"a\":[0-9]\\}", 0..5), 1..5),
            cut in 1usize..7,
        ) {
            let all: Vec<String> = pages.concat();
            let (mut out, mut is_begun) = (Vec::new(), false);
            for page in &pages {
                let mut items = Items { out: &mut out, state: State::Before, is_begun };
                for part in format!("[{}]", page.join(",")).as_bytes().chunks(cut) {
                    items.write_all(part).unwrap();
                }
                let is_list = matches!(items.state, State::Within { held: Some(b']'), .. });
                prop_assert!(is_list);
                is_begun = items.is_begun;
            }
            prop_assert_eq!(String::from_utf8(out).unwrap(), all.join(","));
        }
    }
}
