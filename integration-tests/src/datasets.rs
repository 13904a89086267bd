//! Real records, as `provision.sh` wrote them: one JSON value a line, or one record a file.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use crate::connector::Column;
use crate::paths;

/// All flights from New York in 2013.
pub const FLIGHTS: usize = 336_776;

/// GitHub's published examples of webhook payloads.
pub const WEBHOOKS: usize = 726;

/// Vega's films.
pub const MOVIES: usize = 3_201;

/// Sentry's examples of messages.
pub const MESSAGES: usize = 113;

/// The flights, in the order of their publication.
pub fn flights() -> impl Iterator<Item = String> + Send {
    lines("flights/flights.ndjson")
}

/// The flights over and over, for a feed that must not run dry.
pub fn flights_for_ever() -> impl Iterator<Item = String> + Send {
    std::iter::repeat_with(flights).flatten()
}

/// The webhook payloads, oldest release first.
pub fn webhooks() -> impl Iterator<Item = String> + Send {
    lines("webhooks/webhooks.ndjson")
}

/// The films: text and numbers in one field, names with blanks, many nulls.
pub fn movies() -> impl Iterator<Item = String> + Send {
    lines("movies/movies.ndjson")
}

/// Examples of the messages of each of Sentry's topics: most are JSON, some are in other formats.
pub fn messages() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut folders = vec![paths::cached("messages/sentry_kafka_schemas/examples")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The flights' columns: each type that their values have.
pub const FLIGHT_COLUMNS: &[Column] = &[
    Column { name: "year", ours: "int", duckdb: "INTEGER", nullable: false },
    Column { name: "month", ours: "byte", duckdb: "TINYINT", nullable: false },
    Column { name: "day", ours: "byte", duckdb: "TINYINT", nullable: false },
    Column { name: "dep_time", ours: "short", duckdb: "SMALLINT", nullable: true },
    Column { name: "sched_dep_time", ours: "short", duckdb: "SMALLINT", nullable: false },
    Column { name: "dep_delay", ours: "int", duckdb: "INTEGER", nullable: true },
    Column { name: "arr_time", ours: "short", duckdb: "SMALLINT", nullable: true },
    Column { name: "sched_arr_time", ours: "short", duckdb: "SMALLINT", nullable: false },
    Column { name: "arr_delay", ours: "long", duckdb: "BIGINT", nullable: true },
    Column { name: "carrier", ours: "string", duckdb: "VARCHAR", nullable: false },
    Column { name: "flight", ours: "long", duckdb: "BIGINT", nullable: false },
    Column { name: "tailnum", ours: "string", duckdb: "VARCHAR", nullable: true },
    Column { name: "origin", ours: "string", duckdb: "VARCHAR", nullable: false },
    Column { name: "dest", ours: "string", duckdb: "VARCHAR", nullable: false },
    Column { name: "air_time", ours: "float", duckdb: "FLOAT", nullable: true },
    Column { name: "distance", ours: "double", duckdb: "DOUBLE", nullable: false },
    Column { name: "hour", ours: "decimal(4,1)", duckdb: "DECIMAL(4,1)", nullable: false },
    Column { name: "minute", ours: "long", duckdb: "BIGINT", nullable: false },
    Column {
        name: "time_hour",
        ours: "timestamp",
        duckdb: "TIMESTAMP WITH TIME ZONE",
        nullable: false,
    },
];

fn lines(file: &str) -> impl Iterator<Item = String> + Send + use<> {
    let path = paths::cached(file);
    BufReader::new(File::open(path).unwrap()).lines().map(|line| line.expect("the file is UTF-8"))
}
