//! Where the daemon listens, and under which names it answers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::harness::{Process, binary, eventually, http, mock, once, show, write_config};

const TOKEN: &str = "a-token-of-thirty-two-characters";

/// `tidings run` with these arguments, in a folder whose file says `more` of the server, on every interface.
async fn run_everywhere(folder: &std::path::Path, more: &str, args: &[&str]) -> (Process, u16) {
    let mock = mock().await;
    write_config(folder, &mock.base_url(), &format!("[server]\ntoken = \"{TOKEN}\"\n{more}"));
    let mut command = binary();
    command.args(["run", "--listen", "[::]:0"]).args(args).current_dir(folder);
    let process = Process::spawn(command).await;
    let port = process.url.rsplit(':').next().unwrap().parse().unwrap();
    eventually("it is ready", || async {
        let answer = http().get(format!("http://127.0.0.1:{port}/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    (process, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_interface_is_reached_over_both_versions_of_ip() {
    let folder = tempfile::tempdir().unwrap();
    let (process, port) = run_everywhere(folder.path(), "", &[]).await;
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    if has_ipv6 {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }
    for address in addresses {
        let url = format!("http://{address}/v1/watches");
        let answer = http().get(url).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{address}");
    }
    // A client beside it finds it by the address that it was given.
    let asked = binary()
        .args(["--url", &format!("[::]:{port}"), "healthcheck"])
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    assert_eq!(asked.status.code(), Some(0), "{}", show(&asked));
    assert_eq!(process.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_hosts_of_the_command_line_are_added_to_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["--allowed-host", "hub", "--allowed-host", "hub.jobs.svc"];
    let (process, port) = run_everywhere(folder.path(), "hosts = [\"jobs.example.com\"]\n", &names).await;
    let status = async |host: &str| {
        let url = format!("http://127.0.0.1:{port}/v1/watches");
        http().get(url).bearer_auth(TOKEN).header("host", host).send().await.unwrap().status().as_u16()
    };
    for host in ["jobs.example.com", "hub", "hub.jobs.svc", "HUB.jobs.svc.:8787", "localhost"] {
        assert_eq!(status(host).await, 200, "{host}");
    }
    for host in ["hub.jobs", "other.example.com"] {
        assert_eq!(status(host).await, 403, "{host}");
    }
    assert_eq!(process.terminate().await.0, Some(0));
    let refused = once(folder.path(), &["run", "--allowed-host", "https://hub/"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    assert!(show(&refused).contains("--allowed-host"), "{}", show(&refused));
}
