//! From what `/metrics` shows to the form of OTLP.
//!
//! The text is the one place that has all numbers of a program, so both ways of export cannot disagree.
//! It is our own: of the OpenMetrics format, only what the programs' registries write is read.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
        metrics::v1::{
            AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
            Sum, metric, number_data_point,
        },
        resource::v1::Resource as ResourceMessage,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use prost::Message as _;

/// The body of an export.
pub(crate) fn encode(
    text: &str,
    resource: &Resource,
    since: SystemTime,
    now: SystemTime,
) -> Vec<u8> {
    let resource = ResourceAttributesWithSchema::from(resource);
    let scope = InstrumentationScope {
        name: "remote-executor".to_owned(),
        ..InstrumentationScope::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(ResourceMessage {
                attributes: resource.attributes.0,
                ..ResourceMessage::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics: read(text, nanos(since), nanos(now)),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    request.encode_to_vec()
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn read(text: &str, since: u64, now: u64) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            metrics.push(Metric {
                // As Prometheus would name it after an export.
                name: name.to_owned(),
                description: help.trim_end_matches('.').to_owned(),
                data: Some(match kind {
                    "counter" => metric::Data::Sum(Sum {
                        data_points: Vec::new(),
                        aggregation_temporality: AggregationTemporality::Cumulative.into(),
                        is_monotonic: true,
                    }),
                    _ => metric::Data::Gauge(Gauge::default()),
                }),
                ..Metric::default()
            });
        } else if let Some(mut point) = point(line, now) {
            match metrics.last_mut().and_then(|metric| metric.data.as_mut()) {
                Some(metric::Data::Sum(sum)) => {
                    point.start_time_unix_nano = since;
                    sum.data_points.push(point);
                }
                Some(metric::Data::Gauge(gauge)) => gauge.data_points.push(point),
                _ => {}
            }
        }
    }
    metrics
}

fn point(line: &str, now: u64) -> Option<NumberDataPoint> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let labels = series.split_once('{').map_or("", |(_, labels)| labels);
    let labels = labels.trim_end_matches('}').split(',');
    let attributes = labels.filter_map(|label| label.split_once('='));
    let attributes = attributes.map(|(key, value)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(
                value.trim_matches('"').to_owned(),
            )),
        }),
        ..KeyValue::default()
    });
    Some(NumberDataPoint {
        attributes: attributes.collect(),
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsInt(value.parse().ok()?)),
        ..NumberDataPoint::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_keep_their_labels_and_values() {
        let text = "# HELP agent_ends Ends, by reason.\n# TYPE agent_ends counter\n\
             agent_ends_total{reason=\"a\",role=\"x\"} 3\nagent_ends_total{reason=\"b\",role=\"x\"} 4\n\
             # HELP agent_ready 1 while ready.\n# TYPE agent_ready gauge\nagent_ready 1\n# EOF\n";
        let metrics = read(text, 5, 7);
        let [ends, ready] = &metrics[..] else {
            panic!("{metrics:?}");
        };
        assert_eq!(
            (&*ends.name, &*ends.description),
            ("agent_ends", "Ends, by reason")
        );
        let Some(metric::Data::Sum(sum)) = &ends.data else {
            panic!("{ends:?}");
        };
        assert!(sum.is_monotonic);
        let values: Vec<_> = sum.data_points.iter().map(|point| &point.value).collect();
        let is = |value| Some(number_data_point::Value::AsInt(value));
        assert_eq!(values, [&is(3), &is(4)]);
        let keys: Vec<_> = sum.data_points[0]
            .attributes
            .iter()
            .map(|pair| &*pair.key)
            .collect();
        assert_eq!(keys, ["reason", "role"]);
        assert_eq!(
            (
                sum.data_points[0].start_time_unix_nano,
                sum.data_points[0].time_unix_nano
            ),
            (5, 7)
        );
        assert_eq!(ready.name, "agent_ready");
        let Some(metric::Data::Gauge(gauge)) = &ready.data else {
            panic!("{ready:?}");
        };
        assert_eq!(gauge.data_points[0].value, is(1));
    }
}
