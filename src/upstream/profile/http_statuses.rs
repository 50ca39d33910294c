//! The HTTP statuses that say how far a job is, in the place of a word.

use std::collections::BTreeMap;

use reqwest::{StatusCode, header::HeaderMap};

use crate::{
    model::{job::Outcome, status_answer::StatusClass},
    upstream::{
        HttpOutcomes,
        limits::{asked_wait, is_exhausted},
    },
    util::clock,
};

/// Codes that are about the key or a limit, and never about one job.
const OF_THE_SOURCE: [u16; 3] = [401, 407, 429];

/// The meaning of each HTTP status that is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpStatuses(BTreeMap<u16, StatusClass>);

/// An HTTP status that says how far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedStatus {
    /// The code, which is shown as the status of the job.
    pub code: u16,
    /// Its meaning.
    pub class: StatusClass,
}

impl ListedStatus {
    /// Returns whether it ends a job that has no result: its body is an error, whatever its form.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self.class, StatusClass::Finished(outcome) if outcome != Outcome::Completed)
    }
}

impl HttpStatuses {
    /// Reads the codes of a source.
    ///
    /// # Errors
    /// A message for the operator for each code that cannot be listed.
    pub(super) fn of(keys: &HttpOutcomes) -> Result<Self, Vec<String>> {
        let classes = [
            (&keys.pending, StatusClass::Pending),
            (&keys.completed, StatusClass::Finished(Outcome::Completed)),
            (&keys.failed, StatusClass::Finished(Outcome::Failed)),
            (&keys.cancelled, StatusClass::Finished(Outcome::Cancelled)),
            (&keys.expired, StatusClass::Finished(Outcome::Expired)),
        ];
        let (mut listed, mut errors) = (BTreeMap::new(), Vec::new());
        for (codes, class) in classes {
            for code in codes {
                if OF_THE_SOURCE.contains(code) {
                    errors
                        .push(format!("{code} is about the key or a limit of the source, not about one job"));
                } else if !(200..=599).contains(code) {
                    errors.push(format!("{code} is no status of a whole answer: 200 to 599"));
                } else if listed.insert(*code, class).is_some_and(|before| before != class) {
                    errors.push(format!("{code} is in two classes"));
                }
            }
        }
        if errors.is_empty() { Ok(Self(listed)) } else { Err(errors) }
    }

    /// Returns whether no code is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether one of them ends a job.
    pub(super) fn has_end(&self) -> bool {
        self.0.values().any(|class| matches!(class, StatusClass::Finished(_)))
    }

    /// Returns whether a code is listed.
    pub(in crate::upstream) fn has(&self, status: StatusCode) -> bool {
        self.0.contains_key(&status.as_u16())
    }

    /// Returns what an answer says by its status. An error that asks for fewer requests ends no
    /// job: it is the limit of the source.
    pub(in crate::upstream) fn of_answer(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<ListedStatus> {
        let code = status.as_u16();
        let class = *self.0.get(&code)?;
        let is_limit = || asked_wait(headers, clock::now()).is_some() || is_exhausted(headers);
        let is_of_the_source = class != StatusClass::Pending && matches!(code, 403 | 503) && is_limit();
        (!is_of_the_source).then_some(ListedStatus { code, class })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Profile, SourceConfig};

    fn errors(toml: &str) -> Vec<String> {
        let keys =
            format!("type = \"custom\"\nbase_url = \"https://e.com\"\nstatus_path = \"/{{id}}\"\n{toml}");
        let config: SourceConfig = toml::from_str(&keys).unwrap();
        Profile::of(&config).err().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn contradictions_are_told_at_the_start() {
        const WORDS: &str = "status_at = [\"/s\"]\noutcomes = { pending = [\"a\"] }";
        for (keys, told) in [
            ("status_http = { pending = [202], completed = [200, 303] }", &[][..]),
            ("status_http = { pending = [202], completed = [202] }", &["status_http: 202 is in two classes"]),
            ("status_http = { pending = [202, 202], failed = [500] }", &[]),
            (
                "status_http = { pending = [429], completed = [200], failed = [401, 407] }",
                &["about the key or a limit"; 3],
            ),
            ("status_http = { pending = [102], completed = [200, 999] }", &["200 to 599"; 2]),
            ("status_http = { pending = [202] }", &["status_http: no code ends a job"]),
            (
                "outcomes = { completed = [\"a\"] }\nstatus_http = { completed = [200] }",
                &["outcomes: it gives words"],
            ),
            (&format!("status_http = {{ failed = [400] }}\n{WORDS}"), &[]),
            (&format!("status_http = {{ pending = [202] }}\n{WORDS}"), &["no code ends a job"]),
            ("", &["status_at: ", "outcomes: "]),
        ] {
            let found = errors(keys);
            let is_told = |(found, told): (&String, &&str)| found.contains(told);
            let all = found.iter().zip(told).all(is_told);
            assert!(
                all && found.len() >= told.len() && (found.is_empty() || !told.is_empty()),
                "{keys}: {found:?}"
            );
        }
    }

    #[test]
    fn a_limit_of_the_source_ends_no_job() {
        let statuses = HttpStatuses::of(&HttpOutcomes {
            pending: vec![409],
            failed: vec![403, 503, 500],
            ..HttpOutcomes::default()
        });
        let statuses = statuses.unwrap();
        let waits = HeaderMap::from_iter([(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"))]);
        for (code, headers, listed) in [
            (503, &HeaderMap::new(), true),
            (503, &waits, false),
            (403, &waits, false),
            (500, &waits, true),
            (409, &waits, true),
            (200, &waits, false),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(statuses.of_answer(status, headers).is_some(), listed, "{code}");
        }
    }
}
