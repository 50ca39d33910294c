//! The certificates of one webhook: an own CA, and the certificate that tidings shows to the receiver.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use reqwest::{Certificate, ClientBuilder, Identity};
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{WebhookConfig, report::plain};
use crate::secret::{SecretError, Stamp};

/// The certificate files of one webhook.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    ca: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TlsError {
    /// The key of the webhook that names it.
    pub key: &'static str,
    reason: String,
}

impl TlsFiles {
    /// The files that a webhook names; nothing is read.
    ///
    /// # Errors
    /// When it names a client certificate without its key, or the other way round.
    pub fn of(config: &WebhookConfig) -> Result<Self, TlsError> {
        let alone = |key, other| {
            let reason = format!("`{other}` is missing; a client certificate takes both");
            Err(TlsError { key, reason })
        };
        let client = match (&config.client_cert_file, &config.client_key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (Some(_), None) => return alone("client_cert_file", "client_key_file"),
            (None, Some(_)) => return alone("client_key_file", "client_cert_file"),
            (None, None) => None,
        };
        Ok(Self { ca: config.ca_file.clone(), client })
    }

    /// The same files, seen from `directory`.
    #[must_use]
    pub fn below(&self, directory: &Path) -> Self {
        let below = |path: &PathBuf| directory.join(path);
        Self {
            ca: self.ca.as_ref().map(below),
            client: self.client.as_ref().map(|(cert, key)| (below(cert), below(key))),
        }
    }

    /// What the files look like now, to see later whether they changed.
    pub(super) fn stamps(&self) -> Result<Vec<Stamp>, TlsError> {
        let client = self.client.as_ref();
        let files = [
            ("ca_file", self.ca.as_ref()),
            ("client_cert_file", client.map(|(cert, _)| cert)),
            ("client_key_file", client.map(|(_, key)| key)),
        ];
        let files = files.into_iter().filter_map(|(key, path)| Some((key, path?)));
        files.map(|(key, path)| Stamp::of(path).map_err(|error| unreadable(key, path, &error))).collect()
    }

    /// Whether the files can be used as they are now.
    ///
    /// # Errors
    /// What is wrong with the first that cannot.
    pub fn check(&self) -> Result<(), TlsError> {
        self.roots()?;
        self.identity().map(drop)
    }

    /// A client with these certificates.
    pub(super) fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, TlsError> {
        let builder = builder.tls_certs_only(self.roots()?);
        Ok(match self.identity()? {
            Some(identity) => builder.identity(identity),
            None => builder,
        })
    }

    fn roots(&self) -> Result<Vec<Certificate>, TlsError> {
        let Some(path) = &self.ca else { return Ok(Vec::new()) };
        let refused = || refused("ca_file", path, "a certificate in it cannot be trusted as a CA");
        let (_, found) = certificates("ca_file", path)?;
        let mut store = RootCertStore::empty();
        let root = |der: CertificateDer<'static>| {
            let certificate = Certificate::from_der(&der).map_err(|_| refused())?;
            store.add(der).map_err(|_| refused()).map(|()| certificate)
        };
        found.into_iter().map(root).collect()
    }

    fn identity(&self) -> Result<Option<Identity>, TlsError> {
        let Some((cert, key)) = &self.client else { return Ok(None) };
        let (mut pem, chain) = certificates("client_cert_file", cert)?;
        let key_pem = fs::read(key).map_err(|error| unreadable("client_key_file", key, &error))?;
        let bad_key = |reason| refused("client_key_file", key, reason);
        let private = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| bad_key("it holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)"))?;
        match CertifiedKey::from_der(chain, private, &ring::default_provider()) {
            Ok(_) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(bad_key("it is not the key of the certificate in `client_cert_file`"));
            }
            Err(error) => return Err(bad_key(&format!("it cannot be used: {error}"))),
        }
        if cert != key {
            pem.push(b'\n');
            pem.extend(key_pem);
        }
        let identity = Identity::from_pem(&pem).map_err(|_| bad_key("it cannot be used"))?;
        Ok(Some(identity))
    }
}

/// A PEM file as it is, and the certificates in it, of which there is at least one.
fn certificates(key: &'static str, path: &Path) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), TlsError> {
    let pem = fs::read(path).map_err(|error| unreadable(key, path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok((pem, found)),
        Ok(_) => Err(refused(key, path, "it holds no certificate in PEM")),
        Err(_) => Err(refused(key, path, "it is no PEM")),
    }
}

fn unreadable(key: &'static str, path: &Path, error: &io::Error) -> TlsError {
    refused(key, path, &plain(error))
}

fn refused(key: &'static str, path: &Path, reason: &str) -> TlsError {
    let what = if key == "client_key_file" { "key" } else { "certificate" };
    TlsError { key, reason: SecretError::new(what, path, reason).to_string() }
}
