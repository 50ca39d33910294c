//! One rendering. It bounds the work, the output and the input of a template; `process` bounds the
//! rest.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use base64::Engine as _;
use http::HeaderValue;
use minijinja::{
    Environment, Error, ErrorKind, OutputSpan, OutputSpanKind, Template,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
    value::Value,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    data,
    output::{self, Bounded, MAX_OUTPUT, OutputKind},
};
use crate::util::units::Size;

/// The longest job that a template may read. Parsed, it takes many times its size in memory.
pub(super) const MAX_DATA: Size = Size::mib(4);

/// The work of one rendering in minijinja's units: one for an instruction or 64 new bytes, sixteen
/// times as much for JSON. It is enough to print the longest job, and takes far less than a second.
const FUEL: u64 = 2_000_000;

/// The stack of a rendering. Its depth bounds the nesting of jobs and of a template's values.
pub(super) const STACK: usize = 64 << 20;

/// The most words of a tag and branches of an `if`, since each may nest those after it.
const MAX_WORDS: usize = 10_000;
const MAX_BRANCHES: usize = 1000;

/// The longest reason of a failure in characters, since some quote a value.
const MAX_REASON: usize = 300;

/// The variables of every template.
const VARIABLES: [&str; 11] =
    ["type", "timestamp", "id", "source", "job_id", "kind", "outcome", "status", "labels", "reason", "data"];

/// The request of a rendering.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RenderRequest {
    pub(super) template: String,
    pub(super) content_type: String,
    /// The variables except `data`.
    pub(super) variables: BTreeMap<String, Value>,
    pub(super) job: JobInput,
}

/// The job of an event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum JobInput {
    /// Unknown: the template is only checked.
    Unknown,
    /// JSON.
    Json,
    /// Something else.
    Foreign,
    /// Not read, for this reason.
    Unread(String),
}

/// The failure of a rendering.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RenderFailure {
    /// The line in the template, from 1.
    pub(super) line: Option<usize>,
    pub(super) reason: String,
    /// Whether every event fails so.
    pub(super) is_certain: bool,
}

impl RenderFailure {
    pub(super) fn of(reason: String) -> Self {
        Self { line: None, reason, is_certain: false }
    }

    pub(super) fn certain(reason: String) -> Self {
        Self { is_certain: true, ..Self::of(reason) }
    }
}

/// A failure with its kind in minijinja.
struct Cause {
    line: Option<usize>,
    kind: Option<ErrorKind>,
    reason: String,
}

impl From<String> for Cause {
    fn from(reason: String) -> Self {
        Self { line: None, kind: None, reason }
    }
}

impl From<Error> for Cause {
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

/// Renders on a thread with a stack of its own.
pub(super) fn on_its_stack(request: RenderRequest, job: Vec<u8>) -> Result<String, RenderFailure> {
    let internal = || RenderFailure::of("an internal error: it could not be rendered".to_owned());
    let work =
        move || catch_unwind(AssertUnwindSafe(|| answer(&request, &job))).unwrap_or_else(|_| Err(internal()));
    let started = thread::Builder::new().name("template".to_owned()).stack_size(STACK).spawn(work);
    let started = started
        .map_err(|error| RenderFailure::of(format!("no thread can be started to render it: {error}")))?;
    started.join().unwrap_or_else(|_| Err(internal()))
}

fn answer(request: &RenderRequest, job: &[u8]) -> Result<String, RenderFailure> {
    rendered(request, job).map_err(|cause| {
        let is_certain = is_certain(cause.kind, &cause.reason, &request.template);
        RenderFailure { line: cause.line, reason: cause.reason, is_certain }
    })
}

fn rendered(request: &RenderRequest, job: &[u8]) -> Result<String, Cause> {
    let content_type = HeaderValue::from_str(&request.content_type).map_err(|error| error.to_string())?;
    let writing = OutputKind::of(&content_type);
    measure(&request.template)?;
    let environment = environment(writing);
    let template = environment.template_from_named_str("template", &request.template)?;
    let mut event = request.variables.clone();
    if !matches!(request.job, JobInput::Unknown) && template.undeclared_variables(false).contains("data") {
        event.insert("data".to_owned(), data(&request.job, job)?);
    }
    let event = Value::from_pairs(event);
    let mut output = Bounded::default();
    template.render_captured_to(event.clone(), &mut output)?;
    let text = String::from_utf8(output.0).map_err(|_| "its output is not UTF-8".to_owned())?;
    if writing == OutputKind::Json {
        check_json(&text, &template, event)?;
    }
    Ok(text)
}

/// Checks before parsing that a template fits on any stack, since minijinja bounds only some of the
/// nesting.
fn measure(template: &str) -> Result<(), Cause> {
    let (mut words, mut begins_tag) = (0, false);
    let mut branches: Vec<usize> = Vec::new();
    for token in tokenize(template, false, SyntaxConfig::default()) {
        let (token, span) = token?;
        let too_deep = |what: String| {
            let reason = format!("{what}, which nest too deeply");
            Err(Cause { line: Some(span.start_line.into()), kind: Some(ErrorKind::SyntaxError), reason })
        };
        match &token {
            Token::BlockStart | Token::VariableStart => words = 0,
            Token::Ident("if") if begins_tag => branches.push(1),
            Token::Ident("endif") if begins_tag => drop(branches.pop()),
            Token::Ident("elif") if begins_tag => {
                let count = branches.last_mut().map_or(0, |count| {
                    *count += 1;
                    *count
                });
                if count > MAX_BRANCHES {
                    return too_deep(format!("an `if` has more than {MAX_BRANCHES} branches"));
                }
            }
            _ => words += 1,
        }
        if words > MAX_WORDS {
            return too_deep(format!("a tag has more than {MAX_WORDS} words"));
        }
        begins_tag = matches!(token, Token::BlockStart);
    }
    Ok(())
}

/// Returns the job as `data`.
fn data(job: &JobInput, bytes: &[u8]) -> Result<Value, String> {
    match job {
        JobInput::Unread(reason) => Err(reason.clone()),
        JobInput::Foreign => {
            let encoded = || base64::engine::general_purpose::STANDARD.encode(bytes);
            Ok(std::str::from_utf8(bytes).map_or_else(|_| encoded().into(), Value::from))
        }
        // An empty job is null.
        JobInput::Json if bytes.is_empty() => Ok(Value::from(())),
        JobInput::Json | JobInput::Unknown => {
            data::parse(bytes).map_err(|error| format!("the job cannot be read as JSON: {error}"))
        }
    }
}

fn environment<'source>(writing: OutputKind) -> Environment<'source> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Names undefined variables in errors; nothing else of the debug output is shown.
    environment.set_debug(true);
    // `debug` would print all variables.
    environment.remove_global("debug");
    environment.set_auto_escape_callback(move |_| writing.escaping());
    environment.set_formatter(output::print);
    environment
}

/// Returns whether a failure with the sample is one with every event that gets as far.
fn is_certain(kind: Option<ErrorKind>, reason: &str, source: &str) -> bool {
    use ErrorKind::{
        BadEscape, OutOfFuel, SyntaxError, UndefinedError, UnknownFilter, UnknownFunction, UnknownMethod,
        UnknownTest, WriteFailure,
    };
    match kind {
        // The output is not JSON, or the template cannot be read.
        None => true,
        Some(UndefinedError) => {
            let name = reason.strip_prefix('`').and_then(|rest| rest.split_once('`'));
            // The sample may lack the parent of a name with a dot.
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

/// Returns whether a `{% set … %}`, which may depend on the event, sets `name`.
fn is_set(name: &str, source: &str) -> bool {
    source.split("{%").skip(1).any(|tag| {
        let tag = tag.split("%}").next().unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
        tag.strip_prefix("set").is_some_and(|rest| rest.split('=').next().unwrap_or_default().contains(name))
    })
}

fn check_json(text: &str, template: &Template<'_, '_>, event: Value) -> Result<(), Cause> {
    let Err(error) = serde_json::from_str::<IgnoredAny>(text) else { return Ok(()) };
    // Renders again to map the output back to the template, which only a failure needs.
    let spans = template.render_with_spans(event).map(|(_, spans)| spans).unwrap_or_default();
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = before + error.column().saturating_sub(1);
    let reason = format!(
        "its output is not JSON: {error} of the output; `{{{{ x }}}}` is text and goes between quotes, `{{{{ x|tojson }}}}` does not"
    );
    Err(Cause { line: line_of(&spans, text, at), kind: None, reason })
}

/// Returns the line of the template that wrote the byte at `at`, or the last byte before it.
fn line_of(spans: &[OutputSpan], text: &str, at: usize) -> Option<usize> {
    let span = spans.iter().rev().find(|span| span.output_range().start <= at)?;
    let written = text.as_bytes().get(span.output_range().start..at.min(span.output_range().end))?;
    let newlines = match span.kind() {
        OutputSpanKind::Raw => written.split(|byte| *byte == b'\n').count() - 1,
        _ => 0,
    };
    Some(span.line() + newlines)
}
