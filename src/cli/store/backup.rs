//! `tidings store export --from-daemon`: a backup of a running daemon.

use std::{io, path::Path as File, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use http::Method;
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::cli::{
    client::{Client, Path, READ_TIMEOUT},
    console::Console,
    exit::ExitStatus,
};

/// The longest last line of an export.
const LAST_LINE: usize = 512;

/// The longest silence within an export.
const SILENCE: Duration = Duration::from_mins(1);

/// Writes the export of the daemon to `file`, or to stdout for `-`.
///
/// # Errors
/// When the daemon does not answer, the file cannot be written, or the export is incomplete. Then no file is left.
pub(super) async fn run(file: &File, client: &Client, console: &mut Console<'_>) -> Result<ExitStatus> {
    let path = Path::of(&["v1", "export"]);
    let done = if file == File::new("-") {
        download(client, &path, console.out).await?
    } else {
        let mut made = beside(file)?;
        let done = download(client, &path, made.as_file_mut()).await?;
        name_whole(made, file)?;
        done
    };
    console.note(&format!("exported {} records and {} stored jobs", done.records, done.jobs));
    Ok(ExitStatus::Done)
}

/// Makes a file that only its owner may read, and that gets the name `file` once it is complete.
pub(super) fn beside(file: &File) -> Result<NamedTempFile> {
    if file.symlink_metadata().is_ok() {
        return Err(taken(file));
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(File::new("."));
    if !parent.is_dir() {
        bail!(
            "cannot write {}: there is no folder {}\nhint: make the folder first, or name a file in another one",
            file.display(),
            parent.display()
        );
    }
    // Its text has the temporary name.
    NamedTempFile::new_in(parent)
        .map_err(|error| anyhow!("cannot write {}: {}", file.display(), io::Error::from(error.kind())))
}

/// Gives a complete file its name, once it is on the disk.
pub(super) fn name_whole(made: NamedTempFile, file: &File) -> Result<()> {
    made.as_file().sync_all().with_context(|| failed(file))?;
    match made.persist_noclobber(file) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(file)),
        Err(error) => Err(error.error).with_context(|| failed(file)),
    }
}

fn failed(file: &File) -> String {
    format!("cannot write {}", file.display())
}

fn taken(file: &File) -> anyhow::Error {
    anyhow!(
        "{}: it exists already\nhint: name a file that does not exist yet, or move this one away",
        failed(file)
    )
}

/// The last line of an export.
#[derive(Deserialize)]
struct Last {
    end: Counts,
}

#[derive(Deserialize)]
struct Counts {
    records: u64,
    jobs: u64,
}

async fn download(client: &Client, path: &Path, to: &mut dyn io::Write) -> Result<Counts> {
    let mut answer = client.send(Method::GET, path, None, Some(READ_TIMEOUT)).await?;
    let mut tail: Vec<u8> = Vec::new();
    while let Some(part) = client.chunk(&mut answer, SILENCE).await? {
        to.write_all(&part)?;
        tail.extend_from_slice(&part);
        tail.drain(..tail.len().saturating_sub(LAST_LINE));
    }
    to.flush()?;
    last_line(&tail).context("the export is incomplete; the log of the daemon says why")
}

fn last_line(tail: &[u8]) -> Option<Counts> {
    let line = tail.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    serde_json::from_slice::<Last>(line).ok().map(|last| last.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_of_an_export_says_that_it_is_whole() {
        let last = b"{\"end\":{\"records\":7,\"jobs\":2,\"sha256\":\"00\"}}\n";
        let whole = [b"{\"data\":\"x\"}\n".as_slice(), last].concat();
        assert_eq!(last_line(&whole).map(|counts| (counts.records, counts.jobs)), Some((7, 2)));
        last_line(last).unwrap();
        for cut in 1..whole.len() {
            assert!(last_line(&whole[..cut]).is_none(), "{cut}");
        }
    }
}
