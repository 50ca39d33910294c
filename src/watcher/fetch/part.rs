//! Cuts the result down to the part that is delivered.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

use tempfile::TempPath;
use tokio::io::AsyncReadExt as _;

use crate::{
    store::{Incoming, Spool, Watch},
    util::json_slice::copy_value,
};

/// Cuts a body down to the bytes at a pointer. It keeps all of the body if nothing is there.
pub(super) async fn cut_to_part(
    spool: &Spool,
    watch: &Watch,
    event_id: &str,
    whole: Incoming,
    pointer: String,
) -> io::Result<Incoming> {
    let from = whole.path().to_owned();
    let mut name = from.clone().into_os_string();
    name.push(".part");
    let to = TempPath::try_from_path(name)?;
    let cut = tokio::task::spawn_blocking(move || {
        let mut part = io::BufWriter::new(private_file(&to)?);
        let found = copy_value(io::BufReader::new(fs::File::open(from)?), &pointer, &mut part)?;
        io::Write::flush(&mut part)?;
        Ok::<_, io::Error>((found, to))
    });
    let (found, part) = cut.await.map_err(io::Error::other)??;
    if !found {
        let source = &watch.source;
        tracing::warn!(source, job_id = %watch.job_id, "result without a value at result_at; delivering all of it");
        return Ok(whole);
    }
    // The part takes the room of the whole.
    whole.discard().await;
    let mut incoming = spool.begin(watch.number, event_id).await?;
    let mut file = tokio::fs::File::open(&part).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(incoming);
        }
        incoming.write(&buffer[..read]).await?;
    }
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}
