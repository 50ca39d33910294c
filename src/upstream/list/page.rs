//! Requests one page of a list, and reads it as it arrives.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{ListFilter, ListProfile, next::Turned};
use crate::{
    model::{
        job::JobId,
        status_answer::{StatusAnswer, StatusClass},
    },
    upstream::{
        Failure, Source, SourceKind,
        decode::Decoded,
        failure::{foreign, refusal, timed_out},
        request::SourceRequest,
        times::SourceClock,
    },
    util::{
        clock,
        json_slice::{ItemScan, NotJson, Raw, Values},
        units::{Size, Time},
    },
};

/// The most items of a page.
const MAX_ITEMS: usize = 10_000;

/// The least size that a page may have, whatever the size of a result: lists repeat what they list.
const LEAST_PAGE: u64 = 64 << 20;

/// After each further part of this size, the rest of a page may take as long as a request.
const PART: u64 = 1 << 20;

/// A job as a list shows it.
#[derive(Clone, Debug)]
pub struct ListedJob {
    /// Its id.
    pub id: JobId,
    /// What the item says, read as a status body is. It has neither metadata nor the job's error.
    pub answer: StatusAnswer,
    /// When it was created, by our clock.
    pub created_at: Option<Time>,
    /// When it finished, by our clock.
    pub ended_at: Option<Time>,
}

impl ListedJob {
    /// Returns whether the item says that the job has finished.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        matches!(self.answer.class, StatusClass::Finished(_))
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct ListPage {
    /// Its jobs, in their order.
    pub jobs: Vec<ListedJob>,
    /// The address of the next page. `None`: this is the last.
    pub next: Option<String>,
    /// Items that are none: without an id, or with one that cannot be an id.
    pub odd: usize,
    /// Its size in bytes.
    pub bytes: u64,
    /// The HTTP status, the media type, and the time that the page took.
    pub exchange: (u16, String, Duration),
}

impl Source {
    /// Returns the address of the first page of a list.
    ///
    /// # Errors
    /// If a variable is missing, or the address is of another origin.
    pub fn list_address(&self, list: &ListProfile, filter: &ListFilter) -> Result<String, Failure> {
        let text = list.path.fill("", &[&list.item.vars], None);
        let text =
            text.map_err(|error| Failure::Refused(format!("the list cannot be requested: {error}")))?;
        let mut address = self.absolute(text)?;
        if !self.is_own(&address) {
            return Err(foreign(&address));
        }
        for (name, value) in filter.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v))) {
            address.push(if address.contains('?') { '&' } else { '?' });
            let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
            address.push_str(&pair);
        }
        Ok(address)
    }

    /// Requests a page of a list.
    ///
    /// # Errors
    /// See [`Failure`]. An answer that is no page of this list is [`Failure::Transient`].
    pub async fn list_page(
        &self,
        kind: &SourceKind,
        list: &ListProfile,
        address: &str,
    ) -> Result<ListPage, Failure> {
        let no_url = |_| Failure::Refused("the address of the list is no URL".to_owned());
        let url = Url::parse(address).map_err(no_url)?;
        let start = Instant::now();
        let response = self.send(kind, &SourceRequest::get(address.to_owned())).await?;
        if let Some(failure) = refusal(&response) {
            return Err(of_list(failure));
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or("no content-type").to_owned();
        let source_clock = SourceClock::of(&headers, clock::now());
        let page = self.read_list(PageReader::new(list, source_clock), Decoded::of(response)?).await?;
        let exchange = (status, media_type, start.elapsed());
        Ok(ListPage { exchange, ..page.page(&url, &headers)? })
    }

    async fn read_list<'a>(
        &self,
        mut page: PageReader<'a>,
        mut response: Decoded,
    ) -> Result<PageReader<'a>, Failure> {
        let (start, limit) = (Instant::now(), self.config.timeout);
        let max = self.config.max_job_size.0.max(LEAST_PAGE);
        loop {
            let parts = u32::try_from(page.scan.read() / PART).unwrap_or(u32::MAX);
            let until = start + limit.0.saturating_mul(parts.saturating_add(1)).min(Duration::from_hours(1));
            let chunk = timeout_at(until, response.chunk()).await.map_err(|_| timed_out(limit))??;
            let Some(chunk) = chunk else { return Ok(page) };
            page.push(&chunk)?;
            if page.scan.read() > max {
                return Err(Failure::Transient(format!("the page of the list is larger than {}", Size(max))));
            }
        }
    }
}

/// A page that is being read.
pub(super) struct PageReader<'a> {
    scan: ItemScan,
    items: Items<'a>,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(list: &'a ListProfile, clock: SourceClock) -> Self {
        Self {
            scan: ItemScan::new(&list.around, &list.at, &list.item.wanted),
            items: Items { list, clock, jobs: Vec::new(), last_id: None, count: 0 },
        }
    }

    /// Reads some bytes of the page.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { scan, items } = self;
        scan.push(bytes, |values| items.add(&values)).map_err(|error| no_json(&error))?;
        if items.count > MAX_ITEMS {
            return Err(Failure::Transient(format!("the page of the list has more than {MAX_ITEMS} items")));
        }
        Ok(())
    }

    /// Returns the page once it has been read.
    pub(super) fn page(mut self, address: &Url, headers: &HeaderMap) -> Result<ListPage, Failure> {
        self.scan.finish().map_err(|error| no_json(&error))?;
        let Items { list, jobs, last_id, count, .. } = self.items;
        if !self.scan.has_list() {
            let place =
                if list.at.is_empty() { "as its body".to_owned() } else { format!("at `{}`", list.at) };
            return Err(Failure::Transient(format!("the answer has no list {place}")));
        }
        if jobs.is_empty() && count > 0 {
            let at = &list.id_at[0];
            return Err(Failure::Transient(format!(
                "the list has {count} items, and none has the id of a job at `{at}`"
            )));
        }
        let (values, last_id) = (self.scan.values(), last_id.as_deref());
        let turned = Turned { address, headers, values, last_id, is_empty: count == 0 };
        Ok(ListPage {
            next: list.next.after(&turned),
            odd: count - jobs.len(),
            jobs,
            bytes: self.scan.read(),
            exchange: (200, String::new(), Duration::ZERO),
        })
    }
}

fn no_json(error: &NotJson) -> Failure {
    if matches!(error, NotJson::Unexpected { byte: b'<', .. }) {
        return Failure::Transient("the list is an HTML page, not JSON".to_owned());
    }
    Failure::Transient(format!("the list is no JSON: {error}"))
}

/// The items of a page so far.
struct Items<'a> {
    list: &'a ListProfile,
    clock: SourceClock,
    jobs: Vec<ListedJob>,
    /// The last word at the place of an id, be it one or not: some APIs take it as a cursor.
    last_id: Option<String>,
    count: usize,
}

impl Items<'_> {
    fn add(&mut self, values: &Values) {
        self.count += 1;
        if self.count > MAX_ITEMS {
            return;
        }
        // A word such as `true` without quotes is no id.
        let word = values.first(&self.list.id_at).and_then(Raw::word);
        let word = word.filter(|word| !["{}", "true", "false"].contains(&word.as_str()));
        self.last_id.clone_from(&word);
        let id = word.and_then(|word| word.parse::<JobId>().ok());
        let answer = self.list.item.answer(values, None).ok();
        self.jobs.extend(id.zip(answer).map(|(id, answer)| self.job(id, answer)));
    }

    fn job(&self, id: JobId, mut answer: StatusAnswer) -> ListedJob {
        // Without a `Date` the times say nothing to the schedule. They still tell older jobs from newer.
        let told = [answer.created_at, answer.ended_at].map(|at| at.filter(|at| self.clock.believes(*at)));
        self.clock.drop_untrue(&mut answer);
        let [created_at, ended_at] = told.map(|at| answer.by_wall_clock(at));
        (answer.metadata, answer.error) = (None, None);
        ListedJob { id, answer, created_at, ended_at }
    }
}

/// Returns the failure of a request for a list: no job is meant by it.
fn of_list(failure: Failure) -> Failure {
    match failure {
        Failure::NotFound => {
            Failure::Transient("the source answered 404 to the request for its list".to_owned())
        }
        Failure::Gone => Failure::Transient("the source answered 410 to the request for its list".to_owned()),
        Failure::Rejected(status) => {
            Failure::Transient(format!("the source answered {status} to the request for its list"))
        }
        failure => failure,
    }
}
