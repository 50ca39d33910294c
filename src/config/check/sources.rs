//! `[sources.NAME]`.

use super::{
    Checker, header_secret,
    text::{header_name, web_url},
};
use crate::{
    config::path::KeyPath,
    schedule::{PollingConfig, Strategy},
    upstream::SourceConfig,
};

impl Checker<'_> {
    pub(super) fn source(&mut self, name: &str, source: &SourceConfig) {
        let path = KeyPath::dotted("sources").join(name);
        if let Some(url) = &source.base_url {
            let verdict = web_url(url, "use api_key or api_key_file").and_then(|url| {
                match url.query().or(url.fragment()) {
                    Some(_) => Err("a base URL ends before any ? or #".to_owned()),
                    None => Ok(()),
                }
            });
            self.require(&path.join("base_url"), verdict);
        }
        let file = source.api_key_file.as_deref();
        self.secret(&path, "api_key", source.api_key.as_ref(), file, header_secret);
        if let Some(header) = &source.api_key_header {
            self.require(&path.join("api_key_header"), header_name(header));
        }
        let rate = source.max_requests_per_second;
        if !rate.is_finite() || rate <= 0.0 {
            self.report(&path.join("max_requests_per_second"), "it has to be a number above 0");
        }
        self.at_least_one(&path.join("max_in_flight"), source.max_in_flight);
        self.not_zero(&path.join("timeout"), source.timeout);
        if source.max_job_size.0 == 0 {
            self.report(&path.join("max_job_size"), "it has to be more than 0");
        }
        self.polling(&path.join("polling"), &source.polling);
    }

    fn polling(&mut self, path: &KeyPath, polling: &PollingConfig) {
        let (min, max) = (path.join("min_interval"), path.join("max_interval"));
        self.not_zero(&min, polling.min_interval);
        self.not_zero(&max, polling.max_interval);
        self.not_zero(&path.join("interval"), polling.interval);
        self.not_zero(&path.join("deadline"), polling.deadline);
        let judged = !self.is_spoilt(&min) && !self.is_spoilt(&max);
        if judged && polling.min_interval > polling.max_interval {
            // Whichever of the two was written is the one to change.
            let (at, other, word, value) = match self.tree.get(&min) {
                Some(_) => (min, "max_interval", "longer", polling.max_interval),
                None => (max, "min_interval", "shorter", polling.min_interval),
            };
            self.report(&at, format!("it is {word} than {other}, which is {value}"));
        }
        let fixed = polling.strategy == Strategy::Fixed;
        if !fixed && self.tree.get(&path.join("interval")).is_some() {
            self.report(&path.join("interval"), "it is used by strategy = \"fixed\" alone");
        }
    }
}
