use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use reqwest::{Method, header::HeaderMap};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    upstream::{JobRef, SourceConfig},
    util::{
        http_client::{Outgoing, guard::Trust},
        secret::Secret,
    },
};

const RUNNING: &str =
    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 20\r\n\r\n{\"status\": \"queued\"}";

/// The guard judges a name again for each connection, before anything is sent over it.
#[tokio::test]
async fn a_source_whose_name_moves_to_metadata_is_never_sent_the_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            kept.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(RUNNING.as_bytes()).await.unwrap();
        }
    });
    let at = |ips: &[&str]| ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
    let bad: [&[&str]; 6] = [
        &["169.254.169.254"],
        &["127.0.0.1", "fd00:ec2::23"],
        &["fd00:42::42"],
        &["::ffff:100.100.100.200"],
        &["fe80::1"],
        &["64:ff9b::a9fe:a9fe"],
    ];
    let script = Arc::new(Mutex::new(VecDeque::from([at(&["127.0.0.1"])])));
    let outgoing = Outgoing::scripted(Arc::new(Trust::Operator), Arc::clone(&script));
    let config = SourceConfig {
        base_url: Some(format!("http://moved.example:{port}")),
        api_key: Some(Secret::new("the-key")),
        ..SourceConfig::default()
    };
    let source = Source::new("retab", &config, &outgoing).unwrap();
    let id = "job_1".parse().unwrap();
    let job = JobRef { id: &id, kind: None, vars: &BTreeMap::new() };
    source.status(job).await.unwrap();
    assert!(seen.lock().unwrap()[0].contains("the-key"));
    for ips in bad {
        script.lock().unwrap().extend([at(ips), at(ips)]);
        let address = format!("http://moved.example:{port}/v1/x");
        let polled = source.status(job).await.map(drop);
        let passed = source
            .forward(Method::POST, &address, HeaderMap::new(), None, Some(source.default_kind()))
            .await
            .map(drop);
        for failure in [polled.unwrap_err(), passed.unwrap_err()] {
            let text = failure.to_string();
            assert!(matches!(failure, Failure::Unreachable(_)), "{ips:?}: {text}");
            assert!(text.starts_with("no connection: blocked address: "), "{ips:?}: {text}");
            assert!(text.ends_with(", which only an address in the place of the name opens"), "{text}");
        }
    }
    assert!(script.lock().unwrap().is_empty(), "each connection resolved the name");
    assert_eq!(seen.lock().unwrap().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn a_request_that_is_sent_again_over_another_connection_is_paid_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = Some(format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Each connection answers one request, and breaks at the next.
            for is_first in [true, false] {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
                if is_first {
                    stream.write_all(RUNNING.replace("connection: close\r\n", "").as_bytes()).await.unwrap();
                }
            }
        }
    });
    let config = SourceConfig { base_url, ..SourceConfig::default() };
    let source = Source::new("retab", &config, &Outgoing::direct(Trust::Operator)).unwrap();
    let id = "job_1".parse().unwrap();
    let job = JobRef { id: &id, kind: None, vars: &BTreeMap::new() };
    source.status(job).await.unwrap();
    assert_eq!((source.requests.get(), source.take_unpaid()), (1, 0));
    source.status(job).await.unwrap();
    assert_eq!((source.requests.get(), source.take_unpaid()), (3, 1));
}
