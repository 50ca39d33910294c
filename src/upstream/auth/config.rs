//! `[sources.NAME.auth]`: how the credentials of a source are made.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};

use crate::util::secret::Secret;

/// The ways to make credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthType {
    /// The OAuth 2.0 client credentials grant (RFC 6749, section 4.4).
    #[serde(rename = "oauth2")]
    OAuth2,
    /// A key of a Google service account.
    GoogleServiceAccount,
    /// An installation of a GitHub App.
    #[serde(rename = "github-app")]
    GitHubApp,
    /// An application of Microsoft Entra ID.
    AzureEntra,
    /// AWS Signature Version 4 over each request.
    AwsSigv4,
}

impl AuthType {
    /// Returns the name, as the configuration writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OAuth2 => "oauth2",
            Self::GoogleServiceAccount => "google-service-account",
            Self::GitHubApp => "github-app",
            Self::AzureEntra => "azure-entra",
            Self::AwsSigv4 => "aws-sigv4",
        }
    }
}

/// How an OAuth 2.0 client says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// By `Authorization: Basic`, which every server takes.
    Basic,
    /// By `client_id` and `client_secret` in the body.
    Post,
}

/// Credentials that are made for the source, instead of `api_key`: a token that is renewed before
/// its end, or a signature of each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// How the credentials are made.
    #[serde(rename = "type")]
    pub kind: AuthType,
    /// The URL that gives tokens, for `oauth2`. Others have a default: the `token_uri` of the key
    /// for `google-service-account`, that of the public cloud for `azure-entra`.
    pub token_url: Option<String>,
    /// The id of the client, for `oauth2` and `azure-entra`.
    pub client_id: Option<String>,
    /// The secret of the client, for `oauth2` and `azure-entra`.
    pub client_secret: Option<Secret>,
    /// The file with the secret of the client. It is read again when it changes.
    pub client_secret_file: Option<PathBuf>,
    /// How the client says who it is, for `oauth2`. Unset: `basic`.
    pub client_auth: Option<ClientAuth>,
    /// The scope of the token: several words in one text. For `oauth2` and
    /// `google-service-account` (unset: `https://www.googleapis.com/auth/cloud-platform`); required
    /// for `azure-entra`.
    pub scope: Option<String>,
    /// The parameter `audience`, which some `oauth2` servers want. Unset: none.
    pub audience: Option<String>,
    /// The tenant, for `azure-entra`: its id or a domain of it.
    pub tenant: Option<String>,
    /// The JSON key of the service account, for `google-service-account`.
    pub key: Option<Secret>,
    /// The file with that key. It is read again when it changes.
    pub key_file: Option<PathBuf>,
    /// The id of the app, or its client id, for `github-app`.
    #[serde(default, deserialize_with = "text_or_number")]
    #[schemars(with = "Option<TextOrNumber>")]
    pub app_id: Option<String>,
    /// The number of the installation, for `github-app`.
    #[serde(default, deserialize_with = "text_or_number")]
    #[schemars(with = "Option<TextOrNumber>")]
    pub installation_id: Option<String>,
    /// The private key of the app in PEM, for `github-app`.
    pub private_key: Option<Secret>,
    /// The file with that key. It is read again when it changes.
    pub private_key_file: Option<PathBuf>,
    /// The base URL of the API that gives installation tokens, for `github-app`. Unset: `base_url`.
    pub api_url: Option<String>,
    /// The name by which the service is signed, for `aws-sigv4`: `textract`.
    pub service: Option<String>,
    /// The region, for `aws-sigv4`: `eu-central-1`.
    pub region: Option<String>,
    /// The section of the shared credentials file, for `aws-sigv4`. Unset: the credentials come
    /// from the environment, a web identity, the section `default` or the container, whichever is
    /// there first.
    pub profile: Option<String>,
    /// The URL of AWS STS, for `aws-sigv4` with a web identity. Unset: that of the region.
    pub sts_url: Option<String>,
}

impl AuthConfig {
    /// Returns the configuration of this type without any other key.
    #[must_use]
    pub const fn new(kind: AuthType) -> Self {
        Self {
            kind,
            token_url: None,
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            client_auth: None,
            scope: None,
            audience: None,
            tenant: None,
            key: None,
            key_file: None,
            app_id: None,
            installation_id: None,
            private_key: None,
            private_key_file: None,
            api_url: None,
            service: None,
            region: None,
            profile: None,
            sts_url: None,
        }
    }

    /// Returns every key but `type`, whether it is set, and the types that use it.
    #[must_use]
    pub fn keys(&self) -> [(&'static str, bool, &'static [AuthType]); 19] {
        use AuthType::{AwsSigv4, AzureEntra, GitHubApp, GoogleServiceAccount, OAuth2};
        [
            ("token_url", self.token_url.is_some(), &[OAuth2, GoogleServiceAccount, AzureEntra]),
            ("client_id", self.client_id.is_some(), &[OAuth2, AzureEntra]),
            ("client_secret", self.client_secret.is_some(), &[OAuth2, AzureEntra]),
            ("client_secret_file", self.client_secret_file.is_some(), &[OAuth2, AzureEntra]),
            ("client_auth", self.client_auth.is_some(), &[OAuth2]),
            ("scope", self.scope.is_some(), &[OAuth2, GoogleServiceAccount, AzureEntra]),
            ("audience", self.audience.is_some(), &[OAuth2]),
            ("tenant", self.tenant.is_some(), &[AzureEntra]),
            ("key", self.key.is_some(), &[GoogleServiceAccount]),
            ("key_file", self.key_file.is_some(), &[GoogleServiceAccount]),
            ("app_id", self.app_id.is_some(), &[GitHubApp]),
            ("installation_id", self.installation_id.is_some(), &[GitHubApp]),
            ("private_key", self.private_key.is_some(), &[GitHubApp]),
            ("private_key_file", self.private_key_file.is_some(), &[GitHubApp]),
            ("api_url", self.api_url.is_some(), &[GitHubApp]),
            ("service", self.service.is_some(), &[AwsSigv4]),
            ("region", self.region.is_some(), &[AwsSigv4]),
            ("profile", self.profile.is_some(), &[AwsSigv4]),
            ("sts_url", self.sts_url.is_some(), &[AwsSigv4]),
        ]
    }

    /// Returns the keys that its type needs and that are not set. `x` stands for `x` or `x_file`.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let needed: &[&str] = match self.kind {
            AuthType::OAuth2 => &["token_url", "client_id", "client_secret"],
            AuthType::GoogleServiceAccount => &["key"],
            AuthType::GitHubApp => &["app_id", "installation_id", "private_key"],
            AuthType::AzureEntra => &["tenant", "client_id", "client_secret", "scope"],
            AuthType::AwsSigv4 => &["service", "region"],
        };
        let keys = self.keys();
        let is_set = |name: &str| keys.iter().any(|(key, set, _)| *set && *key == name);
        needed.iter().copied().filter(|name| !is_set(name) && !is_set(&format!("{name}_file"))).collect()
    }
}

/// An id: a number, or text in quotes.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the schema has it")]
enum TextOrNumber {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// Reads an id, which many write without quotes.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Either;
    impl Visitor<'_> for Either {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text in quotes or a whole number")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Some(number.to_string()))
        }
    }
    deserializer.deserialize_any(Either)
}
