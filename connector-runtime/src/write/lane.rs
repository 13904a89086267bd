//! The CPU work of one connector: decode, assemble, encode, roll. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use connector_api::Result;
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::clock::Clock;
use connector_api::decoded::Rejected;
use connector_api::decoder::Decoder;
use connector_api::record::RawRecords;
use connector_api::sink::{FileStatus, TableWriter, TableWriters};
use connector_api::staged::Accounting;

use super::assemble::assemble;
use super::naming::FileNames;
use super::partitioning::split;
use super::rolling::{roll_for_room, should_roll};

/// What a lane writes, and how.
#[derive(Debug)]
pub struct LaneSettings {
    /// The table's columns.
    pub schema: TableSchema,
    /// The size at which a file is closed.
    pub file_bytes_target: u64,
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
}

/// What became of a batch.
#[derive(Debug)]
pub struct Processed {
    /// How many records became what.
    pub accounting: Accounting,
    /// The records that could not become a row.
    pub rejected: Vec<Rejected>,
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
        Self { decoder, writers, settings, names, open: BTreeMap::new(), finished: Vec::new() }
    }

    /// Decodes a batch and writes its rows into the open files.
    pub fn process(&mut self, records: &RawRecords) -> Result<Processed> {
        let decoded = self.decoder.decode(records);
        if decoded.rows().num_rows() > 0 {
            let rows = assemble(records, &decoded, &self.settings.schema.columns)?;
            for (values, rows) in split(&rows, &self.settings.schema.partition_columns)? {
                let (topic_partition, range) = (decoded.topic_partition().clone(), decoded.range());
                self.write(&TableBatch::new(topic_partition, range, values, rows))?;
            }
        }
        fail::fail_point!("w1_rows_in_memory", |_| std::process::abort());
        Ok(Processed { accounting: decoded.accounting(), rejected: decoded.rejected().to_vec() })
    }

    /// Encoded bytes of all files of the round.
    pub fn encoded_bytes(&self) -> u64 {
        let files = self.open.values().chain(&self.finished);
        files.map(|file| file.status().encoded_bytes).sum()
    }

    /// Finishes all open files and hands over the round's files.
    pub fn seal(&mut self) -> Result<Vec<Box<dyn TableWriter>>> {
        for (_, mut file) in std::mem::take(&mut self.open) {
            file.finish()?;
            self.finished.push(file);
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Drops all files of the round: nobody has seen them (WR-1).
    pub fn abandon(&mut self) {
        self.open.clear();
        self.finished.clear();
    }

    fn write(&mut self, batch: &TableBatch) -> Result<()> {
        let values = batch.partition_values();
        if !self.open.contains_key(values) {
            self.make_room()?;
            let name = self.names.next(self.settings.clock.wall_ms());
            self.open.insert(values.clone(), self.writers.open_file(&name, values)?);
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
