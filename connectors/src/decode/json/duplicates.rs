//! Names that occur twice in one object: the last one counts, as with most parsers.
//!
//! A column that was filled from the first of two values could be cut back, but not what that value
//! left elsewhere: a rescued part, or a reject that the second value would have avoided. Such
//! records are rare, so the text is written anew without the earlier members and read again.

use std::collections::HashMap;
use std::ops::Range;

use super::flaw::Flaw;
use super::scan::Cursor;

/// The text without members that a later one of the same name replaces, or `None` if there are none.
///
/// `input` is valid JSON. Names are compared without their escapes, in all objects at any depth.
pub(super) fn without_duplicates(input: &[u8]) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite {
        cursor: Cursor::starting_at(input, 0),
        output: Vec::with_capacity(input.len()),
        names: Vec::new(),
        found: false,
    };
    rewrite.cursor.skip_whitespace();
    // Cannot fail on valid JSON.
    let complete = rewrite.value().is_ok();
    (complete && rewrite.found).then_some(rewrite.output)
}

/// True if a name occurs twice in an object of this valid JSON, at any depth.
pub(super) fn has_duplicates(input: &[u8]) -> bool {
    without_duplicates(input).is_some()
}

/// Objects with more members than this look for equal names by hash; below, comparing is faster.
const COMPARED_MEMBERS_MAX: usize = 16;

struct Rewrite<'a> {
    cursor: Cursor<'a>,
    output: Vec<u8>,
    /// The names in the objects that are open, without their escapes.
    names: Vec<u8>,
    found: bool,
}

struct Member {
    /// Where its name stands in [`Rewrite::names`].
    name: Range<usize>,
    /// Where it stands in the output, with a comma behind it.
    text: Range<usize>,
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
        let (start, names_start) = (self.output.len(), self.names.len());
        let mut members = Vec::new();
        self.output.push(b'{');
        let mut more = self.cursor.enter(b'}');
        while more {
            let (name_at, text_start) = (self.cursor.at(), self.output.len());
            let (name_start, name) = (self.names.len(), self.cursor.name()?);
            self.names.extend_from_slice(self.cursor.text(name));
            let name = name_start..self.names.len();
            self.copy_from(name_at);
            self.value()?;
            self.output.push(b',');
            members.push(Member { name, text: text_start..self.output.len() });
            more = self.cursor.more(b'}')?;
        }
        if let Some(kept) = self.kept(&members) {
            self.found = true;
            let written = self.output.split_off(start + 1);
            for member in kept.into_iter().map(|index| &members[index].text) {
                let member = member.start - start - 1..member.end - start - 1;
                self.output.extend_from_slice(&written[member]);
            }
        }
        if !members.is_empty() {
            self.output.pop();
        }
        self.output.push(b'}');
        self.names.truncate(names_start);
        Ok(())
    }

    /// The members that no later one replaces, or `None` if those are all of them. A record with a
    /// flaw comes by here, so that this must not cost more than the record did.
    fn kept(&self, members: &[Member]) -> Option<Vec<usize>> {
        let name = |member: &Member| &self.names[member.name.clone()];
        if members.len() <= COMPARED_MEMBERS_MAX {
            let is_last = |index: &usize| {
                let (member, later) = (name(&members[*index]), &members[*index + 1..]);
                later.iter().all(|later| name(later) != member)
            };
            let all = (0..members.len()).all(|index| is_last(&index));
            return (!all).then(|| (0..members.len()).filter(is_last).collect());
        }
        let last_by_name: HashMap<&[u8], usize> =
            members.iter().enumerate().map(|(index, member)| (name(member), index)).collect();
        let all = last_by_name.len() == members.len();
        let mut kept: Vec<usize> = last_by_name.into_values().collect();
        kept.sort_unstable();
        (!all).then_some(kept)
    }

    fn copy_from(&mut self, start: usize) {
        self.output.extend_from_slice(&self.cursor.input()[start..self.cursor.at()]);
    }
}
