//! Reads the JSON bodies of requests. Size, time and the number of bodies in memory are bounded. No
//! body becomes a tree of values.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    extract::{FromRequest, Request},
    http::header,
};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
    },
};
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};

use super::problem::{Code, Problem};

/// The largest body of a request.
const MAX_BODY: usize = 8 << 20;

/// The longest time for a body to arrive, and the longest wait for a permit.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A larger body needs a permit. A registration is smaller.
const SMALL: usize = 8 << 10;

/// A larger body needs one of few permits.
const MEDIUM: usize = 64 << 10;

/// The bodies above [`SMALL`], and above [`MEDIUM`], that may be in memory at once.
static MEDIUM_PERMITS: Semaphore = Semaphore::const_new(64);
static LARGE_PERMITS: Semaphore = Semaphore::const_new(4);

/// The pairs that are kept of a map: one more than any map may have. The rest is skipped.
pub(super) const MAX_PAIRS: usize = 101;

/// The largest number of different texts in a list.
const MAX_TEXTS: usize = 1000;

/// The largest number of entries in a batch.
pub(super) const MAX_BATCH: usize = 10_000;

/// A body that has arrived. It keeps its permits until it is dropped.
pub(super) struct JsonBody {
    bytes: Bytes,
    _permits: BodyPermits,
}

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(
                Code::NotJson,
                "the body is not declared as JSON; send the header `content-type: application/json`",
            ));
        }
        Self::arrived(request.into_body()).await
    }
}

impl JsonBody {
    async fn arrived(body: Body) -> Result<Self, Problem> {
        let mut body = Limited::new(body, MAX_BODY);
        let mut until = Instant::now() + BODY_TIMEOUT;
        let (mut bytes, mut permits) = (BytesMut::new(), BodyPermits::default());
        // A known length takes its permit first and allocates the buffer once, without later copies.
        let declared = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let declared = declared.filter(|length| *length <= MAX_BODY).unwrap_or_default();
        until += permits.take(declared).await?;
        bytes.reserve(declared);
        while let Some(frame) = timeout_at(until, body.frame()).await.map_err(|_| too_slow())? {
            let Ok(data) = frame.map_err(|error| incomplete(&*error))?.into_data() else { continue };
            until += permits.take(bytes.len() + data.len()).await?;
            bytes.extend_from_slice(&data);
        }
        Ok(Self { bytes: bytes.freeze(), _permits: permits })
    }

    /// Reads the body as a `T`, which may borrow from it. For a repeated name the first value
    /// counts, or the body is invalid.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        let bytes = without_mark(&self.bytes);
        if let Ok(Object(value)) = serde_json::from_slice(bytes) {
            return Ok(value);
        }
        // Once more, with the place of the problem. To keep the place costs more than to read a body.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if inner.is_data() {
                let place = if path == "." { String::new() } else { format!("`{path}`: ") };
                Problem::new(Code::InvalidBody, format!("{place}{}", mismatch(&inner)))
            } else {
                bad_json(&inner)
            }
        })?;
        json.end().map_err(|error| bad_json(&error))?;
        Ok(value)
    }
}

/// The permits of a body that is not small.
#[derive(Default)]
struct BodyPermits {
    medium: Option<SemaphorePermit<'static>>,
    large: Option<SemaphorePermit<'static>>,
}

impl BodyPermits {
    /// Acquires the permits that a body of this size needs. Returns the time that it waited.
    async fn take(&mut self, size: usize) -> Result<Duration, Problem> {
        let asked = Instant::now();
        if size > SMALL && self.medium.is_none() {
            self.medium = Some(acquire(&MEDIUM_PERMITS).await?);
        }
        if size > MEDIUM && self.large.is_none() {
            self.large = Some(acquire(&LARGE_PERMITS).await?);
        }
        Ok(asked.elapsed())
    }
}

async fn acquire(permits: &'static Semaphore) -> Result<SemaphorePermit<'static>, Problem> {
    match timeout(BODY_TIMEOUT, permits.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => {
            Err(Problem::new(Code::Busy, "other large requests are being read; send the request again later"))
        }
    }
}

pub(super) fn too_slow() -> Problem {
    let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
    Problem::new(Code::BodyTooSlow, detail)
}

pub(super) fn incomplete(error: &(dyn std::error::Error + 'static)) -> Problem {
    if error.is::<LengthLimitError>() {
        let detail = format!("the body of a request has at most {} MiB", MAX_BODY >> 20);
        return Problem::new(Code::BodyTooLarge, detail);
    }
    Problem::new(Code::BodyCut, "the body ended before it was complete")
}

/// Removes the byte-order mark that some clients write before the JSON.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A JSON body, read as its type.
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        JsonBody::from_request(request, state).await?.parse().map(Self)
    }
}

/// Returns the message of a mismatch without the caller's text. That text may be a misplaced
/// secret, and answers end up in logs.
fn mismatch(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find("string \""), text.rfind("\", expected ")) {
        (Some(from), Some(to)) if from < to => format!("{}text{}", &text[..from], &text[to + 1..]),
        _ => text,
    }
}

fn bad_json(error: &serde_json::Error) -> Problem {
    Problem::new(Code::BadJson, format!("the body is not JSON: {error}"))
}

/// The body of a batch with its raw entries. An invalid entry does not affect the others, and only
/// one entry is parsed at a time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch<'a> {
    #[serde(borrow)]
    pub(super) watches: BatchEntries<'a>,
    #[serde(default)]
    pub(super) close_group: bool,
}

/// The first entries of a batch, and the number of all.
pub(super) struct BatchEntries<'a> {
    pub(super) first: Vec<&'a RawValue>,
    pub(super) count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for BatchEntries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = BatchEntries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BatchEntries<'de>, A::Error> {
                let mut entries = BatchEntries { first: Vec::new(), count: 0 };
                while entries.first.len() < MAX_BATCH
                    && let Some(entry) = list.next_element()?
                {
                    entries.first.push(entry);
                }
                entries.count = entries.first.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    entries.count += 1;
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// Reads an entry of a batch as a `T`.
pub(super) fn entry<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Problem> {
    serde_json::from_str(raw.get()).map(|Object(value)| value).map_err(|error| {
        // A line within an entry does not help the caller, who sent the whole batch.
        let text = mismatch(&error);
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        Problem::new(Code::InvalidBody, text)
    })
}

/// A value that must be an object. serde alone would also accept a list, with the values as fields.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads an object or null.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// Reads a map of texts. For a repeated name the first value counts. At most [`MAX_PAIRS`] pairs
/// are kept.
pub(super) fn pairs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Map;

    impl<'de> Visitor<'de> for Map {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = BTreeMap::new();
            while pairs.len() < MAX_PAIRS
                && let Some((name, value)) = map.next_entry()?
            {
                pairs.entry(name).or_insert(value);
            }
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(pairs)
        }
    }

    deserializer.deserialize_map(Map)
}

/// Reads a list of texts and drops repeated ones.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(self)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts: Vec<String> = Vec::new();
            while let Some(text) = list.next_element()? {
                if !texts.contains(&text) {
                    texts.push(text);
                }
                if texts.len() > MAX_TEXTS {
                    return Err(A::Error::custom(format!("a list has at most {MAX_TEXTS} different texts")));
                }
            }
            Ok(Some(texts))
        }
    }

    deserializer.deserialize_option(List)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::WatchRequest;

    fn parsed<'a, T: Deserialize<'a>>(body: &'a JsonBody) -> Result<T, String> {
        body.parse().map_err(|problem| format!("{} {}", problem.code().as_str(), problem.detail()))
    }

    fn body(text: impl Into<String>) -> JsonBody {
        JsonBody { bytes: text.into().into(), _permits: BodyPermits::default() }
    }

    #[test]
    fn a_request_keeps_no_more_than_it_may_have() {
        let many: Vec<String> = (0..1000).map(|n| format!("\"k{n:04}\":\"v\",")).collect();
        let many = many.concat();
        let text = format!(
            "\u{feff}{{\"job_id\":\"a\",\"labels\":{{{many}\"k0000\":\"second\"}},\"sinks\":[\"x\",\"y\",\"x\"]}}"
        );
        let body = body(text);
        let request: WatchRequest = parsed(&body).unwrap();
        assert_eq!((request.labels.len(), request.labels["k0000"].as_str()), (MAX_PAIRS, "v"));
        assert_eq!(request.sinks.unwrap(), ["x", "y"]);
    }

    #[test]
    fn a_list_is_no_object() {
        for text in [r#"["a"]"#, r#"{"job_id":"a","callback":["https://example.com/hook"]}"#, "null", "7"] {
            let told = parsed::<WatchRequest>(&body(text)).unwrap_err();
            assert!(told.starts_with("invalid_body ") && told.contains("expected an object"), "{told}");
        }
        parsed::<Batch<'_>>(&body(r#"[[{"job_id":"a"}]]"#)).err().unwrap();
        let batch = body(r#"{"watches":[["a"],{"job_id":"a","callback":null}]}"#);
        let batch: Batch<'_> = parsed(&batch).unwrap();
        let read = |at: usize| entry::<WatchRequest>(batch.watches.first[at]);
        assert_eq!(read(0).unwrap_err().detail(), "invalid type: sequence, expected an object");
        assert!(read(1).unwrap().callback.is_none());
    }

    #[test]
    fn nothing_and_no_list_are_no_list() {
        for text in ["{\"job_id\":\"a\"}", "{\"job_id\":\"a\",\"sinks\":null}"] {
            assert_eq!(parsed::<WatchRequest>(&body(text)).unwrap().sinks, None);
        }
        let many: Vec<String> = (0..=MAX_TEXTS).map(|n| format!("\"{n}\"")).collect();
        let many = format!("{{\"job_id\":\"a\",\"sinks\":[{}]}}", many.join(","));
        assert!(
            parsed::<WatchRequest>(&body(many)).unwrap_err().contains("`sinks`: a list has at most 1000")
        );
    }

    #[test]
    fn the_entries_of_a_batch_are_counted_and_bounded() {
        let text = format!("{{\"watches\":[{}{{}}]}}", "[{\"\":[0]}],".repeat(MAX_BATCH + 5));
        let body = body(text);
        let batch: Batch<'_> = parsed(&body).unwrap();
        assert_eq!((batch.watches.first.len(), batch.watches.count), (MAX_BATCH, MAX_BATCH + 6));
    }

    #[test]
    fn a_bad_entry_is_told_without_a_place() {
        let body = body(
            r#"{"watches":[{"job_id":"a","labels":{"x":[]}},{"job_id":"a","job_id":"b"},{"job_id":"\ud83d"},7,{"x":1}]}"#,
        );
        let batch: Batch<'_> = parsed(&body).unwrap();
        let wrong: Vec<String> = batch
            .watches
            .first
            .iter()
            .map(|raw| entry::<WatchRequest>(raw).unwrap_err().detail().to_owned())
            .collect();
        assert_eq!(wrong[..2], ["invalid type: sequence, expected a string", "duplicate field `job_id`"]);
        assert!(wrong[2].contains("surrogate") || wrong[2].contains("hex escape"), "{}", wrong[2]);
        assert!(
            wrong[3].starts_with("invalid type: integer `7`") && wrong[4].starts_with("unknown field `x`"),
            "{wrong:?}"
        );
        assert!(wrong.iter().all(|text| !text.contains(" at line ")), "{wrong:?}");
    }
}
