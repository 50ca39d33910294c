//! `[sources.NAME.auth]`.

use std::path::Path;

use super::{
    Checker, header_secret,
    text::{no_control, web_url},
};
use crate::{
    config::path::KeyPath,
    upstream::{AuthConfig, AuthType, SourceConfig, check_key, check_tenant},
    util::secret::{Secret, SecretText},
};

impl Checker<'_> {
    /// Checks the credentials that are made for a source.
    pub(super) fn auth(&mut self, source_path: &KeyPath, source: &SourceConfig, auth: &AuthConfig) {
        let (path, kind) = (source_path.join("auth"), auth.kind.name());
        for key in ["api_key", "api_key_file"] {
            let other = source_path.join(key);
            if let Some(origin) = self.tree.get(&other).map(|_| self.tree.origin_of(&other).brief()) {
                self.report(&path, format!("`{key}` is set as well ({origin})\nhint: keep one of the two"));
            }
        }
        let headers = source.kinds.values().flat_map(|keys| keys.headers.keys()).chain(source.headers.keys());
        if headers.into_iter().any(|name| name.eq_ignore_ascii_case("authorization")) {
            self.report(&path, "`headers` gives an authorization as well\nhint: keep one of the two");
        }
        for (key, is_set, users) in auth.keys() {
            if is_set && !users.contains(&auth.kind) {
                self.report(&path.join(key), format!("type = \"{kind}\" does not use it"));
            }
        }
        for key in auth.missing() {
            if !self.is_spoilt(&path.join(key)) {
                self.report(&path.join(key), format!("type = \"{kind}\" needs it"));
            }
        }
        for (key, url) in
            [("token_url", &auth.token_url), ("api_url", &auth.api_url), ("sts_url", &auth.sts_url)]
        {
            let hint = "a URL holds no secret";
            let verdict = url.as_deref().map(|url| web_url(url, hint).map(drop));
            self.require(&path.join(key), verdict.unwrap_or(Ok(())));
        }
        if auth.kind == AuthType::AzureEntra
            && auth.token_url.is_none()
            && let Some(tenant) = &auth.tenant
        {
            self.require(&path.join("tenant"), check_tenant(tenant));
        }
        for (key, text) in [
            ("client_id", &auth.client_id),
            ("scope", &auth.scope),
            ("audience", &auth.audience),
            ("app_id", &auth.app_id),
            ("profile", &auth.profile),
        ] {
            let verdict = match text.as_deref().map(str::trim) {
                Some("") => Err("it is empty".to_owned()),
                Some(text) => no_control(text),
                None => Ok(()),
            };
            self.require(&path.join(key), verdict);
        }
        let words = [
            ("service", &auth.service),
            ("region", &auth.region),
            ("installation_id", &auth.installation_id),
        ];
        for (key, text) in words {
            let is_word = |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if text.as_ref().is_some_and(|text| text.is_empty() || !is_word(text)) {
                self.report(&path.join(key), "it is one word of letters, digits and -");
            }
        }
        let file = auth.client_secret_file.as_deref();
        self.secret(&path, "client_secret", auth.client_secret.as_ref(), file, header_secret);
        self.key(&path, "key", auth.kind, auth.key.as_ref(), auth.key_file.as_deref());
        self.key(
            &path,
            "private_key",
            auth.kind,
            auth.private_key.as_ref(),
            auth.private_key_file.as_deref(),
        );
        if auth.kind == AuthType::AwsSigv4 && source.proxy.inject_key {
            let reason = "a request of a caller cannot be signed: type = \"aws-sigv4\" covers its body, which passes \
                          unread";
            self.report(&source_path.join("proxy").join("inject_key"), reason);
        }
    }

    /// Checks a key of several lines, in place or in a file.
    fn key(
        &mut self,
        table: &KeyPath,
        key: &str,
        kind: AuthType,
        inline: Option<&Secret>,
        file: Option<&Path>,
    ) {
        let (key, key_file) = (table.join(key), table.join(format!("{key}_file").as_str()));
        if let Some(secret) = inline {
            self.require(&key, check_key(kind, secret));
        }
        let Some(file) = file else { return };
        if inline.is_some() {
            let other = self.tree.origin_of(&key).brief();
            self.report(&key_file, format!("`{key}` is set as well ({other})\nhint: keep one of the two"));
        }
        let Some(found) = self.found(&key_file, file) else { return };
        let verdict = match SecretText::file(&found).get() {
            Ok(secret) => check_key(kind, &secret).map_err(|reason| format!("in this file: {reason}")),
            Err(error) => Err(error.about_this_file()),
        };
        self.require_of_file(&key_file, verdict);
    }
}
