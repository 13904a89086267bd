//! Records as they come from Kafka: bytes of one topic partition in one arena, never one object a record.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use crate::ids::TopicPartition;
use crate::offsets::{Offset, OffsetRange};

/// A contiguous range of one topic partition, with the records that it holds.
///
/// The range may be wider than the records in it: transaction markers and compacted records have
/// offsets and no payload. All per-record vectors have the same length, one entry a record.
#[derive(Clone)]
pub struct RawRecords {
    topic_partition: TopicPartition,
    range: OffsetRange,
    values: Bytes,
    /// End of each value in `values`; it starts where the previous one ends.
    value_ends: Vec<u32>,
    /// True where Kafka's value is null: a tombstone, which is not an empty value.
    tombstones: Vec<bool>,
    offsets: Vec<i64>,
    timestamps_ms: Vec<i64>,
    envelopes: Option<Envelopes>,
}

/// What a record carries beside its value. Kept only where a table has a place for it.
#[derive(Debug, Clone, Default)]
struct Envelopes {
    keys: Vec<u8>,
    /// End of each key in `keys`, and whether there is a key at all.
    key_ends: Vec<(u32, bool)>,
    /// Few records have headers: `(record, headers)` in ascending order.
    headers: Vec<(u32, Vec<Header>)>,
    header_bytes: usize,
}

/// One header of a record. A name may occur more than once, and the order counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

impl RawRecords {
    /// Where the records come from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The offsets that these records account for.
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// True if the range holds no record (it still accounts for its offsets).
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of payload.
    pub fn value_bytes(&self) -> usize {
        self.values.len()
    }

    /// The value of a record, or `None` for a tombstone. Panics if `record` is out of bounds.
    #[inline]
    pub fn value(&self, record: usize) -> Option<&[u8]> {
        (!self.tombstones[record]).then(|| &self.values[self.value_span(record)])
    }

    /// The same value without a copy, to be kept beyond this batch. Empty for a tombstone.
    pub fn value_shared(&self, record: usize) -> Bytes {
        self.values.slice(self.value_span(record))
    }

    /// The key of a record: `None` if it has none, or if keys are not kept. Panics if `record` is out of bounds.
    pub fn key(&self, record: usize) -> Option<&[u8]> {
        let Envelopes { keys, key_ends, .. } = self.envelopes.as_ref()?;
        let (end, present) = key_ends[record];
        let start = if record == 0 { 0 } else { key_ends[record - 1].0 };
        present.then(|| &keys[start as usize..end as usize])
    }

    /// The headers of a record: empty if it has none, or if they are not kept.
    pub fn headers(&self, record: usize) -> &[Header] {
        let Some(Envelopes { headers, .. }) = &self.envelopes else { return &[] };
        match headers.binary_search_by_key(&record, |(of, _)| *of as usize) {
            Ok(found) => &headers[found].1,
            Err(_) => &[],
        }
    }

    /// The same range without the records at these offsets.
    #[must_use]
    pub fn without(&self, offsets: &BTreeSet<i64>) -> Self {
        let mut builder = RawRecordsBuilder::new(self.topic_partition.clone(), self.range.start());
        if self.envelopes.is_some() {
            builder = builder.with_envelopes();
        }
        for record in 0..self.len() {
            let at = self.offsets[record];
            let Some(offset) = Offset::new(at).filter(|_| !offsets.contains(&at)) else { continue };
            builder.push(offset, self.timestamps_ms[record], self.value(record));
            if self.envelopes.is_some() {
                builder.envelope(self.key(record), self.headers(record).to_vec());
            }
        }
        builder.skip_to(self.range.end());
        builder.take()
    }

    /// The index of the record with this offset.
    pub fn record_at(&self, offset: Offset) -> Option<usize> {
        self.offsets.binary_search(&offset.get()).ok()
    }

    /// The records' offsets, ascending.
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// The records' own timestamps, in milliseconds since 1970 UTC; -1 where the producer set none.
    pub fn timestamps_ms(&self) -> &[i64] {
        &self.timestamps_ms
    }

    #[inline]
    fn value_span(&self, record: usize) -> std::ops::Range<usize> {
        let start = if record == 0 { 0 } else { self.value_ends[record - 1] };
        start as usize..self.value_ends[record] as usize
    }
}

impl fmt::Debug for RawRecords {
    /// Names the range and not the payload: payload does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawRecords({} {}, {} records)", self.topic_partition, self.range, self.len())
    }
}

/// The most that is made room for before it is there.
const RESERVED_BYTES_MAX: usize = 1024 * 1024;

/// Collects records of one topic partition until they are handed over.
#[derive(Debug)]
pub struct RawRecordsBuilder {
    topic_partition: TopicPartition,
    start: Offset,
    next: Offset,
    values: Vec<u8>,
    value_ends: Vec<u32>,
    tombstones: Vec<bool>,
    offsets: Vec<i64>,
    timestamps_ms: Vec<i64>,
    envelopes: Option<Envelopes>,
    /// Records and bytes of what was handed over last: about as much will come again.
    last: (usize, usize),
}

impl RawRecordsBuilder {
    /// Starts a range at the next offset to read. Keeps no keys and headers.
    pub fn new(topic_partition: TopicPartition, start: Offset) -> Self {
        Self {
            topic_partition,
            start,
            next: start,
            values: Vec::new(),
            value_ends: Vec::new(),
            tombstones: Vec::new(),
            offsets: Vec::new(),
            timestamps_ms: Vec::new(),
            envelopes: None,
            last: (0, 0),
        }
    }

    /// Keeps keys and headers too: each [`push`](Self::push) is followed by one [`envelope`](Self::envelope).
    #[must_use]
    pub fn with_envelopes(mut self) -> Self {
        self.envelopes = Some(Envelopes::default());
        self
    }

    /// True if keys and headers are kept.
    pub fn keeps_envelopes(&self) -> bool {
        self.envelopes.is_some()
    }

    /// Adds key and headers of the record that was pushed last, if they are kept.
    pub fn envelope(&mut self, key: Option<&[u8]>, headers: Vec<Header>) {
        let Some(envelopes) = &mut self.envelopes else { return };
        envelopes.keys.extend_from_slice(key.unwrap_or_default());
        envelopes.key_ends.push((envelopes.keys.len() as u32, key.is_some()));
        if !headers.is_empty() {
            let bytes =
                |header: &Header| header.key.len() + header.value.as_ref().map_or(0, Bytes::len);
            envelopes.header_bytes += headers.iter().map(bytes).sum::<usize>();
            envelopes.headers.push((envelopes.key_ends.len() as u32 - 1, headers));
        }
    }

    /// Appends a record and moves the range's end behind it.
    ///
    /// Returns false, and takes nothing, if the record lies before the range's end: it is already
    /// accounted for. The arena holds up to 4 GiB; callers hand over long before that.
    pub fn push(&mut self, offset: Offset, timestamp_ms: i64, value: Option<&[u8]>) -> bool {
        if offset < self.next {
            return false;
        }
        if self.offsets.is_empty() {
            self.reserve();
        }
        self.values.extend_from_slice(value.unwrap_or_default());
        self.value_ends.push(self.values.len() as u32);
        self.tombstones.push(value.is_none());
        self.offsets.push(offset.get());
        self.timestamps_ms.push(timestamp_ms);
        self.next = offset.next();
        true
    }

    /// Makes room for as much as came last, so that nothing is copied while it grows.
    fn reserve(&mut self) {
        let (records, bytes) = self.last;
        self.values.reserve(bytes);
        self.value_ends.reserve(records);
        self.tombstones.reserve(records);
        self.offsets.reserve(records);
        self.timestamps_ms.reserve(records);
        if let Some(envelopes) = &mut self.envelopes {
            envelopes.key_ends.reserve(records);
        }
    }

    /// Moves the range's end over offsets that hold no record. Never moves back.
    pub fn skip_to(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }

    /// The next offset to read.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Bytes held, payload and bookkeeping.
    pub fn bytes(&self) -> usize {
        let envelopes = self.envelopes.as_ref().map_or(0, Envelopes::bytes);
        self.values.len() + self.offsets.len() * 21 + envelopes
    }

    /// Number of records held.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// True if nothing has been accounted for since the last hand-over.
    pub fn is_empty(&self) -> bool {
        self.start == self.next
    }

    /// Hands over what was collected and goes on behind it.
    pub fn take(&mut self) -> RawRecords {
        let mut following = Self::new(self.topic_partition.clone(), self.next);
        following.envelopes = self.envelopes.as_ref().map(|_| Envelopes::default());
        following.last = (self.offsets.len(), self.values.len().min(RESERVED_BYTES_MAX));
        let full = std::mem::replace(self, following);
        let range = OffsetRange::new(full.start, full.next);
        RawRecords {
            topic_partition: full.topic_partition,
            // `next` starts at `start` and only grows.
            range: range.unwrap_or_else(|| unreachable!("a range that runs backwards")),
            values: full.values.into(),
            value_ends: full.value_ends,
            tombstones: full.tombstones,
            offsets: full.offsets,
            timestamps_ms: full.timestamps_ms,
            envelopes: full.envelopes,
        }
    }
}

impl Envelopes {
    fn bytes(&self) -> usize {
        self.keys.len() + self.key_ends.len() * 8 + self.header_bytes
    }
}

/// Where one record stands in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The topic partition.
    pub topic_partition: TopicPartition,
    /// The record's offset.
    pub offset: Offset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.topic_partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicId;

    fn builder(start: i64) -> RawRecordsBuilder {
        let topic_partition =
            TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 0 };
        RawRecordsBuilder::new(topic_partition, Offset::new(start).unwrap())
    }

    fn at(offset: i64) -> Offset {
        Offset::new(offset).unwrap()
    }

    #[test]
    fn a_range_covers_the_holes_between_its_records() {
        let mut builder = builder(10);
        assert!(builder.push(at(12), 1, Some(b"a")));
        assert!(builder.push(at(15), 2, Some(b"bc")));
        builder.skip_to(at(20));
        let records = builder.take();
        assert_eq!(records.range(), OffsetRange::new(at(10), at(20)).unwrap());
        assert_eq!(records.offsets(), [12, 15]);
        assert_eq!(records.value(1), Some(&b"bc"[..]));
        assert_eq!(builder.take().range(), OffsetRange::new(at(20), at(20)).unwrap());
    }

    #[test]
    fn a_record_that_is_already_accounted_for_is_refused() {
        let mut builder = builder(10);
        assert!(!builder.push(at(9), 1, Some(b"a")));
        assert!(builder.push(at(10), 1, Some(b"a")));
        assert!(!builder.push(at(10), 1, Some(b"a")));
        assert_eq!(builder.take().len(), 1);
    }

    #[test]
    fn keys_and_headers_stay_with_their_records() {
        let mut builder = builder(0).with_envelopes();
        let traced = Header { key: "trace".into(), value: Some(Bytes::from_static(b"1")) };
        for (offset, key, headers) in [
            (0, Some(&b"k"[..]), vec![]),
            (1, None, vec![traced.clone()]),
            (2, Some(&b""[..]), vec![]),
        ] {
            builder.push(at(offset), 1, Some(b"v"));
            builder.envelope(key, headers);
        }
        let records = builder.take();
        let keys: Vec<_> = (0..3).map(|record| records.key(record)).collect();
        assert_eq!(keys, [Some(&b"k"[..]), None, Some(&b""[..])]);
        assert_eq!((records.headers(0), records.headers(1)), (&[][..], &[traced][..]));
        assert_eq!((records.record_at(at(2)), records.record_at(at(3))), (Some(2), None));
        assert!(builder.keeps_envelopes(), "so does what follows");
    }

    #[test]
    fn a_tombstone_is_not_an_empty_value() {
        let mut builder = builder(0);
        builder.push(at(0), 1, None);
        builder.push(at(1), 1, Some(b""));
        let records = builder.take();
        assert_eq!(records.value(0), None);
        assert_eq!(records.value(1), Some(&b""[..]));
    }
}
