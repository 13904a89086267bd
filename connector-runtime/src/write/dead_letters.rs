//! Rejected records as rows of the dead-letter table.
//!
//! | column | holds |
//! |---|---|
//! | `_kafka` | where the record stands: topic, partition, offset, timestamp, and its key and headers |
//! | `value` | its value, untouched; null for none |
//! | `stage` | where it was rejected: `decode` or `write` |
//! | `cause` | a stable code, such as `json_syntax` |
//! | `message` | the same for people: where in the record, what was found, what is allowed |
//! | `connector` | which connector rejected it |

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StringBuilder, StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use connector_api::batch::{KAFKA_COLUMN, PartitionValues, TableBatch, TableSchema};
use connector_api::ids::ConnectorName;
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::record::RawRecords;
use connector_api::schema::{KafkaField, type_name};
use connector_api::{Error, Result};

use super::assemble::timestamps;

/// Where a record was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its bytes are no row of the table's columns.
    Decode,
    /// Its row cannot be written.
    Write,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Write => "write",
        }
    }
}

/// A rejected record, by its index in the batch that it came with.
#[derive(Debug)]
pub struct DeadLetter<'a> {
    /// The index of the record.
    pub record: usize,
    /// Where it was rejected.
    pub stage: Stage,
    /// A stable code.
    pub cause: &'a str,
    /// What was found, for people.
    pub message: String,
}

/// What a dead-letter table looks like.
pub fn schema() -> TableSchema {
    TableSchema { columns: columns(), partition_columns: Vec::new() }
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(KAFKA_COLUMN, DataType::Struct(kafka_fields()), true),
        Field::new("value", DataType::Binary, true),
        Field::new("stage", DataType::Utf8, true),
        Field::new("cause", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, true),
        Field::new("connector", DataType::Utf8, true),
    ]))
}

fn kafka_fields() -> Fields {
    let place = KafkaField::ALL.map(|field| Field::new(field.name(), field.data_type(), true));
    let beside = [
        Field::new("key", DataType::Binary, true),
        Field::new("headers", DataType::List(header_item()), true),
    ];
    place.into_iter().chain(beside).collect()
}

fn header_item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(header_fields()), true))
}

fn header_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)]
        .into()
}

/// Makes rows of rejected records. Those before `from` are in the table already and left out;
/// `None` if none is left.
pub fn rows(
    records: &RawRecords,
    rejected: &[DeadLetter<'_>],
    connector: &ConnectorName,
    from: Offset,
) -> Result<Option<TableBatch>> {
    let new: Vec<&DeadLetter<'_>> =
        rejected.iter().filter(|one| records.offsets()[one.record] >= from.get()).collect();
    let start = records.range().start().max(from);
    let Some(range) = OffsetRange::new(start, records.range().end()).filter(|_| !new.is_empty())
    else {
        return Ok(None);
    };
    let at: Vec<u32> = new.iter().map(|one| one.record as u32).collect();
    let text = |of: for<'a> fn(&'a DeadLetter<'_>) -> &'a str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(new.iter().map(|one| of(one))))
    };
    let values = BinaryArray::from_iter(at.iter().map(|record| records.value(*record as usize)));
    let connectors = StringArray::from_iter_values(new.iter().map(|_| connector.as_str()));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(kafka_column(records, &at)?),
        Arc::new(values),
        text(|one| one.stage.as_str()),
        text(|one| one.cause),
        text(|one| &one.message),
        Arc::new(connectors),
    ];
    let rows = RecordBatch::try_new(columns(), arrays).map_err(unbuilt)?;
    let topic_partition = records.topic_partition().clone();
    Ok(Some(TableBatch::new(topic_partition, range, PartitionValues::default(), rows)))
}

fn unbuilt(error: arrow::error::ArrowError) -> Error {
    Error::internal("dead letters make no rows").with_source(error)
}

fn kafka_column(records: &RawRecords, at: &[u32]) -> Result<StructArray> {
    let topic_partition = records.topic_partition();
    let topics = StringArray::from_iter_values(at.iter().map(|_| &*topic_partition.topic));
    let offsets = at.iter().map(|record| records.offsets()[*record as usize]);
    let keys = BinaryArray::from_iter(at.iter().map(|record| records.key(*record as usize)));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(topics),
        Arc::new(Int32Array::from_value(topic_partition.partition, at.len())),
        Arc::new(Int64Array::from_iter_values(offsets)),
        Arc::new(timestamps(records, at)),
        Arc::new(keys),
        Arc::new(headers(records, at)?),
    ];
    StructArray::try_new(kafka_fields(), arrays, None).map_err(unbuilt)
}

fn headers(records: &RawRecords, at: &[u32]) -> Result<ListArray> {
    let (mut names, mut values) = (StringBuilder::new(), BinaryBuilder::new());
    let mut counts = Vec::with_capacity(at.len());
    for record in at {
        let headers = records.headers(*record as usize);
        for header in headers {
            names.append_value(&header.key);
            values.append_option(header.value.as_deref());
        }
        counts.push(headers.len());
    }
    let pairs: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(values.finish())];
    let items = StructArray::try_new(header_fields(), pairs, None).map_err(unbuilt)?;
    ListArray::try_new(header_item(), OffsetBuffer::from_lengths(counts), Arc::new(items), None)
        .map_err(unbuilt)
}

/// The same rows under the columns of a table that is there already: a column of its own is null.
pub fn fitted(batch: &TableBatch, table: &SchemaRef) -> Result<TableBatch> {
    let rows = batch.rows();
    if let Some(lost) = columns().fields().iter().find(|f| table.index_of(f.name()).is_err()) {
        return Err(Error::user(format!(
            "the dead-letter table has no column `{}`, so dead letters cannot be kept in it; \
             choose another `dead_letters.location`",
            lost.name()
        )));
    }
    let column = |field: &Arc<Field>| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows.num_rows())),
        _ => Err(Error::user(format!(
            "the dead-letter table has a column `{}` of type {} that dead letters cannot fill; \
             choose another `dead_letters.location`",
            field.name(),
            type_name(field.data_type())
        ))),
    };
    let arrays = table.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let rows = RecordBatch::try_new(table.clone(), arrays).map_err(unbuilt)?;
    let (topic_partition, values) = (batch.topic_partition().clone(), batch.partition_values());
    Ok(TableBatch::new(topic_partition, batch.range(), values.clone(), rows))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use bytes::Bytes;
    use connector_api::ids::{TopicId, TopicPartition};
    use connector_api::record::{Header, RawRecordsBuilder};

    use super::*;

    fn records() -> RawRecords {
        let topic_partition =
            TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 3 };
        let at = |offset| Offset::new(offset).unwrap();
        let mut builder = RawRecordsBuilder::new(topic_partition, at(10)).with_envelopes();
        for offset in [10, 12, 13] {
            builder.push(at(offset), 1_000, Some(b"{"));
            let header = Header { key: "h".into(), value: Some(Bytes::from_static(b"v")) };
            let headers = if offset == 12 { vec![header] } else { vec![] };
            builder.envelope(Some(b"k"), headers);
        }
        builder.take()
    }

    fn letters() -> Vec<DeadLetter<'static>> {
        let letter = |record| DeadLetter {
            record,
            stage: Stage::Decode,
            cause: "json_syntax",
            message: "no end".into(),
        };
        vec![letter(0), letter(1), letter(2)]
    }

    fn connector() -> ConnectorName {
        ConnectorName::parse("clicks").unwrap()
    }

    #[test]
    fn dl_1_a_dead_letter_carries_topic_partition_offset_and_cause() {
        let batch = rows(&records(), &letters(), &connector(), Offset::ZERO).unwrap().unwrap();
        assert_eq!(batch.range(), records().range());
        let kafka = batch.rows().column(0).as_struct();
        let offsets = kafka.column_by_name("offset").unwrap();
        assert_eq!(offsets.as_primitive::<arrow::datatypes::Int64Type>().values(), &[10, 12, 13]);
        let headers = kafka.column_by_name("headers").unwrap().as_list::<i32>();
        assert_eq!((0..3).map(|row| headers.value(row).len()).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(kafka.column_by_name("key").unwrap().as_binary::<i32>().value(1), b"k");
        assert_eq!(batch.rows().column(1).as_binary::<i32>().value(2), b"{");
        assert_eq!(batch.rows().column(3).as_string::<i32>().value(0), "json_syntax");
    }

    #[test]
    fn what_the_table_has_already_is_left_out() {
        let from = |offset| {
            rows(&records(), &letters(), &connector(), Offset::new(offset).unwrap()).unwrap()
        };
        let batch = from(11).unwrap();
        assert_eq!(batch.rows().num_rows(), 2);
        assert_eq!(batch.range().start(), Offset::new(11).unwrap());
        assert!(from(14).is_none());
        assert!(from(100).is_none());
    }
}
