//! The job that a header of the answer to its creation names, such as `Operation-Location`.

use reqwest::header::HeaderMap;
use url::Url;

use super::{
    JobRef, Source, SourceKind, Vars,
    route::{RoutedJob, with_query},
};
use crate::util::redact;

impl Source {
    /// Returns the job that the header of an answer names, with `vars` and its own; `None` when the
    /// profile names no header, or the answer lacks it. `address` is that of the answer. The error
    /// says why the job cannot be watched.
    #[must_use]
    pub fn located(
        &self,
        kind: &SourceKind,
        address: &Url,
        headers: &HeaderMap,
        vars: &Vars,
    ) -> Option<Result<RoutedJob, String>> {
        let name = kind.profile.create_location.as_ref()?;
        let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
        let text = text.split('#').next().unwrap_or_default().trim();
        Some(self.job_named(kind, address, (name.as_str(), text)).and_then(|named| {
            let vars = vars.clone().into_iter().chain(named.vars).collect();
            let job = RoutedJob { vars, ..named };
            let wanted = JobRef { id: &job.id, kind: kind.name(), vars: &job.vars };
            let checked = self.check_job(wanted);
            checked
                .map_err(|error| format!("the header {name} names a job that cannot be polled: {error}"))?;
            Ok(job)
        }))
    }

    fn job_named(
        &self,
        kind: &SourceKind,
        address: &Url,
        (name, text): (&str, &str),
    ) -> Result<RoutedJob, String> {
        // An empty one would name the creation itself.
        let place = address.join(text).ok().filter(|_| !text.is_empty());
        let place = place.filter(|url| matches!(url.scheme(), "http" | "https"));
        let place = place.ok_or_else(|| format!("the header {name} holds no URL"))?;
        if !place.username().is_empty() || place.password().is_some() {
            return Err(format!("the header {name} names a URL with credentials"));
        }
        if !self.is_own(place.as_str()) {
            let (shown, keys) = (redact::url(&place), "base_url and allow_origins");
            return Err(format!("the header {name} names {shown}, which is of another origin than {keys}"));
        }
        self.job_at(kind, &place).ok_or_else(|| {
            format!("the header {name} names {}, which is no status_path", redact::url(&place))
        })
    }

    /// Returns the job whose status is at this URL.
    fn job_at(&self, kind: &SourceKind, place: &Url) -> Option<RoutedJob> {
        let template = &kind.profile.status_path;
        if let Some(name) = template.whole() {
            let last = place.path_segments()?.rfind(|segment| !segment.is_empty())?;
            let id = percent_encoding::percent_decode_str(last).decode_utf8().ok()?.into_owned();
            return Some(match name {
                "id" => RoutedJob { id: place.as_str().parse().ok()?, vars: [].into() },
                name => {
                    RoutedJob { id: id.parse().ok()?, vars: [(name.to_owned(), place.to_string())].into() }
                }
            });
        }
        let path = place.as_str().strip_prefix(self.base_url())?;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // The query may say more than the template, such as the version of the API.
        let query = query.filter(|_| template.to_string().contains('?'));
        let mut vars = kind.routes.status_vars(&with_query(path, query))?;
        let id = vars.remove("id")?.parse().ok()?;
        Some(RoutedJob { id, vars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        upstream::SourceConfig,
        util::http_client::{Outgoing, guard::Trust},
    };

    fn located(keys: &str, location: &str) -> Result<(String, Vec<(String, String)>), String> {
        let keys = format!(
            "type = \"custom\"\nbase_url = \"https://e.com/api\"\nstatus_path = \"{keys}\"\nstatus_at = [\"/s\"]\n\
             outcomes = {{ completed = [\"done\"] }}\ncreate_path = \"/jobs\"\ncreate_location = \"Operation-Location\""
        );
        let config: SourceConfig = toml::from_str(&keys).unwrap();
        let source = Source::new("x", &config, &Outgoing::direct(Trust::Operator)).unwrap();
        let headers =
            HeaderMap::from_iter([("operation-location".parse().unwrap(), location.parse().unwrap())]);
        let address = "https://e.com/api/jobs".parse().unwrap();
        let job = source.located(source.default_kind(), &address, &headers, &Vars::new()).unwrap()?;
        Ok((job.id.as_str().to_owned(), job.vars.into_iter().collect()))
    }

    #[test]
    fn a_header_names_the_job() {
        let var = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let url = "https://e.com/api/models/m/results/r%201?api-version=1";
        for (path, location, id, vars) in [
            ("/jobs/{id}", "/api/jobs/j%2F1", "j/1", vec![]),
            ("/jobs/{id}", "https://e.com/api/jobs/j?api-version=1", "j", vec![]),
            ("/jobs/{id}", "jobs/j#x", "j", vec![]),
            ("/jobs/{id}/status?b=2&a=1", "/api/jobs/j/status?a=1&b=2", "j", vec![]),
            ("/models/{model}/results/{id}", url, "r 1", vec![var("model", "m")]),
            ("{url}", url, "r 1", vec![var("url", url)]),
            ("{+url}", url, "r 1", vec![var("url", url)]),
            ("{id}", url, url, vec![]),
        ] {
            assert_eq!(located(path, location).unwrap(), (id.to_owned(), vars), "{path} {location}");
        }
        for (location, told) in [
            ("https://evil.com/api/jobs/j", "of another origin"),
            ("//evil.com/api/jobs/j", "of another origin"),
            ("http://e.com/api/jobs/j", "of another origin"),
            ("https://e.com/api/other/j", "is no status_path"),
            ("https://e.com/jobs/j", "is no status_path"),
            ("mailto:x@e.com", "holds no URL"),
            ("https://", "holds no URL"),
            ("", "holds no URL"),
            (" #x", "holds no URL"),
            ("https://user:pw@e.com/api/jobs/j", "names a URL with credentials"),
        ] {
            for path in ["/jobs/{id}", "{url}"] {
                let error = located(path, location).err();
                // Any URL of the source is one that a status can have.
                let is_fit = error.is_none() && path == "{url}" && told == "is no status_path";
                let error = error.unwrap_or_default();
                assert!(
                    is_fit || error.contains(told) && !error.contains("pw"),
                    "{path} {location}: {error}"
                );
            }
        }
        let error =
            located("/jobs/{id}\"\nresult_path = \"/results/{tenant}/{id}", "/api/jobs/j").unwrap_err();
        assert!(error.contains("cannot be polled") && error.contains("tenant"), "{error}");
    }
}
