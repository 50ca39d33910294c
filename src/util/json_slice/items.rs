//! Reads JSON with a list in it: the values beside the list, and those of each of its items.

use std::sync::Arc;

use super::{NotJson, Pointers, Scan, Values};

/// The reading of one text with a list. Items of any size pass through, and of each only the values
/// at its pointers are kept.
#[derive(Debug)]
pub struct ItemScan {
    around: Scan,
    list_at: String,
    pointers: Arc<Pointers>,
    items: Splitter,
    item: Option<Scan>,
}

impl ItemScan {
    /// Begins to read a text whose list is at `list_at`, which is one of the pointers `around`.
    /// `items` are the pointers into an item.
    #[must_use]
    pub fn new(around: &Arc<Pointers>, list_at: &str, items: &Arc<Pointers>) -> Self {
        Self {
            around: Scan::new(around),
            list_at: list_at.to_owned(),
            pointers: Arc::clone(items),
            items: Splitter::default(),
            item: None,
        }
    }

    /// Reads the next bytes, and passes the values of each item that ends in them to `found`.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn push(&mut self, bytes: &[u8], mut found: impl FnMut(Values)) -> Result<(), NotJson> {
        let before = self.around.read();
        self.around.push(bytes)?;
        let Some((from, to)) = self.around.values().span(&self.list_at) else { return Ok(()) };
        let place =
            |at: u64| usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX).min(bytes.len());
        let mut rest = &bytes[place(from)..to.map_or(bytes.len(), place)];
        while !rest.is_empty() {
            let (part, after) = self.items.next(rest);
            match part {
                Part::Between => {}
                Part::Item(bytes) => {
                    let item = self.item.get_or_insert_with(|| Scan::new(&self.pointers));
                    item.push(bytes)?;
                }
                Part::End => {
                    if let Some(mut item) = self.item.take() {
                        item.finish()?;
                        found(item.into_values());
                    }
                }
            }
            rest = after;
        }
        Ok(())
    }

    /// Records the end of the text.
    ///
    /// # Errors
    /// When the text is not JSON, or is cut.
    pub fn finish(&mut self) -> Result<(), NotJson> {
        self.around.finish()
    }

    /// Returns whether there is a list: a value at its pointer that is an array.
    #[must_use]
    pub fn has_list(&self) -> bool {
        self.items.is_list
    }

    /// Returns the number of bytes read so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.around.read()
    }

    /// Returns the values beside the list.
    #[must_use]
    pub fn values(&self) -> &Values {
        self.around.values()
    }
}

/// Splits the text of a list at its commas. The text is valid JSON, as far as it came.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the state of a scanner")]
struct Splitter {
    is_list: bool,
    depth: u64,
    in_item: bool,
    in_text: bool,
    escaped: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Brackets, commas and white space of the list itself, or a value that is no list.
    Between,
    /// Bytes of the present item.
    Item(&'a [u8]),
    /// The present item has ended.
    End,
}

impl Splitter {
    /// Returns the next part of some bytes, and the bytes behind it. There is at least one byte.
    fn next<'a>(&mut self, bytes: &'a [u8]) -> (Part<'a>, &'a [u8]) {
        if self.depth == 0 {
            self.is_list |= bytes[0] == b'[';
            self.depth = u64::from(bytes[0] == b'[');
            // Behind a value that is no list, or before one, nothing is read.
            return (Part::Between, if self.is_list { &bytes[1..] } else { &[] });
        }
        if !self.in_item {
            let skipped =
                bytes.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b',').count();
            if skipped > 0 {
                return (Part::Between, &bytes[skipped..]);
            }
            if bytes[0] == b']' {
                self.depth = 0;
                return (Part::Between, &[]);
            }
            self.in_item = true;
        }
        let end = self.end_of_item(bytes);
        match end {
            0 => {
                self.in_item = false;
                (Part::End, bytes)
            }
            end => (Part::Item(&bytes[..end]), &bytes[end..]),
        }
    }

    /// Returns where the present item ends: before a comma or a bracket of the list itself.
    fn end_of_item(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_text && !self.escaped {
                let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else { return bytes.len() };
                at += found;
                match bytes[at] {
                    b'"' => self.in_text = false,
                    _ => self.escaped = true,
                }
                at += 1;
                continue;
            }
            match bytes[at] {
                _ if self.escaped => self.escaped = false,
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 1 => return at,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            at += 1;
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::util::json_slice::Raw;

    /// Reads a list in parts of this many bytes: the word at `/id` of each item, and at `/next`.
    fn read(text: &str, at: &str, part: usize) -> (Vec<Option<String>>, bool, Option<String>) {
        let around = Arc::new(Pointers::new([(at, 0), ("/next", 64)]));
        let items = Arc::new(Pointers::new([("/id", 64)]));
        let mut scan = ItemScan::new(&around, at, &items);
        let mut ids = Vec::new();
        for part in text.as_bytes().chunks(part) {
            scan.push(part, |values| ids.push(values.at("/id").and_then(Raw::word))).unwrap();
        }
        scan.finish().unwrap();
        (ids, scan.has_list(), scan.values().at("/next").and_then(Raw::word))
    }

    #[test]
    fn items_of_any_kind_are_found_beside_what_is_around() {
        let text = r#" {"a":[{"id":"x"}],"data" : [ {"id":"1","x":["]",{"id":"9"}]} , 7,"a,]b" ,{"q":"\"]","id":2 },[3],null ], "next":"c"}"#;
        for part in [1, 2, 3, 7, usize::MAX] {
            let (ids, is_list, next) = read(text, "/data", part);
            let found: Vec<_> = ids.iter().map(Option::as_deref).collect();
            assert_eq!(found, [Some("1"), None, None, Some("2"), None, None], "{part}");
            assert_eq!((is_list, next.as_deref()), (true, Some("c")));
        }
        assert_eq!(read("[{\"id\":1}]", "", 1).0, [Some("1".to_owned())]);
        assert_eq!(read("[]", "", 1), (Vec::new(), true, None));
    }

    #[test]
    fn what_is_no_list_is_told() {
        for text in [r#"{"data":{"id":1}}"#, r#"{"data":"[1]"}"#, r#"{"data":null}"#, r#"{"items":[]}"#, "[]"]
        {
            assert_eq!(read(text, "/data", 2), (Vec::new(), false, None), "{text}");
        }
        let pointers = Arc::new(Pointers::new([("/data", 0)]));
        let mut scan = ItemScan::new(&pointers, "/data", &pointers);
        scan.push(b"<html>", |_| {}).unwrap_err();
        let mut cut = ItemScan::new(&pointers, "/data", &pointers);
        cut.push(br#"{"data":[{"id":1},{"#, |_| {}).unwrap();
        cut.finish().unwrap_err();
    }

    proptest! {
        #[test]
        fn every_item_is_found(
            texts in prop::collection::vec(any::<String>(), 0..8), part in 1_usize..40, nested in any::<bool>(),
        ) {
            let items: Vec<Value> = texts.iter().map(|text| match nested {
                true => json!({"before": [text, {"id": text}], "id": format!("i{text}"), "after": {"x": [[text]]}}),
                false => json!({"id": format!("i{text}")}),
            }).collect();
            let text = json!({"data": items, "next": "n"}).to_string();
            let around = Arc::new(Pointers::new([("/data", 0)]));
            let pointers = Arc::new(Pointers::new([("/id", usize::MAX)]));
            let mut scan = ItemScan::new(&around, "/data", &pointers);
            let mut ids = Vec::new();
            for part in text.as_bytes().chunks(part) {
                scan.push(part, |values| ids.push(values.at("/id").and_then(Raw::word).unwrap())).unwrap();
            }
            let wanted: Vec<String> = texts.iter().map(|text| format!("i{text}")).collect();
            prop_assert_eq!(ids, wanted);
        }
    }
}
