//! The commands of the emulated host. Each is a function over streams; none starts a real process.

mod devices;
mod files;
mod screen;
mod system;
mod text;

pub(super) use files::long_form;

use futures::future::BoxFuture;

use super::scp;
use super::shell::{Fail, Flow, Outcome, Shell, Streams};

/// One running command: its arguments, its shell and its streams.
pub(super) struct Call<'a> {
    pub(super) shell: &'a mut Shell,
    pub(super) arguments: &'a [String],
    pub(super) streams: &'a Streams,
}

impl Call<'_> {
    /// Writes to standard output.
    pub(super) async fn print(&self, text: impl Into<bytes::Bytes>) -> Result<(), Fail> {
        Ok(self.streams.out.write(text).await?)
    }

    /// Writes `command: text` to standard error and goes on.
    async fn complain(&self, command: &str, text: &str) -> Result<(), Fail> {
        Ok(self.streams.err.write(format!("{command}: {text}\n")).await?)
    }

    /// Splits arguments into single-letter flags and the rest. Letters in `valued` take a value, from the
    /// same word or the next; letters in `plain` take none; another one is an error.
    pub(super) fn options(&self, plain: &str, valued: &str) -> Result<Options, Fail> {
        let mut options = Options::default();
        let mut words = self.arguments.iter();
        while let Some(word) = words.next() {
            let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                options.rest.push(word.clone());
                continue;
            };
            if letters == "-" {
                options.rest.extend(words.cloned());
                break;
            }
            for (at, letter) in letters.char_indices() {
                if plain.contains(letter) {
                    options.flags.push((letter, String::new()));
                } else if valued.contains(letter) {
                    let inline = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                    let value =
                        if inline.is_empty() { words.next().cloned() } else { Some(inline.to_owned()) };
                    let missing = || Fail::Message(format!("option requires an argument -- '{letter}'"));
                    options.flags.push((letter, value.ok_or_else(missing)?));
                    break;
                } else {
                    return Err(Fail::Message(format!("invalid option -- '{letter}'")));
                }
            }
        }
        Ok(options)
    }
}

/// What [`Call::options`] found.
#[derive(Debug, Default)]
pub(super) struct Options {
    flags: Vec<(char, String)>,
    pub(super) rest: Vec<String>,
}

impl Options {
    /// Whether the flag was given.
    pub(super) fn has(&self, letter: char) -> bool {
        self.flags.iter().any(|(own, _)| *own == letter)
    }

    /// The flag's value, the last one when given twice.
    fn value(&self, letter: char) -> Option<&str> {
        self.flags.iter().rev().find(|(own, _)| *own == letter).map(|(_, value)| value.as_str())
    }
}

/// A count such as `20`, `64K`, `1M` or `2G`.
fn number(text: &str) -> Result<u64, Fail> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..).unwrap_or_default() {
        "" | "c" => 1,
        "k" | "K" => 1024,
        "M" => 1024 * 1024,
        "G" => 1024 * 1024 * 1024,
        _ => 0_u64,
    };
    let invalid = || Fail::Message(format!("invalid number '{text}'"));
    if scale == 0 {
        return Err(invalid());
    }
    digits.parse::<u64>().ok().and_then(|count| count.checked_mul(scale)).ok_or_else(invalid)
}

const HELP: &str = "\
Emulated operator panel. Commands:
  files     cat cd cp dd head ls mkdir mv pwd rm rmdir scp sha256sum tail tee touch
  text      base64 echo grep printf seq wc yes
  host      date env export hostname id journalctl passwd chpasswd ps systemctl uname uptime whoami
  terminal  clear stty top tput
  other     exit false help sh sleep test true
Files to look at: /opt/hmi/config.toml, /var/log/pump.log
";

/// Runs one command.
pub(super) fn run<'a>(
    shell: &'a mut Shell,
    name: &'a str,
    arguments: &'a [String],
    streams: &'a Streams,
) -> BoxFuture<'a, Outcome> {
    let bare = name
        .strip_prefix("/usr/bin/")
        .or_else(|| name.strip_prefix("/bin/"))
        .or_else(|| name.strip_prefix("/usr/sbin/"))
        .unwrap_or(name);
    let mut call = Call { shell, arguments, streams };
    Box::pin(async move {
        let call = &mut call;
        match bare {
            "true" | ":" => Ok(0),
            "false" => Ok(1),
            "exit" | "logout" => exit(call),
            "sh" | "bash" | "/bin/sh" => nested(call).await,
            "help" => call.print(HELP).await.map(|()| 0),
            "cat" => files::cat(call).await,
            "cd" => files::cd(call),
            "cp" => files::cp(call).await,
            "ls" => files::ls(call).await,
            "mkdir" => files::mkdir(call).await,
            "mv" => files::mv(call),
            "pwd" => call.print(format!("{}\n", call.shell.cwd)).await.map(|()| 0),
            "rm" => files::rm(call).await,
            "rmdir" => files::rmdir(call),
            "touch" => files::touch(call),
            "test" | "[" => files::test(call, bare == "["),
            "dd" => devices::dd(call).await,
            "tee" => devices::tee(call).await,
            "yes" => devices::yes(call).await,
            "sha256sum" => devices::sha256sum(call).await,
            "base64" => devices::base64(call).await,
            "scp" => scp::run(call).await,
            "echo" => text::echo(call).await,
            "printf" => text::printf(call).await,
            "grep" => text::grep(call).await,
            "head" => text::head(call).await,
            "tail" => text::tail(call).await,
            "wc" => text::wc(call).await,
            "seq" => text::seq(call).await,
            "sleep" => system::sleep(call).await,
            "id" => system::id(call).await,
            "whoami" => call.print(format!("{}\n", call.shell.login)).await.map(|()| 0),
            "hostname" => call.print("pump-hmi\n").await.map(|()| 0),
            "uname" => system::uname(call).await,
            "date" => system::date(call).await,
            "env" | "printenv" => system::env(call).await,
            "export" => system::export(call).await,
            "unset" => system::unset(call),
            "uptime" => system::uptime(call).await,
            "ps" => system::ps(call).await,
            "systemctl" => system::systemctl(call).await,
            "journalctl" => system::journalctl(call).await,
            "passwd" => screen::passwd(call).await,
            "chpasswd" => screen::chpasswd(call).await,
            "stty" => screen::stty(call).await,
            "tput" => screen::tput(call).await,
            "clear" => call.print("\x1b[H\x1b[2J").await.map(|()| 0),
            "top" => screen::top(call).await,
            _ => {
                call.streams.err.write(format!("sh: {name}: not found\n")).await?;
                Err(Fail::Status(127))
            }
        }
    })
}

fn exit(call: &mut Call<'_>) -> Outcome {
    let status = match call.arguments.first() {
        // As in every shell, the number counts modulo 256.
        Some(text) => {
            let number: i64 =
                text.parse().map_err(|_| Fail::Message(format!("{text}: numeric argument required")))?;
            u8::try_from(number.rem_euclid(256)).unwrap_or(0)
        }
        None => call.shell.last,
    };
    call.shell.exit = Some(status);
    Ok(status)
}

/// `sh -c SCRIPT`, `sh FILE`, or `sh` reading from its input.
async fn nested(call: &mut Call<'_>) -> Outcome {
    let mut inner = call.shell.clone();
    let script = match call.arguments {
        [flag, script, ..] if flag.starts_with('-') && flag.ends_with('c') => script.clone(),
        [file, ..] if !file.starts_with('-') => {
            let input = call.shell.open_input(file)?;
            let mut script = String::new();
            while let Some(line) = input.line().await? {
                script.push_str(&line);
                script.push('\n');
            }
            script
        }
        _ => {
            while let Some(line) = call.streams.input.line().await? {
                if let Flow::Exit(status) = inner.run(&line, call.streams).await {
                    return Ok(status);
                }
            }
            return Ok(inner.last);
        }
    };
    let (Flow::Next(status) | Flow::Exit(status)) = inner.run(&script, call.streams).await;
    Ok(status)
}
