//! `alluvium quickstart`: the whole way from a topic to a table in one process, with nothing installed.
//!
//! The connector that runs is an ordinary one, read from an ordinary file; only its broker is
//! special ([`broker`]). Afterwards the table is compared with what was produced, partition by
//! partition, so a quickstart that ends well has shown that each record arrived once.

mod broker;
mod demo;
mod folder;
mod outcome;
mod screen;

use std::path::{Path, PathBuf};
use std::time::Duration;

use connector_api::clock::{Clock, SystemClock};
use connector_api::{Context, Error, Result};
use tokio::signal::unix::{SignalKind, signal};

use self::broker::EmbeddedBroker;
use self::demo::PARTITIONS;
use self::folder::Folder;
use self::outcome::Produced;
use self::screen::{Screen, shell_word};
use crate::config::{self, ConnectorPlan, Registry};
use crate::memory;
use crate::query::{Session, Tables};
use crate::worker::{self, RunOptions};

const TOPIC: &str = "clicks";
/// The emulator answers a fetch with all that it has, so the stream must fit into memory a few times.
const RECORDS_MAX: u64 = 500_000;

/// What a user may choose.
#[derive(Debug, Clone, clap::Args)]
#[command(
    about = "Shows the whole way on a demo stream; needs no broker and no network",
    long_about = "Shows the whole way on a demo stream; needs no broker and no network.\n\n\
        Starts a broker inside this process (in memory, an emulator, on loopback only), produces clicks of a \
        web shop as nested JSON with late events, unknown fields and a few bad records, runs a connector that \
        moves them into a Delta table, checks that each record is there once, and shows the table by SQL.\n\n\
        The folder keeps the connector file and the table, so that you can go on with `alluvium query`. The \
        broker ends with the command, unless --keep is given. The next quickstart replaces the folder; one \
        that it did not write, or whose connector file was edited, is left alone.",
    after_long_help = "Examples:\n  \
        alluvium quickstart\n  \
        alluvium quickstart --records 200000 --dir /tmp/demo\n  \
        alluvium quickstart --keep     then, in another terminal: alluvium run alluvium-quickstart/clicks.yaml"
)]
pub struct QuickstartArgs {
    /// Records to produce
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=RECORDS_MAX))]
    pub records: u64,

    /// The folder for the connector file and the table
    #[arg(long, value_name = "DIR", default_value = "alluvium-quickstart")]
    pub dir: PathBuf,

    /// Keep the broker running until Ctrl-C, so that you can produce more and run the connector again
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo and writes what happens to standard output.
pub async fn run(args: QuickstartArgs, registry: &Registry, show_progress: bool) -> Result<()> {
    let clock = SystemClock::start();
    let mut screen = Screen::stdout();
    let folder = Folder::check(&args.dir)?;

    screen.title("Alluvium quickstart: a Kafka topic into a Delta table, exactly once")?;
    let broker = EmbeddedBroker::start()?;
    screen.fact(
        "broker",
        format!(
            "{}, in memory inside this process: an emulator, not Apache Kafka",
            broker.address()
        ),
    )?;
    let produced = produce(broker, args.records).await?;
    screen.fact("topic", format!("{TOPIC}, {PARTITIONS} partitions, {}", produced.summary()))?;

    let yaml = connector_yaml(&broker.address(), &folder.table_location()?);
    folder.replace(&yaml)?;
    screen.fact("connector", folder.connector().display())?;
    let plans = config::load(&[folder.connector()], registry).map_err(|errors| {
        Error::internal(format!("the quickstart's own connector is refused:\n{errors}"))
    })?;

    let started = clock.now();
    run_connector(&plans, show_progress).await?;
    let took = clock.now().since(started);
    screen.fact("table", format!("{}, filled in {}", folder.table().display(), seconds(took)))?;

    let (session, tables) = (Session::new(), Tables::of_connectors(&plans)?);
    produced.compare(&session, &tables).await?;
    screen.fact("result", produced.result())?;
    for (heading, sql) in outcome::SHOWN {
        screen.heading(heading)?;
        screen.rows(session.query(sql, &tables).await?).await?;
    }
    if produced.has_bad() {
        screen.heading(outcome::DEAD_LETTERS.0)?;
        screen.rows(session.query(outcome::DEAD_LETTERS.1, &tables).await?).await?;
    }
    screen.heading(&format!("The connector that ran: {}", folder.connector().display()))?;
    screen.text(&yaml)?;
    next_steps(&mut screen, &folder, &broker.address(), args.keep)?;
    if args.keep {
        stay(&mut screen, &broker.address()).await?;
    }
    Ok(())
}

/// Creates the topic and fills it.
async fn produce(broker: EmbeddedBroker, records: u64) -> Result<Produced> {
    broker.create_topic(TOPIC, PARTITIONS).await?;
    let producing = move || {
        let mut produced = Produced::default();
        broker.produce(TOPIC, demo::records(records).inspect(|record| produced.count(record)))?;
        Ok(produced)
    };
    let done = tokio::task::spawn_blocking(producing).await;
    done.map_err(|e| Error::internal("the producer did not end").with_source(e))?
}

/// Runs the connector until it has read what the topic holds.
async fn run_connector(plans: &[ConnectorPlan], show_progress: bool) -> Result<()> {
    let memory_bytes = memory::default_bytes();
    let options = RunOptions { until_end: true, show_progress, memory_bytes };
    let ended = worker::run(plans.to_vec(), options).await?;
    match ended.into_iter().find_map(|ended| ended.error) {
        Some(error) => Err(error).context(|| "the quickstart's connector stopped"),
        None => Ok(()),
    }
}

/// The connector, as a user would write it.
fn connector_yaml(bootstrap_servers: &str, location: &str) -> String {
    let location = serde_json::Value::from(location).to_string(); // JSON's quoting is valid in YAML.
    format!(
        "# A connector: one topic into one table. `alluvium quickstart` wrote and ran it.\n\
         version: 1\n\
         name: clicks\n\
         description: Clicks of a demo shop\n\
         \n\
         source:\n\
         \x20 kafka:\n\
         \x20   bootstrap_servers: {bootstrap_servers}    # the quickstart's own broker: put yours here\n\
         \x20   topics: [{TOPIC}]\n\
         \n\
         decode:\n\
         \x20 value: json\n\
         \n\
         schema:    # without it, the columns are inferred from the first records\n\
         \x20 columns:\n\
         \x20   - {{name: id, type: long, nullable: false}}\n\
         \x20   - {{name: ts, type: timestamp}}\n\
         \x20   - {{name: user, type: \"struct<id: string, country: string>\"}}\n\
         \x20   - {{name: event, type: string}}\n\
         \x20   - {{name: amount, type: \"decimal(12,2)\"}}\n\
         \x20   - {{name: tags, type: array<string>}}\n\
         \x20 on_unknown_field: rescue    # keeps what no column names in the column _rescued\n\
         \n\
         table:\n\
         \x20 delta:\n\
         \x20   location: {location}\n\
         \n\
         on_bad_record: dead_letter    # kept in a table beside it; this is the default\n"
    )
}

fn next_steps(screen: &mut Screen, folder: &Folder, address: &str, keep: bool) -> Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "alluvium".to_owned());
    let program = shell_word(Path::new(&program));
    let connector = shell_word(&folder.connector());
    let location = folder.table_location()?.replace('\'', "''");
    screen.heading("What to try next")?;
    screen.step("ask the table something else:")?;
    screen.command(&format!(
        "{program} query {connector} \"select event, avg(amount) from clicks group by event\""
    ))?;
    screen.step(
        "read it with another engine (DuckDB gets its delta extension from the network once):",
    )?;
    screen.command(&format!(
        "duckdb -c \"select event, count(*) from delta_scan('{location}') group by event\""
    ))?;
    if keep {
        screen
            .step("produce more, then run the connector again: it goes on where the table ends")?;
        screen.command(&format!(
            "echo '{{\"id\":1000000,\"event\":\"click\"}}' | kcat -b {address} -t {TOPIC} -P"
        ))?;
        screen.command(&format!("{program} run {connector} --until-end"))?;
    } else {
        screen.step(
            "produce records of your own into the embedded broker, which this keeps running:",
        )?;
        screen.command(&format!("{program} quickstart --keep"))?;
    }
    screen.step(
        "your own topic: copy the file, set bootstrap_servers, topics, columns and location, then",
    )?;
    screen.command(&format!("{program} validate my-topic.yaml && {program} run my-topic.yaml"))
}

/// Waits until the user has had enough of the broker.
async fn stay(screen: &mut Screen, address: &str) -> Result<()> {
    let unheard = |e| Error::external("signals cannot be received").with_source(e);
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    screen
        .heading(&format!("The broker {address} runs until Ctrl-C; what it holds is gone then"))?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(unheard),
        _ = terminate.recv() => Ok(()),
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_connector_file_is_valid_wherever_the_table_lies() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clicks.yaml");
        let registry = Registry {
            sinks: vec![Arc::new(connectors::delta::DeltaFactory)],
            decoders: vec![Arc::new(connectors::decode::JsonFactory)],
        };
        for location in ["/demo/clicks", "/my \"demo\": #1/clicks", "/a\\b/cl\u{ef}cks"] {
            std::fs::write(&file, connector_yaml("127.0.0.1:9092", location)).unwrap();
            let plans = config::load(std::slice::from_ref(&file), &registry).unwrap();
            assert_eq!(plans.len(), 1);
            assert_eq!(plans[0].table.settings.location, location);
            assert_eq!(plans[0].source.bootstrap_servers, "127.0.0.1:9092");
        }
    }
}
