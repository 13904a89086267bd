//! The benchmark runs, whatever its figures are.

use std::process::Command;

use integration_tests::broker::broker;
use integration_tests::case;
use serde_json::Value;

#[test]
fn the_benchmark_measures_each_workload_with_each_contender() {
    let case = case!();
    let result = case.folder.join("result.json");
    let program = std::env::current_exe().unwrap();
    let program = program.ancestors().nth(2).unwrap().join("bench");
    let output = Command::new(program)
        .args(["--records", "4000", "--rounds", "1", "--tables", "delta,parquet", "--json"])
        .arg(&result)
        .env("ALLUVIUM_IT_KAFKA", &broker().bootstrap)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    let measured = result["workloads"].as_array().unwrap().iter().map(|workload| {
        let contenders = workload["contenders"].as_array().unwrap().iter();
        let names = contenders.map(|contender| {
            assert_ne!(contender["files"], 0, "{contender}");
            contender["contender"].as_str().unwrap().to_owned()
        });
        (workload["workload"].as_str().unwrap().to_owned(), names.collect::<Vec<_>>())
    });
    let all = ["ceiling", "delta", "parquet"].map(str::to_owned).to_vec();
    let expected = ["w1", "w2", "w3", "w4"].map(|workload| (workload.to_owned(), all.clone()));
    assert_eq!(measured.collect::<Vec<_>>(), expected);
}
