//! Credentials that are made for a source: tokens that a server gives and that are renewed before
//! their end, and signatures of each request.
//!
//! One file a scheme, pure: `oauth2`, `google`, `github` and `aws` make the request for credentials
//! and read its answer. `request` has what they share, `jwt` signs assertions, `cache` decides when
//! a token is used, renewed or dropped. `endpoint` asks the server. Must not know jobs.
//!
//! Secrets and tokens are in memory alone, and never in a message.

mod aws;
mod cache;
mod config;
mod endpoint;
mod github;
mod google;
mod jwt;
mod minter;
mod oauth2;
mod request;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::AUTHORIZATION};
use reqwest::Response;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use url::Url;

use self::{
    aws::Refusal,
    cache::{Cache, Held, Need, Told},
    endpoint::{Endpoint, EndpointError},
    minter::Minter,
    request::Minted,
};
use super::{Failure, failure::refusal, limits::asked_wait, refused::small};
use crate::util::{
    clock,
    http_client::{BadProxy, Outgoing},
    http_date::server_time,
    redact,
    secret::Secret,
    units::{HumanDuration, Time},
};

pub use config::{AuthConfig, AuthType, ClientAuth};
pub use minter::{check_key, check_tenant};

/// A smaller difference of two clocks is no reason for a refusal.
const SKEW: Duration = Duration::from_secs(30);

/// The beginning of the header of a token.
const BEARER: &str = "Bearer ";

/// Why credentials cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A key is missing or invalid.
    #[error("{0}")]
    Config(String),
    /// The proxy cannot be used.
    #[error("proxy: {0}")]
    Proxy(#[from] BadProxy),
    /// The HTTP client cannot be built.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The credentials of a source. Cheap to clone; clones share the token.
#[derive(Clone)]
pub struct Auth(Arc<Shared>);

struct Shared {
    /// The name of the source.
    source: String,
    kind: AuthType,
    minter: Minter,
    endpoint: Endpoint,
    /// The endpoint on this machine.
    direct: Endpoint,
    cache: Mutex<Cache<Credential>>,
    /// The digest of the secret that was used last.
    used: Mutex<Option<[u8; 32]>>,
    /// How far the clock of the other side is ahead of ours, in milliseconds.
    skew: AtomicI64,
}

/// What a request is authorized by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Credential {
    Token(Secret),
    Aws(aws::AwsKeys),
}

/// What a request carries.
pub(super) struct Carried {
    credential: Credential,
    /// Its place in the cache, if it was asked for.
    held: Option<Held<Credential>>,
    at: Time,
}

/// What an answer says about the credentials of its request.
pub(super) enum Verdict {
    /// Nothing is wrong with them.
    Answer(Response),
    /// The request may succeed with the present ones.
    Again,
}

impl Auth {
    /// Sets up the credentials of a source. Nothing is asked for yet. `base_url` is that of the
    /// source, and `limit` the longest exchange.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn new(
        source: &str,
        config: &AuthConfig,
        base_url: &str,
        outgoing: &Outgoing,
        limit: HumanDuration,
    ) -> Result<Self, AuthError> {
        let direct = Endpoint::direct(outgoing, limit).map_err(|error| match error {
            EndpointError::Proxy(error) => AuthError::Proxy(error),
            EndpointError::Client(error) => AuthError::Client(error),
        })?;
        Ok(Self(Arc::new(Shared {
            source: source.to_owned(),
            kind: config.kind,
            minter: Minter::of(config, base_url).map_err(AuthError::Config)?,
            endpoint: Endpoint::new(outgoing, limit)?,
            direct,
            cache: Mutex::default(),
            used: Mutex::default(),
            skew: AtomicI64::new(0),
        })))
    }

    /// Returns how the credentials are made.
    #[must_use]
    pub fn kind(&self) -> AuthType {
        self.0.kind
    }

    /// Returns whether the secret differs from the one that was used last, or was not usable then.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let used = *self.0.used();
        self.0.minter.secret().is_ok_and(|secret| Some(digest(&secret)) != used)
    }

    /// Returns every secret that an answer may repeat.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let texts = |credential: &Credential| match credential {
            Credential::Token(token) => vec![token.clone()],
            Credential::Aws(keys) => {
                [Some(&keys.secret), keys.session.as_ref()].into_iter().flatten().cloned().collect()
            }
        };
        let mut secrets = self.0.cache().current().map(texts).unwrap_or_default();
        secrets.extend(self.0.minter.fixed().ok().flatten().as_ref().map(texts).into_iter().flatten());
        secrets.extend(self.0.minter.secret().ok());
        secrets
    }

    /// Adds the credentials to a request, which is complete otherwise.
    ///
    /// # Errors
    /// If there are none, with the reason.
    pub(super) async fn authorize(
        &self,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<Carried, Failure> {
        let (credential, held) = self.0.credential().await.map_err(Failure::Credentials)?;
        let at = self.0.now();
        match &credential {
            Credential::Token(token) => {
                let unfit =
                    |_| Failure::Credentials("the token holds characters that no header may hold".to_owned());
                let mut value =
                    HeaderValue::from_str(&format!("{BEARER}{}", token.expose())).map_err(unfit)?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            Credential::Aws(keys) => {
                let signed = self.0.minter.signer().map(|it| it.sign(method, url, headers, body, keys, at));
                signed.transpose().map_err(Failure::Credentials)?;
            }
        }
        Ok(Carried { credential, held, at })
    }

    /// Judges an answer. `may_repeat` is whether the request can be sent once more.
    ///
    /// # Errors
    /// If the answer is a refusal that its status does not tell.
    pub(super) async fn judge(
        &self,
        response: Response,
        carried: &Carried,
        may_repeat: bool,
    ) -> Result<Verdict, Failure> {
        match &carried.credential {
            Credential::Token(_) => {
                let is_refused = self.notice(response.status(), carried);
                Ok(if is_refused && may_repeat { Verdict::Again } else { Verdict::Answer(response) })
            }
            Credential::Aws(_) => self.judge_aws(response, carried, may_repeat).await,
        }
    }

    /// Records what the status of an answer says about its token. Returns whether another token may
    /// do.
    pub(super) fn notice(&self, status: StatusCode, carried: &Carried) -> bool {
        let Some(held) = &carried.held else { return false };
        let mut cache = self.0.cache();
        if status == StatusCode::UNAUTHORIZED {
            return cache.refused(held, clock::steady());
        }
        cache.worked(held);
        false
    }

    async fn judge_aws(
        &self,
        response: Response,
        carried: &Carried,
        may_repeat: bool,
    ) -> Result<Verdict, Failure> {
        let status = response.status();
        let failure = match status.as_u16() {
            400 | 401 | 403 => refusal(&response),
            _ => None,
        };
        let Some(failure) = failure else { return Ok(Verdict::Answer(response)) };
        let (response, body) = small(response, &failure).await?;
        let code = aws::code(response.headers(), &body);
        let Some((code, meaning)) = code.and_then(|code| aws::meaning(&code).map(|meaning| (code, meaning)))
        else {
            return Ok(Verdict::Answer(response));
        };
        let server = server_time(response.headers());
        match meaning {
            Refusal::Missing => Err(Failure::NotFound),
            Refusal::Forbidden => Err(Failure::Unauthorized(StatusCode::FORBIDDEN.as_u16())),
            Refusal::Limited => {
                let retry_after = asked_wait(response.headers(), clock::now());
                Err(Failure::RateLimited { status: StatusCode::TOO_MANY_REQUESTS.as_u16(), retry_after })
            }
            Refusal::Signature if may_repeat && self.0.learn_skew(server, carried.at) => Ok(Verdict::Again),
            Refusal::Signature | Refusal::Keys if may_repeat && self.0.may_replace(carried) => {
                Ok(Verdict::Again)
            }
            Refusal::Signature | Refusal::Keys => {
                Err(Failure::Credentials(format!("the source answered {}: {code}", status.as_u16())))
            }
        }
    }
}

impl Shared {
    fn cache(&self) -> MutexGuard<'_, Cache<Credential>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Option<[u8; 32]>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present instant by the clock of the other side.
    fn now(&self) -> Time {
        Time(clock::now().0.saturating_add(self.skew.load(Ordering::Relaxed)))
    }

    /// Corrects our clock by that of a server that refused what was signed at `at`. Returns `false`
    /// if the clocks are not the reason.
    fn learn_skew(&self, server: Option<Time>, at: Time) -> bool {
        let Some(server) = server.filter(|server| server.since(at).max(at.since(*server)) >= SKEW) else {
            return false;
        };
        let skew_ms = server.0.saturating_sub(clock::now().0);
        self.skew.store(skew_ms, Ordering::Relaxed);
        let source = &self.source;
        tracing::warn!(
            source,
            skew_ms,
            "our clock differs from that of the server; correcting signatures by it"
        );
        true
    }

    /// Returns whether other keys may do than those that were refused.
    fn may_replace(&self, carried: &Carried) -> bool {
        match &carried.held {
            Some(held) => self.cache().refused(held, clock::steady()),
            None => matches!(self.minter.fixed(), Ok(Some(fixed)) if fixed != carried.credential),
        }
    }

    /// Returns the present credential, and its place in the cache if it was asked for.
    async fn credential(self: &Arc<Self>) -> Result<(Credential, Option<Held<Credential>>), String> {
        if let Some(fixed) = self.minter.fixed().inspect_err(|_| *self.used() = None)? {
            *self.used() = self.minter.secret().ok().as_ref().map(digest);
            return Ok((fixed, None));
        }
        let told = {
            let mut cache = self.cache();
            match cache.need(clock::steady()) {
                Need::Use(held) => return Ok((held.value.clone(), Some(held))),
                Need::Renew(held) => {
                    self.begin(&mut cache);
                    return Ok((held.value.clone(), Some(held)));
                }
                Need::Wait(told) => told,
                Need::Mint => self.begin(&mut cache),
                Need::Fail(reason) => return Err(reason),
            }
        };
        let held = wait(told).await?;
        Ok((held.value.clone(), Some(held)))
    }

    /// Asks for credentials in a task of its own, so that a request that is given up does not give
    /// up those that wait for the same.
    fn begin(self: &Arc<Self>, cache: &mut Cache<Credential>) -> watch::Receiver<Told<Credential>> {
        let (tell, told) = cache.begin();
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let minted = shared.mint().await;
            let source = &shared.source;
            let lives = minted.as_ref().map(|minted| minted.lifetime).unwrap_or_default();
            let (settled, failures) = {
                let mut cache = shared.cache();
                let has_token = cache.current().is_some();
                let (settled, failures) = cache.settle(minted, clock::steady(), rand::random());
                (settled, if has_token { failures } else { 0 })
            };
            match &settled {
                Ok(_) => tracing::debug!(source, lives_s = lives.as_secs(), "credentials made"),
                Err(error) if failures == 1 => {
                    tracing::warn!(
                        source,
                        error,
                        "credentials not renewed; the current ones are used while they live"
                    );
                }
                Err(error) => tracing::debug!(source, error, "no credentials"),
            }
            tell.send_replace(Some(settled));
        });
        told
    }

    /// Asks for credentials, and once more if the clocks differ.
    async fn mint(&self) -> Result<Minted<Credential>, String> {
        let mut corrected = false;
        loop {
            let secret = self.minter.secret();
            *self.used() = secret.as_ref().ok().map(digest);
            let (secret, at) = (secret?, self.now());
            let request = self.minter.request(&secret, at)?;
            let endpoint = if self.minter.is_on_this_machine() { &self.direct } else { &self.endpoint };
            let answer = endpoint.ask(&request).await?;
            let place = redact::url(&request.url);
            let server = server_time(&answer.headers);
            if (200..300).contains(&answer.status) {
                let read = self.minter.read(&answer.body, server.unwrap_or_else(clock::now));
                return read.map_err(|reason| format!("no credentials from {place}: {reason}"));
            }
            let may_be_skew = matches!(answer.status, 400 | 401 | 403) && self.minter.uses_clock();
            if may_be_skew && !corrected && self.learn_skew(server, at) {
                corrected = true;
                continue;
            }
            let said = request::said(&answer.body).or_else(|| aws::code(&answer.headers, &answer.body));
            let said = said.map_or_else(String::new, |said| format!(": {}", request.hide(&said)));
            return Err(format!("no credentials from {place}: it answered {}{said}", answer.status));
        }
    }
}

/// Waits for the task that asks for credentials.
async fn wait(mut told: watch::Receiver<Told<Credential>>) -> Result<Held<Credential>, String> {
    let ended = || Err("the task that asks for credentials ended".to_owned());
    match told.wait_for(Option::is_some).await {
        Ok(told) => told.clone().unwrap_or_else(ended),
        Err(_) => ended(),
    }
}

fn digest(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.expose()).into()
}
