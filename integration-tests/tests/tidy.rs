//! What the compiler does not check about the shape of the code. Lists here only ever get shorter.
#![allow(clippy::expect_used, clippy::panic, reason = "a test: what it cannot read is its failure")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
        .to_path_buf()
}

/// All Rust files below a folder, with their text, by path from the workspace's root.
fn sources(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    found.sort();
    found
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Names the lines that hold a text, outside of the files that may.
fn lines_with(text: &str, below: &[&str], except: &[&str]) -> Vec<String> {
    let files = below.iter().flat_map(|folder| sources(folder));
    files
        .filter(|(name, _)| !except.contains(&name.as_str()))
        .flat_map(|(name, content)| {
            let hits = content.lines().enumerate().filter(|(_, line)| line.contains(text));
            hits.map(|(number, line)| format!("{name}:{}: {}", number + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[track_caller]
fn check_absent(text: &str, below: &[&str], except: &[&str]) {
    let found = lines_with(text, below, except);
    assert!(found.is_empty(), "`{text}` does not belong here:\n{}", found.join("\n"));
}

const ENGINE: &str = "connector-runtime/src";
const API: &str = "connector-runtime/api/src";
const CONNECTORS: &str = "connectors/src";

#[test]
fn the_contract_depends_on_no_io() {
    let manifest = read("connector-runtime/api/Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).expect("dependencies");
    let dependencies = dependencies.split("\n[").next().expect("a section");
    for crate_name in
        ["tokio", "rdkafka", "object_store", "delta_kernel", "parquet", "reqwest", "datafusion"]
    {
        assert!(!dependencies.contains(crate_name), "connector-api depends on {crate_name}");
    }
}

#[test]
fn connectors_do_not_know_the_engine() {
    assert!(!read("connectors/Cargo.toml").contains("connector-runtime"));
    check_absent("connector_runtime", &[CONNECTORS], &[]);
}

#[test]
fn only_main_names_concrete_connectors() {
    for (name, content) in sources(ENGINE) {
        let library = content.split("#[cfg(test)]").next().unwrap_or_default();
        let may = name == "connector-runtime/src/main.rs" || name.contains("/tests/");
        assert!(may || !library.contains("connectors::"), "{name} names a concrete connector");
    }
}

#[test]
fn only_the_clock_asks_the_machine_for_the_time() {
    let clock = ["connector-runtime/api/src/clock.rs"];
    check_absent("Instant::now", &[ENGINE, API, CONNECTORS], &clock);
    check_absent("SystemTime::now", &[ENGINE, API, CONNECTORS], &clock);
}

#[test]
fn unsafe_code_stays_where_its_decision_allows_it() {
    let allowed = [
        "connector-runtime/src/source/topic_id.rs",
        "connector-runtime/src/source/headers.rs",
        "connector-runtime/src/source/data_queue.rs",
        "connector-runtime/src/allocator.rs",
    ];
    check_absent("unsafe {", &[ENGINE, API, CONNECTORS], &allowed);
    check_absent("unsafe fn", &[ENGINE, API, CONNECTORS], &allowed);
}

#[test]
fn each_invariant_is_documented_and_named_by_a_test() {
    let architecture = read("ARCHITECTURE.md");
    let everything: String = [
        API,
        ENGINE,
        CONNECTORS,
        "connectors/tests",
        "integration-tests/tests",
        "connector-runtime/api/tests",
    ]
    .iter()
    .flat_map(|folder| sources(folder))
    .filter(|(name, _)| {
        name != "integration-tests/tests/tidy.rs" && !name.ends_with("invariants.rs")
    })
    .map(|(_, content)| content)
    .collect();
    let invariants = read("connector-runtime/api/src/invariants.rs");
    let list = invariants.split("invariants! {").nth(1).expect("the list of invariants");
    let list = list.split('}').next().expect("its end");
    let ids: Vec<&str> = list.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert!(ids.len() >= 10, "{ids:?}");
    for id in ids {
        assert!(architecture.contains(&format!("| {id} |")), "{id} is not in ARCHITECTURE.md");
        let named = format!("fn {}_", id.to_lowercase().replace('-', "_"));
        let inner = format!("_{}_", id.to_lowercase().replace('-', "_"));
        let tested = everything.contains(&named)
            || everything.lines().any(|line| line.contains("fn ") && line.contains(&inner))
            || everything.contains(&format!("/// {id}"))
            || everything.contains(&format!("//! {id}"));
        assert!(tested, "no test names {id}");
    }
}

#[test]
fn nothing_is_left_to_be_done_in_a_comment() {
    for text in ["TODO", "FIXME", "unimplemented!", "todo!("] {
        let everywhere = [
            ENGINE,
            API,
            CONNECTORS,
            "connectors/tests",
            "integration-tests/src",
            "integration-tests/tests",
        ];
        check_absent(text, &everywhere, &["integration-tests/tests/tidy.rs"]);
    }
}

/// A file with more lines than this, tests included, has more than one idea.
const LINES_MAX: usize = 700;

#[test]
fn no_file_grows_long() {
    let all = [ENGINE, API, CONNECTORS].iter().flat_map(|folder| sources(folder));
    let long: Vec<String> = all
        .filter(|(name, _)| !name.ends_with("tests.rs"))
        .filter(|(_, content)| content.lines().count() > LINES_MAX)
        .map(|(name, content)| format!("{name}: {} lines", content.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Its layer of dependencies has stubs in their places, without which cargo takes no manifest.
#[test]
fn the_dockerfile_knows_each_benchmark() {
    let (manifest, dockerfile) = (read("connectors/Cargo.toml"), read("Dockerfile"));
    let benches = manifest.split("[[bench]]\nname = \"").skip(1);
    let names: Vec<&str> = benches.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(!names.is_empty());
    let listed = format!("for bench in {}; do", names.join(" "));
    assert!(dockerfile.contains(&listed), "the Dockerfile has no `{listed}`");
}
