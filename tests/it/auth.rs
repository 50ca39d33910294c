//! Credentials that are made for a source: the servers that give them verify what they are asked with, and the job API takes
//! nothing but what they gave.

mod aws;
mod realm;
mod schemes;
mod secrecy;

use serde_json::{Value, json};
use tidings::{
    deliver::Format,
    upstream::{AuthConfig, AuthType, ClientAuth, Outcomes, SourceConfig, SourceType},
    util::{secret::Secret, units::HumanDuration},
};

use self::realm::{Fault, Realm};
use crate::harness::{Flow, Setup, Site, eventually, together};

/// The secret of the client.
const SECRET: &str = "s3cret/of the client+";

/// A source at a realm, described whole, with quick polls.
fn tasks(realm: &Realm, auth: AuthConfig) -> SourceConfig {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut source = SourceConfig {
        profile: SourceType::named("custom").unwrap(),
        base_url: Some(realm.url()),
        auth: Some(auth),
        status_path: Some("/tasks/{id}".to_owned()),
        status_at: Some(words(&["/state"])),
        outcomes: Some(Outcomes {
            pending: words(&["busy"]),
            completed: words(&["done"]),
            failed: words(&["broken"]),
            ..Outcomes::default()
        }),
        max_requests_per_second: 2000.0,
        timeout: HumanDuration::secs(2),
        ..SourceConfig::default()
    };
    source.polling.min_interval = HumanDuration::millis(20);
    source.polling.max_interval = Some(HumanDuration::millis(60));
    source
}

/// A client of a realm.
fn client(realm: &Realm) -> AuthConfig {
    AuthConfig {
        token_url: Some(format!("{}/token", realm.url())),
        client_id: Some("app: one".to_owned()),
        client_secret: Some(Secret::new(SECRET)),
        scope: Some("jobs.read jobs.list".to_owned()),
        ..AuthConfig::new(AuthType::OAuth2)
    }
}

/// A daemon with this source alone, which is called `jobs`.
async fn flow(source: SourceConfig) -> Flow {
    Setup::new().await.jobs_at(source).format(Format::Raw).start().await
}

/// Waits until the first source is in this state, and returns it.
async fn until(flow: &Flow, state: &str, reason: &str) -> Value {
    eventually(&format!("the source is {state}: {reason}"), || async {
        let source = flow.source().await;
        let said = source["last_error"].as_str().unwrap_or_default();
        (source["state"] == state && said.contains(reason)).then_some(source)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_before_they_end_and_no_poll_fails() {
    let realm = Realm::start(realm::oauth2).await;
    // It ends sooner than the server would end it, so that no slow machine decides this test.
    realm.lives_s(2, 20);
    let flow = flow(tasks(&realm, client(&realm))).await;
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    eventually("there were three tokens", || async { (realm.given().len() >= 3).then_some(()) }).await;
    let carried = eventually("all were used", || async {
        let carried = realm.carried();
        realm.given().iter().take(3).all(|token| carried.contains(token)).then_some(carried)
    })
    .await;
    // A token is not used again after the next one was.
    let mut order = carried.clone();
    order.dedup();
    let mut once = order.clone();
    once.sort();
    once.dedup();
    assert_eq!(order.len(), once.len(), "{order:?}");
    assert_eq!((realm.refused(), realm.mistakes()), (0, Vec::new()));
    assert_eq!(flow.source().await["last_error"], Value::Null);
    realm.job("t1", "done");
    assert_eq!(flow.done("t1").await["outcome"], "completed");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_jobs_ask_for_one_token() {
    let realm = Realm::start(realm::oauth2).await;
    realm.slow_ms(200);
    let flow = flow(tasks(&realm, client(&realm))).await;
    for job in 0..100 {
        realm.job(&format!("t{job}"), "done");
        flow.daemon.register(&json!({"job_id": format!("t{job}")})).await;
    }
    for job in 0..100 {
        flow.done(&format!("t{job}")).await;
    }
    assert_eq!((realm.given().len(), realm.refused()), (1, 0));
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_back_is_replaced_and_the_source_stays_well() {
    let realm = Realm::start(realm::oauth2).await;
    let flow = flow(tasks(&realm, client(&realm))).await;
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    for tokens in 1..4 {
        let used = eventually("the newest token is used", || async {
            let given = realm.given();
            (given.len() == tokens && realm.carried().last() == given.last()).then_some(())
        });
        used.await;
        realm.take_back();
    }
    eventually("there is a fourth", || async { (realm.given().len() == 4).then_some(()) }).await;
    realm.job("t1", "done");
    flow.done("t1").await;
    let source = flow.source().await;
    assert_eq!((&source["state"], &source["last_error"]), (&json!("ok"), &Value::Null), "{source}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_source_never_takes_makes_it_unauthorized() {
    let realm = Realm::start(realm::oauth2).await;
    let flow = flow(tasks(&realm, client(&realm))).await;
    realm.stranger(true);
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    until(&flow, "unauthorized", "answered 401").await;
    assert_eq!(realm.given().len(), 1, "another one would be refused as well");
    realm.stranger(false);
    realm.job("t1", "done");
    flow.done("t1").await;
    flow.stop().await;
}

/// Whatever the server of tokens does, the source says why it has none, loses no watch and recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_gives_no_token_makes_the_source_unauthorized_with_the_reason() {
    let cases = [
        (Fault::Refuse, "it answered 401: invalid_client: no such client [redacted]"),
        (Fault::Down, "it answered 503"),
        (Fault::Hang, "no answer within 2s"),
        (Fault::Drip, "no answer within 2s"),
        (Fault::Huge, "larger than 1 MiB"),
        (Fault::Nonsense, "the answer is no JSON"),
        (Fault::NoToken, "no `access_token`"),
        (Fault::Redirect, "it answered 307; redirects are not followed"),
        (Fault::Cut, "the connection broke"),
    ];
    Box::pin(together(cases.map(|(fault, reason)| async move {
        let realm = Realm::start(realm::oauth2).await;
        realm.fault(Some(fault));
        let flow = flow(tasks(&realm, client(&realm))).await;
        flow.daemon.register(&json!({"job_id": "t1"})).await;
        let source = until(&flow, "unauthorized", reason).await;
        let said = source.to_string();
        assert!(said.contains("no credentials from http://127.0.0.1:"), "{fault:?}: {said}");
        assert!(!said.contains("s3cret"), "{fault:?}: {said}");
        assert_eq!(realm.polls(), 0, "{fault:?}: nothing goes out without a token");
        realm.job("t1", "done");
        realm.fault(None);
        assert_eq!(flow.done("t1").await["outcome"], "completed", "{fault:?}");
        assert_eq!(realm.elsewhere(), 0, "{fault:?}: no secret follows a redirect");
        assert_eq!(flow.source().await["state"], "ok", "{fault:?}");
        flow.stop().await;
    })))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_while_a_token_works_is_not_noticed_by_any_job() {
    let realm = Realm::start(realm::oauth2).await;
    realm.lives_s(30, 60);
    let flow = flow(tasks(&realm, client(&realm))).await;
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    eventually("a token works", || async { (realm.polls() > 0).then_some(()) }).await;
    realm.fault(Some(Fault::Down));
    realm.job("t1", "done");
    flow.done("t1").await;
    assert_eq!(flow.source().await["state"], "ok");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_corrected_in_its_file_is_used_at_once() {
    let realm = Realm::start(realm::oauth2).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "another one\n").unwrap();
    let auth = AuthConfig { client_secret: None, client_secret_file: Some(file.clone()), ..client(&realm) };
    let flow = flow(tasks(&realm, auth)).await;
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    until(&flow, "unauthorized", "it answered 401").await;
    std::fs::remove_file(&file).unwrap();
    until(&flow, "unauthorized", "cannot be used").await;
    realm.job("t1", "done");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    assert_eq!(flow.done("t1").await["outcome"], "completed");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_tokens_is_asked_through_the_proxy_of_the_source() {
    let (realm, proxy) = (Realm::start(realm::oauth2).await, Site::start().await);
    let mut source = tasks(&realm, client(&realm));
    source.proxy.outgoing = Some(proxy.url());
    let flow = flow(source).await;
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    until(&flow, "unauthorized", "it answered 404").await;
    assert!(proxy.all().iter().all(|request| request.uri.path() == "/token"), "{:?}", proxy.all());
    assert!(realm.given().is_empty());
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_another_origin_never_gets_the_token() {
    let (realm, elsewhere) = (Realm::start(realm::oauth2).await, Site::start().await);
    let source = SourceConfig { result_path: Some("{/link}".to_owned()), ..tasks(&realm, client(&realm)) };
    let open = |config: &mut tidings::config::Config| {
        config.callbacks.allow = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let flow = Setup::new().await.jobs_at(source).format(Format::Raw).change(open).start().await;
    realm.answer("t1", &json!({"state": "done", "link": format!("{}/files/1?sig=x", elsewhere.url())}));
    elsewhere.json("/files/1?sig=x", "[1]");
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    flow.done("t1").await;
    let asked = elsewhere.requests("/files/1?sig=x");
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|request| !request.headers.contains_key("authorization")), "{asked:?}");
    assert_eq!(flow.receiver.at_least(1).await.remove(0).body, b"[1]");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_adds_the_token_and_answers_nothing_from_what_is_known() {
    let realm = Realm::start(realm::oauth2).await;
    let mut source = tasks(&realm, client(&realm));
    source.proxy.inject_key = true;
    let flow = flow(source).await;
    realm.job("t1", "done");
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    flow.done("t1").await;
    let url = format!("{}/proxy/jobs/tasks/t1", flow.daemon.url);
    let ask = || async {
        let answer = flow.daemon.http.get(&url).header("authorization", "Bearer of-the-caller").send().await;
        answer.unwrap()
    };
    let polls = realm.polls();
    for round in 1..4 {
        let answer = ask().await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("cache-status"), "{:?}", answer.headers());
        assert_eq!(realm.polls(), polls + round, "the source itself answers");
    }
    // A caller notices that a token was taken back, and its next request has another one.
    realm.take_back();
    assert_eq!(ask().await.status(), 401);
    assert_eq!(ask().await.status(), 200);
    assert_eq!(realm.given().len(), 2);
    realm.take_back();
    realm.fault(Some(Fault::Refuse));
    assert_eq!(ask().await.status(), 401);
    let refused = ask().await;
    assert_eq!(refused.status(), 503, "{:?}", refused.headers());
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "key_unreadable", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("invalid_client"), "{problem}");
    flow.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_say_who_it_is_in_the_body() {
    let realm = Realm::start(realm::oauth2_in_the_body).await;
    let auth = AuthConfig { client_auth: Some(ClientAuth::Post), ..client(&realm) };
    let flow = flow(tasks(&realm, auth)).await;
    realm.job("t1", "done");
    flow.daemon.register(&json!({"job_id": "t1"})).await;
    flow.done("t1").await;
    assert_eq!((realm.given().len(), realm.mistakes()), (1, Vec::new()));
    flow.stop().await;
}
