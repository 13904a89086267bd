//! `alluvium query`: SQL over connectors' tables and other locations, by DataFusion.
//!
//! The journey of a query: the arguments become tables by name ([`places`]), the SQL becomes a plan over
//! those tables that it names ([`session`]), the rows become text ([`output`]).

mod columns;
mod files;
mod output;
mod places;
mod provider;
mod session;
mod tables;
mod terminal;

use std::io::BufWriter;

use connector_api::{Error, Result};

pub use output::Format;
pub(crate) use output::{print, print_batches, printable, written};
pub(crate) use session::Session;
pub(crate) use tables::Tables;
pub(crate) use terminal::Look;

use crate::config::Registry;

/// What a user may ask.
#[derive(Debug, Clone, clap::Args)]
#[command(
    about = "Runs SQL over the tables of connectors, or over any location",
    long_about = "Runs SQL over the tables of connectors, or over any location.\n\n\
        A table is named by its connector, or by the last part of its path: `clicks` for `s3://lake/bronze/clicks`. \
        NAME=LOCATION gives another name. In SQL, a name with other characters than letters, digits and `_` goes \
        into double quotes or is written with `_` instead: \"my-orders\" or my_orders.\n\n\
        Columns keep the spelling of the table: `userId` is not `userid`. Fields of a struct are read with a dot: \
        `_kafka.offset`. The SQL reads only; it sees the version of each table that is newest when it starts.\n\n\
        Stores such as s3:// take region, endpoint and credentials from the environment (AWS_REGION, \
        AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, GOOGLE_..., AZURE_...); connectors take them from their files.",
    override_usage = "alluvium query [OPTIONS] <FILE_OR_LOCATION>... <SQL>",
    after_long_help = "Examples:\n  \
        alluvium query clicks.yaml 'select event, count(*) from clicks group by event'\n  \
        alluvium query connectors/ 'select * from orders join clicks on orders.click = clicks.id limit 10'\n  \
        alluvium query /data/clicks --format csv 'select * from clicks' > clicks.csv\n  \
        alluvium query new=/data/clicks old=/backup/clicks 'select * from new where id not in (select id from old)'\n\n\
        Exit codes: 0 done, 1 the query failed while it ran, 2 the arguments or the SQL are wrong."
)]
pub struct QueryArgs {
    /// Connector files, folders of them, tables (a folder or a URL), Parquet files and folders; the last is the SQL
    #[arg(value_name = "FILE_OR_LOCATION", required = true)]
    pub arguments: Vec<String>,

    /// How the rows are written: aligned columns, one JSON object per line, or CSV with a header
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// The most rows that `--format table` shows; 0 shows all. JSON and CSV always have all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_rows: usize,
}

impl QueryArgs {
    /// Options may stand anywhere, so what is left over is split here: the SQL is the last.
    fn split(&self) -> Result<(&[String], &str)> {
        match self.arguments.split_last() {
            Some((sql, from)) if !from.is_empty() && !is_place(sql) => Ok((from, sql)),
            _ => Err(Error::user(
                "the SQL is missing; it comes last, in quotes: alluvium query clicks.yaml 'select count(*) from clicks'",
            )),
        }
    }
}

/// True for what can be no SQL.
fn is_place(argument: &str) -> bool {
    let path = std::path::Path::new(argument);
    files::kind(path).is_some() || matches!(path.try_exists(), Ok(true))
}

/// Runs the query and writes its rows to standard output.
///
/// An error whose fault is the user's ([`Fault::User`](connector_api::Fault)) says that arguments,
/// configuration, SQL or a table are not as they must be: the command exits with 2. Every other
/// error exits with 1. Rows may be written by then. A reader that closes the pipe is no error.
pub async fn run(args: QueryArgs, registry: &Registry) -> Result<()> {
    let (from, sql) = args.split()?;
    let session = Session::new();
    let tables = places::find(from, registry, &session).await?;
    let rows = session.query(sql, &tables).await?;
    let mut out = BufWriter::new(std::io::stdout());
    print(rows, args.format, args.max_rows, Look::of_stdout(), &mut out).await
}

#[cfg(test)]
mod tests;
