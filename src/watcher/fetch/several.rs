//! Fetches several results of one finished job, one after the other, into one body. Nothing of a
//! fetch that broke off is kept: the next one begins again.

use std::{collections::HashSet, io, sync::Arc};

use super::{
    FetchError, Fetched,
    body::{CheckedBody, JSONL, ReceivedBody, check},
    is_early,
    join::{JoinedPage, append_items},
    keep, known,
    part::cut_to_part,
};
use crate::{
    model::{job::Outcome, status_answer::StatusClass},
    store::{Completion, Incoming, Said, StoredBody, Watch},
    upstream::{
        Failure, ItemValues, JobStream, NextPlace, PageAnswer, Pages, ResultPlace, ResultRequest, ResultSpec,
        SourceKind, SourceRequest,
    },
    util::{
        composite::{self, ValueForm},
        json_slice::{Pointers, Scan, Values, copy_value},
    },
    watcher::{SourceState, in_flight::InFlight, job_of},
};

/// The requests of a fetch that take turns with those of other jobs. When it needs more, or is tried again, it takes what they
/// leave: it may ask for ever.
const PROMPT: usize = 4;

/// The most pages of one result.
const MAX_PAGES: usize = 10_000;

/// The most bytes of the list whose items are requested, and the most items.
const MAX_LIST: usize = 8 << 20;
const MAX_ITEMS: usize = 10_000;

/// The longest word of an item or a status body that goes into a path.
const MAX_WORD: usize = 8 << 10;

/// A result, or the status, that is whole.
struct Part {
    incoming: Incoming,
    /// Its media type, if it is not JSON.
    media_type: Option<String>,
}

impl Part {
    fn form(&self) -> ValueForm {
        match (&self.media_type, self.incoming.is_text()) {
            (None, true) => ValueForm::Json,
            (Some(media_type), true) => ValueForm::Text(media_type.clone()),
            (media_type, false) => {
                ValueForm::Bytes(media_type.clone().unwrap_or_else(|| "application/json".to_owned()))
            }
        }
    }
}

/// Fetches the status body and every result, and stores them as the body of the job's event.
pub(super) async fn obtain(
    state: &SourceState,
    request: &InFlight,
    watch: &Watch,
    end: &Completion,
    kind: &SourceKind,
) -> Result<Fetched, FetchError> {
    let profile = &kind.profile;
    let mut fetch = SeveralFetch {
        state,
        request,
        watch,
        event_id: &end.event_id,
        kind,
        outcome: end.outcome,
        is_early: is_early(state, end),
        received: 0,
        asked: 0,
    };
    let (mut status, said) = fetch.status(end).await?;
    fetch.outcome = said.as_ref().map_or(end.outcome, |said| said.outcome);
    let words = profile.results.iter().flat_map(ResultSpec::pointers);
    let lists = profile.results.iter().filter_map(|result| result.request()?.each_at.as_deref());
    let pointers = words.map(|pointer| (pointer, MAX_WORD)).chain(lists.map(|pointer| (pointer, MAX_LIST)));
    let body = status.incoming.written().await?;
    let values = values_of(&body, Arc::new(Pointers::new(pointers))).await?;
    if !profile.has_several() {
        let found = match profile.results.first() {
            Some(result) => named(result, fetch.one(result, &body, &values).await)?,
            None => None,
        };
        let Part { incoming, media_type } = found.unwrap_or(status);
        request.arrived();
        return keep(state, watch, end, incoming, CheckedBody { media_type, part: None, said }, None).await;
    }
    let mut whole = state.store.bodies().begin(watch.number, &end.event_id);
    whole = fetch.write(whole, composite::write_head).await?;
    whole = fetch.append(whole, status, |_| Ok(())).await?;
    whole = fetch.write(whole, composite::write_results).await?;
    let mut is_first = true;
    for result in &profile.results {
        let name = result.name.clone();
        let list = result.request().and_then(|request| Some((request, request.each_at.as_deref()?)));
        if let Some((from, each_at)) = list {
            let Some(items) = named(result, items(&values, each_at))? else { continue };
            whole = fetch.write(whole, move |out| composite::write_name(out, &name, is_first)).await?;
            whole = fetch.write(whole, |out| out.write_all(b" [")).await?;
            for (at, item) in items.into_iter().enumerate() {
                let found = named(result, fetch.item(result, from, &values, &item).await)?;
                whole = if let Some(part) = found {
                    let between = move |out: &mut dyn io::Write| {
                        if at > 0 { out.write_all(b",") } else { Ok(()) }
                    };
                    fetch.append(whole, part, between).await?
                } else {
                    // The others keep their places.
                    let null: &[u8] = if at > 0 { b",null" } else { b"null" };
                    fetch.write(whole, move |out| out.write_all(null)).await?
                };
            }
            whole = fetch.write(whole, |out| out.write_all(b"]")).await?;
        } else {
            let Some(part) = named(result, fetch.one(result, &body, &values).await)? else { continue };
            whole = fetch.append(whole, part, move |out| composite::write_name(out, &name, is_first)).await?;
        }
        is_first = false;
    }
    whole = fetch.write(whole, composite::write_tail).await?;
    request.arrived();
    let media_type = Some(composite::MEDIA_TYPE.to_owned());
    keep(state, watch, end, whole, CheckedBody { media_type, part: None, said }, None).await
}

/// Names the result that an error is about.
fn named<T>(result: &ResultSpec, found: Result<T, FetchError>) -> Result<T, FetchError> {
    found.map_err(|error| match error {
        FetchError::Request(Failure::Transient(text)) => {
            Failure::Transient(format!("the result `{}`: {text}", result.name)).into()
        }
        error => error,
    })
}

/// Returns the items of the list at a pointer of the status body; `None` without a list.
fn items(values: &Values, each_at: &str) -> Result<Option<Vec<Vec<u8>>>, FetchError> {
    let Some(raw) = values.at(each_at).filter(|raw| raw.is_there() || raw.elements().is_some()) else {
        return Ok(None);
    };
    let items = raw.elements().map(|items| items.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
    match items {
        Some(items) if items.len() <= MAX_ITEMS => Ok(Some(items)),
        Some(_) => {
            Err(Failure::Transient(format!("the list at `{each_at}` has more than {MAX_ITEMS} items")).into())
        }
        None => {
            let text = format!("the value at `{each_at}` is no list of at most {} MiB", MAX_LIST >> 20);
            Err(Failure::Transient(text).into())
        }
    }
}

/// Reads the values of a status body. One that is no JSON has none.
async fn values_of(body: &StoredBody, pointers: Arc<Pointers>) -> io::Result<Values> {
    let body = body.clone();
    let read = move || {
        let (mut scan, mut text, mut chunk) = (Scan::new(&pointers), body.read()?, vec![0; 64 << 10]);
        loop {
            match io::Read::read(&mut text, &mut chunk) {
                Ok(0) => break,
                Ok(read) if scan.push(&chunk[..read]).is_ok() => {}
                Ok(_) => return Ok(Scan::new(&pointers).into_values()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(scan.into_values())
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// A fetch of several results.
struct SeveralFetch<'a> {
    state: &'a SourceState,
    request: &'a InFlight,
    watch: &'a Watch,
    event_id: &'a str,
    kind: &'a SourceKind,
    outcome: Outcome,
    /// The source may still be publishing results.
    is_early: bool,
    /// Bytes of all answers.
    received: u64,
    /// Requests for results.
    asked: usize,
}

impl SeveralFetch<'_> {
    fn begin(&self) -> Incoming {
        self.state.store.bodies().begin(self.watch.number, self.event_id)
    }

    /// Fetches the status body, and what it says of the end.
    async fn status(&mut self, end: &Completion) -> Result<(Part, Option<Said>), FetchError> {
        let stream = self.state.source.job(job_of(self.watch), Some(""), known(end)).await?;
        if stream.listed.is_some_and(|listed| listed.class == StatusClass::Pending) {
            return Err(FetchError::Running);
        }
        let (part, said) = self.receive(stream, true).await?;
        // An empty answer is no JSON, and the status has a value.
        match part.incoming.size() {
            0 => {
                let mut incoming = self.begin();
                incoming.write(b"null").await?;
                Ok((Part { incoming, media_type: None }, said))
            }
            _ => Ok((part, said)),
        }
    }

    /// Fetches a result that is no list of results.
    async fn one(
        &mut self,
        result: &ResultSpec,
        status: &StoredBody,
        values: &Values,
    ) -> Result<Option<Part>, FetchError> {
        match &result.place {
            ResultPlace::Status(at) => {
                let (at, status) = (at.clone(), status.clone());
                let copy = move |mut to: &mut dyn io::Write| {
                    copy_value(io::BufReader::new(status.read()?), &at, &mut to)
                };
                let (incoming, found) = self.begin().fill(copy).await?;
                if found {
                    return Ok(Some(Part { incoming, media_type: None }));
                }
                self.absent(result)
            }
            ResultPlace::Request(from) => {
                let job = job_of(self.watch);
                match self.state.source.first_page(self.kind, job, from, values, None)? {
                    Some(first) => self.pages(result, from, first).await,
                    None => self.absent(result),
                }
            }
        }
    }

    /// Fetches the result of one item.
    async fn item(
        &mut self,
        result: &ResultSpec,
        from: &ResultRequest,
        values: &Values,
        item: &[u8],
    ) -> Result<Option<Part>, FetchError> {
        let mut scan =
            Scan::new(&Arc::new(Pointers::new(from.item_pointers().map(|pointer| (pointer, MAX_WORD)))));
        // It is a part of a body that was read before.
        let _ = scan.push(item).and_then(|()| scan.finish());
        let item: ItemValues = from.item(scan.values());
        let job = job_of(self.watch);
        match self.state.source.first_page(self.kind, job, from, values, Some(&item))? {
            Some(first) => self.pages(result, from, first).await,
            None => self.absent(result),
        }
    }

    /// Decides about a result that the status body does not name: it is left out, unless it may
    /// still be named.
    fn absent(&self, result: &ResultSpec) -> Result<Option<Part>, FetchError> {
        if result.is_optional || self.outcome != Outcome::Completed || !self.is_early {
            return Ok(None);
        }
        Err(Failure::Transient("the status does not say yet where it is".to_owned()).into())
    }

    /// Requests a page within the budget.
    async fn ask(
        &mut self,
        result: &ResultSpec,
        request: &SourceRequest,
        pages: Option<&Pages>,
        number: usize,
    ) -> Result<Option<(Part, Option<String>)>, FetchError> {
        // The wait for the budget is the daemon's own.
        self.request.arrived();
        self.asked += 1;
        if self.asked > PROMPT || self.state.has_failed(self.watch.number) {
            self.state.take_spare_token().await;
        } else {
            self.state.take_token().await;
        }
        self.request.sends_again();
        match self.state.source.page(self.kind, request, pages).await? {
            PageAnswer::Missing(_) if number > 1 => {
                Err(Failure::Transient(format!("page {number} is missing")).into())
            }
            PageAnswer::Missing(_) if result.is_optional || self.outcome != Outcome::Completed => Ok(None),
            PageAnswer::Missing(failure) => Err(failure.into()),
            PageAnswer::Found(page) => {
                let (part, _) = self.receive(page.stream, false).await?;
                Ok(Some((part, page.next)))
            }
        }
    }

    /// Fetches all pages of a result, and joins them.
    async fn pages(
        &mut self,
        result: &ResultSpec,
        from: &ResultRequest,
        first: SourceRequest,
    ) -> Result<Option<Part>, FetchError> {
        let Some(pages) = &from.pages else {
            let Some((part, _)) = self.ask(result, &first, None, 1).await? else { return Ok(None) };
            return Ok(Some(self.cut(part, from.at.as_deref()).await?));
        };
        let (mut joined, mut media_type, mut is_begun) = (self.begin(), None, false);
        if pages.items_at.is_some() {
            joined.write(b"[").await?;
        }
        let (mut request, mut asked) = (first, HashSet::new());
        loop {
            if !asked.insert(request.fingerprint()) {
                let text = format!("page {} names one that was fetched before as the next", asked.len());
                return Err(Failure::Transient(text).into());
            }
            if asked.len() > MAX_PAGES {
                return Err(Failure::Transient(format!("it has more than {MAX_PAGES} pages")).into());
            }
            let found = self.ask(result, &request, Some(pages), asked.len()).await?;
            let Some((page, header)) = found else { return Ok(None) };
            let next_at = match &pages.next {
                NextPlace::Body(pointer) => Some(pointer.clone()),
                NextPlace::Header(_) => None,
            };
            let next = if let Some(items_at) = pages.items_at.clone() {
                if let Some(media_type) = page.media_type {
                    let text = format!("page {} is no JSON, but {media_type}", asked.len());
                    return Err(Failure::Transient(text).into());
                }
                let found;
                (joined, found) = append_page(joined, page.incoming, items_at, next_at, is_begun).await?;
                is_begun = found.is_begun;
                found.next.or(header)
            } else {
                media_type = media_type.or(page.media_type);
                joined = append_lines(joined, page.incoming).await?;
                header
            };
            self.check_size(&joined)?;
            match next {
                Some(next) => request = request.next(pages, &next)?,
                None => break,
            }
        }
        if pages.items_at.is_some() {
            joined.write(b"]").await?;
            return Ok(Some(Part { incoming: joined, media_type: None }));
        }
        Ok(Some(Part { incoming: joined, media_type: Some(media_type.unwrap_or_else(|| JSONL.to_owned())) }))
    }

    /// Reads an answer to its end, and checks that it is what it should be.
    async fn receive(
        &mut self,
        mut stream: JobStream,
        is_status: bool,
    ) -> Result<(Part, Option<Said>), FetchError> {
        let mut received = ReceivedBody {
            incoming: self.begin(),
            media_type: stream.content_type.clone(),
            is_status,
            listed: stream.listed,
            is_refusal: false,
            may_be_empty: stream.listed.is_some() || !self.is_early,
        };
        received.incoming.announce(stream.length().unwrap_or_default());
        let max = self.state.source.config.max_job_size;
        while let Some(chunk) = stream.chunk().await? {
            self.request.received(chunk.len());
            self.received += chunk.len() as u64;
            if self.received > max.0 {
                return Err(Failure::TooLarge(max).into());
            }
            received.incoming.write(&chunk).await?;
        }
        let body = received.incoming.written().await?;
        let checked = check(&self.kind.profile, &received, body).await?;
        let part = Part { incoming: received.incoming, media_type: checked.media_type };
        Ok((part, checked.said))
    }

    /// Cuts an answer to the part that is delivered.
    async fn cut(&self, part: Part, at: Option<&str>) -> io::Result<Part> {
        match at.filter(|_| part.media_type.is_none()) {
            None => Ok(part),
            Some(at) => {
                let bodies = self.state.store.bodies();
                let cut = cut_to_part(bodies, self.watch, self.event_id, part.incoming, at.to_owned());
                Ok(Part { incoming: cut.await?, media_type: None })
            }
        }
    }

    /// Appends a part to the whole body, behind what `before` writes.
    async fn append(
        &self,
        whole: Incoming,
        mut part: Part,
        before: impl FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'static,
    ) -> Result<Incoming, FetchError> {
        let (body, form) = (part.incoming.written().await?, part.form());
        let whole = self.write(whole, move |out| {
            before(out)?;
            composite::write_value(out, body.read()?, &form)
        });
        let whole = whole.await?;
        part.incoming.discard().await;
        Ok(whole)
    }

    async fn write(
        &self,
        whole: Incoming,
        fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'static,
    ) -> Result<Incoming, FetchError> {
        let (whole, ()) = whole.fill(fill).await?;
        self.check_size(&whole)?;
        Ok(whole)
    }

    fn check_size(&self, body: &Incoming) -> Result<(), FetchError> {
        let max = self.state.source.config.max_job_size;
        match body.size() > max.0 {
            true => Err(Failure::TooLarge(max).into()),
            false => Ok(()),
        }
    }
}

/// Appends the items of a page to those before.
async fn append_page(
    joined: Incoming,
    mut page: Incoming,
    items_at: String,
    next_at: Option<String>,
    is_begun: bool,
) -> Result<(Incoming, JoinedPage), FetchError> {
    let body = page.written().await?;
    let append =
        move |out: &mut dyn io::Write| append_items(out, &body, &items_at, next_at.as_deref(), is_begun);
    let (joined, found) = joined.fill(append).await?;
    page.discard().await;
    Ok((joined, found.map_err(Failure::Transient)?))
}

/// Appends a page as it is, and ends its last line.
async fn append_lines(joined: Incoming, mut page: Incoming) -> io::Result<Incoming> {
    let body = page.written().await?;
    let append = move |out: &mut dyn io::Write| {
        let (mut text, mut chunk, mut last) = (body.read()?, vec![0; 64 << 10], b'\n');
        loop {
            match io::Read::read(&mut text, &mut chunk) {
                Ok(0) => break,
                Ok(read) => {
                    out.write_all(&chunk[..read])?;
                    last = chunk[read - 1];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if last == b'\n' { Ok(()) } else { out.write_all(b"\n") }
    };
    let (joined, ()) = joined.fill(append).await?;
    page.discard().await;
    Ok(joined)
}
