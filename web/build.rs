//! Brings the front-end parts (by `package-lock.json`, through npm) to where the crate embeds them from.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use flate2::{Compression, write::GzEncoder};

/// From the npm folder to the embedded name.
const PARTS: &[(&str, &str)] = &[
    ("htmx.org/dist/htmx.min.js", "htmx.js"),
    ("htmx.org/dist/ext/hx-sse.min.js", "htmx.js"),
    ("@xterm/xterm/lib/xterm.js", "xterm.js"),
    ("@xterm/xterm/css/xterm.css", "xterm.css"),
    ("@xterm/addon-fit/lib/addon-fit.js", "xterm-fit.js"),
    ("asciinema-player/dist/bundle/asciinema-player.min.js", "player.js"),
    ("asciinema-player/dist/bundle/asciinema-player.css", "player.css"),
    ("@devolutions/iron-remote-desktop-rdp/iron-remote-desktop-rdp.js", "rdp.js"),
];

/// How the RDP client carries its WebAssembly.
const WASM_BEGIN: &str = "\"data:application/wasm;base64,";
/// Where it takes it from instead: what the page names.
const WASM_PLACE: &str = "document.querySelector(\"[data-engine]\").dataset.engine";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=package.json");
    println!("cargo::rerun-if-changed=package-lock.json");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?);
    let npm = out.join("npm");
    fs::create_dir_all(&npm)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(file, npm.join(file))?;
    }
    install(&npm)?;
    let mut files = BTreeMap::new();
    for &(from, to) in PARTS {
        let source = npm.join("node_modules").join(from);
        let text = fs::read_to_string(&source)
            .map_err(|e| io::Error::other(format!("{}: {e}", source.display())))?;
        // Maps are not embedded, so nothing may ask for them.
        let kept: Vec<&str> = text
            .lines()
            .filter(|l| !l.starts_with("//# sourceMappingURL=") && !l.starts_with("/*# sourceMappingURL="))
            .collect();
        // What goes into one file runs in one go: an extension that came later than its library would miss the page.
        let file: &mut String = files.entry(to).or_default();
        if !file.is_empty() {
            file.push_str("\n;\n");
        }
        file.push_str(&kept.join("\n"));
    }
    let rdp = files.remove("rdp.js").unwrap_or_default();
    let (rdp, wasm) = taken_apart(&rdp)?;
    files.insert("rdp.js", rdp);
    fs::write(out.join("rdp.wasm"), wasm)?;
    files.into_iter().try_for_each(|(to, text)| fs::write(out.join(to), text))
}

/// Takes the WebAssembly out of its script, and packs it: a page that may load from its own host only could not fetch it from a
/// `data:` address, and as text it is a third longer.
fn taken_apart(script: &str) -> io::Result<(String, Vec<u8>)> {
    let other = || io::Error::other("the RDP client carries its WebAssembly in another way than it did");
    let (before, rest) = script.split_once(WASM_BEGIN).ok_or_else(other)?;
    let (text, after) = rest.split_once('"').ok_or_else(other)?;
    let wasm = STANDARD.decode(text).map_err(|_| other())?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&wasm)?;
    Ok((format!("{before}{WASM_PLACE}{after}"), packed.finish()?))
}

fn install(folder: &Path) -> io::Result<()> {
    let done = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .output()
        .map_err(|e| {
            io::Error::other(format!("npm does not start ({e}): install the packages nodejs and npm"))
        })?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("npm ci: {}", String::from_utf8_lossy(&done.stderr))))
}
