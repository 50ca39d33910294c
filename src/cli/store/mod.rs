//! `tidings store`: counts, checks and moves the data folder of a stopped daemon, or a database; backs up a running one.

mod backup;
mod stats;
mod transfer;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::{
    args::Format,
    console::Console,
    exit::{BadUsage, ExitStatus},
    global::Global,
};
use crate::{
    config::{FlagOverrides, Loader},
    store::{OpenError, Store, StoreConfig, StoreKind},
};

/// The long description of the command.
const ABOUT: &str = "Reads the store of a daemon, or moves it. The default is the store of `tidings run`: a data folder, or with \
        store.type = \"postgres\" a database. The daemon of a folder must be stopped, because a folder has one process at a \
        time; a database is read beside running replicas too. --data-dir names a folder, whatever the configuration says. \
        Only `export --from-daemon` asks a running daemon.";

/// `tidings store …`
#[derive(Clone, Debug, Subcommand)]
#[command(long_about = ABOUT)]
pub enum StoreCommand {
    /// Count the records of the store
    Stats(StatsArgs),
    /// Check that the records of the store fit together; changes nothing
    #[command(
        after_long_help = "Exit status: 0 sound; 1 damaged, or the store cannot be opened; 2 bad usage or configuration."
    )]
    Check(CheckArgs),
    /// Write everything to a file: watches, events, deliveries, stored jobs, learned durations
    #[command(
        long_about = "Writes everything as lines of JSON: watches, events, deliveries, stored jobs, learned durations. The file \
        holds the secrets of callbacks, so only its owner may read it.",
        after_long_help = "Examples:\n  tidings store export backup.jsonl\n  tidings store export - | zstd > backup.jsonl.zst\n  \
        tidings store export --from-daemon backup.jsonl"
    )]
    Export(ExportArgs),
    /// Make a data folder from an export, or fill a database
    #[command(
        long_about = "Makes a data folder from an export, or with store.type = \"postgres\" the tables of a database. The folder \
        must be empty or missing, and appears once it is complete; the database must hold no store, and gets all or nothing. A \
        daemon on it resumes where the exported one stopped. Do not run both: each would send the pending deliveries.",
        after_long_help = "Example:\n  tidings store import backup.jsonl --data-dir restored"
    )]
    Import(ImportArgs),
}

/// The flags that name the store.
#[derive(Clone, Debug, Args)]
pub struct Folder {
    /// The data folder [default: the store of the configuration: its store.path, data, or its database]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

/// The arguments of `tidings store stats`.
#[derive(Clone, Debug, Args)]
pub struct StatsArgs {
    /// The folder.
    #[command(flatten)]
    pub(super) folder: Folder,

    /// How to print the counts
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// The arguments of `tidings store check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The folder.
    #[command(flatten)]
    pub(super) folder: Folder,

    /// Also read every stored job and compare it with its SHA-256
    #[arg(long)]
    pub(super) hashes: bool,
}

/// The arguments of `tidings store export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The file, which must not exist; `-` writes to stdout
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Ask the running daemon, which continues meanwhile, instead of opening the store
    #[arg(long, conflicts_with = "data_dir")]
    pub(super) from_daemon: bool,

    /// The folder.
    #[command(flatten)]
    pub(super) folder: Folder,
}

/// The arguments of `tidings store import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// The export; `-` reads stdin
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// The folder.
    #[command(flatten)]
    pub(super) folder: Folder,
}

/// Runs `tidings store …`.
///
/// # Errors
/// When the folder cannot be opened, or reading or writing fails.
pub(super) async fn run(
    command: &StoreCommand,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<ExitStatus> {
    match command {
        StoreCommand::Stats(args) => stats::stats(&open(&args.folder, global)?, args.output, console).await,
        StoreCommand::Check(args) => stats::check(&open(&args.folder, global)?, args.hashes, console).await,
        StoreCommand::Export(args) if args.from_daemon => {
            backup::run(&args.file, &global.client()?, console).await
        }
        StoreCommand::Export(args) => transfer::export(&open(&args.folder, global)?, &args.file, console),
        StoreCommand::Import(args) => transfer::import(&args.file, &config(&args.folder, global)?, console),
    }
}

/// The store of the configuration. A folder that is named on the command line is one whatever the configuration says.
fn config(folder: &Folder, global: &Global) -> Result<StoreConfig> {
    let flags = FlagOverrides { data_dir: folder.data_dir.clone(), ..global.overrides() };
    let loaded = Loader::from_process(flags).only(&["store"]).load();
    let store = loaded.map_err(|error| BadUsage::new(error.to_string()))?.config.store;
    Ok(match folder.data_dir {
        Some(_) => StoreConfig { kind: StoreKind::Sled, ..store },
        None => store,
    })
}

fn open(folder: &Folder, global: &Global) -> Result<Store> {
    open_to_read(&config(folder, global)?)
}

/// Opens the store of a stopped daemon.
///
/// # Errors
/// When the folder has no store, or a daemon uses it.
pub(super) fn open_to_read(config: &StoreConfig) -> Result<Store> {
    if config.kind == StoreKind::Postgres {
        return Ok(Store::open_to_read(config)?);
    }
    let path = config.path.display();
    // Opening would make a store where there is none.
    if !config.path.join("tidings.json").is_file() {
        bail!("there is no store in {path}\nhint: name the data folder of a daemon with --data-dir");
    }
    match Store::open_to_read(config) {
        Err(OpenError::InUse { .. }) => bail!("a daemon uses the data folder {path}\nhint: stop it first"),
        other => Ok(other?),
    }
}
