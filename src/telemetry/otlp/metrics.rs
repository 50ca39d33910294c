//! Converts the metrics of Prometheus into metrics of OTLP with the same names.

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
        metric::Data, number_data_point::Value,
    },
};
use prometheus::proto::{Metric as Collected, MetricFamily, MetricType};

use super::super::{
    Catalogue,
    spans::{attribute, text},
};

/// Returns every series at `now`. Both times are in nanoseconds since 1970.
pub(super) fn converted(catalogue: &Catalogue, started: u64, now: u64) -> Vec<Metric> {
    let units = catalogue.metrics();
    let unit =
        |name: &str| match units.iter().find(|known| known.name == name).map_or("", |known| known.unit()) {
            // The codes of UCUM, which OpenTelemetry asks for.
            "seconds" => "s",
            "bytes" => "By",
            _ => "1",
        };
    let one = |family: MetricFamily| Metric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        unit: unit(family.name()).to_owned(),
        data: Some(data(&family, started, now)),
        ..Metric::default()
    };
    catalogue.gather().into_iter().map(one).collect()
}

fn data(family: &MetricFamily, started: u64, now: u64) -> Data {
    let point = |labels, value| NumberDataPoint {
        attributes: labels,
        start_time_unix_nano: started,
        time_unix_nano: now,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    let all = family.get_metric().iter();
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: all.map(|one| point(labels(one), one.get_counter().get_value())).collect(),
            aggregation_temporality,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: all.map(|one| histogram(one, started, now)).collect(),
            aggregation_temporality,
        }),
        _ => Data::Gauge(Gauge {
            data_points: all.map(|one| point(labels(one), one.get_gauge().get_value())).collect(),
        }),
    }
}

/// Converts a histogram. Prometheus counts the values below each bound, OTLP those between two
/// bounds.
fn histogram(one: &Collected, started: u64, now: u64) -> HistogramDataPoint {
    let histogram = one.get_histogram();
    let (mut bucket_counts, mut explicit_bounds, mut below) = (Vec::new(), Vec::new(), 0);
    for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
        bucket_counts.push(bucket.cumulative_count().saturating_sub(below));
        explicit_bounds.push(bucket.upper_bound());
        below = bucket.cumulative_count();
    }
    bucket_counts.push(histogram.get_sample_count().saturating_sub(below));
    HistogramDataPoint {
        attributes: labels(one),
        start_time_unix_nano: started,
        time_unix_nano: now,
        count: histogram.get_sample_count(),
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds,
        ..HistogramDataPoint::default()
    }
}

fn labels(one: &Collected) -> Vec<KeyValue> {
    one.get_label().iter().map(|label| attribute((label.name(), text(label.value())))).collect()
}
