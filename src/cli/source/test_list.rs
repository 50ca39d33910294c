//! `tidings source test --list`: reads the first page of a list, and shows how it is read.

use anyhow::Result;

use crate::{
    cli::{
        console::Console,
        exit::{BadUsage, ExitStatus},
        phrases::clean,
        table::table,
    },
    model::status_answer::StatusClass,
    upstream::{ListFilter, ListedJob, Source, SourceKind},
    util::units::{Size, rounded},
};

/// Jobs that are shown.
const SHOWN: usize = 20;

/// Prints the first page of the list of a kind.
pub(super) async fn run(source: &Source, kind: &SourceKind, console: &mut Console<'_>) -> Result<ExitStatus> {
    let Some(list) = kind.profile.list.as_deref() else {
        let text = format!("the jobs of the source `{}` cannot be listed", source.name);
        let hint = "list_path, list_at and list_id_at describe the list";
        return Err(BadUsage::new(text).maybe_hint(Some(hint.to_owned())).into());
    };
    let address = source.list_address(list, &ListFilter::new());
    let address = address.map_err(|failure| BadUsage::new(failure.to_string()))?;
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![row("request", format!("GET {}", clean(&address)))];
    let page = match source.list_page(kind, list, &address).await {
        Ok(page) => page,
        Err(failure) => {
            rows.push(row("answer", format!("no page of the list: {}", clean(&failure.to_string()))));
            console.out.write_all(table(&[], rows).as_bytes())?;
            return Ok(ExitStatus::Failed);
        }
    };
    let (status, media_type, took) = &page.exchange;
    rows.push(row(
        "answer",
        format!("{status}, {}, {}, {}", clean(media_type), Size(page.bytes), rounded(*took)),
    ));
    rows.push(row("jobs", format!("{} at `{}`", page.jobs.len(), list.at)));
    if page.odd > 0 {
        rows.push(row("", format!("{} items without the id of a job at `{}`", page.odd, list.id_at[0])));
    }
    let next = page.next.as_deref().map_or_else(|| "none: this is the last page".to_owned(), clean);
    rows.push(row("next page", next));
    console.out.write_all(table(&[], rows).as_bytes())?;
    if page.jobs.is_empty() {
        return Ok(ExitStatus::Done);
    }
    writeln!(console.out)?;
    let jobs = page.jobs.iter().take(SHOWN).map(job).collect();
    console.out.write_all(table(&["JOB", "STATUS", "MEANS", "CREATED", "FINISHED"], jobs).as_bytes())?;
    if page.jobs.len() > SHOWN {
        writeln!(console.out, "… and {} more", page.jobs.len() - SHOWN)?;
    }
    Ok(ExitStatus::Done)
}

fn job(job: &ListedJob) -> Vec<String> {
    let time = |at: Option<crate::util::units::Time>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let means = match job.answer.class {
        StatusClass::Pending => "not finished",
        StatusClass::Unknown => "unknown; counts as not finished",
        StatusClass::Finished(outcome) => outcome.as_str(),
    };
    vec![
        job.id.to_string(),
        job.answer.status.clone(),
        means.to_owned(),
        time(job.created_at),
        time(job.ended_at),
    ]
}
