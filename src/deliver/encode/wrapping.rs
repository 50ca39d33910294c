//! The wrappings: what goes around a job's bytes, which stay as they are.

use crate::deliver::config::Format;

/// What goes around a job's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// The event as JSON with the job under `data`.
    Envelope,
    /// Nothing: the job alone.
    Raw,
    /// `CloudEvents` in structured mode: the event as JSON with the job under `data`.
    CloudEvents,
    /// `CloudEvents` in binary mode: the event in headers.
    CloudEventsBinary,
}

impl Wrapping {
    /// Returns the wrapping of a format; `None` for a template, which makes the whole body.
    #[must_use]
    pub const fn of(format: Format) -> Option<Self> {
        match format {
            Format::Envelope => Some(Self::Envelope),
            Format::Raw => Some(Self::Raw),
            Format::CloudEvents => Some(Self::CloudEvents),
            Format::CloudEventsBinary => Some(Self::CloudEventsBinary),
            Format::Template => None,
        }
    }

    /// Returns the wrapping of a format in a file.
    ///
    /// # Errors
    /// When the format cannot be written to a file, with the way out.
    pub fn of_file(format: Format) -> Result<Self, String> {
        match Self::of(format) {
            Some(Self::CloudEventsBinary) => {
                Err("the event would be in headers, which a file does not have; take `cloudevents`"
                    .to_owned())
            }
            Some(wrapping) => Ok(wrapping),
            None => Err(
                "a template makes the body of a webhook; a folder takes `envelope`, `raw` or `cloudevents`"
                    .to_owned(),
            ),
        }
    }

    /// Returns whether the job's bytes become a part of a JSON text.
    pub(super) const fn is_json(self) -> bool {
        matches!(self, Self::Envelope | Self::CloudEvents)
    }
}
