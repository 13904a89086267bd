//! What standard output is: a terminal with a width and colours, or a pipe with neither.

use std::io::IsTerminal;

use console::{Style, Term};

/// How text may look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// True if colours and weights are understood and wanted.
    pub(crate) styled: bool,
    /// Columns of the terminal; `None` where lines may be as long as they like.
    pub(crate) width: Option<usize>,
}

impl Look {
    /// Of standard output. `NO_COLOR` (no-color.org) and `TERM=dumb` turn styles off.
    pub(crate) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let width = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self { styled: terminal && !no_color && !dumb, width: width.filter(|_| terminal) }
    }

    /// A heading.
    pub(crate) fn strong(self, text: impl std::fmt::Display) -> String {
        self.apply(Style::new().bold(), text)
    }

    /// Something that is there for completeness.
    pub(crate) fn dim(self, text: impl std::fmt::Display) -> String {
        self.apply(Style::new().dim(), text)
    }

    fn apply(self, style: Style, text: impl std::fmt::Display) -> String {
        match self.styled {
            true => style.force_styling(true).apply_to(text).to_string(),
            false => text.to_string(),
        }
    }
}
