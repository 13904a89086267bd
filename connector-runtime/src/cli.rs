//! The command line: arguments in, exit codes out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use connector_api::clock::SystemClock;
use connector_api::{Error, Fault, Result};
use tracing_subscriber::EnvFilter;

use crate::allocator;
use crate::commands::config::{self, ConfigArgs};
use crate::commands::maintain::{self, MaintainArgs};
use crate::commands::offsets::{self, OffsetsArgs};
use crate::commands::preview::{self, PreviewArgs};
use crate::config::{ConnectorPlan, Registry, SIZES, load, size};
use crate::memory;
use crate::observe::terminal::{LogWriter, grouped, is_watched};
use crate::query::{self, QueryArgs};
use crate::quickstart::{self, QuickstartArgs};
use crate::worker::{self, Ended, RunOptions};

/// Exit codes are fixed: scripts and orchestrators rely on them.
mod exit {
    pub(super) const DONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const NEEDS_DECISION: u8 = 3;
}

#[derive(Debug, Parser)]
#[command(
    name = "alluvium",
    version,
    about = "Moves Kafka topics into lakehouse tables, exactly once",
    long_about = "Moves Kafka topics into lakehouse tables (Delta Lake, plain Parquet) on local disk or in object stores, exactly once.\n\n\
        One YAML file declares one connector. `alluvium quickstart` shows the whole way without a broker.",
    after_long_help = "Exit codes: 0 done or drained; 1 failed; 2 usage or configuration; \
        3 stopped because a person must decide (records that Kafka no longer has, a table that went back)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "ALLUVIUM_LOG_FORMAT")]
    log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug) or filters such as `info,delta_kernel=debug`.
    /// Default: info, and warn on a terminal, where progress is shown instead
    #[arg(long, global = true, env = "ALLUVIUM_LOG_LEVEL")]
    log_level: Option<String>,

    /// Show no progress, log only warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(QuickstartArgs),
    Run(RunArgs),
    Validate(ValidateArgs),
    Preview(PreviewArgs),
    Offsets(OffsetsArgs),
    Query(QueryArgs),
    Maintain(MaintainArgs),
    Config(ConfigArgs),
}

#[derive(Debug, Args)]
#[command(
    about = "Runs connectors until SIGTERM or SIGINT",
    long_about = "Runs connectors until SIGTERM or SIGINT: then what was read is committed and the group is left. \
        A second signal aborts at once, which loses nothing either.\n\n\
        Start the same command on more machines to share the work: each worker takes some of the topic partitions.",
    after_long_help = "Examples:\n  \
        alluvium run clicks.yaml\n  \
        alluvium run connectors/ --log-format json\n  \
        alluvium run clicks.yaml --until-end"
)]
struct RunArgs {
    /// Connector files, or folders of them (*.yaml, *.yml)
    #[arg(value_name = "FILE_OR_DIR", required = true)]
    paths: Vec<PathBuf>,

    /// Take the ends of the topics now, read up to them, commit, exit
    #[arg(long)]
    until_end: bool,

    /// Memory of the worker, such as 512MiB or 2GiB. Its connectors share it: under pressure they read
    /// slower and commit earlier. Default: 1GiB, or three quarters of what the container has if that is less
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "ALLUVIUM_MEMORY")]
    memory: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    about = "Checks connector files without network",
    long_about = "Checks connector files without network and reports all mistakes at once, each with file, line, \
        key and what is allowed. `${env:…}` and `${file:…}` are resolved and never printed."
)]
struct ValidateArgs {
    /// Connector files, or folders of them (*.yaml, *.yml)
    #[arg(value_name = "FILE_OR_DIR", required = true)]
    paths: Vec<PathBuf>,
}

/// Runs the program with these connectors. What it returns is the process's exit code.
pub fn main(registry: &Registry) -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    allocator::bound();
    let cli = Cli::parse();
    start_logging(&cli.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&Error::external("the runtime cannot be started").with_source(error));
        }
    };
    let code = runtime.block_on(dispatch(cli, registry));
    // Blocking calls that nobody waits for any more, such as the scan behind a `limit`, must neither
    // hold the process nor meet a runtime that is being taken down: the process ends with both.
    std::mem::forget(runtime);
    code
}

async fn dispatch(cli: Cli, registry: &Registry) -> ExitCode {
    match cli.command {
        Command::Run(args) => match plans(&args.paths, registry) {
            Ok(plans) => run(plans, &args, cli.log.quiet).await,
            Err(code) => code,
        },
        Command::Validate(args) => match plans(&args.paths, registry) {
            Ok(plans) => valid(&plans),
            Err(code) => code,
        },
        Command::Preview(args) => match plan(&args.file, registry) {
            Ok(plan) => asked(preview::run(&args, plan, Arc::new(SystemClock::start())).await),
            Err(code) => code,
        },
        Command::Offsets(args) => offsets(args, registry).await,
        Command::Config(ConfigArgs { what: config::What::Reference }) => {
            asked(config::print_reference())
        }
        Command::Maintain(args) => match plans(&args.paths, registry) {
            Ok(plans) => ended(&maintain::run(plans).await),
            Err(code) => code,
        },
        Command::Query(args) => asked(query::run(args, registry).await),
        Command::Quickstart(args) => {
            let show_progress = is_watched() && !cli.log.quiet;
            match quickstart::run(args, registry, show_progress).await {
                Ok(()) => ExitCode::from(exit::DONE),
                Err(error) => failed(&error),
            }
        }
    }
}

fn plans(paths: &[PathBuf], registry: &Registry) -> Result<Vec<ConnectorPlan>, ExitCode> {
    load(paths, registry).map_err(|errors| {
        eprintln!("{errors}");
        ExitCode::from(exit::USAGE)
    })
}

async fn offsets(args: OffsetsArgs, registry: &Registry) -> ExitCode {
    let clock = Arc::new(SystemClock::start());
    match args.what {
        offsets::What::Show(args) => match plans(&args.paths, registry) {
            Ok(plans) => {
                let errors = match offsets::show::run(args.json, plans, clock).await {
                    Ok(errors) => errors,
                    Err(error) => vec![error],
                };
                ended(&errors)
            }
            Err(code) => code,
        },
        offsets::What::Reset(args) => match plan(&args.file, registry) {
            Ok(plan) => match offsets::reset::run(&args, plan, clock).await {
                Ok(offsets::Reset::NotConfirmed) => ExitCode::from(exit::USAGE),
                ended => asked(ended.map(|_| ())),
            },
            Err(code) => code,
        },
    }
}

/// The one connector that a command is about.
fn plan(file: &Path, registry: &Registry) -> Result<ConnectorPlan, ExitCode> {
    let mut plans = plans(&[file.to_owned()], registry)?;
    match (plans.pop(), plans.is_empty()) {
        (Some(plan), true) => Ok(plan),
        _ => {
            eprintln!("error: `{}` holds more than one connector; name one file", file.display());
            Err(ExitCode::from(exit::USAGE))
        }
    }
}

/// How a command ends that goes on with other connectors after an error.
fn ended(errors: &[Error]) -> ExitCode {
    errors.iter().fold(ExitCode::from(exit::DONE), |_, error| failed(error))
}

/// How a question ends: if the user is at fault, arguments or configuration are.
fn asked(answer: Result<()>) -> ExitCode {
    match answer {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) if error.fault() == Fault::User && !error.needs_decision() => {
            eprintln!("error: {error}");
            ExitCode::from(exit::USAGE)
        }
        Err(error) => failed(&error),
    }
}

fn valid(plans: &[ConnectorPlan]) -> ExitCode {
    for plan in plans {
        let ConnectorPlan { name, file, table, .. } = plan;
        println!(
            "{}: connector `{name}` into `{}` is valid",
            file.display(),
            table.settings.location
        );
    }
    ExitCode::from(exit::DONE)
}

fn memory_size(text: &str) -> Result<u64, String> {
    if text.parse::<f64>().is_ok() {
        return Err(format!("it has no unit; {text} MiB are `{text}MiB`"));
    }
    size(text).ok_or_else(|| format!("it is no size; write a number with a unit, such as {SIZES}"))
}

async fn run(plans: Vec<ConnectorPlan>, args: &RunArgs, quiet: bool) -> ExitCode {
    let options = RunOptions {
        until_end: args.until_end,
        show_progress: is_watched() && !quiet,
        memory_bytes: args.memory.unwrap_or_else(memory::default_bytes),
    };
    let ended = match worker::run(plans, options).await {
        Ok(ended) => ended,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    for connector in &ended {
        report(connector, quiet);
    }
    let codes = ended.iter().map(|connector| match &connector.error {
        None => exit::DONE,
        Some(error) if error.needs_decision() => exit::NEEDS_DECISION,
        Some(_) => exit::FAILED,
    });
    ExitCode::from(codes.max().unwrap_or(exit::DONE))
}

/// Says in one line how a connector ended.
fn report(ended: &Ended, quiet: bool) {
    let Ended { connector, counts, rejected, error } = ended;
    if let Some(error) = error {
        eprintln!("error: {error}");
    }
    if quiet || (error.is_some() && counts.commits == 0) {
        return;
    }
    let mut text = format!(
        "{connector}: {} rows became visible in {} {}",
        grouped(counts.visible),
        grouped(counts.commits),
        if counts.commits == 1 { "commit" } else { "commits" }
    );
    if let Some(rejected) = rejected {
        text.push_str(&format!(", {rejected}"));
    }
    if counts.tombstones > 0 {
        text.push_str(&format!(", {} tombstones", grouped(counts.tombstones)));
    }
    eprintln!("{text}");
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(if error.needs_decision() { exit::NEEDS_DECISION } else { exit::FAILED })
}

fn start_logging(args: &LogArgs) {
    let watched = is_watched() && !args.quiet;
    let level = match &args.log_level {
        Some(level) => level.clone(),
        None if args.quiet || watched => "warn".into(),
        None => "info".into(),
    };
    // The kernel logs its own errors, which come to us as values, and each step at info.
    let quiet =
        "delta_kernel=off,delta_kernel_default_engine=off,datafusion=warn,object_store=warn";
    let filter = EnvFilter::try_new(format!("{quiet},{level}"));
    let filter = filter.unwrap_or_else(|error| {
        eprintln!("warning: `--log-level {level}` is no filter ({error}); logging at info");
        EnvFilter::new(format!("{quiet},info"))
    });
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_target(false)
        .with_ansi(watched && std::env::var_os("NO_COLOR").is_none());
    let started = match args.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    if let Err(error) = started {
        eprintln!("warning: logging was started before: {error}");
    }
}
