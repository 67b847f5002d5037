//! Desktops as a person uses them: xfreerdp on a display of its own, looked at by screenshots and worked by xdotool.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{Done, Gateway, Live, run, run_with_input, wait_for};

/// Colours of the demo's desktop.
pub(crate) const WATER: &str = "2080D0";
pub(crate) const PANEL: &str = "E8ECEF";
/// A place in the tank's lower part, always under water.
pub(crate) const TANK: (u16, u16) = (200, 510);
/// A place where the first key leaves its mark.
pub(crate) const FIRST_KEY: (u16, u16) = (48, 670);

/// An X display without a screen.
pub(crate) struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// Starts one as large as the demo's desktop.
    pub(crate) fn start() -> Self {
        let mut xvfb = Command::new("Xvfb");
        xvfb.args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset"]);
        let mut server = xvfb.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Xvfb is needed");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { server, name: format!(":{}", line.trim()) }
    }

    /// A command that shows itself here.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.name);
        command
    }

    /// What presses a key here, for scripts: its environment is part of it.
    pub(crate) fn presses(&self, key: &str) -> Command {
        let mut command = Command::new("env");
        command.arg(format!("DISPLAY={}", self.name));
        command.args(["xdotool", "mousemove", "500", "300", "key", key]);
        command
    }

    /// What tells the colour of one pixel here, for scripts: ` rr gg bb`.
    pub(crate) fn tells(&self, (x, y): (u16, u16)) -> Command {
        let mut command = Command::new("env");
        let look = format!("import -window root -crop 1x1+{x}+{y} -depth 8 rgb:- | od -An -tx1");
        command.arg(format!("DISPLAY={}", self.name)).args(["sh", "-c", &look]);
        command
    }

    /// The colour of one pixel, `RRGGBB`.
    pub(crate) fn colour(&self, (x, y): (u16, u16)) -> String {
        let mut import = self.command("import");
        import.args(["-window", "root", "-crop", &format!("1x1+{x}+{y}"), "-depth", "8", "rgb:-"]);
        let pixel = run(import).ok().stdout;
        pixel.iter().map(|b| format!("{b:02X}")).collect()
    }

    /// A picture of all of it, as a PNG file.
    pub(crate) fn picture(&self, file: &Path) {
        let mut import = self.command("import");
        import.args(["-window", "root"]).arg(file);
        run(import).ok();
    }

    /// Moves the pointer away from where something is to be seen.
    pub(crate) fn move_pointer(&self, x: u16, y: u16) {
        let mut xdotool = self.command("xdotool");
        xdotool.args(["mousemove", &x.to_string(), &y.to_string()]);
        run(xdotool).ok();
    }

    /// Presses a key.
    pub(crate) fn press(&self, key: &str) {
        let mut xdotool = self.command("xdotool");
        xdotool.args(["mousemove", "500", "300", "key", key]);
        run(xdotool).ok();
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Gateway {
    /// Where it listens for RDP.
    pub(crate) fn rdp_address(&self) -> String {
        self.demo_value("rdp")
    }

    /// A token of vera's for the API, made in the browser.
    pub(crate) fn api_token(&self, scopes: &str) -> String {
        let done =
            self.browse("api_token.mjs", &[("COFFERDAM_PERSON", "vera"), ("COFFERDAM_SCOPES", scopes)]);
        let out = done.out();
        out.lines().find_map(|l| l.strip_prefix("token: ")).expect("no token").to_owned()
    }

    /// Asks for a token for the demo's desktop, with a fresh code.
    pub(crate) fn ask_for_desktop(&self, api_token: &str) -> Done {
        let mut node = self.browser("desktop_pass.mjs");
        node.env("COFFERDAM_API_TOKEN", api_token);
        run(node)
    }

    /// User name and token for one log-in to the demo's desktop.
    #[track_caller]
    pub(crate) fn desktop_pass(&self, api_token: &str) -> (String, String) {
        let pass: Value = serde_json::from_slice(&self.ask_for_desktop(api_token).ok().stdout).unwrap();
        let text = |key: &str| pass[key].as_str().unwrap().to_owned();
        assert_eq!(text("address").rsplit(':').next(), self.rdp_address().rsplit(':').next());
        (text("user_name"), text("token"))
    }

    /// xfreerdp on `display`, as `user` with `password`.
    pub(crate) fn freerdp(&self, display: &Display, user: &str, password: &str) -> Command {
        let mut client = display.command("xfreerdp");
        client.args([
            &format!("/v:{}", self.rdp_address()),
            &format!("/u:{user}"),
            &format!("/p:{password}"),
            "/cert:ignore",
            "/size:1024x768",
            "-decorations",
            "/log-level:INFO",
        ]);
        client
    }

    /// The same, until the desktop is on the screen.
    #[track_caller]
    pub(crate) fn at_the_desktop(&self, display: &Display, api_token: &str) -> Live {
        self.at_a_desktop(display, api_token, TANK, WATER)
    }

    /// Logs in to `eng-ws`, until its desktop shows `colour` at `place`.
    #[track_caller]
    pub(crate) fn at_a_desktop(
        &self,
        display: &Display,
        api_token: &str,
        place: (u16, u16),
        colour: &str,
    ) -> Live {
        self.sharing(display, api_token, place, colour, &[])
    }

    /// The same with more arguments for the client.
    #[track_caller]
    pub(crate) fn sharing(
        &self,
        display: &Display,
        api_token: &str,
        place: (u16, u16),
        colour: &str,
        more: &[&str],
    ) -> Live {
        let (user, token) = self.desktop_pass(api_token);
        let mut client = self.freerdp(display, &user, &token);
        client.args(more);
        self.shows(display, client, place, colour)
    }

    /// Waits until `client` shows the demo's desktop on `display`.
    #[track_caller]
    pub(crate) fn at_the_desktop_of(&self, display: &Display, client: Command) -> Live {
        self.shows(display, client, TANK, WATER)
    }

    /// Waits until `client` shows `colour` at `place` of `display`.
    #[track_caller]
    pub(crate) fn shows(&self, display: &Display, client: Command, place: (u16, u16), colour: &str) -> Live {
        let mut client = Live::start(client);
        let what = "the desktop on the screen";
        wait_for(what, Duration::from_secs(30), || {
            assert!(client.is_running(), "xfreerdp ended:\n{}\n{}", client.transcript(), self.log());
            (display.colour(place) == colour).then_some(())
        });
        client
    }

    /// The last picture of a desktop's recording, as a PNG file.
    #[track_caller]
    pub(crate) fn last_picture(&self, id: &str, file: &Path) {
        let still = ["recording", "export", id, "--format", "png", "--output"];
        self.cofferdam(still.into_iter().chain([file.to_str().unwrap()])).ok();
    }

    /// Lets the demo's desktop have more than screen, keys and pointer.
    #[track_caller]
    pub(crate) fn eng_ws_may(&self, what: &[&str]) {
        self.change_asset("eng-ws", |asset| {
            let desktop = asset["rdp"].as_table_mut().unwrap();
            desktop.extend(what.iter().map(|what| ((*what).to_owned(), true.into())));
        });
    }

    /// Puts another desktop in the place of the demo's: its key is looked at and pinned, its secret kept.
    #[track_caller]
    pub(crate) fn eng_ws_is(&self, address: SocketAddr, security: &str, password: &str) {
        self.change_asset("eng-ws", |asset| {
            asset["endpoints"][0]["dial_port"] = i64::from(address.port()).into();
            asset["rdp"].as_table_mut().unwrap().insert("security".into(), security.into());
        });
        let trust = ["asset", "trust", "eng-ws", "--rdp", "--as", "ada"];
        let shown = self.cofferdam(trust).failed().err();
        let print = shown.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
        self.cofferdam(
            trust.into_iter().chain(["--fingerprint", print.trim_end_matches([',', '.', ';', ':'])]),
        )
        .ok();
        let mut secret = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        secret.args(["account", "set-secret", "eng@eng-ws", "--password-stdin", "--as", "ada"]);
        secret.arg("--config").arg(self.config());
        run_with_input(secret, format!("{password}\n").as_bytes()).ok();
    }
}
