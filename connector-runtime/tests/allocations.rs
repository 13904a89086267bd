//! The hot path allocates for batches, never for records.

#![allow(clippy::unwrap_used, reason = "a test: what it cannot do is its failure")]

#[path = "../../connectors/benches/reference/mod.rs"]
mod reference;
#[path = "../../connectors/benches/reference/columns.rs"]
mod reference_columns;

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use connector_api::decoder::{DecodeRequest, Decoder, DecoderFactory, OnUnknownField};
use connector_api::ids::{TopicId, TopicPartition};
use connector_api::offsets::Offset;
use connector_api::record::RawRecordsBuilder;
use connector_api::schema::{KafkaField, kafka_field};
use connector_runtime::write::assemble::assemble;
use connectors::decode::JsonFactory;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations from the arrival of so many records to their rows.
fn allocations(records: usize, decoder: &mut dyn Decoder, columns: &SchemaRef) -> usize {
    let topic_partition =
        TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 0 };
    let mut random = reference::Random(1);
    let texts: Vec<String> = (0..records).map(|id| reference::record(id, &mut random)).collect();
    let region = Region::new(ALLOCATOR);
    let mut builder = RawRecordsBuilder::new(topic_partition, Offset::ZERO).with_envelopes();
    for text in &texts {
        builder.push(builder.next(), 1_700_000_000_000, Some(text.as_bytes()));
        builder.envelope(Some(b"key"), Vec::new());
    }
    let batch = builder.take();
    let decoded = decoder.decode(&batch);
    assert_eq!(decoded.rows().num_rows(), records);
    black_box(assemble(&batch, &decoded, columns).unwrap());
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn no_record_is_allocated_for() {
    let payload = reference_columns::columns();
    let fields = payload.fields().iter().map(|field| field.as_ref().clone());
    let columns =
        Arc::new(Schema::new(fields.chain([kafka_field(&KafkaField::ALL)]).collect::<Vec<_>>()));
    let request = DecodeRequest { columns: payload, on_unknown_field: OnUnknownField::Ignore };
    let mut decoder = JsonFactory.decoder(&request).unwrap();
    let [_, few, many] = [8_000, 1_000, 8_000].map(|n| allocations(n, decoder.as_mut(), &columns));
    // What grows by doubling does so three times more often.
    assert!(many < few + 100, "{few} allocations for 1,000 records, {many} for 8,000");
}
