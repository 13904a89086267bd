//! Names that occur twice in one object: the last one counts, as with most parsers.
//!
//! A column that was filled from the first of two values could be cut back, but not what that value
//! left elsewhere: a rescued part, or a reject that the second value would have avoided. Such
//! records are rare, so the text is written anew without the earlier members and read again.

use std::collections::HashMap;

use super::flaw::Flaw;
use super::scan::Cursor;

/// The text without members that a later one of the same name replaces, or `None` if there are none.
///
/// `input` is valid JSON. Names are compared without their escapes, in all objects at any depth.
pub(super) fn without_duplicates(input: &[u8]) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite {
        cursor: Cursor::starting_at(input, 0),
        output: Vec::with_capacity(input.len()),
        found: false,
    };
    rewrite.cursor.skip_whitespace();
    // Cannot fail on valid JSON.
    let complete = rewrite.value().is_ok();
    (complete && rewrite.found).then_some(rewrite.output)
}

struct Rewrite<'a> {
    cursor: Cursor<'a>,
    output: Vec<u8>,
    found: bool,
}

impl Rewrite<'_> {
    fn value(&mut self) -> Result<(), Flaw> {
        match self.cursor.peek() {
            b'{' => self.object(),
            b'[' => self.array(),
            _ => {
                let start = self.cursor.at();
                self.cursor.skip(0)?;
                self.copy_from(start);
                Ok(())
            }
        }
    }

    fn array(&mut self) -> Result<(), Flaw> {
        self.output.push(b'[');
        let mut more = self.cursor.enter(b']');
        while more {
            self.value()?;
            more = self.cursor.more(b']')?;
            if more {
                self.output.push(b',');
            }
        }
        self.output.push(b']');
        Ok(())
    }

    fn object(&mut self) -> Result<(), Flaw> {
        let start = self.output.len();
        // Where each member stands in the output, each with a comma behind it.
        let mut members = Vec::new();
        let mut last_by_name: HashMap<Vec<u8>, usize> = HashMap::new();
        self.output.push(b'{');
        let mut more = self.cursor.enter(b'}');
        while more {
            let (name_at, member_start) = (self.cursor.at(), self.output.len());
            let name = self.cursor.name()?;
            last_by_name.insert(self.cursor.text(name).to_vec(), members.len());
            self.copy_from(name_at);
            self.value()?;
            self.output.push(b',');
            members.push(member_start..self.output.len());
            more = self.cursor.more(b'}')?;
        }
        if last_by_name.len() < members.len() {
            self.found = true;
            let written = self.output.split_off(start + 1);
            let mut kept: Vec<usize> = last_by_name.into_values().collect();
            kept.sort_unstable();
            for member in kept.into_iter().map(|index| &members[index]) {
                let member = member.start - start - 1..member.end - start - 1;
                self.output.extend_from_slice(&written[member]);
            }
        }
        if !members.is_empty() {
            self.output.pop();
        }
        self.output.push(b'}');
        Ok(())
    }

    fn copy_from(&mut self, start: usize) {
        self.output.extend_from_slice(&self.cursor.input()[start..self.cursor.at()]);
    }
}
