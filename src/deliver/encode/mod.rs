//! Encoding: the bytes that a sink gets for an event.
//!
//! A [`wrapping`] puts the `envelope` or `cloudevents` around the job's bytes, which stay as they
//! are; a [`mod@template`] renders a body of its own. Both make a [`payload`]. The room must not know
//! how a payload is sent or written.

mod cloudevents;
mod envelope;
pub(crate) mod payload;
pub mod template;
pub(crate) mod wrapping;

use std::{path::Path, time::Duration};

use http::{HeaderName, HeaderValue};

use crate::deliver::{
    config::{Format, WebhookConfig},
    encode::{
        payload::Payload,
        template::{BodyTemplate, TemplateError},
        wrapping::Wrapping,
    },
    error::SinkError,
    message::Message,
};
/// The `content-type` of what a template renders, when none is given.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The encoder of one webhook.
#[derive(Clone, Debug)]
pub(super) enum Encoder {
    /// Puts a wrapping around the job's bytes, which it does not read.
    Wrapped(Wrapping),
    /// Renders a template.
    Rendered(Renderer),
}

/// The template of one webhook.
#[derive(Clone, Debug)]
pub(super) struct Renderer {
    sink: String,
    key: &'static str,
    template: BodyTemplate,
}

impl Encoder {
    /// Returns the encoder of the sink `name`.
    ///
    /// # Errors
    /// The first problem that [`validate`] finds.
    pub fn of(name: &str, config: &WebhookConfig) -> Result<Self, SinkError> {
        if let Some((key, reason)) = validate(config, Some(Path::new(""))).into_iter().next() {
            return Err(SinkError::new(name, key, reason));
        }
        if let Some(wrapping) = Wrapping::of(config.format) {
            return Ok(Self::Wrapped(wrapping));
        }
        let (key, template) = template(config, Path::new(""))
            .ok_or_else(|| SinkError::new(name, "format", "a template is needed"))?
            .map_err(|reason| SinkError::new(name, "content_type", reason))?;
        Ok(Self::Rendered(Renderer { sink: name.to_owned(), key, template }))
    }

    /// Returns the payload of `message`. A rendering may take `limit` once it starts.
    ///
    /// # Errors
    /// The key, the line and the reason, when the template fails or takes too long.
    pub async fn encode(&self, message: &Message, limit: Duration) -> Result<Payload, String> {
        let renderer = match self {
            Self::Wrapped(wrapping) => return Ok(Payload::of(message, *wrapping)),
            Self::Rendered(renderer) => renderer,
        };
        let failed = |reason: String| SinkError::new(&renderer.sink, renderer.key, reason).to_string();
        // One at a time: what a rendering takes in memory counts once for each sink. The wait is
        // not its own time, so that renderings that take too long fail nobody behind them.
        let turn = renderer.template.turn().await;
        let (template, message) = (renderer.template.clone(), message.clone());
        let rendering = move || {
            let rendered = template.render(&message, limit);
            drop(turn);
            rendered
        };
        let rendered: Result<Payload, TemplateError> = tokio::task::spawn_blocking(rendering)
            .await
            .map_err(|_| failed("the rendering was interrupted".to_owned()))?;
        rendered.map_err(|error| failed(error.to_string()))
    }
}

/// Returns the problems of `format` and the keys that belong to it, each with its key. Files are
/// relative to `directory`; `None` skips their check.
#[must_use]
pub fn validate(config: &WebhookConfig, directory: Option<&Path>) -> Vec<(&'static str, String)> {
    let given = [
        ("template", config.template.is_some()),
        ("template_file", config.template_file.is_some()),
        ("content_type", config.content_type.is_some()),
    ];
    if config.format != Format::Template {
        let reason = "it goes with format = \"template\" alone; set that, or remove this key";
        let unused = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| (key, reason.to_owned()));
        return unused.chain(taken_headers(config)).collect();
    }
    match (&config.template, &config.template_file) {
        (Some(_), Some(_)) => {
            return vec![("template_file", "`template` is set as well; keep one of the two".to_owned())];
        }
        (None, None) => {
            let reason = "a template is needed; give `template` or `template_file`".to_owned();
            return vec![("format", reason)];
        }
        _ => {}
    }
    let unread = config.template_file.is_some() && directory.is_none();
    match template(config, directory.unwrap_or(Path::new(""))) {
        Some(Err(reason)) => vec![("content_type", reason)],
        Some(Ok((key, template))) if !unread => {
            template.check().err().map(|error| (key, error.to_string())).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the problem of a configured header that would change a `CloudEvents` event.
fn taken_headers(config: &WebhookConfig) -> Option<(&'static str, String)> {
    let cloud = matches!(config.format, Format::CloudEvents | Format::CloudEventsBinary);
    let is_taken = |name: &&String| name.to_ascii_lowercase().starts_with("ce-");
    let name = config.headers.keys().find(is_taken).filter(|_| cloud)?;
    Some(("headers", format!("`{name}` belongs to CloudEvents and is set by the format; take another name")))
}

/// Returns the template that `config` names, with its key.
fn template(
    config: &WebhookConfig,
    directory: &Path,
) -> Option<Result<(&'static str, BodyTemplate), String>> {
    let content_type = match config.content_type.as_deref().map(media_type) {
        None => JSON,
        Some(Ok(value)) => value,
        Some(Err(reason)) => return Some(Err(reason)),
    };
    match (&config.template, &config.template_file) {
        (Some(text), _) => Some(Ok(("template", BodyTemplate::inline(text, content_type)))),
        (None, Some(path)) => Some(Ok(("template_file", BodyTemplate::file(directory, path, content_type)))),
        (None, None) => None,
    }
}

/// Parses a media type: `type/subtype`, with or without parameters.
fn media_type(text: &str) -> Result<HeaderValue, String> {
    // Both halves are tokens, as the names of headers are.
    let is_token = |part: &str| HeaderName::try_from(part).is_ok();
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    match (essence.split_once('/'), HeaderValue::from_str(text)) {
        (Some((kind, subtype)), Ok(value)) if is_token(kind) && is_token(subtype) => Ok(value),
        _ => Err("it is no media type; write it like text/plain; charset=utf-8".to_owned()),
    }
}

#[cfg(test)]
mod tests;
