//! `[server]`, `[store]` and `[log]`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use tracing_subscriber::EnvFilter;

use super::{Checker, header_secret, text::any_web_url};
use crate::{
    api::ServerConfig,
    config::{path::KeyPath, problems::nearest},
    store::StoreConfig,
    telemetry::LogConfig,
};

/// Where the API can be listened on: `127.0.0.1:8787`, `[::1]:8787` or `unix:/run/tidings/api.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            if path.is_absolute() && path.file_name().is_some() {
                return Ok(Self::Unix(path));
            }
            return Err("a unix socket is written with its full path, unix:/run/tidings/api.sock".to_owned());
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            let hint = match text.rsplit_once(':') {
                Some(("localhost", port)) => format!("write 127.0.0.1:{port}"),
                Some(("" | "*", port)) => {
                    format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface")
                }
                _ => "write it like 127.0.0.1:8787, [::1]:8787 or unix:/run/tidings/api.sock".to_owned(),
            };
            format!("`{text}` is not an address to listen on; {hint}")
        })
    }
}

impl Checker<'_> {
    pub(super) fn server(&mut self, server: &ServerConfig) {
        let path = KeyPath::dotted("server");
        let listen = server.listen.parse::<ListenAddress>();
        let has_token = server.token.is_some() || server.token_file.is_some();
        let token_is_known =
            !self.is_spoilt(&path.join("token")) && !self.is_spoilt(&path.join("token_file"));
        match &listen {
            Err(reason) => self.report(&path.join("listen"), reason.clone()),
            Ok(address) if !address.is_local() && !has_token && token_is_known => self.report(
                &path.join("listen"),
                "others could reach this address, so a token is needed; set server.token_file, or listen on 127.0.0.1 or a unix: socket",
            ),
            Ok(_) => {}
        }
        let admin = server.admin_listen.as_ref().map(|text| text.parse::<ListenAddress>());
        match admin {
            Some(Err(reason)) => self.report(&path.join("admin_listen"), reason),
            Some(Ok(address)) if Ok(&address) == listen.as_ref() && !has_port_zero(&address) => {
                self.report(&path.join("admin_listen"), "server.listen is the same address");
            }
            _ => {}
        }
        self.secret(&path, "token", server.token.as_ref(), server.token_file.as_deref(), header_secret);
        for (index, host) in server.hosts.iter().enumerate() {
            if host.is_empty() || host.contains(['/', '@', ' ']) {
                let at = path.join("hosts").join(index);
                self.report(&at, "a host is a bare name such as tidings.internal, without scheme or path");
            }
        }
        if let Some(proxy) = &server.proxy {
            self.require(&path.join("proxy"), any_web_url(proxy).map(drop));
        }
    }

    pub(super) fn store(&mut self, store: &StoreConfig) {
        let path = KeyPath::dotted("store");
        if store.path.as_os_str().is_empty() {
            self.report(&path.join("path"), "it is empty; name a folder");
        }
        if store.cache.0 == 0 {
            self.report(&path.join("cache"), "it has to be more than 0");
        }
    }

    pub(super) fn log(&mut self, log: &LogConfig) {
        let path = KeyPath::dotted("log.level");
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let example = "write info, or a filter such as info,tidings::deliver=debug";
        if log.level.trim().is_empty() {
            self.report(&path, format!("it is empty; {example}"));
        }
        if let Err(error) = EnvFilter::builder().parse(&log.level) {
            self.report(&path, format!("`{}` is not a log filter ({error}); {example}", log.level));
        }
        // `infoo` is a filter too, for a module of that name, and would silence everything else.
        for word in log.level.split(',').map(str::trim) {
            let is_level = levels.contains(&word.to_ascii_lowercase().as_str());
            if !is_level && let Some(level) = nearest(word, levels).first() {
                self.report(&path, format!("`{word}` is not a level; did you mean `{level}`?"));
            }
        }
    }
}

fn has_port_zero(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(address) if address.port() == 0)
}
