//! The primitives of Retab that take `"background": true`: their paths and ids, what they need, and what comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{payload::Payload, refusal::Refusal};
use crate::util::units::Size;

/// A kind of run.
#[derive(Debug)]
pub(super) struct Primitive {
    /// The last segment of its route.
    pub path: &'static str,
    /// The beginning of its ids.
    pub prefix: &'static str,
    /// The fields that a creation must have.
    needs: &'static [&'static str],
    /// The fields of a creation that every answer repeats, with their defaults.
    repeats: &'static [(&'static str, &'static str)],
    /// `output` until it is complete.
    empty: &'static str,
    /// `output`, parted inside a text: a larger one has more text. It holds what a reader that rewrites JSON would spoil.
    output: (&'static str, &'static str),
}

/// All of them.
pub(super) static PRIMITIVES: [Primitive; 6] = [
    Primitive {
        path: "extractions",
        prefix: "extr_",
        needs: &["document", "json_schema"],
        repeats: &[("json_schema", "{}")],
        empty: "{}",
        output: (
            concat!(
                r#"{"invoice_number":"204","total":118.40,"serial": 9007199254740993,"#,
                r#""lines":[{"sku":"A1","qty":2}],"note":""#
            ),
            "\"}",
        ),
    },
    Primitive {
        path: "parses",
        prefix: "prs_",
        needs: &["document"],
        repeats: &[("table_parsing_format", "\"html\"")],
        empty: r#"{"pages":[],"text":""}"#,
        output: (r#"{"pages": ["Invoice 204"],"text":"Invoice 204"#, "\"}"),
    },
    Primitive {
        path: "splits",
        prefix: "splt_",
        needs: &["document", "subdocuments"],
        repeats: &[("subdocuments", "[]")],
        empty: "[]",
        output: (r#"[{"pages": [1,2],"name":"invoice"#, "\"}]"),
    },
    Primitive {
        path: "partitions",
        prefix: "prtn_",
        needs: &["document", "key", "instructions"],
        repeats: &[("key", "\"\""), ("instructions", "\"\"")],
        empty: "[]",
        output: (r#"[{"pages": [1,2],"key":"204"#, "\"}]"),
    },
    Primitive {
        path: "classifications",
        prefix: "clss_",
        needs: &["document", "categories"],
        repeats: &[("categories", "[]")],
        empty: r#"{"category":"","reasoning":""}"#,
        output: (r#"{"category": "invoice","reasoning":"It has a total."#, "\"}"),
    },
    Primitive {
        path: "edits",
        prefix: "edt_",
        needs: &["instructions"],
        repeats: &[("config", "{}")],
        empty: r#"{"form_data":[],"filled_document":{"filename":"","url":""}}"#,
        output: (
            r#"{"form_data": [],"filled_document":{"filename":"f.pdf","url":"data:application/pdf;base64,"#,
            "\"}}",
        ),
    },
];

/// A run of a primitive, beside its life.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub primitive: &'static Primitive,
    /// The fields that every answer repeats, as JSON without braces.
    pub repeated: Bytes,
}

impl Primitive {
    /// Returns the run that a creation with these fields starts.
    ///
    /// # Errors
    /// The first field that is missing.
    pub fn run(&'static self, fields: &BTreeMap<String, Box<RawValue>>) -> Result<Run, Refusal> {
        let field = |name: &str| fields.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null");
        if let Some(missing) = self.needs.iter().find(|name| field(name).is_none()) {
            return Err(Refusal::field(&["body", missing], "Field required", "missing"));
        }
        let repeated = self.repeats.iter().map(|&(name, default)| {
            let value = field(name).unwrap_or(default);
            format!("\"{name}\":{value}")
        });
        Ok(Run { primitive: self, repeated: repeated.collect::<Vec<_>>().join(",").into() })
    }

    /// Returns `output`, complete or empty.
    pub fn output(&self, is_complete: bool, size: Option<Size>) -> Payload {
        if !is_complete {
            return Payload::default().text(self.empty);
        }
        let (front, back) = self.output;
        let overhead = (front.len() + back.len()) as u64;
        let filler = size.map_or(0, |size| size.0.saturating_sub(overhead));
        Payload::default().text(front).filler(filler).text(back)
    }
}
