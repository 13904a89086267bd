//! `alluvium quickstart`: the first thing that a newcomer runs.

use std::path::Path;
use std::time::Duration;

use integration_tests::case;
use integration_tests::location::Location;
use integration_tests::reader;
use integration_tests::worker::Launch;

#[test]
fn the_quickstart_ends_by_itself_and_leaves_a_table_that_others_read() {
    let case = case!();
    let folder = case.folder.join("demo");
    let args = [Path::new("quickstart"), Path::new("--dir"), &folder];
    let ended = Launch::new(&case, args).start().wait(Duration::from_secs(60));
    ended.assert_code(0);

    let table = Location::Local(folder.join("clicks"));
    let rows = reader::rows(&table);
    assert!(rows > 19_000, "{rows} rows of 20,000 records, of which a few are bad");
    let repeated = reader::seen(&table).into_values().filter(|times| *times > 1).count();
    assert_eq!(repeated, 0, "offsets that are there more than once");
}
