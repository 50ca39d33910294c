//! `[sources.NAME]`.

use super::{Checker, header_secret, text::web_url};
use crate::{
    config::path::KeyPath,
    schedule::{PollingConfig, Strategy},
    upstream::{Profile, SourceConfig},
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
        self.headers(&path.join("headers"), &source.headers);
        for problem in Profile::of(source).err().into_iter().flatten() {
            let key = path.join(problem.key);
            if !self.is_spoilt(&key) {
                self.report(&key, problem.reason);
            }
        }
        self.polling(&path.join("polling"), &source.polling);
        self.outgoing(&path.join("proxy").join("outgoing"), source.proxy.outgoing.as_deref());
    }

    fn polling(&mut self, path: &KeyPath, polling: &PollingConfig) {
        let (min, max) = (path.join("min_interval"), path.join("max_interval"));
        let longest = polling.max_interval();
        let judged = !self.is_spoilt(&min) && !self.is_spoilt(&max);
        if judged && polling.min_interval > longest {
            // The key that was written is the one to change.
            let (at, other, word, value) = match self.tree.get(&min) {
                Some(_) => (min, "max_interval", "longer", longest),
                None => (max, "min_interval", "shorter", polling.min_interval),
            };
            self.report(&at, format!("it is {word} than {other}, which is {value}"));
        }
        self.only_for(path, "fixed", polling.strategy == Strategy::Fixed, &["interval"]);
        let learned = polling.strategy == Strategy::Learned;
        self.only_for(path, "learned", learned, &["cost_of_a_poll", "max_delay", "learn_by_label"]);
        self.learning(path, polling);
    }

    fn learning(&mut self, path: &KeyPath, polling: &PollingConfig) {
        if let Some(max_delay) = polling.max_delay {
            let key = path.join("max_delay");
            if max_delay < polling.min_interval {
                let reason = format!("it is shorter than min_interval, which is {}", polling.min_interval);
                self.report(&key, reason);
            }
        }
        let usable = |label: &String| !label.is_empty() && label.chars().count() <= 64;
        if polling.learn_by_label.as_ref().is_some_and(|label| !usable(label)) {
            self.report(&path.join("learn_by_label"), "the key of a label has 1 to 64 characters");
        }
    }

    /// Reports keys that other strategies ignore.
    fn only_for(&mut self, path: &KeyPath, strategy: &str, chosen: bool, keys: &[&str]) {
        for key in keys.iter().map(|key| path.join(*key)) {
            if !chosen && self.tree.get(&key).is_some() {
                self.report(&key, format!("it is used by strategy = \"{strategy}\" alone"));
            }
        }
    }
}
