//! When a data file is closed: a pure decision.

use connector_api::sink::FileStatus;

/// Why a file is closed before its round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollReason {
    /// It has the size that was asked for.
    Bytes,
    /// It is the largest of too many open files.
    OpenFiles,
}

/// Files of one table that may be open at once: a table partition each.
pub const OPEN_FILES_MAX: usize = 64;

/// Files of a round at which it ends.
pub const ROUND_FILES_MAX: usize = 2000;

/// Decides whether a file is closed now.
///
/// | encoded bytes | answer |
/// |---|---|
/// | the target or more | `Bytes` |
/// | less | go on |
pub fn should_roll(status: &FileStatus, file_bytes_target: u64) -> Option<RollReason> {
    (status.encoded_bytes >= file_bytes_target).then_some(RollReason::Bytes)
}

/// Decides which of too many open files is closed: the one with the most bytes, since it loses
/// least by it. `None` while there is room for another.
pub fn roll_for_room(open: &[FileStatus]) -> Option<(usize, RollReason)> {
    if open.len() < OPEN_FILES_MAX {
        return None;
    }
    let largest = open.iter().enumerate().max_by_key(|(_, status)| status.encoded_bytes)?;
    Some((largest.0, RollReason::OpenFiles))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(encoded_bytes: u64) -> FileStatus {
        FileStatus { rows: 1, encoded_bytes, memory_bytes: encoded_bytes }
    }

    #[test]
    fn a_file_rolls_at_its_target() {
        assert_eq!(should_roll(&status(99), 100), None);
        assert_eq!(should_roll(&status(100), 100), Some(RollReason::Bytes));
    }

    #[test]
    fn the_largest_of_too_many_files_rolls() {
        let mut open = vec![status(5); OPEN_FILES_MAX - 1];
        assert_eq!(roll_for_room(&open), None);
        open.insert(7, status(9));
        assert_eq!(roll_for_room(&open), Some((7, RollReason::OpenFiles)));
    }
}
