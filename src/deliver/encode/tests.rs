use super::*;
use crate::deliver::config::Method;

fn flawed(change: impl FnOnce(&mut WebhookConfig)) -> Vec<(&'static str, String)> {
    let mut config = WebhookConfig::to("http://127.0.0.1/");
    change(&mut config);
    let validate = validate(&config, Some(Path::new("")));
    // What is wrong stops the start with the same words.
    let opened = Encoder::of("app", &config).err().map(|error| error.to_string());
    let told = validate.first().map(|(key, reason)| format!("sinks.app.{key}: {reason}"));
    assert_eq!(opened, told);
    validate
}

#[test]
fn keys_and_format_belong_together() {
    let alone = "it goes with format = \"template\" alone; set that, or remove this key".to_owned();
    let validate = flawed(|config| {
        config.template = Some("x".to_owned());
        config.content_type = Some("text/plain".to_owned());
    });
    assert_eq!(validate, [("template", alone.clone()), ("content_type", alone.clone())]);
    assert_eq!(flawed(|config| config.template_file = Some("/x".into())), [("template_file", alone)]);
    let missing = flawed(|config| config.format = Format::Template);
    assert_eq!(missing, [("format", "a template is needed; give `template` or `template_file`".to_owned())]);
    let both = flawed(|config| {
        config.format = Format::Template;
        (config.template, config.template_file) = (Some(String::new()), Some("/x".into()));
    });
    assert_eq!(both, [("template_file", "`template` is set as well; keep one of the two".to_owned())]);
}

#[test]
fn a_template_and_its_content_type_are_checked() {
    let with = |template: &str, content_type: Option<&str>| {
        flawed(|config| {
            config.format = Format::Template;
            config.method = Method::Put;
            config.template = Some(template.to_owned());
            config.content_type = content_type.map(str::to_owned);
        })
    };
    assert_eq!(with("{}", None), []);
    assert_eq!(with("hello", Some("text/plain; charset=utf-8")), []);
    for bad in ["", "json", "a/b/c", "a /b", "text/plain\n", "/json"] {
        let reason = "it is no media type; write it like text/plain; charset=utf-8".to_owned();
        assert_eq!(with("{}", Some(bad)), [("content_type", reason)], "{bad:?}");
    }
    let validate = with("{{ job_id", None);
    assert!(validate[0].0 == "template" && validate[0].1.starts_with("line 1: "), "{validate:?}");
    let missing = flawed(|config| {
        config.format = Format::Template;
        config.template_file = Some("/nowhere/slack.j2".into());
    });
    assert!(missing[0].1.starts_with("in /nowhere/slack.j2: No such file"), "{missing:?}");
}

#[test]
fn headers_of_cloudevents_are_not_given_twice() {
    let with = |format| {
        flawed(|config| {
            config.format = format;
            config.headers.insert(
                "CE-Id".to_owned(),
                crate::util::secret::SecretValue::Text(crate::util::secret::Secret::new("mine")),
            );
        })
    };
    assert_eq!(with(Format::Raw), []);
    for format in [Format::CloudEvents, Format::CloudEventsBinary] {
        let reason = "`CE-Id` belongs to CloudEvents and is set by the format; take another name";
        assert_eq!(with(format), [("headers", reason.to_owned())]);
    }
}

#[test]
fn a_file_takes_what_needs_no_headers() {
    assert_eq!(Wrapping::of_file(Format::Raw), Ok(Wrapping::Raw));
    assert_eq!(Wrapping::of_file(Format::CloudEvents), Ok(Wrapping::CloudEvents));
    assert!(Wrapping::of_file(Format::CloudEventsBinary).unwrap_err().contains("take `cloudevents`"));
    assert!(
        Wrapping::of_file(Format::Template).unwrap_err().contains("takes `envelope`, `raw` or `cloudevents`")
    );
}

#[tokio::test]
async fn a_rendering_that_takes_its_time_fails_nobody_behind_it() {
    let mut config = WebhookConfig::to("http://127.0.0.1/");
    config.format = Format::Template;
    config.template = Some("{{ job_id }}".to_owned());
    config.content_type = Some("text/plain".to_owned());
    let encoding = Encoder::of("app", &config).unwrap();
    let Encoder::Rendered(renderer) = &encoding else { panic!("it is rendered") };
    let limit = Duration::from_millis(1);
    let turn = renderer.template.turn().await;
    let message = Message::test("evt_1".to_owned(), crate::util::units::Time(0), "");
    let before = async {
        tokio::time::sleep(20 * limit).await;
        drop(turn);
    };
    let (payload, ()) = tokio::join!(encoding.encode(&message, limit), before);
    assert_eq!(payload.map(|payload| payload.len()), Ok(4));
}
