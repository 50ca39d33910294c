//! Detects whether a request used a kept connection.

use std::{
    cell::Cell,
    future::Future,
    task::{Context, Poll},
};

use tower::{Layer, Service};

tokio::task_local! {
    /// Whether the request of this task opened a connection.
    static OPENED: Cell<bool>;
}

/// Runs a request. Returns its output, and whether it used a kept connection.
pub(super) async fn noticing_reuse<F: Future>(request: F) -> (F::Output, bool) {
    let noticed = async {
        let output = request.await;
        (output, !OPENED.with(Cell::get))
    };
    OPENED.scope(Cell::new(false), noticed).await
}

/// Notices each new connection. The client calls its connector in the request's task, and only
/// without a kept connection.
#[derive(Clone)]
pub(super) struct Noticing;

impl<S> Layer<S> for Noticing {
    type Service = Noticed<S>;

    fn layer(&self, inner: S) -> Noticed<S> {
        Noticed(inner)
    }
}

#[derive(Clone)]
pub(super) struct Noticed<S>(S);

impl<S: Service<R>, R> Service<R> for Noticed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        // Outside of `noticing_reuse` there is nothing to set.
        let _ = OPENED.try_with(|opened| opened.set(true));
        self.0.call(request)
    }
}
