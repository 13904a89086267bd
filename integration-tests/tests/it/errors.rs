//! What goes wrong on the user's side: each ends with one message that names the thing, with its
//! exit code, in bounded time, and with nothing half done.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use integration_tests::broker::{SASL_PASSWORD, SASL_USER, broker};
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::foreign_table::{ForeignTable, field, our_fields};
use integration_tests::location::Location;
use integration_tests::object_store::object_store;
use integration_tests::producer::{Produced, Record, Route, produce, round_robin};
use integration_tests::reader;
use integration_tests::service::free_ports;
use integration_tests::verifier::assert_equal;
use integration_tests::worker::{Ended, Launch, run, run_until_end};
use serde_json::json;

use crate::PATIENCE;

const FAILED: i32 = 1;
const CONFIGURATION: i32 = 2;

/// Whatever is wrong, the user hears of it within this time.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

fn a_few_flights(case: &Case) -> Produced {
    produce(&case.topic(2), round_robin(2, flights().take(1_000)))
}

fn connector(case: &Case, topic: &str) -> Connector {
    let mut connector = Connector::new(&case.unique("wrong"), topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector
}

/// Runs it, which must fail with one message that says all this.
#[track_caller]
fn fails(case: &Case, connector: &Connector, says: &[&str]) {
    let ended = run_until_end(case, &connector.write(case)).start().wait(BOUND);
    assert_failed(&ended, says);
}

#[track_caller]
pub(crate) fn assert_failed(ended: &Ended, says: &[&str]) {
    ended.assert_code(FAILED);
    let messages: Vec<&str> =
        ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [message] = messages.as_slice() else {
        panic!("not one message but {messages:?} in:\n{}", ended.stderr)
    };
    for part in says {
        assert!(message.contains(part), "`{part}` is not in the message: {message}");
    }
}

#[track_caller]
fn assert_no_table(location: &Location) {
    assert_eq!(
        reader::versions(location),
        0,
        "versions of a table that should not have been created"
    );
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let case = case!();
    let mut connector = connector(&case, &a_few_flights(&case).topic);
    let [port] = free_ports();
    connector.bootstrap = format!("127.0.0.1:{port}");
    let says = [connector.name.as_str(), &connector.bootstrap, "bootstrap_servers"];
    fails(&case, &connector, &says);
    // Nor does one that is to run for ever wait for ever.
    assert_failed(&run(&case, &connector.write(&case)).start().wait(BOUND), &says);
    assert_no_table(&connector.location);
}

#[test]
fn a_wrong_password_is_told_from_a_broker_that_is_away_and_never_shown() {
    let case = case!();
    let produced = a_few_flights(&case);
    let mut connector = connector(&case, &produced.topic);
    connector.bootstrap = broker().sasl_bootstrap.clone();
    let credentials = |password: &str| {
        let properties = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN")];
        let properties = properties
            .into_iter()
            .chain([("sasl.username", SASL_USER), ("sasl.password", password)]);
        properties.map(|(key, value)| (key, value.to_owned())).collect()
    };
    connector.properties = credentials("not-the-password");
    let ended = run_until_end(&case, &connector.write(&case)).start().wait(BOUND);
    assert_failed(&ended, &[&connector.name, &connector.bootstrap, "sasl.password"]);
    assert!(!ended.stderr.contains("not-the-password"), "the password is shown:\n{}", ended.stderr);
    assert_no_table(&connector.location);

    connector.properties = credentials(SASL_PASSWORD);
    run_until_end(&case, &connector.write(&case)).start().wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn a_topic_that_is_not_there_is_named_and_not_created() {
    let case = case!();
    let topic = case.unique("no-such-topic");
    let connector = connector(&case, &topic);
    fails(&case, &connector, &[&connector.name, &topic]);
    assert_no_table(&connector.location);
    assert!(!broker().topics().contains(&topic), "the topic was created");
}

#[test]
fn a_location_below_a_file_is_named() {
    let case = case!();
    let mut connector = connector(&case, &a_few_flights(&case).topic);
    let file = case.write("file", "not a folder");
    connector.location = Location::Local(file.join("table"));
    fails(&case, &connector, &[&connector.name, &connector.location.uri()]);
    assert_eq!(fs::read_to_string(file).unwrap(), "not a folder");
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let case = case!();
    let mut connector = connector(&case, &a_few_flights(&case).topic);
    let endpoint = object_store().endpoint.clone();
    connector.location = Location::S3 { uri: "s3://no-such-bucket/table".into(), endpoint };
    fails(&case, &connector, &[&connector.name, "s3://no-such-bucket/table"]);
}

#[test]
fn a_store_that_is_not_there_is_named() {
    let case = case!();
    let mut connector = connector(&case, &a_few_flights(&case).topic);
    let [port] = free_ports();
    connector.location =
        Location::S3 { uri: "s3://bucket/table".into(), endpoint: format!("127.0.0.1:{port}") };
    fails(&case, &connector, &[&connector.name, "s3://bucket/table"]);
}

#[test]
fn a_read_only_file_system_is_named() {
    let case = case!();
    let mut connector = connector(&case, &a_few_flights(&case).topic);
    let Some(disk) = SmallDisk::new(&case, "ro") else { return };
    connector.location = Location::Local(disk.mount_point.join("table"));
    let ended = disk.run_until_end(&case, &connector);
    assert_failed(&ended, &[&connector.name, &connector.location.uri()]);
}

#[test]
fn a_full_disk_is_named_and_what_was_committed_is_whole() {
    let case = case!();
    let produced = produce(&case.topic(4), round_robin(4, flights().take(100_000)));
    let mut connector = connector(&case, &produced.topic);
    let Some(disk) = SmallDisk::new(&case, "size=1m") else { return };
    connector.location = Location::Local(disk.mount_point.join("table"));
    let ended = disk.run_until_end(&case, &connector);
    assert_failed(&ended, &[&connector.name, &connector.location.uri(), "No space left on device"]);

    // What it left on the small disk is a table, or none, that goes on where there is room.
    connector.location = Location::Local(disk.copy.join("table"));
    let seen = if reader::versions(&connector.location) == 0 {
        Default::default()
    } else {
        reader::seen(&connector.location)
    };
    assert!(seen.values().all(|times| *times == 1), "offsets are there more than once");
    run_until_end(&case, &connector.write(&case)).start().wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn a_table_with_a_feature_that_we_cannot_write_is_refused_by_name() {
    let case = case!();
    let connector = connector(&case, &a_few_flights(&case).topic);
    let mut fields = vec![field("origin", "string")];
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 4, fields }.create(&connector.location);
    fails(&case, &connector, &[&connector.name, &connector.location.uri(), "writer version 4"]);
    assert_eq!(reader::versions(&connector.location), 1);
}

#[test]
fn a_generated_column_is_refused_also_where_no_feature_announces_it() {
    let case = case!();
    let connector = connector(&case, &a_few_flights(&case).topic);
    let mut generated = field("decade", "integer");
    generated["metadata"] = json!({"delta.generationExpression": "year - year % 10"});
    let mut fields = vec![field("year", "integer"), generated];
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 2, fields }.create(&connector.location);
    fails(&case, &connector, &[&connector.name, &connector.location.uri(), "decade"]);
    assert_eq!(reader::versions(&connector.location), 1);
}

#[test]
fn a_bad_record_stops_the_connector_in_front_of_it() {
    let case = case!();
    let topic = case.topic(1);
    let mut produced = produce(&topic, round_robin(1, flights().take(10)));
    let bad = Record { route: Route::Partition(0), value: "{\"year\": not json".into() };
    produce(&topic, [bad]);
    produce(&topic, round_robin(1, flights().take(10)));
    let mut connector = connector(&case, &topic);
    connector.top = vec!["on_bad_record: stop".into()];
    fails(&case, &connector, &[&connector.name, &topic, "10"]);
    // The records in front of it may be visible or not; nothing behind it is.
    let seen = if reader::versions(&connector.location) == 0 {
        Default::default()
    } else {
        reader::seen(&connector.location)
    };
    produced.records.retain(|(_, offset), _| seen.contains_key(&(topic.clone(), 0, *offset)));
    assert_eq!(seen.len(), produced.records.len(), "offsets behind the bad record are visible");
}

#[test]
fn all_mistakes_of_a_file_are_shown_at_once_with_their_places() {
    let case = case!();
    let file = case.write(
        "mistakes.yaml",
        "version: 1\nname: clicks\nsource:\n  kafka:\n    bootstrap_server: localhost:9092\n    topics: [clicks]\n\
         table:\n  delta:\n    location: lake/clicks\nwrite:\n  commit_interval: soon\n",
    );
    for command in ["run", "validate"] {
        let ended = Launch::new(&case, [command.as_ref(), file.as_os_str()]).start().wait(BOUND);
        ended.assert_code(CONFIGURATION);
        for part in [
            "mistakes.yaml",
            "5",
            "bootstrap_server",
            "bootstrap_servers",
            "11",
            "commit_interval",
            "soon",
        ] {
            assert!(
                ended.stderr.contains(part),
                "`{part}` is not in the message of {command}:\n{}",
                ended.stderr
            );
        }
    }
}

#[test]
fn the_reference_that_is_printed_is_a_file_that_is_valid() {
    let case = case!();
    let printed = Launch::new(&case, ["config", "reference"]).start().wait(BOUND);
    printed.assert_code(0);
    let file = case.write("reference.yaml", &printed.stdout);
    let ended = Launch::new(&case, ["validate".as_ref(), file.as_os_str()]).start().wait(BOUND);
    ended.assert_code(0);
    assert!(printed.stdout.contains("bootstrap_servers"), "{}", printed.stdout);
}

#[test]
fn a_file_that_is_no_yaml_is_named() {
    let case = case!();
    let file = case.write("broken.yaml", "version: 1\nname: [clicks\n");
    let ended = Launch::new(&case, ["run".as_ref(), file.as_os_str()]).start().wait(BOUND);
    ended.assert_code(CONFIGURATION);
    assert!(ended.stderr.contains("broken.yaml"), "{}", ended.stderr);
}

/// A file system that only one worker sees: mounted in a namespace of its own, where this is permitted.
struct SmallDisk {
    mount_point: std::path::PathBuf,
    options: &'static str,
    /// What the disk held when the worker ended.
    copy: std::path::PathBuf,
}

impl SmallDisk {
    fn new(case: &Case, options: &'static str) -> Option<SmallDisk> {
        let [mount_point, copy] = ["disk", "copy-of-disk"].map(|name| case.folder.join(name));
        fs::create_dir_all(&mount_point).unwrap();
        let probe = Command::new("unshare")
            .args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs"])
            .arg(&mount_point)
            .output();
        if probe.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { mount_point, options, copy });
        }
        // Past the capture of test output: a check that did not happen must be seen.
        let skipped = b"SKIPPED a disk of its own: mounting in a namespace is not permitted\n";
        std::io::stderr().write_all(skipped).unwrap();
        None
    }

    fn run_until_end(&self, case: &Case, connector: &Connector) -> Ended {
        let script = format!(
            "mount -t tmpfs -o {} tmpfs '{disk}'; \"$@\"; code=$?; cp -a '{disk}' '{}'; exit $code",
            self.options,
            self.copy.display(),
            disk = self.mount_point.display()
        );
        let by = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
        let file = connector.write(case);
        let args = ["run".as_ref(), file.as_os_str(), "--until-end".as_ref()];
        Launch::through(case, &by, args).start().wait(BOUND)
    }
}
