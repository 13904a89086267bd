//! Nothing that may be a secret is printed.

use super::*;

/// Reads a file that is wrong and checks that its messages do not hold `hunter2`.
#[track_caller]
fn check(text: &str) {
    let Err(errors) = read(text) else { panic!("not wrong: {text}") };
    for shown in [errors.to_string(), format!("{errors:?}")] {
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    }
}

#[test]
fn messages_and_quoted_lines_hold_no_secret() {
    let wrong = |lines: &str| check(&kafka(lines).text());
    wrong("properties: {sasl.pasword: hunter2}");
    wrong("properties: {session.timeout.ms: hunter2}");
    wrong("properties:\n  sasl.pasword: hunter2 # hunter2");
    wrong("properties:\n  sasl.pasword: |\n    hunter2\n    hunter2");
    wrong("properties:\n  - sasl.password: hunter2");
    wrong("properties: hunter2");
    wrong("propertis: {sasl.password: hunter2}");
    wrong("properties: {sasl.password: hunter2}, nope: 1");
    wrong("sasl.password: hunter2");
    wrong("start_at: ${env:SECRET}");
    wrong("start_at: \"${env:SECRET}\"");
    wrong("topics: [\"^${env:SECRET}\"]");
    wrong("start_at: ${env:NOPE:-hunter2}x${");
    wrong("start_at: x${file:/run/secrets/kafka-password}");
    wrong("start_at: {clicks: {0: \"${env:SECRET}\"}}");
    check(&table("storage: {password: hunter2}").text());
    check(&table("storage: {password: \"${env:SECRET}\"}").text());
    check(&table("storage: hunter2").text());
    check(&top("").text().replace("./data/clicks", "s3://key:hunter2@lake/x"));
    check(&top("").text().replace("./data/clicks", "az://lake/x?sig=hunter2"));
    check(&top("").text().replace("./data/clicks", "abfss://lake:hunter2@me.dfs.core.windows.net"));
    check(&top("write: {compression: \"${env:SECRET}\", file_size: \"${env:SECRET}\"}").text());
    check(&top("x: &pw hunter2\ndescription: [*pw]\nx-password: *pw").text());
}

#[test]
fn a_line_that_is_no_yaml_is_quoted_without_its_secret() {
    check(&kafka("properties: {sasl.password: 'hunter2}").text());
    check(&kafka("properties:\n  sasl.password: hunter2: x").text());
    check(&kafka("properties:\n  sasl.username: hunter2\n   sasl.password: hunter2").text());
    check(&kafka("properties: {\n  x: hunter2: y}").text());
    check(&top("description: [${env:X:-hunter2}]").text());
    check(&table("storage:\n  aws_secret_access_key: @hunter2").text());
}

#[test]
fn a_plan_shows_no_secret() {
    let lines =
        "properties: {sasl.username: lake, sasl.password: \"${file:/run/secrets/kafka-password}\"}";
    let plan = File {
        kafka: lines,
        table: "storage: {aws_secret_access_key: \"${env:SECRET}\"}",
        ..File::default()
    }
    .plan();
    assert_eq!(plan.source.properties["sasl.password"].expose(), "hunter2");
    assert_eq!(plan.table.settings.storage["aws_secret_access_key"].expose(), "hunter2");
    assert!(!format!("{plan:?}").contains("hunter2"));
}
