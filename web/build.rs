//! Brings the front-end parts (by `package-lock.json`, through npm) to where the crate embeds them from.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// From the npm folder to the embedded name.
const PARTS: &[(&str, &str)] = &[
    ("htmx.org/dist/htmx.min.js", "htmx.js"),
    ("htmx.org/dist/ext/hx-sse.min.js", "htmx.js"),
    ("@xterm/xterm/lib/xterm.js", "xterm.js"),
    ("@xterm/xterm/css/xterm.css", "xterm.css"),
    ("@xterm/addon-fit/lib/addon-fit.js", "xterm-fit.js"),
    ("asciinema-player/dist/bundle/asciinema-player.min.js", "player.js"),
    ("asciinema-player/dist/bundle/asciinema-player.css", "player.css"),
];

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
    for (from, to) in PARTS {
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
    files.into_iter().try_for_each(|(to, text)| fs::write(out.join(to), text))
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
