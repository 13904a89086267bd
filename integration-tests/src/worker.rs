//! The running binary, from outside: started, stopped, killed, frozen, measured.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::case::Case;
use crate::wait::within;
use crate::{paths, process};

/// `man 7 signal`.
const SIGABRT: i32 = 6;

/// A signal to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop in good order.
    Term,
    /// The same, from a keyboard.
    Int,
    /// Gone at once; nothing of it runs any more.
    Kill,
    /// Frozen where it is.
    Stop,
    /// Goes on from there.
    Continue,
}

/// How to start the binary.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    files: PathBuf,
}

impl Launch {
    /// `alluvium ARGS...`, with its output in the case's folder.
    pub fn new<I: AsRef<std::ffi::OsStr>>(
        case: &Case,
        args: impl IntoIterator<Item = I>,
    ) -> Launch {
        Launch::through(case, &[], args)
    }

    /// The same, by a program that becomes the binary which it gets as its last arguments.
    pub fn through<I: AsRef<std::ffi::OsStr>>(
        case: &Case,
        by: &[&str],
        args: impl IntoIterator<Item = I>,
    ) -> Launch {
        // Whatever ends the test's thread, also a kill of the test program, ends the worker.
        let tied = ["setpriv", "--pdeathsig", "KILL", "--"];
        let (first, rest) = if by.is_empty() { (tied[0], &[][..]) } else { (by[0], &by[1..]) };
        let mut command = Command::new(first);
        command
            .args(rest)
            .args(&tied[usize::from(by.is_empty())..])
            .arg(paths::alluvium())
            .args(args);
        command.current_dir(&case.folder).env("NO_COLOR", "1").env_remove("FAILPOINTS");
        Launch { command, files: case.folder.join(format!("worker-{}", case.next_start())) }
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Launch {
        self.command.env(key, value);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Worker {
        let (stdout, stderr) =
            (self.files.with_extension("stdout.log"), self.files.with_extension("stderr.log"));
        self.command.stdin(Stdio::null());
        self.command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Worker { child: self.command.spawn().expect("the worker starts"), stdout, stderr }
    }
}

/// `alluvium run FILE`.
pub fn run(case: &Case, file: &Path) -> Launch {
    Launch::new(case, [Path::new("run"), file])
}

/// `alluvium run FILE --until-end`.
pub fn run_until_end(case: &Case, file: &Path) -> Launch {
    Launch::new(case, [Path::new("run"), file, Path::new("--until-end")])
}

/// A running binary. Killed when this value goes.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Worker {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Term => "TERM",
            Signal::Int => "INT",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        // Every shell has this built in. The worker is not awaited before, so its number is still its own.
        let status = Command::new("sh")
            .args(["-c", "kill -s $0 $1", name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success(), "sending SIG{name}: see {}", self.stderr.display());
    }

    /// Waits until it has ended by itself. Fails the test when `limit` is over, or when it panicked.
    #[track_caller]
    pub fn wait(self, limit: Duration) -> Ended {
        let ended = self.wait_also_for_a_panic(limit);
        assert!(!ended.stderr.contains("panicked at"), "it panicked:\n{}", tail(&ended.stderr));
        ended
    }

    /// The same, with exit code 0. Returns the most memory that it took, in bytes.
    #[track_caller]
    pub fn peak_until_end(mut self, limit: Duration) -> u64 {
        let mut most = 0;
        within(limit, || {
            if self.has_ended() {
                return Some(());
            }
            most = self.peak_resident_bytes().unwrap_or(most);
            None
        });
        self.wait(limit).assert_code(0);
        most
    }

    /// The same where a panic is what is tested.
    #[track_caller]
    pub fn wait_also_for_a_panic(mut self, limit: Duration) -> Ended {
        let Some(status) = within(limit, || self.child.try_wait().unwrap()) else {
            panic!("it still runs after {limit:?}, which wrote\n{}", tail(&read(&self.stderr)));
        };
        Ended { status, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }

    /// Kills it, now, and waits until it is gone.
    pub fn kill_nine(mut self) {
        self.signal(Signal::Kill);
        let status = self.child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended before it was killed:\n{}",
            tail(&read(&self.stderr))
        );
    }

    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Fails the test if it has ended.
    #[track_caller]
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended with {status}, and wrote\n{}", tail(&read(&self.stderr)));
        }
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// How many topic partitions it owns, by its own word.
    pub fn owned(&self) -> u64 {
        let log = self.stderr();
        let count = |what: &str| -> u64 {
            let lines = log.lines().filter(|line| line.contains(what));
            let counts = lines.map(|line| line.split_once(" topic_partitions=").unwrap().1);
            counts.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        count(" topic partitions assigned ") - count(" topic partitions revoked ")
    }

    /// Its memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.child.id()).expect("it runs")
    }

    /// The most memory that it has had so far, in bytes. `None` if it has ended.
    pub fn peak_resident_bytes(&self) -> Option<u64> {
        process::peak_resident_bytes(self.child.id())
    }

    /// The CPU time that it has used, of all its threads.
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.child.id()).expect("it runs")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A binary that has ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails the test, showing what it said, unless it ended with this exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        let said = format!("{}\n{}", tail(&self.stdout), tail(&self.stderr));
        assert_eq!(
            self.status.code(),
            Some(code),
            "it ended with {}, and wrote\n{said}",
            self.status
        );
    }

    /// Whether it aborted itself, as at a fail point.
    pub fn aborted(&self) -> bool {
        self.status.signal() == Some(SIGABRT)
    }
}

/// The end of an output, which has the reason.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
