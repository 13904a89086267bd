//! Paths: where in a record a value stands, such as `user.tags[3]`.
//!
//! Names are joined by `.`, list items are `[index]`. A name that is empty or contains one of
//! `.`, `[`, `]` and `` ` `` stands in backticks, a backtick in it twice: field `b.c` of `a` is
//! ``a.`b.c` ``, and so no two places of one record have the same path.

use super::scan::Cursor;

/// One step of a path, cheap to note for each field of each record. The current step of each open
/// object or array is on the walk's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    /// Nothing of the container has been looked at.
    Opened,
    /// The field of a column, as [`Labels`] number it.
    Field(u32),
    /// An item of a list.
    Item(u32),
    /// A name that no column has: where its opening quote stands in the record.
    Name(u32),
}

/// What the columns are called, for paths and messages. Number 0 is the record itself.
#[derive(Debug)]
pub(super) struct Labels(Vec<Label>);

#[derive(Debug)]
struct Label {
    name: Box<str>,
    type_name: Box<str>,
}

impl Labels {
    pub(super) fn new() -> Self {
        Self(vec![Label { name: "".into(), type_name: "struct".into() }])
    }

    /// Numbers a column.
    pub(super) fn add(&mut self, name: &str, type_name: String) -> u32 {
        self.0.push(Label { name: name.into(), type_name: type_name.into() });
        self.0.len() as u32 - 1
    }

    pub(super) fn type_of(&self, column: u32) -> &str {
        self.0.get(column as usize).map_or("", |label| &label.type_name)
    }

    fn name_of(&self, column: u32) -> &str {
        self.0.get(column as usize).map_or("", |label| &label.name)
    }
}

/// The path as text.
pub(super) fn path_text(path: &[Segment], labels: &Labels, input: &[u8]) -> String {
    let mut text = Vec::new();
    write_path(path, labels, input, &mut |piece| text.extend_from_slice(piece));
    String::from_utf8_lossy(&text).into_owned()
}

/// Hands the path to `write`, piece by piece.
pub(super) fn write_path(
    path: &[Segment],
    labels: &Labels,
    input: &[u8],
    write: &mut dyn FnMut(&[u8]),
) {
    for (level, segment) in path.iter().enumerate() {
        match *segment {
            Segment::Opened => {}
            Segment::Item(index) => write(format!("[{index}]").as_bytes()),
            Segment::Field(column) => write_name(level, labels.name_of(column).as_bytes(), write),
            Segment::Name(at) => {
                let mut cursor = Cursor::starting_at(input, at as usize);
                if let Ok(name) = cursor.string() {
                    write_name(level, cursor.text(name), write);
                }
            }
        }
    }
}

fn write_name(level: usize, name: &[u8], write: &mut dyn FnMut(&[u8])) {
    if level > 0 {
        write(b".");
    }
    let plain = !name.is_empty() && !name.iter().any(|byte| b".[]`".contains(byte));
    if plain {
        return write(name);
    }
    write(b"`");
    for (index, piece) in name.split(|&byte| byte == b'`').enumerate() {
        if index > 0 {
            write(b"``");
        }
        write(piece);
    }
    write(b"`");
}
