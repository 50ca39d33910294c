//! The OAuth 2.0 client credentials grant (RFC 6749, section 4.4), also as Microsoft Entra ID has it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::header::AUTHORIZATION;
use url::{Url, form_urlencoded};

use super::{ClientAuth, request::TokenRequest};
use crate::util::secret::{Secret, SecretSource};

/// An OAuth 2.0 client.
pub(super) struct Client {
    pub token_url: Url,
    pub id: String,
    pub secret: SecretSource,
    pub auth: ClientAuth,
    pub scope: Option<String>,
    pub audience: Option<String>,
}

/// Returns the token URL of a tenant of Microsoft Entra ID in the public cloud.
///
/// # Errors
/// If the tenant cannot stand in a URL.
pub(super) fn entra_url(tenant: &str) -> Result<Url, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_tenant = !tenant.is_empty() && tenant.bytes().all(is_plain) && !tenant.starts_with('.');
    let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
    let bad = || "it is no tenant: write its id, or a domain of it".to_owned();
    Url::parse(&url).ok().filter(|_| is_tenant).ok_or_else(bad)
}

impl Client {
    /// Returns the request for a token.
    ///
    /// # Errors
    /// If the secret cannot be sent.
    pub(super) fn request(&self, secret: &Secret) -> Result<TokenRequest, String> {
        let optional = [("scope", &self.scope), ("audience", &self.audience)];
        let optional = optional.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let mut plain = vec![("grant_type", "client_credentials")];
        plain.extend(optional);
        let request = TokenRequest::post(self.token_url.clone());
        match self.auth {
            ClientAuth::Post => {
                plain.push(("client_id", &self.id));
                Ok(request.form(&plain, &[("client_secret", secret.expose())]))
            }
            ClientAuth::Basic => {
                // Both are encoded as a form would encode them (RFC 6749, section 2.3.1).
                let form = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", form(&self.id), form(secret.expose()));
                let mut request = request.form(&plain, &[]);
                request.secrets.push(secret.clone());
                request.secret_header(AUTHORIZATION, &format!("Basic {}", BASE64_STANDARD.encode(pair)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(id: &str, auth: ClientAuth) -> Client {
        Client {
            token_url: "https://e.example/token".parse().unwrap(),
            id: id.to_owned(),
            secret: SecretSource::Inline(Secret::new("x")),
            auth,
            scope: Some("a b".to_owned()),
            audience: None,
        }
    }

    proptest! {
        #[test]
        fn the_server_reads_who_asks(id in "\\PC{1,30}", secret in "\\PC{1,30}") {
            let secret = Secret::new(secret);
            let posted = client(&id, ClientAuth::Post).request(&secret).unwrap();
            let body = posted.body.unwrap().expose().to_owned();
            let said: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            let expected = [
                ("grant_type", "client_credentials"), ("scope", "a b"), ("client_id", &id),
                ("client_secret", secret.expose()),
            ];
            prop_assert_eq!(said, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
            prop_assert!(!posted.headers.contains_key(AUTHORIZATION));

            let basic = client(&id, ClientAuth::Basic).request(&secret).unwrap();
            let body = basic.body.unwrap();
            prop_assert_eq!(body.expose(), "grant_type=client_credentials&scope=a+b");
            let header = basic.headers[AUTHORIZATION].to_str().unwrap().strip_prefix("Basic ").unwrap();
            let pair = String::from_utf8(BASE64_STANDARD.decode(header).unwrap()).unwrap();
            let (user, password) = pair.split_once(':').unwrap();
            let decoded = |text: &str| {
                form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned()
            };
            prop_assert_eq!((decoded(user), decoded(password)), (id, secret.expose().to_owned()));
        }
    }

    #[test]
    fn a_tenant_becomes_a_path_and_nothing_else() {
        let url = entra_url("contoso.onmicrosoft.com").unwrap();
        assert_eq!(
            url.as_str(),
            "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
        );
        for bad in ["", "..", "a/b", "a?b", "a b", "ä"] {
            assert!(entra_url(bad).is_err(), "{bad}");
        }
    }
}
