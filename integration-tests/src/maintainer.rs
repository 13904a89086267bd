//! Somebody else who looks after a Delta table: delta-rs, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::location::Location;
use crate::paths;

/// A running process that maintains one table. It ends with this value.
#[derive(Debug)]
pub struct Maintainer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Maintainer {
    /// For a table on local disk.
    pub fn start(location: &Location) -> Maintainer {
        let mut child = Command::new(paths::python())
            .arg(paths::package().join("python/maintain_table.py"))
            .arg(location.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let requests = child.stdin.take().expect("standard input is piped");
        let answers = BufReader::new(child.stdout.take().expect("standard output is piped"));
        Maintainer { child, requests, answers }
    }

    /// OPTIMIZE, VACUUM, a log checkpoint, and the clean-up of the log. Says what was done.
    pub fn maintain(&mut self) -> String {
        writeln!(self.requests).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "whoever maintains the table has ended");
        answer.trim().to_owned()
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
