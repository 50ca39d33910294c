//! The streams of a command.

use std::io::{BufRead, Write};

/// The width of tables where the output is no terminal.
pub(super) const WIDTH: usize = 100;

/// The streams of a command, and what the person at them expects.
pub struct Console<'a> {
    /// The stream of results: stdout.
    pub(super) out: &'a mut dyn Write,
    /// The stream of remarks and errors: stderr.
    pub(super) err: &'a mut dyn Write,
    /// The stream that `-` reads: stdin.
    pub(super) input: &'a mut dyn BufRead,
    /// Whether both outputs are terminals, so that progress may move.
    pub(super) live: bool,
    /// Whether remarks are left out.
    pub(super) quiet: bool,
    /// The columns of the terminal.
    pub(super) width: usize,
}

impl Console<'_> {
    /// Prints a remark.
    pub(super) fn note(&mut self, text: &str) {
        if !self.quiet {
            // A closed stderr leaves no place for the remark.
            let _ = writeln!(self.err, "tidings: {text}");
        }
    }
}
