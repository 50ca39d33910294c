//! A peer that speaks HTTP/2 frame by frame, and a relay whose connections can go silent.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::{Request, Response};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::LOOPBACK;

/// A request over HTTP/2 that nobody has read or answered yet.
pub struct Call {
    /// The number of its connection, from 1.
    pub connection: usize,
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

impl Call {
    /// Answers with this status and this body, whatever became of the request's own.
    pub fn answer(mut self, status: u16, body: impl Into<Bytes>) -> RecvStream {
        let body = body.into();
        let response = Response::builder().status(status).body(()).unwrap();
        let mut stream = self.respond.send_response(response, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(body, true).unwrap();
        }
        self.request.into_body()
    }

    /// Says that it was not handled.
    pub fn refuse(mut self) {
        self.respond.send_reset(h2::Reason::REFUSED_STREAM);
    }
}

/// Answers HTTP/2 over TLS on loopback with `handler`, a task for each request. It ends with what is returned.
pub async fn serve_h2<F, H>(acceptor: TlsAcceptor, handler: H) -> (SocketAddr, JoinSet<()>)
where
    F: Future<Output = ()> + Send,
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        for connection in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, handler) = (acceptor.clone(), handler.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let Ok(mut h2) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = h2.accept().await {
                    let handler = handler.clone();
                    tokio::spawn(async move { handler(Call { connection, request, respond }).await });
                }
            });
        }
    });
    (address, server)
}

/// Passes connections on, until they are to go silent: then nothing comes through any more, and nothing says so.
pub struct Relay {
    pub port: u16,
    accepted: Arc<AtomicUsize>,
    silent: watch::Sender<usize>,
    server: JoinSet<()>,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, accepted) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        let (counted, heard) = (Arc::clone(&accepted), silent.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let mut silent = heard.subscribe();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let silenced = async { drop(silent.wait_for(|up_to| number <= *up_to).await) };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = silenced => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, accepted, silent, server }
    }

    /// Makes the connections of now silent; new ones work.
    pub fn silence(&self) {
        self.silent.send_replace(self.accepted());
    }

    /// How many connections there were.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}
