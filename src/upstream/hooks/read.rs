//! Reads the keys of `[sources.NAME.hooks]`, and collects the errors.

use http::HeaderName;

use super::{
    Hooks, HooksConfig, MAX_VALUE, VerifyMethod,
    verify::{Check, HmacCheck, Piece, TimestampPlace, TokenPlace, standard_key},
};
use crate::{
    upstream::{Profile, SourceConfig, template::check_pointer},
    util::{
        json_slice::Pointers,
        secret::{Secret, SecretList, SecretSource},
        units::HumanDuration,
    },
};

/// The tolerance for the time of a hook.
const TOLERANCE: HumanDuration = HumanDuration::secs(300);
/// The shortest secret, in bytes.
const SHORTEST: usize = 8;

/// A key of the hooks that is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hooks.{key}: {reason}")]
pub struct InvalidHooks {
    /// The key below `hooks`.
    pub key: &'static str,
    /// Why it is invalid, and what would be valid.
    pub reason: String,
}

/// The keys, and the methods that use each.
const KEYS_OF: [(&str, &[VerifyMethod]); 7] = [
    ("header", &[VerifyMethod::HmacSha256, VerifyMethod::Token]),
    ("prefix", &[VerifyMethod::HmacSha256, VerifyMethod::Token]),
    ("encoding", &[VerifyMethod::HmacSha256]),
    ("timestamp_header", &[VerifyMethod::HmacSha256]),
    ("signed", &[VerifyMethod::HmacSha256]),
    ("tolerance", &[VerifyMethod::StandardWebhooks, VerifyMethod::HmacSha256]),
    ("query", &[VerifyMethod::Token]),
];

impl HooksConfig {
    /// Returns the keys with those of a profile where they are unset. The profile's way to verify goes
    /// as a whole where the keys name another one, or where a token has another place.
    fn over(&self, preset: Option<&Self>) -> Self {
        let mut keys = self.clone();
        let Some(preset) = preset else { return keys };
        keys.id_at = keys.id_at.or_else(|| preset.id_at.clone());
        keys.kind_at = keys.kind_at.or_else(|| preset.kind_at.clone());
        keys.register = keys.register.or(preset.register);
        if keys.verify.is_some_and(|verify| Some(verify) != preset.verify) {
            return keys;
        }
        keys.verify = preset.verify;
        if keys.header.is_some() || keys.query.is_some() {
            return keys;
        }
        keys.header.clone_from(&preset.header);
        keys.query.clone_from(&preset.query);
        keys.prefix = keys.prefix.or_else(|| preset.prefix.clone());
        keys.encoding = keys.encoding.or(preset.encoding);
        keys.timestamp_header = keys.timestamp_header.or_else(|| preset.timestamp_header.clone());
        keys.signed = keys.signed.or_else(|| preset.signed.clone());
        keys.tolerance = keys.tolerance.or(preset.tolerance);
        keys
    }

    fn has(&self, key: &str) -> bool {
        match key {
            "header" => self.header.is_some(),
            "prefix" => self.prefix.is_some(),
            "encoding" => self.encoding.is_some(),
            "timestamp_header" => self.timestamp_header.is_some(),
            "signed" => self.signed.is_some(),
            "tolerance" => self.tolerance.is_some(),
            "query" => self.query.is_some(),
            _ => false,
        }
    }
}

struct HooksReader<'a> {
    keys: &'a HooksConfig,
    errors: Vec<InvalidHooks>,
}

impl HooksReader<'_> {
    fn invalid(&mut self, key: &'static str, reason: impl Into<String>) {
        self.errors.push(InvalidHooks { key, reason: reason.into() });
    }

    /// Refuses the keys that do not go with the method.
    fn refuse_others(&mut self, verify: VerifyMethod) {
        for (key, methods) in KEYS_OF {
            if self.keys.has(key) && !methods.contains(&verify) {
                self.invalid(key, format!("it does not go with verify = \"{}\"", verify.as_str()));
            }
        }
        if verify == VerifyMethod::HmacSha256 && self.keys.timestamp_header.is_none() {
            for key in ["tolerance", "signed"] {
                let needs_time = key == "tolerance"
                    || self.keys.signed.as_ref().is_some_and(|signed| signed.contains("{timestamp}"));
                if self.keys.has(key) && needs_time {
                    self.invalid(key, "it needs timestamp_header: where the time of the hook is");
                }
            }
        }
    }

    fn header(&mut self, key: &'static str, name: Option<&String>) -> Option<HeaderName> {
        let parsed = name?.parse().ok();
        if parsed.is_none() {
            self.invalid(key, "it is not a header name");
        }
        parsed
    }

    fn pointers(&mut self, key: &'static str, list: Option<&Vec<String>>) -> Vec<String> {
        let list = list.cloned().unwrap_or_default();
        for pointer in &list {
            if let Err(reason) = check_pointer(pointer) {
                self.invalid(key, reason);
            }
        }
        list
    }

    fn check(&mut self, verify: VerifyMethod) -> Option<Check> {
        let keys = self.keys;
        let tolerance = keys.tolerance.unwrap_or(TOLERANCE).0;
        let header = self.header("header", keys.header.as_ref());
        let prefix = keys.prefix.clone().unwrap_or_default();
        match verify {
            VerifyMethod::StandardWebhooks => Some(Check::Standard { tolerance }),
            VerifyMethod::Token => Some(Check::Token(self.token_place(header, prefix)?)),
            VerifyMethod::HmacSha256 => {
                let timestamp = self.header("timestamp_header", keys.timestamp_header.as_ref());
                if keys.header.is_none() {
                    self.invalid("header", "verify = \"hmac-sha256\" needs it: the header with the HMAC");
                }
                let header = header?;
                let timestamp = timestamp.map(|name| match name == header {
                    true => TimestampPlace::Entry,
                    false => TimestampPlace::Header(name),
                });
                let signed = self.signed(timestamp.is_some())?;
                let encoding = keys.encoding.unwrap_or_default();
                Some(Check::Hmac(HmacCheck { header, prefix, encoding, timestamp, tolerance, signed }))
            }
        }
    }

    fn token_place(&mut self, header: Option<HeaderName>, prefix: String) -> Option<TokenPlace> {
        match (&self.keys.header, &self.keys.query) {
            (Some(_), Some(_)) => {
                self.invalid("query", "`header` is set as well; a token has one place");
                None
            }
            (None, None) => {
                let reason = "verify = \"token\" needs it, or `query`: where the token is";
                self.invalid("header", reason);
                None
            }
            (Some(_), None) => Some(TokenPlace::Header(header?, prefix)),
            (None, Some(_)) if !prefix.is_empty() => {
                self.invalid("prefix", "it goes with a token in `header` only");
                None
            }
            (None, Some(name)) if name.is_empty() => {
                self.invalid("query", "it is empty");
                None
            }
            (None, Some(name)) => Some(TokenPlace::Query(name.clone())),
        }
    }

    /// Reads the template of the signed text.
    fn signed(&mut self, has_timestamp: bool) -> Option<Vec<Piece>> {
        let usual = if has_timestamp { "{timestamp}.{body}" } else { "{body}" };
        let text = self.keys.signed.as_deref().unwrap_or(usual);
        let pieces = Piece::parse(text);
        let bodies = pieces.iter().filter(|piece| **piece == Piece::Body).count();
        let times = pieces.iter().filter(|piece| **piece == Piece::Timestamp).count();
        let is_open =
            pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains(['{', '}'])));
        let reason = if is_open {
            "it takes {timestamp} and {body}, and no other brace"
        } else if bodies != 1 {
            "it needs {body} once: an HMAC that leaves the body out proves nothing"
        } else if has_timestamp && times == 0 {
            "it needs {timestamp}, which timestamp_header tells: a time that is not signed proves nothing"
        } else {
            return Some(pieces);
        };
        self.invalid("signed", reason);
        None
    }

    fn register(&mut self, source: &SourceConfig) -> bool {
        let register = self.keys.register.unwrap_or(false);
        let profile = Profile::of(source).ok().filter(|_| register);
        if let Some(name) = profile.as_ref().and_then(|profile| profile.wanted_vars().next()) {
            let reason = format!(
                "a hook does not bring the variable `{name}` that the paths of this source take; set vars.{name}, or register jobs yourself"
            );
            self.invalid("register", reason);
        }
        register
    }
}

impl Hooks {
    /// Reads the hooks of a source: its keys over those of its profile. `None`: it has none. Secrets in
    /// files are not read here.
    ///
    /// # Errors
    /// Every invalid key.
    pub fn of(source: &SourceConfig) -> Result<Option<Self>, Vec<InvalidHooks>> {
        let Some(own) = &source.hooks else { return Ok(None) };
        let built_in = source.profile.built_in();
        let preset = built_in.as_ref().and_then(|built_in| built_in.keys.hooks.as_ref());
        let keys = own.over(preset);
        let mut reader = HooksReader { keys: &keys, errors: Vec::new() };
        let check = keys.verify.and_then(|verify| {
            reader.refuse_others(verify);
            reader.check(verify)
        });
        if keys.verify.is_none() {
            let words = "\"standard-webhooks\", \"hmac-sha256\" or \"token\"";
            reader.invalid("verify", format!("it is missing; this source needs {words}"));
        }
        let is_missing = keys.secret.is_none()
            && keys.secret_file.is_none()
            && keys.secrets.is_empty()
            && keys.secrets_file.is_none();
        if is_missing {
            let reason = "hooks need it, or secret_file: without a secret anybody could send them";
            reader.invalid("secret", reason);
        }
        let (id_at, kind_at) = (
            reader.pointers("id_at", keys.id_at.as_ref()),
            reader.pointers("kind_at", keys.kind_at.as_ref()),
        );
        if id_at.is_empty() {
            reader.invalid("id_at", "it is missing; hooks need it: where the id of the job is");
        }
        let register = reader.register(source);
        let errors = reader.errors;
        let (Some(check), true) = (check, errors.is_empty()) else { return Err(errors) };
        let pointers = id_at.iter().chain(&kind_at).map(|pointer| (pointer.as_str(), MAX_VALUE));
        let pointers = std::sync::Arc::new(Pointers::new(pointers));
        let single = SecretSource::of(keys.secret.as_ref(), keys.secret_file.as_deref());
        let list = keys.secrets.iter().cloned().map(SecretSource::Inline);
        Ok(Some(Self {
            check,
            single: single.into_iter().chain(list).collect(),
            list: keys.secrets_file.as_deref().map(SecretList::file),
            id_at,
            kind_at,
            pointers,
            register,
        }))
    }

    /// Returns how the hooks of a source are verified, by its keys and those of its profile.
    #[must_use]
    pub fn method(source: &SourceConfig) -> Option<VerifyMethod> {
        let built_in = source.profile.built_in();
        let preset = built_in.as_ref().and_then(|built_in| built_in.keys.hooks.as_ref());
        source.hooks.as_ref().and_then(|own| own.over(preset).verify)
    }
}

/// Checks a secret of Standard Webhooks.
///
/// # Errors
/// Why it is invalid, without any part of it.
pub fn check_standard_secret(secret: &Secret) -> Result<(), String> {
    standard_key(secret).map(drop)
}

/// Checks the secret of an HMAC, or a token.
///
/// # Errors
/// Why it is invalid, without any part of it.
pub fn check_plain_secret(secret: &Secret) -> Result<(), String> {
    match secret.expose().trim().len() {
        0 => Err("it is empty".to_owned()),
        length if length < SHORTEST => {
            Err(format!("it has fewer than {SHORTEST} bytes, which can be guessed"))
        }
        _ => Ok(()),
    }
}
