//! Ceph's object gateway, where it is installed (Debian's ceph-mon, ceph-osd, radosgw, ceph-common).

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::location::Location;
use crate::object_store::{ACCESS_KEY, SECRET_KEY};
use crate::paths;
use crate::service::{Service, free_ports};
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_secs(120);

/// A running cluster of one monitor, one OSD in memory, and a gateway.
#[derive(Debug)]
pub struct Ceph {
    /// What the gateway says of itself, as in `ceph version 16.2.15`.
    pub version: String,
    endpoint: String,
    service: Service,
}

impl Ceph {
    /// A cluster of its own, or `None` where Ceph is not installed.
    pub fn start_if_installed() -> Option<Ceph> {
        let asked = Command::new("radosgw").arg("--version").stderr(Stdio::null()).output().ok()?;
        let version = String::from_utf8(asked.stdout).ok()?;
        let [monitor, gateway] = free_ports();
        let folder = Service::folder("ceph");
        let mut command = Command::new(paths::package().join("ceph.sh"));
        command.arg(&folder).args([monitor.to_string(), gateway.to_string()]);
        command.args([ACCESS_KEY, SECRET_KEY]);
        let service = Service::start(folder, &command);
        let ceph = Ceph {
            version: version.split(" (").next().unwrap_or_default().to_owned(),
            endpoint: format!("127.0.0.1:{gateway}"),
            service,
        };
        eventually(START_LIMIT, "Ceph's gateway answers", || {
            ceph.service.assert_running();
            ceph.service.folder.join("ready").try_exists().unwrap().then_some(())
        });
        Some(ceph)
    }

    /// A place for a table.
    pub fn table(&self, name: &str) -> Location {
        Location::S3 { uri: format!("s3://lake/{name}"), endpoint: self.endpoint.clone() }
    }
}
