//! The URL of a place in object storage: its kind, its bucket and the beginning of its names.

use std::fmt;

use object_store::path::Path;

/// What follows from a URL such as `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct ObjectPlace {
    pub(super) scheme: Scheme,
    pub(super) bucket: String,
    pub(super) prefix: Path,
}

/// Whose protocol it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    S3,
    Gcs,
    Azure,
}

const SCHEMES: [(&str, Scheme); 3] =
    [("s3://", Scheme::S3), ("gs://", Scheme::Gcs), ("az://", Scheme::Azure)];

impl Scheme {
    const fn start(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
            Self::Azure => "az://",
        }
    }

    /// The beginning of the variables that say how the storage is reached.
    pub(super) const fn variables(self) -> &'static str {
        match self {
            Self::S3 => "AWS_",
            Self::Gcs => "GOOGLE_",
            Self::Azure => "AZURE_",
        }
    }
}

impl ObjectPlace {
    /// Reads a URL; `None` when it has another scheme.
    pub(in crate::store) fn parse(url: &str) -> Option<Result<Self, String>> {
        let found = SCHEMES.iter().find_map(|(start, scheme)| Some((*scheme, url.strip_prefix(start)?)));
        found.map(|(scheme, rest)| Self::of(scheme, rest))
    }

    fn of(scheme: Scheme, rest: &str) -> Result<Self, String> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let hint = format!("hint: write `{}BUCKET/PREFIX`", scheme.start());
        if bucket.is_empty() {
            return Err(format!("it names no bucket\n{hint}"));
        }
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !bucket.bytes().all(is_of_name) {
            let variables = scheme.variables();
            return Err(format!(
                "its bucket has characters that no name of one has; account, endpoint and credentials are variables \
                 that begin with {variables}\n{hint}"
            ));
        }
        let prefix = match Path::parse(prefix) {
            Ok(prefix) if !prefix.as_ref().contains(['?', '#']) => prefix,
            _ => return Err(format!("its prefix is no beginning of a name\n{hint}")),
        };
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, bucket, prefix } = self;
        let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
        write!(f, "{}{bucket}{slash}{prefix}", scheme.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_bucket_and_the_beginning_of_its_names() {
        for (url, bucket, prefix) in [
            ("s3://jobs/tidings/eu", "jobs", "tidings/eu"),
            ("s3://jobs", "jobs", ""),
            ("gs://jobs.example/", "jobs.example", ""),
            ("az://jobs/tidings/", "jobs", "tidings"),
        ] {
            let place = ObjectPlace::parse(url).unwrap().unwrap();
            assert_eq!((place.bucket.as_str(), place.prefix.as_ref()), (bucket, prefix), "{url}");
            assert_eq!(place.to_string(), url.trim_end_matches('/'));
        }
        for (url, problem) in [
            ("s3://", "names no bucket"),
            ("gs:///prefix", "names no bucket"),
            ("az://jobs@account/prefix", "AZURE_"),
            ("s3://jobs:9000/prefix", "AWS_"),
            ("s3://jobs/a//b", "prefix"),
            ("s3://jobs/../b", "prefix"),
            ("s3://jobs/a?region=eu", "prefix"),
        ] {
            let refused = ObjectPlace::parse(url).unwrap().unwrap_err();
            assert!(refused.contains(problem) && refused.contains("hint: write"), "{url}: {refused}");
        }
        assert_eq!(ObjectPlace::parse("http://jobs/a"), None);
    }
}
