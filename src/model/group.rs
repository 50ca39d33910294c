//! The name of a group of watches, and how its members ended.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::job::Outcome;

/// The longest name of a group, in characters.
pub const MAX_GROUP_NAME: usize = 512;

/// The name of a group: 1 to 512 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

/// Why a text cannot be the name of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGroupName {
    /// It is empty.
    #[error("the name of a group cannot be empty")]
    Empty,
    /// It has more than [`MAX_GROUP_NAME`] characters.
    #[error("the name of a group has at most {MAX_GROUP_NAME} characters; this one has {0}")]
    TooLong(usize),
    /// It holds a control character.
    #[error("the name of a group cannot hold control characters")]
    Control,
    /// It is `.` or `..`, which every URL parser resolves away, so no request could name the group.
    #[error("the name of a group cannot be `.` or `..`, which no URL can spell")]
    DotSegment,
}

impl GroupName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GroupName {
    type Error = BadGroupName;

    fn try_from(text: String) -> Result<Self, BadGroupName> {
        let length = text.chars().count();
        match text.as_str() {
            "" => Err(BadGroupName::Empty),
            _ if length > MAX_GROUP_NAME => Err(BadGroupName::TooLong(length)),
            _ if text.chars().any(char::is_control) => Err(BadGroupName::Control),
            "." | ".." => Err(BadGroupName::DotSegment),
            _ => Ok(Self(text)),
        }
    }
}

impl FromStr for GroupName {
    type Err = BadGroupName;

    fn from_str(text: &str) -> Result<Self, BadGroupName> {
        Self::try_from(text.to_owned())
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a member of a group ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MemberEnd {
    /// Its job ended, and its event was made.
    Job(Outcome),
    /// A caller removed its watch before its job ended.
    Removed,
}

impl MemberEnd {
    /// Every end, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Job(Outcome::Completed),
        Self::Job(Outcome::Failed),
        Self::Job(Outcome::Cancelled),
        Self::Job(Outcome::Expired),
        Self::Job(Outcome::Lost),
        Self::Removed,
    ];

    /// Returns the word that every surface uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job(outcome) => outcome.as_str(),
            Self::Removed => "removed",
        }
    }
}

impl TryFrom<String> for MemberEnd {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|end| end.as_str() == text)
            .ok_or_else(|| format!("there is no end `{text}`"))
    }
}

impl From<MemberEnd> for String {
    fn from(end: MemberEnd) -> Self {
        end.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_name_is_bounded_and_can_stand_in_a_url() {
        for good in ["nightly-2026-11-29", "a b/c%2f", "ü", &"ü".repeat(512)] {
            assert_eq!(good.parse::<GroupName>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<GroupName>(), Err(BadGroupName::Empty));
        assert_eq!("x".repeat(513).parse::<GroupName>(), Err(BadGroupName::TooLong(513)));
        assert_eq!("a\nb".parse::<GroupName>(), Err(BadGroupName::Control));
        assert_eq!("..".parse::<GroupName>(), Err(BadGroupName::DotSegment));
    }

    #[test]
    fn an_end_is_stored_as_its_word() {
        for end in MemberEnd::ALL {
            assert_eq!(serde_json::to_value(end).unwrap(), end.as_str());
            assert_eq!(serde_json::from_value::<MemberEnd>(end.as_str().into()).unwrap(), end);
        }
    }
}
