//! `tidings simulate`: the real binary, on names, files and the store of a real daemon.

use std::{fs, path::Path, process::Output, time::Duration};

use serde_json::Value;
use tidings::mock::{Ending, JobPlan};

use crate::harness::{Home, eventually, http, once, show};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn answers(folder: &Path, args: &[&str]) -> Vec<Value> {
    let ran = once(folder, &[&["simulate", "--output", "json"], args].concat()).await;
    assert_eq!(ran.status.code(), Some(0), "{}", show(&ran));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn figure(answer: &Value, policy: &str, name: &str) -> f64 {
    let lines = answer["policies"].as_array().unwrap();
    let line = lines.iter().find(|line| line["policy"] == policy).unwrap_or_else(|| panic!("{answer}"));
    line[name].as_f64().unwrap()
}

#[tokio::test]
async fn policies_are_compared_on_a_named_distribution() {
    let folder = tempfile::tempdir().unwrap();
    let named = ["normal:mean=60,sd=3", "--policies", "fixed,learned,optimum"];
    let shipped = &answers(folder.path(), &named).await[0];
    // A poll at once, one every 2.05 s to the first after the end: 1 + 60 / 2.05 + ½.
    assert!((figure(shipped, "fixed=2s", "polls") - 30.77).abs() < 0.3, "{shipped}");
    assert!((figure(shipped, "fixed=2s", "delay") - 1.05).abs() < 0.03, "{shipped}");
    assert!(figure(shipped, "optimum", "cost") <= figure(shipped, "learned", "cost"), "{shipped}");
    assert!(figure(shipped, "learned", "cost") < 0.3 * figure(shipped, "fixed=2s", "cost"), "{shipped}");

    let equal = &answers(folder.path(), &[&named[..], &["--at", "equal-polls"]].concat()).await[0];
    for policy in ["learned", "optimum"] {
        let polls = figure(equal, policy, "polls") / figure(shipped, "fixed=2s", "polls");
        assert!((polls - 1.0).abs() < 0.02, "{equal}");
    }
    let cost = &answers(folder.path(), &[&named[..], &["--at", "equal-cost"]].concat()).await[0];
    assert!(figure(cost, "fixed=2s", "cost") < figure(shipped, "fixed=2s", "cost"), "{cost}");
    assert!(figure(cost, "optimum", "cost") < figure(cost, "fixed=2s", "cost"), "{cost}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |seed| {
        let args = ["simulate", "exponential", "--policies", "waiter,learned", "--seed", seed];
        let ran = once(folder.path(), &args).await;
        assert_eq!(ran.status.code(), Some(0), "{}", show(&ran));
        text(&ran.stdout)
    };
    let first = run("3").await;
    assert!(first.starts_with("exponential\nPOLICY"), "{first}");
    assert_eq!(first, run("3").await);
    assert_ne!(first, run("4").await);
}

#[tokio::test]
async fn durations_are_read_from_a_file_and_a_bad_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..200).map(|at| format!("job_{at},{}.5\n", 30 + at % 7)).collect();
    fs::write(folder.path().join("took.csv"), format!("job,seconds\n{}", lines.concat())).unwrap();
    let file = ["--durations", "took.csv", "--policies", "fixed=5s,learned,optimum"];
    let found = answers(folder.path(), &file).await;
    assert_eq!(found[0]["jobs"], "200 jobs of took.csv");
    let [learned, optimum] = ["learned", "optimum"].map(|policy| figure(&found[0], policy, "cost"));
    assert!(optimum < learned && learned < figure(&found[0], "fixed=5s", "cost"), "{found:?}");

    let refused = async |text_of_file: &str, words: &[&str]| {
        fs::write(folder.path().join("bad.csv"), text_of_file).unwrap();
        let ran = once(folder.path(), &["simulate", "--durations", "bad.csv"]).await;
        let said = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    refused("seconds\n3\n4s\nsoon\n", &["bad.csv", "line 4", "`soon`"]).await;
    refused("seconds\n", &["no duration"]).await;
}

#[tokio::test]
async fn the_plot_is_well_formed_and_has_every_policy() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["simulate", "lognormal", "--policies", "fixed,learned,optimum", "--svg", "plot.svg"];
    let ran = once(folder.path(), &args).await;
    assert_eq!(ran.status.code(), Some(0), "{}", show(&ran));
    let picture = fs::read_to_string(folder.path().join("plot.svg")).unwrap();
    check_xml(&picture);
    for name in ["fixed=2s", "learned", "optimum", "lognormal", "polls a job", "mean delay"] {
        assert!(picture.contains(name), "{name}");
    }
    assert!(!picture.contains("NaN") && picture.matches("<polyline").count() >= 3);
}

/// Every element is closed, in the order in which they were opened, and the root is `svg`.
fn check_xml(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, content) = tag.split_once('>').unwrap();
        assert!(!content.contains('&') || content.contains(';'), "{content}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name.trim())),
            None if tag.ends_with('/') || tag.starts_with(['?', '!']) => {}
            None => open.push(tag.split_whitespace().next().unwrap()),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert_eq!(open.first().copied().unwrap_or("svg"), "svg");
    }
    assert_eq!(open, Vec::<&str>::new());
}

async fn from_store(folder: &Path, store: &str) -> Output {
    once(folder, &["simulate", "--from-store", store, "--policies", "fixed,learned", "--output", "json"])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_store_are_judged_once_its_daemon_has_stopped() {
    let home = Home::new("").await;
    let process = home.run_with(&["--data-dir", "data"]).await;
    let url = format!("{}/v1/watches", process.url);
    let mut jobs = Vec::new();
    for ending in [Ending::Completed, Ending::Failed, Ending::Completed, Ending::Cancelled] {
        // Long enough to be watched before it ends.
        let job = home.mock.add_job(JobPlan::new().ending(ending).lasting(Duration::from_secs(3)));
        let answer = http().post(&url).json(&serde_json::json!({"job_id": job})).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        jobs.push(job);
    }
    for job in jobs {
        eventually("it ends", || async {
            let answer = http().get(format!("{url}/retab/{job}")).send().await.ok()?;
            let watch: Value = answer.json().await.ok()?;
            (watch["phase"] == "done").then_some(())
        })
        .await;
    }
    let busy = from_store(home.path(), "data").await;
    let said = text(&busy.stderr);
    assert_eq!(busy.status.code(), Some(1), "{said}");
    assert!(said.contains("stop it"), "{said}");

    assert_eq!(process.terminate().await.0, Some(0));
    let ran = from_store(home.path(), "data").await;
    assert_eq!(ran.status.code(), Some(0), "{}", show(&ran));
    let found: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let counted: Vec<&str> = found.iter().filter_map(|one| one["jobs"].as_str()).collect();
    // A cancelled job does not say how long jobs take.
    assert!(counted.len() == 1 && counted[0].ends_with("(3 jobs)"), "{counted:?}");
    assert!(counted[0].starts_with("retab /v1/"), "{counted:?}");
    assert!(figure(&found[0], "fixed=2s", "polls") >= 1.0);

    let missing = from_store(home.path(), "nowhere").await;
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    assert!(!home.path().join("nowhere").exists(), "nothing was made");
}
