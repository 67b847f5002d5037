//! What the two sides agree on before the first frame (`setup_protocol` of compat.c).

use super::list::Shape;
use super::options::{Options, Packing};

/// Compatibility flags (`CF_*` of compat.c).
const INCREMENTAL: u32 = 1;
const SAFE_END: u32 = 1 << 3;
const WIDE_FLAGS: u32 = 1 << 7;
const NAME_OF_ZERO: u32 = 1 << 8;
/// Versions whose stream is followed.
const VERSIONS: std::ops::RangeInclusive<u32> = 30..=32;

/// What each side has said; the person's side first.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) versions: [Option<u32>; 2],
    flags: Option<u32>,
    pub(super) checksums: [Option<Vec<u8>>; 2],
    pub(super) packings: [Option<Vec<u8>>; 2],
}

/// How contents are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    No,
    Zstd,
    /// By a method that is not unpacked here.
    Other(&'static str),
}

/// The agreement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    pub(super) shape: Shape,
    /// Bytes of the checksum behind each file.
    pub(super) checksum: usize,
    pub(super) packed: Packed,
    pub(super) name_of_zero: bool,
}

impl Terms {
    /// The lower of the two versions.
    pub(super) fn protocol(&self) -> Option<u32> {
        Some(self.versions[0]?.min(self.versions[1]?))
    }

    /// Takes the flags that the server sends behind its version.
    pub(super) fn flags(&mut self, flags: u32) -> Result<(), &'static str> {
        match self.protocol() {
            None => return Err("one side spoke out of turn"),
            Some(version) if !VERSIONS.contains(&version) => {
                return Err("it is a version other than 30 to 32");
            }
            Some(_) => {}
        }
        if flags & INCREMENTAL != 0 {
            return Err("the target lists files folder by folder");
        }
        self.flags = Some(flags);
        Ok(())
    }

    /// Whether each side sends lists of checksums and of packing methods. `None`: not known yet.
    pub(super) fn asks(&self, options: &Options) -> Option<[bool; 2]> {
        let negotiates = self.flags? & WIDE_FLAGS != 0;
        Some([negotiates && options.checksum.is_none(), negotiates && options.packing == Packing::Agreed])
    }

    /// The agreement, once both sides have said all.
    pub(super) fn agreed(&self, options: &Options) -> Result<Agreed, &'static str> {
        const EARLY: &str = "one side spoke out of turn";
        let (flags, protocol) = (self.flags.ok_or(EARLY)?, self.protocol().ok_or(EARLY)?);
        let [asks_checksum, asks_packing] = self.asks(options).ok_or(EARLY)?;
        let checksum = match &options.checksum {
            Some(choice) => choice.clone(),
            None if asks_checksum => common(&self.checksums).ok_or(EARLY)?,
            None => "md5".to_owned(),
        };
        let (transfer, list) = checksum.split_once(',').unwrap_or((&checksum, &checksum));
        let length = |name| checksum_length(name).ok_or("its checksum is not known");
        let packing = match &options.packing {
            Packing::None => "none".to_owned(),
            Packing::Named(name) => name.clone(),
            Packing::Agreed if asks_packing => common(&self.packings).ok_or(EARLY)?,
            Packing::Agreed => "zlib".to_owned(),
        };
        let packed = match packing.as_str() {
            "none" => Packed::No,
            "zstd" => Packed::Zstd,
            "lz4" => Packed::Other("lz4"),
            "zlib" => Packed::Other("zlib"),
            "zlibx" => Packed::Other("zlibx"),
            _ => return Err("its packing method is not known"),
        };
        let shape = Shape {
            protocol,
            wide_flags: flags & WIDE_FLAGS != 0,
            safe_end: protocol >= 31 || flags & SAFE_END != 0,
            checksum: length(list)?,
        };
        Ok(Agreed { shape, checksum: length(transfer)?, packed, name_of_zero: flags & NAME_OF_ZERO != 0 })
    }
}

/// The first of the person's words that the target has too.
fn common([person, target]: &[Option<Vec<u8>>; 2]) -> Option<String> {
    let (person, target) = (person.as_deref()?, target.as_deref()?);
    let words = |list: &[u8]| -> Vec<String> {
        let list = String::from_utf8_lossy(list).to_ascii_lowercase();
        list.split_ascii_whitespace().map(|word| word.replace("xxhash", "xxh64")).collect()
    };
    let theirs = words(target);
    words(person).into_iter().find(|word| theirs.contains(word))
}

/// Bytes of a checksum (`csum_len_for_type` of checksum.c).
fn checksum_length(name: &str) -> Option<usize> {
    Some(match name {
        "none" => 1,
        "xxh3" | "xxh64" | "xxhash" => 8,
        "xxh128" | "md4" | "md5" | "auto" => 16,
        "sha1" => 20,
        _ => return None,
    })
}
