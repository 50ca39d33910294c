//! The one thread that writes. It takes all calls that wait, applies them, writes what they change in one transaction, and only
//! then answers everyone.
//!
//! A connection may die at any moment, also while a commit is on its way. Then the thread connects again and asks the row of the
//! holder whether the commit is durable. If not, it sends the same writes again: no call is applied twice, and none fails that
//! was applied. While the database is away, that commit waits and everything else is refused.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio_postgres::Client;

use super::{
    Opening, Shared,
    commit::{Prepared, try_records},
    fault::Fault,
    holder::{Holder, RENEW, Standing, may_act_until},
    pairs::{Known, Link, PostgresPairs},
    server::ANSWER,
};
use crate::{
    store::{
        REOPEN_FIRST, StoreError,
        backend::Call,
        bodies::SmallBody,
        format::Writes,
        inbox::{Receiver, Sender, inbox},
        keyed::Keyed,
        records::{Committed, Txn},
    },
    util::clock::since_boot,
};

/// The least time from one commit to the next, as long as only the daemon's own steps wait.
const PACE: Duration = Duration::from_millis(5);

/// Callers of a commit whose connection died wait so long for its outcome.
const OUTCOME: Duration = Duration::from_secs(5);

/// The last wait before a database that is away is sought again: the others ask every half second.
const REOPEN_LAST: Duration = Duration::from_secs(2);

/// How often it is said that a database is still away.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Bytes of a commit that the slowest connection takes in a second.
const SLOWEST: u64 = 256 << 10;

/// Waits before a commit whose connection died is sought again, before the database counts as away.
const TRIES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400)];

/// How often it is seen whether all that is open was told.
const TELLING: Duration = Duration::from_millis(5);

/// Bytes of small bodies that one commit has at most, unless one call alone has more.
const MAX_BODIES: usize = 16 << 20;

/// Starts the thread. It ends when the last sender is gone.
pub(super) fn start(shared: &Arc<Shared>, holder: Option<Holder>) -> io::Result<Sender> {
    let (calls, waiting) = inbox();
    let mut writer = Writer {
        shared: Arc::clone(shared),
        holder,
        client: None,
        known: RefCell::default(),
        unknown: None,
        renewed: Instant::now(),
        sent: None,
        reopen: Reopen::now(),
        is_late: false,
        has_let_go: false,
        is_lost: false,
    };
    let run = move || writer.run(&waiting);
    thread::Builder::new().name("store-writer".to_owned()).spawn(run)?;
    Ok(calls)
}

struct Writer {
    shared: Arc<Shared>,
    /// `None` until the database was opened.
    holder: Option<Holder>,
    client: Option<Arc<Client>>,
    known: RefCell<Known>,
    /// A commit whose outcome is unknown. While there is one, the database is away.
    unknown: Option<Unknown>,
    /// When the last write of the holder's row was asked for.
    renewed: Instant,
    /// When the present commit was first sent, since the machine started.
    sent: Option<Duration>,
    reopen: Reopen,
    /// Something that it sent may still arrive: a commit that was given up, or that it lets the database go. A new epoch comes
    /// before the next commit, so that the late one changes nothing, and does not pass for the next one (`model`).
    is_late: bool,
    /// It let the database go, and renews nothing until it commits again.
    has_let_go: bool,
    /// Another process has the database, for good.
    is_lost: bool,
}

/// When it is tried again to reach a database that is away.
struct Reopen {
    due: Instant,
    wait: Duration,
    /// When it was last said that it is away, and why.
    said: Option<(Instant, String)>,
}

impl Reopen {
    fn now() -> Self {
        Self { due: Instant::now(), wait: REOPEN_FIRST, said: None }
    }
}

struct Unknown {
    prepared: Prepared,
    committed: Committed,
    calls: Vec<Box<dyn Call>>,
    since: Instant,
    /// Its callers were told that it failed: it is not sent again.
    is_answered: bool,
}

/// What became of a commit.
enum Outcome {
    Durable,
    Failed(Fault),
    /// The connection died, and there is no other one.
    Unknown(Fault),
    Lost(String),
}

impl Writer {
    fn run(&mut self, waiting: &Receiver) {
        let mut pace = None;
        while let Some(group) = waiting.take(self.idle(), pace) {
            self.tend();
            let mut calls = group.calls.into_iter().peekable();
            while calls.peek().is_some() {
                let (mut some, mut bytes) = (Vec::new(), 0);
                while let Some(call) = calls.next_if(|_| bytes < MAX_BODIES) {
                    bytes += call.bodies().iter().map(|body| body.bytes.len()).sum::<usize>();
                    some.push(call);
                }
                pace = Some(Instant::now() + PACE);
                self.commit(some);
            }
            if !group.saves.is_empty() {
                self.let_go();
            }
            for done in group.saves {
                // The caller may have gone.
                let _ = done.send(());
            }
        }
        self.let_go();
    }

    fn is_open(&self) -> bool {
        self.shared.healthy.load(Ordering::Acquire)
    }

    /// How long it may sleep when nobody calls.
    fn idle(&self) -> Duration {
        let now = Instant::now();
        if self.is_lost {
            return RENEW;
        }
        if self.is_open() {
            return RENEW.saturating_sub(self.renewed.elapsed());
        }
        let reopen = self.reopen.due.saturating_duration_since(now);
        let waiting = self.unknown.as_ref().filter(|unknown| !unknown.is_answered);
        waiting.map_or(reopen, |unknown| reopen.min(OUTCOME.saturating_sub(unknown.since.elapsed())))
    }

    /// Does what is due: says that it is still there, reaches for a database that is away, answers who waited too long.
    fn tend(&mut self) {
        if self.is_lost {
            return;
        }
        if self.is_open() {
            if self.renewed.elapsed() >= RENEW {
                self.renew();
            }
            return;
        }
        if Instant::now() >= self.reopen.due {
            self.open_again();
        }
        if let Some(unknown) = self.unknown.as_mut().filter(|unknown| unknown.since.elapsed() >= OUTCOME) {
            unknown.is_answered = true;
            let reason = "the database went away during the commit; what was asked may be done or not";
            for call in unknown.calls.drain(..) {
                call.answer(Err(StoreError::Unavailable(reason.to_owned())));
            }
        }
    }

    fn renew(&mut self) {
        if self.has_let_go {
            self.renewed = Instant::now();
            return;
        }
        let asked = since_boot();
        let renewed = self.renew_once().or_else(|fault| {
            // The connection may have died while nothing happened.
            self.client = None;
            if fault.may_be_the_connection() { self.renew_once() } else { Err(fault) }
        });
        match renewed {
            Ok(true) => self.holds_since(asked),
            // The row tells who it is.
            Ok(false) => self.identify_holder(),
            Err(fault) => self.fail(fault.into()),
        }
    }

    /// Notes that a request which was sent at `asked` renewed the term.
    fn holds_since(&mut self, asked: Duration) {
        // An answer that took long has left less of the term.
        let took = since_boot().saturating_sub(asked);
        self.renewed = Instant::now().checked_sub(took).unwrap_or_else(Instant::now);
        self.shared.term.extend(may_act_until(asked));
    }

    fn renew_once(&mut self) -> Result<bool, Fault> {
        let Some(holder) = self.holder.clone() else { return Ok(true) };
        let client = self.connected()?;
        if !self.is_late {
            return self.answer_of(async move { holder.renew(&client).await });
        }
        let Some(next) = self.answer_of(async move { holder.advance(&client).await })? else {
            return Ok(false);
        };
        self.shared.epoch.store(next.epoch, Ordering::Relaxed);
        (self.holder, self.is_late) = (Some(next), false);
        Ok(true)
    }

    /// Finds out who holds the database.
    fn identify_holder(&mut self) {
        match self.standing() {
            Ok(Standing::Lost(reason)) => self.lose(&reason),
            // One that was given up arrived late. What this process knows is older.
            Ok(Standing::Done) => self.lose("a commit arrived late"),
            Ok(Standing::Undone) => {}
            Err(fault) => self.fail(fault.into()),
        }
    }

    /// The connection for writing.
    fn connected(&mut self) -> Result<Arc<Client>, Fault> {
        if let Some(client) = self.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let server = self.shared.server.clone();
        let client = self.shared.server.wait(async move { server.connect().await })?;
        Ok(Arc::clone(self.client.insert(client)))
    }

    fn standing(&mut self) -> Result<Standing, Fault> {
        let Some(holder) = self.holder.clone() else { return Ok(Standing::Undone) };
        let client = self.connected()?;
        self.answer_of(async move { holder.standing(&client).await })
    }

    fn try_records(&mut self) -> Result<(), Fault> {
        let client = self.connected()?;
        self.answer_of(async move { try_records(&client).await })
    }

    /// Waits for work that takes as long as a lease at most, or has lost its connection.
    fn answer_of<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.answer_within(ANSWER, work)
    }

    fn answer_within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let server = self.shared.server.clone();
        self.shared.server.wait(async move { server.within(limit, work).await })
    }

    fn commit(&mut self, mut calls: Vec<Box<dyn Call>>) {
        if !self.is_open() {
            return answer(calls, &Err(self.shared.unavailable()));
        }
        if self.is_late {
            self.has_let_go = false;
            self.renew();
            if self.is_late {
                return answer(calls, &Err(self.shared.unavailable()));
            }
        }
        let begun = Instant::now();
        let bodies: Vec<SmallBody> = calls.iter().flat_map(|call| call.bodies().iter().cloned()).collect();
        // In a folder they are durable before the records that name them. In the database they are part of the commit.
        if let Err(error) = self.shared.bodies.append(bodies.iter()) {
            let error = StoreError::from(error);
            tracing::error!(%error, "jobs not stored; their callers try again");
            let (with, without) = calls.into_iter().partition(|call| !call.bodies().is_empty());
            answer(with, &Err(error));
            calls = without;
        }
        let staged = RefCell::new(Writes::new());
        let committed = self.apply(&mut calls, &staged);
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                self.known.borrow_mut().forget();
                // A read failed on two connections.
                if matches!(error, StoreError::Unavailable(_)) {
                    self.fail(error.clone());
                }
                return answer(calls, &Err(error));
            }
        };
        let Some(holder) = &self.holder else { return };
        let bodies = if self.shared.database_bodies.is_some() { bodies.as_slice() } else { &[] };
        let number = holder.commits + 1;
        self.sent = None;
        let prepared = Prepared::new(number, staged.into_inner(), &self.known.borrow(), bodies);
        if prepared.is_empty() {
            return self.finish(None, committed, calls);
        }
        match self.submit(&prepared, false) {
            Outcome::Durable => {
                self.shared.listeners.emit_flush(begun.elapsed());
                self.finish(Some(prepared), committed, calls);
            }
            Outcome::Failed(fault) => {
                self.known.borrow_mut().forget();
                match &fault {
                    Fault::Changed => self.identify_holder(),
                    _ => self.fail(fault.clone().into()),
                }
                let error = if self.is_lost { self.shared.unavailable() } else { fault.into() };
                answer(calls, &Err(error));
            }
            Outcome::Unknown(fault) => {
                self.fail(fault.into());
                self.unknown = Some(Unknown { prepared, committed, calls, since: begun, is_answered: false });
            }
            Outcome::Lost(reason) => {
                self.lose(&reason);
                answer(calls, &Err(self.shared.unavailable()));
            }
        }
    }

    fn apply(&self, calls: &mut [Box<dyn Call>], staged: &RefCell<Writes>) -> Result<Committed, StoreError> {
        let (server, unreadable) = (&self.shared.server, &self.shared.unreadable);
        let link = Link::Writer { known: &self.known, staged };
        let records = Keyed(PostgresPairs { server, unreadable, link });
        let mut txn = Txn::new(&records);
        for call in calls {
            call.apply(&mut txn)?;
        }
        txn.finish()
    }

    /// Sends a commit until its outcome is known, or there is no connection. `is_sent`: it may be durable already.
    fn submit(&mut self, prepared: &Prepared, is_sent: bool) -> Outcome {
        let (mut is_sent, mut last) = (is_sent, None);
        for wait in TRIES {
            if last.is_some() {
                #[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do")]
                thread::sleep(wait);
            }
            let fault = match self.submit_once(prepared, is_sent) {
                Outcome::Unknown(fault) => fault,
                outcome => {
                    self.is_late |= is_sent && matches!(outcome, Outcome::Failed(_));
                    return outcome;
                }
            };
            tracing::debug!(%fault, "connection lost during a commit");
            self.client = None;
            if !fault.may_be_the_connection() {
                return Outcome::Unknown(fault);
            }
            (is_sent, last) = (true, Some(fault));
        }
        Outcome::Unknown(last.unwrap_or(Fault::Changed))
    }

    fn submit_once(&mut self, prepared: &Prepared, is_sent: bool) -> Outcome {
        if is_sent {
            match self.standing() {
                Ok(Standing::Done) => return Outcome::Durable,
                Ok(Standing::Undone) => {}
                Ok(Standing::Lost(reason)) => return Outcome::Lost(reason),
                Err(fault) if fault.is_away() => return Outcome::Unknown(fault),
                Err(fault) => return Outcome::Unknown(Fault::Away(fault.to_string())),
            }
        }
        let Some(holder) = self.holder.clone() else { return Outcome::Failed(Fault::Changed) };
        let client = match self.connected() {
            Ok(client) => client,
            Err(fault) => return Outcome::Unknown(fault),
        };
        self.sent.get_or_insert_with(since_boot);
        let sent = prepared.clone();
        let limit = ANSWER + Duration::from_secs(prepared.body_bytes() / SLOWEST);
        match self.answer_within(limit, async move { sent.run(&client, &holder).await }) {
            Ok(()) => Outcome::Durable,
            Err(fault) if fault.is_away() => Outcome::Unknown(fault),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    /// Notes a commit that is durable, tells of it, and answers its callers.
    fn finish(&mut self, prepared: Option<Prepared>, committed: Committed, calls: Vec<Box<dyn Call>>) {
        if let Some(prepared) = prepared {
            if let Some(sent) = self.sent.take() {
                self.holds_since(sent);
            }
            if let Some(holder) = &mut self.holder {
                holder.commits = prepared.number;
            }
            if let Some(bodies) = &self.shared.database_bodies {
                bodies.added(prepared.body_bytes());
            }
            let mut known = self.known.borrow_mut();
            prepared.note(&mut known);
            known.bound(self.shared.cache);
        }
        self.shared.listeners.emit(committed);
        answer(calls, &Ok(()));
    }

    /// The database is away, or refuses to write.
    fn fail(&mut self, error: StoreError) {
        self.client = None;
        if self.shared.healthy.swap(false, Ordering::AcqRel) {
            tracing::error!(%error, "the database failed; new watches are refused until it is back");
            let said = Some((Instant::now(), error.to_string()));
            self.reopen = Reopen { due: Instant::now() + REOPEN_FIRST, said, ..Reopen::now() };
        }
        self.shared.set_trouble(Some(error));
    }

    fn open_again(&mut self) {
        let opened = match self.holder {
            Some(_) => self.resume(),
            None => self.open(),
        };
        if let Err(fault) = opened {
            self.reopen.wait = (self.reopen.wait * 2).min(REOPEN_LAST);
            self.reopen.due = Instant::now() + self.reopen.wait;
            let error = StoreError::from(fault);
            let reason = error.to_string();
            let is_said = |(at, said): &(Instant, String)| at.elapsed() < SAID_AGAIN && *said == reason;
            if !self.reopen.said.as_ref().is_some_and(is_said) {
                tracing::error!(%error, "the database cannot be used yet; it is tried again and again");
                self.reopen.said = Some((Instant::now(), reason));
            }
            self.client = None;
            self.shared.set_trouble(Some(error));
        }
    }

    /// Opens a database that was away when the daemon started.
    fn open(&mut self) -> Result<(), Fault> {
        match self.shared.take_database() {
            Opening::Open(holder) => {
                self.holder = Some(holder);
                self.healthy_again();
                Ok(())
            }
            Opening::Away(fault) => Err(fault),
            Opening::Refused(error) => {
                self.lose(&error.to_string());
                Ok(())
            }
        }
    }

    /// Takes up where it stopped when the database went away.
    fn resume(&mut self) -> Result<(), Fault> {
        let Some(Unknown { prepared, committed, calls, since, is_answered }) = self.unknown.take() else {
            return match self.standing()? {
                Standing::Undone => {
                    // It takes writes again, and not only connections.
                    self.try_records()?;
                    let asked = since_boot();
                    if self.renew_once()? {
                        self.holds_since(asked);
                        self.back();
                    }
                    Ok(())
                }
                Standing::Done => {
                    self.lose("somebody else counted a commit");
                    Ok(())
                }
                Standing::Lost(reason) => {
                    self.lose(&reason);
                    Ok(())
                }
            };
        };
        let outcome = match is_answered {
            false => self.submit(&prepared, true),
            // Its callers try again by themselves.
            true => match self.standing() {
                Ok(Standing::Done) => Outcome::Durable,
                Ok(Standing::Undone) => {
                    self.is_late = true;
                    Outcome::Failed(Fault::Changed)
                }
                Ok(Standing::Lost(reason)) => Outcome::Lost(reason),
                Err(fault) => Outcome::Unknown(fault),
            },
        };
        match outcome {
            Outcome::Durable => {
                self.finish(Some(prepared), committed, calls);
                self.back();
                Ok(())
            }
            Outcome::Failed(fault) => {
                self.known.borrow_mut().forget();
                answer(calls, &Err(fault.clone().into()));
                match fault {
                    Fault::Changed => {
                        self.back();
                        Ok(())
                    }
                    fault => Err(fault),
                }
            }
            Outcome::Unknown(fault) => {
                self.unknown = Some(Unknown { prepared, committed, calls, since, is_answered });
                Err(fault)
            }
            Outcome::Lost(reason) => {
                self.lose(&reason);
                answer(calls, &Err(self.shared.unavailable()));
                Ok(())
            }
        }
    }

    fn healthy_again(&mut self) {
        self.shared.set_trouble(None);
        self.shared.healthy.store(true, Ordering::Release);
        tracing::info!("the database is open");
        if let Err(error) = self.shared.opened() {
            tracing::error!(%error, "the newest event could not be read");
        }
    }

    /// As [`healthy_again`](Self::healthy_again), after the tasks of the daemon met failures. A step that failed may be done
    /// all the same, and what a task could not read it may have let go. So all that is open is told again.
    fn back(&mut self) {
        self.healthy_again();
        let shared = Arc::clone(&self.shared);
        // They may be many, and the term must not end meanwhile.
        let told = thread::scope(|scope| {
            let telling = scope.spawn(|| shared.listeners.emit_open(&Keyed(shared.pairs())));
            while !telling.is_finished() {
                #[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do")]
                thread::sleep(TELLING);
                if self.is_open() && self.renewed.elapsed() >= RENEW {
                    self.renew();
                }
            }
            telling.join()
        });
        match told.unwrap_or_else(|_| Err(StoreError::Damaged("reading it panicked".to_owned()))) {
            Ok(()) => {}
            // It went away again, and is back later.
            Err(error @ StoreError::Unavailable(_)) => self.fail(error),
            Err(error) => tracing::error!(%error, "what is open could not be read; a restart takes it up"),
        }
    }

    /// Another process has the database, or it is not what it was. Nothing is written any more.
    fn lose(&mut self, reason: &str) {
        tracing::error!(reason, "the database is not this process's any more; nothing is written to it");
        self.is_lost = true;
        self.shared.term.end();
        self.client = None;
        self.shared.healthy.store(false, Ordering::Release);
        self.shared.set_trouble(Some(StoreError::Unavailable(reason.to_owned())));
        self.shared.listeners.lost(reason);
    }

    /// Lets the next process have the database without a wait, and does nothing beside it.
    fn let_go(&mut self) {
        let Some(holder) = self.holder.clone().filter(|_| self.is_open()) else { return };
        self.shared.term.end();
        (self.is_late, self.has_let_go) = (true, true);
        let done =
            self.connected().and_then(|client| self.answer_of(async move { holder.let_go(&client).await }));
        if let Err(fault) = done {
            tracing::warn!(%fault, "database not let go; the next process waits until the term is over");
        }
    }
}

fn answer(calls: Vec<Box<dyn Call>>, result: &Result<(), StoreError>) {
    for call in calls {
        call.answer(result.clone());
    }
}

impl Shared {
    /// Why nothing can be written.
    pub(super) fn unavailable(&self) -> StoreError {
        let trouble = self.trouble.read().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().unwrap_or_else(|| StoreError::Unavailable("the database is away".to_owned()))
    }

    pub(super) fn set_trouble(&self, trouble: Option<StoreError>) {
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
