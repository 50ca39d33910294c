//! `tidings demo --keep`: the page it opens onto, and the work that goes on behind it.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{Api, PATIENCE, binary, eventually};

/// Reads lines until one has the address of the page.
async fn page(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let mut said = Vec::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("it goes on").unwrap() {
        if let Some(address) = line.strip_prefix("The page        ") {
            assert!(said.iter().any(|line: &String| line.contains("were delivered")), "{said:?}");
            return address.trim().trim_end_matches('/').to_owned();
        }
        said.push(line);
    }
    panic!("no page in {said:?}");
}

fn start(mut command: Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_that_stays_has_a_page_and_makes_more_jobs() {
    let mut command = binary();
    // Nobody sees the output, so no browser is opened.
    command.args(["demo", "--keep", "--jobs", "2"]).env("DISPLAY", ":0").env("PATH", "/nowhere");
    let (mut child, mut lines) = start(command);
    let api = Api::at(page(&mut lines).await);
    let page = api.http.get(format!("{}/", api.url)).header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    eventually("more jobs are watched", || async {
        let (_, list) = api.get("/v1/watches").await;
        let labelled = list["data"].as_array()?.iter().filter(|watch| watch["labels"]["team"].is_string());
        (labelled.count() >= 2).then_some(())
    })
    .await;
    let (_, sinks) = api.get("/v1/sinks").await;
    let names: Vec<_> = sinks["data"].as_array().unwrap().iter().map(|sink| sink["name"].clone()).collect();
    assert_eq!(names, ["callback", "folder", "receiver", "unsteady"]);
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap().code(), Some(0));
}

/// Writes a program that leaves its argument in `file`.
fn opener(folder: &Path, file: &Path) {
    let program = folder.join("xdg-open");
    let text = format!("#!/bin/sh\necho \"$1\" > '{0}.new' && mv '{0}.new' '{0}'\n", file.display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The address of the page, and what a desktop was told to open until the demo had made its first job.
async fn opened(more: &str, display: &str) -> (String, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("opened");
    opener(folder.path(), &file);
    // `script` gives it a terminal.
    let mut command = Command::new("script");
    let line = format!("exec '{}' demo --keep --jobs 1 {more}", env!("CARGO_BIN_EXE_tidings"));
    command.args(["-qec", &line, "/dev/null"]).env_clear().env("DISPLAY", display);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let (child, mut lines) = start(command);
    let api = Api::at(page(&mut lines).await);
    eventually("a browser is told, or the demo goes on", || async {
        let (_, list) = api.get("/v1/watches").await;
        (file.exists() || list["data"].as_array()?.len() > 2).then_some(())
    })
    .await;
    drop(child);
    (api.url, std::fs::read_to_string(&file).ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_opens_in_the_browser_of_a_desktop_alone() {
    let (address, told) = opened("", ":0").await;
    assert_eq!(told, Some(format!("{address}/\n")));
    assert_eq!(opened("--no-open", ":0").await.1, None);
    assert_eq!(opened("", "").await.1, None);
}
