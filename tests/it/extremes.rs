//! Every number, duration and size of the configuration at its extremes: it is refused, or the daemon works with it.

use std::path::Path;

use serde_json::json;
use tidings::config::{self, FlagOverrides, Loader};

use crate::harness::{Daemon, mock};

/// What people, generators and hostile hands write.
const EXTREMES: [&str; 14] = [
    "0",
    "-1",
    "1e-300",
    "1e300",
    "nan",
    "inf",
    "-inf",
    "18446744073709551615",
    "0s",
    "-5s",
    "1ns",
    "3650000000d",
    "0B",
    "18446744073709551615B",
];

/// The variable that sets a key in a configuration with the source `retab` and these sinks, and its value.
fn variable(key: &str, sink: &str, value: &str) -> (String, String) {
    let (key, value) = match key.strip_suffix(".[]") {
        // Statuses of HTTP are numbers, everything else is text.
        Some(list) if list.contains("status_http") => (list, format!("[{value}]")),
        Some(list) => (list, format!("[\"{value}\"]")),
        None => (key, value.to_owned()),
    };
    let key = key
        .replace("kinds.*", "kinds.jobs")
        .replace("budgets.*", "budgets.shared")
        .replace("sources.*", "sources.retab")
        .replace("sinks.*", &format!("sinks.{sink}"));
    (format!("TIDINGS_{}", key.to_uppercase().replace('.', "__")), value)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_extreme_is_refused_or_works() {
    let mock = mock().await;
    let (mut refused, mut worked) = (0, 0);
    for (key, least, most) in config::bounds() {
        let sinks: &[&str] = match key {
            "sinks.*.timeout" => &["hook"],
            _ if key.starts_with("sinks") => &["hook", "files"],
            _ => &["hook"],
        };
        for sink in sinks {
            let ends = [least.as_str(), most.as_str()];
            for value in EXTREMES.into_iter().chain(ends) {
                let folder = tempfile::tempdir().unwrap();
                let (name, set) = variable(key, sink, value);
                match load(folder.path(), &mock.base_url(), &name, &set) {
                    Err(error) => {
                        let message = error.to_string();
                        let last = key.trim_end_matches(".[]").rsplit('.').next().unwrap();
                        assert!(message.contains(last) && message.contains(&name), "{message}");
                        assert!(!ends.contains(&value), "{name}={set}: {message}");
                        refused += 1;
                    }
                    Ok(config) => {
                        let daemon = Daemon::start(config).await;
                        let (status, answer) = daemon.post("/v1/watches", &json!({"job_id": "job_1"})).await;
                        // Where nearly no free space is enough a registration is refused in words, and nothing else.
                        assert!(status == 202 || key == "store.min_free", "{name}={set}: {status} {answer}");
                        assert_eq!(daemon.get("/v1/watches").await.0, 200);
                        daemon.stop().await;
                        worked += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 200 && worked >= 2 * config::bounds().count(), "{refused} {worked}");
}

fn load(
    folder: &Path,
    base_url: &str,
    name: &str,
    value: &str,
) -> Result<config::Config, config::ConfigError> {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"{}\"\n[sources.retab]\nbase_url = {base_url:?}\n\
         [sinks.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n[sinks.files]\ntype = \"disk\"\ndir = \"{}\"\n",
        folder.join("data").display(),
        folder.join("out").display(),
    );
    // Some keys mean something beside others alone; intervals are not to cross.
    let more = match name.rsplit("__").next() {
        Some("INTERVAL") if name.contains("POLLING") => "[sources.retab.polling]\nstrategy = \"fixed\"\n",
        Some("TOLERANCE") => {
            "[sources.retab.hooks]\nverify = \"standard-webhooks\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             id_at = [\"/id\"]\n"
        }
        Some("STEP") if name.contains("KINDS") => "[sources.retab.kinds.jobs.list_next]\nparam = \"page\"\n",
        Some("STEP") => "[sources.retab.list_next]\nparam = \"page\"\n",
        Some("MIN_INTERVAL") => "[sources.retab.polling]\nmax_interval = \"30d\"\n",
        Some("MAX_INTERVAL" | "MAX_DELAY") => "[sources.retab.polling]\nmin_interval = \"1ms\"\n",
        _ => "",
    };
    std::fs::write(folder.join("tidings.toml"), text + more).unwrap();
    Loader::new(FlagOverrides::default(), [(name, value)], folder).load().map(|loaded| loaded.config)
}
