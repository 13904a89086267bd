//! An emulator of Azure Blob Storage: one for the whole test program, started by the first test that needs it.
//!
//! A test holds it to what commits rest on, as it does the S3 emulator.

use std::net::TcpStream;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::paths;
use crate::service::{Service, free_ports};
use crate::wait::eventually;

/// The account that the emulator has, and its key, which is published.
pub const ACCOUNT: &str = "devstoreaccount1";
/// See [`ACCOUNT`].
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const START_LIMIT: Duration = Duration::from_secs(60);

static AZURITE: OnceLock<Azurite> = OnceLock::new();

/// The emulator of this test program.
pub fn azurite() -> &'static Azurite {
    AZURITE.get_or_init(Azurite::start)
}

/// The emulator, if a test has needed it.
pub(crate) fn started() -> Option<&'static Service> {
    AZURITE.get().map(|azurite| &azurite.service)
}

/// A running emulator. Its containers are in its memory.
#[derive(Debug)]
pub struct Azurite {
    /// `host:port`, by plain HTTP.
    pub endpoint: String,
    service: Service,
}

impl Azurite {
    fn start() -> Azurite {
        let [port] = free_ports();
        let mut command = Command::new("node");
        command.arg(paths::cached("azurite/node_modules/.bin/azurite-blob"));
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args([
            "--silent",
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ]);
        let service = Service::start(Service::folder("azurite"), &command);
        let azurite = Azurite { endpoint: format!("127.0.0.1:{port}"), service };
        eventually(START_LIMIT, "the Azure emulator answers", || {
            azurite.service.assert_running();
            TcpStream::connect(&azurite.endpoint).ok()
        });
        azurite
    }

    /// Creates a container that was not there.
    pub fn create_container(&self, container: &str) {
        let created = Command::new(paths::python())
            .arg(paths::package().join("python/create_container.py"))
            .args([&format!("http://{}", self.endpoint), ACCOUNT, ACCOUNT_KEY, container])
            .status()
            .expect("Python starts");
        assert!(created.success(), "creating the container {container}");
    }
}
