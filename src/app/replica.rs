//! The start of `tidings run` over a database: while another replica owns the work, this one passes requests on to it, and takes
//! over when it is gone. Must not know how requests are passed on, or how a database is held.
//!
//! One replica owns all of the work. It is far below what one process does, and so a budget, a breaker and an order hold over all
//! replicas as they do in one.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{App, Listeners, StartError, lifecycle, open, reload::Reloader, standby::Prepared};
use crate::{
    api::{KnownOwner, Relay, Standby, relay_admin_router, relay_router},
    config::Config,
    state::{
        AppState, ServerState,
        handle::{ReloadRequest, Reloads},
        metrics::Metrics,
    },
    store::{OpenError, ReplicaOwner, Seat, Store},
    util::listen::Listen,
};

/// How often a replica asks who owns the work.
const ROUND: Duration = Duration::from_millis(500);

/// The epoch of this process as the owner, for requests that waited for one.
const OWN_EPOCH: i64 = i64::MAX;

/// Binds the listeners, and opens the database. While another replica holds it, passes requests on and waits. Returns `None` when
/// it was told to stop meanwhile.
pub(super) async fn bind(
    config: Config,
    reloader: Reloader,
    (reloads, asked): (Reloads, mpsc::Receiver<ReloadRequest>),
) -> Result<Option<(App, Reloader)>, StartError> {
    let listeners = Listeners::bind(&config.server).await?;
    let address = advertised(&config, &listeners);
    open(&config, Store::check_bodies).await?;
    let seat = open(&config, move |config| Seat::take(config, &address)).await?;
    let stop = reloads.stopping();
    let Some(opened) = stop.run_until_cancelled(open_at(&config, &seat)).await else { return Ok(None) };
    match opened? {
        None => Box::pin(follow(config, reloader, (seat, listeners), (reloads, asked))).await,
        Some(store) => {
            let app = App::over(store, listeners, config, Arc::default(), (reloads, asked))?;
            lifecycle::tell_service_manager(app.handle());
            Ok(Some((app, reloader)))
        }
    }
}

/// Opens the database, unless another replica holds it, or has this one's name.
async fn open_at(config: &Config, seat: &Seat) -> Result<Option<Store>, StartError> {
    if !say(seat, Vec::new()).await {
        return Ok(None);
    }
    let seat = seat.clone();
    match open(config, move |config| Store::open_at(config, &seat)).await {
        Err(StartError::Store(OpenError::Held { .. })) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Passes requests on until the database of `config` is free, and takes it.
async fn follow(
    config: Config,
    reloader: Reloader,
    (seat, listeners): (Seat, Listeners),
    (reloads, mut asked): (Reloads, mpsc::Receiver<ReloadRequest>),
) -> Result<Option<(App, Reloader)>, StartError> {
    let metrics = Arc::new(Metrics::new());
    metrics.active.set(0);
    metrics.begin_relay();
    // No store of this process fails.
    metrics.store_healthy.set(1);
    let mut prepared = Prepared::new(&config, reloader, Arc::clone(&metrics))?;
    let standby = Arc::new(Standby::new(ServerState::new(&config), Arc::clone(&metrics)));
    let (known, knows) = watch::channel(KnownOwner::default());
    let relay = Relay::new(standby, knows, seat.clone(), reloads.clone());
    let relay = Arc::new(relay.map_err(|error| StartError::Address(error.to_string()))?);
    lifecycle::tell_waiting(reloads.stopping(), "a replica; another one owns the work");
    tracing::info!(replica = seat.name(), "this replica waits; another one owns the work");
    let (stop, end) = (reloads.stopping(), CancellationToken::new());
    listeners.announce();
    let serving = async {
        let (timeout, routes) = (config.server.write_timeout.0, relay_router(&relay));
        let bound = listeners.as_ref().with(routes, relay_admin_router(&relay));
        join_all(bound.map(|(bound, router, places)| bound.serve_until(router, places, timeout, end.clone())))
            .await
    };
    let working = async {
        let store = tokio::select! {
            store = taken_over(&config, &seat, &known) => store.map(Some),
            store = prepared.answer_reloads(&reloads, &mut asked) => store,
            () = stop.cancelled() => Ok(None),
        };
        // Connections of callers end after their answers; the address stays.
        end.cancel();
        store
    };
    let (store, open) = tokio::join!(working, serving);
    let Some(store) = store? else {
        drained(open, config.server.drain.0).await;
        seat.leave().await;
        return Ok(None);
    };
    // What waited for an owner is sent to this process.
    let own = listeners.api.as_ref().and_then(|bound| bound.address.local_url());
    known.send_replace(KnownOwner {
        owner: own.map(|own| ReplicaOwner {
            name: seat.name().to_owned(),
            address: Some(own),
            epoch: OWN_EPOCH,
        }),
        trouble: None,
    });
    let (config, reloader) = prepared.into_starting();
    metrics.active.set(1);
    lifecycle::tell_status("active");
    let app = App::over(store, listeners, config, metrics, (reloads, asked))?;
    Ok(Some((App { is_announced: true, ..app }, reloader)))
}

/// Waits until the requests in flight have their answers, for `drain` at most.
async fn drained(open: Vec<TaskTracker>, drain: Duration) {
    let ended = join_all(open.iter().map(|connections| {
        connections.close();
        connections.wait()
    }));
    if timeout(drain, ended).await.is_err() {
        tracing::warn!("drain time over; requests in flight end without an answer");
    }
}

/// Waits until this process holds the database, and says meanwhile that it is there and who owns the work.
async fn taken_over(
    config: &Config,
    seat: &Seat,
    known: &watch::Sender<KnownOwner>,
) -> Result<Store, StartError> {
    let (mut renewed, mut has_name): (Option<Instant>, bool) = (None, false);
    let mut asked = Instant::now();
    // Why this replica could not take the place of an owner that is gone.
    let mut not_taken = None;
    loop {
        // Both at once: a database that does not answer costs the time of one.
        let renewal = async {
            match renewed.is_none_or(|renewed| renewed.elapsed() >= Seat::RENEW) {
                true => Some(say(seat, Vec::new()).await),
                false => None,
            }
        };
        let (said, owner) = tokio::join!(renewal, seat.owner());
        if let Some(said) = said {
            (has_name, renewed) = (said, Some(Instant::now()));
        }
        let is_free = match owner {
            Ok(owner) => {
                asked = Instant::now();
                let is_free = owner.is_none();
                not_taken = not_taken.filter(|_| is_free);
                change(known, KnownOwner { owner, trouble: not_taken.clone() });
                is_free
            }
            Err(error) => {
                // The owner that was known may still answer. After a term another one may own the work.
                let owner = known.borrow().owner.clone().filter(|_| asked.elapsed() < Seat::TERM);
                change(known, KnownOwner { owner, trouble: Some(error.to_string()) });
                false
            }
        };
        // The others would not find an owner that has the name of another replica.
        if is_free && has_name {
            let at = seat.clone();
            match open(config, move |config| Store::take_over(config, &at)).await {
                // Another one was faster.
                Err(StartError::Store(OpenError::Held { .. })) => not_taken = None,
                Err(StartError::Store(error @ OpenError::Away { .. })) => {
                    not_taken = Some(error.to_string());
                    change(known, KnownOwner { owner: None, trouble: not_taken.clone() });
                }
                opened => return opened,
            }
        }
        sleep(ROUND).await;
    }
}

fn change(known: &watch::Sender<KnownOwner>, new: KnownOwner) {
    let before = known.borrow().clone();
    if before == new {
        return;
    }
    match (&before.owner, &new) {
        (Some(owner), KnownOwner { owner: None, trouble: None }) => {
            tracing::warn!(owner = owner.name, "the owner of the work is gone; taking its place");
        }
        (old, KnownOwner { owner: Some(owner), .. }) if old.as_ref() != Some(owner) => {
            tracing::info!(owner = owner.name, "passing requests on");
        }
        (_, KnownOwner { trouble: Some(trouble), .. }) if before.trouble.is_none() => {
            tracing::warn!(trouble, "the database is away, or takes no writes; nobody can own the work");
        }
        _ => {}
    }
    known.send_replace(new);
}

/// Says that this replica is alive, and what it owns. Returns whether no other replica has its name, as far as that is known.
async fn say(seat: &Seat, units: Vec<String>) -> bool {
    seat.renew(units).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the others do not know yet that this replica is alive");
        true
    })
}

/// Says again and again that this replica is alive and owns the work, until the daemon stops.
pub(super) async fn stay(state: Arc<AppState>, seat: Seat) {
    loop {
        say(&seat, state.units()).await;
        tokio::select! {
            () = sleep(Seat::RENEW) => {}
            () = state.shutdown.cancelled() => return,
        }
    }
}

/// Returns the URL at which others reach this process: as configured, else where it listens.
fn advertised(config: &Config, listeners: &Listeners) -> String {
    if let Some(url) = &config.store.advertise {
        return url.trim_end_matches('/').to_owned();
    }
    match listeners.api.as_ref().map(|bound| &bound.address) {
        Some(Listen::Tcp(address)) if address.ip().is_unspecified() => {
            format!(
                "http://{}",
                SocketAddr::new(reached_from(config).unwrap_or(address.ip()), address.port())
            )
        }
        Some(Listen::Tcp(address)) => format!("http://{address}"),
        // No URL reaches a socket.
        Some(Listen::Unix(_)) | None => String::new(),
    }
}

/// Returns the address of this machine that the database is reached from. Nothing is sent.
fn reached_from(config: &Config) -> Option<IpAddr> {
    let (host, port) = config.store.database_host()?;
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect((host.as_str(), port)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
