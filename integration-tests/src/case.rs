//! One test's own things: a folder, topics, and what becomes of them.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::azurite::azurite;
use crate::broker::broker;
use crate::location::Location;
use crate::object_store::object_store;
use crate::paths;

/// Begins a test's case, named after the function that it stands in. `case!(alone)` waits until no other
/// test runs, and lets none begin: for a test that measures how long something takes.
#[macro_export]
macro_rules! case {
    () => {{
        fn here() {}
        $crate::case::Case::new(std::any::type_name_of_val(&here))
    }};
    (alone) => {{
        fn here() {}
        $crate::case::Case::alone(std::any::type_name_of_val(&here))
    }};
}

static TURNS: RwLock<()> = RwLock::new(());

/// Kept for as long as the test runs.
#[derive(Debug)]
enum Turn {
    Shared { _turn: RwLockReadGuard<'static, ()> },
    Alone { _turn: RwLockWriteGuard<'static, ()> },
}

/// One test's folder and topics. Gone when the test passes; when it fails the folder stays, with the
/// logs of its workers and of the servers, the configurations and the tables.
#[derive(Debug)]
pub struct Case {
    name: String,
    /// Where everything of this test lies.
    pub folder: PathBuf,
    topics: RefCell<Vec<String>>,
    started: Cell<u32>,
    _turn: Turn,
}

impl Case {
    /// See [`case!`]. The path of a function within a test looks like `it::journey::a_sentence::here`.
    pub fn new(path: &str) -> Case {
        let turn = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Case::with(path, Turn::Shared { _turn: turn })
    }

    /// See [`case!`].
    pub fn alone(path: &str) -> Case {
        let turn = TURNS.write().unwrap_or_else(PoisonError::into_inner);
        Case::with(path, Turn::Alone { _turn: turn })
    }

    fn with(path: &str, turn: Turn) -> Case {
        let parts: Vec<&str> =
            path.split("::").filter(|part| !matches!(*part, "here" | "{{closure}}")).collect();
        let folder = paths::scratch().join("logs").join(parts[1..].join("."));
        if folder.try_exists().unwrap() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        Case {
            name: parts.last().unwrap().to_string(),
            folder: folder.canonicalize().unwrap(),
            topics: RefCell::default(),
            started: Cell::default(),
            _turn: turn,
        }
    }

    /// A name that nothing else has on the same broker or store, neither in this test nor in another run:
    /// for topics, connectors, buckets. It begins with what it is for.
    pub fn unique(&self, what: &str) -> String {
        static NAMED: AtomicU32 = AtomicU32::new(0);
        let number = NAMED.fetch_add(1, Ordering::Relaxed);
        // Buckets have short names, without underscores.
        let test: String = self.name.replace('_', "-").chars().take(24).collect();
        format!("{what}-{}-{}-{number}", test.trim_end_matches('-'), std::process::id())
    }

    /// Creates a topic. It goes with the case.
    pub fn topic(&self, partitions: i32) -> String {
        self.topic_named(&self.unique("topic"), partitions)
    }

    /// Creates a topic of this name, which must be [`unique`](Case::unique).
    pub fn topic_named(&self, topic: &str, partitions: i32) -> String {
        broker().create_topic(topic, partitions);
        self.topics.borrow_mut().push(topic.to_owned());
        topic.to_owned()
    }

    /// A place for a table in this case's folder. Nothing is there yet.
    pub fn local_table(&self) -> Location {
        Location::Local(self.folder.join("table"))
    }

    /// A place for a table in a new bucket of the S3 emulator.
    pub fn s3_table(&self) -> Location {
        let bucket = self.unique("b");
        object_store().create_bucket(&bucket);
        Location::S3 {
            uri: format!("s3://{bucket}/bronze/table"),
            endpoint: object_store().endpoint.clone(),
        }
    }

    /// A place for a table in a new container of the Azure emulator.
    pub fn azure_table(&self) -> Location {
        let container = self.unique("c");
        azurite().create_container(&container);
        Location::Azure {
            uri: format!("az://{container}/bronze/table"),
            endpoint: azurite().endpoint.clone(),
        }
    }

    /// Writes a file into the case's folder.
    pub fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.folder.join(file);
        fs::write(&path, text).unwrap();
        path
    }

    /// A number for each process that the test starts, to tell their logs apart.
    pub(crate) fn next_start(&self) -> u32 {
        self.started.set(self.started.get() + 1);
        self.started.get()
    }

    fn leave_logs(&self, folder: &Path) {
        // A test may fail before it needed a server; it must not be started only for its log.
        let services =
            [crate::broker::started(), crate::object_store::started(), crate::azurite::started()];
        for service in services.into_iter().flatten() {
            service.copy_logs(folder);
        }
        eprintln!("the logs of this test are in {}", folder.display());
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave_logs(&self.folder);
            return;
        }
        for topic in self.topics.borrow().iter() {
            broker().delete_topic(topic);
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }
}
