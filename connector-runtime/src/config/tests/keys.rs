//! What is said about wrong keys and values, as `key: message; help`.

use super::*;

#[test]
fn an_unknown_key_gets_the_nearest_right_spelling_or_its_right_place() {
    top("nmae: x").check(&["nmae: unknown key; did you mean `name`?"]);
    // Not told as missing too.
    check_text(
        &File::default().text().replace("name:", "nmae:").replace("topics:", "topcis:"),
        &[
            "nmae: unknown key; did you mean `name`?",
            "source.kafka.topcis: unknown key; did you mean `topics`?",
        ],
    );
    top("compression: zstd")
        .check(&["compression: unknown key; `compression` stands below `write`"]);
    top("brokers: x")
        .check(&["brokers: unknown key; write `bootstrap_servers` below `source.kafka`"]);
    top("nope: x").check(&[
        "nope: unknown key; allowed here: `version`, `name`, `owner`, `description`, `source`, `decode`, `schema`, `transform`, `table`, `write`, `on_bad_record`, `dead_letters`",
    ]);
    kafka("group_id: x").check(&[
        "source.kafka.group_id: unknown key; write `group.id` below `source.kafka.properties`",
    ]);
    delta("name: x").check(&[
        "table.delta.name: unknown key; `name` stands at the top of the file, without indentation",
    ]);
}

#[test]
fn a_key_may_be_there_once() {
    top("name: other")
        .check(&["name: this key is there twice; it already stands in line 2; keep one of them"]);
    kafka("properties: {client.id: a, client.id: b}")
        .check(&["source.kafka.properties.client.id: this key is there twice; keep one of them"]);
}

#[test]
fn dead_letters_have_a_place_of_their_own_or_are_not_asked_for() {
    top("on_bad_record: drop\ndead_letters: {location: x}").check(&[
        "dead_letters: there are no dead letters with `on_bad_record: drop`; remove the key, or write `on_bad_record: dead_letter`",
    ]);
    top("dead_letters: {location: ./data/clicks/}").check(&[
        "dead_letters.location: dead letters cannot be in the connector's own table, nor in a folder of it or around it; choose another `location`",
    ]);
    top("dead_letters: {location: s3://key:secret@lake/x}").check(&[
        "dead_letters.location: a location must not hold credentials; put them under `table.storage`",
    ]);
}

#[test]
fn keys_of_later_versions_are_refused_with_what_there_is_today() {
    top("freshness: 5m\ntransform: [x]").check(&[
        "freshness: this is not supported yet; remove the key",
        "transform: transforms are not supported yet; remove the key, or write `transform: []`",
    ]);
    top("decode: {value: avro, key: string}").check(&[
        "decode.value: `avro` is not supported yet; use `json`",
        "decode.key: `string` is not supported yet; remove it, or write `key: none`: keys are not kept",
    ]);
    table("iceberg: {location: x}")
        .check(&["table.iceberg: this is not supported yet; use `delta`"]);
    top("schema: {on_unknown_field: add_column, kafka_columns: [topic, key]}").check(&[
        "schema.on_unknown_field: `add_column` is not supported yet; use `rescue`: the fields are kept in the column `_rescued`",
        "schema.kafka_columns[1]: `key` is not supported yet; use `topic`, `partition`, `offset` and `timestamp`",
    ]);
}

#[test]
fn a_value_of_the_wrong_shape_is_named_with_an_example() {
    top("owner: growth")
        .check(&["owner: expected a mapping, found `growth`; expected the keys `team`, `contact`"]);
    top("owner: {tema: x, contact: }").check(&[
        "owner.tema: unknown key; did you mean `team`?",
        "owner.contact: expected one value, found nothing; write a value, as in `growth@example.com`",
    ]);
    top("description: [a]").check(&[
        "description: expected one value, found a list; write a value, as in `Clicks for the funnel reports`",
    ]);
    top("write: []").check(&[
        "write: expected a mapping, found a list; expected the keys `commit_interval`, `idle_commit_interval`, `revoke_timeout`, `file_size`, `compression`",
    ]);
    kafka("topics: clicks").check(&[
        "source.kafka.topics: expected a list, found `clicks`; write a list, as in `topics: [clicks, orders]`",
    ]);
    kafka("properties: {group.id: }").check(&[
        "source.kafka.properties.group.id: expected one value, found nothing; write a value, as in `security.protocol: SASL_SSL`",
    ]);
    delta("properties: {x: [1]}").check(&[
        "table.delta.properties.x: expected one value, found a list; write a value, as in `x: ...`",
    ]);
}

#[test]
fn a_word_that_is_none_of_the_allowed_ones_gets_the_nearest_or_all() {
    top("decode: {value: jsn}")
        .check(&["decode.value: expected `json`, found `jsn`; did you mean `json`?"]);
    top("on_bad_record: skip")
        .check(&["on_bad_record: expected `dead_letter`, `stop` or `drop`, found `skip`; write `dead_letter`, `stop` or `drop`"]);
    kafka("on_topic_recreated: halt")
        .check(&["source.kafka.on_topic_recreated: expected `stop` or `continue`, found `halt`; write `stop` or `continue`"]);
    top("schema: {kafka_columns: [topic, ofset, topic]}").check(&[
        "schema.kafka_columns[1]: expected `topic`, `partition`, `offset` or `timestamp`, found `ofset`; did you mean `offset`?",
        "schema.kafka_columns[2]: `topic` is there twice; keep one of them",
    ]);
}

#[test]
fn topics_are_a_list_of_names_or_a_pattern() {
    kafka("topics: []").check(&[
        r#"source.kafka.topics: the list is empty; name the topics, as in `topics: [clicks]`, or give a pattern, as in `topics_pattern: '^clicks\..+'`"#,
    ]);
    kafka("topics: [a, a, b/c, '^d', '', .]").check(&[
        "source.kafka.topics[1]: topic `a` is there twice; keep one of them",
        "source.kafka.topics[2]: `b/c` is not the name of a topic; a topic's name has 1 to 249 characters out of a-z, A-Z, 0-9, `.`, `_` and `-`",
        r#"source.kafka.topics[3]: `^d` is not the name of a topic; for a pattern use `topics_pattern: '^clicks\..+'` in place of `topics`"#,
        "source.kafka.topics[4]: the value is empty; write a value, as in `clicks`",
        "source.kafka.topics[5]: `.` is not the name of a topic; a topic's name has 1 to 249 characters out of a-z, A-Z, 0-9, `.`, `_` and `-`",
    ]);
    kafka("topics: [a]\ntopics_pattern: ^b").check(&[
        "source.kafka.topics_pattern: `topics` and `topics_pattern` are both there; keep one of them",
    ]);
    kafka("topics_pattern: clicks").check(&[
        r#"source.kafka.topics_pattern: a pattern starts with `^`, found `clicks`; write '^' and what the names begin with, as in '^clicks\..+'"#,
    ]);
    kafka("topics_pattern: ^clicks-\\d+").check(&[
        r#"source.kafka.topics_pattern: POSIX extended regular expressions, which librdkafka understands, have no `\d`; write `[0-9]`"#,
    ]);
    kafka("topics_pattern: ^clicks-(").check(&[
        r#"source.kafka.topics_pattern: `^clicks-(` is not a regular expression; check brackets and back-slashes, as in '^clicks\..+'"#,
    ]);
}

#[test]
fn a_start_is_a_word_a_time_or_offsets_of_the_topics() {
    kafka("start_at: earlist").check(&[
        "source.kafka.start_at: expected `earliest`, `latest`, a timestamp such as `2026-01-31T00:00:00Z`, or offsets such as `{clicks: {0: 1200}}`, found `earlist`; did you mean `earliest`?",
    ]);
    kafka("start_at: 2026-01-31").check(&[
        "source.kafka.start_at: expected `earliest`, `latest`, a timestamp such as `2026-01-31T00:00:00Z`, or offsets such as `{clicks: {0: 1200}}`, found `2026-01-31`; a timestamp has a date, a time and an offset from UTC: `2026-01-31T00:00:00Z`, `2026-01-31T02:00:00+02:00`",
    ]);
    kafka("start_at: 1706659200000").check(&[
        "source.kafka.start_at: expected `earliest`, `latest`, a timestamp such as `2026-01-31T00:00:00Z`, or offsets such as `{clicks: {0: 1200}}`, found `1706659200000`; a timestamp has a date, a time and an offset from UTC: `2026-01-31T00:00:00Z`, `2026-01-31T02:00:00+02:00`",
    ]);
    kafka("start_at: 1912-01-31T00:00:00Z").check(&[
        "source.kafka.start_at: `1912-01-31T00:00:00Z` lies before 1970; write `earliest`",
    ]);
    kafka("start_at: {}").check(&[
        "source.kafka.start_at: there are no offsets; allowed: `earliest`, `latest`, a timestamp such as `2026-01-31T00:00:00Z`, or offsets such as `{clicks: {0: 1200}}`",
    ]);
    kafka("start_at: {orders: {0: 1}}").check(&[
        "source.kafka.start_at.orders: `orders` is not among the connector's topics; name topics as they stand in `topics`",
    ]);
    kafka("start_at: {a: 1, -1: 2, 0: -3, 1: x}").check(&[
        "source.kafka.start_at.a: expected the number of a partition; partitions are counted from 0: `{0: 1200, 1: 1310}`",
        "source.kafka.start_at.-1: expected the number of a partition; partitions are counted from 0: `{0: 1200, 1: 1310}`",
        "source.kafka.start_at.0: expected an offset, found `-3`; an offset is a number from 0 on",
        "source.kafka.start_at.1: expected an offset, found `x`; an offset is a number from 0 on",
    ]);
    kafka("topics: [a, b]\nstart_at: {0: 1}").check(&[
        "source.kafka.start_at: offsets without a topic need a connector with one topic; name the topics: `{clicks: {0: 1200}, orders: {0: 77}}`",
    ]);
}

#[test]
fn properties_are_librdkafkas_except_those_that_are_ours() {
    kafka("properties: {enable.auto.commit: false, auto.offset.reset: x, bootstrap.servers: x}").check(&[
        "source.kafka.properties.enable.auto.commit: this property is Alluvium's to set; remove it: the group's offsets are committed after the table",
        "source.kafka.properties.auto.offset.reset: this property is Alluvium's to set; use `source.kafka.start_at`; the table itself says where to go on",
        "source.kafka.properties.bootstrap.servers: this property is Alluvium's to set; use `source.kafka.bootstrap_servers`",
    ]);
    kafka("properties: {sasl.mechansim: PLAIN, x.y: 1, session.timeout.ms: soon}").check(&[
        "source.kafka.properties.sasl.mechansim: librdkafka has no such property; did you mean `sasl.mechanism`?",
        "source.kafka.properties.x.y: librdkafka has no such property; see librdkafka's CONFIGURATION.md for its properties",
        r#"source.kafka.properties.session.timeout.ms: librdkafka refuses the value: Invalid value for configuration property "session.timeout.ms"; see librdkafka's CONFIGURATION.md for the values that the property may have"#,
    ]);
}

#[test]
fn a_revoke_must_be_over_long_before_the_group_gives_the_worker_up() {
    kafka("properties: {max.poll.interval.ms: 40000}").check(&[
        "source.kafka.properties.max.poll.interval.ms: max.poll.interval.ms is 40s, and must be at least twice `write.revoke_timeout`, which is 30s; set `max.poll.interval.ms: 120000`, or a shorter `write.revoke_timeout`",
    ]);
    kafka("properties: {max.poll.interval.ms: 40000, nope: 1}").check(&[
        "source.kafka.properties.max.poll.interval.ms: max.poll.interval.ms is 40s, and must be at least twice `write.revoke_timeout`, which is 30s; set `max.poll.interval.ms: 120000`, or a shorter `write.revoke_timeout`",
        "source.kafka.properties.nope: librdkafka has no such property; see librdkafka's CONFIGURATION.md for its properties",
    ]);
    top("write: {revoke_timeout: 4m}").check(&[
        "source.kafka: max.poll.interval.ms is 5m, and must be at least twice `write.revoke_timeout`, which is 4m; set `max.poll.interval.ms: 960000`, or a shorter `write.revoke_timeout`",
    ]);
    let enough = "properties: {max.poll.interval.ms: 480000}";
    File { top: "write: {revoke_timeout: 4m}", kafka: enough, ..File::default() }.check(&[]);
}

#[test]
fn columns_have_a_name_and_a_type() {
    top("schema: {columns: []}").check(&[
        "schema.columns: there are no columns; declare at least one, or remove the key to have them inferred",
    ]);
    top("schema: {columns: [id]}").check(&[
        "schema.columns[0]: expected a mapping, found `id`; expected the keys `name`, `type`, `nullable`, `unit`",
    ]);
    top("schema: {columns: [{name: id}, {type: long}]}").check(&[
        "schema.columns[0].type: this key is missing; each column has a name and a type, as in `{name: id, type: long}`",
        "schema.columns[1].name: this key is missing; each column has a name and a type, as in `{name: id, type: long}`",
    ]);
    top("schema: {columns: [{name: b, type: long, nullable: nope}]}").check(&[
        "schema.columns[0].nullable: expected true or false, found `nope`; write `true` or `false`",
    ]);
}

#[test]
fn a_type_that_is_none_gets_the_nearest_spelling() {
    top("schema: {columns: [{name: a, type: lnog}, {name: b, type: int64}]}").check(&[
        "schema.columns[0].type: `lnog` is not a type; did you mean `long`?",
        "schema.columns[1].type: `int64` is not a type; did you mean `long`?",
    ]);
    top("schema: {columns: [{name: c, type: varchar(10)}, {name: d, type: money}]}").check(&[
        "schema.columns[0].type: `varchar` is not a type; did you mean `string`?",
        "schema.columns[1].type: `money` is not a type; types are boolean, byte, short, int, long, float, double, decimal(p,s), string, binary, date, timestamp, timestamp_ntz, array<T>, map<string, T>, struct<name: T, ...>",
    ]);
    top("schema: {columns: [{name: amount, type: decimal(12,2)}]}").check(&[
        r#"schema.columns[0].type: expected `)` to close `decimal(`, found the end (at character 11); a type with commas in it goes into quotes: {name: amount, type: "decimal(12,2)"}"#,
        r#"schema.columns[0].2): unknown key; a type with commas in it goes into quotes: {name: amount, type: "decimal(12,2)"}"#,
    ]);
    top("schema: {columns: [{name: a, type: \"decimal(39,2)\"}]}").check(&[
        "schema.columns[0].type: a decimal has 1 to 38 digits, found 39 (at character 9); types are boolean, byte, short, int, long, float, double, decimal(p,s), string, binary, date, timestamp, timestamp_ntz, array<T>, map<string, T>, struct<name: T, ...>",
    ]);
}

#[test]
fn a_unit_is_one_of_three_and_for_timestamps() {
    top("schema: {columns: [{name: a, type: timestamp, unit: milis}, {name: b, type: timestamp_ntz, unit: ms}]}").check(&[
        "schema.columns[0].unit: expected `seconds`, `millis` or `micros`, found `milis`; did you mean `millis`?",
        "schema.columns[1].unit: expected `seconds`, `millis` or `micros`, found `ms`; write `seconds`, `millis` or `micros`",
    ]);
    top("schema: {columns: [{name: a, type: timestamp, unit: nanos}, {name: b, type: long, unit: millis}, {name: c, type: \"array<date>\", unit: 1}]}").check(&[
        "schema.columns[0].unit: `nanos` is not supported yet; declare the column as `long`, which keeps all digits",
        "schema.columns[1].unit: a unit is for timestamps, and there is none in `long`; remove the key, or declare the column as `timestamp`",
        "schema.columns[2].unit: a unit is for timestamps, and there is none in `array<date>`; remove the key, or declare the column as `timestamp`",
    ]);
    top("schema: {columns: [{name: a, type: timestmp, unit: millis}]}")
        .check(&["schema.columns[0].type: `timestmp` is not a type; did you mean `timestamp`?"]);
}

#[test]
fn a_columns_name_is_free_and_unique_whatever_its_case() {
    top("schema: {columns: [{name: id, type: lnog}, {name: ID, type: int}]}").check(&[
        "schema.columns[0].type: `lnog` is not a type; did you mean `long`?",
        "schema.columns[1].name: there is already a column `id`; engines take upper and lower case for the same; remove one of the columns",
    ]);
    top("schema: {columns: [{name: _Kafka, type: long}, {name: _rescued, type: string}]}").check(&[
        "schema.columns[0].name: the column `_Kafka` is added by Alluvium; remove the column; see `kafka_columns` and `on_unknown_field` for what is added",
        "schema.columns[1].name: the column `_rescued` is added by Alluvium; remove the column; see `kafka_columns` and `on_unknown_field` for what is added",
    ]);
}

#[test]
fn a_table_has_a_format_and_a_mistake_in_it_is_told_once() {
    let whole = File::default().text();
    let table = |text| whole.replace("delta:\n    location: ./data/clicks\n", text);
    check_text(
        &table("storage: {}\n"),
        &[
            "table: the table's format is missing: it is `delta` or `parquet`; write it below `table`, with the location: `delta: {location: ./data/clicks}`",
        ],
    );
    let misspelt = "table.dleta: unknown key; did you mean `delta`?";
    check_text(&table("dleta: {location: ./x}\n"), &[misspelt]);
    let later = "table.iceberg: this is not supported yet; use `delta`";
    check_text(&table("iceberg: {location: ./x}\n"), &[later]);
}

#[test]
fn a_location_is_one_place_without_credentials() {
    let at = |location| File { location: Some(location), ..File::default() };
    at("./data/{topic}").check(&[
        "table.delta.location: placeholders in a location are not supported yet, found `./data/{topic}`; one connector writes one table: use a connector for each topic",
    ]);
    let holders = [
        "s3://key:hunter2@lake/x",
        "az://lake/x?sig=hunter2",
        "abfss://lake:hunter2@me.dfs.core.windows.net/x",
    ];
    for location in holders {
        at(location).check(&[
            "table.delta.location: a location must not hold credentials; put them under `table.storage`",
        ]);
    }
    at("\"\"")
        .check(&["table.delta.location: the value is empty; write a value, as in `./data/clicks`"]);
    at("").check(&[
        "table.delta.location: expected one value, found nothing; write a value, as in `./data/clicks`",
    ]);
}

#[test]
fn partition_columns_are_declared_and_of_few_values() {
    delta("partition_by: [day, day]")
        .check(&["table.delta.partition_by[1]: `day` is there twice; keep one of them"]);
    let units = "write `event_date`, or `day(ts)`; units are year, month, day and hour: the same record must be in the same folder whenever it is written";
    delta("partition_by: [week(ts), now(), day(ts)]").check(&[
        &format!("table.delta.partition_by[0]: expected a column or a unit of time of one, found `week(ts)`; {units}"),
        &format!("table.delta.partition_by[1]: expected a column or a unit of time of one, found `now()`; {units}"),
    ]);
    delta("partition_by: day").check(&[
        "table.delta.partition_by: expected a list, found `day`; write a list, as in `partition_by: [event_date]`",
    ]);
    let columns =
        "schema:\n  columns:\n    - {name: day, type: date}\n    - {name: at, type: timestamp}";
    File { top: columns, delta: "partition_by: [dya, at, region]", ..File::default() }.check(&[
        "table.delta.partition_by[0]: `dya` is not among `schema.columns`; did you mean `day`?",
        "table.delta.partition_by[1]: a table cannot be partitioned by `at`, which is timestamp; partition by a column of type string, boolean, byte, short, int, long or date",
        "table.delta.partition_by[2]: `region` is not among `schema.columns`; declared are `day` date, `at` timestamp",
    ]);
    let columns = "schema:\n  columns:\n    - {name: day, type: date}\n    - {name: id, type: long}\n    - {name: day_month, type: string}";
    let units = "partition_by: [day(dya), hour(day), year(id), month(day), day(day)]";
    File { top: columns, delta: units, ..File::default() }.check(&[
        "table.delta.partition_by[0]: `day(dya)` is not among `schema.columns`; did you mean `day`?",
        "table.delta.partition_by[1]: `hour(day)` is of a column of type date; units are of columns of type timestamp, timestamp_ntz and, except for hours, date",
        "table.delta.partition_by[2]: `year(id)` is of a column of type long; units are of columns of type timestamp, timestamp_ntz and, except for hours, date",
        "table.delta.partition_by[3]: the folders of `month(day)` would have the name of the column `day_month`; rename that column",
    ]);
    let columns = "schema: {columns: [{name: day, type: date}]}";
    File { top: columns, delta: "partition_by: [day]", ..File::default() }.check(&[
        "table.delta.partition_by: all columns are partition columns, and none is left for the files; partition by few columns with few values, such as a date",
    ]);
}

#[test]
fn what_a_sink_refuses_is_reported_at_its_key() {
    delta("properties: {delta.enableRowTracking: true}").check(&[
        "table.delta.properties.delta.enableRowTracking: row tracking is not written by this sink; `alluvium config reference` shows what the table's keys may hold",
    ]);
    table("storage: {region: eu-west-1}").check(&[
        "table.storage.region: unknown option of an S3 store, its value is `***`; `alluvium config reference` shows what the table's keys may hold",
    ]);
}

#[test]
fn durations_sizes_and_levels_have_units_and_bounds() {
    top("write: {commit_interval: 30, idle_commit_interval: 30 parsecs, revoke_timeout: 1h}").check(&[
        "write.commit_interval: expected a duration, found `30` without a unit; write the unit, as in `500ms`, `30s`, `5m`, `1h30m`",
        "write.idle_commit_interval: expected a duration, found `30 parsecs`; examples: `500ms`, `30s`, `5m`, `1h30m`",
        "write.revoke_timeout: expected 1s to 10m, found `1h`; examples: `500ms`, `30s`, `5m`, `1h30m`",
    ]);
    top("write: {commit_interval: 10ms, file_size: big, compression: gzip}").check(&[
        "write.commit_interval: expected 100ms to 1d, found `10ms`; examples: `500ms`, `30s`, `5m`, `1h30m`",
        "write.file_size: expected a size, found `big`; examples: `64MiB`, `128 MB`, `1GiB`",
        "write.compression: expected `zstd`, `zstd(1)` to `zstd(22)`, `snappy`, `lz4` or `none`, found `gzip`; write `zstd`, `snappy`, `lz4` or `none`",
    ]);
    top("write: {commit_interval: 1m, idle_commit_interval: 30s}").check(&[
        "write.idle_commit_interval: `30s` is shorter than `commit_interval`, which is 1m; make it as long as `commit_interval`, or longer",
    ]);
    top("write: {file_size: 10KiB, compression: zstd(99)}").check(&[
        "write.file_size: expected 1MiB to 2GiB, found `10KiB`; readers do best with files of 64MiB to 1GiB",
        "write.compression: expected a level from 1 to 22, found `zstd(99)`; write `zstd(3)`",
    ]);
}
