//! `tidings watch`: registers jobs, and follows them to the end when asked to.

use std::{
    collections::{BTreeMap, HashSet},
    io::BufRead,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    args::{self, Format},
    client::Client,
    complete,
    exit::ExitStatus,
    follow::{Followed, Limits, follow},
    output::{Console, clean},
    patience::Patience,
    progress::Progress,
    target::Path,
};
use crate::{
    api::{
        Code,
        view::{BatchAnswer, BatchRequest, CallbackRequest, WatchRequest, WatchView},
    },
    model::job::JobId,
    util::{secret::SecretSource, units::HumanDuration},
};

/// Jobs registered by one request.
const CHUNK: usize = 1000;

/// Bytes of one request, well under what the API takes: labels come with every job.
const CHUNK_BYTES: usize = 4 << 20;

/// Watches asked for at once.
const AT_ONCE: usize = 16;

/// The long description of the command.
pub(super) const ABOUT: &str = "Registers jobs with the running daemon. When the command returns they are on the daemon's disk: \
        neither a crash nor a restart loses them. Registering a job again is harmless; labels are merged.\n\n\
        With --wait the command waits until each job has finished and its deliveries are settled. It keeps waiting \
        across daemon restarts. A failing delivery is tried for hours, so give a --timeout where that is too long.";

/// The arguments of `tidings watch`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings watch job_V1St --label team=billing\n  \
        tidings watch job_1 job_2 --wait --timeout 1h\n  \
        tidings watch job_1 --wait -o json | jq .outcome\n  \
        tidings watch - --wait < ids.txt      # one id a line; blank lines and # comments are skipped\n\n\
        Exit status: 0 done; 1 some job was refused or did not finish in time, or the daemon cannot be reached; 2 \
        bad usage; with --wait also 3 when every job ended but some outcome is not `completed`, 4 when a delivery \
        became a dead letter.")]
pub struct WatchArgs {
    /// The jobs; `-` reads ids from stdin, one a line
    #[arg(value_name = "JOB_ID", required = true)]
    pub job_ids: Vec<String>,

    /// The source the jobs belong to [default: the only one, or retab]
    #[arg(long, value_name = "NAME", value_parser = args::name, add = complete::sources())]
    pub source: Option<String>,

    /// Fill a variable of the source's paths; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = args::label)]
    pub var: Vec<(String, String)>,

    /// Label the watches; may be repeated. Labels choose routes and come with the event
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::label)]
    pub label: Vec<(String, String)>,

    /// Send the events to this sink instead of where the routes say; may be repeated
    #[arg(long, value_name = "NAME", add = complete::sinks())]
    pub sink: Vec<String>,

    /// Send the events to this URL too; it may not be a private address
    #[arg(long, value_name = "URL")]
    pub callback: Option<String>,

    /// Sign what is sent to the callback with the secret in this file
    #[arg(long, value_name = "FILE", requires = "callback")]
    pub callback_secret_file: Option<PathBuf>,

    /// Poll the jobs for this long (2h), or until then (RFC 3339); after that they are lost
    #[arg(long, value_name = "WHEN")]
    pub deadline: Option<String>,

    /// How to print the jobs; json is one line for each: its watch, or the refusal with `code` and `detail`
    #[arg(
        short = 'o',
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        long_help = "How to print the jobs. With json each job is a line, an object of its own: its watch as the API \
        shows it, with --wait once it is settled, else as it was registered; or `job_id`, `code` and `detail` of one \
        that was refused"
    )]
    pub output: Format,

    /// Wait until the jobs have finished, and show their progress
    #[arg(long)]
    pub wait: bool,

    /// Give up after this long, whatever the daemon does; its work goes on
    #[arg(long, value_name = "SPAN", requires = "wait")]
    pub timeout: Option<HumanDuration>,
}

/// What came of registering.
#[derive(Default)]
struct Registered {
    accepted: u64,
    existing: u64,
    rejected: u64,
    to_follow: Vec<Followed>,
    seen: HashSet<JobId>,
}

impl Registered {
    fn follow(&mut self, source: &str, job_id: JobId) {
        if self.seen.insert(job_id.clone()) {
            self.to_follow.push(Followed { source: source.to_owned(), job_id });
        }
    }

    fn reject(
        &mut self,
        console: &mut Console<'_>,
        format: Format,
        job_id: &str,
        (code, detail): (&str, &str),
    ) -> Result<()> {
        self.rejected += 1;
        console.note(&format!("{} was refused: {} ({})", clean(job_id), clean(detail), clean(code)));
        if format == Format::Json {
            writeln!(console.out, "{}", json!({"job_id": job_id, "code": code, "detail": detail}))?;
        }
        Ok(())
    }
}

/// Registers jobs and follows them.
///
/// # Errors
/// When the daemon cannot be asked, or the output is closed; a refusal of one job is a remark.
pub async fn run(args: &WatchArgs, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let patience = Patience::start(args.timeout);
    let registered = register(args, args.wait.then_some(&patience), client, console).await?;
    let several = registered.accepted + registered.existing > 1 || registered.rejected > 0;
    if several && args.output == Format::Table {
        writeln!(console.out, "{} accepted, {} existing", registered.accepted, registered.existing)?;
    }
    let refused = if registered.rejected > 0 { ExitStatus::Failed } else { ExitStatus::Done };
    if !args.wait || registered.to_follow.is_empty() {
        return Ok(refused);
    }
    drop(registered.seen);
    let limits = Limits { patience, ..Limits::default() };
    let mut progress = Progress::new(console, registered.to_follow.len());
    if args.output == Format::Json {
        progress = progress.as_json();
    }
    let tally = follow(client, registered.to_follow, &limits, &mut progress).await;
    progress.finish()?;
    let status = tally?.status();
    // Status 3 and 4 say that every job ended, which is not known of one that was refused.
    Ok(if refused == ExitStatus::Failed { refused } else { status })
}

async fn register(
    args: &WatchArgs,
    patience: Option<&Patience>,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<Registered> {
    let template = template(args)?;
    let chunk_size = chunk_size(&template)?;
    let mut registered = Registered::default();
    let mut chunk: Vec<JobId> = Vec::new();
    let mut first = true;
    let mut ids = Ids::new(&args.job_ids);
    loop {
        let next = ids.next(console.input)?;
        match &next {
            Some(text) => match text.parse::<JobId>() {
                Ok(job_id) => chunk.push(job_id),
                Err(error) => {
                    let why = (Code::InvalidJobId.as_str(), &*error.to_string());
                    registered.reject(console, args.output, text, why)?;
                }
            },
            // One job alone is asked for alone: the answer says more.
            None if first && chunk.len() == 1 => {
                register_one(&template, &chunk[0], args, patience, client, console, &mut registered).await?;
                break;
            }
            None => {}
        }
        if chunk.len() >= chunk_size || (next.is_none() && !chunk.is_empty()) {
            let chunk = std::mem::take(&mut chunk);
            register_many(&template, chunk, args, patience, client, console, &mut registered).await?;
            first = false;
        }
        if next.is_none() {
            break;
        }
    }
    Ok(registered)
}

async fn register_one(
    template: &WatchRequest,
    job_id: &JobId,
    args: &WatchArgs,
    patience: Option<&Patience>,
    client: &Client,
    console: &mut Console<'_>,
    registered: &mut Registered,
) -> Result<()> {
    let request = WatchRequest { job_id: job_id.to_string(), ..template.clone() };
    let path = Path::of(&["v1", "watches"]);
    let (status, watch): (_, WatchView) = post(&path, &request, patience, client, console).await?;
    let is_new = status == StatusCode::ACCEPTED;
    let word = if is_new { "accepted" } else { "existing" };
    match args.output {
        Format::Table => writeln!(console.out, "{} {word}", clean(job_id.as_str()))?,
        Format::Json if args.wait => {}
        Format::Json => writeln!(console.out, "{}", serde_json::to_string(&watch)?)?,
    }
    *(if is_new { &mut registered.accepted } else { &mut registered.existing }) += 1;
    if patience.is_some() {
        registered.follow(&watch.source, job_id.clone());
    }
    Ok(())
}

async fn register_many(
    template: &WatchRequest,
    chunk: Vec<JobId>,
    args: &WatchArgs,
    patience: Option<&Patience>,
    client: &Client,
    console: &mut Console<'_>,
    registered: &mut Registered,
) -> Result<()> {
    let watches = chunk
        .iter()
        .map(|job_id| {
            serde_json::value::to_raw_value(&WatchRequest { job_id: job_id.to_string(), ..template.clone() })
        })
        .collect::<Result<_, _>>()?;
    let path = Path::of(&["v1", "watches", "batch"]);
    let (_, answer): (_, BatchAnswer) =
        post(&path, &BatchRequest { watches }, patience, client, console).await?;
    registered.accepted += answer.accepted;
    registered.existing += answer.existing;
    let rejected: HashSet<usize> = answer.rejected.iter().map(|one| one.index).collect();
    for one in &answer.rejected {
        let job_id = chunk.get(one.index).map_or("?", JobId::as_str);
        registered.reject(console, args.output, job_id, (&one.code, &one.detail))?;
    }
    if !args.wait && args.output != Format::Json {
        return Ok(());
    }
    let source = client.source(args.source.as_deref()).await?;
    let kept = chunk.into_iter().enumerate().filter(|(index, _)| !rejected.contains(index));
    let kept = kept.map(|(_, job_id)| job_id);
    if args.wait {
        kept.for_each(|job_id| registered.follow(&source, job_id));
    } else {
        print_watches(&source, kept, client, console).await?;
    }
    Ok(())
}

/// Prints the watches of jobs, a line of JSON each: the answer to a batch does not show them.
async fn print_watches(
    source: &str,
    jobs: impl Iterator<Item = JobId>,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<()> {
    let paths = jobs.map(|job_id| Path::of(&["v1", "watches", source, job_id.as_str()]));
    let mut watches = stream::iter(paths.map(async |path| client.text(&path).await)).buffered(AT_ONCE);
    while let Some(watch) = watches.next().await {
        writeln!(console.out, "{}", watch?.trim_end())?;
    }
    Ok(())
}

/// Sends a registration. One that is to be waited for is sent until the daemon answers: repeating it does no harm.
async fn post<B: Serialize, A: DeserializeOwned>(
    path: &Path,
    body: &B,
    patience: Option<&Patience>,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<(StatusCode, A)> {
    let send = async |_: &mut Console<'_>| {
        let answer = client.post(path, Some(body)).await?;
        let status = answer.status();
        Ok((status, client.parse(&client.read_text(answer).await?)?))
    };
    match patience {
        Some(patience) => patience.ask(client, console, send).await,
        None => Ok(send(console).await?),
    }
}

/// What all requests have in common.
fn template(args: &WatchArgs) -> Result<WatchRequest> {
    let secret = SecretSource::of(None, args.callback_secret_file.as_deref());
    let secret = secret.map(|source| source.get()).transpose()?;
    Ok(WatchRequest {
        job_id: String::new(),
        source: args.source.clone(),
        vars: args.var.iter().cloned().collect(),
        labels: args.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        sinks: if args.sink.is_empty() { None } else { Some(args.sink.clone()) },
        callback: args
            .callback
            .clone()
            .map(|url| CallbackRequest { url, secret: secret.map(|secret| secret.expose().to_owned()) }),
        deadline: args.deadline.clone(),
    })
}

/// How many jobs one request may hold: no id takes more than twice its bytes in JSON, as it holds no
/// control characters.
fn chunk_size(template: &WatchRequest) -> Result<usize> {
    let entry = serde_json::to_vec(template)?.len() + 2 * crate::model::job::MAX_JOB_ID;
    Ok((CHUNK_BYTES / entry).clamp(1, CHUNK))
}

/// The ids of the command line, those of stdin in the place of `-`.
struct Ids<'a> {
    given: std::slice::Iter<'a, String>,
    reading: bool,
}

impl<'a> Ids<'a> {
    fn new(given: &'a [String]) -> Self {
        Self { given: given.iter(), reading: false }
    }

    fn next(&mut self, input: &mut dyn BufRead) -> Result<Option<String>> {
        loop {
            if self.reading {
                let mut line = String::new();
                if input.read_line(&mut line).context("stdin cannot be read")? == 0 {
                    self.reading = false;
                    continue;
                }
                let id = line.trim();
                if !id.is_empty() && !id.starts_with('#') {
                    return Ok(Some(id.to_owned()));
                }
                continue;
            }
            match self.given.next() {
                Some(id) if id == "-" => self.reading = true,
                id => return Ok(id.cloned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(given: &[&str], mut input: &[u8]) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|&id| id.to_owned()).collect();
        let mut ids = Ids::new(&given);
        std::iter::from_fn(|| ids.next(&mut input).unwrap()).collect()
    }

    #[test]
    fn a_dash_stands_for_the_lines_of_stdin() {
        let lines = b"job_1\r\n\n  # yesterday's\n  job 2  \n#x\njob_3";
        assert_eq!(ids(&["a", "-", "b"], lines), ["a", "job_1", "job 2", "job_3", "b"]);
        assert_eq!(ids(&["a"], lines), ["a"]);
        assert!(ids(&["-"], b"").is_empty());
    }

    #[test]
    fn heavy_labels_make_small_chunks() {
        let mut request = WatchRequest {
            vars: BTreeMap::new(),
            job_id: String::new(),
            source: None,
            labels: BTreeMap::new(),
            sinks: None,
            callback: None,
            deadline: None,
        };
        assert_eq!(chunk_size(&request).unwrap(), CHUNK);
        request.labels = (0..16).map(|n| (n.to_string(), "ü".repeat(512))).collect();
        let entries = chunk_size(&request).unwrap();
        assert!(entries * serde_json::to_vec(&request).unwrap().len() < CHUNK_BYTES, "{entries}");
        assert!(entries > 100);
    }
}
