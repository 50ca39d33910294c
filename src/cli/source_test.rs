//! `tidings source test`: one look at a job, with everything that was found and what it means.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use super::{
    Global, args, complete,
    exit::{BadUsage, ExitStatus},
    output::{Console, brief, clean, table},
};
use crate::{
    model::{
        job::JobId,
        status_answer::{StatusAnswer, StatusClass},
    },
    upstream::{JobRef, NO_STATUS, Probe, Profile, Source, StatusBody},
    util::{
        json_slice::{Raw, Values},
        secret::REDACTED,
        units::rounded,
    },
};

/// The long description.
pub const ABOUT: &str = "Polls a job once, as the daemon would, and shows the request, the answer, what was found at each pointer of \
        the source, and what it means. It asks the source itself, with the key of the configuration; no daemon is \
        needed, and nothing is stored. Exit status: 0 when the status was understood, 1 otherwise.";

/// Characters of an answer that are shown.
const SHOWN: usize = 2000;

/// The arguments of `tidings source test`.
#[derive(Clone, Debug, Args)]
pub struct SourceTestArgs {
    /// The source
    #[arg(value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub name: String,

    /// The job
    #[arg(value_name = "JOB_ID")]
    pub job_id: JobId,

    /// A variable of the source's paths; repeat it for more
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = args::label)]
    pub vars: Vec<(String, String)>,
}

/// Runs `tidings source test`.
///
/// # Errors
/// When the configuration cannot be used, it has no such source, or the output is closed.
pub async fn run(args: &SourceTestArgs, global: &Global, console: &mut Console<'_>) -> Result<ExitStatus> {
    let loader = global.loader(global.overrides()).only(&["server.proxy", &format!("sources.{}", args.name)]);
    let config = loader.load().map_err(|error| BadUsage(error.to_string()))?.config;
    let Some(source) = config.sources.get(&args.name) else {
        let known: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let text = format!("the configuration has no source `{}`; it has {}", args.name, known.join(", "));
        return Err(BadUsage(text).into());
    };
    let outgoing = config.server.outgoing().map_err(|error| BadUsage(format!("server.proxy: {error}")))?;
    let source = Source::new(&args.name, source, &outgoing).map_err(|error| BadUsage(error.to_string()))?;
    let vars: BTreeMap<String, String> = args.vars.iter().cloned().collect();
    let job = JobRef { id: &args.job_id, vars: &vars };
    let probes = source.probe(job).await.map_err(|failure| BadUsage(failure.to_string()))?;
    let mut understood = false;
    for probe in &probes {
        show_exchange(&source, probe, console)?;
        understood = match &probe.body {
            Some(body) if matches!(probe.answer, Ok((200..=299, ..))) => {
                show_reading(&source, job, body, console)?
            }
            _ => false,
        };
    }
    Ok(if understood { ExitStatus::Done } else { ExitStatus::Failed })
}

fn show_exchange(source: &Source, probe: &Probe, console: &mut Console<'_>) -> Result<()> {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![row("request", format!("GET {}", clean(&probe.address)))];
    let (key, scheme) = &source.profile.key_header;
    rows.push(match (source.key_fingerprint(), scheme) {
        (None, _) => row("", format!("without a key: api_key would go into `{key}`")),
        (Some(_), Some(scheme)) => row("", format!("{key}: {scheme} {REDACTED}")),
        (Some(_), None) => row("", format!("{key}: {REDACTED}")),
    });
    rows.extend(source.profile.headers.keys().map(|name| row("", format!("{name}: {REDACTED}"))));
    match &probe.answer {
        Ok((status, media_type, took)) => {
            let size = probe.body.as_ref().map_or(0, |body| body.read);
            let text = format!(
                "{status}, {}, {size} bytes, {}",
                clean(&source.hide_credentials(media_type)),
                rounded(*took)
            );
            rows.push(row("answer", text));
        }
        Err(failure) => rows.push(row("answer", format!("none: {}", clean(&failure.to_string())))),
    }
    if let Some(hint) = probe.hint {
        rows.push(row("", format!("it asks to wait {} before the next poll", rounded(hint))));
    }
    console.out.write_all(table(&[], rows).as_bytes())?;
    if let Some(body) = probe.body.as_ref().filter(|body| body.read > 0) {
        let text = source.hide_credentials(&String::from_utf8_lossy(&body.head));
        writeln!(console.out, "\n{}\n", brief(&text, SHOWN))?;
    }
    Ok(())
}

/// What was found at each pointer, and what it means. Whether there was a status that means something.
fn show_reading(
    source: &Source,
    job: JobRef<'_>,
    body: &StatusBody,
    console: &mut Console<'_>,
) -> Result<bool> {
    let profile = &source.profile;
    let answer = match body.answer(profile) {
        Ok(answer) => answer,
        Err(reason) => {
            let at = pointers(profile).into_iter().next().map_or_else(String::new, |(_, at)| at.join(" or "));
            writeln!(console.out, "means     nothing: {reason}; status_at is {at}")?;
            return Ok(false);
        }
    };
    console.out.write_all(table(&["KEY", "POINTER", "FOUND"], found(source, &body.values)).as_bytes())?;
    let mut rows = vec![vec!["means".to_owned(), meaning(profile, &answer)]];
    if let StatusClass::Finished(_) = answer.class {
        let result = match source.result_address(job, &body.values) {
            Ok(Some(address)) if source.is_own(&address) => format!("GET {}", clean(&address)),
            Ok(Some(address)) => {
                format!(
                    "GET {} (without the key and the headers: it is of a foreign origin)",
                    clean(&address)
                )
            }
            Ok(None) => "the answer above is the result".to_owned(),
            Err(failure) => format!("the answer above stands for it, as {failure}"),
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

fn meaning(profile: &Profile, answer: &StatusAnswer) -> String {
    let status = clean(&answer.status);
    match answer.class {
        StatusClass::Finished(outcome) => format!("`{status}` ends the job: {outcome}"),
        StatusClass::Pending if answer.status == NO_STATUS => {
            "a job without a status has not ended".to_owned()
        }
        StatusClass::Pending if answer.at_work => {
            format!("`{status}` is not the end; the job is being worked on")
        }
        StatusClass::Pending => format!("`{status}` is not the end"),
        StatusClass::Unknown if answer.status == NO_STATUS => {
            format!(
                "no status: nothing is at {}, so the job would never end; mend status_at",
                profile.status_at.join(" or ")
            )
        }
        StatusClass::Unknown => {
            format!("`{status}` is in none of the outcomes, so it does not end the job; add it to outcomes")
        }
    }
}

/// The keys that say where something is, with their pointers.
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

/// A row for each pointer. Of several for one key the first that is present counts.
fn found(source: &Source, values: &Values) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (key, list) in pointers(&source.profile) {
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
            let note = if is_there && taken { " (one above counts)" } else { "" };
            rows.push(vec![key.to_owned(), pointer.clone(), format!("{text}{note}")]);
            taken |= is_there;
        }
    }
    rows
}
