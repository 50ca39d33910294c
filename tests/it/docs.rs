//! What the documents say holds: their blocks parse, their commands exist, their keys and routes are ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use serde_json::Value;
use tidings::{api, cli::Cli, config};

/// A fenced block of a document.
struct Block {
    place: String,
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages in the repository's root and below `docs/`, each by its path.
fn documents() -> Vec<(String, String)> {
    let mut paths = pages_in(root());
    paths.extend(pages_below(&root().join("docs")));
    paths.sort();
    assert!(paths.len() >= 4, "README, ARCHITECTURE, CHANGELOG and CONTRIBUTING are there: {paths:?}");
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(named).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
}

fn pages_in(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A receiver's libraries are not ours.
fn pages_below(folder: &Path) -> Vec<PathBuf> {
    let mut pages = pages_in(folder);
    let folders = entries(folder).filter(|path| path.is_dir() && !path.ends_with("node_modules"));
    pages.extend(folders.flat_map(|path| pages_below(&path)));
    pages
}

fn blocks(name: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                open = true;
                let place = format!("{name}:{}", index + 1);
                blocks.push(Block { place, language: language.to_owned(), text: String::new() });
            }
            None if open => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "{name}: a block is not closed");
    blocks
}

fn all_blocks(languages: &[&str]) -> Vec<Block> {
    let all = documents().into_iter().flat_map(|(name, text)| blocks(&name, &text));
    let wanted: Vec<Block> = all.filter(|block| languages.contains(&block.language.as_str())).collect();
    assert!(!wanted.is_empty(), "no document has a block of {languages:?}");
    wanted
}

/// The text between backticks in running text.
fn inline(text: &str) -> Vec<String> {
    let mut open = false;
    let running = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        open ^= fence;
        !fence && !open
    });
    running
        .flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// The simple commands of a shell block as words, without assignments, redirections and substitutions.
fn commands(block: &Block) -> Vec<Vec<String>> {
    let text = block.text.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words =
            shlex::split(line).unwrap_or_else(|| panic!("{}: `{line}` is no shell line", block.place));
        for command in words.split(|word| matches!(word.as_str(), "|" | "&&" | "||" | ";" | "&")) {
            let is_assignment =
                |word: &&String| word.split_once('=').is_some_and(|(name, _)| is_variable(name));
            let command = command.iter().skip_while(is_assignment);
            let command: Vec<String> =
                command.take_while(|word| !word.contains(['<', '>'])).cloned().collect();
            if !command.is_empty() {
                found.push(command);
            }
        }
    }
    found
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn every_block_parses() {
    for block in all_blocks(&["json"]) {
        serde_json::from_str::<Value>(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
    }
    for block in all_blocks(&["toml"]) {
        toml::from_str::<config::Config>(&block.text)
            .unwrap_or_else(|error| panic!("{}: {error}", block.place));
    }
    for block in all_blocks(&["yaml"]) {
        serde_saphyr::from_str_multiple::<Value, Vec<Value>>(&block.text)
            .unwrap_or_else(|error| panic!("{}: {error}", block.place));
    }
}

#[test]
fn every_command_is_one_of_ours() {
    let mut seen = BTreeSet::new();
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for block in all_blocks(&["sh"]) {
        lines.extend(commands(&block).into_iter().map(|command| (block.place.clone(), command)));
    }
    for (name, text) in documents() {
        let texts =
            inline(&text).into_iter().filter(|text| text.starts_with("tidings ") && !text.contains('…'));
        lines.extend(texts.map(|text| (name.clone(), shlex::split(&text).unwrap())));
    }
    for (place, words) in lines {
        let words = match words.as_slice() {
            [tidings, ..] if tidings == "tidings" => words.clone(),
            [cargo, run, ..] if cargo == "cargo" && run == "run" => {
                let after = words.iter().position(|word| word == "--").map_or(words.len(), |at| at + 1);
                [&["tidings".to_owned()], &words[after..]].concat()
            }
            _ => continue,
        };
        match Cli::try_parse_from(&words) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {}
            // Running text names a command without all that it needs.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument && !place.contains(':') => {}
            Err(error) => panic!("{place}: `{}`: {error}", words.join(" ")),
        }
        seen.extend(words.get(1).cloned());
    }
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(name == "help" || seen.contains(name), "no document shows `tidings {name}`");
    }
}

#[test]
fn every_request_has_a_route() {
    let document = serde_json::to_value(api::openapi()).unwrap();
    let known = document["paths"].as_object().unwrap();
    let mut seen = 0;
    for block in all_blocks(&["sh"]) {
        for words in commands(&block).into_iter().filter(|words| words[0] == "curl") {
            let Some(url) = words.iter().find(|word| word.contains("127.0.0.1:8787/")) else { continue };
            let path = url.split_once(":8787").unwrap().1.split('?').next().unwrap();
            let post = words.iter().any(|word| matches!(word.as_str(), "-d" | "--data-binary"));
            let named = words.iter().position(|word| word == "-X").map(|at| words[at + 1].to_lowercase());
            let method = named.unwrap_or_else(|| if post { "post" } else { "get" }.to_owned());
            let matching = known.iter().any(|(route, methods)| {
                let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
                let same = |(known, given): (&&str, &&str)| known.starts_with('{') || known == given;
                route.len() == path.len()
                    && route.iter().zip(&path).all(same)
                    && methods.get(&method).is_some()
            });
            assert!(matching, "{}: {method} {path} is no route", block.place);
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} requests were found");
}

#[test]
fn every_key_is_in_the_schema() {
    let schema = serde_json::to_value(config::schema()).unwrap();
    let sections: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let mut seen = 0;
    for (name, text) in documents() {
        for key in inline(&text) {
            let first = key.split('.').next().unwrap();
            let is_key = key.contains('.')
                && sections.iter().any(|section| *section == first)
                && key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.' | '*'))
                && Path::new(&key).extension().is_none_or(|extension| extension != "rs");
            if is_key {
                assert!(is_known(&schema, &schema, &key.split('.').collect::<Vec<_>>()), "{name}: `{key}`");
                seen += 1;
            }
        }
    }
    assert!(seen >= 4, "only {seen} keys were found");
}

/// Whether a path of keys is in a JSON Schema; a name such as that of a sink is any word.
fn is_known(schema: &Value, node: &Value, path: &[&str]) -> bool {
    if let Some(reference) = node["$ref"].as_str() {
        return is_known(schema, schema.pointer(reference.trim_start_matches('#')).unwrap(), path);
    }
    let [key, rest @ ..] = path else { return true };
    let choices = ["oneOf", "anyOf", "allOf"].iter().filter_map(|word| node[word].as_array()).flatten();
    let children = [&node["properties"][key], &node["additionalProperties"]];
    children.into_iter().any(|child| child.is_object() && is_known(schema, child, rest))
        || choices.into_iter().any(|choice| is_known(schema, choice, path))
        || (node["items"].is_object() && is_known(schema, &node["items"], path))
}

/// The rooms, as `src/lib.rs` lists them.
fn rooms() -> Vec<String> {
    let library = read("src/lib.rs");
    let modules = library.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
    modules.map(str::to_owned).collect()
}

#[test]
fn the_picture_shows_the_rooms() {
    let library = read("src/lib.rs");
    let architecture = read("ARCHITECTURE.md");
    let picture = architecture.lines().find(|line| line.starts_with("caller ─▶")).unwrap();
    let stages: Vec<&str> = picture.split("─▶").map(str::trim).collect();
    let [caller, shown @ .., sinks] = stages.as_slice() else { panic!("{picture}") };
    assert_eq!((*caller, *sinks), ("caller", "webhook | disk"));
    for room in shown {
        assert!(rooms().iter().any(|known| known == room), "there is no room `{room}`");
    }
    assert!(shown.len() >= 7, "{picture}");
    assert!(library.contains(picture), "src/lib.rs shows another picture than ARCHITECTURE.md");
}

#[test]
fn every_room_is_described() {
    let architecture = read("ARCHITECTURE.md");
    for room in rooms() {
        assert!(architecture.contains(&format!("| `{room}` |")), "ARCHITECTURE.md has no row for `{room}`");
    }
}

#[test]
fn the_readme_says_how_to_run_and_test() {
    let readme = read("README.md");
    for command in ["cargo run --locked -- demo", "cargo test --locked"] {
        assert!(readme.lines().any(|line| line.starts_with(command)), "README.md does not say `{command}`");
    }
    let ci = read(".ci/run");
    assert!(ci.lines().any(|line| line == "cargo test --locked"), ".ci/run runs another test command");
    assert!(readme.lines().count() <= 250, "README.md has more than 250 lines");
}

#[test]
fn the_index_lists_every_page() {
    let index = read("docs/README.md");
    for (name, _) in documents() {
        if let Some(page) = name.strip_prefix("docs/").filter(|page| *page != "README.md") {
            assert!(index.contains(&format!("]({page})")), "docs/README.md does not list {page}");
        }
    }
}

#[test]
fn every_step_of_the_paths_is_in_its_file() {
    let architecture = read("ARCHITECTURE.md");
    let paths = architecture.split_once("## Three paths through the code").unwrap().1;
    let mut seen = 0;
    for row in paths.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<Vec<String>> = row.split('|').map(inline).collect();
        let [_, _, files, functions, ..] = cells.as_slice() else { panic!("{row}") };
        for function in functions {
            let name = function.rsplit("::").next().unwrap();
            let found = files.iter().any(|file| {
                ["fn", "struct"].iter().any(|kind| read(file).contains(&format!("{kind} {name}")))
            });
            assert!(found, "ARCHITECTURE.md: `{function}` is not in {files:?}");
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} steps were found");
}

#[test]
fn the_examples_are_the_files() {
    let guide = read("docs/guide/webhooks.md");
    for file in ["docs/examples/receiver.py", "docs/examples/receiver.js"] {
        assert!(guide.contains(&read(file)), "docs/guide/webhooks.md does not show {file} as it is");
    }
}

#[test]
fn every_named_file_is_there() {
    let folders = ["src/", "tests/", "benches/", "deploy/", "config/", "docs/"];
    let mut seen = 0;
    for (name, text) in documents() {
        for path in inline(&text) {
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
            let in_repository = folders.iter().any(|folder| path.starts_with(folder));
            let is_source =
                path.contains('/') && Path::new(&path).extension().is_some_and(|found| found == "rs");
            if plain && (in_repository || is_source) {
                let found =
                    [root().join(&path), root().join("src").join(&path)].iter().any(|path| path.exists());
                assert!(found, "{name}: `{path}` is not there");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} names of files were found");
}

#[test]
fn every_link_leads_somewhere() {
    let anchors: BTreeMap<String, BTreeSet<String>> =
        documents().into_iter().map(|(name, text)| (name, anchors(&text))).collect();
    for (name, text) in documents() {
        for target in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let page = if file.is_empty() { name.clone() } else { beside(&name, file) };
            assert!(root().join(&page).exists(), "{name}: {target} is not there");
            let known = anchors.get(&page);
            assert!(
                anchor.is_empty() || known.is_some_and(|known| known.contains(anchor)),
                "{name}: {page} has no heading for {target}"
            );
        }
    }
}

/// The targets of links in a page that lead into the repository.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The path of a link's file, from the root of the repository.
fn beside(page: &str, file: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            ".." => assert!(parts.pop().is_some(), "{page}: {file} leads out of the repository"),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What follows `#` in a link to a heading of this page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut open = false;
    let headings = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        open ^= fence;
        !fence && !open && line.starts_with('#')
    });
    let anchor = |line: &str| -> String {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
