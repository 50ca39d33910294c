//! Compresses the built page in `ui/dist`, which `src/api/page` embeds. The files are in the
//! repository, so that a build needs no Node.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    fmt::Write as _,
    fs,
    hash::Hasher as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

const DIST: &str = "ui/dist";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={DIST}");
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| io::Error::other("no OUT_DIR"))?;
    let mut paths = Vec::new();
    list(Path::new(DIST), &mut paths)
        .map_err(|error| io::Error::other(format!("{DIST}: {error}; it is a part of the repository")))?;
    paths.sort();
    let mut table = "&[\n".to_owned();
    for (number, path) in paths.iter().enumerate() {
        let content = fs::read(path)?;
        fs::write(out.join(format!("page-{number}.gz")), gzip(&content)?)?;
        // Slashes on every system, as in a URL.
        let parts = path.strip_prefix(DIST).map_err(io::Error::other)?.iter();
        let name = parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let media_type = media_type(path)?;
        let mut hash = DefaultHasher::new();
        hash.write(&content);
        let hash = format!("{:016x}", hash.finish());
        writeln!(
            table,
            "PageFile {{ name: {name:?}, media_type: {media_type:?}, hash: {hash:?}, \
             gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/page-{number}.gz\")) }},"
        )
        .map_err(io::Error::other)?;
    }
    table.push(']');
    fs::write(out.join("page.rs"), table)
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Compresses without a name or a time, so that equal files make equal binaries.
fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

fn media_type(path: &Path) -> io::Result<&'static str> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("png") => Ok("image/png"),
        Some("woff2") => Ok("font/woff2"),
        Some("json") => Ok("application/json"),
        Some("txt") => Ok("text/plain; charset=utf-8"),
        _ => Err(io::Error::other(format!("{} has no known media type", path.display()))),
    }
}
