//! Names of data files: sorted by time, unique among all workers and runs.

/// Names the files of one run of one connector.
#[derive(Debug)]
pub struct FileNames {
    run: String,
    next: u64,
}

impl FileNames {
    /// `run` must be unique among all workers and their runs.
    pub fn new(run: impl Into<String>) -> Self {
        Self { run: run.into(), next: 0 }
    }

    /// The next name: when the file was opened (UTC), by which run, and its number there.
    pub fn next(&mut self, wall_ms: i64) -> String {
        self.next += 1;
        let opened = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or_default();
        format!("{}-{}-{:06}", opened.strftime("%Y%m%dT%H%M%SZ"), self.run, self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_never_repeat() {
        let mut names = FileNames::new("3f2a9c1b");
        assert_eq!(names.next(0), "19700101T000000Z-3f2a9c1b-000001");
        assert_eq!(names.next(0), "19700101T000000Z-3f2a9c1b-000002");
    }
}
