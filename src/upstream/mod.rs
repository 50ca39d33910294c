//! The client of a source: the light status, the result, and what can go wrong with either.

mod answer;
mod builtin;
mod client;
mod config;
mod decode;
mod failure;
mod limits;
mod links;
mod origin;
mod forward;
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
