//! `[sinks.NAME]` and `[[routes]]`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Checker, header_secret,
    text::{disk_path, event_pattern, header_name, header_value, matches, signing_secret, web_url},
};
use crate::{
    config::{
        Config,
        node::Node,
        path::KeyPath,
        problems::with_maybe_hint,
        wording::{did_you_mean, join_words},
    },
    deliver::{
        Disk, DiskConfig, SinkConfig, WebhookConfig, encode,
        webhook::{address, tls::TlsFiles},
    },
    model::job::EventType,
    util::{
        http_client::Outgoing,
        secret::{SecretList, SecretValue},
    },
};

/// The hint for credentials in the URL of a webhook.
const HINT: &str = "use `headers`, for example Authorization";

impl Checker<'_> {
    pub(super) fn sink(&mut self, name: &str, sink: &SinkConfig) {
        let path = KeyPath::dotted("sinks").join(name);
        for (index, pattern) in sink.events().iter().enumerate() {
            self.require(&path.join("events").join(index), event_pattern(pattern));
        }
        if sink.events().is_empty() {
            self.report(
                &path.join("events"),
                "it is empty, so no event matches\nhint: leave it out for every event",
            );
        }
        match sink {
            SinkConfig::Webhook(webhook) => self.webhook(&path, webhook),
            SinkConfig::Disk(disk) => self.disk(&path, disk),
        }
    }

    fn webhook(&mut self, path: &KeyPath, webhook: &WebhookConfig) {
        self.webhook_address(path, webhook);
        let file = webhook.secret_file.as_deref();
        self.secret(path, "secret", webhook.secret.as_ref(), file, signing_secret);
        for (index, secret) in webhook.secrets.iter().enumerate() {
            self.require(&path.join("secrets").join(index), signing_secret(secret));
        }
        self.secret_list(path, webhook);
        self.webhook_headers(path, webhook);
        self.webhook_tls(path, webhook);
    }

    fn webhook_address(&mut self, path: &KeyPath, webhook: &WebhookConfig) {
        match (&webhook.url, &webhook.url_file) {
            (Some(url), _) => self.require(&path.join("url"), web_url(url, HINT).map(drop)),
            (None, None) => self.report(&path.join("url"), address::MISSING),
            (None, Some(_)) => {}
        }
        if let Some(file) = &webhook.url_file {
            let at = path.join("url_file");
            if webhook.url.is_some() {
                let other = self.tree.origin_of(&path.join("url")).brief();
                self.report(&at, format!("`url` is set as well ({other})\nhint: keep one of the two"));
            }
            self.secret_file(&at, file, |url| web_url(url.expose(), HINT).map(drop));
        }
        self.outgoing(&path.join("proxy"), webhook.proxy.as_deref());
    }

    /// Checks the proxy that a source or a sink names for itself.
    pub(super) fn outgoing(&mut self, path: &KeyPath, choice: Option<&str>) {
        let verdict = Outgoing::of(None, &[]).and_then(|way| way.choosing(choice));
        self.require(path, verdict.map(drop).map_err(|error| error.to_string()));
    }

    /// Checks `secrets_file`, beside which no other secret may be set.
    fn secret_list(&mut self, path: &KeyPath, webhook: &WebhookConfig) {
        let Some(file) = &webhook.secrets_file else { return };
        let at = path.join("secrets_file");
        if !webhook.secrets.is_empty() {
            let other = self.tree.origin_of(&path.join("secrets")).brief();
            self.report(&at, format!("`secrets` is set as well ({other})\nhint: keep one of the two"));
        }
        let Some(path) = self.found(&at, file) else { return };
        let verdict = SecretList::file(&path).get().map_err(|error| error.about_this_file());
        let verdict = verdict.and_then(|secrets| {
            let judge = |secret| signing_secret(secret).map_err(|reason| format!("in this file: {reason}"));
            secrets.iter().try_for_each(judge)
        });
        self.require_of_file(&at, verdict);
    }

    fn webhook_tls(&mut self, path: &KeyPath, webhook: &WebhookConfig) {
        let files = match TlsFiles::of(webhook) {
            Ok(files) => files,
            Err(error) => return self.report(&path.join(error.key), error.to_string()),
        };
        let named = [
            ("ca_file", &webhook.ca_file),
            ("client_cert_file", &webhook.client_cert_file),
            ("client_key_file", &webhook.client_key_file),
        ];
        let named = named.into_iter().filter_map(|(key, file)| Some((path.join(key), file.as_ref()?)));
        let missing = named.filter(|(key, file)| self.found(key, file).is_none()).count();
        if let Some(directory) = self.secrets_from.clone()
            && missing == 0
            && let Err(error) = files.below(&directory).client_config()
        {
            self.report_transient(&path.join(error.key), error.to_string());
        }
    }

    fn webhook_headers(&mut self, path: &KeyPath, webhook: &WebhookConfig) {
        self.secret(path, "bearer", webhook.bearer.as_ref(), webhook.bearer_file.as_deref(), header_secret);
        self.headers(&path.join("headers"), &webhook.headers, header_name);
        for name in webhook.headers.keys() {
            if name.eq_ignore_ascii_case("authorization") {
                for key in ["bearer", "bearer_file"].map(|key| path.join(key)) {
                    if self.tree.get(&key).is_some() {
                        self.report(
                            &key,
                            "`headers` has an authorization as well\nhint: keep one of the two",
                        );
                    }
                }
            }
        }
        for (key, reason) in encode::validate(webhook, self.secrets_from.as_deref()) {
            let in_file = key == "template_file" && webhook.template.is_none();
            let verdict = Err(reason);
            match in_file {
                true => self.require_of_file(&path.join(key), verdict),
                false => self.require(&path.join(key), verdict),
            }
        }
    }

    /// Checks the headers of the requests of a sink or a source.
    pub(super) fn headers(
        &mut self,
        path: &KeyPath,
        headers: &BTreeMap<String, SecretValue>,
        check_name: fn(&str) -> Result<(), String>,
    ) {
        let mut seen = BTreeSet::new();
        for (name, value) in headers {
            let at = path.join(name);
            self.require(&at, check_name(name));
            match value {
                SecretValue::Text(text) => self.require(&at, header_value(text.expose())),
                SecretValue::File(secret) => {
                    self.secret_file(&at, &secret.file, |s| header_value(s.expose()));
                }
            }
            if !seen.insert(name.to_ascii_lowercase()) {
                self.report(&at, "the same header is given twice: case does not count");
            }
        }
    }

    fn disk(&mut self, path: &KeyPath, disk: &DiskConfig) {
        if disk.dir.as_os_str().is_empty() {
            self.report(&path.join("dir"), "it is empty\nhint: name a folder");
        }
        self.require(&path.join("path"), disk_path(&disk.path));
        self.require(&path.join("format"), encode::wrapping::Wrapping::of_file(disk.format).map(drop));
        self.require(&path.join("path"), Disk::check_format(disk));
        let asks = |event: EventType| disk.events.iter().any(|pattern| pattern == event.as_str());
        let tells = |value: &str| disk.path.contains(value);
        if !tells("{event_id}")
            && (asks(EventType::UPDATED) || asks(EventType::STARTED) && !tells("{outcome}"))
        {
            self.report(
                &path.join("path"),
                "a job has several events with `job.started` or `job.updated` in `events`, and one would overwrite another\nhint: put {event_id} into `path`",
            );
        }
    }

    pub(super) fn routes(&mut self, config: &Config) {
        let tree = self.tree;
        // A sink with mistakes in its keys exists too.
        let sinks: Vec<&str> = tree
            .get(&KeyPath::dotted("sinks"))
            .into_iter()
            .flat_map(Node::entries)
            .map(|(name, _)| name.as_str())
            .collect();
        for (index, route) in config.routes.iter().enumerate() {
            let path = KeyPath::dotted("routes").join(index);
            if route.to.is_empty() && !self.is_spoilt(&path.join("to")) {
                let at = if tree.get(&path.join("to")).is_some() { path.join("to") } else { path.clone() };
                self.report(&at, "`to` names no sink, so the events would go nowhere");
            }
            for (at, name) in route.to.iter().enumerate() {
                if !sinks.contains(&name.as_str()) {
                    let reason = match sinks.as_slice() {
                        [] => "no sink has this name: none is configured".to_owned(),
                        _ => format!("no sink has this name: expected {}", join_words(&sinks, "or")),
                    };
                    let hint = did_you_mean(name, sinks.iter().copied());
                    self.report(&path.join("to").join(at), with_maybe_hint(reason, hint));
                }
            }
            for (at, pattern) in route.when.source.iter().enumerate() {
                if !config.sources.keys().any(|name| matches(pattern, name)) {
                    let hint = did_you_mean(pattern, config.sources.keys().map(String::as_str));
                    let reason = with_maybe_hint("it matches no source", hint);
                    self.report(&path.join("when").join("source").join(at), reason);
                }
            }
        }
    }
}
