//! The program from the outside: the real binary or `App`, a real upstream (the mock server), real receivers,
//! real files. One file a flow.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside: a clock, an environment and clients of their own"
)]

mod harness;

mod any_api;
mod api;
mod archive;
mod attempts;
mod auth;
mod blame;
mod backup;
mod bodies;
mod budgets;
mod client_config;
mod cloudevents;
mod commands;
mod config_file;
mod configuration_page;
mod connections;
mod crash;
mod default_source;
mod delivery;
mod demo;
mod docs;
mod events;
mod exposure;
mod extremes;
mod formats;
mod full_disk;
mod groups;
mod happy;
mod hooks;
mod isolation;
mod kinds;
mod layers;
mod learned;
mod listening;
mod lists;
mod loading;
mod lost;
mod memory;
mod metrics;
mod notices;
mod objects;
mod openapi;
mod otlp;
mod outgoing;
mod overview;
mod page;
mod patience;
mod postgres;
mod process;
mod profiles;
mod progress;
mod proxy;
mod ranges;
mod registering;
mod reload;
mod replicas;
mod restored;
mod results;
mod retab_sdk;
mod search;
mod secrets;
mod shapes;
mod signatures;
mod simulate;
mod sinks;
mod sources;
mod standby;
mod store_cli;
mod surroundings;
mod templates;
mod timeline;
mod times;
mod transport;
mod undelivered;
mod unreadable;
mod uploads;
mod upstream;
mod words;
