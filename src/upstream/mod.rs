//! The client of a source, and the profiles that describe job APIs as data.
//!
//! A `profile` says how an API is spoken to: `template` fills its paths, `answer` reads its bodies,
//! `builtin` holds those that come with the program. `client` is the source itself, `kind` one kind of
//! its jobs. `poll` requests
//! a status and `result` a result; both send by way of `request`, which follows redirects, and
//! carry `credentials` to the source's own `origin` alone; `auth` makes those that are minted or
//! signed. `failure` says why a request brought nothing. `hooks` verifies the webhooks of the
//! source. `route` says what a request through the proxy is, and `forward` sends it on.
//!
//! This room must not know the store, schedules beyond their configuration, or what follows from a
//! failure.

mod address;
mod answer;
mod auth;
mod builtin;
mod client;
mod config;
mod credentials;
mod decode;
mod failure;
mod kind;
mod limits;
mod location;
mod list;
mod links;
mod origin;
mod pages;
mod forward;
mod hooks;
mod poll;
mod probe;
mod profile;
mod proxy_config;
mod refused;
mod request;
mod result;
mod route;
mod status;
mod template;
mod times;

pub use answer::NO_STATUS;
pub use auth::{AuthConfig, AuthError, AuthType, ClientAuth, check_key, check_tenant};
pub use builtin::{BuiltIn, CUSTOM, SourceType, TYPES};
pub use client::{JobRef, Source, SourceError};
pub use config::{HttpOutcomes, Outcomes, ProfileKeys, ResultAuth, ResultConfig, SourceConfig, StatusMethod};
pub use failure::Failure;
pub use forward::not_taken;
pub use hooks::{Hooks, HooksConfig, InvalidHooks, NamedJob, SignatureEncoding, Unverified, VerifyMethod};
pub use hooks::{check_plain_secret, check_standard_secret};
pub use kind::SourceKind;
pub use links::Links;
pub use list::{
    DiscoverConfig, ListFilter, ListNext, ListPage, ListProfile, ListReading, ListedJob, NextPage, Since,
};
pub use origin::Origin;
pub use pages::{PageAnswer, ResultPage};
pub use probe::{Probe, ProbeAnswer};
pub use profile::{
    HttpStatuses, InvalidProfile, ItemValues, ListedStatus, NextPlace, Pages, Profile, ResultPlace,
    ResultRequest, ResultSpec,
};
pub use proxy_config::{MAX_AGE, ProxyConfig, ProxyForm, table_or_outgoing};
pub use refused::KnownEnd;
pub use request::SourceRequest;
pub use result::JobStream;
pub use route::{ProxyRoute, ProxyRoutes, RoutedJob, Vars, is_safe};
pub use status::StatusBody;
pub use template::{BodyTemplate, Template, TemplateError};
