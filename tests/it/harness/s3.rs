//! A server of S3 for tests: moto, by the Python that `MOTO_PYTHON` names. It ends with the test's process, however that ends.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::port::free_port;

/// Runs the server until its own standard input ends.
const KEEPER: &str = r#""$@" > /dev/null 2>&1 & pid=$!; read -r _; kill $pid 2> /dev/null; wait $pid"#;

/// Who asks. Nothing checks it, but without it nothing is removed.
const KEY: &str =
    "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A server of its own.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    keeper: Child,
}

impl S3 {
    /// The one that the tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn start() -> Self {
        let python = std::env::var_os("MOTO_PYTHON").unwrap_or_else(|| "python3".into());
        let port = free_port();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Self { port, keeper };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "moto did not start; MOTO_PYTHON names its Python"
            );
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes a bucket and returns its name.
    pub fn bucket(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("jobs-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        assert_eq!(self.send("PUT", &format!("/{name}"), b"").0, 200);
        name
    }

    /// The keys of a bucket that begin with `prefix`.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (status, list) = self.send("GET", &format!("/{bucket}?list-type=2&prefix={prefix}"), b"");
        assert_eq!(status, 200);
        let list = String::from_utf8(list).unwrap();
        list.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0.to_owned()).collect()
    }

    /// Sends a request and returns the status and the body of its answer.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\nauthorization: {KEY}\r\ncontent-length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        line.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        line.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A way to a server that can be cut, and notes what it passed.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// The bytes that the server answered.
    pub answered: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = Self { port, is_cut: Arc::default(), open: Arc::default(), answered: Arc::default() };
        let (is_cut, open, answered) =
            (Arc::clone(&wire.is_cut), Arc::clone(&wire.open), Arc::clone(&wire.answered));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (answers, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let answered = Arc::clone(&answered);
                thread::spawn(move || {
                    pass(answers, to_client, |bytes| answered.lock().unwrap().extend(bytes));
                });
                thread::spawn(move || pass(client, server, |_| {}));
            }
        });
        wire
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Cuts it, with all that goes over it, or mends it.
    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        for line in self.open.lock().unwrap().drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, seen: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
