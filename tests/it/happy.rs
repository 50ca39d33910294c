//! A job id goes in, the finished job comes out.

use tidings::mock::{Ending, JobPlan};

use crate::harness::{Daemon, Receiver, Sinks, config, mock};

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_reaches_every_sink_with_the_upstreams_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, receiver) = (mock().await, Receiver::start().await);
    let out = folder.path().join("out");
    let daemon =
        Daemon::start(config(folder.path(), &mock).webhook("app", &receiver.url(), 3).disk("disk", &out))
            .await;
    for ending in [Ending::Completed, Ending::Failed, Ending::Cancelled, Ending::Expired] {
        let job = mock.add_job(JobPlan::new().ending(ending));
        let fresh = daemon.watch(&job).await;
        assert_eq!(fresh["phase"], "watching", "{fresh}");
        let watch = daemon.finished(&job).await;
        assert_eq!(watch["phase"], "done", "{watch}");
        assert_eq!(watch["outcome"], ending.as_str());
        let bytes = mock.full_body(&job).unwrap();
        assert_eq!(watch["job_size"], bytes.len());
        let (status, stored) = daemon.get_bytes(&format!("/v1/watches/retab/{job}/job")).await;
        assert_eq!((status, stored.as_slice()), (200, bytes.as_ref()));
        assert_eq!(std::fs::read(out.join(format!("retab/{job}.json"))).unwrap(), bytes);
        let event = receiver.requests().into_iter().find(|request| request.json()["job_id"] == *job).unwrap();
        assert_eq!(event.json()["type"], format!("job.{}", ending.as_str()));
        assert_eq!(event.header("webhook-id"), watch["event_id"]);
        let data = [b"\"data\":".as_slice(), &bytes, b"}"].concat();
        assert!(event.body.ends_with(&data), "the job is spliced in unchanged");
    }
    daemon.stop().await;
}
