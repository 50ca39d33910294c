//! Reads types out of the merged tree. Its errors keep their parts apart and never quote a value: a
//! value of the wrong type may be a secret in the wrong place.

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
    node::{Node, NodeKind},
    wording::join_words,
};

/// The reason why a value does not fit its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueError {
    UnknownKey { known: &'static [&'static str] },
    Missing(&'static str),
    Type { expected: String, found: &'static str },
    Variant { found: String, known: &'static [&'static str] },
    Other(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { .. } => f.write_str("unknown key"),
            Self::Missing(key) => write!(f, "`{key}` is missing"),
            Self::Type { expected, found } => write!(f, "expected {expected}, found {found}"),
            // Without the word that was found, which may be a secret.
            Self::Variant { known, .. } => write!(f, "it is not one of {}", join_words(known, "or")),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Other(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Type { expected: plain(&expected.to_string()), found: kind_of(found) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        // An integer that does not fit is mostly negative.
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

/// Returns an expectation of serde in the words of TOML.
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

impl IntoDeserializer<'_, ValueError> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Node {
    /// Reads a variable of the environment as TOML where text does not fit. Other text stays text,
    /// so that the error says so.
    fn typed(self) -> Self {
        let NodeKind::Untyped(text) = &self.kind else { return self };
        let kind = from_toml_text(text, &self.origin).unwrap_or_else(|| NodeKind::Text(text.clone()));
        Self { origin: self.origin, kind }
    }
}

macro_rules! typed {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.typed().deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.kind {
            NodeKind::Gone => visitor.visit_unit(),
            NodeKind::Bool(value) => visitor.visit_bool(value),
            NodeKind::Integer(value) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => Err(ValueError::Other("the number is too big".to_owned())),
            },
            NodeKind::Float(value) => visitor.visit_f64(value),
            NodeKind::Text(text) | NodeKind::Untyped(text) => visitor.visit_string(text),
            NodeKind::List(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().filter(|item| !item.is_gone())))
            }
            NodeKind::Table(entries) => visitor
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
    ) -> Result<V::Value, ValueError> {
        match self.typed() {
            // A struct would read a list as its fields in their order, which is never meant.
            Self { kind: NodeKind::List(_), .. } => {
                Err(ValueError::Type { expected: "a table".to_owned(), found: "a list" })
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.is_gone() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.kind {
            NodeKind::Text(text) | NodeKind::Untyped(text) => {
                let text: StringDeserializer<ValueError> = text.into_deserializer();
                visitor.visit_enum(text)
            }
            _ => {
                let found = self.deserialize_any(KindName)?;
                Err(ValueError::Type { expected: "text in quotes".to_owned(), found })
            }
        }
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Returns the name of a value's type.
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
