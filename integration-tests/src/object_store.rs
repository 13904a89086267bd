//! An S3 emulator: one for the whole test program, started by the first test that needs it.
//!
//! It lets exactly one of many writers create a key, which is what commits rest on; a test holds it to that.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::paths;
use crate::service::{Service, free_ports};
use crate::wait::eventually;

/// The emulator takes any key and any secret.
pub const ACCESS_KEY: &str = "test-key";
/// See [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test-secret";
/// The region of all buckets.
pub const REGION: &str = "us-east-1";

const START_LIMIT: Duration = Duration::from_secs(60);

static OBJECT_STORE: OnceLock<ObjectStore> = OnceLock::new();

/// The emulator of this test program.
pub fn object_store() -> &'static ObjectStore {
    OBJECT_STORE.get_or_init(ObjectStore::start)
}

/// The emulator, if a test has needed it.
pub(crate) fn started() -> Option<&'static Service> {
    OBJECT_STORE.get().map(|store| &store.service)
}

/// A running S3 emulator. Its buckets are in its memory.
#[derive(Debug)]
pub struct ObjectStore {
    /// `host:port`, by plain HTTP.
    pub endpoint: String,
    service: Service,
}

impl ObjectStore {
    fn start() -> ObjectStore {
        let [port] = free_ports();
        let mut command = Command::new(paths::python());
        // Without the last two it listens on every interface, and opens a second port.
        command
            .args(["-m", "ministack"])
            .env("GATEWAY_PORT", port.to_string())
            .env("SERVICES", "s3,sts");
        command.env("BIND_HOST", "127.0.0.1").env("IOT_MTLS_PORT", "0");
        let service = Service::start(Service::folder("object-store"), &command);
        let store = ObjectStore { endpoint: format!("127.0.0.1:{port}"), service };
        eventually(START_LIMIT, "the S3 emulator answers", || {
            store.service.assert_running();
            store.request("GET", "/_ministack/health", "", "").ok().filter(|status| *status == 200)
        });
        store
    }

    /// Creates a bucket that was not there.
    pub fn create_bucket(&self, bucket: &str) {
        let status =
            self.request("PUT", &format!("/{bucket}"), "", "").expect("the emulator answers");
        assert_eq!(status, 200, "creating the bucket {bucket}");
    }

    /// Creates an object unless it is there: true for the one who did.
    pub fn create_object(&self, bucket: &str, key: &str, text: &str) -> bool {
        let status = self.request("PUT", &format!("/{bucket}/{key}"), "If-None-Match: *\r\n", text);
        match status.expect("the emulator answers") {
            200 => true,
            412 => false,
            other => panic!("creating {key} was answered by {other}"),
        }
    }

    /// One plain request, by hand: the emulator asks for no signature. Brings the status.
    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<u16> {
        let mut stream = TcpStream::connect(&self.endpoint)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.endpoint,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| std::io::Error::other("no HTTP status in the answer"))
    }
}
