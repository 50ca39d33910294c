//! What object storage answers when it does not do what it was asked, in words without secrets.

use std::io;

use object_store::Error;

use crate::util::http_client::{find, innermost, plain};

/// More of what a server says is left out.
const MAX_WORDS: usize = 300;

/// The kind tells storage that is away, or refuses, from a body that is not there: it is `NotConnected`.
pub(super) fn failed(error: &Error, name: &str) -> io::Error {
    match error {
        _ if is_missing_object(error) => {
            io::Error::new(io::ErrorKind::NotFound, format!("the object {name} is missing"))
        }
        Error::Precondition { .. } => {
            io::Error::new(io::ErrorKind::InvalidData, format!("the object {name} was changed meanwhile"))
        }
        _ => io::Error::new(io::ErrorKind::NotConnected, format!("object storage: {}", words(error))),
    }
}

/// Whether an object is not there, and its bucket is.
pub(super) fn is_missing_object(error: &Error) -> bool {
    let reason = words(error);
    let is_lost_bucket = ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"]
        .iter()
        .any(|sign| reason.contains(sign));
    matches!(error, Error::NotFound { .. }) && !is_lost_bucket
}

/// Whether it stays like this until somebody changes something.
pub(super) fn is_final(error: &Error) -> bool {
    match error {
        Error::NotFound { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. } => true,
        Error::Generic { .. } if way_out(error, "").is_some() => true,
        Error::Generic { .. } => {
            let reason = words(error);
            ["400 ", "301 ", "307 ", "without LOCATION"].iter().any(|sign| reason.contains(sign))
        }
        _ => false,
    }
}

/// The way out when no request can be sent as the environment says. `variables`: the beginning of its variables.
pub(super) fn way_out(error: &Error, variables: &str) -> Option<String> {
    if find::<rustls::Error>(error).is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
    {
        return Some(
            "the system must trust the authority of its certificate; SSL_CERT_FILE names a file with others"
                .to_owned(),
        );
    }
    if !find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_builder) {
        return None;
    }
    Some(match words(error).contains("URL scheme is not allowed") {
        true => format!("set {variables}ALLOW_HTTP=true for an endpoint without TLS, or name one with https"),
        false => format!("correct the endpoint in the variables that begin with {variables}"),
    })
}

/// What is wrong, without URLs and without what a server repeats of a request.
pub(super) fn words(error: &Error) -> String {
    let text = plain(&innermost(error));
    let Some((said, body)) = text.split_once("status code: ").and_then(|(_, rest)| rest.split_once(": "))
    else {
        return text
            .split("status code: ")
            .last()
            .unwrap_or_default()
            .trim_end_matches([':', ' '])
            .to_owned();
    };
    let told: Vec<&str> = ["Code", "Message"].iter().filter_map(|tag| element(body, tag)).collect();
    let told = if told.is_empty() { message(body) } else { told.join(": ") };
    let words = if told.is_empty() { said.to_owned() } else { format!("{said}: {told}") };
    // Azure explains over several lines.
    words.lines().next().unwrap_or_default().chars().take(MAX_WORDS).collect()
}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once(&format!("</{tag}>"))?.0)
}

/// The message of an error in JSON.
fn message(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let message = value.pointer("/error/message").or_else(|| value.pointer("/error_description"));
    message.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}
