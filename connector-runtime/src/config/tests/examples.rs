//! The files in `configs/`: the good ones are good, and the bad ones show exactly what users see.

use std::fs;
use std::path::PathBuf;

use super::super::{ConfigErrors, SECTIONS};
use super::*;

fn yaml_files(folder: PathBuf) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn every_example_is_valid() {
    for file in yaml_files(configs()) {
        let text = fs::read_to_string(&file).unwrap();
        read_as(&file.display().to_string(), &text).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

/// `UPDATE_EXPECTED=1 cargo test` writes what users see now.
#[test]
fn every_wrong_example_gets_exactly_its_expected_message() {
    let mut different = Vec::new();
    for file in yaml_files(configs().join("invalid")) {
        let text = fs::read_to_string(&file).unwrap();
        let shown = format!("configs/invalid/{}", file.file_name().unwrap().display());
        let found = match read_as(&shown, &text) {
            Ok(_) => panic!("{shown} is not wrong"),
            Err(errors) => format!("{errors}\n"),
        };
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != found {
            different.push(found);
        }
    }
    assert!(
        different.is_empty(),
        "these messages are not the expected ones:\n{}",
        different.join("\n")
    );
}

/// Files with a password in them, cut off, and with a character put in, at each place: whatever comes, it is a message.
#[test]
fn no_damage_to_a_file_breaks_the_reader_or_tells_the_secret() {
    for file in ["many-mistakes.yaml", "properties.yaml"] {
        let text = fs::read_to_string(configs().join("invalid").join(file)).unwrap();
        for (at, _) in text.char_indices() {
            let (before, after) = text.split_at(at);
            let damaged = ["é", "\"", "{", ":", "\t", "\n", "#", "*", "${"];
            let damaged = damaged.iter().map(|c| format!("{before}{c}{after}"));
            for damaged in damaged.chain([before.to_owned()]) {
                let Err(errors) = read(&damaged) else { continue };
                let shown = errors.to_string();
                assert!(!shown.contains("hunter2"), "{damaged}\n{shown}");
            }
        }
    }
}

#[test]
fn every_key_that_is_read_occurs_in_the_reference() {
    let reference = fs::read_to_string(configs().join("reference.yaml")).unwrap();
    for (section, keys) in SECTIONS {
        for key in keys.iter().filter(|key| key.later.is_none()) {
            let occurs = reference.lines().any(|line| {
                line.split([' ', '{', ',', '#'])
                    .any(|word| word.strip_suffix(':') == Some(key.name))
            });
            assert!(occurs, "`{}` of `{section}` is not in configs/reference.yaml", key.name);
        }
    }
}

#[test]
fn the_reference_shows_the_defaults() {
    let text = fs::read_to_string(configs().join("reference.yaml")).unwrap();
    let reference = read(&text).unwrap_or_else(|errors: ConfigErrors| panic!("{errors}"));
    let default = top("").plan();
    assert_eq!(reference.write, default.write);
    assert_eq!(reference.on_bad_record.as_str(), default.on_bad_record.as_str());
    assert_eq!(reference.source.start_at, default.source.start_at);
    assert_eq!(reference.schema.on_unknown_field, default.schema.on_unknown_field);
    assert_eq!(reference.schema.kafka_fields, default.schema.kafka_fields);
    assert_eq!(reference.table.settings.compression, default.table.settings.compression);
}

#[test]
fn the_readme_names_every_file() {
    let readme = fs::read_to_string(configs().join("README.md")).unwrap();
    for file in yaml_files(configs()).iter().chain(&yaml_files(configs().join("invalid"))) {
        let name = file.file_name().unwrap().display().to_string();
        assert!(readme.contains(&name), "configs/README.md does not name {name}");
    }
}
