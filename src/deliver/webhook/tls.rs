//! The certificates of one webhook: a CA of its own, and the client certificate.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    deliver::config::WebhookConfig,
    util::{
        http_client::{self, plain},
        secret::{SecretError, Stamp},
    },
};

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
    /// Returns the files that a webhook names, without reading them.
    ///
    /// # Errors
    /// When it names a client certificate without its key, or a key without its certificate.
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

    /// Returns the same files, relative to `directory`.
    #[must_use]
    pub fn below(&self, directory: &Path) -> Self {
        let below = |path: &PathBuf| directory.join(path);
        Self {
            ca: self.ca.as_ref().map(below),
            client: self.client.as_ref().map(|(cert, key)| (below(cert), below(key))),
        }
    }

    /// Returns the current stamps of the files; different stamps mean that a file has changed.
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

    /// Reads the files and returns the TLS configuration.
    ///
    /// # Errors
    /// The first file that cannot be used, and the reason.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        if self.ca.is_none() && self.client.is_none() {
            return Ok(http_client::tls());
        }
        let mut roots = Arc::clone(http_client::roots());
        if let Some(path) = &self.ca {
            let roots = Arc::make_mut(&mut roots);
            for der in certificates("ca_file", path)? {
                let refused = |_| refused("ca_file", path, "a certificate in it cannot be trusted as a CA");
                roots.add(der).map_err(refused)?;
            }
        }
        let tls = http_client::trusting(roots);
        let Some((cert, key)) = &self.client else {
            return Ok(tls.with_no_client_auth());
        };
        let chain = certificates("client_cert_file", cert)?;
        let pem = fs::read(key).map_err(|error| unreadable("client_key_file", key, &error))?;
        let bad_key = |reason: &str| refused("client_key_file", key, reason);
        let private = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| bad_key("it holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)"))?;
        tls.with_client_auth_cert(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                bad_key("it is not the key of the certificate in `client_cert_file`")
            }
            error => bad_key(&format!("it cannot be used: {error}")),
        })
    }
}

/// Reads the certificates of a PEM file, at least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|error| unreadable(key, path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
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
