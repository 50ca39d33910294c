//! Verification: known answers, spellings, and what must be refused.

use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use sha2::Sha256;

use super::*;
use crate::{
    upstream::{SourceConfig, SourceType, TYPES},
    util::secret::Secret,
};

/// The test vector that Standard Webhooks publishes.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn hooks_of(keys: &str) -> Result<Hooks, Vec<String>> {
    let source = SourceConfig {
        profile: SourceType::named("retab").unwrap(),
        hooks: Some(toml::from_str(keys).unwrap()),
        ..SourceConfig::default()
    };
    let errors = |errors: Vec<InvalidHooks>| errors.iter().map(ToString::to_string).collect();
    Hooks::of(&source).map(Option::unwrap).map_err(errors)
}

fn hooks(keys: &str) -> Hooks {
    hooks_of(&format!("id_at = [\"/data/id\"]\n{keys}")).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn standard() -> Hooks {
    hooks(&format!("verify = \"standard-webhooks\"\nsecret = \"{SECRET}\""))
}

fn vector(signature: &str) -> HeaderMap {
    let at = AT.to_string();
    headers(&[("webhook-id", ID), ("webhook-timestamp", &at), ("webhook-signature", signature)])
}

fn hex(secret: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

#[test]
fn the_published_vector_of_standard_webhooks_is_verified() {
    let hooks = standard();
    for (signature, now) in [
        (SIGNATURE.to_owned(), AT),
        (format!("v1,Zm9v {SIGNATURE} v1a,bm90IG91cnM="), AT + 300),
        (format!("v2,x v1,!!! {SIGNATURE}"), AT - 300),
    ] {
        hooks
            .verify(&vector(&signature), "", BODY, now)
            .unwrap_or_else(|error| panic!("{signature}: {error}"));
    }
    let svix =
        headers(&[("svix-id", ID), ("svix-timestamp", &AT.to_string()), ("svix-signature", SIGNATURE)]);
    hooks.verify(&svix, "", BODY, AT).unwrap();
    hooks.verify_head(&svix, "").unwrap();
}

#[test]
fn what_standard_webhooks_would_not_sign_is_refused() {
    let hooks = standard();
    let of = |headers: &HeaderMap, body: &[u8], now| hooks.verify(headers, "", body, now).unwrap_err();
    assert!(matches!(of(&vector(SIGNATURE), BODY, AT + 301), Unverified::Stale));
    assert!(matches!(of(&vector(SIGNATURE), BODY, AT - 301), Unverified::Stale));
    assert!(matches!(of(&vector(SIGNATURE), b"{}", AT), Unverified::Wrong));
    for signature in ["v1,", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "", "v1,g0hM9SsE+OTPJTGt"] {
        assert!(matches!(of(&vector(signature), BODY, AT), Unverified::Wrong), "{signature}");
    }
    assert!(matches!(of(&HeaderMap::new(), BODY, AT), Unverified::Missing));
    assert!(matches!(hooks.verify_head(&HeaderMap::new(), "").unwrap_err(), Unverified::Missing));
    let mut twice = vector(SIGNATURE);
    twice.append("webhook-id", HeaderValue::from_static("other"));
    assert!(matches!(of(&twice, BODY, AT), Unverified::Missing), "two ids: which one is signed?");
    let mut odd = vector(SIGNATURE);
    for time in ["", "+1614265330", "1614265330.0", "99999999999999999999"] {
        odd.insert("webhook-timestamp", HeaderValue::from_static(time));
        assert!(matches!(of(&odd, BODY, AT), Unverified::Malformed), "{time}");
    }
}

#[test]
fn the_usual_spellings_of_an_hmac_are_verified() {
    // The example of GitHub's documentation.
    let github = hooks(
        "verify = \"hmac-sha256\"\nsecret = \"It's a Secret to Everybody\"\nheader = \"X-Hub-Signature-256\"\nprefix = \"sha256=\"",
    );
    let sum = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let given = |text: &str| headers(&[("x-hub-signature-256", text)]);
    github.verify(&given(&format!("sha256={sum}")), "", b"Hello, World!", AT).unwrap();
    github.verify(&given(&format!("sha256={}", sum.to_uppercase())), "", b"Hello, World!", AT).unwrap();
    for wrong in
        [sum.to_owned(), format!("sha1={sum}"), "sha256=".to_owned(), format!("sha256={}", &sum[2..])]
    {
        assert!(github.verify(&given(&wrong), "", b"Hello, World!", AT).is_err(), "{wrong}");
    }

    // The example of Slack's documentation.
    let slack = hooks(
        "verify = \"hmac-sha256\"\nsecret = \"8f742231b10e8888abcd99yyyzzz85a5\"\nheader = \"X-Slack-Signature\"\nprefix = \"v0=\"\n\
        timestamp_header = \"X-Slack-Request-Timestamp\"\nsigned = \"v0:{timestamp}:{body}\"",
    );
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let sent = headers(&[
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
    ]);
    slack.verify(&sent, "", body.as_bytes(), 1_531_420_618).unwrap();
    assert!(matches!(slack.verify(&sent, "", body.as_bytes(), AT).unwrap_err(), Unverified::Stale));

    // Time and HMACs in one header, with two HMACs during a rotation; and the same as Buildkite writes it.
    let (secret, signed) = ("a secret of a dozen", format!("{AT}.{{}}"));
    let sum = hex(secret, signed.as_bytes());
    for (header, prefix, value) in [
        ("Stripe-Signature", "v1=", format!("t={AT},v1=00ff,v1={sum},v0=ab")),
        ("Stripe-Signature", "v1=", format!("t={AT}, v1={sum}")),
        ("X-Buildkite-Signature", "signature=", format!("timestamp={AT},signature={sum}")),
    ] {
        let hooks = hooks(&format!(
            "verify = \"hmac-sha256\"\nsecret = \"{secret}\"\nheader = \"{header}\"\nprefix = \"{prefix}\"\ntimestamp_header = \"{header}\"",
        ));
        hooks
            .verify(&headers(&[(header, &value)]), "", b"{}", AT)
            .unwrap_or_else(|error| panic!("{value}: {error}"));
        let timeless = value.replace(&AT.to_string(), "");
        assert!(hooks.verify(&headers(&[(header, &timeless)]), "", b"{}", AT).is_err(), "{timeless}");
    }
}

#[test]
fn a_token_is_compared_where_it_belongs() {
    let header =
        hooks("verify = \"token\"\nsecrets = [\"old-token\", \"new-token\"]\nheader = \"X-Gitlab-Token\"");
    for token in ["old-token", "new-token"] {
        header.verify_head(&headers(&[("x-gitlab-token", token)]), "").unwrap();
    }
    for token in ["", "old", "old-token2", "OLD-TOKEN"] {
        assert!(header.verify_head(&headers(&[("x-gitlab-token", token)]), "").is_err(), "{token}");
    }
    let bearer = hooks(
        "verify = \"token\"\nsecret = \"some-token\"\nheader = \"Authorization\"\nprefix = \"Bearer \"",
    );
    bearer.verify_head(&headers(&[("authorization", "Bearer some-token")]), "").unwrap();
    assert!(bearer.verify_head(&headers(&[("authorization", "some-token")]), "").is_err());
    let query = hooks("verify = \"token\"\nsecret = \"a&b c=d+e\"\nquery = \"token\"");
    query.verify_head(&HeaderMap::new(), "x=1&token=a%26b+c%3Dd%2Be").unwrap();
    for wrong in ["", "token=", "token=x&token=a%26b+c%3Dd%2Be", "Token=a%26b+c%3Dd%2Be"] {
        assert!(query.verify_head(&HeaderMap::new(), wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_job_is_found_by_its_pointers() {
    let hooks = hooks_of(
        "verify = \"token\"\nsecret = \"some-token\"\nquery = \"t\"\nid_at = [\"/run/id\", \"/data/id\"]\nkind_at = [\"/kind\"]",
    )
    .unwrap();
    let named = |body: &str| hooks.named_job(body.as_bytes());
    let job =
        |id: &str, kind: Option<&str>| NamedJob { id: Some(id.to_owned()), kind: kind.map(str::to_owned) };
    assert_eq!(named(r#"{"data":{"id":"a"},"kind":"batches"}"#), job("a", Some("batches")));
    assert_eq!(
        named(r#"{"data":{"id":"a"},"run":{"id":12345678901234567890}}"#),
        job("12345678901234567890", None)
    );
    for none in [
        "",
        "{}",
        "id=a",
        "{\"data\":{\"id\":\"a\"}",
        r#"{"data":{"id":{"x":1}}}"#,
        r#"{"data":{"id":null}}"#,
    ] {
        assert_eq!(named(none), NamedJob::default(), "{none}");
    }
}

#[test]
fn every_wrong_key_is_told() {
    let told = |keys: &str| hooks_of(keys).unwrap_err().join("\n");
    let all = told("");
    for key in ["hooks.verify", "hooks.secret", "hooks.id_at"] {
        assert!(all.contains(key), "{all}");
    }
    for (keys, key) in [
        ("verify = \"token\"", "hooks.header"),
        ("verify = \"token\"\nheader = \"x-a\"\nquery = \"a\"", "hooks.query"),
        ("verify = \"token\"\nquery = \"a\"\nprefix = \"b\"", "hooks.prefix"),
        ("verify = \"token\"\nheader = \"x a\"", "hooks.header"),
        ("verify = \"token\"\nheader = \"x-a\"\nencoding = \"hex\"", "hooks.encoding"),
        ("verify = \"standard-webhooks\"\nheader = \"x-a\"", "hooks.header"),
        ("verify = \"hmac-sha256\"", "hooks.header"),
        ("verify = \"hmac-sha256\"\nheader = \"x-a\"\ntolerance = \"5m\"", "hooks.tolerance"),
        ("verify = \"hmac-sha256\"\nheader = \"x-a\"\nsigned = \"{timestamp}{body}\"", "hooks.signed"),
        (
            "verify = \"hmac-sha256\"\nheader = \"x-a\"\ntimestamp_header = \"x-b\"\nsigned = \"{body}\"",
            "hooks.signed",
        ),
        ("verify = \"hmac-sha256\"\nheader = \"x-a\"\nsigned = \"{id}{body}\"", "hooks.signed"),
        ("verify = \"hmac-sha256\"\nheader = \"x-a\"\nsigned = \"x\"", "hooks.signed"),
        ("verify = \"token\"\nheader = \"x-a\"\nkind_at = [\"data\"]", "hooks.kind_at"),
    ] {
        let told = told(&format!("secret = \"some-token\"\nid_at = [\"/id\"]\n{keys}"));
        assert!(told.lines().count() == 1 && told.starts_with(key), "{keys}: {told}");
    }
}

#[test]
fn every_profile_with_hooks_works_with_a_secret() {
    let mut some = 0;
    for name in TYPES {
        let profile = SourceType::named(name).unwrap();
        let Some(preset) = profile.built_in().and_then(|built_in| built_in.keys.hooks) else { continue };
        assert!(preset.secret.is_none() && preset.secret_file.is_none(), "{name}");
        let mut own = HooksConfig { secret: Some(Secret::new(SECRET)), ..HooksConfig::default() };
        if preset.verify == Some(VerifyMethod::Token) && preset.header.is_none() {
            own.query = Some("token".to_owned());
        }
        let source = SourceConfig { profile, hooks: Some(own), ..SourceConfig::default() };
        Hooks::of(&source).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        some += 1;
    }
    assert!(some > 10, "{some}");
    // A preset for another way to verify does not get into the way.
    let own = HooksConfig {
        verify: Some(VerifyMethod::StandardWebhooks),
        secret: Some(Secret::new(SECRET)),
        ..HooksConfig::default()
    };
    let profile = SourceType::named("gitlab-pipeline").unwrap();
    let source = SourceConfig { profile, hooks: Some(own), ..SourceConfig::default() };
    Hooks::of(&source).unwrap().unwrap().verify(&vector(SIGNATURE), "", BODY, AT).unwrap();
}

#[test]
fn a_hook_that_registers_needs_no_variable() {
    let own = HooksConfig {
        secret: Some(Secret::new("some-token")),
        register: Some(true),
        ..HooksConfig::default()
    };
    let mut source = SourceConfig {
        profile: SourceType::named("gitlab-pipeline").unwrap(),
        hooks: Some(own),
        ..SourceConfig::default()
    };
    let told = Hooks::of(&source).unwrap_err();
    assert!(told[0].key == "register" && told[0].reason.contains("vars.project"), "{told:?}");
    source.vars.insert("project".to_owned(), "7".to_owned());
    Hooks::of(&source).unwrap();
}

proptest! {
    #[test]
    fn nothing_from_outside_panics_or_passes(
        id in "[ -~]{0,40}", time in "[0-9a-z.]{0,20}", signature in "[ -~]{0,200}",
        query in "[ -~]{0,60}", body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let given = headers(&[
            ("webhook-id", &id), ("webhook-timestamp", &time), ("webhook-signature", &signature),
            ("x-a", &signature), ("x-b", &time),
        ]);
        prop_assert!(standard().verify(&given, &query, &body, AT).is_err());
        let hmac = hooks("verify = \"hmac-sha256\"\nsecret = \"some-secret\"\nheader = \"x-a\"\ntimestamp_header = \"x-b\"");
        prop_assert!(hmac.verify(&given, &query, &body, AT).is_err());
        let _ = hmac.named_job(&body);
    }

    #[test]
    fn what_is_signed_is_verified_and_nothing_else(
        body in prop::collection::vec(any::<u8>(), 0..300), at in 0..4_000_000_000_i64, flip in any::<prop::sample::Index>(),
    ) {
        let hooks = hooks("verify = \"hmac-sha256\"\nsecret = \"some-secret\"\nheader = \"x-a\"\ntimestamp_header = \"x-b\"");
        let signed = [format!("{at}.").as_bytes(), &body].concat();
        let given = headers(&[("x-a", &hex("some-secret", &signed)), ("x-b", &at.to_string())]);
        prop_assert!(hooks.verify(&given, "", &body, at).is_ok());
        let mut other = body.clone();
        if other.is_empty() { other.push(0) } else { let at = flip.index(other.len()); other[at] ^= 1; }
        prop_assert!(hooks.verify(&given, "", &other, at).is_err());
    }
}
