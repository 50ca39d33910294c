//! `[server]`, `[page]`, `[store]`, `[log]` and `[otlp]`.

use super::{
    Checker, header_secret,
    text::{any_web_url, header_name, web_url},
};
use crate::{
    config::{PageConfig, ServerConfig, host_name, page_prefix, path::KeyPath, wording::nearest},
    store::{StoreConfig, StoreKind},
    telemetry::{LogConfig, OtlpConfig, log_filter},
    util::{http_client::Outgoing, listen::Listen},
};

impl Checker<'_> {
    pub(super) fn server(&mut self, server: &ServerConfig) {
        let path = KeyPath::dotted("server");
        let listen = server.listen.parse::<Listen>();
        let has_token = server.token.is_some() || server.token_file.is_some();
        let token_is_known =
            !self.is_spoilt(&path.join("token")) && !self.is_spoilt(&path.join("token_file"));
        match &listen {
            Err(reason) => self.report(&path.join("listen"), reason.clone()),
            Ok(address) if !address.is_local() && !has_token && token_is_known => self.report(
                &path.join("listen"),
                "other machines could reach this address without a token\nhint: set server.token_file, or listen on 127.0.0.1 or a unix: socket",
            ),
            Ok(_) => {}
        }
        let admin = server.admin_listen.as_ref().map(|text| text.parse::<Listen>());
        match admin {
            Some(Err(reason)) => self.report(&path.join("admin_listen"), reason),
            Some(Ok(address)) if Ok(&address) == listen.as_ref() && !has_port_zero(&address) => {
                self.report(&path.join("admin_listen"), "server.listen is the same address");
            }
            _ => {}
        }
        self.secret(&path, "token", server.token.as_ref(), server.token_file.as_deref(), header_secret);
        for (index, host) in server.allowed_hosts.iter().enumerate() {
            self.require(&path.join("allowed_hosts").join(index), host_name(host).map(drop));
        }
        if let Some(proxy) = &server.proxy {
            self.require(&path.join("proxy"), any_web_url(proxy).map(drop));
        }
        for (index, host) in server.no_proxy.iter().enumerate() {
            let verdict = Outgoing::of(None, std::slice::from_ref(host)).map(drop);
            let at = path.join("no_proxy").join(index);
            self.require(&at, verdict.map_err(|error| error.to_string()));
        }
    }

    pub(super) fn page(&mut self, page: &PageConfig) {
        if let Some(prefix) = &page.prefix {
            self.require(&KeyPath::dotted("page.prefix"), page_prefix(prefix).map(drop));
        }
    }

    pub(super) fn store(&mut self, store: &StoreConfig) {
        let path = KeyPath::dotted("store");
        if store.path.as_os_str().is_empty() {
            self.report(&path.join("path"), "it is empty\nhint: name a folder");
        }
        let is_set = [
            ("url", store.url.is_some()),
            ("url_file", store.url_file.is_some()),
            ("bodies", store.bodies.is_some()),
            ("replica", store.replica.is_some()),
            ("advertise", store.advertise.is_some()),
        ];
        match store.kind {
            StoreKind::Sled => {
                for (key, _) in is_set.iter().filter(|(_, is_set)| *is_set) {
                    self.report(
                        &path.join(*key),
                        "it is for a database\nhint: set store.type = \"postgres\"",
                    );
                }
            }
            StoreKind::Postgres => {
                let (url, file) = (store.url.as_ref(), store.url_file.as_deref());
                let is_spoilt = self.is_spoilt(&path.join("url")) || self.is_spoilt(&path.join("url_file"));
                if url.is_none() && file.is_none() && !is_spoilt {
                    let hint = "set store.url_file, or store.url: postgres://USER:PASSWORD@HOST/DATABASE";
                    let reason = format!("the database has no URL\nhint: {hint}");
                    self.report_at(&path.join("url"), &path.join("type"), reason);
                }
                self.secret(&path, "url", url, file, StoreConfig::check_url);
                self.require(&path.join("bodies"), store.check_bodies());
                if store.replica.as_ref().is_some_and(|name| name.trim().is_empty()) {
                    self.report(
                        &path.join("replica"),
                        "it is empty\nhint: name this replica, or leave the key out",
                    );
                }
                if let Some(url) = &store.advertise {
                    self.require(&path.join("advertise"), any_web_url(url).map(drop));
                }
            }
        }
    }

    pub(super) fn otlp(&mut self, otlp: &OtlpConfig) {
        let path = KeyPath::dotted("otlp");
        if let Some(endpoint) = &otlp.endpoint {
            let hint = "use `headers`, for example Authorization";
            let url =
                web_url(endpoint, hint).and_then(|url| match (url.query(), url.fragment()) {
                    (None, None) => Ok(()),
                    _ => Err("it has a query or a fragment, but /v1/traces and /v1/metrics are added to it"
                        .to_owned()),
                });
            self.require(&path.join("endpoint"), url);
        }
        self.headers(&path.join("headers"), &otlp.headers, header_name);
    }

    pub(super) fn log(&mut self, log: &LogConfig) {
        let path = KeyPath::dotted("log.level");
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let example = "write info, or a filter such as info,tidings::deliver=debug";
        if log.level.split(',').all(|word| word.trim().is_empty()) {
            self.report(&path, format!("it is empty\nhint: {example}"));
        }
        if log_filter(&log.level).is_err() {
            self.report(&path, format!("it is not a log filter\nhint: {example}"));
        }
        // `infoo` is a valid filter too: it means a module of that name, and silences everything
        // else.
        for word in log.level.split(',').map(str::trim) {
            let is_level = levels.contains(&word.to_ascii_lowercase().as_str());
            if !is_level && let Some(level) = nearest(word, levels).first() {
                self.report(&path, format!("a word in it is no level\nhint: did you mean `{level}`?"));
            }
        }
    }
}

fn has_port_zero(address: &Listen) -> bool {
    matches!(address, Listen::Tcp(address) if address.port() == 0)
}
