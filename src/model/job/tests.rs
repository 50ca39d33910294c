use super::*;

fn run(completed: Option<&str>, count: Option<&str>, started: Option<&str>) -> Run {
    let own = |text: Option<&str>| text.map(str::to_owned);
    Run { completed_at: own(completed), attempt_count: own(count), started_at: own(started), rerun: 0 }
}

#[test]
fn job_ids_are_bounded_and_nothing_else() {
    for good in ["job_V1St", "../../etc/passwd", "a b%2f", "ü", &"x".repeat(256)] {
        assert_eq!(good.parse::<JobId>().unwrap().as_str(), good);
    }
    assert_eq!("".parse::<JobId>(), Err(BadJobId::Empty));
    assert_eq!("x".repeat(257).parse::<JobId>(), Err(BadJobId::TooLong(257)));
    assert_eq!("a\nb".parse::<JobId>(), Err(BadJobId::Control));
    "..".parse::<JobId>().unwrap_err();
}

#[test]
fn an_event_id_tells_runs_and_outcomes_apart() {
    let job: JobId = "job_1".parse().unwrap();
    let first = run(Some("1"), Some("1"), Some("0"));
    let second = run(Some("2"), Some("2"), Some("1"));
    let id = event_id("retab", None, &job, Outcome::Failed, &first);
    assert_eq!(id, event_id("retab", None, &job, Outcome::Failed, &first));
    assert_ne!(id, event_id("retab", None, &job, Outcome::Failed, &second));
    assert_ne!(id, event_id("retab", None, &job, Outcome::Lost, &first));
    assert_ne!(id, event_id("other", None, &job, Outcome::Failed, &first));
    assert!(id.strip_prefix("evt_").unwrap().chars().all(|c| c.is_ascii_alphanumeric()));
}

#[test]
fn an_event_type_is_stored_as_one_word_and_read_back() {
    for event in EventType::ALL {
        assert_eq!(serde_json::to_value(event).unwrap(), event.word());
        assert_eq!(serde_json::from_value::<EventType>(event.word().into()).unwrap(), event);
        assert_eq!(event.as_str().parse(), Ok(event));
        let prefix = if event.is_of_job() { "job." } else { "" };
        assert_eq!(event.as_str(), format!("{prefix}{}", event.word()));
        assert_eq!(EventType::OF_JOBS.contains(&event), event.is_of_job());
    }
    "job.job.failed".parse::<EventType>().unwrap_err();
}

#[test]
fn the_ids_of_progress_tell_steps_and_watches_apart() {
    let job: JobId = "job_1".parse().unwrap();
    let id = progress_id("retab", &job, Progress::Updated, 7, 1);
    assert_eq!(id, progress_id("retab", &job, Progress::Updated, 7, 1));
    assert_ne!(id, progress_id("retab", &job, Progress::Started, 7, 1));
    assert_ne!(id, progress_id("retab", &job, Progress::Updated, 7, 2));
    assert_ne!(id, progress_id("retab", &job, Progress::Updated, 8, 1));
    assert!(id.strip_prefix("evt_").unwrap().chars().all(|c| c.is_ascii_alphanumeric()));
}

#[test]
fn a_field_left_out_does_not_make_a_new_run() {
    let full = run(Some("9"), Some("1"), Some("3"));
    assert!(full.same_run(&run(Some("9"), None, Some("3"))));
    assert!(!full.same_run(&run(Some("10"), None, Some("3"))));
    assert!(!full.same_run(&run(Some("9"), Some("2"), Some("3"))));
}

#[test]
fn whole_seconds_and_fractions_name_the_same_instant() {
    let at = |completed| run(Some(completed), None, None);
    assert!(at("19123").same_run(&at("19000")));
    assert!(!at("19123").same_run(&at("20000")));
    assert!(!at("19123").same_run(&at("19124")), "two fractions are two instants");
}
