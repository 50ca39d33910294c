//! Cuts the result down to the part that is delivered.

use std::io::{self, Write};

use crate::{
    store::{Bodies, Incoming, MAX_SMALL, Watch},
    util::json_slice::copy_value,
};

/// Cuts a body down to the bytes at a pointer. It keeps all of the body if nothing is there.
pub(super) async fn cut_to_part(
    bodies: &Bodies,
    watch: &Watch,
    event_id: &str,
    mut whole: Incoming,
    pointer: String,
) -> io::Result<Incoming> {
    let body = whole.written().await?;
    let mut part = bodies.begin(watch.number, event_id);
    let found = if let Some(bytes) = body.bytes().await?.filter(|bytes| bytes.len() <= MAX_SMALL) {
        let mut value = Vec::new();
        let found = copy_value(&*bytes, &pointer, &mut value)?;
        part.write(&value).await?;
        found
    } else {
        let copy =
            move |mut to: &mut dyn Write| copy_value(io::BufReader::new(body.read()?), &pointer, &mut to);
        let (filled, found) = part.fill(copy).await?;
        part = filled;
        found
    };
    if !found {
        let source = &watch.source;
        tracing::warn!(source, job_id = %watch.job_id, "result without a value at result_at; delivering all of it");
        part.discard().await;
        return Ok(whole);
    }
    whole.discard().await;
    Ok(part)
}
