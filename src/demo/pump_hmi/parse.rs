//! The shell's grammar: lists of pipelines of commands, quotes, variables and redirections. What it does not
//! know it refuses by name; nothing is guessed.

/// A whole line or script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Script(pub(super) Vec<Step>);

/// A pipeline and when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) when: When,
    pub(super) negated: bool,
    pub(super) commands: Vec<Command>,
}

/// How a pipeline depends on the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Success,
    Failure,
}

/// One command of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Command {
    pub(super) assignments: Vec<(String, Word)>,
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

/// Where one of a command's streams goes, in the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    Read(Word),
    Write { fd: u8, word: Word, append: bool },
    Copy { from: u8, to: u8 },
}

/// A word before variables are put in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Word(pub(super) Vec<Part>);

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text; whether it was quoted decides about `~` and `*`.
    Text { text: String, quoted: bool },
    /// A variable (`?` for the last status); unquoted ones are split at blanks.
    Variable { name: String, quoted: bool },
}

/// The longest script, in bytes.
const MAX_SCRIPT: usize = 64 * 1024;

/// Why a script was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error: {0}")]
pub(super) struct SyntaxError(pub(super) String);

fn unexpected(what: impl std::fmt::Display) -> SyntaxError {
    SyntaxError(format!("unexpected {what}"))
}

/// Reads a script.
pub(super) fn parse(text: &str) -> Result<Script, SyntaxError> {
    if text.len() > MAX_SCRIPT {
        return Err(SyntaxError("the script is too long".to_owned()));
    }
    let tokens = Lexer { rest: text.chars().peekable(), tokens: Vec::new() }.run()?;
    group(tokens)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    Separator,
    And,
    Or,
    Pipe,
    Read,
    Write { fd: u8, append: bool, both: bool },
    Copy { from: u8, to: u8 },
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(mut self) -> Result<Vec<Token>, SyntaxError> {
        while let Some(&c) = self.rest.peek() {
            match c {
                ' ' | '\t' | '\r' => {
                    self.rest.next();
                }
                '#' => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '\n' | ';' => {
                    self.rest.next();
                    self.tokens.push(Token::Separator);
                }
                '&' => self.ampersand()?,
                '|' => {
                    self.rest.next();
                    let token = if self.rest.next_if_eq(&'|').is_some() { Token::Or } else { Token::Pipe };
                    self.tokens.push(token);
                }
                '<' => {
                    self.rest.next();
                    if self.rest.peek() == Some(&'<') {
                        return Err(SyntaxError("here-documents are not available on this host".to_owned()));
                    }
                    self.tokens.push(Token::Read);
                }
                '>' => {
                    self.rest.next();
                    self.write(1)?;
                }
                '(' | ')' | '`' => return Err(unexpected(format_args!("`{c}'"))),
                _ => self.word()?,
            }
        }
        Ok(self.tokens)
    }

    fn ampersand(&mut self) -> Result<(), SyntaxError> {
        self.rest.next();
        if self.rest.next_if_eq(&'&').is_some() {
            self.tokens.push(Token::And);
            Ok(())
        } else if self.rest.next_if_eq(&'>').is_some() {
            let append = self.rest.next_if_eq(&'>').is_some();
            self.tokens.push(Token::Write { fd: 1, append, both: true });
            Ok(())
        } else {
            Err(SyntaxError("background jobs are not available on this host".to_owned()))
        }
    }

    /// After `>`: `>>`, `>&2` or a name.
    fn write(&mut self, fd: u8) -> Result<(), SyntaxError> {
        if self.rest.next_if_eq(&'&').is_some() {
            let to = match self.rest.next() {
                Some('1') => 1,
                Some('2') => 2,
                _ => return Err(unexpected("redirection")),
            };
            self.tokens.push(Token::Copy { from: fd, to });
        } else {
            let append = self.rest.next_if_eq(&'>').is_some();
            self.tokens.push(Token::Write { fd, append, both: false });
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), SyntaxError> {
        let mut word = Word::default();
        let mut text = String::new();
        while let Some(&c) = self.rest.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '(' | ')' => break,
                '>' => {
                    // `2>` is a redirection only when the number stands alone.
                    let fd = match text.as_str() {
                        "1" => 1,
                        "2" => 2,
                        _ => break,
                    };
                    if !word.0.is_empty() {
                        break;
                    }
                    self.rest.next();
                    return self.write(fd);
                }
                '\'' => {
                    self.rest.next();
                    word.push_text(&mut text, false);
                    let mut inner = String::new();
                    loop {
                        match self.rest.next() {
                            Some('\'') => break,
                            Some(c) => inner.push(c),
                            None => return Err(unexpected("end: a quote is open")),
                        }
                    }
                    word.0.push(Part::Text { text: inner, quoted: true });
                }
                '"' => {
                    self.rest.next();
                    word.push_text(&mut text, false);
                    self.double_quoted(&mut word)?;
                }
                '\\' => {
                    self.rest.next();
                    word.push_text(&mut text, false);
                    match self.rest.next() {
                        Some('\n') => {}
                        Some(c) => word.0.push(Part::Text { text: c.to_string(), quoted: true }),
                        None => text.push('\\'),
                    }
                }
                '$' => {
                    self.rest.next();
                    word.push_text(&mut text, false);
                    self.variable(&mut word, &mut text, false)?;
                }
                '`' => return Err(unexpected("``'")),
                c => {
                    self.rest.next();
                    text.push(c);
                }
            }
        }
        word.push_text(&mut text, false);
        self.tokens.push(Token::Word(word));
        Ok(())
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), SyntaxError> {
        let mut text = String::new();
        let mut any = false;
        loop {
            match self.rest.next() {
                Some('"') => break,
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => text.push(c),
                    Some('\n') => {}
                    Some(c) => text.extend(['\\', c]),
                    None => return Err(unexpected("end: a quote is open")),
                },
                Some('$') => {
                    word.push_text(&mut text, true);
                    self.variable(word, &mut text, true)?;
                    any = true;
                }
                Some('`') => return Err(unexpected("``'")),
                Some(c) => text.push(c),
                None => return Err(unexpected("end: a quote is open")),
            }
        }
        if !any || !text.is_empty() {
            // An empty pair of quotes is still a word.
            word.0.push(Part::Text { text, quoted: true });
        }
        Ok(())
    }

    fn variable(&mut self, word: &mut Word, text: &mut String, quoted: bool) -> Result<(), SyntaxError> {
        let name = match self.rest.peek() {
            Some('?' | '$' | '#') => self.rest.next().map(String::from).unwrap_or_default(),
            Some('(') => {
                self.rest.next();
                let value = self.arithmetic()?;
                word.0.push(Part::Text { text: value.to_string(), quoted });
                return Ok(());
            }
            Some('{') => {
                self.rest.next();
                let mut name = String::new();
                loop {
                    match self.rest.next() {
                        Some('}') => break,
                        Some(c) if c.is_ascii_alphanumeric() || c == '_' || c == '?' => name.push(c),
                        _ => return Err(unexpected("substitution")),
                    }
                }
                name
            }
            _ => {
                let mut name = String::new();
                while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                name
            }
        };
        if name.is_empty() {
            text.push('$');
        } else {
            word.0.push(Part::Variable { name, quoted });
        }
        Ok(())
    }
}

impl Lexer<'_> {
    /// What stands between `$((` (its first parenthesis read) and `))`.
    fn arithmetic(&mut self) -> Result<i64, SyntaxError> {
        if self.rest.next_if_eq(&'(').is_none() {
            return Err(SyntaxError("command substitution is not available on this host".to_owned()));
        }
        let (mut text, mut open) = (String::new(), 0usize);
        loop {
            match self.rest.next() {
                Some(')') if open == 0 => break,
                Some(c) => {
                    match c {
                        '(' => open += 1,
                        ')' => open -= 1,
                        _ => {}
                    }
                    text.push(c);
                }
                None => return Err(unexpected("end: an arithmetic expression is open")),
            }
        }
        if self.rest.next_if_eq(&')').is_none() {
            return Err(unexpected("end of an arithmetic expression"));
        }
        super::arithmetic::evaluate(&text)
    }
}

impl Word {
    fn push_text(&mut self, text: &mut String, quoted: bool) {
        if !text.is_empty() {
            self.0.push(Part::Text { text: std::mem::take(text), quoted });
        }
    }

    /// `NAME=value` at the start of a command.
    fn assignment(&self) -> Option<(String, Self)> {
        let (Part::Text { text, quoted: false }, rest) = self.0.split_first()? else { return None };
        let (name, value) = text.split_once('=')?;
        let first = name.chars().next()?;
        let fits = (first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fits {
            return None;
        }
        let mut word = Self::default();
        word.push_text(&mut value.to_owned(), false);
        word.0.extend_from_slice(rest);
        Some((name.to_owned(), word))
    }

    fn is_bare(&self, text: &str) -> bool {
        matches!(self.0.as_slice(), [Part::Text { text: own, quoted: false }] if own == text)
    }
}

fn group(tokens: Vec<Token>) -> Result<Script, SyntaxError> {
    let mut script = Script::default();
    let mut step = Step { when: When::Always, negated: false, commands: Vec::new() };
    let mut command = Command::default();
    // Whether an operator stands before and something has to follow.
    let mut wanting = false;
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => {
                if step.commands.is_empty() && command == Command::default() && word.is_bare("!") {
                    step.negated = !step.negated;
                    continue;
                }
                match word.assignment().filter(|_| command.words.is_empty()) {
                    Some(assignment) => command.assignments.push(assignment),
                    None => command.words.push(word),
                }
                wanting = false;
            }
            Token::Read => command.redirects.push(Redirect::Read(name_after(&mut tokens)?)),
            Token::Write { fd, append, both } => {
                let word = name_after(&mut tokens)?;
                command.redirects.push(Redirect::Write { fd, word, append });
                if both {
                    command.redirects.push(Redirect::Copy { from: 2, to: 1 });
                }
            }
            Token::Copy { from, to } => command.redirects.push(Redirect::Copy { from, to }),
            Token::Pipe => {
                if command == Command::default() {
                    return Err(unexpected("`|'"));
                }
                step.commands.push(std::mem::take(&mut command));
                wanting = true;
            }
            Token::And | Token::Or | Token::Separator => {
                let next = match token {
                    Token::And => When::Success,
                    Token::Or => When::Failure,
                    _ => When::Always,
                };
                if command == Command::default() {
                    if next != When::Always || step.negated {
                        return Err(unexpected("operator"));
                    }
                    // A blank line, or a line that goes on after an operator.
                    continue;
                }
                step.commands.push(std::mem::take(&mut command));
                script.0.push(std::mem::replace(
                    &mut step,
                    Step { when: next, negated: false, commands: Vec::new() },
                ));
                wanting = next != When::Always;
            }
        }
    }
    if command != Command::default() {
        step.commands.push(command);
        script.0.push(step);
    } else if wanting || step.negated {
        return Err(unexpected("end of the line"));
    }
    Ok(script)
}

fn name_after(tokens: &mut std::vec::IntoIter<Token>) -> Result<Word, SyntaxError> {
    match tokens.next() {
        Some(Token::Word(word)) => Ok(word),
        _ => Err(unexpected("redirection without a name")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let script = parse(text).unwrap();
        script.0[0].commands[0]
            .words
            .iter()
            .map(|word| {
                word.0
                    .iter()
                    .map(|part| match part {
                        Part::Text { text, .. } => text.clone(),
                        Part::Variable { name, .. } => format!("<{name}>"),
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn quotes_keep_what_they_should() {
        assert_eq!(
            words(r#"echo 'a  $b' "c $d \$e" f\ g "" x"y"z"#),
            ["echo", "a  $b", "c <d> $e", "f g", "", "xyz"]
        );
    }

    #[test]
    fn lists_and_pipelines_are_grouped() {
        let script = parse("a && b | c || d; e\nf").unwrap();
        let whens: Vec<When> = script.0.iter().map(|step| step.when).collect();
        assert_eq!(whens, [When::Always, When::Success, When::Failure, When::Always, When::Always]);
        assert_eq!(script.0[1].commands.len(), 2);
    }

    #[test]
    fn redirections_are_told_from_words() {
        let command = &parse("a 2>&1 >out 2>>err <in x2 >&2").unwrap().0[0].commands[0];
        assert_eq!(command.words.len(), 2);
        assert_eq!(command.redirects.len(), 5);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, why) in [
            ("a $(b)", "substitution"),
            ("a &", "background"),
            ("a |", "end"),
            ("| a", "|"),
            ("a <<X", "here"),
            ("'a", "quote"),
            ("a >", "name"),
            ("a &&", "end"),
            ("(a)", "("),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ -~\n\u{e9}]{0,80}") {
            drop(parse(&text));
        }
    }
}
