//! What `tidings source test` prints: the exchange, and how the answer is read.

use anyhow::Result;

use crate::{
    cli::{
        console::Console,
        phrases::{brief, clean},
        table::table,
    },
    model::{
        job::Outcome,
        status_answer::{StatusAnswer, StatusClass},
    },
    upstream::{AuthType, JobRef, NO_STATUS, Probe, ProbeAnswer, Profile, Source, SourceKind, StatusBody},
    util::{
        json_slice::{NotJson, Raw, Values},
        secret::REDACTED,
        units::rounded,
    },
};

/// Characters of an answer that are shown.
const SHOWN: usize = 2000;

/// Prints a request and its answer.
pub(super) fn show_exchange(
    source: &Source,
    kind: &SourceKind,
    probe: &Probe,
    console: &mut Console<'_>,
) -> Result<()> {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let method = if probe.post.is_some() { "POST" } else { "GET" };
    let mut rows = vec![row("request", format!("{method} {}", clean(&probe.address)))];
    if let Some(body) = probe.post.as_ref().filter(|body| !body.is_empty()) {
        rows.push(row("", clean(&source.hide_credentials(&String::from_utf8_lossy(body)))));
    }
    let (key, scheme) = &kind.profile.key_header;
    rows.push(match (source.key_fingerprint(), scheme) {
        _ if source.auth_type().is_some() => {
            let made_by = source.auth_type().map_or("", AuthType::name);
            row("", format!("authorization: {REDACTED} ({made_by})"))
        }
        (None, _) => row("", format!("without a key: api_key would go into `{key}`")),
        (Some(_), Some(scheme)) => row("", format!("{key}: {scheme} {REDACTED}")),
        (Some(_), None) => row("", format!("{key}: {REDACTED}")),
    });
    rows.extend(kind.profile.headers.keys().map(|name| row("", format!("{name}: {REDACTED}"))));
    match &probe.answer {
        Ok(answer) => rows.extend(answer_rows(source, answer)),
        Err(failure) => rows.push(row("answer", format!("none: {}", clean(&failure.to_string())))),
    }
    console.out.write_all(table(&[], rows).as_bytes())?;
    let body = probe.answer.as_ref().ok().and_then(|answer| answer.body.as_ref().ok());
    if let Some(body) = body.filter(|body| body.read > 0) {
        let text = source.hide_credentials(&String::from_utf8_lossy(&body.head));
        writeln!(console.out, "\n{}\n", brief(&text, SHOWN))?;
    }
    Ok(())
}

/// Returns the rows of an answer: where it came from, what it is, and where it leads.
fn answer_rows(source: &Source, answer: &ProbeAnswer) -> Vec<Vec<String>> {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let shown = |text: &str| clean(&source.hide_credentials(text));
    let mut rows = Vec::new();
    if let Some(url) = &answer.led_to {
        rows.push(row("", format!("redirected to {}", shown(url.as_str()))));
    }
    let size = match &answer.body {
        Ok(body) => format!("{} bytes", body.read),
        Err(failure) => format!("no body: {}", clean(&failure.to_string())),
    };
    let (status, media_type) = (answer.status, shown(&answer.media_type));
    rows.push(row("answer", format!("{status}, {media_type}, {size}, {}", rounded(answer.took))));
    match &answer.place {
        Some(Ok(address)) => rows.push(row("", format!("names {}", shown(address)))),
        Some(Err(failure)) => rows.push(row("", clean(&failure.to_string()))),
        None if matches!(status, 301..=303 | 307 | 308) => {
            rows.push(row("", "leads nowhere: the redirect has no Location".to_owned()));
        }
        None => {}
    }
    if let Some(hint) = answer.hint {
        rows.push(row("", format!("asks to wait {} before the next poll", rounded(hint))));
    }
    rows
}

/// Prints what a refusal means, where its HTTP status tells.
pub(super) fn show_refusal(source: &Source, probe: &Probe, console: &mut Console<'_>) -> Result<()> {
    let Ok(answer) = &probe.answer else { return Ok(()) };
    let means = match answer.status {
        401 | 403 if source.auth_type().is_some() => "the credentials are refused; correct auth",
        401 | 403 if source.key_fingerprint().is_none() => "a key is needed; set api_key_file",
        401 | 403 => "the key is refused; correct api_key_file",
        404 => "the source does not know this job",
        410 => "the source no longer has this job",
        _ => return Ok(()),
    };
    writeln!(console.out, "means     {means}")?;
    Ok(())
}

/// Prints the value at each pointer, and what they mean. `place` is the address that the answer
/// redirects to. Returns whether the status has a meaning.
pub(super) fn show_reading(
    source: &Source,
    (kind, job): (&SourceKind, JobRef<'_>),
    body: &StatusBody,
    place: Option<&str>,
    console: &mut Console<'_>,
) -> Result<bool> {
    let profile = &kind.profile;
    let answer = match body.answer(profile) {
        Ok(answer) => answer,
        Err(reason) => {
            let at = match profile.status_at.as_slice() {
                [] => String::new(),
                at => format!("; status_at is {}", at.join(" or ")),
            };
            writeln!(console.out, "means     nothing: {reason}{at}")?;
            return Ok(false);
        }
    };
    console
        .out
        .write_all(table(&["KEY", "POINTER", "FOUND"], found(source, profile, &body.values)).as_bytes())?;
    let mut rows = vec![vec!["means".to_owned(), meaning(profile, &answer)]];
    if let StatusClass::Finished(outcome) = answer.class {
        let place = place.filter(|_| outcome == Outcome::Completed && profile.results.is_empty());
        let get = |address: &str| match source.is_own(address) {
            true => format!("GET {}", clean(address)),
            false => format!("GET {} (without key and headers: another origin)", clean(address)),
        };
        let result = match (source.result_address(job, &body.values), place) {
            (Ok(Some(address)), _) => get(&address),
            (Ok(None), Some(place)) => get(place),
            (Ok(None), None) => match not_taken(profile, outcome, body) {
                Some(why) => format!("none: {why}"),
                None => "the answer above is the result".to_owned(),
            },
            (Err(failure), _) => format!("the answer above stands for it, as {failure}"),
        };
        rows.push(vec!["result".to_owned(), result]);
        if !profile.result_at.is_empty() {
            rows.push(vec![String::new(), format!("of it the part at `{}`", profile.result_at)]);
        }
    }
    writeln!(console.out)?;
    console.out.write_all(table(&[], rows).as_bytes())?;
    Ok(answer.class != StatusClass::Unknown)
}

/// Returns why the body of an answer that ends a job by its HTTP status is not taken as the result.
fn not_taken(profile: &Profile, outcome: Outcome, body: &StatusBody) -> Option<&'static str> {
    let error = body.error.as_ref().filter(|error| **error != NotJson::Empty)?;
    if outcome != Outcome::Completed {
        return None;
    }
    let media_type = body.media_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let text = body.head.trim_ascii_start();
    let begins =
        |tag: &str| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()));
    let is_page = ["text/html", "application/xhtml+xml"].iter().any(|page| media_type.starts_with(page))
        || begins("<!doctype html")
        || begins("<html");
    if is_page && !profile.result_may_be_html {
        return Some("an HTML page counts as an error page, unless result_may_be_html is true");
    }
    // Several values, one a line, are a result.
    let may_be_lines = matches!(error, NotJson::Trailing { .. });
    (media_type.is_empty() && !may_be_lines)
        .then_some("the answer is no JSON, and has no media type that says what it is")
}

fn meaning(profile: &Profile, answer: &StatusAnswer) -> String {
    let status = clean(&answer.status);
    match answer.class {
        StatusClass::Finished(outcome) => format!("`{status}` ends the job: {outcome}"),
        StatusClass::Pending if answer.status == NO_STATUS => {
            "a job without a status is not finished".to_owned()
        }
        StatusClass::Pending if answer.at_work => format!("`{status}` is not the end; the job is running"),
        StatusClass::Pending => format!("`{status}` is not the end"),
        StatusClass::Unknown if answer.status == NO_STATUS => {
            format!(
                "no status: nothing is at {}, so the job would never finish; correct status_at",
                profile.status_at.join(" or ")
            )
        }
        StatusClass::Unknown => {
            format!("`{status}` is in none of the outcomes, so the job is not finished; add it to outcomes")
        }
    }
}

/// Returns the keys of the profile that hold pointers, with these.
fn pointers(profile: &Profile) -> Vec<(&'static str, &[String])> {
    vec![
        ("status_at", &profile.status_at),
        ("pending_while", &profile.pending_while),
        ("failed_at", &profile.failed_at),
        ("error_at", &profile.error_at),
        ("endpoint_at", profile.endpoint_at.as_slice()),
        ("metadata_at", profile.metadata_at.as_slice()),
        ("created_at", &profile.created_at),
        ("started_at", &profile.started_at),
        ("ended_at", &profile.ended_at),
        ("attempt_at", &profile.attempt_at),
    ]
}

/// Returns a row for each pointer. Of several for one key the first that is present counts.
fn found(source: &Source, profile: &Profile, values: &Values) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (key, list) in pointers(profile) {
        let mut taken = false;
        for pointer in list {
            let value = values.at(pointer);
            let is_there = value.is_some_and(Raw::is_there);
            let text = match value {
                None => "nothing".to_owned(),
                Some(value) => {
                    let text = value.text().map(|text| format!("\"{text}\""));
                    let text = text.unwrap_or_else(|| value.shown().into_owned());
                    brief(&clean(&source.hide_credentials(&text)), 80)
                }
            };
            let note = if is_there && taken { " (the one above counts)" } else { "" };
            rows.push(vec![key.to_owned(), pointer.clone(), format!("{text}{note}")]);
            taken |= is_there;
        }
    }
    rows
}
