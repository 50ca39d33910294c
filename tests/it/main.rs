//! The program from the outside: the real binary or `App`, a real upstream (the mock server), real receivers,
//! real files. One file a flow.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside: a clock, an environment and clients of their own"
)]

mod harness;

mod api;
mod archive;
mod attempts;
mod blame;
mod backup;
mod bodies;
mod client_config;
mod cloudevents;
mod commands;
mod config_file;
mod configuration_page;
mod connections;
mod crash;
mod default_source;
mod delivery;
mod docs;
mod events;
mod exposure;
mod extremes;
mod formats;
mod full_disk;
mod happy;
mod isolation;
mod layers;
mod learned;
mod listening;
mod loading;
mod lost;
mod memory;
mod metrics;
mod openapi;
mod otlp;
mod outgoing;
mod patience;
mod process;
mod profiles;
mod progress;
mod proxy;
mod registering;
mod reload;
mod restored;
mod results;
mod retab_sdk;
mod secrets;
mod signatures;
mod simulate;
mod sinks;
mod sources;
mod store_cli;
mod surroundings;
mod templates;
mod times;
mod transport;
mod undelivered;
mod unreadable;
mod uploads;
mod upstream;
mod words;
