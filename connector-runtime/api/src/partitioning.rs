//! What chooses the folder of a row in a partitioned table.

use std::fmt;

/// A unit of time by which a table can be partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Folders such as `ts_year=2026`.
    Year,
    /// Folders such as `ts_month=2026-11`.
    Month,
    /// Folders such as `ts_day=2026-11-24`.
    Day,
    /// Folders such as `ts_hour=2026-11-24-09`.
    Hour,
}

/// A column, or a unit of time of a column, in the spelling of the configuration: `country`, `day(ts)`.
///
/// It is a function of the row alone: the same record is in the same folder whenever it is written.
/// Names and values of the units' folders are those of Iceberg's transforms ("Partition Transforms").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    /// The column whose value it is.
    pub column: String,
    /// The unit, or `None` for the value itself, which is then left out of the files.
    pub unit: Option<TimeUnit>,
}

impl TimeUnit {
    /// The units, for messages.
    pub const ALLOWED: &str = "year, month, day and hour";

    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Year, Self::Month, Self::Day, Self::Hour]
            .into_iter()
            .find(|unit| unit.name() == name)
    }
}

impl PartitionField {
    /// Reads the configuration's spelling; `None` for an expression that is no unit of a column.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((unit, column)) if !column.is_empty() && !column.contains(['(', ')']) => {
                let unit = Some(TimeUnit::parse(unit.trim())?);
                Some(Self { column: column.trim().to_owned(), unit })
            }
            None if !text.contains(['(', ')']) => {
                Some(Self { column: text.to_owned(), unit: None })
            }
            _ => None,
        }
    }

    /// What stands before the `=` in the name of a folder.
    pub fn folder(&self) -> String {
        match self.unit {
            Some(unit) => format!("{}_{}", self.column, unit.name()),
            None => self.column.clone(),
        }
    }
}

impl fmt::Display for PartitionField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Some(unit) => write!(f, "{}({})", unit.name(), self.column),
            None => f.write_str(&self.column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, folder: Option<&str>) {
        let found = PartitionField::parse(text);
        assert_eq!(found.as_ref().map(PartitionField::folder).as_deref(), folder, "{text}");
        if let Some(field) = found {
            assert_eq!(PartitionField::parse(&field.to_string()), Some(field));
        }
    }

    #[test]
    fn a_field_is_a_column_or_a_unit_of_one() {
        check("country", Some("country"));
        check("day(ts)", Some("ts_day"));
        check("hour( event.ts )", Some("event.ts_hour"));
        check("week(ts)", None);
        check("now()", None);
        check("day(now())", None);
        check("day(ts", None);
        check("(ts)", None);
    }
}
