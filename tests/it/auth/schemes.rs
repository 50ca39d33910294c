//! The schemes of Google, GitHub and Microsoft, each at a server that verifies it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs1KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tidings::{
    upstream::{AuthConfig, AuthType, SourceConfig, SourceType},
    util::secret::Secret,
};

use super::{SECRET, flow, realm, realm::Realm, tasks, until};
use crate::harness::Request;

const PKCS8: &str = include_str!("../keys/rsa-pkcs8.pem");
const PKCS1: &str = include_str!("../keys/rsa-pkcs1.pem");

/// How far the clock of the server of GitHub is ahead of ours, in seconds.
const AHEAD_S: i64 = 900;

fn now_s() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The header and the claims of an assertion that the key signed.
fn verified(assertion: &str) -> Result<(Value, Value), String> {
    let der = PrivatePkcs1KeyDer::from_pem_slice(PKCS1.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    let (signed, signature) = assertion.rsplit_once('.').ok_or("no signature")?;
    let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string());
    let signature = decoded(signature)?;
    public.verify(signed.as_bytes(), &signature).map_err(|_| "a wrong signature")?;
    let (header, claims) = signed.split_once('.').ok_or("no claims")?;
    let json = |text| serde_json::from_slice(&decoded(text)?).map_err(|error| error.to_string());
    Ok((json(header)?, json(claims)?))
}

fn google(request: &Request, token: &str, lives_s: u64) -> Result<Value, String> {
    let form = realm::form(request)?;
    if form.get("grant_type").map(String::as_str) != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return Err("another grant".to_owned());
    }
    let (header, claims) = verified(form.get("assertion").ok_or("no assertion")?)?;
    let (iat, exp) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    let host = request.header("host");
    let is_right = header == json!({"alg": "RS256", "typ": "JWT", "kid": "k-1"})
        && claims["iss"] == "bot@project.example"
        && claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        && claims["aud"] == format!("http://{host}/token")
        && (iat - now_s()).abs() < 60
        && exp > now_s()
        && exp - iat <= 3600;
    if is_right { Ok(realm::bearer(token, lives_s)) } else { Err("other claims".to_owned()) }
}

/// The clock of this server is off: what is signed by ours has ended.
fn github(request: &Request, token: &str, lives_s: u64) -> Result<Value, String> {
    if request.method != "POST" || request.uri.path() != "/app/installations/77/access_tokens" {
        return Err("another address".to_owned());
    }
    let assertion = request.header("authorization").strip_prefix("Bearer ").ok_or("no Bearer")?.to_owned();
    let (_, claims) = verified(&assertion)?;
    let now = now_s();
    let (iat, exp) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    if claims["iss"] != "12345" || iat > now || exp <= now || exp > now + 600 {
        return Err("other claims".to_owned());
    }
    let ends = tidings::util::units::Time((now + i64::try_from(lives_s).unwrap()) * 1000);
    Ok(json!({"token": token, "expires_at": ends.to_string(), "permissions": {"actions": "read"}}))
}

fn azure(request: &Request, token: &str, lives_s: u64) -> Result<Value, String> {
    if request.uri.path() != "/contoso.example/oauth2/v2.0/token" {
        return Err("another tenant".to_owned());
    }
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", "00000000-1111"),
        ("client_secret", SECRET),
        ("scope", "https://cognitiveservices.azure.com/.default"),
    ];
    realm::has(&realm::form(request)?, &fields)?;
    Ok(realm::bearer(token, lives_s))
}

/// Follows a job to its end with two tokens at least.
async fn follows(realm: &Realm, source: SourceConfig, vars: &Value, done: &Value) {
    realm.lives_s(2, 20);
    let flow = flow(source).await;
    flow.daemon.register(&json!({"job_id": "7", "vars": vars})).await;
    let two = crate::harness::eventually("there were two tokens", || async {
        (realm.given().len() >= 2 && realm.carried().contains(&realm.given()[1])).then_some(())
    });
    two.await;
    realm.answer("7", done);
    assert_eq!(flow.done("7").await["outcome"], "completed");
    assert_eq!((realm.refused(), realm.mistakes()), (0, Vec::new()));
    assert_eq!(flow.source().await["last_error"], Value::Null);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_of_google_signs_for_its_tokens() {
    let realm = Realm::start(google).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let key = |private: &str| {
        json!({
            "type": "service_account", "client_email": "bot@project.example", "private_key_id": "k-1",
            "private_key": private, "token_uri": format!("{}/token", realm.url()),
        })
    };
    std::fs::write(&file, key(PKCS8).to_string()).unwrap();
    let auth = AuthConfig { key_file: Some(file.clone()), ..AuthConfig::new(AuthType::GoogleServiceAccount) };
    follows(&realm, tasks(&realm, auth.clone()), &json!({}), &json!({"state": "done"})).await;

    // A file that holds no key says so, and works as soon as it does.
    std::fs::write(&file, key("gone").to_string()).unwrap();
    let flow = flow(tasks(&realm, auth)).await;
    realm.answer("8", &json!({"state": "done"}));
    flow.daemon.register(&json!({"job_id": "8"})).await;
    until(&flow, "unauthorized", "`private_key`: it holds no private key in PEM").await;
    std::fs::write(&file, key(PKCS8).to_string()).unwrap();
    flow.done("8").await;
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_github_follows_workflow_runs() {
    let realm = Realm::start(github).await;
    let source = SourceConfig {
        profile: SourceType::named("github-actions").unwrap(),
        base_url: Some(realm.url()),
        auth: Some(AuthConfig {
            app_id: Some("12345".to_owned()),
            installation_id: Some("77".to_owned()),
            private_key: Some(Secret::new(PKCS1)),
            ..AuthConfig::new(AuthType::GitHubApp)
        }),
        max_requests_per_second: 2000.0,
        polling: tasks(&realm, AuthConfig::new(AuthType::GitHubApp)).polling,
        ..SourceConfig::default()
    };
    let done = json!({"status": "completed", "conclusion": "success", "run_attempt": 1});
    follows(&realm, source, &json!({"owner": "acme", "repo": "app"}), &done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_is_corrected_by_the_clock_of_its_server() {
    // Its answers tell another time, and it takes assertions of that time alone.
    let realm = Realm::start(|request, token, _| {
        let assertion = request.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
        let (_, claims) = verified(&assertion)?;
        let now = now_s() + AHEAD_S;
        let exp = claims["exp"].as_i64().unwrap_or(0);
        if exp <= now || exp > now + 600 {
            return Err("the clocks differ".to_owned());
        }
        let ends = tidings::util::units::Time((now + 3600) * 1000);
        Ok(json!({"token": token, "expires_at": ends.to_string()}))
    })
    .await;
    realm.ahead_s(AHEAD_S);
    let auth = AuthConfig {
        app_id: Some("12345".to_owned()),
        installation_id: Some("77".to_owned()),
        private_key: Some(Secret::new(PKCS8)),
        ..AuthConfig::new(AuthType::GitHubApp)
    };
    let flow = flow(tasks(&realm, auth)).await;
    realm.answer("7", &json!({"state": "done"}));
    flow.daemon.register(&json!({"job_id": "7"})).await;
    flow.done("7").await;
    assert_eq!((realm.given().len(), realm.mistakes().len(), realm.refused()), (1, 1, 0));
    assert_eq!(flow.source().await["last_error"], Value::Null);
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_entra_gets_tokens_of_its_tenant() {
    let realm = Realm::start(azure).await;
    let auth = AuthConfig {
        tenant: Some("contoso.example".to_owned()),
        token_url: Some(format!("{}/contoso.example/oauth2/v2.0/token", realm.url())),
        client_id: Some("00000000-1111".to_owned()),
        client_secret: Some(Secret::new(SECRET)),
        scope: Some("https://cognitiveservices.azure.com/.default".to_owned()),
        ..AuthConfig::new(AuthType::AzureEntra)
    };
    follows(&realm, tasks(&realm, auth), &json!({}), &json!({"state": "done"})).await;
}
