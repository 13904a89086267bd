//! The wall clock of one process, moved while it runs (`clock/wall_clock.c`). Its monotonic clock goes on as it
//! was, as when somebody sets the time of a machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::case::Case;
use crate::paths;

/// A clock for processes that are started [with it](WallClock::variables). It is right at first.
#[derive(Debug)]
pub struct WallClock {
    file: File,
    variables: [(&'static str, String); 2],
}

impl WallClock {
    /// A clock with a file of this name in the case's folder.
    pub fn new(case: &Case, name: &str) -> WallClock {
        let path = case.folder.join(name);
        fs::write(&path, [0; 8]).unwrap();
        let library = paths::cached("clock/wall_clock.so").canonicalize().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let variables = [
            ("LD_PRELOAD", library.display().to_string()),
            ("WALL_CLOCK", path.display().to_string()),
        ];
        WallClock { file, variables }
    }

    /// From now on it is so many seconds ahead, or behind.
    pub fn set_off(&self, seconds: i64) {
        let nanoseconds = seconds * 1_000_000_000;
        self.file.write_all_at(&nanoseconds.to_ne_bytes(), 0).unwrap();
    }

    /// The environment of a process that has this clock.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }
}
