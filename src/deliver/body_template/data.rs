//! A job as a template sees it. Not by way of `serde_json::Value`, which turns whole numbers beyond 64 bits into floats
//! (to have it keep them is a feature of the crate that would change everybody's numbers).

use std::fmt;

use minijinja::value::Value;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Error, value::RawValue};

/// How deep a job may be nested; serde's own bound, which raw values are not held to. Each level reads what is in it once
/// more.
const MAX_DEPTH: usize = 128;

/// What a job may hold: a value counts one, and a list or an object as many as it takes of the memory of a number.
const MAX_VALUES: usize = 500_000;
const CONTAINER: usize = 5;

/// The value of a JSON text. Whole numbers of up to 128 bits are exact, others are 64-bit floats.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    if !fits(bytes) {
        return Err(Error::custom("it holds more values than a template may read"));
    }
    value(serde_json::from_slice(bytes)?, MAX_DEPTH)
}

/// Whether a text has no more values than [`MAX_VALUES`], seen before any of them is made. That it is nested too deeply is found
/// soon enough.
fn fits(bytes: &[u8]) -> bool {
    let (mut left, mut depth, mut in_text, mut escaped) = (MAX_VALUES, 0_usize, false, false);
    for byte in bytes {
        let cost = match byte {
            _ if escaped => {
                escaped = false;
                0
            }
            b'\\' if in_text => {
                escaped = true;
                0
            }
            b'"' => {
                in_text = !in_text;
                0
            }
            b'{' | b'[' if !in_text => {
                depth += 1;
                CONTAINER
            }
            b'}' | b']' if !in_text => {
                depth = depth.saturating_sub(1);
                0
            }
            b',' if !in_text => 1,
            _ => 0,
        };
        if depth > MAX_DEPTH {
            return true;
        }
        let Some(rest) = left.checked_sub(cost) else { return false };
        left = rest;
    }
    true
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, Error> {
    let text = raw.get();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::custom(format!("it is nested more than {MAX_DEPTH} levels deep")));
    };
    match text.as_bytes().first() {
        Some(b'{') => {
            let Pairs(pairs) = serde_json::from_str(text)?;
            let pairs = pairs.into_iter().map(|(key, raw)| Ok((Value::from(key), value(raw, depth)?)));
            Ok(Value::from_pairs(pairs.collect::<Result<Vec<_>, Error>>()?))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let items = items.into_iter().map(|raw| value(raw, depth));
            Ok(Value::from(items.collect::<Result<Vec<_>, Error>>()?))
        }
        Some(b'"') => Ok(Value::from(serde_json::from_str::<String>(text)?)),
        Some(b't') => Ok(Value::from(true)),
        Some(b'f') => Ok(Value::from(false)),
        Some(b'n') => Ok(Value::from(())),
        _ => number(text),
    }
}

fn number(text: &str) -> Result<Value, Error> {
    if let Ok(whole) = text.parse::<i128>() {
        // minijinja takes the smallest of its kinds.
        return Ok(i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from));
    }
    if let Ok(whole) = text.parse::<u128>() {
        return Ok(Value::from(whole));
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(Value::from(float)),
        _ => Err(Error::custom("it holds a number that is too large")),
    }
}

/// The pairs of an object, in their order.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}
