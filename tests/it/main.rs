//! The program from the outside: the real binary or `App`, a real upstream (the mock server), real receivers,
//! real files. One file a flow.

mod harness;

mod docs;
mod happy;
mod signatures;
