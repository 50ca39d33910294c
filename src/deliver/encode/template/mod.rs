//! The body of a webhook as a Jinja template over the event, for endpoints that want their own words.
//!
//! A template cannot hang or fill the daemon: it is rendered in a process of its own (`process`), whose time, memory and depth
//! are bounded; its work is counted, its output and what it may read are bounded, too (`rendering`). One that fails fails the
//! attempt, with the line and the reason.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use minijinja::value::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    deliver::{
        encode::envelope::{Payload, Wrapping},
        message::{Message, Subject},
    },
    model::job::{EventType, Outcome},
    util::{
        secret::shown_path,
        units::{Size, Time},
    },
};

mod data;
mod process;
mod render;
mod output;

pub use process::{render_by, serve};
use render::{JobInput, MAX_DATA, RenderFailure, RenderRequest};

/// The longest template.
const MAX_TEMPLATE: Size = Size::mib(1);

/// The time to check a template.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// A template with where it comes from. Cheap to clone; clones take turns.
#[derive(Clone, Debug)]
pub struct BodyTemplate {
    source: Source,
    content_type: HeaderValue,
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
    /// The file as people may see it.
    file: Option<String>,
    line: Option<usize>,
    reason: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "in {file}, line {line}: ")?,
            (Some(file), None) => write!(f, "in {file}: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TemplateError {}

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
        Self { source, content_type, turn: Arc::default() }
    }

    /// Waits until no other rendering of this template is under way.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// The body for `message`, within `limit`. Blocks: it may read the template and the job.
    ///
    /// # Errors
    /// When the template cannot be read or fails, when it takes too long or too much memory, when it needs a job that is too long, or
    /// when its output has to be JSON and is not.
    pub fn render(&self, message: &Message, limit: Duration) -> Result<Payload, TemplateError> {
        let (job, data) = job(message);
        let text = self.rendered(message, job, data, limit).map_err(|failure| self.error(failure))?;
        Ok(Payload::text(self.content_type.clone(), text))
    }

    /// Looks for what is wrong with every event: a mistake in the syntax, a filter or a name that nobody knows, an output that
    /// is not JSON, a template that has no end. What depends on the job or on labels is left to the attempts.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), TemplateError> {
        match self.rendered(&sample(), JobInput::Unknown, Vec::new(), CHECK_TIME) {
            Err(failure) if failure.is_certain => Err(self.error(failure)),
            _ => Ok(()),
        }
    }

    fn rendered(
        &self,
        message: &Message,
        job: JobInput,
        data: Vec<u8>,
        limit: Duration,
    ) -> Result<String, RenderFailure> {
        let template = self.text().map_err(RenderFailure::certain)?.to_string();
        // It was made of text.
        let content_type = self.content_type.to_str().unwrap_or_default().to_owned();
        process::render(
            RenderRequest { template, content_type, variables: variables(message), job },
            data,
            limit,
        )
    }

    fn error(&self, failure: RenderFailure) -> TemplateError {
        let file = match &self.source {
            // What leads to a file is no secret that was pasted into its place.
            Source::File { path, named } if path.exists() => Some(named.display().to_string()),
            Source::File { named, .. } => Some(shown_path(named)),
            Source::Inline(_) => None,
        };
        TemplateError { file, line: failure.line, reason: failure.reason }
    }

    fn text(&self) -> Result<Arc<str>, String> {
        let path = match &self.source {
            Source::Inline(text) => return Ok(Arc::clone(text)),
            Source::File { path, .. } => path,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(|error| crate::deliver::outcome::plain(&error))?;
        file.take(MAX_TEMPLATE.0 + 1)
            .read_to_string(&mut text)
            .map_err(|error| crate::deliver::outcome::plain(&error))?;
        match text.len() as u64 > MAX_TEMPLATE.0 {
            true => Err(format!("it is longer than {MAX_TEMPLATE}")),
            false => Ok(text.into()),
        }
    }
}

/// What a template sees but for `data`. A test event is about no job; it has words where others have theirs.
fn variables(message: &Message) -> BTreeMap<String, Value> {
    let subject = message.subject.as_ref();
    let of_job = |value: fn(&Subject) -> &str| Value::from(subject.map_or("test", value));
    let labels = subject.into_iter().flat_map(|subject| &subject.labels);
    let variables = [
        ("type", Value::from(&message.event_type)),
        ("timestamp", Value::from(message.time.to_string())),
        ("id", Value::from(&message.event_id)),
        ("source", of_job(|subject| &subject.source)),
        ("job_id", of_job(|subject| subject.job_id.as_str())),
        (
            "outcome",
            subject.map_or(Value::from("test"), |subject| subject.outcome.map(Outcome::as_str).into()),
        ),
        ("status", Value::from(subject.and_then(|subject| subject.status.as_deref()))),
        ("labels", Value::from_pairs(labels.map(|(key, value)| (key.as_str(), value.as_str())))),
        ("reason", Value::from(subject.and_then(|subject| subject.reason.as_deref()))),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The job of an event, and its bytes.
fn job(message: &Message) -> (JobInput, Vec<u8>) {
    let size = message.body.len();
    if size > MAX_DATA.0 {
        let reason = format!(
            "it uses `data`, and the job has {size} bytes; up to {MAX_DATA} are read. Leave `data` out, or take another format"
        );
        return (JobInput::Unread(reason), Vec::new());
    }
    let mut bytes = Vec::new();
    let read = Payload::of(message, Wrapping::Raw).reader().map_err(|error| error.to_string());
    let read = read.and_then(|mut reader| {
        reader.read_to_end(&mut bytes).map_err(|error| crate::deliver::outcome::plain(&error))
    });
    match read {
        Err(reason) => (JobInput::Unread(reason), Vec::new()),
        Ok(_) if message.media_type.is_some() => (JobInput::Foreign, bytes),
        Ok(_) => (JobInput::Json, bytes),
    }
}

/// An event as most are, of which only the job is not known.
fn sample() -> Message {
    let event_type = EventType::Ended(Outcome::Completed).as_str().to_owned();
    Message { event_type, ..Message::test("evt_1".to_owned(), Time(0), "") }
}

#[cfg(test)]
mod tests;
