//! Mistakes in configuration files, as users see them.
//!
//! ```text
//! error: source.kafka.topcs: unknown key
//!  --> connectors/clicks.yaml:6:5
//!   |
//! 6 |     topcs: [clicks]
//!   |     ^^^^^
//!   = help: did you mean `topics`?
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// One mistake. Holds no value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Where in the file; absent if the file as a whole is meant.
    pub position: Option<Position>,
    /// The path of the key, as in `source.kafka.topics[0]`; empty for the file as a whole.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line with `***` for whatever may be a secret.
    pub excerpt: String,
    /// The characters of the excerpt that are meant: the first, and how many.
    pub marked: (usize, usize),
}

/// All mistakes of all files: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// By file and position.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        writeln!(f, "error: {}{colon}{}", self.key, self.message)?;
        let file = self.file.display();
        let Some(Position { line, column, excerpt, marked: (start, length) }) = &self.position
        else {
            writeln!(f, " --> {file}")?;
            return write!(f, "  = help: {}", self.help);
        };
        let margin = " ".repeat(line.to_string().len());
        let carets = format!("{}{}", " ".repeat(*start), "^".repeat(*length));
        writeln!(f, "{margin}--> {file}:{line}:{column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {excerpt}")?;
        writeln!(f, "{margin} | {carets}")?;
        write!(f, "{margin} = help: {}", self.help)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}\n")?;
        }
        let files: BTreeSet<_> = self.errors.iter().map(|error| &error.file).collect();
        write!(f, "{} in {}", count(self.errors.len(), "mistake"), count(files.len(), "file"))
    }
}

impl std::error::Error for ConfigErrors {}

fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}
