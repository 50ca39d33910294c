//! The route of outgoing requests: the addresses that they may reach, and the proxy.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use url::Host;

use super::{
    Forward,
    guard::{GuardedResolver, Trust, is_localhost},
};
use crate::util::term::Term;

/// The route of the requests of a source, a sink or the collector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The guard of addresses, including that of a proxy.
    pub resolver: GuardedResolver,
    proxy: Option<(Arc<Forward>, Scope)>,
    /// Until when requests may be sent.
    term: Term,
}

/// The requests that use a proxy.
#[derive(Clone, Debug)]
enum Scope {
    /// All: the source or sink names its own proxy.
    All,
    /// All but loopback and these.
    Except(Arc<[Exception]>),
}

/// A proxy or an exception that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProxy {
    /// Not the URL of a proxy.
    #[error("it is no URL of http or https, such as http://proxy.example:3128, and not \"none\"")]
    Url,
    /// Not a host.
    #[error(
        "it is no host; write example.com (with all names below it), .example.com (those below it alone), an address or a range such as 10.0.0.0/8"
    )]
    Exception,
}

impl Outgoing {
    /// The word for no proxy where one could be named.
    pub const NONE: &str = "none";

    /// Returns a route without a proxy.
    #[must_use]
    pub fn direct(trust: Trust) -> Self {
        Self { resolver: GuardedResolver::new(Arc::new(trust)), proxy: None, term: Term::default() }
    }

    /// Returns a route without a proxy, for a test that gives the answers of DNS queries.
    #[cfg(test)]
    pub(crate) fn scripted(trust: Arc<Trust>, answers: super::guard::Script) -> Self {
        Self { resolver: GuardedResolver::scripted(trust, answers), ..Self::direct(Trust::Operator) }
    }

    /// Returns the route to addresses of the configuration: through `proxy`, except to `no_proxy`
    /// and loopback.
    ///
    /// # Errors
    /// When the proxy or an exception cannot be used.
    pub fn of(proxy: Option<&str>, no_proxy: &[String]) -> Result<Self, BadProxy> {
        let except = no_proxy.iter().map(|text| Exception::parse(text)).collect::<Result<_, _>>()?;
        let proxy = proxy.map(forward).transpose()?;
        let proxy = proxy.map(|proxy| (proxy, Scope::Except(except)));
        Ok(Self { proxy, ..Self::direct(Trust::Operator) })
    }

    /// Returns the route with the proxy that a source or a sink names: a URL for all requests, or
    /// [`NONE`](Self::NONE).
    ///
    /// # Errors
    /// When the choice is neither.
    pub fn choosing(&self, choice: Option<&str>) -> Result<Self, BadProxy> {
        let proxy = match choice {
            None => self.proxy.clone(),
            Some(Self::NONE) => None,
            Some(url) => Some((forward(url)?, Scope::All)),
        };
        Ok(Self { resolver: self.resolver.clone(), proxy, term: self.term.clone() })
    }

    /// Returns the same route for requests that are sent within `term` alone, and wait while it is over.
    #[must_use]
    pub fn within(self, term: Term) -> Self {
        Self { term, ..self }
    }

    /// Returns until when requests may be sent.
    #[must_use]
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Returns the proxy that requests may go through.
    #[must_use]
    pub fn proxy(&self) -> Option<&Arc<Forward>> {
        self.proxy.as_ref().map(|(proxy, _)| proxy)
    }

    /// Returns the proxy for requests to `host`, as URLs write it.
    #[must_use]
    pub fn proxy_for(&self, host: &str) -> Option<&Arc<Forward>> {
        let (proxy, scope) = self.proxy.as_ref()?;
        let is_direct = match scope {
            Scope::All => false,
            Scope::Except(except) => {
                let host = Host::parse(host).ok()?;
                is_loopback(&host) || except.iter().any(|exception| exception.matches(&host))
            }
        };
        (!is_direct).then_some(proxy)
    }
}

fn forward(url: &str) -> Result<Arc<Forward>, BadProxy> {
    Forward::at(url).map(Arc::new).ok_or(BadProxy::Url)
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => is_localhost(name),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.to_canonical().is_loopback(),
    }
}

/// Hosts to reach without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Within(IpNet),
    /// A name, and all below it.
    Name(String),
    /// All names below it.
    Below(String),
}

impl Exception {
    fn parse(text: &str) -> Result<Self, BadProxy> {
        let bad = || BadProxy::Exception;
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(net) = bare.parse().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from)) {
            return Ok(Self::Within(net));
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let Ok(Host::Domain(name)) = Host::parse(below.unwrap_or(text)) else { return Err(bad()) };
        let name = name.trim_end_matches('.').to_owned();
        match below {
            _ if name.is_empty() || name.contains('*') => Err(bad()),
            Some(_) => Ok(Self::Below(name)),
            None => Ok(Self::Name(name)),
        }
    }

    fn matches(&self, host: &Host) -> bool {
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => Some(ip.to_canonical()),
        };
        match (self, host) {
            (Self::Within(net), _) => address.is_some_and(|address| net.contains(&address)),
            (Self::Name(suffix), Host::Domain(name)) => {
                name.trim_end_matches('.') == suffix || is_below(name, suffix)
            }
            (Self::Below(suffix), Host::Domain(name)) => is_below(name, suffix),
            (Self::Name(_) | Self::Below(_), _) => false,
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    let above = name.trim_end_matches('.').strip_suffix(suffix);
    above.is_some_and(|above| above.len() > 1 && above.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(outgoing: &Outgoing, host: &str) -> Option<String> {
        outgoing.proxy_for(host).map(|proxy| proxy.shown().to_owned())
    }

    #[test]
    fn loopback_and_exceptions_go_without_the_proxy_of_all() {
        let no_proxy = [
            "corp.example",
            ".svc",
            "*.wild.example",
            "10.0.0.0/8",
            "[fd00::]/8",
            "192.0.2.7",
            "Bücher.example",
        ];
        let no_proxy = no_proxy.map(str::to_owned);
        let outgoing = Outgoing::of(Some("http://proxy.example:3128"), &no_proxy[..4]).unwrap();
        assert_eq!(through(&outgoing, "api.example").as_deref(), Some("proxy.example:3128"));
        let all =
            Outgoing::of(Some("proxy.example:3128"), &[&no_proxy[..4], &no_proxy[5..]].concat()).unwrap();
        for (host, direct) in [
            ("localhost", true),
            ("app.localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("corp.example", true),
            ("CORP.example.", true),
            ("hooks.corp.example", true),
            ("notcorp.example", false),
            ("corp.example.evil.example", false),
            ("app.svc", true),
            ("svc", false),
            ("a.wild.example", true),
            ("wild.example", false),
            ("10.1.2.3", true),
            ("[::ffff:10.1.2.3]", true),
            ("11.1.2.3", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("xn--bcher-kva.example", true),
        ] {
            assert_eq!(through(&all, host).is_none(), direct, "{host}");
        }
        assert!(Outgoing::of(None, &no_proxy[..4]).unwrap().proxy_for("api.example").is_none());
    }

    #[test]
    fn a_source_or_a_sink_may_choose_for_itself() {
        let all = Outgoing::of(Some("http://proxy.example:3128"), &["corp.example".to_owned()]).unwrap();
        let none = all.choosing(Some("none")).unwrap();
        let own = all.choosing(Some("http://own.example")).unwrap();
        let same = all.choosing(None).unwrap();
        for (host, by_all) in
            [("api.example", Some("proxy.example:3128")), ("corp.example", None), ("127.0.0.1", None)]
        {
            assert_eq!(through(&none, host), None, "{host}");
            assert_eq!(through(&own, host).as_deref(), Some("own.example"), "{host}");
            assert_eq!(through(&same, host).as_deref(), by_all, "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_told() {
        for bad in ["", ".", "*", "http://a.example", "a b", "a/b", "10.0.0.0/33", "u@h", "*.*.example"] {
            let error = Outgoing::of(None, &[bad.to_owned()]).unwrap_err();
            assert_eq!(error, BadProxy::Exception, "{bad}");
        }
        for bad in ["ftp://proxy.example", "::", "None"] {
            let all = Outgoing::of(None, &[]).unwrap();
            let known = all.choosing(Some(bad)).err();
            assert_eq!(known, (bad != "None").then_some(BadProxy::Url), "{bad}");
        }
    }
}
