//! Reads types out of the merged tree, with errors that keep their parts apart and never quote a value:
//! a value of the wrong type may be a secret that slipped into the wrong place.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        self, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    layers::from_toml_text,
    node::{Kind, Node},
};

/// Why a value does not fit its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    UnknownKey { known: &'static [&'static str] },
    Missing(&'static str),
    Type { expected: String, found: &'static str },
    Variant { found: String, known: &'static [&'static str] },
    Other(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { .. } => f.write_str("unknown key"),
            Self::Missing(key) => write!(f, "`{key}` is missing"),
            Self::Type { expected, found } => write!(f, "expected {expected}, found {found}"),
            // Never the word that was found: a secret may have slipped in here.
            Self::Variant { known, .. } => write!(f, "it is not one of {}", listed(known, "or")),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// `a`, `b` or `c`, in backticks, with this word before the last.
pub(crate) fn listed(words: &[impl AsRef<str>], joint: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {joint} {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}

impl std::error::Error for Flaw {}

impl de::Error for Flaw {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Other(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Type { expected: plain(&expected.to_string()), found: kind_of(found) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        // An integer that does not fit, mostly a negative one.
        Self::Type { expected: plain(&expected.to_string()), found: kind_of(found) }
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { known }
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::Variant { found: found.to_owned(), known }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// What serde expects, in words that mean something to somebody who writes TOML.
fn plain(expected: &str) -> String {
    match expected {
        "a sequence" => "a list such as [\"a\", \"b\"]".to_owned(),
        "a map" => "a table".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "path string" => "a path in quotes".to_owned(),
        "a string" => "text in quotes".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "usize" | "u64" | "u32" | "u16" => "a whole number, not negative".to_owned(),
        _ if expected.starts_with("struct ") || expected.starts_with("internally tagged") => {
            "a table".to_owned()
        }
        _ if expected.starts_with("enum ") => "text in quotes".to_owned(),
        _ => expected.to_owned(),
    }
}

fn kind_of(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Signed(n) if n < 0 => "a negative number",
        Unexpected::Signed(_) | Unexpected::Unsigned(_) => "a whole number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Str(_) | Unexpected::Char(_) => "text",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        _ => "something else",
    }
}

impl IntoDeserializer<'_, Flaw> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Node {
    /// What a variable of the environment stands for where text will not do. Text that means nothing
    /// else stays text, so that the error says so.
    fn typed(self) -> Self {
        let Kind::Untyped(text) = &self.kind else { return self };
        let kind = from_toml_text(text, &self.origin).unwrap_or_else(|| Kind::Text(text.clone()));
        Self { origin: self.origin, kind }
    }
}

macro_rules! typed {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
            self.typed().deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.kind {
            Kind::Gone => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(value),
            Kind::Integer(value) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => Err(Flaw::Other("the number is too big".to_owned())),
            },
            Kind::Float(value) => visitor.visit_f64(value),
            Kind::Text(text) | Kind::Untyped(text) => visitor.visit_string(text),
            Kind::List(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().filter(|item| !item.is_gone())))
            }
            Kind::Table(entries) => visitor
                .visit_map(MapDeserializer::new(entries.into_iter().filter(|(_, node)| !node.is_gone()))),
        }
    }

    typed! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_seq deserialize_map
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        match self.typed() {
            // A struct would read a list as its fields in their order; nobody means that.
            Self { kind: Kind::List(_), .. } => {
                Err(Flaw::Type { expected: "a table".to_owned(), found: "a list" })
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        if self.is_gone() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        match self.kind {
            Kind::Text(text) | Kind::Untyped(text) => {
                let text: StringDeserializer<Flaw> = text.into_deserializer();
                visitor.visit_enum(text)
            }
            _ => {
                let found = self.deserialize_any(KindName)?;
                Err(Flaw::Type { expected: "text in quotes".to_owned(), found })
            }
        }
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Names the kind of what it is shown.
struct KindName;

impl<'de> Visitor<'de> for KindName {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, value: bool) -> Result<&'static str, E> {
        Ok(kind_of(Unexpected::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<&'static str, E> {
        Ok(kind_of(Unexpected::Signed(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<&'static str, E> {
        Ok(kind_of(Unexpected::Unsigned(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<&'static str, E> {
        Ok(kind_of(Unexpected::Float(value)))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<&'static str, A::Error> {
        Ok("a list")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<&'static str, A::Error> {
        Ok("a table")
    }
}
