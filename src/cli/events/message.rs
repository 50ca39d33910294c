//! Server-sent events, read from the chunks of an answer.

use std::collections::VecDeque;

use anyhow::{Result, bail};

/// The longest line, in bytes. The largest event has 16 labels of 576 characters.
const MAX_LINE: usize = 1 << 20;

/// A message of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub event: String,
    pub data: String,
}

/// Reads messages out of chunks, as <https://html.spec.whatwg.org/multipage/server-sent-events.html> defines them. The daemon ends
/// lines with a line feed.
#[derive(Default)]
pub(super) struct MessageReader {
    rest: Vec<u8>,
    open: Message,
    pub ready: VecDeque<Message>,
}

impl MessageReader {
    /// Adds a chunk. `last_id` becomes the last id in it.
    pub(super) fn push(&mut self, chunk: &[u8], last_id: &mut Option<String>) -> Result<()> {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => *last_id = Some(value.to_owned()),
                "event" => value.clone_into(&mut self.open.event),
                "data" => self.open.data.push_str(value),
                "" if line.is_empty() => {
                    let message = std::mem::take(&mut self.open);
                    // An id alone moves the position and is no event.
                    if !message.data.is_empty() {
                        self.ready.push_back(message);
                    }
                }
                _ => {}
            }
        }
        if self.rest.len() > MAX_LINE {
            bail!("cannot read the stream: a line is longer than any event of tidings");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_from_chunks_however_they_are_cut() {
        let text = ": hi\nid: 7\n\nevent: job.failed\r\ndata: {\"a\": \"ü\"}\nid: 8\n\n:\nid: 9\n\n";
        for size in 1..text.len() {
            let (mut lines, mut last_id) = (MessageReader::default(), None);
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk, &mut last_id).unwrap();
            }
            let expected = Message { event: "job.failed".to_owned(), data: "{\"a\": \"ü\"}".to_owned() };
            assert_eq!(lines.ready, [expected]);
            assert_eq!(last_id.as_deref(), Some("9"));
        }
    }
}
