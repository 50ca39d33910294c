//! The codes of problems: each has one meaning, its statuses and a way out.

use std::fmt::Write as _;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    ($($name:ident $word:literal [$($status:literal),+] $meaning:literal, $way_out:literal;)+) => {
        /// The code of a problem, a word for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $(#[doc = $meaning] $name,)+
        }

        impl Code {
            /// Every code, ordered by its usual status.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the word of the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// Returns its statuses, the usual one first.
            #[must_use]
            pub const fn statuses(self) -> &'static [u16] {
                match self { $(Self::$name => &[$($status),+],)+ }
            }

            /// Returns the meaning.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }

            /// Returns the way out for the caller or the operator.
            #[must_use]
            pub const fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)+ }
            }
        }
    };
}

codes! {
    BadHost "bad_host" [400]
        "The request has no `Host` header, two of them, or one that cannot be read.",
        "Send one `Host` header with the address of the daemon.";
    BadPath "bad_path" [400]
        "A name in the path is not UTF-8 after percent-decoding.",
        "Percent-encode each name as UTF-8.";
    BadParameter "bad_parameter" [400]
        "A query parameter has a value that it does not take.",
        "The detail names the parameter and what it takes.";
    UnknownParameter "unknown_parameter" [400]
        "The route has no query parameter of this name.",
        "The detail lists the parameters of the route.";
    BadLastEventId "bad_last_event_id" [400]
        "The header `Last-Event-ID` is not the id of an event of the stream.",
        "Send the last id as it came, or leave the header out.";
    BadJson "bad_json" [400]
        "The body is not JSON.",
        "The detail names the place of the mistake.";
    BodyCut "body_cut" [400]
        "The connection ended before the body was complete.",
        "Send the request again.";
    BadProxyPath "bad_proxy_path" [400]
        "The path behind `/proxy/SOURCE` leads away from the base URL of the source.",
        "Ask for a path below `base_url`, without `..`.";
    Unauthorized "unauthorized" [401]
        "The request does not carry the token of the daemon.",
        "Send `Authorization: Bearer …` with the token of `server.token_file`.";
    HookUnverified "hook_unverified" [401]
        "The hook is not signed with a secret of the source, or does not carry its token.",
        "Compare the secret and the keys of `hooks` with the settings of the source.";
    HostRefused "host_refused" [403]
        "The `Host` header is not a name of the daemon.",
        "Use the listen address, or add the name to the configured names of the server.";
    CrossOrigin "cross_origin" [403]
        "A web page of another origin sent the request.",
        "Call the API from a program, or from a page of the same origin.";
    NotLocal "not_local" [403]
        "Only this machine may ask for this, and the request came from another one.",
        "Send it over loopback or the unix socket.";
    NoSuchRoute "no_such_route" [404]
        "The API has no such path.",
        "`/openapi.json` lists the routes.";
    NoHooks "no_hooks" [404]
        "No source of this name sends hooks.",
        "Check the name, and configure `hooks` of the source.";
    WatchNotFound "watch_not_found" [404]
        "The job of this source is not watched, or its watch was dropped after retention.",
        "Register it with `POST /v1/watches`; check the name of the source.";
    DeliveryNotFound "delivery_not_found" [404]
        "There is no delivery with this id, or it was dropped after retention.",
        "`GET /v1/deliveries` lists the deliveries.";
    GroupNotFound "group_not_found" [404]
        "No watch names this group, or it was dropped after retention.",
        "`GET /v1/groups` lists the groups.";
    EventNotFound "event_not_found" [404]
        "There is no event with this id, or it was dropped after retention.",
        "`GET /v1/events` with `Accept: application/json` lists the events.";
    JobLost "job_lost" [404]
        "The job was lost, so there is no result to show.",
        "The detail says why; registering the job again polls it again.";
    NoReconciliation "no_reconciliation" [404]
        "The source was not reconciled since the daemon started.",
        "Begin a reconciliation with `POST /v1/sources/{name}/reconcile`.";
    QuitDisabled "quit_disabled" [404]
        "The configuration does not allow a request to end the daemon.",
        "Stop the daemon with SIGTERM, or allow it in `[server]`.";
    UnknownSource "unknown_source" [422, 404]
        "No source of this name is configured: 404 where the path names it, 422 where the body does.",
        "`GET /v1/sources` lists the sources.";
    UnknownKind "unknown_kind" [422, 404]
        "The source has no kind of job of this name: 404 where the query names it, 422 where the body does.",
        "`GET /v1/sources` lists the kinds of each source.";
    KindMissing "kind_missing" [409]
        "The job is watched under several kinds, and the request names none.",
        "Name one: `?kind=parses`, `--kind parses`. The detail lists them.";
    UnknownSink "unknown_sink" [422, 404]
        "No sink of this name is configured: 404 where the path names it, 422 where the body does.",
        "`GET /v1/sinks` lists the sinks.";
    MethodNotAllowed "method_not_allowed" [405]
        "The path does not take this method.",
        "The header `Allow` lists the methods.";
    BodyTooSlow "body_too_slow" [408]
        "The body did not arrive in time.",
        "Send the request again over a faster connection, or in smaller batches.";
    VarsConflict "vars_conflict" [409]
        "A job with this id is watched with other `vars`.",
        "Give jobs whose ids may be equal a source each.";
    GroupConflict "group_conflict" [409]
        "The watch of this job belongs to another group.",
        "Leave `group` out, or remove the watch and register the job again.";
    GroupClosed "group_closed" [409]
        "The group is closed, and this job is none of its members.",
        "Name another group. A closed one takes its own members again, and no new ones.";
    JobNotEnded "job_not_ended" [409]
        "The job is not finished, so there is no result yet.",
        "Wait for it with `GET …/wait`.";
    ReconcileRunning "reconcile_running" [409]
        "Another reconciliation of this source goes on.",
        "`GET` on the same path shows how far it is; send the request again when it is done.";
    ExportRunning "export_running" [409]
        "Another export of the store is being written.",
        "Send the request again when the other export is done.";
    NoConfiguration "no_configuration" [409]
        "The daemon was started without a configuration to reload.",
        "Restart it with the new settings.";
    JobDropped "job_dropped" [410]
        "The result was dropped after retention.",
        "Ask the source itself; raise `store.retention` for later jobs.";
    BodyTooLarge "body_too_large" [413]
        "The body is larger than 8 MiB, or than 1 MiB for a hook.",
        "Send several smaller batches.";
    NotJson "not_json" [415]
        "The header `content-type` does not declare JSON.",
        "Send the header `content-type: application/json`.";
    RangeNotSatisfiable "range_not_satisfiable" [416]
        "The range of `Range` lies behind the end of the stored job.",
        "`Content-Range` of the answer has the size of the job.";
    InvalidBody "invalid_body" [422]
        "The JSON does not have the shape that the route takes.",
        "The detail names the field and what it takes.";
    NoList "no_list" [422]
        "The jobs of this source cannot be listed.",
        "The detail names the keys that describe its list.";
    InvalidJobId "invalid_job_id" [422]
        "The job id is empty, too long, made of dots, or holds control characters.",
        "Send the id as the source gave it: 1 to 256 bytes.";
    InvalidLabels "invalid_labels" [422]
        "The labels are too many, or one is too long.",
        "At most 16 pairs, keys up to 64 and values up to 512 characters.";
    InvalidGroup "invalid_group" [422]
        "The name of the group is empty, too long, made of dots, or holds control characters.",
        "A name has 1 to 512 characters.";
    InvalidVars "invalid_vars" [422]
        "The `vars` do not fill the paths of the source.",
        "The detail lists the variables that the source takes.";
    InvalidDeadline "invalid_deadline" [422]
        "The deadline is not a duration or time, is in the past, or is too far ahead.",
        "Send a duration such as `2h`, or a time such as `2026-11-23T17:00:00Z`.";
    InvalidRange "invalid_range" [422]
        "`since` is not before `until`.",
        "Exchange the two.";
    ConflictingFilters "conflicting_filters" [422]
        "The request names events both by `event_ids` and by a filter.",
        "Send `event_ids` alone, or a filter alone.";
    EventNotTaken "event_not_taken" [422]
        "The sink does not take events of this type.",
        "Name the type in `events` of the sink, or leave the event out.";
    SameSink "same_sink" [422]
        "A sink cannot move its deliveries to itself.",
        "Name another sink in `to`.";
    SourceMissing "source_missing" [422]
        "There are several sources, and the request names none.",
        "Send `source`.";
    CallbacksDisabled "callbacks_disabled" [422]
        "The configuration does not allow callbacks.",
        "Send the event to a configured sink, or set `callbacks.enabled`.";
    CallbackRefused "callback_refused" [422]
        "The URL or the secret of the callback is invalid.",
        "The detail names the reason.";
    CallbackBlocked "callback_blocked" [422]
        "The callback leads to an address that the guard does not allow.",
        "Use a public address, or open its range with `callbacks.allow`.";
    BatchTooLarge "batch_too_large" [422]
        "The batch holds more than 10 000 watches.",
        "Send several batches.";
    InvalidConfiguration "invalid_configuration" [422]
        "The configuration has mistakes; the daemon keeps the previous one.",
        "The detail names each key; `tidings config check` shows the same list.";
    TooManyCreations "too_many_creations" [429]
        "The request budget of the source had no room for this creation within `proxy.max_wait`.",
        "Send it again after `Retry-After`, or raise the budget.";
    Internal "internal" [500]
        "The daemon failed to handle the request, because of a bug in tidings.",
        "Send the request again, and report the line in the log.";
    RecordUnreadable "record_unreadable" [500]
        "The record in the store cannot be read.",
        "`tidings store check` names it; `DELETE` removes the watch.";
    NotProxied "not_proxied" [501]
        "The drop-in proxy forwards neither `CONNECT` and `TRACE` nor a change of the protocol.",
        "Ask the source itself, or send the request without `Upgrade`.";
    UpstreamUnreachable "upstream_unreachable" [502]
        "The source did not answer a request through the proxy.",
        "The detail names the reason; `tidings source list` shows the source.";
    Busy "busy" [503]
        "Too many requests, or too many large ones, are in flight.",
        "Send the request again later.";
    Standby "standby" [503]
        "The process is a standby: it waits until another one ends, and serves `/healthz`, `/readyz` and `/metrics` alone.",
        "Send the request to the active process, whose `/readyz` answers 200.";
    NoOwner "no_owner" [503]
        "The process is a replica that passes requests on, and no replica owns the work yet, or its owner went away during the request.",
        "Send the request again; a replica takes over within 15 seconds.";
    TooManyReaders "too_many_readers" [503]
        "The limit of open event streams is reached.",
        "Close a stream, or send the request again later.";
    StoreUnavailable "store_unavailable" [503]
        "The store cannot be written or read; the daemon is opening it again.",
        "Send the request again; the log names the cause.";
    StoreDamaged "store_damaged" [503]
        "The store is damaged.",
        "See docs/guide/runbook.md.";
    TokenUnreadable "token_unreadable" [503]
        "The file with the token of the daemon cannot be read.",
        "Correct `server.token_file`; the next request reads the file again.";
    KeyUnreadable "key_unreadable" [503]
        "The key of the source cannot be read, or its credentials cannot be made.",
        "The detail names the reason; correct `api_key_file` or `auth` of the source, and send the request again.";
    HookSecretUnreadable "hook_secret_unreadable" [503]
        "A secret for the hooks of the source cannot be used.",
        "Correct `secret_file` of the hooks; the next hook reads the file again.";
    ReloadFailed "reload_failed" [503]
        "The new configuration is valid, but the daemon could not apply it.",
        "The detail names the reason; send the request again.";
    DiskFull "disk_full" [507]
        "The disk of the data folder is full.",
        "Free some space; stored watches continue.";
    ProxyLoop "proxy_loop" [508]
        "The request passed a tidings proxy too often.",
        "Point `base_url` of the source at the API instead of at the daemon.";
}

impl Code {
    /// Returns the usual status.
    pub(super) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.statuses()[0]).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the table of `docs/reference/errors.md`.
    #[must_use]
    pub fn table() -> String {
        let mut text = "| code | status | meaning | way out |\n| --- | --- | --- | --- |\n".to_owned();
        for code in Self::ALL {
            let mut statuses: Vec<String> = code.statuses().iter().map(u16::to_string).collect();
            statuses.sort();
            let (word, meaning, way_out) = (code.as_str(), code.meaning(), code.way_out());
            // Writing to memory cannot fail.
            let _ = writeln!(text, "| `{word}` | {} | {meaning} | {way_out} |", statuses.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/errors.md");
    const FROM: &str = "<!-- generated by the test shipped_errors -->\n";
    const TO: &str = "<!-- end -->";

    #[test]
    fn the_shipped_errors_are_current() {
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let (before, rest) = text.split_once(FROM).expect("the document has the marker of the table");
        let (there, after) = rest.split_once(TO).expect("the table ends");
        let current = Code::table();
        if std::env::var_os("UPDATE").is_some() {
            return std::fs::write(DOCUMENT, format!("{before}{FROM}{current}{TO}{after}")).unwrap();
        }
        assert!(
            there == current,
            "docs/reference/errors.md is out of date; run: UPDATE=1 cargo test shipped_errors"
        );
    }

    #[test]
    fn each_code_has_its_own_word_and_meaning_and_a_failing_status() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let meanings: BTreeSet<_> = Code::ALL.iter().map(|code| code.meaning()).collect();
        assert_eq!((words.len(), meanings.len()), (Code::ALL.len(), Code::ALL.len()));
        for code in Code::ALL {
            assert!(code.statuses().iter().all(|status| (400..600).contains(status)), "{code:?}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn the_api_document_enumerates_the_codes() {
        let document = serde_json::to_value(crate::api::openapi()).unwrap();
        let listed = &document["components"]["schemas"]["Code"]["enum"];
        let words: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(*listed, serde_json::json!(words));
        for schema in ["Problem", "Rejected"] {
            let code = &document["components"]["schemas"][schema]["properties"]["code"];
            assert!(code.to_string().contains("#/components/schemas/Code"), "{schema}: {code}");
        }
    }
}
