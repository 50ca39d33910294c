//! The server of the mock: it accepts, serves and stops, or goes dark as if the machine were gone.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use http::Response;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    faults::Down,
    routes::{Hangup, router},
    state::{Shared, lock},
};

/// How long a graceful stop waits for answers in flight.
const DRAIN: Duration = Duration::from_secs(2);

/// A running listener. Dropping it closes the port and every connection.
#[derive(Debug)]
pub(super) struct Server {
    drain: CancellationToken,
    abort: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(shared: Arc<Shared>, listen: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let work = accept(listener, shared, drain.clone());
        let task = tokio::spawn({
            let abort = abort.clone();
            async move {
                // Dropping the work drops the listener with all its connections.
                abort.run_until_cancelled(work).await;
            }
        });
        Ok((Self { drain, abort, task }, addr))
    }

    /// Accepts no more, finishes what is in flight, and returns when all is closed.
    pub async fn stop(mut self) {
        self.drain.cancel();
        if timeout(DRAIN, &mut self.task).await.is_err() {
            self.abort().await;
        }
    }

    /// Closes everything at once.
    pub async fn abort(&mut self) {
        self.abort.cancel();
        // Whether the task ends by itself or by a panic makes no difference here.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, drain: CancellationToken) {
    let router = router(&shared);
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // The process is probably out of descriptors: give connections time to close.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if lock(&shared.faults).down == Down::Close {
            continue;
        }
        open.spawn(serve(stream, router.clone(), drain.clone()));
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, router: Router, drain: CancellationToken) {
    // Without it answers are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the mock closed a connection");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let answered: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
    match answered {
        Ok(response) if response.extensions().get::<Hangup>().is_none() => Ok(response),
        // An error of the service makes hyper close the connection without an answer.
        _ => Err(io::Error::new(io::ErrorKind::ConnectionReset, "hung up on purpose")),
    }
}
