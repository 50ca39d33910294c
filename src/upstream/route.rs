//! What a request through the proxy means for the jobs of its source, by its method and path alone.

use std::collections::BTreeMap;

use http::Method;

use crate::{
    model::job::JobId,
    upstream::{Profile, Template},
};

/// The variables of a path.
pub type Vars = BTreeMap<String, String>;

/// The job that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedJob {
    /// Its id.
    pub id: JobId,
    /// The other variables of the path.
    pub vars: Vars,
}

/// What a request through the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyRoute {
    /// A request for a light status.
    Status(RoutedJob),
    /// A request for a result.
    Result(RoutedJob),
    /// A request that creates a job.
    Create(Vars),
    /// A request that runs a job again.
    Retry(RoutedJob),
    /// A request that changes a job in another way, for example cancels it.
    Touch(JobId),
    /// Any other request.
    Other,
}

/// The paths of a source that requests are compared with.
pub struct ProxyRoutes {
    status: Vec<Template>,
    /// The path of the status, as a `Location` names it.
    status_path: Option<Template>,
    result: Option<Template>,
    create: Option<Template>,
    retry: Option<Template>,
    touch: Vec<Template>,
}

impl ProxyRoutes {
    /// Returns the paths of a profile.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        // A status by POST is told from other requests by its body, which is only forwarded, and
        // one by its HTTP status is more than the body that is known here.
        let light = match profile.status_post.is_none() && profile.http.is_empty() {
            true => [Some(&profile.status_path), profile.fallback_status_path.as_ref()],
            false => [None, None],
        };
        let create = profile.create.as_ref().map(|(path, _)| path.clone());
        let below = |rest: &str| {
            let path = create.as_ref().map(|path| format!("{path}{rest}"));
            path.and_then(|path| Template::parse(&path).ok())
        };
        Self {
            status_path: sorted(&profile.status_path),
            status: light.into_iter().flatten().filter_map(sorted).collect(),
            result: profile.result_path.as_ref().and_then(sorted),
            touch: [below("/{id}"), below("/{id}/{+rest}")].into_iter().flatten().collect(),
            retry: profile.retry_path.clone(),
            create,
        }
    }

    /// Returns what a request is. `path` and `query` are as they were sent, still encoded.
    #[must_use]
    pub fn route(&self, method: &Method, path: &str, query: Option<&str>) -> ProxyRoute {
        if *method == Method::GET {
            let whole = with_query(path, query);
            let named = |template: &Template| job(template, &whole);
            return self
                .status
                .iter()
                .find_map(named)
                .map(ProxyRoute::Status)
                .or_else(|| self.result.as_ref().and_then(named).map(ProxyRoute::Result))
                .unwrap_or(ProxyRoute::Other);
        }
        if is_safe(method) {
            return ProxyRoute::Other;
        }
        if *method == Method::POST {
            if let Some(vars) = self.create.as_ref().and_then(|template| template.matches(path)) {
                return ProxyRoute::Create(vars);
            }
            if let Some(job) = self.retry.as_ref().and_then(|template| job(template, path)) {
                return ProxyRoute::Retry(job);
            }
        }
        let touched = self.touch.iter().find_map(|template| job(template, path));
        touched.map_or(ProxyRoute::Other, |job| ProxyRoute::Touch(job.id))
    }

    /// Returns the variables of the path of a status, `id` among them.
    pub(super) fn status_vars(&self, path: &str) -> Option<Vars> {
        self.status_path.as_ref()?.matches(path)
    }

    /// Returns the variables of a path that a watch must bring: those that the source takes and
    /// does not have.
    #[must_use]
    pub fn needed(&self, vars: &Vars, profile: &Profile) -> Vars {
        let is_needed = |(name, value): &(&String, &String)| {
            profile.known_vars().any(|known| known == *name) && profile.vars.get(*name) != Some(value)
        };
        vars.iter().filter(is_needed).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn job(template: &Template, path: &str) -> Option<RoutedJob> {
    let mut vars = template.matches(path)?;
    let id = vars.remove("id")?.parse().ok()?;
    Some(RoutedJob { id, vars })
}

/// Returns a template whose query is sorted, since clients write theirs in any order.
fn sorted(template: &Template) -> Option<Template> {
    let text = template.to_string();
    match text.split_once('?') {
        Some((path, query)) => Template::parse(&with_query(path, Some(query))).ok(),
        None => Some(template.clone()),
    }
}

pub(super) fn with_query(path: &str, query: Option<&str>) -> String {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return path.to_owned() };
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    format!("{path}?{}", pairs.join("&"))
}

/// Returns whether a method changes nothing (RFC 9110, section 9.2.1).
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{SourceConfig, SourceType};

    fn routes(name: &str) -> (ProxyRoutes, Profile) {
        let base_url = Some("https://example.com".to_owned());
        let profile = SourceType::named(name).unwrap();
        let config = SourceConfig { profile, base_url, ..SourceConfig::default() };
        let profile = Profile::of(&config).unwrap();
        (ProxyRoutes::of(&profile), profile)
    }

    fn route(name: &str, method: &Method, target: &str) -> ProxyRoute {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        routes(name).0.route(method, path, query)
    }

    fn named(id: &str) -> RoutedJob {
        RoutedJob { id: id.parse().unwrap(), vars: Vars::new() }
    }

    #[test]
    fn the_requests_of_retabs_sdk_are_told_apart() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, target, expected) in [
            (&post, "/v1/jobs", ProxyRoute::Create(Vars::new())),
            (&get, "/v1/jobs/j%2F1/status", ProxyRoute::Status(named("j/1"))),
            (&get, "/v1/jobs/j?include_request=false&include_response=false", ProxyRoute::Status(named("j"))),
            (&get, "/v1/jobs/j?include_response=false&include_request=false", ProxyRoute::Status(named("j"))),
            (&get, "/v1/jobs/j?include_request=false&include_response=true", ProxyRoute::Result(named("j"))),
            (&get, "/v1/jobs/j?include_request=true&include_response=true", ProxyRoute::Other),
            (&get, "/v1/jobs/j", ProxyRoute::Other),
            (&get, "/v1/jobs?limit=5", ProxyRoute::Other),
            (&post, "/v1/jobs/j/retry", ProxyRoute::Retry(named("j"))),
            (&post, "/v1/jobs/j/cancel", ProxyRoute::Touch("j".parse().unwrap())),
            (&Method::DELETE, "/v1/jobs/j", ProxyRoute::Touch("j".parse().unwrap())),
            (&Method::HEAD, "/v1/jobs/j/status", ProxyRoute::Other),
            (&post, "/v1/extractions", ProxyRoute::Other),
            (&get, "/v1/jobs/%2E%2E/status", ProxyRoute::Other),
        ] {
            assert_eq!(route("retab", method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn variables_are_read_from_the_path() {
        let ProxyRoute::Status(job) = route("github-actions", &Method::GET, "/repos/o/r/actions/runs/7")
        else {
            panic!("not a status")
        };
        assert_eq!(job.id.as_str(), "7");
        assert_eq!(
            job.vars,
            [("owner", "o"), ("repo", "r")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        let (routes, mut profile) = routes("github-actions");
        profile.vars.insert("owner".to_owned(), "o".to_owned());
        assert_eq!(routes.needed(&job.vars, &profile), [("repo".to_owned(), "r".to_owned())].into());
    }
}
