//! Which address is connected to, and which connections are kept.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    tests::{KEY, read_request, retry, small},
    *,
};
use crate::{
    deliver::{
        config::CallbackConfig,
        outcome::AttemptResult,
        webhook::{
            callbacks::{CALLBACK_CONNECTIONS, CALLBACK_IDLE},
            classify::classify,
        },
    },
    util::{clock, http_client},
};

#[tokio::test]
async fn a_callback_reaches_loopback_only_when_it_is_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *counted.lock().unwrap() += 1;
            read_request(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let closed = Callbacks::new(&CallbackConfig::default()).unwrap();
    for host in ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        assert!(matches!(closed.check(&url), Err(BadCallback::Blocked(_))), "{url}");
        let hook = Webhook::callback(&closed, &url, None).unwrap();
        let outcome = hook.attempt(&small(), clock::now()).await;
        assert_eq!(retry(&outcome), (None, "blocked address: loopback"), "{url}");
        assert_eq!((outcome.error_class, outcome.response), (Some(ErrorClass::Blocked), None));
    }
    // Past the check of the URL the resolver itself says no, and the reason survives the client's
    // errors.
    let mut request = Request::new(UploadBody::new(futures_util::stream::empty(), 0));
    *request.uri_mut() = format!("http://localhost:{port}/").parse().unwrap();
    let error = closed.transport.lease().unwrap().client.send(request).await.unwrap_err();
    let blocked = AttemptFailure::new(ErrorClass::Blocked, "blocked address: loopback");
    assert_eq!(classify(&error, error.is_connect()), blocked);
    assert_eq!(*connections.lock().unwrap(), 0);

    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let open = Callbacks::new(&CallbackConfig { enabled: true, allow }).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{port}/");
        open.check(&url).unwrap();
        let hook = Webhook::callback(&open, &url, Some(&Secret::new(KEY))).unwrap();
        assert_eq!(hook.attempt(&small(), clock::now()).await.result, AttemptResult::Delivered);
    }
    assert_eq!(*connections.lock().unwrap(), 2);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";

/// Answers every connection with [`OK`], and counts them.
fn answering(listener: TcpListener) -> Arc<Mutex<usize>> {
    let connections = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *counted.lock().unwrap() += 1;
            let mut seen = Vec::new();
            while !seen.ends_with(b"\"}}") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            stream.write_all(OK).await.unwrap();
        }
    });
    connections
}

fn test_event() -> Message {
    Message::test("evt_1".to_owned(), Time(0), "hello")
}

/// A name that first has an address within bounds and then another one gains nothing: each query
/// is judged, and the address that was judged is the one that is connected to, without a second
/// query.
#[tokio::test]
async fn a_name_that_is_rebound_never_reaches_the_address_behind_it() {
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = good.local_addr().unwrap().port();
    let bad = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let (good, bad) = (answering(good), answering(bad));
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
    let lookups = [
        vec![at("127.0.0.1")],
        vec![at("127.0.0.2")],
        vec![at("127.0.0.1"), at("127.0.0.2")],
        vec![at("127.0.0.1")],
    ];
    let answers = Arc::new(Mutex::new(VecDeque::from(lookups)));
    let trust = Arc::new(Trust::Callback { allow: vec!["127.0.0.1/32".parse().unwrap()] });
    let outgoing = Outgoing::scripted(Arc::clone(&trust), Arc::clone(&answers));
    let callbacks = Callbacks::resolving(outgoing, trust).unwrap();
    let hook = Webhook::callback(&callbacks, &format!("http://rebound.example:{port}/"), None).unwrap();

    for (delivered, left) in [(true, 3), (false, 2), (false, 1), (true, 0)] {
        let outcome = hook.attempt(&test_event(), clock::now()).await;
        assert_eq!(outcome.result == AttemptResult::Delivered, delivered, "{outcome:?}");
        assert_eq!(answers.lock().unwrap().len(), left, "one query for each connection");
        if !delivered {
            assert_eq!(outcome.error.as_deref(), Some("blocked address: loopback"));
            assert_eq!((outcome.status, outcome.response), (None, None));
        }
    }
    assert_eq!((*good.lock().unwrap(), *bad.lock().unwrap()), (2, 0));
}

#[tokio::test]
async fn callbacks_close_idle_connections_after_a_number_of_new_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let callbacks = Callbacks::new(&CallbackConfig { enabled: true, allow }).unwrap();
    let hook = Webhook::callback(&callbacks, &url, None).unwrap();
    let (closed, mut seen_closed) = tokio::sync::mpsc::unbounded_channel();
    let all_there = Arc::new(tokio::sync::Barrier::new(CALLBACK_CONNECTIONS));
    tokio::spawn(async move {
        for index in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (closed, all_there) = (closed.clone(), Arc::clone(&all_there));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.ends_with(b"\"}}") {
                    assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
                }
                // An answer any earlier would have its connection used again.
                if index < CALLBACK_CONNECTIONS {
                    all_there.wait().await;
                }
                let keep = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(keep).await.unwrap();
                closed.send(stream.read(&mut [0; 1]).await.unwrap_or(0)).unwrap();
            });
        }
    });
    // As many requests at once as connections may be opened: all but a few of them are closed after
    // use.
    let all = (0..CALLBACK_CONNECTIONS).map(|_| {
        let hook = hook.clone();
        async move { hook.attempt(&test_event(), clock::now()).await.result }
    });
    let verdicts = futures_util::future::join_all(all).await;
    assert!(verdicts.iter().all(|result| *result == AttemptResult::Delivered));
    for _ in 0..CALLBACK_CONNECTIONS - CALLBACK_IDLE {
        assert_eq!(seen_closed.recv().await, Some(0));
    }
    // The next one goes out by a new client; the old one takes its idle connections along.
    assert_eq!(hook.attempt(&test_event(), clock::now()).await.result, AttemptResult::Delivered);
    for _ in 0..CALLBACK_IDLE {
        assert_eq!(seen_closed.recv().await, Some(0));
    }
}

/// Answers any number of requests on each connection, and counts the connections.
fn keeping(listener: TcpListener) -> Arc<Mutex<usize>> {
    let connections = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *counted.lock().unwrap() += 1;
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {
                    if seen.ends_with(b"\"}}") {
                        seen.clear();
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    connections
}

#[tokio::test]
async fn a_name_that_moves_is_followed_at_the_end_of_a_clients_life() {
    for (life, seen) in [(http_client::LIFE, (1, 0)), (Duration::ZERO, (1, 1))] {
        let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = old.local_addr().unwrap().port();
        let new = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let (old, new) = (keeping(old), keeping(new));
        let at = |ip: &str| vec![SocketAddr::new(ip.parse().unwrap(), 0)];
        let answers = Arc::new(Mutex::new(VecDeque::from([at("127.0.0.1"), at("127.0.0.2")])));
        let trust = Arc::new(Trust::Operator);
        let outgoing = Outgoing::scripted(Arc::clone(&trust), answers);
        let route = TransportConfig { life, ..TransportConfig::new(outgoing, 1, Duration::from_secs(15)) };
        let callbacks = Callbacks::over(route, trust).unwrap();
        let hook = Webhook::callback(&callbacks, &format!("http://moved.example:{port}/"), None).unwrap();
        for _ in 0..2 {
            let outcome = hook.attempt(&test_event(), clock::now()).await;
            assert_eq!(outcome.result, AttemptResult::Delivered, "{outcome:?}");
        }
        assert_eq!((*old.lock().unwrap(), *new.lock().unwrap()), seen);
    }
}
