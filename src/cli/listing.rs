//! Lists of the API, page after page.

use anyhow::Result;
use serde_json::value::RawValue;

use super::{
    args::{Format, PageArgs},
    client::{Client, Path},
    console::Console,
    table::Fitted,
};
use crate::{
    api::view::Page,
    util::{clock, units::Time},
};

/// Entries asked for at once; the API's own bound.
const PAGE: u64 = 1000;

/// A list of the API, and the table of its entries.
pub(super) struct Listing<'a> {
    /// The route, with its filters.
    pub(super) path: Path,
    /// The plural of an entry, as in `watches`.
    pub(super) what: &'a str,
    /// The columns.
    pub(super) columns: Fitted<'a>,
    /// Returns the row of an entry.
    pub(super) row: fn(&Client, &str, Time) -> Result<Vec<String>>,
}

impl Listing<'_> {
    /// Prints as many entries as `pages` allows, page after page. JSON has the shape of the API's own page. It is written as it
    /// comes, so that a long list needs no memory.
    ///
    /// # Errors
    /// When the daemon fails or the output is closed.
    pub(super) async fn print(
        &self,
        client: &Client,
        console: &mut Console<'_>,
        pages: &PageArgs,
        format: Format,
    ) -> Result<()> {
        let now = clock::now();
        let mut rows = Vec::new();
        let mut left = pages.bound();
        let mut cursor: Option<String> = None;
        let mut shown = 0_u64;
        loop {
            let size = left.min(PAGE).to_string();
            let path = self.path.clone().with("limit", &size).maybe("cursor", cursor.as_deref());
            let page: Page<Box<RawValue>> = client.get(&path).await?;
            for entry in page.data {
                match format {
                    Format::Table => rows.push((self.row)(client, entry.get(), now)?),
                    Format::Json => {
                        let lead = if shown == 0 { "{\"data\":[\n" } else { ",\n" };
                        write!(console.out, "{lead}{}", entry.get())?;
                    }
                }
                shown += 1;
                left = left.saturating_sub(1);
            }
            cursor = page.next_cursor;
            // A page may be short and still have a next one.
            if cursor.is_none() || left == 0 {
                break;
            }
        }
        match format {
            Format::Json => {
                let start = if shown == 0 { "{\"data\":[" } else { "\n" };
                writeln!(console.out, "{start}],\"next_cursor\":{}}}", serde_json::to_string(&cursor)?)?;
            }
            Format::Table if shown == 0 => {
                let is_filtered = self.path.has_query();
                console.note(&format!("no {}{}", self.what, if is_filtered { " match" } else { "" }));
            }
            Format::Table => {
                console.out.write_all(self.columns.table(rows, console.width).as_bytes())?;
            }
        }
        if cursor.is_some() {
            console.note(&format!("there may be more {}; see them with --all", self.what));
        }
        Ok(())
    }
}
