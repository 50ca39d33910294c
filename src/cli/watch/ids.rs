//! The ids that `tidings watch` is given.

use std::io::BufRead;

use anyhow::{Context as _, Result};

/// The ids of the command line, with those of stdin in the place of `-`.
pub(super) struct Ids<'a> {
    given: std::slice::Iter<'a, String>,
    reading: bool,
}

impl<'a> Ids<'a> {
    pub(super) fn new(given: &'a [String]) -> Self {
        Self { given: given.iter(), reading: false }
    }

    pub(super) fn next(&mut self, input: &mut dyn BufRead) -> Result<Option<String>> {
        loop {
            if self.reading {
                let mut line = String::new();
                if input.read_line(&mut line).context("cannot read stdin")? == 0 {
                    self.reading = false;
                    continue;
                }
                let id = line.trim();
                if !id.is_empty() && !id.starts_with('#') {
                    return Ok(Some(id.to_owned()));
                }
                continue;
            }
            match self.given.next() {
                Some(id) if id == "-" => self.reading = true,
                id => return Ok(id.cloned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(given: &[&str], mut input: &[u8]) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|&id| id.to_owned()).collect();
        let mut ids = Ids::new(&given);
        std::iter::from_fn(|| ids.next(&mut input).unwrap()).collect()
    }

    #[test]
    fn a_dash_stands_for_the_lines_of_stdin() {
        let lines = b"job_1\r\n\n  # yesterday's\n  job 2  \n#x\njob_3";
        assert_eq!(ids(&["a", "-", "b"], lines), ["a", "job_1", "job 2", "job_3", "b"]);
        assert_eq!(ids(&["a"], lines), ["a"]);
        assert!(ids(&["-"], b"").is_empty());
    }
}
