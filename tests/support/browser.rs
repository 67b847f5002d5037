//! A browser that a script under `tests/peers/web/` drives against a running gateway.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Done, Gateway, peer, run};

/// The folder with the scripts' npm packages: `./test` names it, and it stays where `./test` made it.
fn modules() -> PathBuf {
    std::env::var_os("COFFERDAM_TEST_WEB")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/web"), PathBuf::from)
}

impl Gateway {
    /// A script with what it needs to find the gateway and speak for its people.
    pub(crate) fn browser(&self, script: &str) -> Command {
        let mut node = Command::new("node");
        node.arg(peer("web").join(script));
        // SSH commands that a script runs answer their prompts as vera.
        self.vera().equip(&mut node);
        node.env("COFFERDAM_DEMO", self.folder.path().join("demo.json"))
            // What scripts ask without a browser trusts the demo's authority, and only that one besides the usual.
            .env("NODE_EXTRA_CA_CERTS", self.folder.path().join("web_ca.pem"))
            .env("COFFERDAM_SCRATCH", self.scratch(""))
            .env("COFFERDAM_WEB_MODULES", modules());
        node
    }

    /// Runs a script to the end of its story.
    #[track_caller]
    pub(crate) fn browse(&self, script: &str, more: &[(&str, &str)]) -> Done {
        let mut node = self.browser(script);
        node.envs(more.iter().copied());
        run(node).ok().said("story: told to the end")
    }
}

/// A command as scripts take it: program and arguments, JSON. Its environment is the script's.
pub(crate) fn as_json(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    serde_json::to_string(&words).unwrap()
}
