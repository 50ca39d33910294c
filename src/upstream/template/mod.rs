//! Paths with placeholders: `{id}`, the variables of a watch, and values taken from a status body.
//! `body` holds the templates of request bodies.

mod body;
mod form;
mod parse;

use std::{collections::BTreeMap, fmt};

pub use body::BodyTemplate;
pub use parse::{check_pointer, is_absolute, is_name};

use self::form::Form;
use crate::util::json_slice::Values;

/// A path, or a whole URL, with placeholders.
///
/// `{name}` is percent-encoded and stays within one segment. `{+name}` keeps its slashes: each
/// segment is encoded by itself, and empty and dot segments are refused. So no value changes the
/// path, the query or the origin around it. RFC 6570 lets more through in `{+name}` (section
/// 3.2.3): `?`, `#` and escapes, too. `{/a|/b}` is the value in the status body at the first JSON
/// pointer that is present, and so is `{+/a|/b}`. A template that is a single placeholder is the
/// URL itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Var { name: String, form: Form },
    Body { pointers: Vec<String>, form: Form },
}

/// Why a placeholder cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The watch has no such variable.
    #[error("the variable `{0}` is missing")]
    Missing(String),
    /// The status body has nothing there.
    #[error("the status has nothing at {0}")]
    Absent(String),
    /// The value would change the body around it.
    #[error("`{value}` cannot stand for `{name}` in the body of the request")]
    UnfitInBody {
        /// The placeholder.
        name: String,
        /// Its value.
        value: String,
    },
    /// The value would change the path around it.
    #[error("`{value}` cannot stand for `{name}` in a URL")]
    Unfit {
        /// The placeholder.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Template {
    /// Returns the names that it takes from a watch, `id` among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Var { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Returns whether it takes a value from a status body.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Body { .. }))
    }

    /// Returns the pointers into a status body that it takes values from.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        let lists = self.parts.iter().filter_map(|part| match part {
            Part::Body { pointers, .. } => Some(pointers),
            _ => None,
        });
        lists.flatten().map(String::as_str)
    }

    /// Returns the name of the variable that is all of it, and so the URL itself.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Var { name, .. }] => Some(name),
            _ => None,
        }
    }

    /// Returns the literal text that it begins with.
    #[must_use]
    pub fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Fills the template. `body` holds the values of the status body, if there is one.
    ///
    /// # Errors
    /// If a value is missing or unfit.
    pub fn fill(
        &self,
        id: &str,
        vars: &[&BTreeMap<String, String>],
        body: Option<&Values>,
    ) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Var { name, form } => text.push_str(&form.write(name, var(name, id, vars)?)?),
                Part::Body { pointers, form } => {
                    let name = pointers.join(" or ");
                    let found = body.and_then(|body| body.first_there(pointers));
                    let found = found.ok_or_else(|| TemplateError::Absent(name.clone()))?;
                    let Some(value) = found.word() else {
                        let value = "a value that is too long".to_owned();
                        return Err(TemplateError::Unfit { name, value });
                    };
                    text.push_str(&form.write_found(&name, &value)?);
                }
            }
        }
        Ok(text)
    }

    /// Checks the values that a watch brings for it, without a status body.
    ///
    /// # Errors
    /// If a value is missing or unfit.
    pub fn check(&self, id: &str, vars: &[&BTreeMap<String, String>]) -> Result<(), TemplateError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Var { name, form } => form.write(name, var(name, id, vars)?).map(drop),
            Part::Text(_) | Part::Body { .. } => Ok(()),
        })
    }

    /// Checks one value of a variable, wherever the template takes it.
    ///
    /// # Errors
    /// If it is unfit.
    pub fn check_var(&self, name: &str, value: &str) -> Result<(), TemplateError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Var { name: own, form } if own == name => form.write(name, value).map(drop),
            _ => Ok(()),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let plus = |form: &Form| if *form == Form::Segment { "" } else { "+" };
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Var { name, form } => write!(f, "{{{}{name}}}", plus(form))?,
                Part::Body { pointers, form } => write!(f, "{{{}{}}}", plus(form), pointers.join("|"))?,
            }
        }
        Ok(())
    }
}

/// Returns the value of a variable: the id, or the value of the first map that has it.
fn var<'a>(name: &str, id: &'a str, vars: &[&'a BTreeMap<String, String>]) -> Result<&'a str, TemplateError> {
    if name == "id" {
        return Ok(id);
    }
    let value = vars.iter().find_map(|vars| vars.get(name));
    value.map(String::as_str).ok_or_else(|| TemplateError::Missing(name.to_owned()))
}

#[cfg(test)]
mod tests;
