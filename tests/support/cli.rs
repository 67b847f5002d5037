//! What operators do with the command line of a running gateway: the one place that knows its arguments.

use std::{ffi::OsStr, process::Command, time::Duration};

use serde_json::Value;

use super::{Done, Gateway, run, run_with_input, wait_for};

impl Gateway {
    /// `cofferdam ARGUMENTS --config FILE` of this gateway.
    pub(crate) fn cofferdam<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(arguments).arg("--config").arg(self.config());
        run(command)
    }

    /// The same as one of the demo's people who proves to be there, with password and a fresh code: what opens anything
    /// takes that.
    pub(crate) fn cofferdam_by<A: AsRef<OsStr>>(
        &self,
        person: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(arguments).args(["--as", person, "--proof-stdin", "--config"]).arg(self.config());
        let person = self.person(person);
        run_with_input(command, format!("{}\n{}\n", person.password, person.code()).as_bytes())
    }

    /// Applies the site as exported, changed.
    pub(crate) fn change_site(&self, change: impl FnOnce(&mut toml::Table)) {
        let mut site: toml::Table = self.cofferdam(["export"]).ok().out().parse().unwrap();
        change(&mut site);
        let file = self.scratch("changed-site.toml");
        std::fs::write(&file, site.to_string()).unwrap();
        self.cofferdam(["apply", "--yes", &file.to_string_lossy()]).ok();
    }

    /// The same for one asset of it.
    pub(crate) fn change_asset(&self, name: &str, change: impl FnOnce(&mut toml::Table)) {
        self.change_site(|site| {
            let assets = site["assets"].as_array_mut().unwrap();
            let asset = assets.iter_mut().find(|a| a["name"].as_str() == Some(name)).unwrap();
            change(asset.as_table_mut().unwrap());
        });
    }

    /// A listing: the array that `--json` prints.
    #[track_caller]
    pub(crate) fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let done = self.cofferdam(arguments.iter().copied().chain(["--json"])).ok();
        match serde_json::from_slice(&done.stdout) {
            Ok(Value::Array(rows)) => rows,
            other => panic!("{arguments:?} --json: not an array: {other:?}\n{}", done.out()),
        }
    }

    /// All sessions, the newest first or last as the listing has them.
    pub(crate) fn sessions(&self) -> Vec<Value> {
        self.list(&["session", "list"])
    }

    /// The ids of sessions that have not ended.
    pub(crate) fn live_sessions(&self) -> Vec<String> {
        self.sessions().iter().filter(|s| !state_of(s).starts_with("ended")).map(id_of).collect()
    }

    /// The only session that there ever was.
    #[track_caller]
    pub(crate) fn only_session(&self) -> Value {
        let sessions = self.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:#?}");
        sessions.into_iter().next().unwrap()
    }

    /// The same, once the store has its end.
    #[track_caller]
    pub(crate) fn ended_session(&self) -> Value {
        let what = "the session's end in the store";
        let ended = || Some(self.only_session()).filter(|row| state_of(row).starts_with("ended"));
        wait_for(what, Duration::from_secs(10), ended).0
    }

    /// `session show`, as JSON: with the decision record.
    pub(crate) fn session(&self, id: &str) -> Value {
        let done = self.cofferdam(["session", "show", id, "--json"]).ok();
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Audit entries of that kind, oldest first.
    pub(crate) fn audit(&self, kind: &str) -> Vec<Value> {
        let rows = self.list(&["audit", "tail", "--lines", "1000"]);
        rows.into_iter().filter(|row| row["kind"] == kind).collect()
    }

    /// The whole audit log as text, for what must not stand in it.
    pub(crate) fn audit_text(&self) -> String {
        self.cofferdam(["audit", "export"]).ok().out()
    }

    /// Ends a session, as the operations approver.
    pub(crate) fn kill_session(&self, id: &str) -> Done {
        self.cofferdam(["session", "kill", id, "--as", "olga", "--reason", "end-to-end test"])
    }

    /// The id of the window that the demo comes with.
    pub(crate) fn demo_window(&self) -> String {
        id_of(self.list(&["window", "list"]).first().expect("the demo has a window"))
    }

    /// Asks for a window of `hours` from now on `accounts` (`login@asset`) as vera, and has both duties approve it.
    pub(crate) fn open_window(&self, accounts: &[&str], hours: u32) -> String {
        let mut request = vec!["window", "request", "--operation", "operate"];
        let (purpose, end) = ("end-to-end test", format!("+{hours}h"));
        request.extend(["--purpose", purpose, "--end", &end, "--json"]);
        request.extend(accounts.iter().flat_map(|account| ["--account", *account]));
        let made: Value = serde_json::from_slice(&self.cofferdam_by("vera", request).ok().stdout).unwrap();
        let id = id_of(&made);
        for (person, duty) in [("olga", "operations"), ("sam", "security")] {
            self.cofferdam_by(person, ["window", "approve", &id, "--duty", duty]).ok();
        }
        id
    }
}

/// The `id` that every listed object has.
pub(crate) fn id_of(row: &Value) -> String {
    row["id"].as_str().unwrap_or_else(|| panic!("no id: {row}")).to_owned()
}

/// A session's state (`active`, `suspended`, `ended` …).
pub(crate) fn state_of(row: &Value) -> &str {
    row["state"].as_str().unwrap_or_else(|| panic!("no state: {row}"))
}
