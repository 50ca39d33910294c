//! Makes the event of each group that is closed and whose members all ended.
//!
//! The last end, or the close, makes a group due in its own commit. The list of its jobs is read and written to the spool here,
//! beside the thread that commits. The event is made only if no member changed meanwhile.

use std::{io::Write as _, sync::Arc, time::Duration};

use crate::{
    api::view::{MemberView, counts},
    state::AppState,
    store::{Group, Incoming, Member, MemberKey, StoreError},
    util::{clock, path_segment},
};

/// The most jobs in the body of an event. A larger group's event has their address instead.
const MAX_JOBS: u64 = 10_000;

/// Members that are read at once.
const PAGE: usize = 1000;

/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Makes the events of groups as they become due, until the daemon stops.
pub(super) async fn finish(state: Arc<AppState>) {
    loop {
        let due = state.group_due.notified();
        let again = match finish_due(&state).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(error, "group not finished yet; trying again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => true,
                    () = state.shutdown.cancelled() => return,
                }
            }
        };
        if again && !state.shutdown.is_cancelled() {
            continue;
        }
        tokio::select! {
            () = due => {}
            () = state.shutdown.cancelled() => return,
        }
    }
}

/// Makes the events of the groups that are due now. Returns whether there may be more.
async fn finish_due(state: &AppState) -> Result<bool, String> {
    let due = state.store.due_groups().await.map_err(|error| error.to_string())?;
    let any = !due.is_empty();
    for group in due {
        if state.shutdown.is_cancelled() {
            return Ok(false);
        }
        finish_one(state, group).await?;
    }
    Ok(any)
}

async fn finish_one(state: &AppState, group: Group) -> Result<(), String> {
    let Some(event_id) = group.event_id.clone() else { return Ok(()) };
    let body = state.store.bodies().begin(group.number, &event_id);
    let body = write(state, &group, body).await?;
    let body = body.finish().await.map_err(|error| error.to_string())?;
    let sinks = state.resources.routing.router().group_sinks();
    let at = (group.number, group.revision);
    if state.store.finish_group(at, &body, &sinks, clock::now()).await {
        let (name, jobs) = (group.name.as_str(), group.members());
        tracing::info!(group = name, jobs, event_id, "group finished");
    }
    Ok(())
}

/// Writes the body of the event: the counts, and the jobs or their address.
async fn write(state: &AppState, group: &Group, mut body: Incoming) -> Result<Incoming, String> {
    let counts = json(&counts(group))?;
    let head = format!("{{\"group\":{},\"counts\":{counts},", json(&group.name)?);
    let mut add = async |text: String| body.write(text.as_bytes()).await.map_err(|error| error.to_string());
    if group.members() > MAX_JOBS {
        let url = format!("/v1/groups/{}/jobs", path_segment::encode(group.name.as_str()));
        add(format!("{head}\"jobs_url\":{}}}", json(&url)?)).await?;
        return Ok(body);
    }
    add(format!("{head}\"jobs\":[")).await?;
    let (mut after, mut is_first) = (None, true);
    loop {
        let (members, next) = page(state, group.number, after).await.map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        for member in members {
            if !std::mem::take(&mut is_first) {
                text.push(b',');
            }
            // Writing to memory cannot fail, and such a value always becomes JSON.
            let _ = write!(text, "{}", json(&MemberView::from(member))?);
        }
        add(String::from_utf8_lossy(&text).into_owned()).await?;
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    add("]}".to_owned()).await?;
    Ok(body)
}

async fn page(
    state: &AppState,
    group: u64,
    after: Option<MemberKey>,
) -> Result<(Vec<Member>, Option<MemberKey>), StoreError> {
    let listing = state.store.members(group, after, PAGE).await?;
    Ok((listing.entries, listing.next))
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}
