//! The path of a file as a function of its event: a template whose values cannot lead out of the
//! folder.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::deliver::message::{Message, TEST_EVENT};

/// The longest name of a file or folder in bytes. Linux takes 255; the rest leaves room for copies
/// under longer names.
const MAX_NAME: usize = 240;

/// The longest ending that a shortened name keeps, such as `.json.zst`.
const MAX_ENDING: usize = 16;

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
    Outcome,
    EventId,
    Year,
    Month,
    Day,
}

impl Placeholder {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "source" => Self::Source,
            "job_id" => Self::JobId,
            "outcome" => Self::Outcome,
            "event_id" => Self::EventId,
            "yyyy" => Self::Year,
            "mm" => Self::Month,
            "dd" => Self::Day,
            _ => return None,
        })
    }

    fn has_fixed_length(self) -> bool {
        matches!(self, Self::Year | Self::Month | Self::Day)
    }

    /// Returns the value for `message`. The date is that of the job's end, so a retry on the next
    /// day has the same file.
    fn of(self, message: &Message) -> String {
        let date = message.time.calendar();
        match (self, &message.subject) {
            (Self::Source, Some(subject)) => escape(&subject.source),
            (Self::JobId, Some(subject)) => escape(subject.job_id.as_str()),
            (Self::Outcome, Some(_)) => escape(message.word()),
            // All test events share one file.
            (Self::Source, None) => TEST_EVENT.to_owned(),
            (Self::JobId | Self::Outcome, None) => "test".to_owned(),
            (Self::EventId, _) => escape(&message.event_id),
            (Self::Year, _) => format!("{:04}", date.year()),
            (Self::Month, _) => format!("{:02}", date.month()),
            (Self::Day, _) => format!("{:02}", date.day()),
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
    /// name apart from text of a fixed length, or behind a character that no value holds.
    pub(super) fn tells_jobs_apart(&self, sources: usize) -> bool {
        let read: Vec<Placeholder> = self.names.iter().flat_map(|pieces| readable(pieces)).collect();
        let has = |value: Placeholder| read.contains(&value);
        has(Placeholder::EventId) || (has(Placeholder::JobId) && (sources < 2 || has(Placeholder::Source)))
    }

    /// Returns the folders and the file's name with `suffix`.
    pub(super) fn fill(&self, message: &Message, suffix: &str) -> (Vec<String>, String) {
        let filled = |pieces: &Vec<Piece>| {
            pieces.iter().fold(String::new(), |mut name, piece| {
                match piece {
                    Piece::Literal(text) => name.push_str(text),
                    Piece::Placeholder(value) => name.push_str(&value.of(message)),
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
        let known = "{source} {job_id} {outcome} {event_id} {yyyy} {mm} {dd}";
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
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        deliver::message::{Body, Subject},
        model::job::{EventType, Outcome},
        util::units::Time,
    };

    fn message(job_id: &str) -> Message {
        let subject = Subject {
            source: "retab".to_owned(),
            job_id: job_id.parse().unwrap(),
            outcome: Some(Outcome::Failed),
            status: None,
            labels: BTreeMap::new(),
            reason: None,
        };
        let event = EventType::Ended(Outcome::Failed);
        Message::job("evt_1".to_owned(), event, Time(1_779_883_200_500), subject, Body::Null)
    }

    fn filled(template: &str, job_id: &str) -> String {
        let (mut names, file) = PathTemplate::parse(template).unwrap().fill(&message(job_id), "");
        names.push(file);
        names.join("/")
    }

    #[test]
    fn every_placeholder_is_filled_and_made_safe() {
        let all = "{yyyy}-{mm}/{dd}/{source}.{outcome}/{event_id}_{job_id}.json";
        assert_eq!(filled(all, "job_1"), "2026-05/27/retab.failed/evt_1_job_1.json");
        for (id, name) in [
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("...", "%2E.."),
            (".hidden", "%2Ehidden"),
            ("a b%2F", "a%20b%252F"),
            ("ü\\:*", "%C3%BC%5C%3A%2A"),
        ] {
            assert_eq!(filled("{source}/{job_id}", id), format!("retab/{name}"));
            assert_eq!(filled("x/.{job_id}", id), format!("x/.{name}"));
        }
    }

    #[test]
    fn a_template_that_leads_elsewhere_is_refused() {
        for bad in
            ["", "/abs", "a//b", "a/", "../x", "a/../b", "./a", "{job_id", "job_id}", "{}", "{job}", "a\0b"]
        {
            assert!(PathTemplate::parse(bad).is_err(), "{bad:?} should be refused");
        }
        assert!(PathTemplate::parse("{job}").unwrap_err().contains("{job_id}"));
    }

    #[test]
    fn a_path_that_tells_jobs_apart_is_known() {
        for (path, tells) in [
            ("{source}/{job_id}.json", true),
            ("x{source}.d/{yyyy}-{mm}-{dd}-{job_id}.json", true),
            ("{source}+{job_id}", true),
            ("{source}@x{job_id}", true),
            ("{outcome}/{event_id}", true),
            ("{source}/{job_id}.{outcome}", false),
            ("{job_id}.json", false),
            ("{source}.json", false),
            ("{source}-{job_id}.json", false),
            ("{source}%{job_id}.json", false),
            ("{source}{yyyy}{job_id}.json", false),
            ("all.jsonl", false),
        ] {
            assert_eq!(PathTemplate::parse(path).unwrap().tells_jobs_apart(2), tells, "{path}");
        }
        for (path, tells) in
            [("{job_id}.json", true), ("{source}-{job_id}.json", false), ("{source}.json", false)]
        {
            assert_eq!(PathTemplate::parse(path).unwrap().tells_jobs_apart(1), tells, "{path}");
        }
    }

    #[test]
    fn long_ids_stay_apart_and_keep_their_ending() {
        let (one, two) = ("ü".repeat(128), "ü".repeat(127) + "é");
        let (one, two) = (filled("{job_id}.json", &one), filled("{job_id}.json", &two));
        assert_ne!(one, two);
        for name in [one, two] {
            assert!(name.len() <= MAX_NAME, "{name}");
            assert_eq!(name.rsplit_once('.').unwrap().1, "json");
        }
    }

    proptest! {
        /// Where a path is said to tell jobs apart, it does.
        #[test]
        fn two_jobs_have_two_paths(
            path in prop::collection::vec(prop::sample::select(vec!["{source}", "{job_id}", "{outcome}", "{yyyy}", "-", "+", "/x", "a"]), 1..6),
            ids in prop::array::uniform4("[-+a%]{1,3}"),
        ) {
            let path = format!("x{}", path.concat());
            let template = PathTemplate::parse(&path).unwrap();
            let [source, job, other_source, other_job] = &ids;
            let of = |source: &str, job: &str| {
                let mut message = message(job);
                message.subject.as_mut().unwrap().source = source.to_owned();
                template.fill(&message, "")
            };
            if template.tells_jobs_apart(2) && (source, job) != (other_source, other_job) {
                prop_assert_ne!(of(source, job), of(other_source, other_job), "{}", path);
            }
        }

        #[test]
        fn names_are_safe_and_distinct(one in "[^\\p{Cc}]{1,60}", two in "[./%~a-c]{1,12}") {
            prop_assume!(one.len() <= 256);
            let name = |id: &str| (!matches!(id, "." | "..")).then(|| filled("{job_id}", id));
            let (a, b) = (name(&one), name(&two));
            prop_assert!(one == two || a.is_none() || a != b);
            for name in [a, b].into_iter().flatten() {
                prop_assert!(name.len() <= MAX_NAME);
                prop_assert!(!name.starts_with('.'));
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-%~".contains(&b)));
            }
        }
    }
}
