//! Spans and metrics to an OpenTelemetry collector: OTLP over HTTP with protobuf
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

/// Spans wait this long for others before they are sent.
const LINGER: Duration = Duration::from_secs(2);

/// Spans of one request, at the most.
const BATCH: usize = 512;

/// How long a collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last requests of a process may take together.
const FAREWELL: Duration = Duration::from_secs(3);

/// Sends what the process does to a collector.
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
    /// The last request failed, and the log says so.
    failing: bool,
}

/// What became of a request.
enum Sent {
    Ok,
    /// Worth another try.
    Later(String),
    /// The collector does not want it.
    Refused(String),
}

/// What an [`Exporter`] sends.
pub struct Exported {
    /// Every metric.
    pub catalogue: Arc<Catalogue>,
    /// Requests to the collector, by signal and result.
    pub exports: IntCounterVec,
    /// The spans.
    pub spans: Arc<Spans>,
}

impl Exporter {
    /// An exporter, if one is configured. Spans are kept from here on.
    ///
    /// # Errors
    /// When the name of a header cannot be used; the configuration has been checked for that.
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

    /// Sends until `stop`, then what is left. `refresh` sets the gauges before metrics are sent.
    pub async fn run(mut self, refresh: impl Fn() + Send, stop: CancellationToken) {
        let mut batch = Vec::new();
        let (mut linger, mut measure) = (interval(LINGER), interval(self.interval));
        linger.set_missed_tick_behavior(MissedTickBehavior::Delay);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = BATCH - batch.len();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = measure.tick() => self.send_metrics(&refresh).await,
                _ = linger.tick() => self.send_spans(&mut batch).await,
                // Without room the batch waits for the collector, and what comes meanwhile for the batch.
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
            self.send_metrics(&refresh).await;
        };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!("the collector did not take the last spans and metrics in time");
        }
    }

    /// Sends the batch and empties it, unless it is worth another try.
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

    /// Sends every metric as it is now. What fails is made up for by the next time, since all of it is cumulative.
    async fn send_metrics(&mut self, refresh: &(impl Fn() + Send)) {
        refresh();
        let metrics = metrics::converted(&self.catalogue, nanos(self.started), nanos(clock::now()));
        let scope_metrics = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
        let resource = Some(self.resource.clone());
        let resource_metrics =
            ResourceMetrics { resource, scope_metrics: vec![scope_metrics], ..ResourceMetrics::default() };
        self.send("metrics", &ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }).await;
    }

    /// Whether this is done with.
    async fn send(&mut self, signal: &'static str, message: &impl Message) -> bool {
        let sent = self.post(signal, message.encode_to_vec()).await;
        let word = if matches!(sent, Sent::Ok) { "ok" } else { "failed" };
        self.exports.with_label_values(&[signal, word]).inc();
        let failing = !matches!(sent, Sent::Ok);
        let endpoint = redact::url_text(&self.endpoint);
        match &sent {
            Sent::Later(error) | Sent::Refused(error) if !self.failing => {
                tracing::warn!(endpoint, signal, error, "the collector does not take spans or metrics");
            }
            Sent::Ok if self.failing => {
                tracing::info!(endpoint, signal, "the collector takes spans and metrics again");
            }
            _ => {}
        }
        self.failing = failing;
        !matches!(sent, Sent::Later(_))
    }

    async fn post(&self, signal: &str, body: Vec<u8>) -> Sent {
        let headers = match self.credentials() {
            Ok(headers) => headers,
            Err(error) => return Sent::Later(error),
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
            Ok(answer) if answer.status().is_success() => Sent::Ok,
            Ok(answer) => {
                // The statuses that the specification calls retryable.
                let again = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ];
                let error = format!("it answered {}", answer.status());
                if again.contains(&answer.status()) { Sent::Later(error) } else { Sent::Refused(error) }
            }
            Err(SendError::Proxy(error)) => Sent::Later(error.to_string()),
            Err(SendError::Peer(error)) => Sent::Later(innermost(&error).to_string()),
        }
    }

    fn credentials(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, source) in &self.headers {
            let secret = source.get().map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(secret.expose());
            let mut value = value.map_err(|_| format!("the value of `{name}` cannot be sent in a header"))?;
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
        let Sent::Later(error) = exporter.post("traces", Vec::new()).await else { panic!("it was sent") };
        assert_eq!(error, "blocked address: link-local");
    }
}
