//! Files for tests of channels: what they are asked and told, as lines.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    event::Direction,
    files::{Change, Files, Opening, Place},
};

/// Notes down what it is told; refuses what is named so.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) said: Vec<String>,
    pub(super) no: HashSet<&'static str>,
    last: u32,
}

impl Notes {
    fn note(&mut self, what: &str, text: String) -> bool {
        let allowed = !self.no.contains(what);
        self.said.push(format!("{what} {text}{}", if allowed { "" } else { " no" }));
        allowed
    }

    fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }
}

impl Files for Notes {
    fn stands(&self) -> bool {
        !self.no.contains("stands")
    }
    fn offer(&mut self, opening: &Opening<'_>, size: Option<u64>) -> bool {
        let way = if opening.writes { "w" } else { "r" };
        self.note("offer", format!("{} {way} {size:?}", opening.path))
    }
    fn open(&mut self, o: &Opening<'_>) -> Option<u32> {
        let marks = [
            (o.reads, "r"),
            (o.writes, "w"),
            (o.changes, "c"),
            (o.makes, "m"),
            (o.empties, "e"),
            (o.removes, "d"),
        ];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let place = match o.place {
            Place::Drive => "",
            Place::Printer => "print ",
            Place::Clipboard => "clip ",
        };
        self.note("open", format!("{place}{} {marks}", o.path)).then(|| self.number())
    }
    fn opened(&mut self, file: u32, status: Result<(), u32>) {
        self.note("opened", format!("{file} {}", status.is_ok()));
    }
    fn lock(&mut self, file: u32) -> bool {
        self.note("lock", file.to_string())
    }
    fn list(&mut self, file: u32) -> bool {
        self.note("list", file.to_string())
    }
    fn ask(&mut self, file: u32, end: u64) -> bool {
        self.note("ask", format!("{file} {end}"))
    }
    fn pass(&mut self, file: u32, direction: Direction, offset: u64, data: &Bytes) -> bool {
        let text = String::from_utf8_lossy(data);
        self.note("pass", format!("{file} {direction:?} {offset} {text}"))
    }
    fn taken(&mut self, file: u32, status: Result<(), u32>) {
        self.note("taken", format!("{file} {}", status.is_ok()));
    }
    fn ends(&mut self, file: u32, offset: u64) {
        self.note("ends", format!("{file} {offset}"));
    }
    fn size(&mut self, file: u32, size: u64) {
        self.note("size", format!("{file} {size}"));
    }
    fn change(&mut self, file: u32, change: Change<'_>) -> Option<u32> {
        self.note("change", format!("{file} {change:?}")).then(|| self.number())
    }
    fn changed(&mut self, change: u32, status: Result<(), u32>) {
        self.note("changed", format!("{change} {}", status.is_ok()));
    }
    fn close(&mut self, file: u32, status: Result<(), u32>) {
        self.note("close", format!("{file} {}", status.is_ok()));
    }
    fn refused(&mut self, path: &str, _why: &'static str) {
        self.note("refused", path.to_owned());
    }
}
