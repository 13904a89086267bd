//! The ceiling: take in batches (or, to compare, one by one), decode, encode, put, in one loop on one thread,
//! with the product's decoder and its settings for Parquet, and nothing else: no group, no rounds, no commit,
//! no table.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use connector_api::batch::KAFKA_COLUMN;
use connector_api::config::Compression;
use connector_api::decoder::{
    DecodeRequest, Decoder, DecoderFactory, OnUnknownField, RESCUED_COLUMN,
};
use connector_api::ids::{TopicId, TopicPartition};
use connector_api::offsets::Offset;
use connector_api::record::{RawRecords, RawRecordsBuilder};
use connector_runtime::source::{Batch, DataQueue};
use connectors::data_file::properties;
use connectors::decode::JsonFactory;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, TopicPartitionList};

use crate::load::PARTITIONS;

/// As in the product.
const BATCH_BYTES: usize = 1024 * 1024;
const FILE_BYTES: usize = 128 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    /// A file with the columns to write.
    #[arg(long)]
    like: PathBuf,
    /// Where the files go.
    #[arg(long)]
    folder: PathBuf,
    /// Takes records one by one, by librdkafka's `poll`.
    #[arg(long)]
    poll: bool,
}

/// Reads the topic to its end.
pub(crate) fn run(args: &Args) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.bootstrap)
        .set("group.id", "ceiling")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.min.bytes", "65536")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("a valid configuration");
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..PARTITIONS {
        let (start, end) = consumer.fetch_watermarks(&args.topic, partition, PATIENCE).unwrap();
        list.add_partition_offset(&args.topic, partition, rdkafka::Offset::Offset(start)).unwrap();
        left += end - start;
    }
    let builder = |partition| RawRecordsBuilder::new(identity(&args.topic, partition), at(0));
    let mut arenas: Vec<RawRecordsBuilder> = (0..PARTITIONS).map(builder).collect();
    let mut writer = Writer::new(args);
    let mut push = |partition: i32, offset: i64, timestamp_ms: i64, value: Option<&[u8]>| {
        let arena = &mut arenas[partition as usize];
        arena.push(at(offset), timestamp_ms, value);
        if arena.bytes() >= BATCH_BYTES {
            writer.write(&arena.take());
        }
    };
    if args.poll {
        consumer.assign(&list).unwrap();
        while left > 0 {
            let record = consumer.poll(PATIENCE).expect("records are missing").unwrap();
            let timestamp_ms = record.timestamp().to_millis().unwrap();
            push(record.partition(), record.offset(), timestamp_ms, record.payload());
            left -= 1;
        }
    } else {
        let queue = DataQueue::new(consumer.client());
        (0..PARTITIONS).for_each(|partition| queue.forward(&args.topic, partition).unwrap());
        consumer.assign(&list).unwrap();
        let mut batch = Batch::default();
        while left > 0 {
            queue.take(PATIENCE, &mut batch);
            assert!(!batch.is_empty(), "{left} records are missing");
            for record in batch.iter() {
                assert_eq!(record.error(), None);
                push(record.partition(), record.offset(), record.timestamp_ms(), record.value());
                left -= 1;
            }
        }
    }
    for mut arena in arenas {
        writer.write(&arena.take());
    }
    writer.finish();
}

/// Rows of a file.
pub(crate) fn rows(file: &Path) -> i64 {
    open(file).metadata().file_metadata().num_rows()
}

struct Writer {
    folder: PathBuf,
    columns: SchemaRef,
    decoder: Box<dyn Decoder>,
    file: Option<ArrowWriter<Vec<u8>>>,
    files: usize,
}

impl Writer {
    fn new(args: &Args) -> Self {
        // Without Parquet's own notes on each field, such as ids.
        let columns = open(&args.like).schema().clone();
        let is_payload =
            |field: &&Arc<Field>| ![KAFKA_COLUMN, RESCUED_COLUMN].contains(&&**field.name());
        let payload: Vec<_> = columns.fields().iter().filter(is_payload).cloned().collect();
        let request = DecodeRequest {
            columns: Arc::new(Schema::new(payload)),
            on_unknown_field: OnUnknownField::Rescue,
        };
        let decoder = JsonFactory.decoder(&request).unwrap();
        Self { folder: args.folder.clone(), columns, decoder, file: None, files: 0 }
    }

    fn write(&mut self, records: &RawRecords) {
        let decoded = self.decoder.decode(records);
        assert_eq!(decoded.rejected().len(), 0, "all records are good");
        let rows = decoded.rows();
        let columns = self.columns.fields().iter().map(|field| {
            if field.name() == KAFKA_COLUMN {
                return kafka_column(records, field);
            }
            let column = rows.column_by_name(field.name()).cloned();
            column.unwrap_or_else(|| new_null_array(field.data_type(), rows.num_rows()))
        });
        let rows = RecordBatch::try_new(self.columns.clone(), columns.collect()).unwrap();
        let file = self.file.get_or_insert_with(|| {
            let properties = properties(self.columns.fields(), Compression::Zstd(1));
            let options = ArrowWriterOptions::new()
                .with_properties(properties)
                .with_skip_arrow_metadata(true);
            ArrowWriter::try_new_with_options(Vec::new(), self.columns.clone(), options).unwrap()
        });
        file.write(&rows).unwrap();
        if file.bytes_written() + file.in_progress_size() >= FILE_BYTES {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let Some(mut file) = self.file.take() else { return };
        file.finish().unwrap();
        self.files += 1;
        let path = self.folder.join(format!("part-{}.parquet", self.files));
        std::fs::write(path, file.inner()).unwrap();
    }
}

fn kafka_column(records: &RawRecords, field: &Field) -> ArrayRef {
    let DataType::Struct(fields) = field.data_type() else { panic!("it is a struct") };
    let count = records.len();
    let child = |field: &Arc<Field>| -> ArrayRef {
        let topic_partition = records.topic_partition();
        match field.name().as_str() {
            "topic" => Arc::new(StringArray::new_repeated(&topic_partition.topic, count)),
            "partition" => Arc::new(Int32Array::from_value(topic_partition.partition, count)),
            "offset" => Arc::new(Int64Array::from(records.offsets().to_vec())),
            _ => {
                let micros = records.timestamps_ms().iter().map(|ms| ms * 1000);
                Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
            }
        }
    };
    let arrays = fields.iter().map(child).collect();
    Arc::new(StructArray::new(fields.clone(), arrays, None))
}

fn open(file: &Path) -> ParquetRecordBatchReaderBuilder<File> {
    ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap()
}

fn identity(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), topic_id: TopicId::Unavailable, partition }
}

fn at(offset: i64) -> Offset {
    Offset::new(offset).expect("Kafka's offsets are not negative")
}
