//! Folders of a partitioned table as Hive names them: `country=DE/day=2026-01-31`.
//!
//! What a file system or a path would take for something else is written as `%` and two hex
//! digits, as Hive and Spark do; a null is the folder `__HIVE_DEFAULT_PARTITION__`. Values are text
//! in the form of the Delta protocol ("Partition Value Serialization"), which both read as well.

use connector_api::batch::PartitionValues;

/// Stands for a null, in Hive and in all that came after it.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of some partition values, with a `/` behind it; empty if there are none.
pub(super) fn folder(values: &PartitionValues) -> String {
    let one = |(column, value): &(String, Option<String>)| {
        let value = value.as_deref().map_or_else(|| NULL.to_owned(), escaped);
        format!("{}={value}/", escaped(column))
    };
    values.0.iter().map(one).collect()
}

/// The partition values that a path names, relative to the table's root.
pub(super) fn values(path: &str) -> Vec<(String, Option<String>)> {
    let Some((folders, _)) = path.rsplit_once('/') else { return Vec::new() };
    let one = |folder: &str| {
        let (column, value) = folder.split_once('=')?;
        Some((plain(column), (value != NULL).then(|| plain(value))))
    };
    folders.split('/').filter_map(one).collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^'
            | '<' | '>' | '|' | '~' => escaped.push_str(&format!("%{:02X}", c as u32)),
            c if c.is_ascii_control() => escaped.push_str(&format!("%{:02X}", c as u32)),
            c => escaped.push(c),
        }
    }
    match escaped.as_str() {
        NULL => NULL.replacen('_', "%5F", 1),
        // These are no names of folders.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => escaped,
    }
}

fn plain(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = || std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok();
        match (bytes[at], hex().and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, Option<&str>)], expected: &str) {
        let own = |(column, value): &(&str, Option<&str>)| {
            ((*column).to_owned(), value.map(str::to_owned))
        };
        let given = PartitionValues(pairs.iter().map(own).collect());
        let folder = folder(&given);
        assert_eq!(folder, expected);
        assert_eq!(values(&format!("{folder}part-1.parquet")), given.0);
    }

    #[test]
    fn folders_are_named_as_hive_names_them_and_are_read_back() {
        check(&[], "");
        check(&[("day", Some("2026-01-31"))], "day=2026-01-31/");
        check(&[("c", Some(NULL))], "c=%5F_HIVE_DEFAULT_PARTITION__/");
        check(&[("country", None), ("n", Some("-3"))], "country=__HIVE_DEFAULT_PARTITION__/n=-3/");
        check(&[("c", Some("a/b=c d%é:\n"))], "c=a%2Fb%3Dc d%25é%3A%0A/");
        check(&[("a=b", Some(".."))], "a%3Db=../".replace("..", "%2E%2E").as_str());
    }
}
