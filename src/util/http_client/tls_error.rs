//! Errors of TLS in sentences, each with what to do. The library tells most of them by the names of its types.

use std::borrow::Cow;

use rustls::{
    AlertDescription as Alert, CertificateError as Problem, Error, InvalidMessage, pki_types::UnixTime,
};

use crate::util::{foreign::escape, units::Time};

/// The names of a certificate that are shown.
const MAX_NAMES: usize = 3;

/// The longest name that is shown.
const MAX_NAME: usize = 100;

/// Returns what is wrong, and the way out.
pub(super) fn explain(error: &Error) -> String {
    let text = match error {
        Error::InvalidCertificate(problem) => return of_certificate(problem),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the other side does not speak TLS; check the port, or use http:// in the URL")
        }
        Error::PeerIncompatible(_) => Some(
            "the two sides have no version and cipher of TLS in common; let the other side speak TLS 1.2 or 1.3 with a usual \
             cipher",
        ),
        Error::NoCertificatesPresented => Some("the other side has no certificate; configure one there"),
        _ => None,
    };
    text.map_or_else(|| error.to_string(), str::to_owned)
}

fn of_certificate(problem: &Problem) -> String {
    let text = match problem {
        Problem::UnknownIssuer => {
            "no trusted authority issued the certificate; add its authority to those of the system, or to the `ca_file` of the \
             sink"
        }
        Problem::ExpiredContext { not_after, .. } => {
            let at = shown(*not_after);
            return format!(
                "the certificate expired at {at}; renew it, or correct the clock of this machine"
            );
        }
        Problem::Expired => "the certificate expired; renew it, or correct the clock of this machine",
        Problem::NotValidYetContext { not_before, .. } => {
            let at = shown(*not_before);
            return format!(
                "the certificate is not valid before {at}; correct the clock of this machine or of its issuer"
            );
        }
        Problem::NotValidYet => {
            "the certificate is not valid yet; correct the clock of this machine or of its issuer"
        }
        Problem::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            return format!(
                "the certificate is for {}, and not for `{}`; use a name of the certificate in the URL, or have one issued for \
                 this name",
                names(presented),
                escape(&expected)
            );
        }
        Problem::NotValidForName => {
            "the certificate is for another name; use a name of the certificate in the URL, or have one issued for this name"
        }
        Problem::Revoked => "the certificate was revoked; replace it",
        Problem::BadEncoding => "the certificate cannot be read; have it issued again",
        Problem::BadSignature => {
            "the certificate is not signed by the authority whose name it has; put the present authority into `ca_file`, or \
             correct the chain at the other side"
        }
        Problem::InvalidPurpose | Problem::InvalidPurposeContext { .. } => {
            "the certificate may not be used by a server; have one issued with the extended key usage `serverAuth`"
        }
        Problem::UnhandledCriticalExtension => {
            "the certificate has a critical extension that is not known here; have one issued without it"
        }
        Problem::UnsupportedSignatureAlgorithmContext { .. }
        | Problem::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate is signed by an algorithm that is not taken; have one issued with SHA-256 or better, and RSA, \
             ECDSA or Ed25519"
        }
        // The library has no type for these that is ours to name.
        Problem::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => {
                "the certificate is marked as an authority (CA:TRUE), which no server may use as its own; give the other side \
                 one without that mark"
            }
            "UnsupportedCertVersion" => {
                "the certificate is not of version 3; have one issued with a subjectAltName"
            }
            name => return format!("the certificate cannot be used ({name}); have another one issued"),
        },
        other => return format!("the certificate cannot be used ({other}); have another one issued"),
    };
    text.to_owned()
}

fn of_alert(alert: Alert) -> Option<&'static str> {
    Some(match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            "the other side asks for a client certificate; name one in `client_cert_file` and `client_key_file`"
        }
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::AccessDenied => {
            "the other side refuses the client certificate; use one that it trusts and that has not expired"
        }
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "the other side refuses the handshake; it may want a client certificate, or other versions or ciphers of TLS"
        }
        Alert::ProtocolVersion => "the other side refuses TLS 1.2 and 1.3; let it speak one of them",
        Alert::UnrecognisedName => {
            "the other side has no certificate for this name; check the host in the URL"
        }
        Alert::InternalError => "the other side failed during the handshake; its log may say why",
        _ => return None,
    })
}

fn shown(time: UnixTime) -> Time {
    Time(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000))
}

/// The names of a certificate, which come as `DnsName("a.example")` and `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> Cow<'static, str> {
    let name = |text: &String| {
        let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(text);
        let inner: String = inner.trim_matches('"').chars().take(MAX_NAME).collect();
        format!("`{}`", escape(&inner))
    };
    let shown: Vec<String> = presented.iter().take(MAX_NAMES).map(name).collect();
    match presented.len().saturating_sub(MAX_NAMES) {
        _ if shown.is_empty() => "no name at all".into(),
        0 => shown.join(", ").into(),
        more => format!("{} and {more} more", shown.join(", ")).into(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_few_and_readable() {
        let of = |presented: &[&str]| {
            let presented = presented.iter().map(|name| (*name).to_owned()).collect();
            let expected = ServerName::try_from("hooks.example").unwrap();
            explain(&Problem::NotValidForNameContext { expected, presented }.into())
        };
        let one = "the certificate is for `a.example`, and not for `hooks.example`; ";
        assert!(of(&["DnsName(\"a.example\")"]).starts_with(one));
        assert!(of(&["IpAddress(127.0.0.1)"]).contains("is for `127.0.0.1`, and"));
        assert!(of(&[]).contains("is for no name at all, and"));
        let many =
            of(&["DnsName(\"a\")", "DnsName(\"b\")", "DnsName(\"c\")", "DnsName(\"d\")", "DnsName(\"e\")"]);
        assert!(many.contains("is for `a`, `b`, `c` and 2 more, and"), "{many}");
    }

    #[test]
    fn the_usual_errors_are_sentences_with_a_way_out() {
        let usual = [
            Problem::UnknownIssuer.into(),
            Problem::Expired.into(),
            Problem::NotValidYet.into(),
            Problem::NotValidForName.into(),
            Problem::Revoked.into(),
            Problem::BadEncoding.into(),
            Problem::BadSignature.into(),
            Problem::InvalidPurpose.into(),
            Problem::UnhandledCriticalExtension.into(),
            Problem::ApplicationVerificationFailure.into(),
            Error::AlertReceived(Alert::CertificateRequired),
            Error::AlertReceived(Alert::UnknownCA),
            Error::AlertReceived(Alert::HandshakeFailure),
            Error::AlertReceived(Alert::ProtocolVersion),
            Error::AlertReceived(Alert::UnrecognisedName),
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
        ];
        for error in usual {
            let text = explain(&error);
            assert!(text.starts_with("the ") || text.starts_with("no "), "{text}");
            assert!(text.contains("; ") && !text.contains("::"), "{text}");
        }
        assert_eq!(explain(&Error::DecryptError), "cannot decrypt peer's message");
    }
}
