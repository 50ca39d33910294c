//! Exports spans and metrics to an OpenTelemetry collector: OTLP over HTTP with protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

mod config;
mod metrics;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::InstrumentationScope,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan},
};
use prost::Message;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use config::OtlpConfig;

use super::{
    Catalogue, Spans,
    spans::{attribute, nanos, text},
};
use crate::util::{
    clock,
    http_client::{Clients, Outgoing, SendError, innermost},
    redact,
    secret::SecretSource,
    units::Time,
};
use prometheus::IntCounterVec;

/// The time for which spans wait for others before they are sent.
const LINGER: Duration = Duration::from_secs(2);

/// The largest number of spans in one request.
const BATCH: usize = 512;

/// The longest wait for an answer of the collector.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time for the last requests of a process together.
const FAREWELL: Duration = Duration::from_secs(3);

/// The task that sends spans and metrics to a collector.
pub struct Exporter {
    clients: Clients,
    endpoint: String,
    headers: Vec<(HeaderName, SecretSource)>,
    interval: Duration,
    resource: Resource,
    catalogue: Arc<Catalogue>,
    exports: IntCounterVec,
    spans: mpsc::Receiver<ProtoSpan>,
    started: Time,
    /// Whether the last request failed and was logged.
    failing: bool,
}

/// The outcome of an export request.
enum ExportOutcome {
    Ok,
    /// The request failed and may succeed later.
    Retry(String),
    /// The collector rejected the request for good.
    Rejected(String),
}

/// The data that an [`Exporter`] sends.
pub struct Exported {
    /// The metrics.
    pub catalogue: Arc<Catalogue>,
    /// Requests to the collector, by signal and result.
    pub exports: IntCounterVec,
    /// The spans.
    pub spans: Arc<Spans>,
}

impl Exporter {
    /// Returns an exporter and starts to queue spans. Returns `None` when none is configured.
    ///
    /// # Errors
    /// Returns an error when a header has an invalid name, which the check of the configuration
    /// prevents.
    pub fn new(config: &OtlpConfig, what: &Exported, outgoing: &Outgoing) -> Result<Option<Self>, String> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| format!("otlp: {error}");
        let clients = Clients::new(outgoing, |builder| builder.timeout(TIMEOUT));
        let header = |(name, value): (&String, &crate::util::secret::SecretValue)| {
            Ok((name.parse::<HeaderName>().map_err(|error| wrong(&error))?, value.source()))
        };
        let headers = config.headers.iter().map(header).collect::<Result<_, String>>()?;
        let own = [("service.name", "tidings"), ("service.version", env!("CARGO_PKG_VERSION"))];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut attributes: std::collections::BTreeMap<_, _> = own.collect();
        attributes.extend(config.attributes.clone());
        let Some(spans) = what.spans.listen() else { return Ok(None) };
        Ok(Some(Self {
            clients: clients.map_err(|error| wrong(&error))?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            headers,
            interval: config.interval.0,
            resource: Resource {
                attributes: attributes
                    .into_iter()
                    .map(|(key, value)| attribute((key, text(value))))
                    .collect(),
                ..Resource::default()
            },
            catalogue: Arc::clone(&what.catalogue),
            exports: what.exports.clone(),
            spans,
            started: clock::now(),
            failing: false,
        }))
    }

    /// Sends spans and metrics until `stop`, then the queued rest. `refresh` sets the gauges before
    /// each export of metrics.
    pub async fn run<R: Future<Output = ()> + Send>(
        mut self,
        refresh: impl Fn() -> R + Send + Sync,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        let (mut linger, mut measure) = (interval(LINGER), interval(self.interval));
        linger.set_missed_tick_behavior(MissedTickBehavior::Delay);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = BATCH - batch.len();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = measure.tick() => {
                    refresh().await;
                    self.send_metrics().await;
                }
                _ = linger.tick() => self.send_spans(&mut batch).await,
                // A full batch waits for the collector, and new spans wait in the queue.
                taken = self.spans.recv_many(&mut batch, room), if room > 0 => {
                    if taken == room && !self.failing {
                        self.send_spans(&mut batch).await;
                    }
                }
            }
        }
        let rest = async {
            while let Ok(span) = self.spans.try_recv() {
                batch.push(span);
                if batch.len() >= BATCH {
                    self.send_spans(&mut batch).await;
                }
            }
            self.send_spans(&mut batch).await;
            refresh().await;
            self.send_metrics().await;
        };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!("last export timed out: the collector did not take all spans and metrics");
        }
    }

    /// Sends the batch. Empties it unless the request may succeed later.
    async fn send_spans(&mut self, batch: &mut Vec<ProtoSpan>) {
        if batch.is_empty() {
            return;
        }
        let scope_spans = ScopeSpans { scope: Some(scope()), spans: batch.clone(), ..ScopeSpans::default() };
        let resource = Some(self.resource.clone());
        let resource_spans =
            ResourceSpans { resource, scope_spans: vec![scope_spans], ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        if self.send("traces", &request).await {
            batch.clear();
        }
    }

    /// Sends every metric. The next export makes up for a failed one, because metrics are
    /// cumulative.
    async fn send_metrics(&mut self) {
        let metrics = metrics::converted(&self.catalogue, nanos(self.started), nanos(clock::now()));
        let scope_metrics = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
        let resource = Some(self.resource.clone());
        let resource_metrics =
            ResourceMetrics { resource, scope_metrics: vec![scope_metrics], ..ResourceMetrics::default() };
        self.send("metrics", &ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }).await;
    }

    /// Sends one request. Returns whether its data is no longer needed.
    async fn send(&mut self, signal: &'static str, message: &impl Message) -> bool {
        let sent = self.post(signal, message.encode_to_vec()).await;
        let word = if matches!(sent, ExportOutcome::Ok) { "ok" } else { "failed" };
        self.exports.with_label_values(&[signal, word]).inc();
        let failing = !matches!(sent, ExportOutcome::Ok);
        let endpoint = redact::url_text(&self.endpoint);
        match &sent {
            ExportOutcome::Retry(error) | ExportOutcome::Rejected(error) if !self.failing => {
                tracing::warn!(endpoint, signal, error, "export failed");
            }
            ExportOutcome::Ok if self.failing => {
                tracing::info!(endpoint, signal, "export works again");
            }
            _ => {}
        }
        self.failing = failing;
        !matches!(sent, ExportOutcome::Retry(_))
    }

    async fn post(&self, signal: &str, body: Vec<u8>) -> ExportOutcome {
        let headers = match self.credentials() {
            Ok(headers) => headers,
            Err(error) => return ExportOutcome::Retry(error),
        };
        let endpoint = format!("{}/v1/{signal}", self.endpoint);
        let request = self.clients.send(
            |client| {
                let request = client.post(endpoint).headers(headers);
                request.header(http::header::CONTENT_TYPE, "application/x-protobuf").body(body)
            },
            || {},
        );
        match request.await {
            Ok(answer) if answer.status().is_success() => ExportOutcome::Ok,
            Ok(answer) => {
                // The statuses that the specification calls retryable.
                let retryable = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ];
                let error = format!("the collector answered {}", answer.status());
                if retryable.contains(&answer.status()) {
                    ExportOutcome::Retry(error)
                } else {
                    ExportOutcome::Rejected(error)
                }
            }
            Err(SendError::Proxy(error)) => ExportOutcome::Retry(error.to_string()),
            Err(SendError::Peer(error)) => ExportOutcome::Retry(innermost(&error).to_string()),
        }
    }

    fn credentials(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, source) in &self.headers {
            let secret = source.get().map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(secret.expose());
            let mut value =
                value.map_err(|_| format!("the value of the header `{name}` has invalid characters"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "tidings".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use prometheus::{IntCounter, Opts};

    use super::*;
    use crate::util::http_client::guard::Trust;

    #[tokio::test]
    async fn a_collector_whose_name_leads_to_metadata_is_sent_nothing() {
        let script = Arc::new(Mutex::new(VecDeque::from([vec!["169.254.169.254:0".parse().unwrap()]])));
        let outgoing = Outgoing::scripted(Arc::new(Trust::Operator), script);
        let endpoint = Some("http://collector.example:4318".to_owned());
        let config = OtlpConfig { endpoint, ..OtlpConfig::default() };
        let counter = IntCounter::new("tidings_test_total", "Spans.").unwrap();
        let opts = Opts::new("tidings_otlp_exports_total", "Requests.");
        let exported = Exported {
            catalogue: Arc::default(),
            exports: IntCounterVec::new(opts, &["signal", "result"]).unwrap(),
            spans: Arc::new(Spans::new(counter)),
        };
        let exporter = Exporter::new(&config, &exported, &outgoing).unwrap().unwrap();
        let ExportOutcome::Retry(error) = exporter.post("traces", Vec::new()).await else {
            panic!("the request was sent")
        };
        assert_eq!(error, "blocked address: link-local");
    }
}
