//! `tidings store export` and `import`.

use std::{
    fs,
    io::{self, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::backup::{beside, name_whole};
use crate::{
    cli::{console::Console, exit::ExitStatus},
    store::{self, Store, StoreConfig, StoreKind},
};

/// Writes an export to a new file, or to stdout for `-`.
pub(super) fn export(store: &Store, file: &Path, console: &mut Console<'_>) -> Result<ExitStatus> {
    let done = if file == Path::new("-") {
        store.export(&mut *console.out)?
    } else {
        let mut made = beside(file)?;
        let mut out = io::BufWriter::new(made.as_file_mut());
        let done = store.export(&mut out)?;
        drop(out);
        name_whole(made, file)?;
        done
    };
    console.note(&format!("exported {} records and {} stored jobs", done.records, done.jobs));
    note_unreadable(done.unreadable, console);
    if done.lost > 0 {
        console.note(&format!(
            "{} stored jobs are gone or damaged, and are not in the export; `tidings store check --hashes` names them",
            done.lost
        ));
    }
    Ok(ExitStatus::Done)
}

fn note_unreadable(count: u64, console: &mut Console<'_>) {
    if count > 0 {
        console.note(&format!(
            "{count} of the records cannot be read, and were copied as they are; `tidings store check` names them"
        ));
    }
}

/// Makes a data folder from an export.
pub(super) fn import(file: &Path, config: &StoreConfig, console: &mut Console<'_>) -> Result<ExitStatus> {
    let done = if file == Path::new("-") {
        store::import(&mut *console.input, config)
    } else {
        let opened = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        store::import(&mut BufReader::new(opened), config)
    };
    let done = done.with_context(|| format!("nothing was imported from {}", file.display()))?;
    let place = match config.kind {
        StoreKind::Sled => config.path.display().to_string(),
        StoreKind::Postgres => "the database".to_owned(),
    };
    console.note(&format!("imported {} records and {} stored jobs into {place}", done.records, done.jobs));
    note_unreadable(done.unreadable, console);
    Ok(ExitStatus::Done)
}
