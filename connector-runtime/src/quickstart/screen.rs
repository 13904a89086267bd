//! Standard output of the quickstart: pleasant on a terminal, plain in a pipe.

use std::fmt::Display;
use std::io::{ErrorKind, Stdout, Write};
use std::path::Path;

use connector_api::{Error, Result};
use datafusion::execution::SendableRecordBatchStream;

use crate::query::{Format, Look, print};

/// Where the quickstart writes. A reader that closes the pipe has had enough: no error.
#[derive(Debug)]
pub(super) struct Screen {
    out: Stdout,
    look: Look,
}

impl Screen {
    pub(super) fn stdout() -> Self {
        Self { out: std::io::stdout(), look: Look::of_stdout() }
    }

    pub(super) fn title(&mut self, text: &str) -> Result<()> {
        let text = self.look.strong(text);
        self.line(format_args!("{text}\n"))
    }

    /// One line of what happens, as it happens.
    pub(super) fn fact(&mut self, what: &str, text: impl Display) -> Result<()> {
        let what = self.look.dim(format!("{what:<10}"));
        self.line(format_args!("  {what} {text}"))
    }

    pub(super) fn heading(&mut self, text: &str) -> Result<()> {
        let text = self.look.strong(text);
        self.line(format_args!("\n{text}\n"))
    }

    pub(super) async fn rows(&mut self, rows: SendableRecordBatchStream) -> Result<()> {
        print(rows, Format::Table, 0, self.look, &mut self.out).await
    }

    pub(super) fn text(&mut self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| match line.is_empty() {
            true => self.line(""),
            false => self.line(format_args!("  {line}")),
        })
    }

    pub(super) fn step(&mut self, text: &str) -> Result<()> {
        self.line(format_args!("  - {text}"))
    }

    pub(super) fn command(&mut self, command: &str) -> Result<()> {
        let command = self.look.strong(command);
        self.line(format_args!("      {command}"))
    }

    fn line(&mut self, text: impl Display) -> Result<()> {
        match writeln!(self.out, "{text}") {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::external("standard output cannot be written").with_source(error))
            }
            _ => Ok(()),
        }
    }
}

/// A path as one word of a shell.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        let check = |path: &str, expected: &str| assert_eq!(shell_word(Path::new(path)), expected);
        check("./demo/clicks.yaml", "./demo/clicks.yaml");
        check("my demo/clicks.yaml", "'my demo/clicks.yaml'");
        check("it's", r"'it'\''s'");
    }
}
