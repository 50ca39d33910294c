//! Whose turn it is: orders the claims that wait for what a budget gives. Pure.
//!
//! For each thing the claim that was served least recently comes first. So claims that wait all the
//! time take turns, and one that rarely waits is served at once.

use std::collections::BTreeMap;

use super::super::lanes::Lane;

/// Grants of tokens to others after which a claim that only takes what they leave gets its turn.
pub(super) const SPARE_TURN: u64 = 16;

/// A thing that a claim waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A place in the lane of polls.
    Poll,
    /// A place in the lane of fetches.
    Fetch,
    /// A place in the lane of failing jobs.
    Retry,
    /// A token of the rate.
    Token,
    /// The next probe of a key that is limited or refused.
    Probe,
}

/// The number of things.
const WANTS: usize = 5;

impl From<Lane> for Want {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Poll => Self::Poll,
            Lane::Fetch => Self::Fetch,
            Lane::Retry => Self::Retry,
        }
    }
}

/// What a claim waits for.
pub(super) type Waits = [bool; WANTS];

#[derive(Debug, Default)]
struct Turn {
    waits: Waits,
    /// The numbers of its last grants.
    served: [u64; WANTS],
    /// The number of the last grant of a token when the claim began to wait for what others leave.
    spare_since: Option<u64>,
}

/// The claims of a budget.
#[derive(Debug, Default)]
pub(super) struct Turns {
    claims: BTreeMap<u64, Turn>,
    grants: u64,
    joined: u64,
}

impl Turns {
    /// Adds a claim. Returns its number.
    pub(super) fn join(&mut self) -> u64 {
        self.joined += 1;
        self.claims.insert(self.joined, Turn::default());
        self.joined
    }

    /// Removes a claim.
    pub(super) fn leave(&mut self, claim: u64) {
        self.claims.remove(&claim);
    }

    /// Returns the number of claims that wait for a thing and come before this one.
    pub(super) fn ahead(&self, claim: u64, want: Want) -> usize {
        let want = want as usize;
        let rank = |id: u64, turn: &Turn| (turn.served[want], id);
        let Some(own) = self.claims.get(&claim).map(|turn| rank(claim, turn)) else { return 0 };
        let waiting = self.claims.iter().filter(|(_, turn)| turn.waits[want]);
        waiting.filter(|(id, turn)| **id != claim && rank(**id, turn) < own).count()
    }

    /// Returns the other claims that wait for a thing.
    pub(super) fn others(&self, claim: u64, want: Want) -> impl Iterator<Item = u64> {
        let waiting = self.claims.iter().filter(move |(id, turn)| **id != claim && turn.waits[want as usize]);
        waiting.map(|(id, _)| *id)
    }

    /// Records that a claim waits for a thing.
    pub(super) fn wait(&mut self, claim: u64, want: Want) {
        if let Some(turn) = self.claims.get_mut(&claim) {
            turn.waits[want as usize] = true;
        }
    }

    /// Records that a claim got a thing.
    pub(super) fn serve(&mut self, claim: u64, want: Want) {
        self.grants += 1;
        if let Some(turn) = self.claims.get_mut(&claim) {
            turn.waits[want as usize] = false;
            turn.served[want as usize] = self.grants;
            if want == Want::Token {
                turn.spare_since = None;
            }
        }
    }

    /// Returns whether a claim that takes only what others leave has waited for long enough.
    pub(super) fn may_take_as_all(&mut self, claim: u64) -> bool {
        let grants = self.grants;
        let turn = self.claims.get_mut(&claim);
        turn.is_some_and(|turn| grants - *turn.spare_since.get_or_insert(grants) >= SPARE_TURN)
    }

    /// Ends the waits of a claim. Returns what it waited for.
    pub(super) fn withdraw(&mut self, claim: u64) -> Waits {
        self.claims.get_mut(&claim).map(|turn| std::mem::take(&mut turn.waits)).unwrap_or_default()
    }

    /// Returns the things that a claim waited for and waits for no more.
    pub(super) fn dropped(&self, claim: u64, before: Waits) -> impl Iterator<Item = Want> {
        let now = self.claims.get(&claim).map(|turn| turn.waits).unwrap_or_default();
        let all = [Want::Poll, Want::Fetch, Want::Retry, Want::Token, Want::Probe];
        all.into_iter().filter(move |want| before[*want as usize] && !now[*want as usize])
    }
}
