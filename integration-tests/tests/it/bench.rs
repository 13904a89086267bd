//! The benchmark runs, whatever its figures are.

use std::process::Command;

use integration_tests::broker::broker;
use integration_tests::case;
use serde_json::Value;

/// Runs it on the broker of the tests. Returns what it printed.
fn bench<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    let program = std::env::current_exe().unwrap();
    let program = program.ancestors().nth(2).unwrap().join("bench");
    let mut command = Command::new(program);
    let output = command.args(args).env("ALLUVIUM_IT_KAFKA", &broker().bootstrap).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_benchmark_measures_whatever_it_is_asked_for() {
    let case = case!();
    let result = case.folder.join("result.json");
    let contenders = "delta,parquet,ceiling-poll";
    let args = ["--records", "4000", "--rounds", "1", "--contenders", contenders, "--json"];
    bench(args.iter().copied().chain([result.to_str().unwrap()]));
    let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    let measured = result["workloads"].as_array().unwrap().iter().map(|workload| {
        let contenders = workload["contenders"].as_array().unwrap().iter();
        let names = contenders.map(|contender| {
            assert_ne!(contender["files"], 0, "{contender}");
            contender["contender"].as_str().unwrap().to_owned()
        });
        (workload["workload"].as_str().unwrap().to_owned(), names.collect::<Vec<_>>())
    });
    let all = ["ceiling", "delta", "parquet", "ceiling-poll"].map(str::to_owned).to_vec();
    let expected = ["w1", "w2", "w3", "w4"].map(|workload| (workload.to_owned(), all.clone()));
    assert_eq!(measured.collect::<Vec<_>>(), expected);

    let latency = "latency --rate 200 --seconds 3 --burst 2 --calm 2 --files 200";
    let printed = bench(latency.split(' '));
    assert!(printed.contains("into delta of 200 files") && printed.contains("after the burst"));
    let printed = bench("start --rounds 1 --settle 0 --seconds 1".split(' '));
    assert!(printed.contains("topic partitions are there after"), "{printed}");
    let printed = bench("scale --records 400 --rounds 1".split(' '));
    assert!(printed.contains("| 4 | 4 | 2 |"), "{printed}");
}
