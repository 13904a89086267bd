//! From SQL and named tables to a stream of rows.
//!
//! Only the tables that a query names are opened, so a connector whose table or store is not there
//! does not stand in the way of the others.

use connector_api::{Context, Error, Result};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, TableReference, config::Dialect};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;

use super::columns;
use super::tables::{Provider, Table, Tables};

/// DataFusion, set up for reading.
#[derive(Clone)]
pub(crate) struct Session(SessionContext);

impl Session {
    /// Names keep their spelling, as producers write `userId`. The dialect leaves `user` a column.
    pub(crate) fn new() -> Self {
        let mut config = SessionConfig::new().with_information_schema(true);
        let sql = &mut config.options_mut().sql_parser;
        sql.enable_ident_normalization = false;
        sql.dialect = Dialect::DuckDB;
        Self(SessionContext::new_with_config(config))
    }

    pub(super) fn context(&self) -> &SessionContext {
        &self.0
    }

    /// Starts a query over the tables that it names.
    pub(crate) async fn query(
        &self,
        sql: &str,
        tables: &Tables,
    ) -> Result<SendableRecordBatchStream> {
        let state = self.0.state();
        let statement = state
            .sql_to_statement(sql, &Dialect::DuckDB)
            .map_err(|error| unreadable(error, sql, tables))?;
        self.open_tables(&statement, tables).await?;
        let plan = state.statement_to_plan(statement).await.map_err(planning)?;
        let reading = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|_| {
            Error::user("the SQL would change something; `query` only reads: select, with, explain, describe, show tables")
        })?;
        let rows = self.0.execute_logical_plan(plan).await.map_err(planning)?;
        rows.execute_stream().await.map(columns::named).map_err(planning)
    }

    async fn open_tables(&self, statement: &Statement, tables: &Tables) -> Result<()> {
        let named = self.0.state().resolve_table_references(statement).map_err(planning)?;
        let named: Vec<_> =
            named.iter().filter(|table| table.schema() != Some("information_schema")).collect();
        if named.is_empty() {
            // `show tables` and the like: whatever can be opened.
            for table in tables.iter() {
                if let Ok(provider) = table.open().await {
                    self.register(&table.name, provider)?;
                }
            }
        }
        for reference in named {
            let spelled = match (reference.catalog(), reference.schema()) {
                (None, None | Some("public")) => reference.table().to_owned(),
                _ => reference.to_string(),
            };
            let table = tables.named(&spelled).map_err(Error::user)?;
            self.register(&spelled, table.open().await?)?;
        }
        Ok(())
    }

    /// Names a table, in the place of an older version of it.
    fn register(&self, name: &str, provider: Provider) -> Result<()> {
        self.0.deregister_table(TableReference::bare(name)).map_err(planning)?;
        self.0
            .register_table(TableReference::bare(name), provider)
            .map_err(planning)
            .context(|| format!("failed to name a table `{name}`"))?;
        Ok(())
    }
}

/// The SQL is no SQL. A name that lacks its quotes is the likeliest cause, and the least obvious.
fn unreadable(error: DataFusionError, sql: &str, tables: &Tables) -> Error {
    let said = match error.find_root() {
        DataFusionError::SQL(error, _) => {
            error.to_string().trim_start_matches("sql parser error: ").to_owned()
        }
        other => said(other),
    };
    let quoted = |table: &&Table| !table.is_plain() && !sql.contains(&table.quoted());
    let unquoted = tables.iter().filter(quoted).find(|table| sql.contains(&table.name));
    let hint = match unquoted {
        Some(table) => format!("; in SQL, `{}` is written {}", table.name, table.spellings()),
        None => String::new(),
    };
    Error::user(format!("the SQL cannot be read: {said}{hint}"))
}

/// What DataFusion says before the first row is read: the SQL does not fit the tables.
fn planning(error: DataFusionError) -> Error {
    ours(error).unwrap_or_else(|error| {
        Error::user(format!("the SQL does not fit the tables: {}", said(&error)))
    })
}

/// What DataFusion says while rows are read.
pub(super) fn running(error: DataFusionError) -> Error {
    ours(error)
        .unwrap_or_else(|error| Error::external(format!("the query failed: {}", said(&error))))
}

/// The error of a table reader, taken out of what DataFusion has wrapped around it.
fn ours(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(source) => {
            source.downcast::<Error>().map(|error| *error).map_err(DataFusionError::External)
        }
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => ours(*inner),
        DataFusionError::ArrowError(arrow, text) => match *arrow {
            ArrowError::ExternalError(source) => match source.downcast::<DataFusionError>() {
                Ok(inner) => ours(*inner),
                Err(source) => source
                    .downcast::<Error>()
                    .map(|error| *error)
                    .map_err(DataFusionError::External),
            },
            other => Err(DataFusionError::ArrowError(Box::new(other), text)),
        },
        // One error for many readers cannot be taken out: its text is enough.
        DataFusionError::Shared(inner) => match inner.find_root() {
            DataFusionError::External(source) if source.is::<Error>() => {
                Ok(Error::external(source.to_string()))
            }
            _ => Err(DataFusionError::Shared(inner)),
        },
        other => Err(other),
    }
}

/// DataFusion's words without its own introductions.
fn said(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let introductions =
        ["Error during planning: ", "Schema error: ", "Execution error: ", "Arrow error: "];
    let text =
        introductions.iter().fold(text.as_str(), |text, intro| text.trim_start_matches(intro));
    text.trim_end_matches('.').to_owned()
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}
