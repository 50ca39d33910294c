//! The client of a source, and the profiles that describe job APIs as data.
//!
//! A `profile` says how an API is spoken to: `template` fills its paths, `answer` reads its bodies,
//! `builtin` holds those that come with the program. `client` is the source itself. `poll` requests
//! a status and `result` a result; both send by way of `request`, which follows redirects, and
//! carry `credentials` to the source's own `origin` alone. `failure` says why a request brought
//! nothing. `route` says what a request through the proxy is, and `forward` sends it on.
//!
//! This room must not know the store, schedules beyond their configuration, or what follows from a
//! failure.

mod address;
mod answer;
mod builtin;
mod client;
mod config;
mod credentials;
mod decode;
mod failure;
mod limits;
mod links;
mod origin;
mod forward;
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
pub use builtin::{BuiltIn, CUSTOM, SourceType, TYPES};
pub use client::{JobRef, Source, SourceError};
pub use config::{Outcomes, SourceConfig};
pub use failure::Failure;
pub use links::Links;
pub use origin::Origin;
pub use probe::Probe;
pub use profile::{InvalidProfile, Profile};
pub use proxy_config::{MAX_AGE, ProxyConfig, ProxyForm, table_or_outgoing};
pub use refused::KnownEnd;
pub use result::JobStream;
pub use route::{ProxyRoute, ProxyRoutes, RoutedJob, Vars, is_safe};
pub use status::StatusBody;
pub use template::{Template, TemplateError};
