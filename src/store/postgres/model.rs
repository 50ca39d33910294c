//! A model of lease, fence and count: every order in which a few processes, messages and clocks can go on, up to a bound.
//!
//! It is a plain breadth-first search: the crate `stateright` would bring a web server. A process sends requests while its own
//! clock says that its term is not over. The database knows the holder, and what is left of its term by another clock. A message
//! may arrive late, also after its sender is gone, and an answer may be lost. [`Rules`] are those of `holder` and `writer`; a test
//! takes each one away, and the search must find what goes wrong.

use std::collections::{HashMap, VecDeque};

/// The epoch of the holder, and all before it.
const PRESENT: u8 = 1;
const FORMER: u8 = 9;

/// What keeps processes apart.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that a test takes away")]
struct Rules {
    /// How long before the end of its term a holder sends its last request.
    margin: u8,
    /// A commit compares the holder and its epoch.
    fence: bool,
    /// A commit compares the number of the last one.
    count: bool,
    /// A holder that gives up a commit which may still arrive takes a new epoch first.
    advance: bool,
    /// A holder that lets the database go sends nothing from then on.
    end_before_let_go: bool,
}

const OURS: Rules = Rules { margin: 1, fence: true, count: true, advance: true, end_before_let_go: true };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ask {
    Take,
    Renew,
    /// To take a new epoch, with the number of the last commit.
    Advance(u8),
    LetGo,
    /// Its name, and the number of the commit before it.
    Commit(u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Answer {
    /// The epoch and the number of commits.
    Taken(u8, u8),
    Yes,
    No,
}

/// A request on its way, or its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    from: usize,
    epoch: u8,
    ask: Ask,
    answer: Option<Answer>,
    /// Time since it was asked for by the clock of its sender, and by how much that fell behind.
    age: u8,
    lag: u8,
    /// Nobody waits for the answer.
    is_orphan: bool,
}

/// One that was killed begins as this. One that is stopped does nothing for a while, as any may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    /// 0 for one that is not the holder as far as it knows.
    epoch: u8,
    commits: u8,
    /// The time that is left to it by its own clock, and by how much that fell behind.
    left: u8,
    lag: u8,
    /// The commit whose outcome it does not know.
    pending: Option<u8>,
    /// It gave up a commit that may still arrive.
    is_late: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The row of the holder.
    holder: Option<usize>,
    epoch: u8,
    commits: u8,
    left: u8,
    processes: Vec<Process>,
    messages: Vec<Message>,
    /// How often each commit was applied, and whether its caller was told so.
    applied: Vec<u8>,
    confirmed: Vec<bool>,
    /// A commit of another process than the holder was applied.
    is_foreign: bool,
}

/// How far the search goes.
struct Bounds {
    processes: usize,
    commits: usize,
    /// The length of a term, in units of time.
    term: u8,
    /// How far a clock may fall behind that of the database in the course of a term.
    drift: u8,
    /// Whether a holder may let the database go.
    let_go: bool,
}

impl State {
    fn first(bounds: &Bounds) -> Self {
        let processes = vec![Process::default(); bounds.processes];
        Self { processes, ..Self::default() }
    }

    /// What must never be.
    fn fault(&self) -> Option<&'static str> {
        let sends = |at: &usize| self.may_send(*at);
        let senders: Vec<usize> = (0..self.processes.len()).filter(sends).collect();
        let of_another = |at: &usize| self.left > 0 && self.holder != Some(*at);
        let lost = |(applied, confirmed): (&u8, &bool)| *confirmed && *applied == 0;
        match () {
            () if senders.len() > 1 || senders.iter().any(of_another) => Some("two processes may send"),
            () if self.is_foreign => Some("a commit of a former holder was applied"),
            () if self.applied.iter().any(|times| *times > 1) => Some("a commit was applied twice"),
            () if self.applied.iter().zip(&self.confirmed).any(lost) => Some("a confirmed commit was lost"),
            () => None,
        }
    }

    fn may_send(&self, at: usize) -> bool {
        self.processes[at].left > 0
    }

    /// What can come next. `true`: nothing failed on the way.
    fn next(&self, rules: Rules, bounds: &Bounds) -> Vec<(State, bool)> {
        let mut next = Vec::new();
        for lagging in 0..1_u8 << self.processes.len() {
            next.extend(self.tick(lagging, bounds).map(|state| (state, lagging == 0)));
        }
        for at in 0..self.processes.len() {
            next.push((self.killed(at), false));
            self.steps(at, rules, bounds, &mut next);
        }
        for at in 0..self.messages.len() {
            let mut arrived = self.clone();
            let mut message = arrived.messages.remove(at);
            if message.answer.is_some() {
                arrived.hear(&message, rules, bounds);
                next.push((arrived, true));
            } else {
                message.answer = Some(arrived.serve(&message, rules, bounds.term));
                if !message.is_orphan {
                    arrived.messages.push(message.clone());
                }
                next.push((arrived, true));
            }
            if !message.is_orphan {
                // The connection dies: a request may arrive all the same, an answer does not.
                let mut cut = self.clone();
                cut.orphan(at);
                next.push((cut.clone(), false));
                cut.messages.retain(|message| !message.is_orphan);
                next.push((cut, false));
            }
        }
        for (state, _) in &mut next {
            state.simplify(rules);
        }
        next
    }

    /// Makes states equal between which nothing tells: one epoch is the present one, and all before it are alike.
    fn simplify(&mut self, rules: Rules) {
        let present = self.epoch;
        let simple = |epoch: &mut u8| match *epoch {
            0 => {}
            epoch_now if epoch_now == present => *epoch = PRESENT,
            _ => *epoch = FORMER,
        };
        self.processes.iter_mut().for_each(|process| simple(&mut process.epoch));
        for message in &mut self.messages {
            simple(&mut message.epoch);
            if let Some(Answer::Taken(epoch, _)) = &mut message.answer {
                simple(epoch);
            }
            if message.answer == Some(Answer::No) || message.ask == Ask::LetGo {
                (message.age, message.lag) = (0, 0);
            }
        }
        simple(&mut self.epoch);
        // It does nothing any more.
        self.messages.retain(|one| !(one.is_orphan && one.epoch == FORMER && rules.fence));
        self.messages.sort();
    }

    fn orphan(&mut self, at: usize) {
        let message = &mut self.messages[at];
        (message.is_orphan, message.age, message.lag) = (true, 0, 0);
        let from = message.from;
        // One late request of each process is enough.
        let mut late = 0;
        self.messages.retain(|message| {
            late += usize::from(message.is_orphan && message.from == from);
            !message.is_orphan || message.answer.is_none() && (message.from != from || late < 2)
        });
    }

    /// Time goes on; the clocks in `lagging` do not. `None` when one of those cannot fall behind any more.
    fn tick(&self, lagging: u8, bounds: &Bounds) -> Option<Self> {
        let mut state = self.clone();
        state.left = state.left.saturating_sub(1);
        for (at, process) in state.processes.iter_mut().enumerate() {
            let passed = u8::from(lagging & 1 << at == 0);
            let own = state.messages.iter_mut().filter(|one| one.from == at && !one.is_orphan);
            let timed = own.filter(|one| {
                one.age < bounds.term && one.ask != Ask::LetGo && one.answer != Some(Answer::No)
            });
            let mut lags: Vec<&mut u8> = Vec::new();
            for message in timed {
                message.age += passed;
                lags.push(&mut message.lag);
            }
            if process.left > 0 {
                process.left -= passed;
                lags.push(&mut process.lag);
            }
            for lag in &mut lags {
                **lag += 1 - passed;
            }
            if passed == 0 && (lags.is_empty() || lags.iter().any(|lag| **lag > bounds.drift)) {
                return None;
            }
            if process.left == 0 {
                process.lag = 0;
            }
        }
        Some(state)
    }

    fn killed(&self, at: usize) -> Self {
        let mut killed = self.clone();
        killed.processes[at] = Process::default();
        while let Some(own) = killed.messages.iter().position(|one| one.from == at && !one.is_orphan) {
            killed.orphan(own);
        }
        killed
    }

    /// What a process does by itself.
    fn steps(&self, at: usize, rules: Rules, bounds: &Bounds, next: &mut Vec<(State, bool)>) {
        if self.messages.iter().any(|message| message.from == at && !message.is_orphan) {
            return;
        }
        let process = &self.processes[at];
        let send = |state: &mut State, ask| {
            let (from, epoch) = (at, state.processes[at].epoch);
            state.messages.push(Message { from, epoch, ask, answer: None, age: 0, lag: 0, is_orphan: false });
        };
        let mut push = |change: &mut dyn FnMut(&mut State)| {
            let mut state = self.clone();
            change(&mut state);
            next.push((state, true));
        };
        if process.epoch == 0 {
            return push(&mut |state| send(state, Ask::Take));
        }
        if let Some(name) = process.pending {
            // It asks the row, and waits for the one that writes it.
            let is_own = (self.holder, self.epoch) == (Some(at), process.epoch);
            match self.commits.checked_sub(process.commits).filter(|_| is_own) {
                Some(0) => {
                    push(&mut |state| send(state, Ask::Commit(name, process.commits)));
                    // Or it gives up, and its caller hears that the outcome is unknown.
                    push(&mut |state| {
                        (state.processes[at].pending, state.processes[at].is_late) = (None, rules.advance);
                    });
                }
                Some(1) => push(&mut |state| state.confirm(at, name)),
                _ => push(&mut |state| state.processes[at] = Process::default()),
            }
            return;
        }
        if process.is_late {
            return push(&mut |state| send(state, Ask::Advance(process.commits)));
        }
        // It concerns time alone.
        if bounds.drift > 0 {
            push(&mut |state| send(state, Ask::Renew));
        }
        if bounds.let_go {
            push(&mut |state| {
                let process = &mut state.processes[at];
                if rules.end_before_let_go {
                    process.left = 0;
                }
                process.is_late = rules.advance;
                send(state, Ask::LetGo);
            });
        }
        if self.applied.len() < bounds.commits {
            push(&mut |state| {
                let name = u8::try_from(state.applied.len()).unwrap();
                state.applied.push(0);
                state.confirmed.push(false);
                state.processes[at].pending = Some(name);
                send(state, Ask::Commit(name, process.commits));
            });
        }
    }

    fn confirm(&mut self, at: usize, name: u8) {
        self.confirmed[usize::from(name)] = true;
        let process = &mut self.processes[at];
        (process.pending, process.commits) = (None, process.commits + 1);
    }

    /// What the database does with a request.
    fn serve(&mut self, message: &Message, rules: Rules, term: u8) -> Answer {
        let is_holder = (self.holder, self.epoch) == (Some(message.from), message.epoch);
        let allowed = match message.ask {
            Ask::Take => self.left == 0 || self.holder == Some(message.from),
            Ask::Renew | Ask::LetGo => is_holder,
            Ask::Advance(commits) => is_holder && commits == self.commits,
            Ask::Commit(_, before) => (is_holder || !rules.fence) && (before == self.commits || !rules.count),
        };
        if !allowed {
            return Answer::No;
        }
        self.left = if message.ask == Ask::LetGo { 0 } else { term };
        match message.ask {
            Ask::Take | Ask::Advance(_) => {
                (self.holder, self.epoch) = (Some(message.from), self.epoch + 1);
                return Answer::Taken(self.epoch, self.commits);
            }
            Ask::Commit(name, _) => {
                self.is_foreign |= !is_holder;
                self.commits += 1;
                self.applied[usize::from(name)] += 1;
            }
            Ask::Renew | Ask::LetGo => {}
        }
        Answer::Yes
    }

    /// What a process does with an answer.
    fn hear(&mut self, message: &Message, rules: Rules, bounds: &Bounds) {
        let process = &mut self.processes[message.from];
        let left = (bounds.term - rules.margin).saturating_sub(message.age);
        let extend = |process: &mut Process| {
            if left > process.left {
                (process.left, process.lag) = (left, message.lag);
            }
        };
        match (message.ask, message.answer) {
            (Ask::Take | Ask::Advance(_), Some(Answer::Taken(epoch, commits))) => {
                (process.epoch, process.commits, process.is_late) = (epoch, commits, false);
                extend(process);
            }
            (Ask::Renew, Some(Answer::Yes)) => extend(process),
            (Ask::Commit(name, _), Some(Answer::Yes)) => {
                extend(process);
                self.confirm(message.from, name);
            }
            (Ask::Commit(..) | Ask::Renew | Ask::Advance(_), _) => *process = Process::default(),
            (Ask::Take | Ask::LetGo, _) => {}
        }
    }
}

/// Goes through everything that can happen. Returns the number of states, or what goes wrong and the way there.
fn search(rules: Rules, bounds: &Bounds) -> Result<usize, (&'static str, Vec<State>)> {
    let mut known: HashMap<State, usize> = HashMap::new();
    let mut before: Vec<usize> = vec![0];
    let mut back: Vec<Vec<usize>> = vec![Vec::new()];
    let mut states = vec![State::first(bounds)];
    let mut waiting = VecDeque::from([0]);
    known.insert(states[0].clone(), 0);
    while let Some(at) = waiting.pop_front() {
        let state = states[at].clone();
        if let Some(fault) = state.fault() {
            return Err((fault, way(&states, &before, at)));
        }
        for (next, is_well) in state.next(rules, bounds) {
            let number = *known.entry(next.clone()).or_insert_with(|| {
                states.push(next);
                before.push(at);
                back.push(Vec::new());
                waiting.push_back(states.len() - 1);
                states.len() - 1
            });
            if is_well {
                back[number].push(at);
            }
        }
    }
    if bounds.drift == 0 {
        // Without renewals a holder may have nothing left to do.
        return Ok(states.len());
    }
    // From everywhere somebody can come to send, without another failure.
    let mut reaches = vec![false; states.len()];
    let goal = |state: &State| (0..bounds.processes).any(|at| state.may_send(at));
    let mut open: Vec<usize> = (0..states.len()).filter(|at| goal(&states[*at])).collect();
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut reaches[at], true) {
            open.extend(&back[at]);
        }
    }
    match reaches.iter().position(|reaches| !reaches) {
        Some(at) => Err(("nobody can take over", way(&states, &before, at))),
        None => Ok(states.len()),
    }
}

fn way(states: &[State], before: &[usize], mut at: usize) -> Vec<State> {
    let mut way = vec![states[at].clone()];
    while at != 0 {
        at = before[at];
        way.push(states[at].clone());
    }
    way.reverse();
    way
}

/// For what concerns commits.
const DATA: Bounds = Bounds { processes: 2, commits: 2, term: 2, drift: 0, let_go: false };
/// For what concerns time.
const TIME: Bounds = Bounds { processes: 2, commits: 0, term: 3, drift: 1, let_go: true };

fn found(rules: Rules, bounds: &Bounds) -> &'static str {
    search(rules, bounds).expect_err("the search finds nothing wrong").0
}

fn nothing_goes_wrong(bounds: &Bounds) {
    let states = search(OURS, bounds).unwrap_or_else(|(fault, way)| panic!("{fault}: {way:#?}"));
    assert!(states > 10_000, "{states} states");
}

#[test]
fn no_commit_is_lost_or_done_twice() {
    nothing_goes_wrong(&DATA);
}

#[test]
fn two_processes_never_both_send() {
    nothing_goes_wrong(&TIME);
}

#[test]
fn three_processes_never_both_send() {
    nothing_goes_wrong(&Bounds { processes: 3, term: 2, drift: 0, let_go: false, ..TIME });
}

#[test]
fn without_the_margin_two_processes_may_send() {
    assert_eq!(found(Rules { margin: 0, ..OURS }, &TIME), "two processes may send");
}

#[test]
fn without_the_fence_a_former_holder_writes() {
    assert_eq!(found(Rules { fence: false, ..OURS }, &DATA), "a commit of a former holder was applied");
}

#[test]
fn without_the_count_a_commit_that_is_sent_again_is_done_twice() {
    assert_eq!(found(Rules { count: false, ..OURS }, &DATA), "a commit was applied twice");
}

#[test]
fn a_commit_that_was_given_up_and_arrives_late_would_pass_for_the_next() {
    assert_eq!(found(Rules { advance: false, ..OURS }, &DATA), "a confirmed commit was lost");
}

#[test]
fn a_holder_that_let_go_and_went_on_would_send_beside_the_next() {
    assert_eq!(found(Rules { end_before_let_go: false, ..OURS }, &TIME), "two processes may send");
}

#[test]
fn the_word_that_lets_the_database_go_would_end_a_later_term_if_it_arrived_late() {
    assert_eq!(found(Rules { advance: false, ..OURS }, &TIME), "two processes may send");
}
