//! Where the database is: the URL of libpq, with its modes of TLS.

use std::{path::PathBuf, time::Duration};

use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::tls::{TlsFiles, Trust};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection without a sign of life is probed after this time, and given up when its bytes are not confirmed for as long.
const SILENT: Duration = Duration::from_secs(10);

/// The address of a database.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) config: Config,
    /// `None` without TLS.
    pub(super) trust: Option<Trust>,
    pub(super) files: TlsFiles,
}

const HINT: &str = "write postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full";

/// The keys that this file reads, because the library does not.
const OWN: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

impl Address {
    /// Reads a URL. The error holds nothing of it but the names and values of keys of TLS.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(format!("it is no URL of PostgreSQL\nhint: {HINT}"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut files, mut rest) = ("prefer".to_owned(), TlsFiles::default(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !OWN.contains(&key) {
                rest.push(pair);
                continue;
            }
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                "sslmode" => mode = value,
                "sslrootcert" => files.root = (value != "system").then(|| PathBuf::from(value)),
                "sslcert" => files.cert = Some(PathBuf::from(value)),
                _ => files.key = Some(PathBuf::from(value)),
            }
        }
        if files.cert.is_some() != files.key.is_some() {
            return Err("it has one of sslcert and sslkey\nhint: name both".to_owned());
        }
        let text = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config =
            text.parse().map_err(|_| format!("it is no URL of PostgreSQL\nhint: {HINT}"))?;
        if config.get_hosts().is_empty() {
            return Err(format!("it names no host\nhint: {HINT}"));
        }
        let (ssl, trust) = match mode.as_str() {
            "disable" => (SslMode::Disable, None),
            // As libpq has it, a root certificate that is named is used.
            "allow" | "prefer" => (SslMode::Prefer, Some(Trust::Anyone)),
            "require" if files.root.is_some() => (SslMode::Require, Some(Trust::Authority)),
            "require" => (SslMode::Require, Some(Trust::Anyone)),
            "verify-ca" => (SslMode::Require, Some(Trust::Authority)),
            "verify-full" => (SslMode::Require, Some(Trust::AuthorityAndName)),
            _ => {
                return Err(format!(
                    "`{mode}` is no sslmode\nhint: it is one of disable, allow, prefer, require, verify-ca and verify-full"
                ));
            }
        };
        // A socket of this machine has no TLS.
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let (ssl, trust) = if is_local { (SslMode::Disable, None) } else { (ssl, trust) };
        config.ssl_mode(ssl).keepalives_idle(SILENT).tcp_user_timeout(SILENT);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        // A standby among several servers takes no writes, and may lack what was confirmed.
        if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_application_name().is_none() {
            config.application_name("tidings");
        }
        Ok(Self { config, trust, files })
    }

    /// Returns the first host and its port; `None` for a socket.
    pub(super) fn host(&self) -> Option<(String, u16)> {
        match self.config.get_hosts().first()? {
            Host::Tcp(name) => Some((name.clone(), self.config.get_ports().first().copied().unwrap_or(5432))),
            Host::Unix(_) => None,
        }
    }

    /// Returns the database for people: no user, and no secret.
    pub(super) fn shown(&self) -> String {
        let ports = self.config.get_ports();
        let host = |(at, host): (usize, &Host)| {
            let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => path.display().to_string(),
            }
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().enumerate().map(host).collect();
        let name = self.config.get_dbname().or_else(|| self.config.get_user()).unwrap_or("of the user");
        format!("{name} on {}", hosts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        let read = |query: &str| Address::parse(&format!("postgres://me:pw@db.local/tidings{query}"));
        let plain = read("").unwrap();
        assert_eq!(plain.shown(), "tidings on db.local:5432");
        assert_eq!((plain.config.get_ssl_mode(), plain.trust), (SslMode::Prefer, Some(Trust::Anyone)));
        for (mode, ssl, trust) in [
            ("disable", SslMode::Disable, None),
            ("require", SslMode::Require, Some(Trust::Anyone)),
            ("verify-ca", SslMode::Require, Some(Trust::Authority)),
            ("verify-full", SslMode::Require, Some(Trust::AuthorityAndName)),
            ("require&sslrootcert=/ca.pem", SslMode::Require, Some(Trust::Authority)),
        ] {
            let address = read(&format!("?sslmode={mode}")).unwrap();
            assert_eq!((address.config.get_ssl_mode(), address.trust), (ssl, trust), "{mode}");
        }
        let socket = Address::parse("postgres:///tidings?host=/run/pg&user=me&sslmode=require").unwrap();
        assert_eq!((socket.config.get_ssl_mode(), socket.trust), (SslMode::Disable, None));
        assert_eq!(socket.shown(), "tidings on /run/pg");
    }

    #[test]
    fn of_several_servers_the_one_that_takes_writes_is_used() {
        let read = |url: &str| Address::parse(url).unwrap().config.get_target_session_attrs();
        assert_eq!(read("postgres://me@a,b/x"), TargetSessionAttrs::ReadWrite);
        assert_eq!(read("postgres://me@a,b/x?target_session_attrs=read-only"), TargetSessionAttrs::ReadOnly);
        // One alone may be a standby, of which an export is made.
        assert_eq!(read("postgres://me@a/x"), TargetSessionAttrs::Any);
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_secret() {
        for wrong in [
            "",
            "mysql://me:sesame@db/x",
            "host=db password=sesame",
            "postgres://me:sesame@db/x?sslmode=always",
            "postgres://me:sesame@db:port/x",
            "postgres://me:sesame@db/x?sslcert=/a.pem",
            "postgres:///x?user=me&password=sesame",
            "postgres://me:sesame@db/x?sesame=1",
        ] {
            let reason = Address::parse(wrong).unwrap_err();
            assert!(!reason.contains("sesame"), "{reason}");
        }
    }
}
