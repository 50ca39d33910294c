//! Where the database is: the URL of libpq, with its modes of TLS.

use std::{path::PathBuf, time::Duration};

use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::tls::{TlsFiles, Trust};

/// How long a host may take to accept a connection, unless the URL says otherwise: the next one is tried within a lease.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

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

/// The parameters that are read. The library reads the first ones, and this file the others.
const PARAMETERS: [(&str, bool); 16] = [
    ("user", true),
    ("password", true),
    ("host", true),
    ("hostaddr", true),
    ("port", true),
    ("dbname", true),
    ("connect_timeout", true),
    ("target_session_attrs", true),
    ("load_balance_hosts", true),
    ("application_name", true),
    ("options", true),
    ("sslnegotiation", true),
    ("sslmode", false),
    ("sslrootcert", false),
    ("sslcert", false),
    ("sslkey", false),
];

/// The value of `sslrootcert` that means the authorities of the system.
const SYSTEM: &str = "system";

impl Address {
    /// Reads a URL. The error holds nothing of it but the names of parameters, and values of those of TLS.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(format!("it is no URL of PostgreSQL\nhint: {HINT}"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut root, mut files) = ("prefer".to_owned(), None, TlsFiles::default());
        let mut rest = Vec::new();
        for (at, pair) in query.split('&').enumerate().filter(|(_, pair)| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = PARAMETERS.iter().find(|(name, _)| *name == key);
            let Some((_, is_of_library)) = known else { return Err(unread(key, at + 1, query)) };
            if *is_of_library {
                rest.push(checked(key, pair)?);
                continue;
            }
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                "sslmode" => mode = value,
                "sslrootcert" => root = Some(value),
                "sslcert" => files.cert = Some(PathBuf::from(value)),
                _ => files.key = Some(PathBuf::from(value)),
            }
        }
        if files.cert.is_some() != files.key.is_some() {
            return Err("it has one of sslcert and sslkey\nhint: name both".to_owned());
        }
        files.root = root.as_ref().filter(|root| *root != SYSTEM).map(PathBuf::from);
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
        let trusts_less = match root.as_deref() {
            None => false,
            Some(SYSTEM) => trust != Some(Trust::AuthorityAndName),
            Some(_) => matches!(trust, None | Some(Trust::Anyone)),
        };
        if trusts_less {
            return Err(format!(
                "sslrootcert has no effect with sslmode={mode}\nhint: write sslmode=verify-full, or leave sslrootcert out"
            ));
        }
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

/// Returns a parameter as the library reads it.
fn checked(key: &str, pair: &str) -> Result<String, String> {
    // The server that takes writes is the primary.
    let pair = if pair == "target_session_attrs=primary" { "target_session_attrs=read-write" } else { pair };
    let is_read = format!("postgres://host/?{pair}").parse::<Config>().is_ok();
    if is_read {
        return Ok(pair.to_owned());
    }
    let hint = match key {
        "target_session_attrs" => "it is one of any, read-write, primary and read-only",
        "load_balance_hosts" => "it is one of disable and random",
        "sslnegotiation" => "it is one of postgres and direct",
        "connect_timeout" => "it is a number of seconds",
        "port" => "it is a number, or one for each host with commas between them",
        "hostaddr" => "it is an IP address, or one for each host with commas between them",
        _ => "write a character that has a meaning in a URL as % and its two hexadecimal digits",
    };
    Err(format!("the value of its parameter `{key}` cannot be read\nhint: {hint}"))
}

/// What is wrong with a parameter that is not read. It is named, unless it may be a part of a password.
fn unread(key: &str, at: usize, query: &str) -> String {
    let is_name = key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let names: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
    let hint = format!("leave it out; the parameters are {}", names.join(", "));
    if is_name && !query.contains('@') && !query.contains("password") {
        return format!("its parameter `{key}` is not one that tidings reads\nhint: {hint}");
    }
    format!(
        "its parameter number {at} is not one that tidings reads\nhint: {hint}. In a password, write ? as %3F and & as %26"
    )
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
        assert_eq!(read("postgres://me@a/x?target_session_attrs=primary"), TargetSessionAttrs::ReadWrite);
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
            "postgres://me:open?sesame=1@db/x",
            "postgres://me:open?sesame@db/x?sslmode=require",
            "postgres:///x?host=db&user=me&password=open&sesame",
            "postgres:///x?host=db&user=me&password=open%FFsesame",
        ] {
            let reason = Address::parse(wrong).unwrap_err();
            assert!(!reason.contains("sesame") && reason.contains("\nhint: "), "{reason}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_read_is_named() {
        for (query, expected) in [
            ("gssencmode=disable", "`gssencmode`"),
            ("sslmode=require&sslsni=1", "`sslsni`"),
            ("passfile=/a", "`passfile`"),
            ("channel_binding=require", "`channel_binding`"),
            ("sslrotcert=/ca.pem", "`sslrotcert`"),
            ("keepalives_idle=3", "`keepalives_idle`"),
            ("password=sesame&sslsni=1", "number 2"),
            ("currentSchema=a", "`currentSchema`"),
        ] {
            let reason = Address::parse(&format!("postgres://me@db/x?{query}")).unwrap_err();
            assert!(reason.contains(expected) && reason.contains("the parameters are user, "), "{reason}");
        }
        for (query, expected) in [
            ("target_session_attrs=standby", "read-write, primary"),
            ("connect_timeout=soon", "seconds"),
            ("port=a", "a number"),
            ("sslrootcert=/ca.pem", "sslmode=verify-full"),
            ("sslrootcert=/ca.pem&sslmode=disable", "sslmode=verify-full"),
            ("sslrootcert=system&sslmode=verify-ca", "sslmode=verify-full"),
        ] {
            let reason = Address::parse(&format!("postgres://me@db/x?{query}")).unwrap_err();
            let (key, _) = query.split_once('=').unwrap();
            assert!(reason.contains(key) && reason.contains(expected), "{reason}");
        }
        for query in
            ["sslrootcert=system&sslmode=verify-full", "options=-c%20work_mem=8MB", "host=a,b&port=1,2"]
        {
            Address::parse(&format!("postgres://me@db/x?{query}")).unwrap();
        }
    }
}
