//! The path of a file as a function of its event: a template whose values cannot lead out of the
//! folder.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::deliver::message::{About, Message, TEST_EVENT};

/// The longest name of a file or folder in bytes. Linux takes 255; the rest leaves room for copies
/// under longer names.
const MAX_NAME: usize = 240;

/// The longest ending that a shortened name keeps, such as `.json.zst`.
const MAX_ENDING: usize = 16;

/// What stands for the source of an event about a group, and of a notice.
const GROUPS: &str = "tidings.groups";
const NOTICES: &str = "tidings.notices";

/// A path below the folder, as a list of names.
#[derive(Clone, Debug)]
pub(super) struct PathTemplate {
    names: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Placeholder(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Placeholder {
    Source,
    JobId,
    Kind,
    Outcome,
    EventId,
    Year,
    Month,
    Day,
    Result,
}

impl Placeholder {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "source" => Self::Source,
            "job_id" => Self::JobId,
            "kind" => Self::Kind,
            "outcome" => Self::Outcome,
            "event_id" => Self::EventId,
            "yyyy" => Self::Year,
            "mm" => Self::Month,
            "dd" => Self::Day,
            "result" => Self::Result,
            _ => return None,
        })
    }

    fn has_fixed_length(self) -> bool {
        matches!(self, Self::Year | Self::Month | Self::Day)
    }

    /// Returns the value for `message`. The date is that of the job's end, so a retry on the next
    /// day has the same file.
    fn of(self, message: &Message, result: &str) -> String {
        let date = message.time.calendar();
        match (self, &message.subject) {
            (Self::Source, Some(subject)) => escape(&subject.source),
            (Self::JobId, Some(subject)) => escape(subject.job_id.as_str()),
            (Self::Kind, Some(subject)) => {
                escape(subject.kind.as_ref().map_or("job", |kind| kind.name.as_str()))
            }
            (Self::Outcome, Some(_)) => escape(message.word()),
            (Self::Source | Self::JobId | Self::Kind | Self::Outcome, None) => self.without_job(message),
            (Self::Result, _) => escape(result),
            (Self::EventId, _) => escape(&message.event_id),
            (Self::Year, _) => format!("{:04}", date.year()),
            (Self::Month, _) => format!("{:02}", date.month()),
            (Self::Day, _) => format!("{:02}", date.day()),
        }
    }

    /// Returns the value for a message about no job. No source has the names that stand for one.
    fn without_job(self, message: &Message) -> String {
        match (self, &message.about) {
            (Self::Source, Some(About { key: "group", .. })) => GROUPS.to_owned(),
            (Self::JobId, Some(About { key: "group", name })) => escape(name),
            (Self::Source, Some(_)) => NOTICES.to_owned(),
            // One sink or source has many.
            (Self::JobId, Some(_)) => escape(&message.event_id),
            (_, Some(_)) => escape(message.word()),
            // All test events share one file.
            (Self::Source, None) => TEST_EVENT.to_owned(),
            (_, None) => "test".to_owned(),
        }
    }
}

impl PathTemplate {
    /// Parses a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let names = text.split('/').map(name).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { names })
    }

    /// Returns whether two jobs of `sources` sources never have the same path, whatever their ids:
    /// the path determines source and job id, or the event id. It does when each stands alone in a
    /// name apart from text of a fixed length, or behind a character that no value holds. With
    /// `has_kind` it has to determine the kind of the job, too.
    pub(super) fn tells_jobs_apart(&self, sources: usize, has_kind: bool) -> bool {
        let read: Vec<Placeholder> = self.names.iter().flat_map(|pieces| readable(pieces)).collect();
        let has = |value: Placeholder| read.contains(&value);
        let by_job = has(Placeholder::JobId)
            && (sources < 2 || has(Placeholder::Source))
            && (!has_kind || has(Placeholder::Kind));
        has(Placeholder::EventId) || by_job
    }

    /// Returns whether each result has a file of its own.
    pub(super) fn has_result(&self) -> bool {
        let is_result = |piece: &Piece| matches!(piece, Piece::Placeholder(Placeholder::Result));
        self.names.iter().flatten().any(is_result)
    }

    /// Returns the folders and the file's name with `suffix`, for one result of a job.
    pub(super) fn fill(&self, message: &Message, result: &str, suffix: &str) -> (Vec<String>, String) {
        let filled = |pieces: &Vec<Piece>| {
            pieces.iter().fold(String::new(), |mut name, piece| {
                match piece {
                    Piece::Literal(text) => name.push_str(text),
                    Piece::Placeholder(value) => name.push_str(&value.of(message, result)),
                }
                name
            })
        };
        let mut names: Vec<String> = self.names.iter().map(filled).collect();
        let last = names.pop().unwrap_or_default() + suffix;
        (names.into_iter().map(shortened).collect(), shortened(last))
    }
}

/// Returns the values that a name determines.
fn readable(pieces: &[Piece]) -> Vec<Placeholder> {
    let mut groups: Vec<Vec<Placeholder>> = vec![Vec::new()];
    for piece in pieces {
        match piece {
            // No value holds such a character, so it separates the values around it.
            Piece::Literal(text) if text.chars().any(|c| !is_plain(c) && c != '%') => groups.push(Vec::new()),
            Piece::Placeholder(value) if !value.has_fixed_length() => {
                groups.last_mut().into_iter().for_each(|group| group.push(*value));
            }
            _ => {}
        }
    }
    groups.into_iter().filter(|group| group.len() == 1).flatten().collect()
}

/// Returns whether a value keeps this character as it is.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn name(text: &str) -> Result<Vec<Piece>, String> {
    if matches!(text, "" | "." | "..") {
        return Err("it must be a relative path without empty, `.` or `..` parts".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let (literal, braced) = rest.split_at(open);
        let end = braced.find('}').filter(|_| braced.starts_with('{'));
        let end = end.ok_or("a `{` or `}` stands alone")?;
        let known = "{source} {job_id} {kind} {outcome} {event_id} {yyyy} {mm} {dd} {result}";
        let value = Placeholder::named(&braced[1..end])
            .ok_or_else(|| format!("`{}` is unknown; there are {known}", &braced[..=end]))?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        pieces.push(Piece::Placeholder(value));
        rest = &braced[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

/// Escapes a value for a name: `[A-Za-z0-9._-]` stays, everything else and a leading dot becomes
/// `%XX`. Distinct values stay distinct, and no name is hidden, `.` or `..`, or holds a separator.
fn escape(value: &str) -> String {
    if value.is_empty() {
        // No other value gives a lone `%`.
        return "%".to_owned();
    }
    let mut name = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => name.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(byte.into()),
            // Writing to a string cannot fail.
            _ => drop(write!(name, "%{byte:02X}")),
        }
    }
    name
}

/// Shortens a long name. A hash of the whole name keeps it distinct, and its ending stays.
fn shortened(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    with_hash(&name, &HEXLOWER.encode(&Sha256::digest(&name)[..16]))
}

/// Returns a name with a hash before its ending, cut to fit.
pub(super) fn with_hash(name: &str, hash: &str) -> String {
    let tail = &name[name.ceil_char_boundary(name.len().saturating_sub(MAX_ENDING))..];
    let ending = tail.find('.').map_or("", |at| &tail[at..]);
    let room = MAX_NAME - ending.len() - hash.len() - 1;
    let stem = &name[..name.len() - ending.len()];
    format!("{}~{hash}{ending}", &stem[..stem.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests;
