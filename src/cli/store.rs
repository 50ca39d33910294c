//! `tidings store`: the data folder of a daemon that does not run.

use std::{
    fs,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::{
    Global,
    args::Format,
    exit::{BadUsage, ExitStatus},
    output::{Console, clean, table},
    store_backup::{self, beside},
};
use crate::{
    config::FlagOverrides,
    store::{self, OpenError, Stats, Store, StoreConfig},
    util::units::Size,
};

/// The long description of the command.
const ABOUT: &str = "Looks into the data folder of a daemon, or moves it. The daemon must be stopped: a folder has one process at a \
        time. The folder is the one that `tidings run` would use. Only `export --from-daemon` asks a daemon that runs.";

/// `tidings store …`
#[derive(Clone, Debug, Subcommand)]
#[command(long_about = ABOUT)]
pub enum StoreCommand {
    /// Count what is in it
    Stats(StatsArgs),
    /// See whether it holds together; nothing is changed
    #[command(after_long_help = "Exit status: 0 it is sound; 1 it is not, or cannot be opened.")]
    Check(CheckArgs),
    /// Write all of it to a file: watches, events, deliveries, stored jobs, what was learned
    #[command(
        long_about = "Writes all of it as lines of JSON: watches, events, deliveries, stored jobs, what was learned. The secrets \
        of callbacks are among it, so the file is for its owner alone.",
        after_long_help = "Examples:\n  tidings store export backup.jsonl\n  tidings store export - | zstd > backup.jsonl.zst\n  \
        tidings store export --from-daemon backup.jsonl"
    )]
    Export(ExportArgs),
    /// Make a data folder from an export
    #[command(
        long_about = "Makes a data folder from an export. The folder must be empty or missing; it appears when it is whole. The daemon \
        then goes on where the exported one stopped. Do not run both: each would deliver what was pending.",
        after_long_help = "Example:\n  tidings store import backup.jsonl --data-dir restored"
    )]
    Import(ImportArgs),
}

/// Which folder.
#[derive(Clone, Debug, Args)]
pub struct Folder {
    /// The data folder [default: store.path of the configuration, or data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The arguments of `tidings store stats`.
#[derive(Clone, Debug, Args)]
pub struct StatsArgs {
    /// Where it is.
    #[command(flatten)]
    pub folder: Folder,

    /// How to print them
    #[arg(short = 'o', long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// The arguments of `tidings store check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Where it is.
    #[command(flatten)]
    pub folder: Folder,

    /// Read every stored job, too, and compare it with its SHA-256
    #[arg(long)]
    pub hashes: bool,
}

/// The arguments of `tidings store export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The file, which must not exist; `-` writes to stdout
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Ask the running daemon, which goes on meanwhile, instead of opening the folder
    #[arg(long, conflicts_with = "data_dir")]
    pub from_daemon: bool,

    /// Where it is.
    #[command(flatten)]
    pub folder: Folder,
}

/// The arguments of `tidings store import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// The export; `-` reads stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Where it shall be.
    #[command(flatten)]
    pub folder: Folder,
}

/// Does what was asked for.
///
/// # Errors
/// When the folder cannot be opened, or reading or writing fails.
pub async fn run(command: &StoreCommand, global: &Global, console: &mut Console<'_>) -> Result<ExitStatus> {
    match command {
        StoreCommand::Stats(args) => stats(&open(&args.folder, global)?, args.output, console),
        StoreCommand::Check(args) => check(&open(&args.folder, global)?, args.hashes, console),
        StoreCommand::Export(args) if args.from_daemon => {
            store_backup::run(&args.file, &global.client()?, console).await
        }
        StoreCommand::Export(args) => export(&open(&args.folder, global)?, &args.file, console),
        StoreCommand::Import(args) => import(&args.file, &config(&args.folder, global)?, console),
    }
}

fn config(folder: &Folder, global: &Global) -> Result<StoreConfig> {
    let flags = FlagOverrides { data_dir: folder.data_dir.clone(), ..global.overrides() };
    let loaded = global.loader(flags).only(&["store"]).load();
    Ok(loaded.map_err(|error| BadUsage(error.to_string()))?.config.store)
}

fn open(folder: &Folder, global: &Global) -> Result<Store> {
    let config = config(folder, global)?;
    let path = config.path.display();
    // Opening would make a store where there is none.
    if !config.path.join("tidings.json").is_file() {
        bail!("there is no store in {path}; name the data folder of a daemon with --data-dir");
    }
    match Store::open_to_read(&config) {
        Err(OpenError::InUse(_)) => bail!("a daemon uses the data folder {path}; stop it, and ask again"),
        other => Ok(other?),
    }
}

fn stats(store: &Store, format: Format, console: &mut Console<'_>) -> Result<ExitStatus> {
    let stats = store.stats()?;
    if matches!(format, Format::Json) {
        writeln!(console.out, "{:#}", serde_json::to_value(&stats)?)?;
        return Ok(ExitStatus::Done);
    }
    write!(console.out, "{}", shown(&stats))?;
    Ok(ExitStatus::Done)
}

fn shown(stats: &Stats) -> String {
    let mut rows = Vec::new();
    for (source, phases) in &stats.watches {
        let of = |(phase, count): (&crate::model::job::Phase, &u64)| {
            [format!("watches of {}", clean(source)), phase.as_str().to_owned(), count.to_string()]
        };
        rows.extend(phases.iter().map(of));
    }
    for (sink, states) in &stats.deliveries {
        let of = |(state, count): (&crate::model::delivery::DeliveryState, &u64)| {
            [format!("deliveries to {}", clean(sink)), state.as_str().to_owned(), count.to_string()]
        };
        rows.extend(states.iter().map(of));
    }
    let mut one = |what: &str, is: String| rows.push([what.to_owned(), String::new(), is]);
    one("events", stats.events.to_string());
    if stats.unreadable > 0 {
        one("unreadable records", stats.unreadable.to_string());
    }
    one("stored jobs", format!("{} ({})", stats.jobs, Size(stats.job_bytes)));
    one("database", Size(stats.database_bytes).to_string());
    for (what, at) in [("oldest watch", stats.oldest_watch), ("newest watch", stats.newest_watch)] {
        if let Some(at) = at {
            one(what, at.to_string());
        }
    }
    for (sink, since) in &stats.paused {
        one(&format!("{} is paused", clean(sink)), format!("since {since}"));
    }
    for source in &stats.learned {
        one("learned from", clean(source));
    }
    table(&["WHAT", "", "COUNT"], rows.into_iter().map(|row| row.to_vec()).collect())
}

fn check(store: &Store, hashes: bool, console: &mut Console<'_>) -> Result<ExitStatus> {
    let flaws = store.check(hashes)?;
    for flaw in &flaws {
        writeln!(console.out, "{} {}", clean(&flaw.at), clean(&flaw.what))?;
    }
    if flaws.is_empty() {
        writeln!(console.out, "the store is sound")?;
        return Ok(ExitStatus::Done);
    }
    console.note(&format!(
        "{} flaws; restore a backup, or go on with what is there: the daemon passes over what it cannot read",
        flaws.len()
    ));
    Ok(ExitStatus::Failed)
}

fn export(store: &Store, file: &Path, console: &mut Console<'_>) -> Result<ExitStatus> {
    let done = if file == Path::new("-") {
        store.export(&mut *console.out)?
    } else {
        let failed = || format!("{} cannot be written", file.display());
        let mut made = beside(file)?;
        let mut out = io::BufWriter::new(made.as_file_mut());
        let done = store.export(&mut out)?;
        drop(out);
        made.as_file().sync_all().with_context(failed)?;
        made.persist_noclobber(file).map_err(|error| error.error).with_context(failed)?;
        done
    };
    console.note(&format!("exported {} records and {} stored jobs", done.records, done.jobs));
    note_unreadable(done.unreadable, console);
    Ok(ExitStatus::Done)
}

fn note_unreadable(count: u64, console: &mut Console<'_>) {
    if count > 0 {
        console.note(&format!(
            "{count} of the records cannot be read and are copied as they are; `tidings store check` names them"
        ));
    }
}

fn import(file: &Path, config: &StoreConfig, console: &mut Console<'_>) -> Result<ExitStatus> {
    let done = if file == Path::new("-") {
        store::import(&mut *console.input, config)
    } else {
        let opened = fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        store::import(&mut BufReader::new(opened), config)
    };
    let done = done.with_context(|| format!("nothing was imported from {}", file.display()))?;
    let folder = config.path.display();
    console.note(&format!("imported {} records and {} stored jobs into {folder}", done.records, done.jobs));
    note_unreadable(done.unreadable, console);
    Ok(ExitStatus::Done)
}
