//! Where the keys of AWS come from: the environment, a web identity, the shared credentials file,
//! or the container.

use std::path::{Path, PathBuf};

use http::{
    HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use serde_json::Value;
use url::{Host, Url};

use super::{refusal::element, shared_file};
use crate::{
    upstream::auth::request::{Minted, TokenRequest, object, until},
    util::{
        secret::{Secret, SecretError, SecretSource, SecretText},
        units::Time,
    },
};

/// The address of the agent of ECS, to which a relative path in the environment belongs.
const AGENT: &str = "http://169.254.170.2";

/// The other addresses that plain HTTP may reach: the agent of EKS.
const EKS_AGENT: [&str; 2] = ["169.254.170.23", "fd00:ec2::23"];

/// The name of a session if the environment has none.
const SESSION_NAME: &str = "tidings";

/// A set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct AwsKeys {
    pub id: Secret,
    pub secret: Secret,
    /// The token of a session, for keys that end.
    pub session: Option<Secret>,
}

/// The variables of the environment that name keys.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Environment(Vec<(&'static str, String)>);

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION: &str = "AWS_SESSION_TOKEN";
const ROLE: &str = "AWS_ROLE_ARN";
const ROLE_SESSION: &str = "AWS_ROLE_SESSION_NAME";
const IDENTITY_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const SHARED_FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
const PROFILE: &str = "AWS_PROFILE";
const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const CONTAINER_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const CONTAINER_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const HOME: &str = "HOME";

impl Environment {
    /// Reads the environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "AWS and its platforms set these variables; they are no keys of the configuration"
    )]
    pub(in super::super) fn of_process() -> Self {
        let names = [
            ID,
            SECRET,
            SESSION,
            ROLE,
            ROLE_SESSION,
            IDENTITY_FILE,
            SHARED_FILE,
            PROFILE,
            RELATIVE_URI,
            FULL_URI,
            CONTAINER_TOKEN,
            CONTAINER_TOKEN_FILE,
            HOME,
        ];
        Self(names.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, value)| *known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }
}

/// The keys of a source.
pub(in super::super) enum AwsSource {
    /// In the environment.
    Fixed(AwsKeys),
    /// In a section of the shared file.
    Shared(SharedFile),
    /// By AWS STS, for a token of the platform.
    WebIdentity(WebIdentity),
    /// By an agent on this machine.
    Container(Container),
}

/// A section of the shared file.
pub(in super::super) struct SharedFile {
    path: PathBuf,
    file: SecretText,
    section: String,
}

/// A role for those whom the platform vouches for.
pub(in super::super) struct WebIdentity {
    sts: Url,
    role: String,
    session: String,
    token: SecretSource,
}

/// An agent that gives keys.
pub(in super::super) struct Container {
    url: Url,
    token: Option<SecretSource>,
}

impl AwsSource {
    /// Chooses where the keys come from, in the order of AWS's own clients.
    ///
    /// # Errors
    /// If the environment contradicts itself.
    pub(in super::super) fn choose(
        environment: &Environment,
        profile: Option<&str>,
        sts_url: Option<&str>,
        region: &str,
    ) -> Result<Self, String> {
        let get = |name| environment.get(name);
        if let Some(section) = profile {
            return Ok(Self::Shared(SharedFile::of(environment, section)?));
        }
        match (get(ID), get(SECRET)) {
            (Some(id), Some(secret)) => {
                let session = get(SESSION).map(Secret::new);
                return Ok(Self::Fixed(AwsKeys {
                    id: Secret::new(id),
                    secret: Secret::new(secret),
                    session,
                }));
            }
            (None, None) => {}
            (Some(_), None) => return Err(format!("the environment has {ID} and no {SECRET}")),
            (None, Some(_)) => return Err(format!("the environment has {SECRET} and no {ID}")),
        }
        if let Some(file) = get(IDENTITY_FILE) {
            let role =
                get(ROLE).ok_or_else(|| format!("the environment has {IDENTITY_FILE} and no {ROLE}"))?;
            let usual = format!("https://sts.{region}.amazonaws.com/");
            return Ok(Self::WebIdentity(WebIdentity {
                sts: Url::parse(sts_url.unwrap_or(&usual)).map_err(|_| "sts_url is no URL".to_owned())?,
                role: role.to_owned(),
                session: get(ROLE_SESSION).unwrap_or(SESSION_NAME).to_owned(),
                token: SecretSource::file(Path::new(file)),
            }));
        }
        let shared = SharedFile::of(environment, get(PROFILE).unwrap_or("default"));
        let is_named = get(SHARED_FILE).is_some() || get(PROFILE).is_some();
        match shared {
            Ok(shared) if is_named || shared.path.exists() => return Ok(Self::Shared(shared)),
            _ => {}
        }
        Container::of(environment)?.map(Self::Container).ok_or_else(|| {
            format!(
                "there are no AWS keys: the environment has none of {ID}, {IDENTITY_FILE}, {RELATIVE_URI} and \
                 {FULL_URI}, and there is no shared credentials file"
            )
        })
    }

    /// Returns the keys that need no request. `None`: they are asked for.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub(in super::super) fn fixed(&self) -> Result<Option<AwsKeys>, String> {
        match self {
            Self::Fixed(keys) => Ok(Some(keys.clone())),
            Self::Shared(shared) => {
                let text = shared.file.get().map_err(|error| error.to_string())?;
                let keys = shared_file::section(text.expose(), &shared.section);
                let place = |reason| format!("no AWS keys in {}: {reason}", shared.path.display());
                keys.map(Some).map_err(place)
            }
            Self::WebIdentity(_) | Self::Container(_) => Ok(None),
        }
    }

    /// Returns the secret that the request for keys needs.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(in super::super) fn secret(&self) -> Result<Secret, SecretError> {
        let none = || Ok(Secret::new(""));
        match self {
            Self::Fixed(keys) => Ok(keys.secret.clone()),
            Self::Shared(shared) => shared.file.get(),
            Self::WebIdentity(identity) => identity.token.get(),
            Self::Container(container) => container.token.as_ref().map_or_else(none, SecretSource::get),
        }
    }

    /// Returns the request for keys.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(in super::super) fn request(&self, secret: &Secret) -> Result<TokenRequest, String> {
        match self {
            Self::WebIdentity(WebIdentity { sts, role, session, .. }) => {
                let plain = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                ];
                let token = [("WebIdentityToken", secret.expose())];
                let mut request = TokenRequest::post(sts.clone()).form(&plain, &token);
                request.headers.insert(ACCEPT, HeaderValue::from_static("text/xml, application/xml"));
                Ok(request)
            }
            Self::Container(container) => {
                let request = TokenRequest::get(container.url.clone());
                match secret.expose() {
                    "" => Ok(request),
                    token => request.secret_header(AUTHORIZATION, token),
                }
            }
            Self::Fixed(_) | Self::Shared(_) => Err("these keys need no request".to_owned()),
        }
    }

    /// Reads the answer. `now` is the clock of its server.
    ///
    /// # Errors
    /// What is missing or odd. It holds nothing of the answer.
    pub(in super::super) fn read(&self, body: &[u8], now: Time) -> Result<Minted<AwsKeys>, String> {
        if let Self::Container(_) = self {
            let json = object(body)?;
            return keys_of(|name| json[name].as_str(), "Token", now);
        }
        let xml = std::str::from_utf8(body).map_err(|_| "the answer is no XML".to_owned())?;
        keys_of(|name| element(xml, name), "SessionToken", now)
    }

    /// Returns whether the keys come from this machine, which no proxy can reach.
    pub(in super::super) const fn is_on_this_machine(&self) -> bool {
        matches!(self, Self::Container(_))
    }
}

fn keys_of<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
    session: &str,
    now: Time,
) -> Result<Minted<AwsKeys>, String> {
    let secret = |name: &str| {
        let text =
            text(name).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
        text.map(Secret::new).ok_or_else(|| format!("the answer has no usable `{name}`"))
    };
    let value = AwsKeys {
        id: secret("AccessKeyId")?,
        secret: secret("SecretAccessKey")?,
        session: Some(secret(session)?),
    };
    let end = text("Expiration").map_or(Value::Null, Value::from);
    Ok(Minted { value, lifetime: until(&end, "Expiration", now)? })
}

impl SharedFile {
    fn of(environment: &Environment, section: &str) -> Result<Self, String> {
        let named = environment.get(SHARED_FILE).map(PathBuf::from);
        let at_home = || Some(Path::new(environment.get(HOME)?).join(".aws/credentials"));
        let none =
            || format!("no shared credentials file: the environment has neither {SHARED_FILE} nor {HOME}");
        let path = named.or_else(at_home).ok_or_else(none)?;
        Ok(Self { file: SecretText::file(&path), path, section: section.to_owned() })
    }
}

impl Container {
    fn of(environment: &Environment) -> Result<Option<Self>, String> {
        let text = match (environment.get(RELATIVE_URI), environment.get(FULL_URI)) {
            (Some(path), _) => format!("{AGENT}{path}"),
            (None, Some(url)) => url.to_owned(),
            (None, None) => return Ok(None),
        };
        let url = Url::parse(&text).ok().filter(is_agent).ok_or_else(|| {
            format!(
                "the URL of {RELATIVE_URI} or {FULL_URI} is none that may give keys: https, or http at loopback or \
                 at the agent of ECS or EKS"
            )
        })?;
        let token = match (environment.get(CONTAINER_TOKEN_FILE), environment.get(CONTAINER_TOKEN)) {
            (Some(file), _) => Some(SecretSource::file(Path::new(file))),
            (None, Some(token)) => Some(SecretSource::Inline(Secret::new(token))),
            (None, None) => None,
        };
        Ok(Some(Self { url, token }))
    }
}

/// Returns whether a URL may give keys: anyone on the way could read an answer over plain HTTP.
fn is_agent(url: &Url) -> bool {
    let is_local = match url.host() {
        Some(Host::Ipv4(ip)) => {
            ip.is_loopback() || format!("http://{ip}") == AGENT || ip.to_string() == EKS_AGENT[0]
        }
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.to_string() == EKS_AGENT[1],
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" && url.has_host() || url.scheme() == "http" && is_local
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    fn environment(pairs: &[(&'static str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    fn chosen(pairs: &[(&'static str, &str)], profile: Option<&str>) -> Result<AwsSource, String> {
        AwsSource::choose(&environment(pairs), profile, None, "eu-central-1")
    }

    #[test]
    fn the_keys_come_from_the_first_place_that_has_any() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aws")).unwrap();
        let file = home.path().join(".aws/credentials");
        let home = home.path().to_str().unwrap();
        let all = [
            (ID, "A1"),
            (SECRET, "s1"),
            (IDENTITY_FILE, "/token"),
            (ROLE, "arn:role"),
            (HOME, home),
            (RELATIVE_URI, "/v2/keys"),
        ];
        assert!(matches!(chosen(&all, None), Ok(AwsSource::Fixed(_))));
        let Ok(AwsSource::WebIdentity(identity)) = chosen(&all[2..], None) else { panic!() };
        assert_eq!(identity.sts.as_str(), "https://sts.eu-central-1.amazonaws.com/");
        let Ok(AwsSource::Container(container)) = chosen(&all[4..], None) else {
            panic!("no shared file yet")
        };
        assert_eq!(container.url.as_str(), "http://169.254.170.2/v2/keys");
        fs::write(&file, "[default]\naws_access_key_id=A2\naws_secret_access_key=s2\n").unwrap();
        let shared = chosen(&all[4..], None).unwrap();
        assert_eq!(shared.fixed().unwrap().unwrap().id.expose(), "A2");
        fs::write(&file, "[default]\naws_access_key_id=A22\naws_secret_access_key=s2\n").unwrap();
        assert_eq!(shared.fixed().unwrap().unwrap().id.expose(), "A22", "the file is read again");
        let other = chosen(&all, Some("other")).unwrap();
        assert!(other.fixed().unwrap_err().contains("no section `other`"), "a named section wins");
        assert!(chosen(&[], None).err().unwrap().contains("no AWS keys"));
        assert!(chosen(&[(ID, "A1")], None).err().unwrap().contains("no AWS_SECRET_ACCESS_KEY"));
        assert!(chosen(&[(IDENTITY_FILE, "/t")], None).err().unwrap().contains("no AWS_ROLE_ARN"));
    }

    #[test]
    fn plain_http_gives_keys_on_this_machine_alone() {
        for (url, is_fine) in [
            ("http://169.254.170.2/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://127.0.0.1:99/x", true),
            ("http://[::1]/x", true),
            ("http://localhost/x", true),
            ("https://keys.example/x", true),
            ("http://keys.example/x", false),
            ("http://169.254.169.254/x", false),
            ("http://10.0.0.1/x", false),
            ("http://localhost.example/x", false),
            ("ftp://127.0.0.1/x", false),
            ("x", false),
        ] {
            let chosen = chosen(&[(FULL_URI, url)], None);
            assert_eq!(chosen.is_ok(), is_fine, "{url}");
        }
        // A relative path cannot name another host.
        assert!(chosen(&[(RELATIVE_URI, "@evil.example/x")], None).is_err());
        assert!(chosen(&[(RELATIVE_URI, ".evil.example/x")], None).is_err());
    }

    #[test]
    fn answers_have_keys_that_end() {
        let now = Time::parse("2026-01-01T00:00:00Z").unwrap();
        let container = chosen(&[(RELATIVE_URI, "/x")], None).unwrap();
        let json =
            r#"{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-01T06:00:00Z"}"#;
        let sts = chosen(&[(IDENTITY_FILE, "/t"), (ROLE, "arn")], None).unwrap();
        let xml = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                   <AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
                   <Expiration>2026-01-01T06:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
                   </AssumeRoleWithWebIdentityResponse>";
        for (source, body) in [(&container, json), (&sts, xml)] {
            let Minted { value, lifetime } = source.read(body.as_bytes(), now).unwrap();
            assert_eq!((value.id.expose(), value.secret.expose()), ("A", "s"));
            assert_eq!(value.session.unwrap().expose(), "t");
            assert_eq!(lifetime, Duration::from_hours(6));
            assert!(source.read(body.as_bytes(), now.after(Duration::from_hours(7))).is_err());
            for bad in ["", "{}", "<a/>", &body.replace('A', "")] {
                assert!(source.read(bad.as_bytes(), now).is_err(), "{bad}");
            }
        }
    }
}
