//! The page for a browser: what is served, with which headers, to whom, and behind a prefix.

use std::io::Read as _;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tidings::{config::Config, util::secret::Secret};
use tokio::task::JoinHandle;

use crate::harness::{Daemon, Home, config, http, mock, serve};

/// What a browser sends when somebody opens an address.
const BROWSER: (&str, &str) =
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8");

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'self'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const SANDBOX: &str = "default-src 'none'; sandbox";

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_page(&self) -> bool {
        self.status == 200 && self.header("content-type") == "text/html; charset=utf-8"
    }

    /// The addresses of the scripts and styles in a page.
    fn links(&self) -> Vec<String> {
        let links = self.text().split('"').filter_map(|part| part.strip_prefix("./"));
        links.map(str::to_owned).collect()
    }
}

async fn ask(method: &str, url: &str, headers: &[(&str, &str)]) -> Answered {
    let mut request = http().request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answered { status, headers, body: answer.bytes().await.unwrap().to_vec() }
}

async fn daemon(folder: &std::path::Path, change: impl FnOnce(&mut Config)) -> Daemon {
    let mut config = config(folder, &mock().await);
    change(&mut config);
    Daemon::start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_the_page_with_a_strict_policy() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let root = format!("{}/", daemon.url);
    let page = ask("GET", &root, &[BROWSER]).await;
    assert!(page.is_page(), "{} {}", page.status, page.text());
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("cache-control", "no-cache"),
        ("vary", "accept, x-forwarded-prefix"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    assert!(page.text().contains("<title>tidings</title>"), "{}", page.text());
    assert!(!page.text().contains("<base"), "no prefix, no base: {}", page.text());
    // It names nothing of another server.
    let outside = page.text().replace("http://www.w3.org/", "");
    assert!(!outside.contains("//"), "{}", page.text());

    let tag = page.header("etag").to_owned();
    for known in [tag.clone(), format!("\"old\", W/{tag}"), "*".to_owned()] {
        let same = ask("GET", &root, &[BROWSER, ("if-none-match", &known)]).await;
        assert_eq!((same.status, same.body.len()), (304, 0), "{known}");
        assert_eq!(same.header("etag"), tag);
        assert_eq!(same.header("content-security-policy"), POLICY);
        assert_eq!(same.header("vary"), "accept, x-forwarded-prefix");
    }
    assert!(ask("GET", &root, &[BROWSER, ("if-none-match", "\"old\"")]).await.is_page());

    let head = ask("HEAD", &root, &[BROWSER]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), page.body.len().to_string());
    assert_eq!(head.header("etag"), tag);
    assert_eq!(ask("POST", &root, &[BROWSER]).await.status, 405);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_address_of_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let root = format!("{}/", daemon.url);
    for accept in
        ["*/*", "application/json", "application/json, text/plain, */*", "text/html;q=0", "image/png"]
    {
        let answer = ask("GET", &root, &[("accept", accept)]).await;
        assert_eq!(answer.status, 200, "{accept}");
        let expected =
            json!({"name": "tidings", "version": env!("CARGO_PKG_VERSION"), "api": "/openapi.json"});
        assert_eq!(answer.json(), expected, "{accept}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("vary"), "accept, x-forwarded-prefix");
        assert_eq!(answer.header("content-security-policy"), SANDBOX);
    }
    let document = ask("GET", &format!("{}/openapi.json", daemon.url), &[]).await;
    assert_eq!(document.status, 200);
    let head = ask("HEAD", &root, &[]).await;
    assert_eq!((head.status, head.header("content-type")), (200, "application/json"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_page_are_compressed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let links = ask("GET", &format!("{}/", daemon.url), &[BROWSER]).await.links();
    let mut types: Vec<String> = Vec::new();
    for link in &links {
        let url = format!("{}/{link}", daemon.url);
        let plain = ask("GET", &url, &[]).await;
        let packed = ask("GET", &url, &[("accept-encoding", "gzip, deflate, br, zstd")]).await;
        assert_eq!((plain.status, packed.status), (200, 200), "{link}");
        assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.body, "{link}");
        assert_ne!(plain.header("etag"), packed.header("etag"), "other bytes, another tag");
        let kept = match link.starts_with("ui/assets/") {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        for answer in [&plain, &packed] {
            assert_eq!(answer.header("cache-control"), kept, "{link}");
            assert_eq!(answer.header("vary"), "accept-encoding");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("content-security-policy"), POLICY);
            assert_eq!(answer.header("content-length"), answer.body.len().to_string());
            let tag = answer.header("etag");
            let coding = if answer.header("content-encoding") == "gzip" { "gzip" } else { "identity" };
            let same = ask("GET", &url, &[("accept-encoding", coding), ("if-none-match", tag)]).await;
            assert_eq!((same.status, same.body.len(), same.header("content-encoding")), (304, 0, ""));
        }
        let head = ask("HEAD", &url, &[("accept-encoding", "gzip")]).await;
        assert_eq!(head.header("content-length"), packed.body.len().to_string());
        types.push(plain.header("content-type").to_owned());
    }
    for wanted in ["text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/svg+xml"] {
        assert!(types.iter().any(|given| given == wanted), "{wanted} of {types:?}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_else_below_ui() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    for path in [
        "/ui",
        "/ui/",
        "/ui/index.html",
        "/ui/assets",
        "/ui/assets/",
        "/ui/assets/none.js",
        "/ui/favicon.svg/",
        "/ui//favicon.svg",
        "/ui/%2e%2e/Cargo.toml",
        "/ui/..%2f..%2fCargo.toml",
        "/ui/%2fetc%2fpasswd",
        "/ui/%00",
        "/index.html",
        "/favicon.svg",
    ] {
        let answer = ask("GET", &format!("{}{path}", daemon.url), &[BROWSER]).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("no_such_route")), "{path}");
        assert_eq!(answer.header("content-security-policy"), SANDBOX, "{path}");
    }
    let unreadable = ask("GET", &format!("{}/ui/%ff", daemon.url), &[BROWSER]).await;
    assert_eq!((unreadable.status, unreadable.json()["code"].as_str()), (400, Some("bad_path")));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_another_site_opens_the_page_and_reads_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let link = ask("GET", &format!("{}/", daemon.url), &[BROWSER]).await.links().remove(0);
    let navigation =
        [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-user", "?1")];
    let ask_as = async |path: &str, site: &str, more: &[(&str, &str)]| {
        let headers: Vec<_> = [BROWSER, ("sec-fetch-site", site)].iter().chain(more).copied().collect();
        ask("GET", &format!("{}{path}", daemon.url), &headers).await
    };
    for site in ["cross-site", "same-site", "same-origin", "none"] {
        assert!(ask_as("/", site, &navigation).await.is_page(), "{site}");
    }
    for (mode, destination) in [
        ("navigate", "iframe"),
        ("navigate", "embed"),
        ("navigate", "object"),
        ("no-cors", "script"),
        ("no-cors", "image"),
        ("cors", "empty"),
        ("", "document"),
    ] {
        let fetch = [("sec-fetch-mode", mode), ("sec-fetch-dest", destination)];
        for path in ["/", &format!("/{link}")] {
            let answer = ask_as(path, "cross-site", &fetch).await;
            assert_eq!(
                (answer.status, answer.json()["code"].as_str()),
                (403, Some("cross_origin")),
                "{fetch:?}"
            );
        }
    }
    for path in ["/v1/watches", "/v1/events", "/openapi.json", "/metrics", "/proxy/retab/v1/jobs"] {
        let answer = ask_as(path, "cross-site", &navigation).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("cross_origin")), "{path}");
    }
    // The page's own requests.
    let fetch = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "script")];
    assert_eq!(ask_as(&format!("/{link}"), "same-origin", &fetch).await.status, 200);
    // A name that was rebound by DNS, a foreign origin, and another method.
    let rebound = [("host", "rebound.example"), navigation[0], navigation[1]];
    for path in ["/", &format!("/{link}")] {
        let answer = ask_as(path, "none", &rebound).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("host_refused")), "{path}");
        let foreign =
            ask("GET", &format!("{}{path}", daemon.url), &[BROWSER, ("origin", "http://evil.example")]).await;
        assert_eq!(foreign.status, 403, "{path}");
    }
    let headers: Vec<_> = [("sec-fetch-site", "cross-site")].into_iter().chain(navigation).collect();
    assert_eq!(ask("POST", &format!("{}/", daemon.url), &headers).await.status, 403);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_front_is_told_to_pass_the_stream_on_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let stream = daemon.http.get(format!("{}/v1/events", daemon.url)).header("accept", "text/event-stream");
    let answer = stream.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    drop(answer);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_no_token_and_its_data_does() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |config| {
        config.server.token = Some(Secret::new("door-key"));
        config.server.allowed_hosts = vec!["tidings.example".to_owned()];
    })
    .await;
    let page = ask("GET", &format!("{}/", daemon.url), &[BROWSER, ("host", "tidings.example")]).await;
    assert!(page.is_page());
    for link in page.links() {
        let file = ask("GET", &format!("{}/{link}", daemon.url), &[("host", "tidings.example")]).await;
        assert_eq!(file.status, 200, "{link}");
    }
    for path in ["/openapi.json", "/v1/watches", "/v1/events", "/v1/sources", "/metrics", "/ui", "/uix"] {
        assert_eq!(ask("GET", &format!("{}{path}", daemon.url), &[BROWSER]).await.status, 401, "{path}");
    }
    assert_eq!(ask("POST", &format!("{}/", daemon.url), &[]).await.status, 401);
    assert_eq!(ask("DELETE", &format!("{}/ui/favicon.svg", daemon.url), &[]).await.status, 401);
    let root = format!("{}/", daemon.url);
    let stranger = ask("GET", &root, &[]).await;
    assert_eq!(
        stranger.json(),
        json!({"name": "tidings", "api": "/openapi.json"}),
        "no version for strangers"
    );
    let caller = ask("GET", &root, &[("authorization", "Bearer door-key")]).await;
    assert_eq!(caller.json()["version"], env!("CARGO_PKG_VERSION"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_off_leaves_the_name_of_the_document() {
    let home = Home::new("[page]\nenabled = false\n").await;
    let process = home.run().await;
    let off = ask("GET", &format!("{}/", process.url), &[BROWSER]).await;
    assert_eq!((off.status, off.json()["api"].as_str()), (200, Some("/openapi.json")));
    assert_eq!(ask("GET", &format!("{}/ui/favicon.svg", process.url), &[]).await.status, 404);
    home.configure("[page]\nprefix = \"/jobs\"\n");
    let (status, done) = process.post("/v1/reload", &json!({})).await;
    assert_eq!((status, &done["changed"], &done["restart"]), (200, &json!(["page"]), &json!([])), "{done}");
    let on = ask("GET", &format!("{}/", process.url), &[BROWSER]).await;
    assert!(on.is_page() && on.text().contains("<base href=\"/jobs/\">"), "{}", on.text());
    assert_eq!(ask("GET", &format!("{}/ui/favicon.svg", process.url), &[]).await.status, 200);
    let (_, log) = process.terminate().await;
    assert!(!log.contains("serving the page"), "{log}");
    let process = home.run().await;
    let (url, log) = (process.url.clone(), process.log());
    assert!(log.contains(&format!("serving the page page=\"{url}/\"")), "{log}");
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_is_no_plain_path_is_a_mistake() {
    let home = Home::new("[page]\nprefix = \"https://example.com/jobs\"\nenable = true\n").await;
    let output = home.once(&["config", "check"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("page.prefix") && said.contains("expected a path such as /tidings"), "{said}");
    assert!(said.contains("page.enable") && said.contains("did you mean `enabled`?"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_serves_no_page() {
    let home = Home::new("[server]\nadmin_listen = \"127.0.0.1:0\"\n").await;
    let process = home.run().await;
    let log = process.log();
    let admin = log.lines().filter(|line| line.contains("listening")).find_map(|line| {
        let address = line.split("address=").nth(1)?.split_whitespace().next()?;
        (!process.url.ends_with(address)).then(|| format!("http://{address}"))
    });
    let admin = admin.unwrap_or_else(|| panic!("two addresses in {log}"));
    assert_eq!(ask("GET", &format!("{admin}/healthz"), &[]).await.status, 200);
    for path in ["/", "/ui/favicon.svg"] {
        assert_eq!(ask("GET", &format!("{admin}{path}"), &[BROWSER]).await.status, 404, "{path}");
    }
    process.terminate().await;
}

/// A reverse proxy that serves a daemon under `/team/tidings`, strips that, and may say so.
struct ReverseProxy {
    url: String,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Rule {
    upstream: String,
    says_so: bool,
}

const PREFIX: &str = "/team/tidings";

impl ReverseProxy {
    async fn start(daemon: &Daemon, says_so: bool) -> Self {
        let rule = Rule { upstream: daemon.url.clone(), says_so };
        let (address, server) = serve(axum::Router::new().fallback(pass_on).with_state(rule)).await;
        Self { url: format!("http://{address}"), server }
    }
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass_on(State(rule): State<Rule>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().unwrap().as_str();
    let Some(rest) = target.strip_prefix(PREFIX) else {
        return (axum::http::StatusCode::NOT_FOUND, "not behind the prefix").into_response();
    };
    let slash = if rest.starts_with('/') { "" } else { "/" };
    let mut request = http().request(parts.method, format!("{}{slash}{rest}", rule.upstream));
    for (name, value) in &parts.headers {
        if name != "host" {
            request = request.header(name, value);
        }
    }
    if rule.says_so {
        request = request.header("x-forwarded-prefix", PREFIX);
    }
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let answer = request.body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    *response.headers_mut().unwrap() = answer.headers().clone();
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// Asks for a page behind a proxy as a browser does, and for everything that it links to.
async fn open_behind(proxy: &ReverseProxy, path: &str) {
    let opened = format!("{}{path}", proxy.url);
    let page = ask("GET", &opened, &[BROWSER]).await;
    assert!(page.is_page(), "{path}: {}", page.text());
    // As a browser: links go from the base, which goes from the address.
    let opened = url::Url::parse(&opened).unwrap();
    let base = page.text().split("<base href=\"").nth(1).and_then(|rest| rest.split('"').next());
    let base = base.map_or_else(|| opened.clone(), |base| opened.join(base).unwrap());
    let links = page.links();
    assert!(links.len() >= 3, "{}", page.text());
    for link in links.iter().map(String::as_str).chain(["v1/watches", "openapi.json"]) {
        let url = base.join(&format!("./{link}")).unwrap();
        assert_eq!(ask("GET", url.as_str(), &[]).await.status, 200, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_that_strips_a_prefix_links_stay_right() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let telling = ReverseProxy::start(&daemon, true).await;
    open_behind(&telling, PREFIX).await;
    open_behind(&telling, &format!("{PREFIX}/")).await;
    let named = ask("GET", &format!("{}{PREFIX}/", telling.url), &[]).await;
    assert_eq!(named.json()["api"], format!("{PREFIX}/openapi.json"));
    // Relative links need no prefix where the address ends with a slash.
    let silent = ReverseProxy::start(&daemon, false).await;
    open_behind(&silent, &format!("{PREFIX}/")).await;
    daemon.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let configured =
        self::daemon(folder.path(), |config| config.page.prefix = Some(format!("{PREFIX}/"))).await;
    let silent = ReverseProxy::start(&configured, false).await;
    open_behind(&silent, PREFIX).await;
    open_behind(&silent, &format!("{PREFIX}/")).await;
    // The configuration wins.
    let other =
        ask("GET", &format!("{}/", configured.url), &[BROWSER, ("x-forwarded-prefix", "/other")]).await;
    assert!(other.text().contains(&format!("<base href=\"{PREFIX}/\">")), "{}", other.text());
    configured.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_is_no_plain_path_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), |_| {}).await;
    let root = format!("{}/", daemon.url);
    let plain = ask("GET", &root, &[BROWSER]).await;
    let long = format!("/{}", "a".repeat(300));
    for hostile in [
        "//evil.example",
        "https://evil.example",
        "/a//b",
        "/../a",
        "/a/..",
        "/.",
        "/",
        "",
        "a",
        "javascript:alert(1)",
        "/\"><script src=//evil.example></script>",
        "/a'onload='x",
        "/a%22",
        "/\\evil.example",
        "/a?b",
        "/a#b",
        "/a, /b",
        "/a b",
        &long,
    ] {
        let answer = ask("GET", &root, &[BROWSER, ("x-forwarded-prefix", hostile)]).await;
        assert!(answer.is_page(), "{hostile}");
        assert_eq!(answer.body, plain.body, "{hostile}");
        assert_eq!(answer.header("etag"), plain.header("etag"), "{hostile}");
        let named = ask("GET", &root, &[("x-forwarded-prefix", hostile)]).await;
        assert_eq!(named.json()["api"], "/openapi.json", "{hostile}");
    }
    let two = ask("GET", &root, &[BROWSER, ("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "/b")]).await;
    assert_eq!(two.body, plain.body, "two prefixes are none");
    let good = ask("GET", &root, &[BROWSER, ("x-forwarded-prefix", "/a-1/b_2")]).await;
    assert_eq!(good.text(), plain.text().replacen("<head>", "<head>\n    <base href=\"/a-1/b_2/\">", 1));
    assert_ne!(good.header("etag"), plain.header("etag"));
    assert_eq!(good.header("vary"), "accept, x-forwarded-prefix");
    daemon.stop().await;
}
