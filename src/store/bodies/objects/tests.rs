use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use http::Request;
use object_store::{client::HttpService as _, memory::InMemory};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::store::{
    StoredJob,
    bodies::{Bodies, MAX_SMALL, StoredBody},
    tests::{Bench, Kind, at, eventually, id, s3, s3_settings},
};

const EVENT: &str = "evt_1";

fn in_memory() -> (Arc<InMemory>, ObjectBodies) {
    let storage = Arc::new(InMemory::new());
    let place = ObjectPlace::parse("s3://jobs/a/prefix").unwrap().unwrap();
    let bodies = ObjectBodies::over(storage.clone(), &place, true);
    (storage, bodies.unwrap())
}

/// Bytes of which no two pieces are alike.
fn bytes(size: u64) -> Vec<u8> {
    (0..size).map(|at| ((at % 251) ^ (at / 65_536)).to_le_bytes()[0]).collect()
}

fn store(bodies: &ObjectBodies, watch: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    bodies.upload(file.path(), watch, EVENT)
}

fn read(bodies: &ObjectBodies, watch: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let body = StoredBody::in_objects(bodies, watch, EVENT);
    body.read()?.read_to_end(&mut all)?;
    Ok(all)
}

/// Storage that answers everything like this.
fn answering(status: &'static str, body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut head) = (client.unwrap(), vec![0; 64 << 10]);
            let _ = client.read(&mut head);
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = client.write_all(text.as_bytes());
        }
    });
    port
}

fn in_bucket(bucket: &str, port: u16) -> ObjectBodies {
    s3_settings(bucket, port);
    bodies_of(bucket, Some(Term::default()))
}

fn bodies_of(bucket: &str, writer: Option<Term>) -> ObjectBodies {
    let place = ObjectPlace::parse(&format!("s3://{bucket}/prefix")).unwrap().unwrap();
    ObjectBodies::new(&place, writer).unwrap()
}

#[tokio::test]
async fn a_body_comes_back_whole_and_in_parts() {
    let (storage, bodies) = in_memory();
    for (watch, size) in (1..).zip([0, MAX_SMALL as u64 + 1, PART, 2 * PART + 7]) {
        let content = bytes(size);
        store(&bodies, watch, &content).unwrap();
        store(&bodies, watch, &content).unwrap();
        let name = Name::from(format!("a/prefix/{watch:016x}-{EVENT}.json"));
        assert_eq!(storage.head(&name).await.unwrap().size, size);
        if size == 0 {
            // No body in object storage is empty, and a range of an empty object is none.
            continue;
        }
        assert!(read(&bodies, watch).unwrap() == content, "{size}");
        for part in [0..10, size - 1..size, size / 2..size / 2 + 3, 5..size] {
            let stored = StoredBody::in_objects(&bodies, watch, EVENT);
            let mut stream = stored.stream(1 << 10).await.unwrap();
            assert_eq!(stream.size(), size);
            stream.narrow(part.clone()).await.unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            let place = |at: u64| usize::try_from(at).unwrap();
            assert!(read == content[place(part.start)..place(part.end)], "{size}: {part:?}");
        }
    }
}

#[tokio::test]
async fn what_is_listed_is_what_is_stored() {
    let (storage, bodies) = in_memory();
    let large = bytes(MAX_SMALL as u64 + 1);
    for watch in 1..=3 {
        store(&bodies, watch, &large).unwrap();
    }
    for name in
        ["a/prefix/probe", "a/prefix/deeper/0000000000000009-evt_1.json", "a/0000000000000009-evt_1.json"]
    {
        storage.put(&Name::from(name), PutPayload::from_static(b"1")).await.unwrap();
    }
    let listed = |bodies: &ObjectBodies| {
        let mut listed = Vec::new();
        bodies
            .each(|entry| {
                listed.push((entry.watch, entry.size));
                Ok::<_, io::Error>(())
            })
            .unwrap();
        listed.sort_unstable();
        listed
    };
    let size = large.len() as u64;
    assert_eq!(listed(&bodies), [(1, size), (2, size), (3, size)]);
    assert_eq!(bodies.bytes(), 3 * size);
    bodies.remove(2, EVENT).unwrap();
    bodies.remove(2, EVENT).unwrap();
    assert_eq!((listed(&bodies).len(), bodies.bytes()), (2, 2 * size));
    let missing = bodies.size(2, EVENT).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert!(missing.to_string().contains("s3://jobs/a/prefix/0000000000000002-evt_1.json"), "{missing}");
    assert_eq!(bodies.trouble(), None, "the storage is there, and an object is not");
}

#[tokio::test]
async fn a_reader_notices_that_its_object_is_another_one() {
    let (_, bodies) = in_memory();
    let content = bytes(3 << 20);
    store(&bodies, 1, &content).unwrap();
    let mut reader = StoredBody::in_objects(&bodies, 1, EVENT).read().unwrap();
    let mut first = [0; 10];
    reader.read_exact(&mut first).unwrap();
    store(&bodies, 1, &content).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn storage_that_is_away_is_told_from_a_missing_object() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bodies = in_bucket("away", closed);
    bodies.check().unwrap();
    let error = store(&bodies, 1, &bytes(10)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
    assert!(bodies.trouble().is_some());
    bodies.readable().expect("no read failed yet");
    bodies.size(1, EVENT).unwrap_err();
    assert_eq!(bodies.readable().unwrap_err().kind(), io::ErrorKind::NotConnected);
}

#[tokio::test]
async fn storage_that_refuses_says_why_and_no_secret() {
    for (bucket, status, body, expected) in [
        (
            "refused-1",
            "403 Forbidden",
            "<Error><Code>SignatureDoesNotMatch</Code><Message>not so</Message><AWSAccessKeyId>key-7</AWSAccessKeyId></Error>",
            "403 Forbidden: SignatureDoesNotMatch: not so",
        ),
        ("refused-2", "404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", "NoSuchBucket"),
        ("refused-3", "301 Moved Permanently", "", "region"),
    ] {
        let bodies = in_bucket(bucket, answering(status, body));
        let refused = bodies.check().unwrap_err().to_string();
        assert!(refused.contains(expected) && refused.contains("hint: "), "{refused}");
        let reading = bodies_of(bucket, None).check().unwrap_err().to_string();
        assert!(
            reading.contains(expected) && reading.contains("of the daemon that begin with AWS_"),
            "{reading}"
        );
        let error = store(&bodies, 1, &bytes(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
        assert_eq!(bodies.size(1, EVENT).unwrap_err().kind(), io::ErrorKind::NotConnected);
        for text in [refused, error.to_string()] {
            assert!(!text.contains("key-7") && !text.contains("sesame") && !text.contains("http"), "{text}");
        }
    }
    let bodies = in_bucket("missing", answering("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>"));
    assert_eq!(bodies.size(1, EVENT).unwrap_err().kind(), io::ErrorKind::NotFound);
    bodies_of("missing", None).check().expect("a process that only reads needs no object");
}

#[tokio::test]
async fn nothing_is_asked_over_an_open_line_unless_the_environment_says_so() {
    let port = answering("200 OK", "");
    for (bucket, endpoint, hint) in [
        ("nowhere", "nowhere at all".to_owned(), "the endpoint is no URL"),
        ("no-host", "http://".to_owned(), "the endpoint is no URL"),
        ("no-scheme", format!("127.0.0.1:{port}"), "the endpoint is no URL"),
        ("open", format!("http://127.0.0.1:{port}"), "AWS_ALLOW_HTTP=true"),
    ] {
        let keys = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "sesame")];
        settings::set(bucket, &[[("AWS_ENDPOINT_URL", endpoint.as_str())].as_slice(), &keys].concat());
        for writer in [Some(Term::default()), None] {
            let place = ObjectPlace::parse(&format!("s3://{bucket}")).unwrap().unwrap();
            let refused = ObjectBodies::new(&place, writer).and_then(|bodies| bodies.check());
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(hint) && refused.contains("hint: "), "{bucket}: {refused}");
        }
    }
    let bodies = bodies_of("open", Some(Term::default()));
    let error = store(&bodies, 1, &bytes(10)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_term_is_over_changes_nothing() {
    let port = answering("200 OK", "");
    let client = connect::Fenced::new(Term::leased());
    let request = |method| {
        let uri = format!("http://127.0.0.1:{port}/jobs/a");
        Request::builder()
            .method(method)
            .uri(uri)
            .body(object_store::client::HttpRequestBody::empty())
            .unwrap()
    };
    let refused = client.call(request("PUT")).await.unwrap_err();
    assert!(refused.to_string().contains("another process"), "{refused}");
}

fn job_of(bench: &Bench, event_id: &str) -> StoredJob {
    bench.stored_job(event_id).unwrap()
}

fn keys(bucket: &str) -> Vec<String> {
    let keys = s3::S3::shared().keys(bucket, "a/prefix/");
    keys.into_iter().filter(|key| !key.ends_with("/probe")).collect()
}

#[tokio::test]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn large_bodies_are_objects_and_small_ones_rows() {
    let storage = s3::S3::shared();
    let bucket = storage.bucket();
    s3_settings(&bucket, storage.port());
    let bench = Bench::in_bucket(&bucket);
    let mut large = None;
    for size in [10, MAX_SMALL, MAX_SMALL + 1, 10 << 20] {
        let content = bytes(size as u64);
        let watch = bench.finish_with(&format!("job_{size}"), &[], &content).await;
        let event_id = watch.completion.as_ref().unwrap().event_id.clone();
        assert!(bench.body(watch.number, &event_id) == Some(content), "{size}");
        large = Some((watch.number, event_id));
    }
    assert_eq!(keys(&bucket).len(), 2);
    assert_eq!(bench.store.stats().await.unwrap().jobs, 4);
    assert_eq!(bench.store.check(true).await.unwrap(), []);

    // An object that somebody changed, with the same size, and one that is gone.
    let (number, event_id) = large.unwrap();
    let key = keys(&bucket).into_iter().find(|key| key.contains(&event_id)).unwrap();
    assert_eq!(storage.send("PUT", &format!("/{bucket}/{key}"), &vec![b'1'; 10 << 20]).0, 200);
    assert_eq!(bench.store.check(false).await.unwrap(), []);
    let problems = bench.store.check(true).await.unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].what.contains("other bytes than were fetched"), "{problems:?}");
    assert!(problems[0].at.starts_with(&format!("s3://{bucket}/a/prefix/")), "{problems:?}");
    assert_eq!(storage.send("DELETE", &format!("/{bucket}/{key}"), b"").0, 204);
    let job = job_of(&bench, &event_id);
    let bodies: &Bodies = bench.store.bodies();
    assert!(!bodies.has(number, &event_id, &job).unwrap());
    let missing = bodies.get(number, &event_id, &job).stream(1 << 10).await.unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound, "{missing}");
    assert_eq!(bodies.trouble(), None);

    // Retention, and what a killed process left.
    let orphan = format!("/{bucket}/a/prefix/00000000000003e7-evt_9.json");
    assert_eq!(storage.send("PUT", &orphan, b"left").0, 200);
    bench.store.drop_finished(at(50), at(50)).await.unwrap();
    assert_eq!(keys(&bucket), [orphan.trim_start_matches(&format!("/{bucket}/"))]);
    let bench = bench.reopen();
    assert!(bench.store.bodies().are_unswept());
    assert_eq!(bench.store.sweep_spool().await.unwrap(), 1);
    assert!(!bench.store.bodies().are_unswept());
    assert_eq!((keys(&bucket).len(), bench.store.bodies().bytes()), (0, 0));
}

#[tokio::test]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn storage_that_was_away_is_used_again() {
    let storage = s3::S3::shared();
    let (bucket, wire) = (storage.bucket(), s3::Wire::to(storage.port()));
    s3_settings(&bucket, wire.port());
    let bench = Bench::in_bucket(&bucket);
    let content = bytes(600_000);
    let watch = bench.finish_with("job_1", &[], &content).await;
    let event_id = &watch.completion.as_ref().unwrap().event_id;
    wire.cut(true);
    let mut incoming = bench.store.bodies().begin(watch.number, "evt_other");
    incoming.write(&content).await.unwrap();
    let error = incoming.finish().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
    // Small ones and new watches need no storage.
    bench.finish_with("job_2", &[], &bytes(1000)).await;
    bench.store.remove("retab", &id("job_1"), None).await.unwrap();
    assert!(bench.store.bodies().are_unswept());
    wire.cut(false);
    eventually("it is back", || bench.store.bodies().trouble().is_none().then_some(())).await;
    assert_eq!(keys(&bucket).len(), 1);
    assert_eq!(bench.store.sweep_spool().await.unwrap(), 1, "{event_id} is gone");
    assert_eq!(keys(&bucket).len(), 0);
}

#[tokio::test]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn a_range_is_all_that_is_read() {
    let storage = s3::S3::shared();
    let (bucket, wire) = (storage.bucket(), s3::Wire::to(storage.port()));
    s3_settings(&bucket, wire.port());
    let bench = Bench::in_bucket(&bucket);
    let content = bytes(9 << 20);
    let watch = bench.finish_with("job_1", &[], &content).await;
    let event_id = &watch.completion.as_ref().unwrap().event_id;
    let stored = bench.store.bodies().get(watch.number, event_id, &job_of(&bench, event_id));
    wire.answered.lock().unwrap().clear();
    let mut stream = stored.stream(1 << 10).await.unwrap();
    stream.narrow(5_000_000..5_000_100).await.unwrap();
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == content[5_000_000..5_000_100]);
    let answered = wire.answered.lock().unwrap().len();
    assert!(answered < 4000, "{answered} bytes for 100");
}

#[tokio::test]
#[ignore = "needs servers of PostgreSQL and S3; .ci/run has both"]
async fn an_export_goes_into_a_bucket_and_one_that_is_cut_leaves_nothing() {
    let from = Bench::new();
    for (job, size) in [("job_1", 10), ("job_2", MAX_SMALL as u64), ("job_3", 9 << 20)] {
        from.finish_with(job, &["app"], &bytes(size)).await;
    }
    let mut export = Vec::new();
    from.store.export(&mut export).unwrap();
    let into = Bench::on(Kind::Objects);
    let config = into.database_config();
    drop(into);
    for is_whole in [false, true] {
        let (server, folder) =
            (crate::store::tests::server::Postgres::shared(), tempfile::tempdir().unwrap());
        let url = server.url(&server.database());
        let bodies = config.bodies.clone();
        let config = crate::store::StoreConfig {
            bodies,
            ..crate::store::tests::in_database(&folder.path().join("data"), &url)
        };
        let bucket = config.bodies.as_deref().unwrap().split('/').nth(2).unwrap().to_owned();
        let end = if is_whole { export.len() } else { export.len() - 100 };
        let done = crate::store::import(&mut &export[..end], &config);
        assert_eq!((done.is_ok(), keys(&bucket).len()), (is_whole, usize::from(is_whole)));
        if is_whole {
            let bench = Bench::in_database(config, folder);
            assert_eq!(bench.store.check(true).await.unwrap(), []);
            assert_eq!(bench.store.stats().await.unwrap().jobs, 3);
        }
    }
}
