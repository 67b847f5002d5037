//! Commands on text.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{Call, number};
use crate::demo::pump_hmi::io::{CHUNK, Input, copy};
use crate::demo::pump_hmi::shell::{Fail, Outcome};
use crate::demo::pump_hmi::vfs::reason;

/// How many lines `tail` keeps at most, and `seq` writes per chunk.
const MAX_TAIL: u64 = 100_000;

pub(super) async fn echo(call: &mut Call<'_>) -> Outcome {
    let (words, end) = match call.arguments.split_first() {
        Some((first, rest)) if first == "-n" => (rest, ""),
        _ => (call.arguments, "\n"),
    };
    call.print(words.join(" ") + end).await?;
    Ok(0)
}

/// `printf FORMAT ARGUMENT…` with `%s %d %%` and the usual escapes; the format repeats while arguments last.
pub(super) async fn printf(call: &mut Call<'_>) -> Outcome {
    let Some((format, arguments)) = call.arguments.split_first() else {
        return Err(Fail::Message("usage: printf FORMAT [ARGUMENT]...".to_owned()));
    };
    let mut arguments = arguments.iter();
    loop {
        let before = arguments.len();
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => out.push(match letters.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('e') => '\x1b',
                    Some('a') => '\x07',
                    Some(other) => other,
                    None => '\\',
                }),
                '%' => match letters.next() {
                    Some('s') => out.push_str(arguments.next().map_or("", String::as_str)),
                    Some('d') => {
                        let text = arguments.next().map_or("0", String::as_str);
                        let value: i64 = text
                            .parse()
                            .map_err(|_| Fail::Message(format!("{text}: expected a numeric value")))?;
                        out.push_str(&value.to_string());
                    }
                    Some('%') => out.push('%'),
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        return Err(Fail::Message(format!("%{shown}: invalid conversion")));
                    }
                },
                other => out.push(other),
            }
        }
        call.print(out).await?;
        if arguments.len() == 0 || arguments.len() == before {
            return Ok(0);
        }
    }
}

/// The inputs named, or standard input; one that cannot be opened is said and counted.
async fn inputs(
    call: &Call<'_>,
    command: &str,
    names: &[String],
) -> Result<(Vec<(String, Input)>, u8), Fail> {
    if names.is_empty() {
        return Ok((vec![(String::new(), call.streams.input.clone())], 0));
    }
    let mut all = Vec::new();
    let mut status = 0;
    for name in names {
        if name == "-" {
            all.push((name.clone(), call.streams.input.clone()));
            continue;
        }
        match call.shell.open_input(name) {
            Ok(input) => all.push((name.clone(), input)),
            Err(error) => {
                call.complain(command, &format!("{name}: {}", reason(&error))).await?;
                status = 1;
            }
        }
    }
    Ok((all, status))
}

/// Reads lines, however long: each comes with its line feed, the last one perhaps without.
struct Lines {
    input: Input,
    waiting: BytesMut,
    ended: bool,
}

impl Lines {
    /// A line longer than this is given in pieces.
    const MAX: usize = 1024 * 1024;

    fn new(input: Input) -> Self {
        Self { input, waiting: BytesMut::new(), ended: false }
    }

    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            let fresh = self.waiting.get(searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.waiting.split_to(searched + at + 1).freeze()));
            }
            searched = self.waiting.len();
            if self.ended || searched >= Self::MAX {
                return Ok((searched > 0).then(|| self.waiting.split().freeze()));
            }
            let bytes = self.input.read(CHUNK).await?;
            self.ended = bytes.is_empty();
            self.waiting.extend_from_slice(&bytes);
        }
    }
}

/// Fixed text only: every pattern is taken literally.
pub(super) async fn grep(call: &mut Call<'_>) -> Outcome {
    let options = call.options("Fivcnqs", "e")?;
    let mut rest = options.rest.clone();
    let pattern = match options.value('e') {
        Some(pattern) => pattern.to_owned(),
        None if rest.is_empty() => {
            return Err(Fail::Message("usage: grep [-Ficnqv] TEXT [FILE]...".to_owned()));
        }
        None => rest.remove(0),
    };
    let fold = |text: &str| if options.has('i') { text.to_lowercase() } else { text.to_owned() };
    let wanted = fold(&pattern);
    let (inputs, failed) = inputs(call, "grep", &rest).await?;
    let several = inputs.len() > 1;
    let mut found = false;
    for (name, input) in inputs {
        let prefix = if several { format!("{name}:") } else { String::new() };
        let (mut lines, mut at, mut count) = (Lines::new(input), 0_u64, 0_u64);
        while let Some(line) = lines.next().await? {
            at += 1;
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            if fold(&text).contains(&wanted) == options.has('v') {
                continue;
            }
            found = true;
            count += 1;
            if options.has('q') {
                return Ok(0);
            }
            if !options.has('c') {
                let number = if options.has('n') { format!("{at}:") } else { String::new() };
                call.print(format!("{prefix}{number}{text}\n")).await?;
            }
        }
        if options.has('c') {
            call.print(format!("{prefix}{count}\n")).await?;
        }
    }
    Ok(if failed != 0 { 2 } else { u8::from(!found) })
}

/// Old form `-20` as `-n 20`.
fn count_option(call: &Call<'_>) -> Vec<String> {
    let old = |word: &String| {
        word.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    call.arguments
        .iter()
        .map(|word| if old(word) { word.replacen('-', "-n", 1) } else { word.clone() })
        .collect()
}

pub(super) async fn head(call: &mut Call<'_>) -> Outcome {
    let arguments = count_option(call);
    let call = &mut Call { shell: call.shell, arguments: &arguments, streams: call.streams };
    let options = call.options("q", "nc")?;
    let (inputs, status) = inputs(call, "head", &options.rest).await?;
    for (_, input) in inputs {
        if let Some(count) = options.value('c') {
            copy(&input, &call.streams.out, number(count)?).await?;
            continue;
        }
        let mut left = number(options.value('n').unwrap_or("10"))?;
        let mut lines = Lines::new(input);
        while left > 0 {
            let Some(line) = lines.next().await? else { break };
            left -= u64::from(line.ends_with(b"\n"));
            call.print(line).await?;
        }
    }
    Ok(status)
}

pub(super) async fn tail(call: &mut Call<'_>) -> Outcome {
    let arguments = count_option(call);
    let call = &mut Call { shell: call.shell, arguments: &arguments, streams: call.streams };
    let options = call.options("q", "n")?;
    let keep = number(options.value('n').unwrap_or("10"))?.min(MAX_TAIL);
    let (inputs, status) = inputs(call, "tail", &options.rest).await?;
    for (_, input) in inputs {
        let mut last: VecDeque<Bytes> = VecDeque::new();
        let (mut lines, mut size) = (Lines::new(input), 0);
        while let Some(line) = lines.next().await? {
            // A copy: a slice would keep its whole chunk alive.
            size += line.len();
            last.push_back(Bytes::copy_from_slice(&line));
            while last.len() as u64 > keep || size > 16 * Lines::MAX {
                size -= last.pop_front().map_or(0, |line| line.len());
            }
        }
        for line in last {
            call.print(line).await?;
        }
    }
    Ok(status)
}

pub(super) async fn wc(call: &mut Call<'_>) -> Outcome {
    let options = call.options("clw", "")?;
    let (inputs, status) = inputs(call, "wc", &options.rest).await?;
    let all = !(options.has('c') || options.has('l') || options.has('w'));
    for (name, input) in inputs {
        let (mut bytes, mut lines, mut words, mut inside) = (0_u64, 0_u64, 0_u64, false);
        loop {
            let chunk = input.read(CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            bytes += chunk.len() as u64;
            if all || options.has('l') || options.has('w') {
                for byte in &chunk {
                    lines += u64::from(*byte == b'\n');
                    let blank = byte.is_ascii_whitespace();
                    words += u64::from(!blank && !inside);
                    inside = !blank;
                }
            }
        }
        let mut shown = Vec::new();
        for (letter, count) in [('l', lines), ('w', words), ('c', bytes)] {
            if all || options.has(letter) {
                shown.push(count.to_string());
            }
        }
        if !name.is_empty() {
            shown.push(name);
        }
        call.print(shown.join(" ") + "\n").await?;
    }
    Ok(status)
}

pub(super) async fn seq(call: &mut Call<'_>) -> Outcome {
    let mut numbers = Vec::new();
    for text in call.arguments {
        let invalid = |_| Fail::Message(format!("invalid argument '{text}'"));
        numbers.push(text.parse::<i64>().map_err(invalid)?);
    }
    let (first, step, last) = match numbers.as_slice() {
        [last] => (1, 1, *last),
        [first, last] => (*first, 1, *last),
        [first, step, last] if *step != 0 => (*first, *step, *last),
        _ => return Err(Fail::Message("usage: seq [FIRST [STEP]] LAST".to_owned())),
    };
    let mut out = String::new();
    let mut next = Some(first);
    while let Some(value) = next.filter(|value| if step > 0 { *value <= last } else { *value >= last }) {
        out.push_str(&value.to_string());
        out.push('\n');
        if out.len() >= CHUNK - 32 {
            call.print(std::mem::take(&mut out)).await?;
        }
        next = value.checked_add(step);
    }
    call.print(out).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use crate::demo::pump_hmi::shell::tests::run;

    #[tokio::test]
    async fn text_commands_do_as_everywhere() {
        assert_eq!(run("seq 5 | tail -n 2").await.0, "4\n5\n");
        assert_eq!(run("seq 3 -1 1 | head -2").await.0, "3\n2\n");
        assert_eq!(run("seq 100000 | wc -l").await.0, "100000\n");
        assert_eq!(run("printf 'a b\\nc\\n' | wc").await.0, "2 3 6\n");
        assert_eq!(run("printf '%s-%d\\n' x 1 y 2").await.0, "x-1\ny-2\n");
        assert_eq!(run("echo -n a; echo b c").await.0, "ab c\n");
        assert_eq!(run("head -c 2 /etc/hostname").await.0, "pu");
    }

    #[tokio::test]
    async fn grep_finds_fixed_text() {
        assert_eq!(run("printf 'one\\ntwo\\n' | grep -n O").await, (String::new(), String::new(), 1));
        assert_eq!(run("printf 'one\\ntwo\\n' | grep -in O").await.0, "1:one\n2:two\n");
        assert_eq!(run("grep -c P-101 /var/log/pump.log").await.0, "190\n");
        assert_eq!(run("grep x /nothing").await.2, 2);
    }

    #[tokio::test]
    async fn a_wrong_option_is_an_error() {
        let (_, err, status) = run("head -z").await;
        assert_eq!((err.as_str(), status), ("head: invalid option -- 'z'\n", 1));
        assert_eq!(run("head -c 99999999999999999999").await.2, 1);
    }
}
