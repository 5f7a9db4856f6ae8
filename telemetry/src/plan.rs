//! Where spans and numbers go: a setting of the program, else the standard variables.

use std::{fmt, time::Duration};

use url::Url;

/// Where a program exports to. Holds what the headers are, which may be secrets: `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where spans go.
    pub traces: Option<Url>,
    /// Where numbers go.
    pub metrics: Option<Url>,
    /// How often.
    pub interval: Duration,
    /// How long one export may take.
    pub timeout: Duration,
    /// Headers of exports of numbers; for spans, the exporter reads its variables itself.
    pub headers: Vec<(String, String)>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Where to export to, if anywhere.
    pub plan: Option<Plan>,
    /// Variables that are for other programs as well and ask for what this one does not do; they are no
    /// reason not to start.
    pub warnings: Vec<String>,
}

impl Found {
    /// What was found for the setting `otlp_endpoint`; what is wrong with it is a problem of `layers`.
    pub fn or_problem(found: Result<Self, String>, layers: &mut settings::Layers<'_>) -> Self {
        found.unwrap_or_else(|problem| {
            let name = layers.name_of("otlp_endpoint");
            layers.problem(format!("{name} cannot be used: {problem}"));
            Self::default()
        })
    }
}

impl Plan {
    /// Finds out. `setting` is the base URL of a collector, and wins over the variables.
    ///
    /// # Errors
    ///
    /// What is wrong with the setting.
    pub fn find(
        setting: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Found, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let mut found = Found::default();
        let base = setting.map(parse).transpose()?;
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(found);
        }
        let mut to = |signal: &str, path: &str| {
            let (own, general) = (
                format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"),
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            );
            let url = match &base {
                Some(base) => below(base, path),
                None => match (variable(&own), variable(general)) {
                    (Some(url), _) => checked(&own, parse(&url), &mut found.warnings)?,
                    (None, Some(base)) => {
                        let base = checked(general, parse(&base), &mut found.warnings)?;
                        below(&base, path)
                    }
                    (None, None) => return None,
                },
            };
            let exporter = format!("OTEL_{signal}_EXPORTER");
            match variable(&exporter).as_deref().map(str::trim) {
                None | Some("otlp") => {}
                Some("none") => return None,
                Some(_) => {
                    let text = format!("{exporter} is neither otlp nor none; exporting nothing");
                    found.warnings.push(text);
                    return None;
                }
            }
            let protocol = format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL");
            let general = "OTEL_EXPORTER_OTLP_PROTOCOL";
            let spoken = variable(&protocol).or_else(|| variable(general));
            if base.is_none() && spoken.is_some_and(|spoken| spoken.trim() != "http/protobuf") {
                let text = format!(
                    "{protocol} or {general} asks for another protocol than http/protobuf, the only \
                     one that is spoken; exporting nothing"
                );
                found.warnings.push(text);
                return None;
            }
            Some(url)
        };
        let traces = to("TRACES", "v1/traces");
        let metrics = to("METRICS", "v1/metrics");
        let millis = |name: &str| {
            variable(name)?
                .trim()
                .parse()
                .ok()
                .map(Duration::from_millis)
        };
        let headers = variable("OTEL_EXPORTER_OTLP_METRICS_HEADERS")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS"));
        if traces.is_some() || metrics.is_some() {
            found.plan = Some(Self {
                traces,
                metrics,
                interval: millis("OTEL_METRIC_EXPORT_INTERVAL").unwrap_or(INTERVAL),
                timeout: millis("OTEL_EXPORTER_OTLP_TIMEOUT").unwrap_or(TIMEOUT),
                headers: headers.map(|text| pairs(&text)).unwrap_or_default(),
            });
        }
        if cfg!(feature = "otlp") || found.plan.take().is_none() {
            return Ok(found);
        }
        match setting {
            Some(_) => Err("this program is built without OpenTelemetry".to_owned()),
            None => {
                let text = "this program is built without OpenTelemetry; exporting nothing";
                found.warnings.push(text.to_owned());
                Ok(found)
            }
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Result<Url, String> {
    let url: Url = text.trim().parse().map_err(|_| EXPECTED.to_owned())?;
    let is_usable = ["http", "https"].contains(&url.scheme()) && url.has_host();
    is_usable.then_some(url).ok_or_else(|| EXPECTED.to_owned())
}

fn checked(name: &str, url: Result<Url, String>, warnings: &mut Vec<String>) -> Option<Url> {
    url.map_err(|expected| warnings.push(format!("{name}: {expected}; exporting nothing")))
        .ok()
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let directory = base.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{directory}/{path}"));
    url
}

/// `key=value`, separated by commas; values are percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), decoded(value.trim())))
        .collect()
}

fn decoded(text: &str) -> String {
    // The rule of forms, but for the plus sign.
    let kept = text.replace('+', "%2B");
    let query = format!("v={kept}");
    let mut values = url::form_urlencoded::parse(query.as_bytes());
    values
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

const EXPECTED: &str = "expected the http or https URL of a collector";
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(all(test, feature = "otlp"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

    use super::*;

    fn found(setting: Option<&str>, variables: &[(&str, &str)]) -> Found {
        let variable = |name: &str| {
            let mut all = variables.iter().filter(|(known, _)| *known == name);
            all.next().map(|(_, value)| (*value).to_owned())
        };
        Plan::find(setting, &variable).unwrap()
    }

    fn urls(found: &Found) -> [Option<&str>; 2] {
        let plan = found.plan.as_ref();
        [
            plan.and_then(|plan| plan.traces.as_ref()).map(Url::as_str),
            plan.and_then(|plan| plan.metrics.as_ref()).map(Url::as_str),
        ]
    }

    #[test]
    fn nothing_is_exported_unless_somebody_says_where() {
        assert!(found(None, &[]).plan.is_none());
        assert!(
            found(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")])
                .plan
                .is_none()
        );
        let disabled = [("OTEL_SDK_DISABLED", "true")];
        assert!(found(Some("http://c:4318"), &disabled).plan.is_none());
        assert!(Plan::find(Some("c:4318"), &|_| None).is_err());
    }

    #[test]
    fn the_setting_wins_over_the_variables_and_signals_over_all() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://v:1/base/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/exactly");
        for (setting, variables, expected) in [
            (
                Some("http://s:2"),
                &[general, traces][..],
                [Some("http://s:2/v1/traces"), Some("http://s:2/v1/metrics")],
            ),
            (
                None,
                &[general],
                [
                    Some("http://v:1/base/v1/traces"),
                    Some("http://v:1/base/v1/metrics"),
                ],
            ),
            (None, &[traces], [Some("https://t/exactly"), None]),
            (
                None,
                &[general, ("OTEL_TRACES_EXPORTER", "none")],
                [None, Some("http://v:1/base/v1/metrics")],
            ),
        ] {
            let found = found(setting, variables);
            assert_eq!(urls(&found), expected);
            assert_eq!(found.warnings, [""; 0]);
        }
    }

    #[test]
    fn variables_that_ask_for_something_else_are_told_and_no_more() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://v:1");
        for other in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "s3cr3t"),
        ] {
            let found = found(None, &[general, other]);
            assert_eq!(urls(&found)[1], None, "{other:?}");
            assert!(!found.warnings.is_empty(), "{other:?}");
            assert!(!found.warnings.concat().contains("s3cr3t"));
        }
    }

    #[test]
    fn headers_are_pairs() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://v:1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=x%20y+z"),
        ];
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let plan = found(None, &variables).plan.unwrap();
        assert_eq!(plan.headers, [pair("a", "1"), pair("b", "x y+z")]);
    }
}
