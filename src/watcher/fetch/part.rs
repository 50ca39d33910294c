//! Cuts the result down to the part that is delivered.

use std::io;

use crate::{
    store::{Bodies, Incoming, Watch},
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
    let part = bodies.begin(watch.number, event_id).await?;
    let (part, found) =
        part.fill(move |mut to| copy_value(io::BufReader::new(body.read()?), &pointer, &mut to)).await?;
    if !found {
        let source = &watch.source;
        tracing::warn!(source, job_id = %watch.job_id, "result without a value at result_at; delivering all of it");
        part.discard().await;
        return Ok(whole);
    }
    whole.discard().await;
    Ok(part)
}
