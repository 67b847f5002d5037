//! `ssh vera@gw`: what is open to her now, what is coming, and what she can ask for.

use std::sync::Arc;

use bytes::Bytes;
use cofferdam_access::{
    clock::Timestamp,
    local_time::{SiteZone, time_left},
    policy::{MenuEntry, MenuState, reachable},
    site::Protocol,
};
use russh::ChannelMsg;

use super::{
    channel::{
        session::{PersonEnd, broker},
        start::{Asked, Start},
    },
    connection::{Connection, Named},
};
use crate::session::end::End;

/// Longest text that is typed into a field or the filter, characters.
const FIELD: usize = 200;

/// What a key means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
    Leave,
    Char(char),
}

/// Turns bytes into keys; keeps an unfinished escape sequence for the next bytes.
#[derive(Debug, Default)]
struct Keys {
    pending: Vec<u8>,
}

impl Keys {
    fn feed(&mut self, data: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in data {
            self.pending.push(byte);
            match self.pending.as_slice() {
                [0x1b] | [0x1b, b'[' | b'O'] => {}
                [0x1b, b'[' | b'O', last] => {
                    match last {
                        b'A' => keys.push(Key::Up),
                        b'B' => keys.push(Key::Down),
                        b'0'..=b'9' | b';' => continue,
                        _ => {}
                    }
                    self.pending.clear();
                }
                [0x1b, b'[', .., last] => {
                    if last.is_ascii_alphabetic() || *last == b'~' || self.pending.len() > 16 {
                        self.pending.clear();
                    }
                }
                [0x1b, _] => {
                    keys.push(Key::Escape);
                    self.pending.clear();
                }
                bytes => match (bytes, std::str::from_utf8(bytes)) {
                    ([b'\r' | b'\n'], _) => self.push(&mut keys, Key::Enter),
                    ([8 | 127], _) => self.push(&mut keys, Key::Backspace),
                    ([3 | 4], _) => self.push(&mut keys, Key::Leave),
                    ([14], _) => self.push(&mut keys, Key::Down),
                    ([16], _) => self.push(&mut keys, Key::Up),
                    ([0..=31], _) => self.pending.clear(),
                    (_, Ok(text)) => {
                        keys.extend(text.chars().map(Key::Char));
                        self.pending.clear();
                    }
                    (bytes, Err(_)) if bytes.len() >= 4 => self.pending.clear(),
                    _ => {}
                },
            }
        }
        // A lone Escape is a key when nothing follows it at once.
        if self.pending == [0x1b] {
            self.pending.clear();
            keys.push(Key::Escape);
        }
        keys
    }

    fn push(&mut self, keys: &mut Vec<Key>, key: Key) {
        self.pending.clear();
        keys.push(key);
    }
}

/// Types arbitrary bytes at the menu; for fuzzing. However they are cut, no more is kept than one key takes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_keys(bytes: &[u8]) {
    for cut in [1, bytes.len().max(1)] {
        let (mut keys, mut menu) = (Keys::default(), Menu::new(Vec::new()));
        for part in bytes.chunks(cut) {
            for key in keys.feed(part) {
                if menu.key(key) == Outcome::Leave {
                    return;
                }
            }
            assert!(keys.pending.len() <= 17 && menu.filter.chars().count() <= FIELD);
        }
    }
}

/// What a key led to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Stay,
    Leave,
    Connect(MenuEntry),
    Ask(MenuEntry),
}

/// The menu's state: a pure model.
#[derive(Debug)]
struct Menu {
    entries: Vec<MenuEntry>,
    filter: String,
    selected: usize,
}

impl Menu {
    fn new(entries: Vec<MenuEntry>) -> Self {
        Self { entries, filter: String::new(), selected: 0 }
    }

    fn visible(&self) -> Vec<&MenuEntry> {
        let filter = self.filter.to_lowercase();
        self.entries
            .iter()
            .filter(|e| format!("{} {} {}", e.asset, e.login, e.title).to_lowercase().contains(&filter))
            .collect()
    }

    fn key(&mut self, key: Key) -> Outcome {
        let count = self.visible().len();
        match key {
            Key::Leave => return Outcome::Leave,
            Key::Escape if self.filter.is_empty() => return Outcome::Leave,
            Key::Escape => self.filter.clear(),
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => self.selected = (self.selected + 1).min(count.saturating_sub(1)),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if !c.is_control() && self.filter.chars().count() < FIELD => self.filter.push(c),
            Key::Char(_) => {}
            Key::Enter => {
                if let Some(entry) = self.visible().get(self.selected).copied().cloned() {
                    return match entry.state {
                        MenuState::Open { .. } if entry.protocol == Protocol::Ssh => Outcome::Connect(entry),
                        MenuState::MayAsk => Outcome::Ask(entry),
                        _ => Outcome::Stay,
                    };
                }
            }
        }
        self.selected = self.selected.min(self.visible().len().saturating_sub(1));
        Outcome::Stay
    }

    /// The screen as text with terminal escapes, for a terminal of that size.
    fn draw(&self, who: &str, zone: &SiteZone, now: Timestamp, cols: u16, rows: u16, note: &str) -> String {
        let width = usize::from(cols.max(20));
        let room = usize::from(rows.max(8)) - 6;
        let cut = |s: &str| s.chars().take(width - 1).collect::<String>();
        let visible = self.visible();
        let first = self.selected.saturating_sub(room.saturating_sub(1));
        let mut out = String::from("\x1b[2J\x1b[H");
        out += &format!("\x1b[1m{}\x1b[0m\r\n", cut(&format!("Cofferdam · {who} · {}", zone.show(now))));
        out += &format!("{}\r\n\r\n", cut(&format!("Filter: {}", self.filter)));
        if visible.is_empty() {
            let text = if self.entries.is_empty() {
                "Nothing can be reached from where you are. Ask the site's administrator for a conduit."
            } else {
                "Nothing matches. Esc clears the filter."
            };
            out += &format!("{}\r\n", cut(text));
        }
        for (i, entry) in visible.iter().enumerate().skip(first).take(room) {
            let line = cut(&format!(
                "{} {:<24} {:<12} {:<8} {}",
                if i == self.selected { ">" } else { " " },
                entry.asset.as_str(),
                entry.login.as_str(),
                entry.protocol.as_str(),
                describe(&entry.state, zone, now),
            ));
            out +=
                &if i == self.selected { format!("\x1b[7m{line}\x1b[0m\r\n") } else { format!("{line}\r\n") };
        }
        out += &format!("\r\n{}\r\n", cut(note));
        out += &cut("↑ ↓ choose · type to filter · Enter connect, or ask for a window · Esc leave");
        out
    }
}

#[allow(clippy::expect_used, reason = "UTC needs no database of zones")]
fn utc() -> SiteZone {
    SiteZone::new("UTC").expect("UTC is always known")
}

fn describe(state: &MenuState, zone: &SiteZone, now: Timestamp) -> String {
    match state {
        MenuState::Open { until, .. } => format!("open, {} left", time_left(now, *until)),
        MenuState::Upcoming { from, .. } => format!("from {}", zone.show(*from)),
        MenuState::Waiting { .. } => "waits for approval".to_owned(),
        MenuState::MayAsk => "no window: Enter asks for one".to_owned(),
        MenuState::Blocked { .. } => "not allowed at the moment".to_owned(),
    }
}

/// The same list for a client without a terminal.
fn plain(entries: &[MenuEntry], zone: &SiteZone, now: Timestamp) -> String {
    let mut out = String::from("name an asset, as in `ssh USER+ASSET@gateway`:\r\n");
    for entry in entries {
        out += &format!(
            "  {}+{} ({}): {}\r\n",
            entry.asset,
            entry.login,
            entry.protocol.as_str(),
            describe(&entry.state, zone, now)
        );
    }
    if entries.is_empty() {
        out += "  nothing can be reached from where you are\r\n";
    }
    out
}

/// Serves the menu on a channel.
pub(crate) async fn serve(connection: Arc<Connection>, mut person: PersonEnd, mut asked: Asked) {
    let (Some(terminal), Start::Shell) = (&asked.terminal, &asked.start) else {
        let text = with_list(&connection, |entries, zone, now| plain(&entries, zone, now));
        return person.refuse(&text).await;
    };
    let (mut cols, mut rows) =
        (super::channel::session::columns(terminal.cols), super::channel::session::rows(terminal.rows));
    person.handle.channel_success(person.write.id()).await.unwrap_or_default();
    let mut menu = Menu::new(with_list(&connection, |entries, _, _| entries));
    let (mut keys, mut note) = (Keys::default(), String::new());
    let mut snapshots = connection.gateway.snapshots.clone();
    loop {
        menu.entries = with_list(&connection, |entries, _, _| entries);
        menu.selected = menu.selected.min(menu.visible().len().saturating_sub(1));
        let user = connection.identity.user.to_string();
        let screen = with_list(&connection, |_, zone, now| menu.draw(&user, zone, now, cols, rows, &note));
        if person.write.data_bytes(Bytes::from(screen)).await.is_err() {
            return;
        }
        let message = tokio::select! {
            message = person.read.wait() => message,
            // Something changed, or a minute passed: the time left is drawn anew.
            _ = snapshots.changed() => continue,
            () = tokio::time::sleep(std::time::Duration::from_secs(60)) => continue,
        };
        let typed = match message {
            Some(ChannelMsg::Data { data }) => keys.feed(&data),
            Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                (cols, rows) =
                    (super::channel::session::columns(col_width), super::channel::session::rows(row_height));
                if let Some(t) = &mut asked.terminal {
                    (t.cols, t.rows) = (cols.into(), rows.into());
                }
                continue;
            }
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return person.close().await,
            Some(_) => continue,
        };
        for key in typed {
            match menu.key(key) {
                Outcome::Stay => {}
                Outcome::Leave => {
                    person.write.data_bytes(&b"\x1b[2J\x1b[H"[..]).await.unwrap_or_default();
                    person.write.exit_status(0).await.unwrap_or_default();
                    return person.close().await;
                }
                Outcome::Connect(entry) => {
                    person.write.data_bytes(&b"\x1b[2J\x1b[H"[..]).await.unwrap_or_default();
                    let named = Named { asset: entry.asset, login: Some(entry.login) };
                    match connection.open_apart(&named).await {
                        Ok(brokered) => {
                            broker(&connection, &brokered, person, asked).await;
                            brokered.session.control().end(End::Closed);
                            return;
                        }
                        Err(refusal) => note = refusal.sentence,
                    }
                }
                Outcome::Ask(entry) => note = ask(&connection, &mut person, &entry).await,
            }
        }
    }
}

fn with_list<T>(connection: &Connection, f: impl FnOnce(Vec<MenuEntry>, &SiteZone, Timestamp) -> T) -> T {
    let now = connection.gateway.clock.now();
    let snapshot = connection.gateway.snapshots.borrow().clone();
    let entries = reachable(&snapshot, &connection.identity.user, connection.identity.source.ip(), now);
    // A set of policies that cannot be used has no zone, and lists nothing.
    match snapshot.policies.zone() {
        Some(zone) => f(entries, zone, now),
        None => f(Vec::new(), &utc(), now),
    }
}

/// Asks for a window, field by field; returns what to show.
async fn ask(connection: &Connection, person: &mut PersonEnd, entry: &MenuEntry) -> String {
    let intro = format!(
        "\x1b[2J\x1b[HAsk for a window on {} as {}. Esc or Ctrl-C gives up.\r\n",
        entry.asset, entry.login
    );
    person.write.data_bytes(Bytes::from(intro)).await.unwrap_or_default();
    let mut answers = Vec::new();
    for (label, default) in
        [("Purpose", ""), ("Work order (may be empty)", ""), ("Start", "now"), ("How long", "4h")]
    {
        match field(person, label, default).await {
            Some(text) => answers.push(text),
            None => return "nothing was asked for".to_owned(),
        }
    }
    let [purpose, work_order, start, length] = answers.as_slice() else { return String::new() };
    match connection
        .gateway
        .ask_for_window(&connection.identity, entry, purpose, work_order, start, length)
        .await
    {
        Ok(text) => text,
        Err(why) => format!("not asked for: {why}"),
    }
}

async fn field(person: &mut PersonEnd, label: &str, default: &str) -> Option<String> {
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    person.write.data_bytes(Bytes::from(format!("\r\n{label}{shown}: "))).await.ok()?;
    let (mut keys, mut text) = (Keys::default(), String::new());
    loop {
        let data = match person.read.wait().await? {
            ChannelMsg::Data { data } => data,
            ChannelMsg::Eof | ChannelMsg::Close => return None,
            _ => continue,
        };
        for key in keys.feed(&data) {
            match key {
                Key::Enter => {
                    return Some(if text.is_empty() { default.to_owned() } else { text });
                }
                Key::Leave | Key::Escape => return None,
                Key::Backspace if text.pop().is_some() => {
                    person.write.data_bytes(&b"\x08 \x08"[..]).await.ok()?;
                }
                Key::Char(c) if !c.is_control() && text.chars().count() < FIELD => {
                    text.push(c);
                    person.write.data_bytes(Bytes::from(c.to_string())).await.ok()?;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(asset: &str, state: MenuState) -> MenuEntry {
        MenuEntry {
            asset: asset.parse().unwrap(),
            title: String::new(),
            login: cofferdam_access::ids::Login::new("root").unwrap(),
            default: true,
            protocol: Protocol::Ssh,
            state,
        }
    }

    fn menu() -> Menu {
        let window = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        Menu::new(vec![
            entry("pump-hmi", MenuState::Open { window, until: Timestamp::from_seconds(7200) }),
            entry("plc-7", MenuState::MayAsk),
        ])
    }

    #[test]
    fn arrows_choose_letters_filter_and_enter_connects_or_asks() {
        let mut m = menu();
        assert!(matches!(m.key(Key::Enter), Outcome::Connect(e) if e.asset.as_str() == "pump-hmi"));
        m.key(Key::Down);
        assert!(matches!(m.key(Key::Enter), Outcome::Ask(e) if e.asset.as_str() == "plc-7"));
        for c in "hmi".chars() {
            m.key(Key::Char(c));
        }
        assert!(matches!(m.key(Key::Enter), Outcome::Connect(e) if e.asset.as_str() == "pump-hmi"));
        assert_eq!(m.key(Key::Escape), Outcome::Stay, "the first Esc clears the filter");
        assert_eq!(m.key(Key::Escape), Outcome::Leave);
    }

    #[test]
    fn keys_come_through_whatever_the_chunks() {
        let mut k = Keys::default();
        assert_eq!(k.feed(b"\x1b[A\x1b[Bx\r"), [Key::Up, Key::Down, Key::Char('x'), Key::Enter]);
        assert_eq!(k.feed(b"\x1b[1;5A"), []);
        assert_eq!(k.feed("ü".as_bytes()), [Key::Char('ü')]);
        assert_eq!(k.feed(&[0xc3]), []);
        assert_eq!(k.feed(&[0xbc]), [Key::Char('ü')]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_menu(data in proptest::collection::vec(any::<u8>(), 0..400), cols in 0u16..300, rows in 0u16..100) {
            let (mut keys, mut menu) = (Keys::default(), menu());
            for key in keys.feed(&data) {
                let _ = menu.key(key);
                let screen = menu.draw("vera", &utc(), Timestamp(0), cols, rows, "");
                prop_assert!(screen.lines().count() <= usize::from(rows.max(8)) + 2);
            }
        }
    }
}
