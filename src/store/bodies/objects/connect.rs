//! The way to object storage. Requests use the client of all outgoing requests: its guard, its roots and its timeouts. One that
//! changes something is sent within the term of this process alone, as every request that others can see.

use std::{pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use object_store::{
    ClientConfigKey, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
    gcp::GoogleCloudStorageBuilder,
};
use tokio::time::timeout;

use super::place::{ObjectPlace, Scheme};
use crate::util::{
    http_client::{Outgoing, builder, tls},
    term::Term,
};

/// The time for one request with its answer. A part of a body is its largest content.
const REQUEST: Duration = Duration::from_secs(60);

/// The time in which a failed request is sent again, and how often. Callers try again later by themselves.
const RETRY: Duration = Duration::from_secs(10);
const RETRIES: usize = 2;

/// A request that changes something waits so long for a term of this process.
const TERM: Duration = Duration::from_secs(10);

/// Returns the storage of a place. The environment says how it is reached and with which credentials.
pub(super) fn connect(place: &ObjectPlace, term: Term) -> object_store::Result<Arc<dyn ObjectStore>> {
    let (bucket, line) = (place.bucket.as_str(), Line { term });
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY, ..RetryConfig::default() };
    Ok(match place.scheme {
        Scheme::S3 => {
            // Not every server that speaks S3 removes many objects with one request.
            let storage = AmazonS3Builder::from_env().with_disable_bulk_delete(true);
            #[cfg(test)]
            let storage = super::settings::of(bucket).into_iter().fold(storage, |storage, (key, value)| {
                storage.with_config(key.to_ascii_lowercase().parse().unwrap(), value)
            });
            let storage = storage.with_bucket_name(bucket).with_retry(retry).with_http_connector(line);
            for key in [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint] {
                is_url(storage.get_config_value(&key))?;
            }
            Arc::new(storage.build()?)
        }
        Scheme::Gcs => {
            let storage = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry);
            Arc::new(storage.with_http_connector(line).build()?)
        }
        Scheme::Azure => {
            let storage = MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry);
            is_url(storage.get_config_value(&AzureConfigKey::Endpoint))?;
            Arc::new(storage.with_http_connector(line).build()?)
        }
    })
}

/// Checks an endpoint. The library panics when it sends a request to another text.
fn is_url(endpoint: Option<String>) -> object_store::Result<()> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let is_web = endpoint.starts_with("http://") || endpoint.starts_with("https://");
    if is_web && endpoint.parse::<Uri>().is_ok() {
        return Ok(());
    }
    let source = "the endpoint is no URL that begins with https:// or http://".into();
    Err(object_store::Error::Generic { store: "HTTP", source })
}

/// Makes clients.
#[derive(Debug)]
struct Line {
    term: Term,
}

impl HttpConnector for Line {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let set = |key| options.get_config_value(&key);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "HTTP",
            source,
        };
        let excludes = set(ClientConfigKey::ProxyExcludes).unwrap_or_default();
        let excludes: Vec<String> =
            excludes.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
        let outgoing = Outgoing::of(set(ClientConfigKey::ProxyUrl).as_deref(), &excludes)
            .map_err(|error| failed(error.into()))?;
        let is_open = set(ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let mut client = builder(&outgoing, tls()).https_only(!is_open).timeout(REQUEST);
        // A machine that is none of a cloud is found out sooner.
        let connecting = set(ClientConfigKey::ConnectTimeout);
        if let Some(time) = connecting.and_then(|time| humantime::parse_duration(&time).ok()) {
            client = client.connect_timeout(time);
        }
        let client = client.build().map_err(|error| failed(error.into()))?;
        Ok(HttpClient::new(Fenced { client, term: self.term.clone() }))
    }
}

/// A client whose requests that change something are sent within a term.
#[derive(Debug)]
pub(super) struct Fenced {
    client: reqwest::Client,
    term: Term,
}

#[cfg(test)]
impl Fenced {
    pub(super) fn new(term: Term) -> Self {
        Self { client: builder(&Outgoing::of(None, &[]).unwrap(), tls()).build().unwrap(), term }
    }
}

/// The process may not change anything at present.
#[derive(Debug, thiserror::Error)]
#[error("another process may have the database by now")]
struct NotHeld;

impl HttpService for Fenced {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            if !request.method().is_safe() && timeout(TERM, self.term.holds()).await.is_err() {
                return Err(HttpError::new(HttpErrorKind::Unknown, NotHeld));
            }
            self.client.call(request).await
        })
    }
}
