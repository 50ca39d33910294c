//! One direction: an import in `src/` goes to a room further right, or stays inside its own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, File, Item, ItemMod, ItemUse, Macro, Path as RustPath, UseTree,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// The rooms, from the one that knows most to the ones that know least. Those in one line do not know each other.
const ORDER: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["proxy"],
    &["api"],
    &["state"],
    &["config", "watcher"],
    &["routing", "upstream"],
    &["deliver", "schedule"],
    &["store"],
    &["telemetry"],
    &["model"],
    &["util"],
];

/// Rooms that stand aside. The command line runs them; nothing of the daemon knows them.
const ASIDE: &[&str] = &["mock", "simulate"];

/// One import across rooms.
struct Arrow {
    from: String,
    to: String,
    at: String,
}

impl Arrow {
    /// The rule that it breaks.
    fn broken_rule(&self) -> Option<String> {
        let level = |room: &str| ORDER.iter().position(|rooms| rooms.contains(&room));
        let (from, to) = (self.from.as_str(), self.to.as_str());
        if ASIDE.contains(&to) {
            return (from != "cli").then(|| format!("only `cli` runs `{to}`"));
        }
        if ASIDE.contains(&from) {
            return None;
        }
        let known =
            |room: &str| level(room).ok_or_else(|| format!("`{room}` is no room: give it a place in ORDER"));
        match (known(from), known(to)) {
            (Err(unknown), _) | (_, Err(unknown)) => Some(unknown),
            (Ok(left), Ok(right)) if right > left => None,
            (Ok(left), Ok(right)) if right == left => {
                Some(format!("`{from}` and `{to}` do not know each other"))
            }
            _ => Some(format!("`{to}` comes before `{from}`, and an import goes right")),
        }
    }
}

/// Reads one module: the first names of the paths that begin at the root of the crate.
struct Imports {
    /// The module's path, its room first.
    module: Vec<String>,
    found: Vec<(String, Span)>,
    modules: Vec<ItemMod>,
}

impl Imports {
    fn add(&mut self, mut segments: impl Iterator<Item = String>, span: Span) {
        let Some(mut first) = segments.next() else { return };
        if first == "super" {
            let mut up = 1;
            let next = loop {
                match segments.next() {
                    Some(segment) if segment == "super" => up += 1,
                    other => break other,
                }
            };
            let (Some(next), true) = (next, up == self.module.len()) else { return };
            first = next;
        } else if first == "crate" {
            let Some(next) = segments.next() else { return };
            first = next;
        } else {
            return;
        }
        self.found.push((first, span));
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let mut before = before.to_vec();
                before.push(path.ident.to_string());
                self.add_tree(&path.tree, &before);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
            UseTree::Name(name) => self.add_use(before, &name.ident),
            UseTree::Rename(rename) => self.add_use(before, &rename.ident),
            UseTree::Glob(glob) => {
                self.add(before.iter().cloned(), glob.span());
            }
        }
    }

    fn add_use(&mut self, before: &[String], last: &proc_macro2::Ident) {
        self.add(before.iter().cloned().chain([last.to_string()]), last.span());
    }

    /// What a macro is called with is only tokens.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Ident(ident) if *ident == "crate" => {
                    if let Some(TokenTree::Ident(next)) = tokens.get(at + 3) {
                        self.found.push((next.to_string(), ident.span()));
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        match &module.content {
            Some(_) => {
                self.module.push(module.ident.to_string());
                visit::visit_item_mod(self, module);
                self.module.pop();
            }
            None => self.modules.push(module.clone()),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast RustPath) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()), path.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.add_tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let tokens = |attribute: &Attribute| attribute.meta.require_list().map(|list| list.tokens.to_string());
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && tokens(attribute).is_ok_and(|tokens| tokens == "test")
    })
}

/// Reads a file and the modules below it, but for tests.
fn read(file: &Path, folder: &Path, module: Vec<String>, arrows: &mut Vec<Arrow>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed: File = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut imports = Imports { module, found: Vec::new(), modules: Vec::new() };
    imports.visit_file(&parsed);
    if let Some(room) = imports.module.first() {
        let lines = |span: Span| format!("{}:{}", file.display(), span.start().line);
        let across = imports.found.iter().filter(|(to, _)| to != room);
        arrows.extend(across.map(|(to, span)| Arrow {
            from: room.clone(),
            to: to.clone(),
            at: lines(*span),
        }));
    }
    for below in imports.modules {
        let name = below.ident.to_string();
        let inside = folder.join(&name);
        let candidates: [PathBuf; 2] = [inside.with_extension("rs"), inside.join("mod.rs")];
        let found = candidates.iter().find(|path| path.exists());
        let found = found.unwrap_or_else(|| panic!("{}: no file for `mod {name}`", file.display()));
        let module = imports.module.iter().cloned().chain([name]).collect();
        read(found, &inside, module, arrows);
    }
}

fn arrows() -> Vec<Arrow> {
    let mut arrows = Vec::new();
    read(Path::new("src/lib.rs"), Path::new("src"), Vec::new(), &mut arrows);
    arrows
}

#[test]
fn every_import_goes_right() {
    let arrows = arrows();
    let mut rooms: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for arrow in &arrows {
        *rooms.entry((&arrow.from, &arrow.to)).or_default() += 1;
    }
    let wrong: Vec<String> = arrows
        .iter()
        .filter_map(|arrow| {
            let rule = arrow.broken_rule()?;
            Some(format!("{}: `{}` imports `{}`: {rule}", arrow.at, arrow.from, arrow.to))
        })
        .collect();
    println!("{} imports between {} pairs of rooms, {} run back", arrows.len(), rooms.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {} imports run back:\n{}", wrong.len(), arrows.len(), wrong.join("\n"));
}
