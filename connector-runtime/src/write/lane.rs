//! The CPU work of one connector: decode, assemble, encode, roll. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::clock::Clock;
use connector_api::decoded::{Cause, Rejected};
use connector_api::decoder::Decoder;
use connector_api::ids::ConnectorName;
use connector_api::offsets::Offset;
use connector_api::record::{Origin, RawRecords};
use connector_api::sink::{FileStatus, TableWriter, TableWriters};
use connector_api::staged::Accounting;
use connector_api::{Result, check_invariant};

use super::assemble::assemble;
use super::dead_letters::{self, DeadLetter, Stage};
use super::naming::FileNames;
use super::partitioning::{Part, split, too_long};
use super::rolling::{ROUND_FILES_MAX, roll_for_room, should_roll};

/// Memory that each file takes beside its content: its names, its statistics, its place in a commit.
const FILE_BYTES: u64 = 16 * 1024;

/// What a lane writes, and how.
#[derive(Debug)]
pub struct LaneSettings {
    /// The table's columns.
    pub schema: TableSchema,
    /// The size at which a file is closed.
    pub file_bytes_target: u64,
    /// Whose records they are.
    pub connector: ConnectorName,
    /// The fingerprint of the configuration (CF-1).
    pub fingerprint: String,
    /// True if rejected records are kept as dead letters.
    pub keeps_dead_letters: bool,
    /// Unique among all workers and runs.
    pub run: String,
    /// Stamps the files' names.
    pub clock: Arc<dyn Clock>,
}

/// The open files of a connector and what fills them.
pub struct Lane {
    decoder: Box<dyn Decoder>,
    writers: Arc<dyn TableWriters>,
    settings: LaneSettings,
    names: FileNames,
    open: BTreeMap<PartitionValues, Box<dyn TableWriter>>,
    finished: Vec<Box<dyn TableWriter>>,
    dead_letters: Vec<TableBatch>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Processed {
    /// How many records became what.
    pub accounting: Accounting,
    /// The records that could not become a row.
    pub rejected: Vec<Rejected>,
}

/// A round's content, complete and not in the store yet.
#[derive(Default)]
pub struct SealedFiles {
    /// Files of the connector's table.
    pub files: Vec<Box<dyn TableWriter>>,
    /// Rows for the dead-letter table.
    pub dead_letters: Vec<TableBatch>,
}

impl std::fmt::Debug for SealedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SealedFiles({} files, {} dead-letter batches)",
            self.files.len(),
            self.dead_letters.len()
        )
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({} open files, {} finished)", self.open.len(), self.finished.len())
    }
}

impl Lane {
    /// A lane without open files.
    pub fn new(
        decoder: Box<dyn Decoder>,
        writers: Arc<dyn TableWriters>,
        settings: LaneSettings,
    ) -> Self {
        let names = FileNames::new(settings.run.clone());
        Self {
            decoder,
            writers,
            settings,
            names,
            open: BTreeMap::new(),
            finished: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    /// Decodes a batch and writes its rows into the open files. Records that cannot become rows
    /// are kept as dead letters, except those before `dead_letters_from`, which are in their table.
    pub fn process(
        &mut self,
        records: &RawRecords,
        dead_letters_from: Offset,
    ) -> Result<Processed> {
        let decoded = self.decoder.decode(records);
        let mut accounting = decoded.accounting();
        let mut rejected = decoded.rejected().to_vec();
        let decode_rejects = rejected.len();
        if decoded.rows().num_rows() > 0 {
            let rows = assemble(records, &decoded, &self.settings.schema.columns)?;
            for part in split(&rows, &self.settings.schema.partition_columns)? {
                match unwritable(&part) {
                    Some(cause) => {
                        let of =
                            part.indices.iter().map(|row| decoded.row_records()[*row as usize]);
                        rejected.extend(of.map(|record| reject(records, record as usize, &cause)));
                    }
                    None => {
                        let (topic_partition, range) =
                            (decoded.topic_partition().clone(), decoded.range());
                        self.write(&TableBatch::new(
                            topic_partition,
                            range,
                            part.values,
                            part.rows,
                        ))?;
                    }
                }
            }
        }
        let unwritten = (rejected.len() - decode_rejects) as u64;
        accounting.written -= unwritten;
        accounting.rejected += unwritten;
        if self.settings.keeps_dead_letters && !rejected.is_empty() {
            let letters = letters(records, &rejected, decode_rejects);
            check_invariant!(
                Dl1,
                letters.len() == rejected.len(),
                "{} of {} rejected records of {records:?} are no record of it",
                rejected.len() - letters.len(),
                rejected.len()
            );
            let rows =
                dead_letters::rows(records, &letters, &self.settings.connector, dead_letters_from)?;
            self.dead_letters.extend(rows);
        }
        fail::fail_point!("w1_rows_in_memory", |_| std::process::abort());
        Ok(Processed { accounting, rejected })
    }

    /// True if the round should end: by its bytes, or by the number of its files, each of which takes some
    /// memory however small it is.
    pub fn is_full(&self) -> bool {
        let files = self.open.len() + self.finished.len();
        files >= ROUND_FILES_MAX || self.bytes() >= self.settings.file_bytes_target
    }

    /// Bytes of the round: encoded in files, and of its dead letters as they are in memory.
    fn bytes(&self) -> u64 {
        let files = self.open.values().chain(&self.finished);
        files.map(|file| file.status().encoded_bytes).sum::<u64>() + self.dead_letter_bytes()
    }

    /// Memory that the round takes. Nothing, if it has no content.
    pub fn memory_bytes(&self) -> usize {
        let files = self.open.values().chain(&self.finished);
        let files: u64 = files.map(|file| file.status().memory_bytes + FILE_BYTES).sum();
        usize::try_from(files + self.dead_letter_bytes()).unwrap_or(usize::MAX)
    }

    fn dead_letter_bytes(&self) -> u64 {
        let batches = self.dead_letters.iter();
        batches.map(|batch| batch.rows().get_array_memory_size() as u64).sum()
    }

    /// Finishes all open files and hands over the round's content.
    pub fn seal(&mut self) -> Result<SealedFiles> {
        for (_, mut file) in std::mem::take(&mut self.open) {
            file.finish()?;
            self.finished.push(file);
        }
        Ok(SealedFiles {
            files: std::mem::take(&mut self.finished),
            dead_letters: std::mem::take(&mut self.dead_letters),
        })
    }

    /// Drops the round's content: nobody has seen it (WR-1).
    pub fn abandon(&mut self) {
        self.open.clear();
        self.finished.clear();
        self.dead_letters.clear();
    }

    fn write(&mut self, batch: &TableBatch) -> Result<()> {
        let values = batch.partition_values();
        if !self.open.contains_key(values) {
            self.make_room()?;
            let name = self.names.next(self.settings.clock.wall_ms());
            let file = self.writers.open_file(&name, values, &self.settings.fingerprint)?;
            self.open.insert(values.clone(), file);
        }
        let Some(file) = self.open.get_mut(values) else { return Ok(()) };
        file.write(batch)?;
        if should_roll(&file.status(), self.settings.file_bytes_target).is_some() {
            let values = values.clone();
            self.roll(&values)?;
        }
        Ok(())
    }

    /// Closes a file if there are too many open ones.
    fn make_room(&mut self) -> Result<()> {
        let statuses: Vec<FileStatus> = self.open.values().map(|file| file.status()).collect();
        let Some((index, _)) = roll_for_room(&statuses) else { return Ok(()) };
        match self.open.keys().nth(index).cloned() {
            Some(values) => self.roll(&values),
            None => Ok(()),
        }
    }

    fn roll(&mut self, values: &PartitionValues) -> Result<()> {
        if let Some(mut file) = self.open.remove(values) {
            file.finish()?;
            self.finished.push(file);
        }
        Ok(())
    }
}

/// Why the rows of a folder cannot be written.
fn unwritable(part: &Part) -> Option<Cause> {
    let (column, length) = too_long(&part.values)?;
    Some(Cause {
        code: "partition_value_too_long",
        path: column.to_owned(),
        message: format!("the name of its folder would have {length} bytes, and 255 are allowed"),
    })
}

fn reject(records: &RawRecords, record: usize, cause: &Cause) -> Rejected {
    let offset = Offset::new(records.offsets()[record]).unwrap_or_else(|| records.range().start());
    Rejected {
        origin: Origin { topic_partition: records.topic_partition().clone(), offset },
        cause: cause.clone(),
        payload: records.value_shared(record),
    }
}

/// The dead letters of a batch, in the order of their offsets. The first `decoded` of the rejected
/// were rejected by the decoder, the others when they were to be written.
fn letters<'a>(
    records: &RawRecords,
    rejected: &'a [Rejected],
    decoded: usize,
) -> Vec<DeadLetter<'a>> {
    let letter = |(index, one): (usize, &'a Rejected)| {
        let stage = if index < decoded { Stage::Decode } else { Stage::Write };
        let message = match one.cause.path.as_str() {
            "" => one.cause.message.clone(),
            path => format!("`{path}`: {}", one.cause.message),
        };
        let record = records.record_at(one.origin.offset)?;
        Some(DeadLetter { record, stage, cause: one.cause.code, message })
    };
    let mut letters: Vec<_> = rejected.iter().enumerate().filter_map(letter).collect();
    letters.sort_by_key(|letter| letter.record);
    letters
}
