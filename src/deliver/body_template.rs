//! The body of a webhook as a Jinja template over the event, for endpoints that want their own words.
//!
//! A template cannot hang or fill the process: its work is counted, its output and what it may read are bounded. One that
//! fails fails the attempt, with the line and the reason.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::Engine as _;
use http::HeaderValue;
use minijinja::{Environment, Error, ErrorKind, OutputSpan, OutputSpanKind, Template, value::Value};
use serde::de::IgnoredAny;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    envelope::{Payload, Wrapping},
    parcel::{Parcel, Subject},
};
use crate::{
    job::{EventType, Outcome},
    units::{Size, Time},
};

mod data;
mod writing;

use writing::Writing;

/// The longest job that a template may look into; parsed it takes many times its size in memory.
const MAX_DATA: Size = Size::mib(4);

/// The longest text that a template may render.
const MAX_OUTPUT: Size = Size::mib(8);

/// The longest template.
const MAX_TEMPLATE: Size = Size::mib(1);

/// What one rendering may do, in minijinja's units: an instruction costs one, 64 bytes that are made cost one, and JSON
/// sixteen times as much. Enough to print the longest job; in time far below a second.
const FUEL: u64 = 2_000_000;

/// The longest reason of a failure, in characters: some quote a value.
const MAX_REASON: usize = 300;

/// What every template can use, whatever the event is about.
const VARIABLES: [&str; 10] =
    ["type", "timestamp", "id", "source", "job_id", "outcome", "status", "labels", "reason", "data"];

/// A template with where it comes from. Cheap to clone; clones take turns.
#[derive(Clone, Debug)]
pub struct BodyTemplate {
    source: Source,
    content_type: HeaderValue,
    writing: Writing,
    turn: Arc<Mutex<()>>,
}

#[derive(Clone, Debug)]
enum Source {
    Inline(Arc<str>),
    /// Where it is, and how the configuration names it.
    File {
        path: PathBuf,
        named: PathBuf,
    },
}

/// A template that cannot be used, or not for this event.
#[derive(Debug, PartialEq, Eq)]
pub struct TemplateError {
    file: Option<PathBuf>,
    line: Option<usize>,
    reason: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "in {}, line {line}: ", file.display())?,
            (Some(file), None) => write!(f, "in {}: ", file.display())?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TemplateError {}

/// A failure without its file.
struct Failure {
    line: Option<usize>,
    kind: Option<ErrorKind>,
    reason: String,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { line: None, kind: None, reason }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => {
                "it does more than one rendering may: a loop or a text is too long".to_owned()
            }
            (ErrorKind::WriteFailure, _) => format!("its output is longer than {MAX_OUTPUT}"),
            (_, Some(detail)) => detail.chars().take(MAX_REASON).collect(),
            (kind, None) => kind.to_string(),
        };
        Self { line: error.line(), kind: Some(error.kind()), reason }
    }
}

impl BodyTemplate {
    /// A template that is written in the configuration.
    #[must_use]
    pub fn inline(text: &str, content_type: HeaderValue) -> Self {
        Self::new(Source::Inline(text.into()), content_type)
    }

    /// The template in the file that the configuration calls `named`, looked for from `directory`. It is read for every
    /// rendering, so that mending it needs no restart.
    #[must_use]
    pub fn file(directory: &Path, named: &Path, content_type: HeaderValue) -> Self {
        let source = Source::File { path: directory.join(named), named: named.to_owned() };
        Self::new(source, content_type)
    }

    fn new(source: Source, content_type: HeaderValue) -> Self {
        let writing = Writing::of(&content_type);
        Self { source, content_type, writing, turn: Arc::default() }
    }

    /// Waits until no other rendering of this template is under way.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// The body for `parcel`. Blocks: it may read the template and the job.
    ///
    /// # Errors
    /// When the template cannot be read or fails, when it needs a job that is too long, or when its output has to be
    /// JSON and is not.
    pub fn render(&self, parcel: &Parcel) -> Result<Payload, TemplateError> {
        let rendered = self.text().and_then(|source| self.rendered(&source, parcel, false));
        let text = rendered.map_err(|failure| self.error(failure))?;
        Ok(Payload::text(self.content_type.clone(), text))
    }

    /// Looks for what is wrong with every event: a mistake in the syntax, a filter or a name that nobody knows, an output that
    /// is not JSON. What depends on the job or on labels is left to the attempts.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), TemplateError> {
        let found = self.text().and_then(|source| match self.rendered(&source, &sample(), true) {
            Err(failure) if is_certain(&failure, &source) => Err(failure),
            _ => Ok(()),
        });
        found.map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> TemplateError {
        let file = match &self.source {
            Source::File { named, .. } => Some(named.clone()),
            Source::Inline(_) => None,
        };
        TemplateError { file, line: failure.line, reason: failure.reason }
    }

    fn text(&self) -> Result<Arc<str>, Failure> {
        let path = match &self.source {
            Source::Inline(text) => return Ok(Arc::clone(text)),
            Source::File { path, .. } => path,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(|error| super::report::plain(&error))?;
        file.take(MAX_TEMPLATE.0 + 1)
            .read_to_string(&mut text)
            .map_err(|error| super::report::plain(&error))?;
        match text.len() as u64 > MAX_TEMPLATE.0 {
            true => Err(format!("it is longer than {MAX_TEMPLATE}").into()),
            false => Ok(text.into()),
        }
    }

    fn rendered(&self, source: &str, parcel: &Parcel, is_sample: bool) -> Result<String, Failure> {
        let environment = environment(self.writing);
        let template = environment.template_from_named_str("template", source)?;
        let mut event = variables(parcel);
        if !is_sample && template.undeclared_variables(false).contains("data") {
            event.push(("data", data(parcel)?));
        }
        let event = Value::from_pairs(event);
        let mut output = Bounded::default();
        template.render_captured_to(event.clone(), &mut output)?;
        let text = String::from_utf8(output.0).map_err(|_| "its output is not UTF-8".to_owned())?;
        if self.writing == Writing::Json {
            check_json(&text, &template, event)?;
        }
        Ok(text)
    }
}

fn environment<'source>(writing: Writing) -> Environment<'source> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Names what is undefined; nothing else of it is shown.
    environment.set_debug(true);
    // It prints everything there is, but for what was not read.
    environment.remove_global("debug");
    environment.set_auto_escape_callback(move |_| writing.escaping());
    environment.set_formatter(writing::print);
    environment
}

/// What a template sees but for `data`. A test event is about no job; it has words where others have theirs.
fn variables(parcel: &Parcel) -> Vec<(&'static str, Value)> {
    let subject = parcel.subject.as_ref();
    let of_job = |value: fn(&Subject) -> &str| Value::from(subject.map_or("test", value));
    let labels = subject.into_iter().flat_map(|subject| &subject.labels);
    vec![
        ("type", Value::from(&parcel.event_type)),
        ("timestamp", Value::from(parcel.time.to_string())),
        ("id", Value::from(&parcel.event_id)),
        ("source", of_job(|subject| &subject.source)),
        ("job_id", of_job(|subject| subject.job_id.as_str())),
        (
            "outcome",
            subject.map_or(Value::from("test"), |subject| subject.outcome.map(Outcome::as_str).into()),
        ),
        ("status", Value::from(subject.and_then(|subject| subject.status.as_deref()))),
        ("labels", Value::from_pairs(labels.map(|(key, value)| (key.as_str(), value.as_str())))),
        ("reason", Value::from(subject.and_then(|subject| subject.reason.as_deref()))),
    ]
}

/// The job, parsed.
fn data(parcel: &Parcel) -> Result<Value, String> {
    let size = parcel.body.len();
    if size > MAX_DATA.0 {
        return Err(format!(
            "it uses `data`, and the job has {size} bytes; up to {MAX_DATA} are read. Leave `data` out, or take another format"
        ));
    }
    let mut bytes = Vec::new();
    let mut reader = Payload::of(parcel, Wrapping::Raw).reader().map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| super::report::plain(&error))?;
    if parcel.media_type.is_some() {
        let encoded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        return Ok(String::from_utf8(bytes).unwrap_or_else(|error| encoded(error.as_bytes())).into());
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    data::parse(text).map_err(|error| format!("the job cannot be read as JSON: {error}"))
}

/// An event as most are, of which only the job is not known.
fn sample() -> Parcel {
    let event_type = EventType::Ended(Outcome::Completed).as_str().to_owned();
    Parcel { event_type, ..Parcel::test("evt_1".to_owned(), Time(0), "") }
}

/// Whether what failed for the sample fails for every event that gets as far.
fn is_certain(failure: &Failure, source: &str) -> bool {
    use ErrorKind::{
        BadEscape, OutOfFuel, SyntaxError, UndefinedError, UnknownFilter, UnknownFunction, UnknownMethod,
        UnknownTest, WriteFailure,
    };
    match failure.kind {
        // The output is not JSON, or the template cannot be read.
        None => true,
        Some(UndefinedError) => {
            let name = failure.reason.strip_prefix('`').and_then(|rest| rest.split_once('`'));
            // Names with a dot are looked up in something that the sample need not have.
            name.is_some_and(|(name, _)| {
                !name.contains(['.', '[']) && !VARIABLES.contains(&name) && !is_set(name, source)
            })
        }
        Some(kind) => matches!(
            kind,
            BadEscape
                | OutOfFuel
                | SyntaxError
                | UnknownFilter
                | UnknownFunction
                | UnknownMethod
                | UnknownTest
                | WriteFailure
        ),
    }
}

/// Whether some `{% set … %}`, which may depend on the event, gives a value to `name`.
fn is_set(name: &str, source: &str) -> bool {
    source.split("{%").skip(1).any(|tag| {
        let tag = tag.split("%}").next().unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
        tag.strip_prefix("set").is_some_and(|rest| rest.split('=').next().unwrap_or_default().contains(name))
    })
}

fn check_json(text: &str, template: &Template<'_, '_>, event: Value) -> Result<(), Failure> {
    let Err(error) = serde_json::from_str::<IgnoredAny>(text) else { return Ok(()) };
    // Rendered once more, for only now the way back from the output to the template is needed.
    let spans = template.render_with_spans(event).map(|(_, spans)| spans).unwrap_or_default();
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = before + error.column().saturating_sub(1);
    let reason = format!(
        "its output is not JSON: {error} of the output; `{{{{ x }}}}` is text and goes between quotes, `{{{{ x|tojson }}}}` does not"
    );
    Err(Failure { line: line_of(&spans, text, at), kind: None, reason })
}

/// The line of the template that wrote the byte at `at`, or the last byte before it.
fn line_of(spans: &[OutputSpan], text: &str, at: usize) -> Option<usize> {
    let span = spans.iter().rev().find(|span| span.output_range().start <= at)?;
    let written = text.as_bytes().get(span.output_range().start..at.min(span.output_range().end))?;
    let newlines = match span.kind() {
        OutputSpanKind::Raw => written.split(|byte| *byte == b'\n').count() - 1,
        _ => 0,
    };
    Some(span.line() + newlines)
}

/// Takes [`MAX_OUTPUT`] bytes and no more.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MAX_OUTPUT.0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
