//! What the black-box tests are made of.
//!
//! The tests know Alluvium by its binary, its YAML, its exit codes and its tables only. Around the
//! binary stand things that are not ours: Apache Kafka ([`broker`]), an S3 emulator
//! ([`object_store`]), real records ([`datasets`]), DuckDB as the reader ([`reader`]), and for whole
//! tables more engines ([`engine`]), by the statements that users are told ([`document`]).
//!
//! A test reads in the order of the record: a [`case`] gives it a folder and topics, the [`producer`]
//! says which record went to which offset, a [`connector`] is the YAML, a [`worker`] the running
//! binary, and the [`verifier`] compares what was produced with what the table holds, by topic
//! partition and offset.
//!
//! One thing is asked of Alluvium's own parts, since nothing else can tell: whether its clients of the stores
//! ([`client`]), the emulators and gateways among them ([`object_store`], [`azurite`], [`ceph`]), let one of many writers win ([`race`]).
//!
//! `test.sh` beside this package provisions what all this needs and runs the tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails, and this package is for tests only"
)]

pub mod azurite;
pub mod broker;
pub mod case;
pub mod ceph;
pub mod client;
pub mod cluster;
pub mod connector;
pub mod datasets;
pub mod document;
pub mod engine;
pub mod foreign_table;
pub mod gcs_stub;
pub mod golden;
pub mod group;
pub mod location;
pub mod maintainer;
pub mod object_store;
pub mod paths;
pub mod process;
pub mod producer;
pub mod proxy;
pub mod race;
pub mod random;
pub mod raw;
pub mod reader;
pub mod service;
pub mod verifier;
pub mod wait;
pub mod wall_clock;
pub mod worker;
