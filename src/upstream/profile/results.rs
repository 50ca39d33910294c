//! Several results of a job: where each is, and how its pages follow each other.

use std::collections::BTreeMap;

use http::HeaderName;

use crate::{
    upstream::{BodyTemplate, ResultAuth, ResultConfig, Template, TemplateError, template::check_pointer},
    util::{
        composite,
        json_slice::{Raw, Values},
    },
};

/// The longest name of a result, in bytes.
const MAX_NAME: usize = 64;

/// The name that a path takes the item of a list by.
const ITEM: &str = "item";

/// One of several results.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultSpec {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: ResultPlace,
    /// Whether it may be missing.
    pub is_optional: bool,
}

/// Where a result is.
#[derive(Clone, Debug, PartialEq)]
pub enum ResultPlace {
    /// At this pointer in the status body.
    Status(String),
    /// In the answer to a request.
    Request(Box<ResultRequest>),
}

/// The request for a result.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRequest {
    /// Its path.
    pub path: Template,
    /// Its body. `None`: it is a `GET`.
    pub post: Option<BodyTemplate>,
    /// Whether it carries none of our headers.
    pub is_bare: bool,
    /// The pointer to the part of the answer that is delivered.
    pub at: Option<String>,
    /// The pointer to the list in the status body whose items are requested.
    pub each_at: Option<String>,
    /// How its pages follow each other.
    pub pages: Option<Pages>,
}

/// How the pages of a result follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Where a page names the next one.
    pub next: NextPlace,
    /// The parameter that takes a cursor. `None`: a page names the address of the next one.
    pub param: Option<String>,
    /// The pointer to the list in each page. `None`: pages are joined one after the other.
    pub items_at: Option<String>,
}

/// Where a page names the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPlace {
    /// At this pointer in its body.
    Body(String),
    /// In this header.
    Header(HeaderName),
}

/// The values of one item, as a path takes them.
pub type ItemValues = BTreeMap<String, String>;

impl ResultSpec {
    /// Reads one result.
    ///
    /// # Errors
    /// A message for the operator.
    pub(super) fn of(keys: &ResultConfig, media_type: Option<&str>) -> Result<Self, String> {
        let name = keys.name.clone();
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(format!("each has a name of 1 to {MAX_NAME} bytes without control characters"));
        }
        let place = place(keys, media_type).map_err(|reason| format!("`{name}`: {reason}"))?;
        if name == composite::STATUS {
            return Err(format!("`{name}` is the name of the status body"));
        }
        Ok(Self { name, place, is_optional: keys.optional })
    }

    /// Returns its request, if it is not in the status body.
    #[must_use]
    pub fn request(&self) -> Option<&ResultRequest> {
        match &self.place {
            ResultPlace::Status(_) => None,
            ResultPlace::Request(request) => Some(request),
        }
    }

    /// Returns the pointers into the status body whose words it takes.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.request().into_iter().flat_map(|request| request.path.pointers())
    }
}

impl ResultRequest {
    /// Returns the names that it takes from a watch.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.path.names().chain(self.post.iter().flat_map(BodyTemplate::names));
        names.filter(|name| self.each_at.is_none() || !is_item(name))
    }

    /// Checks that it can be filled with what a watch brings.
    pub(super) fn check(&self, id: &str, vars: [&BTreeMap<String, String>; 2]) -> Result<(), TemplateError> {
        let names = self.path.names().filter(|name| is_item(name));
        let item: ItemValues = names.map(|name| (name.to_owned(), "x".to_owned())).collect();
        self.path.check(id, &[&item, vars[0], vars[1]])?;
        self.post.iter().try_for_each(|body| body.fill(id, &vars).map(drop))
    }

    /// Checks one value of a variable.
    pub(super) fn check_var(&self, name: &str, value: &str) -> Result<(), TemplateError> {
        self.path.check_var(name, value)?;
        self.post.iter().try_for_each(|body| body.check_var(name, value))
    }

    /// Returns the pointers into an item whose words its path takes.
    pub fn item_pointers(&self) -> impl Iterator<Item = &str> {
        self.path.names().filter_map(pointer_of)
    }

    /// Returns the values of an item, as its path takes them. A value that is not there is left
    /// out.
    #[must_use]
    pub fn item(&self, found: &Values) -> ItemValues {
        let value = |name: &str| {
            let word = found.at(pointer_of(name)?).and_then(Raw::word)?;
            Some((name.to_owned(), word))
        };
        self.path.names().filter_map(value).collect()
    }
}

/// Returns whether a name is that of an item or of a value in it.
pub(super) fn is_item(name: &str) -> bool {
    pointer_of(name).is_some()
}

fn pointer_of(name: &str) -> Option<&str> {
    name.strip_prefix(ITEM).filter(|pointer| pointer.is_empty() || pointer.starts_with('/'))
}

fn place(keys: &ResultConfig, media_type: Option<&str>) -> Result<ResultPlace, String> {
    for pointer in [&keys.at, &keys.each_at, &keys.items_at].into_iter().flatten() {
        check_pointer(pointer)?;
    }
    let Some(path) = &keys.path else {
        let further = [&keys.body, &keys.each_at, &keys.next_at, &keys.next_param, &keys.items_at];
        if further.into_iter().any(Option::is_some) || keys.auth == ResultAuth::None {
            return Err("without path there is no request".to_owned());
        }
        let at = keys.at.clone();
        return at.map(ResultPlace::Status).ok_or_else(|| "it needs path, or at".to_owned());
    };
    let path = Template::parse(path)?;
    if keys.each_at.is_none() && path.names().any(|name| is_item(name) && name != ITEM) {
        return Err("{item/…} is a value of an item of each_at, which is missing".to_owned());
    }
    let post = keys.body.as_deref().map(|text| BodyTemplate::parse(text, media_type)).transpose()?;
    if post.is_some() && keys.auth == ResultAuth::None {
        return Err("a body is for the source, and auth = \"none\" for a link".to_owned());
    }
    let pages = pages(keys)?;
    if let (Some(pages), Some(post)) = (&pages, &post)
        && (pages.param.is_none() || !post.is_json_object())
    {
        return Err(
            "pages of a POST need next_param, a member of its body, which is a JSON object".to_owned()
        );
    }
    Ok(ResultPlace::Request(Box::new(ResultRequest {
        path,
        post,
        is_bare: keys.auth == ResultAuth::None,
        at: keys.at.clone().filter(|at| !at.is_empty()),
        each_at: keys.each_at.clone(),
        pages,
    })))
}

fn pages(keys: &ResultConfig) -> Result<Option<Pages>, String> {
    let Some(next_at) = &keys.next_at else {
        return match keys.next_param.is_some() || keys.items_at.is_some() {
            true => Err("next_param and items_at are about pages, and next_at is missing".to_owned()),
            false => Ok(None),
        };
    };
    if keys.at.is_some() {
        return Err("at is about one answer, and items_at about pages".to_owned());
    }
    let next = if next_at.starts_with('/') {
        check_pointer(next_at)?;
        NextPlace::Body(next_at.clone())
    } else {
        let name = next_at.parse();
        NextPlace::Header(name.map_err(|_| "next_at is neither a JSON pointer nor a header name".to_owned())?)
    };
    if matches!(next, NextPlace::Body(_)) && keys.items_at.is_none() {
        return Err("pages of JSON need items_at: the list in each of them".to_owned());
    }
    Ok(Some(Pages { next, param: keys.next_param.clone(), items_at: keys.items_at.clone() }))
}
