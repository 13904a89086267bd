//! The column `_rescued`: for each record one JSON object, by path, of what no other column could take.

use std::ops::Range;

use arrow::array::{ArrayRef, NullBufferBuilder};
use arrow::error::ArrowError;

use super::columns::Bytes;
use super::flaw::{Flaw, Why};
use super::path::{Labels, Segment, write_path};
use super::scan::push_escaped;

/// How many times longer than its record a rescued text may be. Each entry repeats the names that
/// lead to it, so that a record of many unknown fields deep down could otherwise fill the memory.
/// Honest records stay below 10.
const GROWTH_MAX: usize = 32;

/// Below this length a record may have rescued as much as one of this length.
const GROWTH_BASE_BYTES: usize = 128;

/// The column, and the entries of the record that is being read.
pub(super) struct Rescued {
    validity: NullBufferBuilder,
    texts: Bytes,
    entries: Vec<Entry>,
}

/// Where an entry of the current record stands in the text.
struct Entry {
    start: usize,
    /// A null, which says the same as no entry. It is kept until the record ends, since it replaces
    /// an earlier value of the same name.
    null: bool,
    path_start: usize,
    path_end: usize,
}

/// How many entries there were at some moment: see [`Rescued::undo_to`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize);

impl Rescued {
    pub(super) fn new() -> Self {
        Self { validity: NullBufferBuilder::new(0), texts: Bytes::default(), entries: Vec::new() }
    }

    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark(self.entries.len())
    }

    /// Removes the entries that came after the mark.
    pub(super) fn undo_to(&mut self, mark: Mark) {
        if let Some(entry) = self.entries.get(mark.0) {
            self.texts.data().truncate(entry.start);
            self.entries.truncate(mark.0);
        }
    }

    /// Keeps the value of an unknown field; see [`Self::add`].
    pub(super) fn add_unknown(
        &mut self,
        path: &[Segment],
        labels: &Labels,
        input: &[u8],
        value: Range<usize>,
    ) -> Result<(), Flaw> {
        // The first entry is never a null, which lets the nulls be cut out together with their commas.
        match self.entries.is_empty() && input[value.clone()] == *b"null" {
            true => Ok(()),
            false => self.add(path, labels, input, value),
        }
    }

    /// Keeps the value that stands at `value` in `input`, as it is written there.
    pub(super) fn add(
        &mut self,
        path: &[Segment],
        labels: &Labels,
        input: &[u8],
        value: Range<usize>,
    ) -> Result<(), Flaw> {
        let (at, null) = (value.start, input[value.clone()] == *b"null");
        let text = self.texts.data();
        let start = text.len();
        text.extend_from_slice(if self.entries.is_empty() { b"{\"" } else { b",\"" });
        let path_start = text.len();
        write_path(path, labels, input, &mut |piece| push_escaped(text, piece));
        let path_end = text.len();
        text.extend_from_slice(b"\":");
        text.extend_from_slice(&input[value]);
        let record_start = self.entries.first().map_or(start, |first| first.start);
        let length = text.len() - record_start;
        self.entries.push(Entry { start, null, path_start, path_end });
        if length > GROWTH_MAX * input.len().max(GROWTH_BASE_BYTES) {
            return Err(Flaw::new(Why::RescuedTooLarge, at));
        }
        Ok(())
    }

    /// Ends the current record. Fails, and leaves the record open, if two entries have one path.
    #[inline]
    pub(super) fn end_record(&mut self) -> Result<(), Flaw> {
        if self.entries.is_empty() {
            self.texts.end_value();
            self.validity.append_null();
            return Ok(());
        }
        self.end_entries()
    }

    fn end_entries(&mut self) -> Result<(), Flaw> {
        if self.has_twin_paths() {
            return Err(Flaw::new(Why::DuplicateName, 0));
        }
        if self.entries.iter().any(|entry| entry.null) {
            self.remove_nulls();
        }
        self.entries.clear();
        self.texts.extend(b"}");
        self.texts.end_value();
        self.validity.append_non_null();
        Ok(())
    }

    /// Sorts the entries by path.
    fn has_twin_paths(&mut self) -> bool {
        let text = &*self.texts.data();
        let path = |entry: &Entry| &text[entry.path_start..entry.path_end];
        self.entries.sort_unstable_by(|a, b| path(a).cmp(path(b)));
        self.entries.windows(2).any(|pair| path(&pair[0]) == path(&pair[1]))
    }

    fn remove_nulls(&mut self) {
        self.entries.sort_unstable_by_key(|entry| entry.start);
        let text = self.texts.data();
        let ends = self.entries.iter().skip(1).map(|entry| entry.start).chain([text.len()]);
        let spans: Vec<Range<usize>> = self
            .entries
            .iter()
            .zip(ends)
            .filter(|(e, _)| !e.null)
            .map(|(e, end)| e.start..end)
            .collect();
        let mut kept = spans.first().map_or(0, |span| span.start);
        for span in spans {
            text.copy_within(span.clone(), kept);
            kept += span.len();
        }
        text.truncate(kept);
    }

    /// Bytes of text held.
    pub(super) fn text_bytes(&self) -> usize {
        self.texts.data_bytes()
    }

    /// Cuts the column back to `len` records, and forgets the current one.
    pub(super) fn truncate(&mut self, len: usize) {
        self.entries.clear();
        self.texts.truncate(len);
        self.validity.truncate(len);
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.validity.finish();
        self.texts.finish_string(nulls)
    }
}
