//! Both directions of an rsync stream beside each other: bytes in, what they mean out.
//!
//! Only what the sending side says is needed to know the files: it repeats what the receiving side asks for. Of the
//! other direction the frames are read, for the messages in them.

use super::frames::{BadFrame, Frames, Message, Piece};
use super::list::{Kind, List, Read};
use super::options::Options;
use super::terms::{Agreed, Packed, Terms};
use super::wire::{Cursor, Index, Indices, MAX_NAME, Stop};

/// Bits of an item's flags (`ITEM_*` of rsync.h).
pub(super) const ITEM_HAS_BASIS: u16 = 1 << 11;
pub(super) const ITEM_HAS_NAME: u16 = 1 << 12;
pub(super) const ITEM_NEW: u16 = 1 << 13;
pub(super) const ITEM_LOCAL: u16 = 1 << 14;
pub(super) const ITEM_TRANSFER: u16 = 1 << 15;

/// The sender says "done" once for each phase: transfers, repeats, what was delayed.
const PHASES: u8 = 3;
/// Longest list of methods (`MAX_NSTR_STRLEN` of rsync.h).
const MAX_METHODS: usize = 256;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Person,
    Target,
}

impl Side {
    fn place(self) -> usize {
        usize::from(self == Self::Target)
    }
}

/// Something that was asked of a listed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// As [`List::get`] takes it.
    pub(super) index: u32,
    pub(super) flags: u16,
    /// Which file the receiver starts from, where it is not the one of the same name.
    pub(super) basis: Option<u8>,
    /// The name that goes with the basis, or that a hard link goes to.
    pub(super) name: Vec<u8>,
}

/// What the bytes that were read mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The list has one more entry, its last.
    Listed,
    /// The list is complete.
    ListEnd,
    /// Something without contents happens to a file.
    Item(Item),
    /// The contents of a file begin. `fresh`: the receiver has nothing of it.
    Begin { item: Item, fresh: bool },
    /// The bytes that were read are contents.
    Literal,
    /// The bytes that were read are packed contents. `first` of their run.
    Packed { first: bool },
    /// Contents that the receiver has already.
    Match,
    /// The contents are complete.
    End,
    /// A message from this side.
    Message(Message),
}

/// The stream is not what the protocol says; known after so many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) after: usize,
    pub(super) why: &'static str,
}

/// Where one direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Version,
    /// The target's flags.
    Flags,
    /// What follows depends on the other side.
    Turn,
    Checksums,
    Packings,
    /// The target's seed of the checksums.
    Seed,
    /// From here on in frames: a filter rule's length.
    Rules,
    Rule {
        left: usize,
    },
    /// Names of `--files-from`. `open`: inside one.
    Names {
        open: bool,
    },
    List,
    Ids {
        groups: bool,
    },
    Items,
    Token,
    Literal {
        left: usize,
    },
    Packed {
        left: usize,
        first: bool,
    },
    Checksum,
    /// Nothing of this direction's data is read any more.
    Quiet,
}

#[derive(Debug)]
struct Half {
    at: At,
    frames: Frames,
    /// The beginning of what is not complete.
    field: Vec<u8>,
}

impl Half {
    fn new() -> Self {
        Self { at: At::Version, frames: Frames::new(), field: Vec::new() }
    }
}

/// Follows both directions.
#[derive(Debug)]
pub(super) struct Follower {
    options: Options,
    halves: [Option<Half>; 2],
    terms: Terms,
    agreed: Option<Agreed>,
    list: List,
    indices: Indices,
    done: u8,
}

impl Follower {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            halves: [Some(Half::new()), Some(Half::new())],
            terms: Terms::default(),
            agreed: None,
            list: List::default(),
            indices: Indices::default(),
            done: 0,
        }
    }

    pub(super) fn list(&self) -> &List {
        &self.list
    }

    /// The version that is spoken.
    pub(super) fn protocol(&self) -> Option<u32> {
        self.terms.protocol()
    }

    /// How contents are packed, once that is agreed.
    pub(super) fn packed(&self) -> Packed {
        self.agreed.map_or(Packed::No, |agreed| agreed.packed)
    }

    /// The sender has gone through all of the list.
    pub(super) fn is_done(&self) -> bool {
        self.done >= PHASES
    }

    /// Reads from the start of `data`, which is not empty: how many bytes belong together, and what they mean.
    pub(super) fn next(&mut self, side: Side, data: &[u8]) -> Result<(usize, Option<Action>), Fault> {
        let place = side.place();
        let Some(mut half) = self.halves.get_mut(place).and_then(Option::take) else {
            return Err(Fault { after: 1, why: "it was given up before" });
        };
        let result = self.advance(side, &mut half, data);
        if let Some(slot) = self.halves.get_mut(place) {
            *slot = Some(half);
        }
        result
    }

    fn advance(
        &mut self,
        side: Side,
        half: &mut Half,
        data: &[u8],
    ) -> Result<(usize, Option<Action>), Fault> {
        if half.at == At::Turn {
            half.at = self.after_greeting(side).map_err(|why| Fault { after: 1, why })?;
        }
        if matches!(half.at, At::Version | At::Flags | At::Checksums | At::Packings | At::Seed) {
            return self.item(side, half, data);
        }
        match half.frames.next(data) {
            Err(BadFrame(after)) => Err(Fault { after, why: "it has a frame of no known kind" }),
            Ok(Piece::Frame(size)) => Ok((size, None)),
            Ok(Piece::Message(size, message)) => Ok((size, Some(Action::Message(message)))),
            Ok(Piece::Data(size)) => {
                let result = self.data(side, half, data.get(..size).unwrap_or(data))?;
                half.frames.passed(result.0);
                Ok(result)
            }
        }
    }

    /// What follows the greeting of one side: lists of methods, then frames.
    fn after_greeting(&mut self, side: Side) -> Result<At, &'static str> {
        let [checksums, packings] = self.terms.asks(&self.options).ok_or("one side spoke out of turn")?;
        let place = side.place();
        if checksums && self.terms.checksums.get(place).is_some_and(Option::is_none) {
            return Ok(At::Checksums);
        }
        if packings && self.terms.packings.get(place).is_some_and(Option::is_none) {
            return Ok(At::Packings);
        }
        Ok(match side {
            Side::Target => At::Seed,
            Side::Person if self.options.filters_follow() => At::Rules,
            Side::Person => self.after_rules(),
        })
    }

    fn after_rules(&self) -> At {
        match (self.options.upload, self.options.names_follow) {
            (true, _) => At::List,
            (false, true) => At::Names { open: false },
            (false, false) => At::Quiet,
        }
    }

    fn data(&mut self, side: Side, half: &mut Half, data: &[u8]) -> Result<(usize, Option<Action>), Fault> {
        let part = |left: usize| (left.min(data.len()), left.saturating_sub(data.len()));
        match half.at {
            At::Quiet => Ok((data.len(), None)),
            At::Rule { left } => {
                let (size, left) = part(left);
                half.at = if left == 0 { At::Rules } else { At::Rule { left } };
                Ok((size, None))
            }
            At::Literal { left } => {
                let (size, left) = part(left);
                half.at = if left == 0 { At::Token } else { At::Literal { left } };
                Ok((size, Some(Action::Literal)))
            }
            At::Packed { left, first } => {
                let (size, left) = part(left);
                half.at = if left == 0 { At::Token } else { At::Packed { left, first: false } };
                Ok((size, Some(Action::Packed { first })))
            }
            _ => self.item(side, half, data),
        }
    }

    /// Reads what has to be complete to be understood.
    fn item(&mut self, side: Side, half: &mut Half, data: &[u8]) -> Result<(usize, Option<Action>), Fault> {
        let held = half.field.len();
        let mut field = std::mem::take(&mut half.field);
        let mut cursor = if held == 0 {
            Cursor::new(data)
        } else {
            field.extend_from_slice(data);
            Cursor::new(&field)
        };
        let result = self.read(side, &mut half.at, &mut cursor);
        let size = cursor.at().saturating_sub(held);
        match result {
            Ok(action) => {
                field.clear();
                half.field = field;
                Ok((size, action))
            }
            Err(Stop::More) => {
                if held == 0 {
                    field.extend_from_slice(data);
                }
                half.field = field;
                Ok((data.len(), None))
            }
            Err(Stop::Bad(why)) => Err(Fault { after: size.max(1), why }),
        }
    }

    fn read(&mut self, side: Side, at: &mut At, cursor: &mut Cursor<'_>) -> Result<Option<Action>, Stop> {
        let next = match *at {
            At::Version => {
                let version = cursor.count()?;
                if let Some(slot) = self.terms.versions.get_mut(side.place()) {
                    *slot = Some(version);
                }
                if side == Side::Target { At::Flags } else { At::Turn }
            }
            At::Flags => {
                let flags = cursor.varint()? as u32;
                self.terms.flags(flags).map_err(Stop::Bad)?;
                At::Turn
            }
            At::Checksums | At::Packings => {
                let methods = cursor.string(MAX_METHODS)?.to_vec();
                let slots = match *at {
                    At::Checksums => &mut self.terms.checksums,
                    _ => &mut self.terms.packings,
                };
                if let Some(slot) = slots.get_mut(side.place()) {
                    *slot = Some(methods);
                }
                At::Turn
            }
            At::Seed => {
                cursor.int()?;
                if self.options.upload { At::Quiet } else { At::List }
            }
            At::Rules => match cursor.count()? as usize {
                0 => self.after_rules(),
                left => At::Rule { left },
            },
            At::Names { open } => match (cursor.byte()?, open) {
                (0, false) => At::Quiet,
                (byte, _) => At::Names { open: byte != 0 },
            },
            At::List => return self.list_entry(at, cursor),
            At::Ids { groups } => {
                let id = cursor.varint()?;
                if id != 0 || self.agreed()?.name_of_zero {
                    let length = usize::from(cursor.byte()?);
                    cursor.take(length)?;
                }
                match id {
                    0 if !groups && self.options.has('g') => At::Ids { groups: true },
                    0 => At::Items,
                    _ => At::Ids { groups },
                }
            }
            At::Items => return self.next_item(at, cursor),
            At::Token => return self.token(at, cursor),
            At::Checksum => {
                cursor.take(self.agreed()?.checksum)?;
                *at = At::Items;
                return Ok(Some(Action::End));
            }
            At::Turn | At::Quiet | At::Rule { .. } | At::Literal { .. } | At::Packed { .. } => {
                return Err(Stop::Bad("it is out of step"));
            }
        };
        *at = next;
        Ok(None)
    }

    fn agreed(&mut self) -> Result<Agreed, Stop> {
        if let Some(agreed) = self.agreed {
            return Ok(agreed);
        }
        let agreed = self.terms.agreed(&self.options).map_err(Stop::Bad)?;
        if self.options.names_follow && agreed.shape.protocol < 31 {
            return Err(Stop::Bad("--files-from needs version 31"));
        }
        self.agreed = Some(agreed);
        Ok(agreed)
    }

    fn list_entry(&mut self, at: &mut At, cursor: &mut Cursor<'_>) -> Result<Option<Action>, Stop> {
        let agreed = self.agreed()?;
        match self.list.read(cursor, agreed.shape, &self.options)? {
            Read::Entry => Ok(Some(Action::Listed)),
            Read::End => {
                self.list.sort();
                let ids = !self.options.numeric_ids;
                *at = match (ids && self.options.has('o'), ids && self.options.has('g')) {
                    (true, _) => At::Ids { groups: false },
                    (false, true) => At::Ids { groups: true },
                    (false, false) => At::Items,
                };
                Ok(Some(Action::ListEnd))
            }
        }
    }

    fn next_item(&mut self, at: &mut At, cursor: &mut Cursor<'_>) -> Result<Option<Action>, Stop> {
        let mut indices = self.indices;
        let index = match indices.read(cursor)? {
            Index::File(index) => index,
            Index::Done => {
                self.done = self.done.saturating_add(1);
                if self.is_done() {
                    *at = At::Quiet;
                }
                return Ok(None);
            }
            Index::Deletions => {
                for _ in 0..5 {
                    cursor.varint()?;
                }
                self.indices = indices;
                return Ok(None);
            }
            Index::Other => return Err(Stop::Bad("it has an index of no known meaning")),
        };
        let Some(kind) = self.list.get(index).map(|file| file.kind) else {
            return Err(Stop::Bad("it names a file that was not listed"));
        };
        let flags = cursor.short()?;
        let basis = if flags & ITEM_HAS_BASIS != 0 { Some(cursor.byte()?) } else { None };
        let name = if flags & ITEM_HAS_NAME != 0 { cursor.string(MAX_NAME)?.to_vec() } else { Vec::new() };
        let item = Item { index, flags, basis, name };
        if flags & ITEM_TRANSFER != 0 && (kind != Kind::File || self.done >= PHASES - 1) {
            return Err(Stop::Bad("it sends contents where there are none"));
        }
        if flags & ITEM_TRANSFER == 0 || self.options.dry_run() {
            self.indices = indices;
            return Ok(Some(Action::Item(item)));
        }
        let blocks = cursor.count()?;
        for _ in 0..3 {
            cursor.count()?;
        }
        self.indices = indices;
        *at = At::Token;
        Ok(Some(Action::Begin { item, fresh: blocks == 0 }))
    }

    /// One piece of a file's contents (token.c).
    fn token(&mut self, at: &mut At, cursor: &mut Cursor<'_>) -> Result<Option<Action>, Stop> {
        if self.agreed()?.packed == Packed::No {
            let token = cursor.int()?;
            match usize::try_from(token) {
                Ok(0) => *at = At::Checksum,
                Ok(left) => *at = At::Literal { left },
                Err(_) => return Ok(Some(Action::Match)),
            }
            return Ok(None);
        }
        let flag = cursor.byte()?;
        match flag {
            0 => *at = At::Checksum,
            0x40..0x80 => {
                let left = usize::from(flag & 0x3f) << 8 | usize::from(cursor.byte()?);
                if left > 0 {
                    *at = At::Packed { left, first: true };
                }
            }
            _ => {
                // A block by its number or its distance, and with the odd flags how many follow it.
                let long = flag & 0x80 == 0;
                let run = if long { flag & 1 } else { flag >> 6 & 1 };
                cursor.take(if long { 4 } else { 0 } + if run == 0 { 0 } else { 2 })?;
                return Ok(Some(Action::Match));
            }
        }
        Ok(None)
    }
}
