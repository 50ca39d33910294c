//! Registers jobs with the daemon, many in one request.

use std::{collections::HashSet, mem};

use anyhow::Result;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{WatchArgs, ids::Ids};
use crate::{
    api::{
        Code,
        view::{BatchAnswer, BatchRequest, CallbackRequest, WatchRequest, WatchView},
    },
    cli::{
        args::Format,
        client::{Client, Path},
        console::Console,
        exit::BadUsage,
        phrases::clean,
        waiting::{AwaitedJob, RetryLimit},
    },
    model::job::{JobId, MAX_JOB_ID},
    util::secret::SecretSource,
};

/// The most jobs of one request.
const CHUNK: usize = 1000;

/// The most bytes of one request, well under the bound of the API: labels come with every job.
const CHUNK_BYTES: usize = 4 << 20;

/// Watches asked for at once.
const AT_ONCE: usize = 16;

/// The results of registering.
#[derive(Default)]
pub(super) struct Registered {
    pub accepted: u64,
    pub existing: u64,
    pub rejected: u64,
    /// The jobs to wait for, each once.
    pub jobs: Vec<AwaitedJob>,
    seen: HashSet<JobId>,
}

impl Registered {
    fn await_job(&mut self, source: &str, kind: Option<String>, job_id: JobId) {
        if self.seen.insert(job_id.clone()) {
            self.jobs.push(AwaitedJob { source: source.to_owned(), job_id, kind });
        }
    }

    pub(super) fn into_jobs(self) -> Vec<AwaitedJob> {
        self.jobs
    }
}

/// The registration of all jobs of a command line.
pub(super) struct Registration<'a, 'b> {
    args: &'a WatchArgs,
    /// The fields that all requests have in common.
    template: WatchRequest,
    /// Set if the command waits. Then it repeats each request until the daemon answers: registering twice does no harm.
    retry: Option<RetryLimit>,
    client: &'a Client,
    console: &'a mut Console<'b>,
    registered: Registered,
}

impl<'a, 'b> Registration<'a, 'b> {
    /// Prepares the requests.
    ///
    /// # Errors
    /// When the secret of the callback cannot be read.
    pub(super) fn new(
        args: &'a WatchArgs,
        retry: Option<RetryLimit>,
        client: &'a Client,
        console: &'a mut Console<'b>,
    ) -> Result<Self> {
        let template = template(args)?;
        Ok(Self { args, template, retry, client, console, registered: Registered::default() })
    }

    /// Registers every job.
    ///
    /// # Errors
    /// When the daemon does not answer or needs the name of the source, or the output is closed.
    pub(super) async fn run(mut self) -> Result<Registered> {
        let chunk_size = chunk_size(&self.template)?;
        let mut chunk: Vec<JobId> = Vec::new();
        let mut is_first = true;
        let mut ids = Ids::new(&self.args.job_ids);
        loop {
            let next = ids.next(self.console.input)?;
            match &next {
                Some(text) => match text.parse::<JobId>() {
                    Ok(job_id) => chunk.push(job_id),
                    Err(error) => self.reject(text, Code::InvalidJobId.as_str(), &error.to_string())?,
                },
                // A single job has a route of its own, whose answer says more.
                None if is_first && chunk.len() == 1 => {
                    self.register_one(&chunk[0]).await?;
                    break;
                }
                None => {}
            }
            if chunk.len() >= chunk_size || (next.is_none() && !chunk.is_empty()) {
                self.register_many(mem::take(&mut chunk)).await?;
                is_first = false;
            }
            if next.is_none() {
                break;
            }
        }
        Ok(self.registered)
    }

    fn reject(&mut self, job_id: &str, code: &str, detail: &str) -> Result<()> {
        self.registered.rejected += 1;
        self.console.note(&format!("{} was refused: {} ({})", clean(job_id), clean(detail), clean(code)));
        if self.args.output == Format::Json {
            let line = json!({"job_id": job_id, "code": code, "detail": detail});
            writeln!(self.console.out, "{line}")?;
        }
        Ok(())
    }

    async fn register_one(&mut self, job_id: &JobId) -> Result<()> {
        let request = WatchRequest { job_id: job_id.to_string(), ..self.template.clone() };
        let (status, watch): (_, WatchView) = self.post(&Path::of(&["v1", "watches"]), &request).await?;
        let is_new = status == StatusCode::ACCEPTED;
        let word = if is_new { "accepted" } else { "existing" };
        match self.args.output {
            Format::Table => writeln!(self.console.out, "{} {word}", clean(job_id.as_str()))?,
            Format::Json if self.args.wait => {}
            Format::Json => writeln!(self.console.out, "{}", serde_json::to_string(&watch)?)?,
        }
        let registered = &mut self.registered;
        *(if is_new { &mut registered.accepted } else { &mut registered.existing }) += 1;
        if self.args.wait {
            registered.await_job(&watch.source, watch.kind.clone(), job_id.clone());
        }
        Ok(())
    }

    async fn register_many(&mut self, chunk: Vec<JobId>) -> Result<()> {
        let request = |job_id: &JobId| WatchRequest { job_id: job_id.to_string(), ..self.template.clone() };
        let watches = chunk.iter().map(|job_id| serde_json::value::to_raw_value(&request(job_id)));
        let body = BatchRequest { watches: watches.collect::<Result<_, _>>()?, close_group: false };
        let path = Path::of(&["v1", "watches", "batch"]);
        let (_, answer): (_, BatchAnswer) = self.post(&path, &body).await?;
        // All jobs have the source of the command line, so the mistake is the same for each.
        if let Some(one) = answer.rejected.iter().find(|one| one.code == Code::SourceMissing.as_str()) {
            return Err(BadUsage::new(&one.detail).hint("name the source with --source").into());
        }
        self.registered.accepted += answer.accepted;
        self.registered.existing += answer.existing;
        let rejected: HashSet<usize> = answer.rejected.iter().map(|one| one.index).collect();
        for one in &answer.rejected {
            let job_id = chunk.get(one.index).map_or("?", JobId::as_str);
            self.reject(job_id, &one.code, &one.detail)?;
        }
        if !self.args.wait && self.args.output != Format::Json {
            return Ok(());
        }
        let source = self.client.source(self.args.source.as_deref()).await?;
        let kept = chunk.into_iter().enumerate().filter(|(index, _)| !rejected.contains(index));
        let kept = kept.map(|(_, job_id)| job_id);
        if self.args.wait {
            let kind = self.args.kind.clone();
            kept.for_each(|job_id| self.registered.await_job(&source, kind.clone(), job_id));
            return Ok(());
        }
        self.print_watches(&source, kept).await
    }

    /// Prints the watches of `jobs`, a line of JSON each: the answer to a batch does not hold them.
    async fn print_watches(&mut self, source: &str, jobs: impl Iterator<Item = JobId>) -> Result<()> {
        let kind = self.args.kind.as_deref();
        let paths =
            jobs.map(|job_id| Path::of(&["v1", "watches", source, job_id.as_str()]).maybe("kind", kind));
        let watches = paths.map(async |path| self.client.text(&path).await);
        let mut watches = stream::iter(watches).buffered(AT_ONCE);
        while let Some(watch) = watches.next().await {
            writeln!(self.console.out, "{}", watch?.trim_end())?;
        }
        Ok(())
    }

    async fn post<B: Serialize, A: DeserializeOwned>(
        &mut self,
        path: &Path,
        body: &B,
    ) -> Result<(StatusCode, A)> {
        let client = self.client;
        let send = async |_: &mut Console<'_>| {
            let answer = client.post(path, Some(body)).await?;
            let status = answer.status();
            Ok((status, client.parse(&client.read_text(answer).await?)?))
        };
        match self.retry {
            Some(retry) => retry.ask(client, self.console, send).await,
            None => Ok(send(self.console).await?),
        }
    }
}

/// Returns the fields that all requests have in common.
fn template(args: &WatchArgs) -> Result<WatchRequest> {
    let secret = SecretSource::of(None, args.callback_secret_file.as_deref());
    let secret = secret.map(|source| source.get()).transpose()?;
    let secret = secret.map(|secret| secret.expose().to_owned());
    Ok(WatchRequest {
        job_id: String::new(),
        source: args.source.clone(),
        kind: args.kind.clone(),
        vars: args.var.iter().cloned().collect(),
        labels: args.label.iter().cloned().collect(),
        group: args.group.clone(),
        sinks: if args.sink.is_empty() { None } else { Some(args.sink.clone()) },
        callback: args.callback.clone().map(|url| CallbackRequest { url, secret }),
        deadline: args.deadline.clone(),
    })
}

/// Returns the most jobs of one request. An id takes at most twice its bytes in JSON: it holds no control characters.
fn chunk_size(template: &WatchRequest) -> Result<usize> {
    let entry = serde_json::to_vec(template)?.len() + 2 * MAX_JOB_ID;
    Ok((CHUNK_BYTES / entry).clamp(1, CHUNK))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn heavy_labels_make_small_chunks() {
        let mut request = WatchRequest {
            vars: BTreeMap::new(),
            job_id: String::new(),
            source: None,
            kind: None,
            labels: BTreeMap::new(),
            group: None,
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
