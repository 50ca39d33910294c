//! A stored job is read in part.

use reqwest::header::HeaderMap;
use tidings::{mock::JobPlan, util::units::Size};

use crate::harness::{Daemon, Flow};

/// Asks for a job with a header or two.
async fn ask(daemon: &Daemon, job: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = daemon.http.get(format!("{}/v1/watches/retab/{job}/job", daemon.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn a_job_is_read_in_part_from_memory_and_from_its_file() {
    let flow = Flow::quick(|_| {}).await;
    for plan in [JobPlan::new(), JobPlan::new().size(Size(600_000))] {
        let job = flow.mock.add_job(plan);
        flow.daemon.watch(&job).await;
        flow.daemon.finished(&job).await;
        let (status, headers, whole) = ask(&flow.daemon, &job, &[]).await;
        let (size, etag) = (whole.len(), text(&headers, "etag").to_owned());
        assert_eq!((status, text(&headers, "accept-ranges")), (200, "bytes"));
        assert_eq!(
            (text(&headers, "content-length"), text(&headers, "content-range")),
            (size.to_string().as_str(), "")
        );
        assert_eq!(whole, flow.mock.full_body(&job).unwrap());
        let middle = size / 2;
        for (range, first, end) in [
            ("bytes=0-99".to_owned(), 0, 100),
            (format!("bytes={middle}-{}", middle + 9), middle, middle + 10),
            (format!("bytes={middle}-"), middle, size),
            ("bytes=-7".to_owned(), size - 7, size),
            (format!("bytes=0-{}", size + 5), 0, size),
        ] {
            let (status, headers, part) =
                ask(&flow.daemon, &job, &[("range", &range), ("if-range", &etag)]).await;
            assert_eq!((status, part.as_slice()), (206, &whole[first..end]), "{range}");
            assert_eq!(text(&headers, "content-range"), format!("bytes {first}-{}/{size}", end - 1));
            assert_eq!(text(&headers, "content-length"), (end - first).to_string());
            assert_eq!(
                (text(&headers, "etag"), text(&headers, "content-type")),
                (etag.as_str(), "application/json")
            );
        }
        let behind = format!("bytes={size}-");
        let (status, headers, problem) = ask(&flow.daemon, &job, &[("range", &behind)]).await;
        assert_eq!((status, text(&headers, "content-range")), (416, format!("bytes */{size}").as_str()));
        let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["code"], "range_not_satisfiable");
        for header in [
            [("range", "bytes=0-9"), ("if-range", "\"another\"")],
            [("range", "bytes=0-1,4-5"), ("accept", "*/*")],
        ] {
            let (status, _, answer) = ask(&flow.daemon, &job, &header).await;
            assert_eq!((status, answer), (200, whole.clone()), "{header:?}");
        }
        let (status, ..) = ask(&flow.daemon, &job, &[("range", "bytes=0-9"), ("if-none-match", &etag)]).await;
        assert_eq!(status, 304);
    }
    flow.stop().await;
}
