//! xfreerdp as a person's client.

use std::net::SocketAddr;

use crate::targets::{Display, Folder, Running, wait_for};

/// A client on a display of its own.
pub(crate) struct Xfreerdp {
    process: Running,
    pub(crate) display: Display,
}

impl Xfreerdp {
    pub(crate) fn start(
        folder: &Folder,
        gateway: SocketAddr,
        user: &str,
        password: &str,
        more: &[&str],
    ) -> Self {
        let display = Display::xvfb(folder, "client-display");
        display.fill("#ffffff");
        let mut command = folder.command("xfreerdp", "xfreerdp");
        command.arg(format!("/v:{gateway}")).arg(format!("/u:{user}")).arg(format!("/p:{password}"));
        command.args([
            "/cert:ignore",
            "/sec:nla",
            "/bpp:32",
            "/size:1024x768",
            "-wallpaper",
            "/log-level:INFO",
        ]);
        command.args(more).env("DISPLAY", &display.name);
        Self { process: Running::start(&mut command), display }
    }

    /// One that offers TLS and no NLA.
    pub(crate) fn without_nla(folder: &Folder, gateway: SocketAddr, user: &str, password: &str) -> Self {
        Self::start(folder, gateway, user, password, &["/sec:tls", "+clipboard", "/drive:x,/tmp"])
    }

    /// Waits until the target's desktop is on the client's screen.
    pub(crate) fn shows(&self, pixel: [u8; 3]) {
        wait_for("the target's desktop at the client", 30, || {
            (self.display.pixel(700, 500) == Some(pixel)).then_some(())
        });
    }

    /// Waits until the client has ended.
    pub(crate) fn end(mut self) {
        wait_for("the end of the client", 15, || self.process.has_ended().then_some(()));
    }
}
