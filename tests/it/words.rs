//! Words that were given up stay out of the documents and of the code. STYLE.md has the list.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Terms that hold such a word and are not ours to change: those of others, and a field of the API.
const TERMS: [&str; 3] = ["carrier-grade NAT", "buffer.unfilled()", "rename = \"looks\""];

const HEADING: &str = "## Words that were given up";

/// A word of a text, in lower case.
struct Word {
    text: String,
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Splits a text into words; names are split at `_` and at capitals.
fn words(text: &str) -> Vec<Word> {
    text.lines().enumerate().flat_map(|(index, line)| words_of_line(line, index + 1)).collect()
}

fn words_of_line(line: &str, number: usize) -> Vec<Word> {
    let mut found: Vec<Word> = Vec::new();
    let mut inside = false;
    let mut after_lower = false;
    for c in line.chars() {
        let begins = !inside || (after_lower && c.is_uppercase());
        inside = c.is_alphanumeric();
        after_lower = c.is_lowercase();
        if inside && begins {
            found.push(Word { text: String::new(), line: number });
        }
        if inside {
            found.last_mut().unwrap().text.extend(c.to_lowercase());
        }
    }
    found
}

/// The phrases of the table in STYLE.md, each as its words.
fn given_up() -> Vec<Vec<String>> {
    let style = fs::read_to_string(root().join("STYLE.md")).unwrap();
    let rows = style.split_once(HEADING).unwrap().1.lines().filter(|line| line.starts_with("| ")).skip(2);
    let phrases = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    let phrases: Vec<Vec<String>> =
        phrases.map(|phrase| words(phrase).into_iter().map(|word| word.text).collect()).collect();
    assert!(phrases.len() > 20, "STYLE.md has the table: {phrases:?}");
    phrases
}

/// Every place where a text has one of the phrases.
fn offences(name: &str, text: &str, phrases: &[Vec<String>]) -> Vec<String> {
    let words = words(text);
    let starts = (0..words.len()).flat_map(|at| phrases.iter().map(move |phrase| (at, phrase)));
    let hits = starts.filter(|(at, phrase)| {
        let here = words[*at..].iter().map(|word| word.text.as_str());
        words.len() - at >= phrase.len() && here.zip(phrase.iter()).all(|(word, wanted)| word == wanted)
    });
    hits.map(|(at, phrase)| format!("{name}:{}: {}", words[at].line, phrase.join(" "))).collect()
}

fn files_below(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("node_modules") {
            found.extend(files_below(&entry, extensions));
        } else if entry.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// The tables of STYLE.md show what not to write.
fn without_tables(text: &str) -> String {
    text.lines().map(|line| if line.starts_with('|') { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// What is generated takes its words from the code.
fn without_generated(text: &str) -> String {
    let mut generated = false;
    let kept = text.lines().map(|line| {
        generated = !line.starts_with("<!-- end") && (generated || line.starts_with("<!-- generated"));
        if generated { "" } else { line }
    });
    kept.collect::<Vec<_>>().join("\n")
}

fn all_offences(paths: Vec<PathBuf>) -> String {
    let phrases = given_up();
    let mut list = String::new();
    for path in paths {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let text = if name == "STYLE.md" { without_tables(&text) } else { without_generated(&text) };
        let text = TERMS.iter().fold(text, |text, term| text.replace(term, ""));
        for offence in offences(&name, &text, &phrases) {
            writeln!(list, "{offence}").unwrap();
        }
    }
    list
}

#[test]
fn a_phrase_is_found_in_prose_and_in_names() {
    let phrases = vec![vec!["look".to_owned()], vec!["hands".to_owned(), "over".to_owned()]];
    let text = "overlook\nfn look_now() {}\nstruct LastLook;\n/// hands\n/// over";
    assert_eq!(offences("a.rs", text, &phrases), ["a.rs:2: look", "a.rs:3: look", "a.rs:4: hands over"]);
}

#[test]
fn given_up_words_stay_out_of_the_documents() {
    let mut paths: Vec<PathBuf> = ["README", "ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "STYLE"]
        .iter()
        .map(|name| root().join(name).with_extension("md"))
        .collect();
    paths.extend(files_below(&root().join("docs"), &["md"]));
    let found = all_offences(paths);
    assert!(found.is_empty(), "STYLE.md says what to write instead:\n{found}");
}

#[test]
fn given_up_words_stay_out_of_the_code() {
    let mut paths = files_below(&root().join("src"), &["rs"]);
    paths.extend(files_below(&root().join("config"), &["toml"]));
    let found = all_offences(paths);
    assert!(found.is_empty(), "STYLE.md says what to write instead:\n{found}");
}
