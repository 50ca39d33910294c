//! The table of routes: paths, methods and their handlers.

use std::sync::Arc;

use axum::{Router, routing::MethodRouter};
use utoipa::{OpenApi as _, openapi::OpenApi};

use super::{
    AppState, bulk_deliveries, control, deliveries, events, export, groups, health, hooks, overview, page,
    replicas, sinks, sources, timeline, view, watches,
};

/// Builds the router and the `OpenAPI` document from one table. Each request for the document builds
/// it again: building takes a MiB, a tenth of the whole process.
macro_rules! routes {
    ($($path:literal $($method:ident($module:ident::$handler:ident)),+;)+) => {
        /// Returns the routes of the API.
        pub(super) fn routes() -> Router<Arc<AppState>> {
            Router::new()$(.route($path, MethodRouter::new()$(.$method($module::$handler))+))+
                // The old spelling of /v1/shutdown.
                .route("/v1/quit", MethodRouter::new().post(control::shutdown))
        }

        #[derive(utoipa::OpenApi)]
        #[openapi(
            info(
                title = "tidings",
                description = "Register the ids of asynchronous jobs; tidings tells your sinks when they finish.",
                license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
            ),
            paths($($($module::$handler),+),+),
            components(schemas(view::Problem))
        )]
        struct Document;

        #[cfg(test)]
        const SERVED: &[(&str, &str)] = &[$($(($path, stringify!($method))),+),+];
    };
}

routes! {
    "/v1/overview" get(overview::overview);
    "/v1/watches" post(watches::register), get(watches::list);
    "/v1/watches/batch" post(watches::register_batch);
    "/v1/watches/{source}/{job_id}" get(watches::get), delete(watches::remove);
    "/v1/watches/{source}/{job_id}/wait" get(watches::wait);
    "/v1/watches/{source}/{job_id}/poll" post(watches::poll);
    "/v1/watches/{source}/{job_id}/job" get(watches::job);
    "/v1/watches/{source}/{job_id}/timeline" get(timeline::show);
    "/v1/groups" get(groups::list);
    "/v1/groups/{name}" get(groups::get);
    "/v1/groups/{name}/close" post(groups::close);
    "/v1/groups/{name}/jobs" get(groups::jobs);
    "/v1/deliveries" get(deliveries::list);
    "/v1/deliveries/redeliver" post(bulk_deliveries::redeliver);
    "/v1/deliveries/deliver" post(bulk_deliveries::deliver);
    "/v1/deliveries/{id}" get(deliveries::get);
    "/v1/deliveries/{id}/redeliver" post(deliveries::redeliver);
    "/v1/sinks" get(sinks::list_all);
    "/v1/sinks/{name}/test" post(sinks::test);
    "/v1/sinks/{name}/pause" post(sinks::pause);
    "/v1/sinks/{name}/resume" post(sinks::resume);
    "/v1/sinks/{name}/drop" post(bulk_deliveries::drop_pending);
    "/v1/sinks/{name}/move" post(bulk_deliveries::move_pending);
    "/v1/events" get(events::get);
    "/v1/sources" get(sources::list_all);
    "/v1/sources/{name}" get(sources::show);
    "/v1/sources/{name}/reconcile" post(sources::reconcile), get(sources::reconciliation);
    "/hooks/{source}" post(hooks::receive);
    "/v1/export" get(export::export);
    "/v1/replicas" get(replicas::list);
    "/v1/config" get(control::config);
    "/v1/reload" post(control::reload);
    "/v1/shutdown" post(control::shutdown);
    "/" get(page::root);
    "/healthz" get(health::healthz);
    "/readyz" get(health::readyz);
    "/metrics" get(health::metrics);
}

/// Returns the `OpenAPI` 3.1 document of the API.
#[must_use]
pub fn openapi() -> OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_handler_is_served_where_it_is_documented() {
        let document = serde_json::to_value(openapi()).unwrap();
        let documented = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (path.as_str(), method.as_str()))
        });
        assert_eq!(documented.collect::<BTreeSet<_>>(), SERVED.iter().copied().collect());
    }
}
