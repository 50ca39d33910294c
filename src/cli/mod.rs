//! The command line. `commands` is the tree that clap parses, `global` its common flags, `dispatch` runs a command; the other
//! modules are one command each, and the parts that several share (`client`, `console`, `table`, `waiting`, …).
//!
//! Client commands go through the HTTP API like any other caller. They must not know the store or the tasks of a daemon.

mod args;
mod client;
mod commands;
pub mod complete;
mod completions;
mod config;
mod console;
mod control;
mod deliver;
mod deliveries;
mod demo;
mod dispatch;
mod events;
mod exit;
mod get;
mod global;
mod group;
mod healthcheck;
mod list;
mod listing;
mod phrases;
mod poll;
mod reconcile;
mod redeliver;
mod replicas;
mod run;
mod simulate;
mod sink;
mod source;
mod status;
mod store;
mod table;
mod unwatch;
mod wait;
mod waiting;
mod watch;

#[cfg(test)]
mod tests;

pub use commands::Cli;
pub use exit::{ExitStatus, message};
