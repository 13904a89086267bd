//! A server that lives as long as this test program, however that ends (see `tied.sh`).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::paths;

/// A running server. Its process ends when this value, or this test program, does.
#[derive(Debug)]
pub struct Service {
    /// Its files. Deleted when it ends because we do; left when it ends by itself.
    pub folder: PathBuf,
    child: Mutex<Child>,
    lifeline: Option<ChildStdin>,
}

impl Service {
    /// A fresh folder for a server's files.
    pub fn folder(name: &str) -> PathBuf {
        let folder = paths::scratch().join("run").join(format!("{name}-{}", std::process::id()));
        if folder.try_exists().unwrap() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        folder.canonicalize().unwrap()
    }

    /// Starts a server whose output goes to `output.log` in its folder.
    pub fn start(folder: PathBuf, command: &Command) -> Service {
        let mut child = Command::new(paths::package().join("tied.sh"))
            .arg(&folder)
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .stdin(Stdio::piped())
            .spawn()
            .expect("tied.sh is executable, and bash is there");
        let lifeline = child.stdin.take().expect("standard input is piped");
        Service { folder, child: Mutex::new(child), lifeline: Some(lifeline) }
    }

    /// Fails the test if the server has ended.
    pub fn assert_running(&self) {
        if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
            panic!("the server ended with {status}: see {}", self.folder.display());
        }
    }

    /// Copies the server's logs to a test's folder, for whoever looks into its failure.
    pub fn copy_logs(&self, to: &Path) {
        let name = self.folder.file_name().unwrap().to_string_lossy().into_owned();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") && path.is_file() {
                let file = entry.file_name().to_string_lossy().into_owned();
                fs::copy(&path, to.join(format!("{name}-{file}"))).unwrap();
            }
        }
    }
}

impl Drop for Service {
    /// Waits until it is gone, so that another one can have its port and its files.
    fn drop(&mut self) {
        self.lifeline = None;
        // It may have ended by itself.
        _ = self.child.lock().unwrap().wait();
    }
}

/// Ports on which nobody listens, below those that the system gives to outgoing connections: those
/// could be taken again before the server binds them.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const RANGE: std::ops::Range<u16> = 20_000..32_000;
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side begin at different ports.
    let first =
        u16::try_from(std::process::id() * 37 % u32::from(RANGE.end - RANGE.start)).unwrap();
    std::array::from_fn(|_| {
        (0..RANGE.end - RANGE.start)
            .map(|_| {
                RANGE.start
                    + (first + TRIED.fetch_add(1, Ordering::Relaxed)) % (RANGE.end - RANGE.start)
            })
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .expect("some port is free")
    })
}
