//! A private certificate authority, and a webhook receiver over TLS that asks for client certificates.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::http::{HeaderMap, Response, Version};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::LOOPBACK;

/// A certificate with its key.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Pair {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    /// Writes it as `client.pem` and `client.key`.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("client.pem"), &self.cert).unwrap();
        std::fs::write(folder.join("client.key"), &self.key).unwrap();
    }
}

/// An authority that nobody knows.
pub struct Authority {
    pub cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().pem();
        Self { cert, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, name: &str) -> Pair {
        self.issue_as(name, |_| {})
    }

    /// A certificate that `change` makes odd.
    pub fn issue_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// TLS as `localhost` with these protocols. With `clients` it takes those alone who have a certificate of that authority.
pub fn acceptor(own: &Authority, clients: Option<&Authority>, alpn: &[&str]) -> TlsAcceptor {
    acceptor_with(&own.issue("localhost"), clients, alpn)
}

fn acceptor_with(pair: &Pair, clients: Option<&Authority>, alpn: &[&str]) -> TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(vec![pair.der()], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A request that came over TLS.
#[derive(Clone, Debug)]
pub struct TlsRequest {
    /// The number of its connection, from 1.
    pub connection: usize,
    pub version: Version,
    pub client: Option<CertificateDer<'static>>,
    pub headers: HeaderMap,
}

/// A receiver as `localhost` that answers 204 over TLS.
pub struct TlsReceiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<TlsRequest>>>,
    server: JoinHandle<()>,
}

impl TlsReceiver {
    /// One that offers these protocols. With `clients` it takes those alone who have a certificate of that authority.
    pub async fn start(own: &Authority, clients: Option<&Authority>, alpn: &[&str]) -> Self {
        Self::accepting(acceptor(own, clients, alpn)).await
    }

    /// One with this certificate.
    pub async fn with(pair: &Pair) -> Self {
        Self::accepting(acceptor_with(pair, None, &["http/1.1"])).await
    }

    async fn accepting(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<TlsRequest>>> = Arc::default();
        let server = tokio::spawn(serve(listener, acceptor, Arc::clone(&requests)));
        Self { address, requests, server }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/hooks/jobs", self.address.port())
    }

    pub fn requests(&self) -> Vec<TlsRequest> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TlsReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, requests: Arc<Mutex<Vec<TlsRequest>>>) {
    for connection in 1.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let client = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
            let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let (requests, client) = (Arc::clone(&requests), client.clone());
                async move {
                    let (head, body) = request.into_parts();
                    body.collect().await.unwrap();
                    let (version, headers) = (head.version, head.headers);
                    requests.lock().unwrap().push(TlsRequest { connection, version, client, headers });
                    let answer: Result<_, Infallible> =
                        Ok(Response::builder().status(204).body(Empty::<Bytes>::new()).unwrap());
                    answer
                }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
