//! One finished job becomes one event with its deliveries: which sinks get it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    deliver::{CALLBACK_SINK, SinkConfig},
    glob,
    job::Outcome,
    store::{End, Watch},
};

/// `[[routes]]`: which events go to which sinks. Without any route every sink gets every event it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Every condition must hold.
    pub when: When,
    /// The names of the sinks.
    pub to: Vec<String>,
}

/// The conditions of a route. A list holds when one of its patterns matches; `*` stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// What the end means.
    pub outcome: Vec<Outcome>,
    /// The source's own last word.
    pub status: Vec<String>,
    /// Names of sources.
    pub source: Vec<String>,
    /// The operation the job ran, as the source names it.
    pub endpoint: Vec<String>,
    /// Labels given with the watch.
    pub labels: BTreeMap<String, String>,
    /// The job's own metadata.
    pub metadata: BTreeMap<String, String>,
}

impl When {
    fn holds(&self, watch: &Watch, end: &End) -> bool {
        let any = |patterns: &[String], word: Option<&str>| {
            patterns.is_empty()
                || word.is_some_and(|word| patterns.iter().any(|pattern| glob::matches(pattern, word)))
        };
        let all = |patterns: &BTreeMap<String, String>, pairs: Option<&BTreeMap<String, String>>| {
            patterns.iter().all(|(key, pattern)| {
                pairs.and_then(|pairs| pairs.get(key)).is_some_and(|value| glob::matches(pattern, value))
            })
        };
        (self.outcome.is_empty() || self.outcome.contains(&end.outcome))
            && any(&self.status, watch.status.as_deref())
            && any(&self.source, Some(&watch.source))
            && any(&self.endpoint, watch.endpoint.as_deref())
            && all(&self.labels, Some(&watch.labels))
            && all(&self.metadata, watch.metadata.as_ref())
    }
}

/// Decides which sinks an event goes to.
#[derive(Clone, Debug)]
pub struct Router {
    /// Names with the event types each takes.
    sinks: Vec<(String, Vec<String>)>,
    routes: Vec<Route>,
}

impl Router {
    /// The router of a configuration.
    #[must_use]
    pub fn new(sinks: &BTreeMap<String, SinkConfig>, routes: &[Route]) -> Self {
        let sinks = sinks.iter().map(|(name, sink)| (name.clone(), sink.events().to_vec())).collect();
        Self { sinks, routes: routes.to_vec() }
    }

    /// The sinks for the end of a watch's job: those the watch named, else those its routes lead to, and its own
    /// callback. A sink's `events` filter what routes bring it; what a watch names it gets.
    #[must_use]
    pub fn sinks(&self, watch: &Watch, end: &End) -> Vec<String> {
        let mut names = match &watch.sinks {
            Some(named) => named.clone(),
            None => self.routed(watch, end),
        };
        if watch.callback.is_some() {
            names.push(CALLBACK_SINK.to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    fn routed(&self, watch: &Watch, end: &End) -> Vec<String> {
        let routed = |name: &String| {
            self.routes.is_empty()
                || self.routes.iter().any(|route| route.to.contains(name) && route.when.holds(watch, end))
        };
        let takes =
            |events: &[String]| events.iter().any(|pattern| glob::matches(pattern, end.outcome.event_type()));
        let taken = self.sinks.iter().filter(|(name, events)| takes(events) && routed(name));
        taken.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deliver::{DiskConfig, WebhookConfig},
        job::Attempt,
        units::Time,
    };

    fn router(routes: serde_json::Value) -> Router {
        let mut failures = DiskConfig::to("out");
        failures.events = vec!["job.failed".to_owned()];
        let sinks = BTreeMap::from([
            ("app".to_owned(), SinkConfig::Webhook(WebhookConfig::to("http://127.0.0.1/"))),
            ("failures".to_owned(), SinkConfig::Disk(failures)),
        ]);
        let routes: Vec<Route> = serde_json::from_value(routes).unwrap();
        Router::new(&sinks, &routes)
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn watch(more: serde_json::Value) -> Watch {
        let mut json = serde_json::json!({
            "source": "retab", "job_id": "job_1", "created_at": "2026-01-01T00:00:00Z",
            "registered_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "stage": "fetching",
            "endpoint": "/v1/extractions", "labels": {"team": "billing"}, "metadata": {"order": "204"},
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    }

    fn end(outcome: Outcome) -> End {
        End {
            outcome,
            attempt: Attempt::default(),
            event_id: "evt_1".to_owned(),
            noticed_at: Time(0),
            ended_at: None,
            reason: None,
            job: None,
        }
    }

    #[test]
    fn without_routes_every_sink_gets_what_it_takes() {
        let router = router(serde_json::json!([]));
        let watch = watch(serde_json::json!({}));
        assert_eq!(router.sinks(&watch, &end(Outcome::Completed)), ["app"]);
        assert_eq!(router.sinks(&watch, &end(Outcome::Failed)), ["app", "failures"]);
    }

    #[test]
    fn every_condition_of_a_route_must_hold() {
        let when = serde_json::json!({"outcome": ["completed"], "endpoint": ["/v1/*"], "labels": {"team": "billing"}, "metadata": {"order": "*"}});
        let router = router(serde_json::json!([{"when": when, "to": ["app"]}]));
        assert_eq!(router.sinks(&watch(serde_json::json!({})), &end(Outcome::Completed)), ["app"]);
        assert!(router.sinks(&watch(serde_json::json!({})), &end(Outcome::Failed)).is_empty());
        for other in [
            serde_json::json!({"endpoint": "/v2/x"}),
            serde_json::json!({"labels": {"team": "sales"}}),
            serde_json::json!({"metadata": null}),
        ] {
            assert!(router.sinks(&watch(other), &end(Outcome::Completed)).is_empty());
        }
    }

    #[test]
    fn a_watch_names_its_own_sinks_and_callback() {
        let router = router(serde_json::json!([]));
        let own = watch(serde_json::json!({"sinks": ["failures"], "callback": {"url": "http://x.example"}}));
        assert_eq!(router.sinks(&own, &end(Outcome::Completed)), ["callback", "failures"]);
    }
}
