//! What the server's command line says about the stream that follows.

/// How contents are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    None,
    /// As both sides agree; `zlib` where they do not ask each other.
    Agreed,
    /// By this method.
    Named(String),
}

/// What the shape of the stream depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// The person's side sends.
    pub(super) upload: bool,
    /// The first option with which the stream is not followed.
    pub(super) not_followed: Option<String>,
    /// Letters of the options, `a` written out.
    pub(super) letters: String,
    pub(super) specials: bool,
    pub(super) numeric_ids: bool,
    /// The receiver removes what the sender does not have.
    pub(super) deletes: bool,
    /// The names to send come from the person's side.
    pub(super) names_follow: bool,
    pub(super) append: bool,
    /// `--checksum-choice`.
    pub(super) checksum: Option<String>,
    pub(super) packing: Packing,
}

impl Options {
    /// `letters` and `long` options of the command line, `capabilities` as `-e` lists them.
    pub(super) fn new(
        upload: bool,
        letters: &str,
        capabilities: &str,
        long: &[(String, Option<String>)],
    ) -> Self {
        let count = |name: &str| long.iter().filter(|(long, _)| long == name).count();
        let has = |name: &str| count(name) > 0;
        let mut letters = letters.replace('a', "rlptgoD");
        // These turn the letters on.
        letters.extend(
            [("--usermap", 'o'), ("--groupmap", 'g')]
                .iter()
                .filter(|(name, _)| has(name))
                .map(|(_, letter)| letter),
        );
        let value = |name: &str| {
            let last = long.iter().rfind(|(long, _)| long == name)?;
            last.1.as_ref().map(|value| value.to_ascii_lowercase())
        };
        let z = letters.matches('z').count();
        let ways_to_pack =
            ["--compress-choice", "--new-compress", "--old-compress"].map(count).iter().sum::<usize>();
        let mut options = Self {
            upload,
            not_followed: None,
            specials: has("--specials") || letters.contains('D') && !has("--no-specials"),
            numeric_ids: has("--numeric-ids"),
            deletes: long
                .iter()
                .any(|(name, _)| name.starts_with("--delete") && name != "--delete-missing-args"),
            names_follow: has("--files-from"),
            append: has("--append") || has("--append-verify"),
            checksum: value("--checksum-choice").filter(|choice| choice != "auto" && choice != "auto,auto"),
            packing: match value("--compress-choice") {
                Some(name) if name == "none" => Packing::None,
                Some(name) if name != "auto" => Packing::Named(name),
                _ if has("--new-compress") => Packing::Named("zlibx".to_owned()),
                _ if has("--old-compress") => Packing::Named("zlib".to_owned()),
                _ if z > 0 || has("--compress-level") => Packing::Agreed,
                _ => Packing::None,
            },
            letters,
        };
        options.not_followed = [
            (options.has('A'), "-A"),
            (options.has('X'), "-X"),
            (has("--iconv"), "--iconv"),
            (has("--use-qsort"), "--use-qsort"),
            (z > 1, "-zz"),
            // Level 0 means "do not pack" for some methods.
            (
                value("--compress-level").is_some_and(|level| level.parse::<i32>() == Ok(0)),
                "--compress-level=0",
            ),
            (has("--chown"), "--chown"),
            // Which of two counts is for the target's option parser to say.
            (count("--checksum-choice") > 1, "two --checksum-choice"),
            (ways_to_pack > 1, "two ways to pack"),
            (options.has('R') && has("--no-relative"), "-R and --no-relative"),
            (capabilities.contains('V'), "a pre-release of the protocol"),
        ]
        .into_iter()
        .find_map(|(found, name)| found.then(|| name.to_owned()));
        options
    }

    pub(super) fn has(&self, letter: char) -> bool {
        self.letters.contains(letter)
    }

    /// Contents are asked for and not sent.
    pub(super) fn dry_run(&self) -> bool {
        self.has('n')
    }

    /// The side that the filter rules are sent to wants them (`send_filter_list` of exclude.c).
    pub(super) fn filters_follow(&self) -> bool {
        !self.upload || self.has('m') || self.deletes
    }
}
