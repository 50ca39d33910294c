//! Templates: the body of a webhook as a Jinja template over the event.
//!
//! A template cannot hang the daemon or fill its memory. It is rendered in a process of its own
//! (`process`) with bounded time, memory and depth. The rendering (`render`) also bounds its work,
//! its output and its input. A template that fails fails the attempt, with the line and the reason.

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
        encode::{payload::Payload, wrapping::Wrapping},
        message::{Message, Subject},
    },
    model::job::{EventType, Outcome},
    util::{
        http_client::plain,
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

/// A template and its source. Cheap to clone; clones render one after another.
#[derive(Clone, Debug)]
pub struct BodyTemplate {
    source: Source,
    content_type: HeaderValue,
    turn: Arc<Mutex<()>>,
}

#[derive(Clone, Debug)]
enum Source {
    Inline(Arc<str>),
    /// A file: its path, and its name in the configuration.
    File {
        path: PathBuf,
        named: PathBuf,
    },
}

/// The error of a template, or of its rendering for one event.
#[derive(Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The file for display.
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
    /// Returns a template in the configuration.
    #[must_use]
    pub fn inline(text: &str, content_type: HeaderValue) -> Self {
        Self::new(Source::Inline(text.into()), content_type)
    }

    /// Returns the template in the file `named`, relative to `directory`. Each rendering reads the
    /// file, so that a change needs no restart.
    #[must_use]
    pub fn file(directory: &Path, named: &Path, content_type: HeaderValue) -> Self {
        let source = Source::File { path: directory.join(named), named: named.to_owned() };
        Self::new(source, content_type)
    }

    fn new(source: Source, content_type: HeaderValue) -> Self {
        Self { source, content_type, turn: Arc::default() }
    }

    /// Waits until no other rendering of this template runs.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Renders the payload of `message` within `limit`. Blocks while it reads the template and the
    /// job.
    ///
    /// # Errors
    /// When the template cannot be read, fails, or takes too long or too much memory. When it needs
    /// a job that is too long, or its output should be JSON and is not.
    pub fn render(&self, message: &Message, limit: Duration) -> Result<Payload, TemplateError> {
        let (job, data) = job(message);
        let text = self.rendered(message, job, data, limit).map_err(|failure| self.error(failure))?;
        Ok(Payload::text(self.content_type.clone(), text))
    }

    /// Checks the template with a sample event. Finds mistakes that every event meets: bad syntax,
    /// an unknown filter or name, output that is not JSON, a loop without an end. Only attempts
    /// find what depends on the job or its labels.
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
        // A content type is always text.
        let content_type = self.content_type.to_str().unwrap_or_default().to_owned();
        process::render(
            RenderRequest { template, content_type, variables: variables(message), job },
            data,
            limit,
        )
    }

    fn error(&self, failure: RenderFailure) -> TemplateError {
        let file = match &self.source {
            // The path of an existing file is not a secret that someone pasted there.
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
        let file = File::open(path).map_err(|error| plain(&error))?;
        file.take(MAX_TEMPLATE.0 + 1).read_to_string(&mut text).map_err(|error| plain(&error))?;
        match text.len() as u64 > MAX_TEMPLATE.0 {
            true => Err(format!("it is longer than {MAX_TEMPLATE}")),
            false => Ok(text.into()),
        }
    }
}

/// Returns the variables of a template except `data`. A test event has placeholders for those of a
/// job; in an event about no job they are none, but for the `source` of a notice.
fn variables(message: &Message) -> BTreeMap<String, Value> {
    let subject = message.subject.as_ref();
    let about = |key: &str| message.about.as_ref().filter(|about| about.key == key).map(|about| &*about.name);
    let without_job = message.about.is_none().then_some("test");
    let of_job = |value: fn(&Subject) -> &str| Value::from(subject.map(value).or(without_job));
    let labels = subject.into_iter().flat_map(|subject| &subject.labels);
    let variables = [
        ("type", Value::from(&message.event_type)),
        ("timestamp", Value::from(message.time.to_string())),
        ("id", Value::from(&message.event_id)),
        ("source", about("source").map_or_else(|| of_job(|subject| &subject.source), Value::from)),
        ("job_id", of_job(|subject| subject.job_id.as_str())),
        (
            "kind",
            Value::from(subject.and_then(|subject| subject.kind.as_ref()).map(|kind| kind.name.as_str())),
        ),
        (
            "outcome",
            subject.map_or(Value::from(without_job), |subject| subject.outcome.map(Outcome::as_str).into()),
        ),
        ("status", Value::from(subject.and_then(|subject| subject.status.as_deref()))),
        ("labels", Value::from_pairs(labels.map(|(key, value)| (key.as_str(), value.as_str())))),
        ("reason", Value::from(subject.and_then(|subject| subject.reason.as_deref()))),
        ("group", Value::from(about("group"))),
        ("sink", Value::from(about("sink"))),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Reads the job of an event. Returns its kind and its bytes.
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
    let read = read.and_then(|mut reader| reader.read_to_end(&mut bytes).map_err(|error| plain(&error)));
    match read {
        Err(reason) => (JobInput::Unread(reason), Vec::new()),
        Ok(_) if message.media_type.is_some() => (JobInput::Foreign, bytes),
        Ok(_) => (JobInput::Json, bytes),
    }
}

/// Returns a typical event without a job.
fn sample() -> Message {
    let event_type = EventType::Ended(Outcome::Completed).as_str().to_owned();
    Message { event_type, ..Message::test("evt_1".to_owned(), Time(0), "") }
}

#[cfg(test)]
mod tests;
