//! The schemes behind one face: the request for credentials, and the reading of its answer.

use std::sync::OnceLock;

use url::Url;

use super::{
    AuthConfig, AuthType, ClientAuth, Credential,
    aws::{AwsSource, Environment, Signer},
    github::Installation,
    google::{ALL_SERVICES, AccountKey, ServiceAccount},
    jwt::SigningKey,
    oauth2::{Client, entra_url},
    request::{Minted, TokenRequest, oauth2_token},
};
use crate::util::{
    secret::{Secret, SecretSource, SecretText},
    units::Time,
};

/// How the credentials of a source are made.
pub(super) enum Minter {
    OAuth2(Client),
    Google(ServiceAccount),
    GitHub(Installation),
    Aws(Box<Aws>),
}

/// AWS, with the keys that the environment names.
pub(super) struct Aws {
    signer: Signer,
    environment: Environment,
    profile: Option<String>,
    sts_url: Option<String>,
    /// Where the keys come from, as soon as there are any.
    chosen: OnceLock<AwsSource>,
}

impl Aws {
    fn source(&self) -> Result<&AwsSource, String> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(chosen);
        }
        let (profile, sts_url) = (self.profile.as_deref(), self.sts_url.as_deref());
        let chosen = AwsSource::choose(&self.environment, profile, sts_url, &self.signer.region)?;
        Ok(self.chosen.get_or_init(|| chosen))
    }
}

impl Minter {
    /// Reads the configuration of a source with this base URL.
    ///
    /// # Errors
    /// The key that is missing or invalid, and why.
    pub(super) fn of(config: &AuthConfig, base_url: &str) -> Result<Self, String> {
        if let Some(missing) = config.missing().first() {
            return Err(format!("auth.{missing}: type = \"{}\" needs it", config.kind.name()));
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let url =
            |key: &str, text: &str| Url::parse(text).map_err(|_| format!("auth.{key}: it is not a URL"));
        let token_url = config.token_url.as_deref().map(|text| url("token_url", text)).transpose()?;
        let secret = |inline: &Option<Secret>, file: &Option<std::path::PathBuf>| {
            SecretText::of(inline.as_ref(), file.as_deref())
                .unwrap_or_else(|| SecretText::inline(Secret::new("")))
        };
        let client = |token_url, auth| {
            let file = config.client_secret_file.as_deref();
            let secret = SecretSource::of(config.client_secret.as_ref(), file);
            Self::OAuth2(Client {
                token_url,
                id: text(&config.client_id),
                secret: secret.unwrap_or_else(|| SecretSource::Inline(Secret::new(""))),
                auth,
                scope: config.scope.clone(),
                audience: config.audience.clone(),
            })
        };
        Ok(match config.kind {
            AuthType::OAuth2 => {
                let auth = config.client_auth.unwrap_or(ClientAuth::Basic);
                client(token_url.ok_or("auth.token_url: it is missing")?, auth)
            }
            AuthType::AzureEntra => {
                let usual = || entra_url(&text(&config.tenant)).map_err(|it| format!("auth.tenant: {it}"));
                client(token_url.map_or_else(usual, Ok)?, ClientAuth::Post)
            }
            AuthType::GoogleServiceAccount => Self::Google(ServiceAccount {
                key: secret(&config.key, &config.key_file),
                scope: config.scope.clone().unwrap_or_else(|| ALL_SERVICES.to_owned()),
                token_url,
            }),
            AuthType::GitHubApp => Self::GitHub(Installation {
                app_id: text(&config.app_id),
                id: text(&config.installation_id),
                key: secret(&config.private_key, &config.private_key_file),
                api_url: config.api_url.as_deref().unwrap_or(base_url).trim_end_matches('/').to_owned(),
            }),
            AuthType::AwsSigv4 => Self::Aws(Box::new(Aws {
                signer: Signer { service: text(&config.service), region: text(&config.region) },
                environment: Environment::of_process(),
                profile: config.profile.clone(),
                sts_url: config.sts_url.clone(),
                chosen: OnceLock::new(),
            })),
        })
    }

    /// Returns the credential that needs no request. `None`: it is asked for.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn fixed(&self) -> Result<Option<Credential>, String> {
        match self {
            Self::Aws(aws) => Ok(aws.source()?.fixed()?.map(Credential::Aws)),
            _ => Ok(None),
        }
    }

    /// Returns the secret that the request for credentials needs.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn secret(&self) -> Result<Secret, String> {
        let secret = match self {
            Self::OAuth2(client) => client.secret.get(),
            Self::Google(account) => account.key.get(),
            Self::GitHub(installation) => installation.key.get(),
            Self::Aws(aws) => aws.source()?.secret(),
        };
        secret.map_err(|error| error.to_string())
    }

    /// Returns the request for credentials. `now` is the time that an assertion tells.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn request(&self, secret: &Secret, now: Time) -> Result<TokenRequest, String> {
        match self {
            Self::OAuth2(client) => client.request(secret),
            Self::Google(account) => account.request(secret, now),
            Self::GitHub(installation) => installation.request(secret, now),
            Self::Aws(aws) => aws.source()?.request(secret),
        }
    }

    /// Reads the answer. `now` is the clock of its server.
    ///
    /// # Errors
    /// What is missing or odd. It holds nothing of the answer.
    pub(super) fn read(&self, body: &[u8], now: Time) -> Result<Minted<Credential>, String> {
        let token = |minted: Minted<Secret>| Minted {
            value: Credential::Token(minted.value),
            lifetime: minted.lifetime,
        };
        match self {
            Self::OAuth2(_) | Self::Google(_) => oauth2_token(body).map(token),
            Self::GitHub(_) => Installation::read(body, now).map(token),
            Self::Aws(aws) => {
                let Minted { value, lifetime } = aws.source()?.read(body, now)?;
                Ok(Minted { value: Credential::Aws(value), lifetime })
            }
        }
    }

    /// Returns whether the request for credentials tells a time, which a server may find wrong.
    pub(super) const fn uses_clock(&self) -> bool {
        matches!(self, Self::Google(_) | Self::GitHub(_))
    }

    /// Returns whether the server of credentials is on this machine.
    pub(super) fn is_on_this_machine(&self) -> bool {
        matches!(self, Self::Aws(aws) if aws.source().is_ok_and(AwsSource::is_on_this_machine))
    }

    /// Returns the signer of requests, if they are signed.
    pub(super) fn signer(&self) -> Option<&Signer> {
        match self {
            Self::Aws(aws) => Some(&aws.signer),
            _ => None,
        }
    }
}

/// Checks the key of a service account or of an app.
///
/// # Errors
/// A message that holds nothing of the key.
pub fn check_key(kind: AuthType, key: &Secret) -> Result<(), String> {
    match kind {
        AuthType::GoogleServiceAccount => AccountKey::read(key.expose()).map(drop),
        _ => SigningKey::from_pem(key.expose()).map(drop),
    }
}

/// Checks a tenant of Microsoft Entra ID.
///
/// # Errors
/// What is wrong with it.
pub fn check_tenant(tenant: &str) -> Result<(), String> {
    entra_url(tenant).map(drop)
}
