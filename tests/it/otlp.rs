//! Spans and metrics reach a collector: one trace a job, from whoever registered it to whoever is told.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data, number_data_point},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::json;
use tidings::{
    mock::JobPlan,
    telemetry::{OtlpConfig, TraceParent},
    util::units,
};

use crate::harness::{Flow, Receiver, Reply, Request, eventually};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector is a receiver that answers 200.
async fn collector() -> Receiver {
    let collector = Receiver::start().await;
    collector.always(Reply::status(200));
    collector
}

/// The configuration of a daemon that sends to it.
fn to(collector: &Receiver) -> OtlpConfig {
    OtlpConfig {
        endpoint: Some(collector.url().replace("/hooks/jobs", "")),
        attributes: BTreeMap::from([("service.name".to_owned(), "orders".to_owned())]),
        ..OtlpConfig::default()
    }
}

fn sent_to(collector: &Receiver, path: &str) -> Vec<Request> {
    collector.requests().into_iter().filter(|request| request.uri.path() == path).collect()
}

/// The spans that came, each once, even if the collector was sent it again.
fn spans(collector: &Receiver) -> Vec<Span> {
    let mut spans = BTreeMap::new();
    for request in sent_to(collector, "/v1/traces") {
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        let message = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
        for resource in message.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            assert_eq!(text(&attributes, "service.name"), "orders");
            let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| (span.span_id.clone(), span)));
        }
    }
    spans.into_values().collect()
}

fn metrics(collector: &Receiver) -> Vec<Metric> {
    let Some(request) = sent_to(collector, "/v1/metrics").pop() else { return Vec::new() };
    let message = ExportMetricsServiceRequest::decode(request.body.as_slice()).unwrap();
    let scopes = message.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).collect()
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

async fn register(flow: &Flow, traceparent: &str) -> String {
    let job = flow.mock.add_job(JobPlan::new());
    let url = format!("{}/v1/watches", flow.daemon.url);
    let request = crate::harness::http().post(url).header("traceparent", traceparent);
    assert_eq!(request.json(&json!({"job_id": job})).send().await.unwrap().status(), 202);
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_one_trace_from_its_caller_to_its_receiver() {
    let collector = Arc::new(collector().await);
    let flow = Flow::start(&[units::HumanDuration::millis(20)], |config| {
        config.otlp = to(&collector);
    })
    .await;
    flow.receiver.then([Reply::status(500)]);
    let job = register(&flow, CALLER).await;
    flow.daemon.finished(&job).await;
    let caller: TraceParent = CALLER.parse().unwrap();
    let told: Vec<TraceParent> = flow
        .receiver
        .at_least(2)
        .await
        .iter()
        .map(|told| told.header("traceparent").parse().unwrap())
        .collect();
    let seen = eventually("five spans reach the collector", || async {
        Some(spans(&collector)).filter(|spans| spans.len() == 5)
    })
    .await;
    assert!(seen.iter().all(|span| span.trace_id == caller.trace_id.to_be_bytes()), "{seen:#?}");
    let named = |name: &str| seen.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let root = named("job")[0];
    assert_eq!(root.parent_span_id, caller.span_id.to_be_bytes());
    assert_eq!(text(&root.attributes, "tidings.outcome"), "completed");
    assert_eq!(text(&root.attributes, "tidings.job_id"), job);
    for span in seen.iter().filter(|span| span.name != "job") {
        assert_eq!(span.parent_span_id, root.span_id, "{span:#?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.start_time_unix_nano > 0);
    }
    assert_eq!((named("accept").len(), named("fetch").len(), named("deliver").len()), (1, 1, 2));
    // Each attempt names its own span to the receiver.
    for (told, failed) in told.iter().zip([true, false]) {
        let span =
            named("deliver").into_iter().find(|span| span.span_id == told.span_id.to_be_bytes()).unwrap();
        assert_eq!(told.trace_id, caller.trace_id);
        assert_eq!(span.status.is_some(), failed, "{span:#?}");
    }
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_outlives_a_restart_and_what_is_not_sampled_stays_at_home() {
    let collector = Arc::new(collector().await);
    let flow = Flow::start(&[units::HumanDuration::millis(20)], |_| {}).await;
    let quiet = register(&flow, &CALLER.replace("-01", "-00").replace("4bf9", "aaaa")).await;
    flow.daemon.finished(&quiet).await;
    flow.receiver.at_least(1).await;
    flow.receiver.always(Reply::status(500));
    let job = register(&flow, CALLER).await;
    flow.daemon.finished(&job).await;
    let before = flow.receiver.requests().len();
    let flow = flow
        .restart(|config| {
            config.otlp = to(&collector);
        })
        .await;
    flow.receiver.always(Reply::status(204));
    assert_eq!(flow.daemon.post("/v1/deliveries/redeliver", &json!({"state": "dead"})).await.0, 202);
    assert_eq!(flow.daemon.post("/v1/deliveries/redeliver", &json!({"state": "delivered"})).await.0, 202);
    let told = flow.receiver.at_least(before + 2).await;
    let of_quiet = told.iter().rfind(|told| told.json()["job_id"] == *quiet).unwrap();
    assert!(of_quiet.header("traceparent").starts_with("00-aaaa2f35"));
    assert!(of_quiet.header("traceparent").ends_with("-00"));
    // The last spans are sent when it stops.
    flow.stop().await;
    let seen = spans(&collector);
    let trace = CALLER.parse::<TraceParent>().unwrap().trace_id.to_be_bytes();
    assert!(!seen.is_empty() && seen.iter().all(|span| span.trace_id == trace), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_wait_for_a_collector_that_fails_and_metrics_are_those_of_prometheus() {
    let collector = Arc::new(collector().await);
    collector.always(Reply::status(503));
    let flow = Flow::start(&[units::HumanDuration::millis(20)], |config| {
        config.otlp = to(&collector);
        config.otlp.interval = units::HumanDuration::millis(200);
    })
    .await;
    let job = flow.job().await;
    flow.daemon.finished(&job).await;
    eventually("spans are refused", || async {
        (!sent_to(&collector, "/v1/traces").is_empty()).then_some(())
    })
    .await;
    collector.always(Reply::status(200));
    let tried = sent_to(&collector, "/v1/traces").len();
    eventually("the spans are sent again", || async {
        (sent_to(&collector, "/v1/traces").len() > tried && spans(&collector).len() == 4).then_some(())
    })
    .await;
    let of_sink = |metric: &Metric| match metric.data.clone() {
        Some(Data::Sum(sum)) if metric.name == "tidings_delivery_attempts_total" => {
            assert!(sum.is_monotonic);
            let delivered = |labels: &[KeyValue]| text(labels, "result") == "delivered";
            sum.data_points.into_iter().find(|point| delivered(&point.attributes))?.value
        }
        _ => None,
    };
    eventually("the delivery is counted", || async {
        let value = metrics(&collector).iter().find_map(of_sink);
        (value == Some(number_data_point::Value::AsDouble(1.0))).then_some(())
    })
    .await;
    let all = metrics(&collector);
    let delay = all.iter().find(|metric| metric.name == "tidings_detection_delay_seconds").unwrap();
    assert_eq!(delay.unit, "s");
    let Some(Data::Histogram(histogram)) = &delay.data else { panic!("{delay:?}") };
    let point = &histogram.data_points[0];
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    assert_eq!(point.count, 1);
    flow.stop().await;
}
