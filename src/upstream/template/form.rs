//! The forms in which a value goes into a URL, and the values that fit each.

use url::{ParseError, Url};

use super::{
    TemplateError,
    parse::{is_absolute, is_dot},
};
use crate::util::{path_segment, redact};

/// The longest value of a placeholder within a path, in bytes.
const MAX_VALUE: usize = 2048;

/// The longest value that is a whole URL, in bytes. A signed link is long.
const MAX_URL: usize = 8192;

/// The form in which a value goes into a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One segment: `{name}`.
    Segment,
    /// Several segments with slashes between them: `{+name}`.
    Segments,
    /// A URL, or a path from its root with its query.
    Whole,
}

impl Form {
    /// Returns a value of a status body as it goes into a URL. A URL may have a fragment there, which is for its reader alone and
    /// not sent. An error shows no secret that a link carries.
    pub(super) fn write_found(self, name: &str, value: &str) -> Result<String, TemplateError> {
        match self {
            Self::Segment | Self::Segments => self.write(name, value),
            Self::Whole => {
                let sent = value.split('#').next().unwrap_or_default();
                self.write(name, sent).map_err(|_| TemplateError::Unfit {
                    name: name.to_owned(),
                    value: redact::url_text(value),
                })
            }
        }
    }

    /// Returns a value as it goes into a URL.
    pub(super) fn write(self, name: &str, value: &str) -> Result<String, TemplateError> {
        let most = if self == Self::Whole { MAX_URL } else { MAX_VALUE };
        let is_plain = !value.is_empty() && value.len() <= most && !value.chars().any(char::is_control);
        let fits = is_plain
            && match self {
                // Every URL parser resolves a dot segment, even one written with %2e, so none can
                // be sent.
                Self::Segment => !matches!(value, "." | ".."),
                Self::Segments => {
                    !value.contains('\\')
                        && value.split('/').all(|segment| !segment.is_empty() && !is_dot(segment))
                }
                Self::Whole => is_whole(value),
            };
        if !fits {
            let value = value.chars().take(100).collect();
            return Err(TemplateError::Unfit { name: name.to_owned(), value });
        }
        Ok(match self {
            Self::Segment => path_segment::encode(value),
            Self::Segments => path_segment::encode_several(value),
            Self::Whole => value.to_owned(),
        })
    }
}

/// Returns whether a value can be the whole address of a request: a URL without credentials, or a
/// path below the base. A value that a URL parser would read differently is refused.
fn is_whole(value: &str) -> bool {
    let is_path = !value.starts_with("//") && Url::parse(value) == Err(ParseError::RelativeUrlWithoutBase);
    let has_credentials =
        || Url::parse(value).map_or(true, |url| !url.username().is_empty() || url.password().is_some());
    let path = value.split('?').next().unwrap_or_default();
    !value.contains(['\\', ' ', '#'])
        && !path.split('/').any(is_dot)
        && (is_path || (is_absolute(value) && !has_credentials()))
}
