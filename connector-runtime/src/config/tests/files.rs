//! Which files are read.

use std::fs;

use super::super::load_in;
use super::*;

/// Writes files into a folder, loads paths below it, and checks the names of the connectors or the messages.
#[track_caller]
fn check(files: &[(&str, &str)], paths: &[&str], expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for (file, name) in files {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, top("").text().replace("name: clicks", &format!("name: {name}"))).unwrap();
    }
    let paths: Vec<PathBuf> = paths.iter().map(|path| folder.path().join(path)).collect();
    let found: Vec<String> = match load_in(&FakeSurroundings, &paths, &registry()) {
        Ok(plans) => plans.iter().map(|plan| plan.name.to_string()).collect(),
        Err(errors) => errors.errors.iter().map(|e| e.message.clone()).collect(),
    };
    let root = format!("{}/", folder.path().display());
    let found: Vec<String> = found.iter().map(|text| text.replace(&root, "")).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_folder_stands_for_its_yaml_files_in_order() {
    check(
        &[
            ("b.yaml", "two"),
            ("a.yml", "one"),
            ("c.txt", "no"),
            (".d.yaml", "no"),
            ("below/e.yaml", "no"),
        ],
        &[""],
        &["one", "two"],
    );
}

#[test]
fn a_file_is_read_whatever_its_ending_and_only_once() {
    check(&[("a.conf", "one")], &["a.conf"], &["one"]);
    check(&[("a.yaml", "one"), ("b.yaml", "two")], &["b.yaml", "", "a.yaml"], &["two", "one"]);
}

#[test]
fn a_folder_without_yaml_and_a_missing_file_are_named() {
    check(&[("a.txt", "one")], &["."], &["there is no *.yaml or *.yml in this folder"]);
    check(&[], &["nope.yaml"], &["cannot read the file: there is no such file"]);
}

#[test]
fn two_connectors_of_one_name_are_refused_naming_both_files() {
    check(
        &[("a.yaml", "clicks"), ("b.yaml", "clicks")],
        &["a.yaml", "b.yaml"],
        &["`clicks` is already the name of the connector in a.yaml:2"],
    );
}

#[test]
fn two_connectors_may_write_one_table() {
    check(&[("a.yaml", "one"), ("b.yaml", "two")], &["a.yaml", "b.yaml"], &["one", "two"]);
}

#[test]
fn the_mistakes_of_all_files_come_at_once() {
    check(
        &[("a.yaml", "a b"), ("b.yaml", "c/d")],
        &[""],
        &["`a b` is not a connector's name", "`c/d` is not a connector's name"],
    );
}
