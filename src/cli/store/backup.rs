//! `tidings store export --from-daemon`: a backup of a running daemon.

use std::{path::Path as File, time::Duration};

use anyhow::{Context as _, Result, bail};
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
        if file.exists() {
            bail!("{} exists already", file.display());
        }
        let failed = || format!("cannot write {}", file.display());
        let mut made = beside(file)?;
        let done = download(client, &path, made.as_file_mut()).await?;
        made.as_file().sync_all().with_context(failed)?;
        made.persist_noclobber(file).map_err(|error| error.error).with_context(failed)?;
        done
    };
    console.note(&format!("exported {} records and {} stored jobs", done.records, done.jobs));
    Ok(ExitStatus::Done)
}

/// Makes a file that only its owner may read, and that gets the name `file` once it is complete.
pub(super) fn beside(file: &File) -> Result<NamedTempFile> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(File::new("."));
    NamedTempFile::new_in(parent).with_context(|| format!("cannot write {}", file.display()))
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

async fn download(client: &Client, path: &Path, to: &mut dyn std::io::Write) -> Result<Counts> {
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
