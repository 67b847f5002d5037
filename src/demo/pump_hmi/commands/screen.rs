//! Commands that need a terminal, or ask for passwords.

use std::sync::Arc;
use std::time::Duration;

use cofferdam_vault::SecretString;

use super::system::up_since;
use super::{Call, number};
use crate::demo::pump_hmi::shell::{Fail, Outcome};
use crate::demo::pump_hmi::tty::{Mode, Tty};

/// Sets a terminal's mode for as long as it lives.
struct ModeGuard(Arc<Tty>, Mode);

impl ModeGuard {
    fn set(tty: &Arc<Tty>, mode: Mode) -> Self {
        let before = tty.mode();
        tty.set_mode(mode);
        Self(Arc::clone(tty), before)
    }
}

impl Drop for ModeGuard {
    fn drop(&mut self) {
        self.0.set_mode(self.1);
    }
}

/// Asks for a new password twice, without echo, and sets it for this host's accounts.
pub(super) async fn passwd(call: &mut Call<'_>) -> Outcome {
    let login = call.arguments.first().unwrap_or(&call.shell.login).clone();
    if login != call.shell.login && call.shell.login != "root" {
        return Err(Fail::Message(format!("you may not change the password of {login}")));
    }
    let _quiet =
        call.shell.tty.as_ref().map(|tty| ModeGuard::set(tty, Mode { echo: false, ..Mode::COMMAND }));
    let first = ask(call, "New password: ").await?;
    let second = ask(call, "Retype new password: ").await?;
    if first != second {
        return Err(Fail::Message("passwords do not match; password unchanged".to_owned()));
    }
    if first.expose().is_empty() {
        return Err(Fail::Message("no password given; password unchanged".to_owned()));
    }
    if !call.shell.host.set_password(&login, first) {
        return Err(Fail::Message(format!("{login} has no password on this host")));
    }
    call.streams.err.write("passwd: password updated successfully\n").await?;
    Ok(0)
}

async fn ask(call: &Call<'_>, prompt: &'static str) -> Result<SecretString, Fail> {
    call.streams.err.write(prompt).await?;
    let line = call.streams.input.line().await?;
    line.map(SecretString::from).ok_or_else(|| Fail::Message("password unchanged".to_owned()))
}

/// Sets passwords from lines `login:password` on standard input.
pub(super) async fn chpasswd(call: &mut Call<'_>) -> Outcome {
    if call.shell.login != "root" {
        return Err(Fail::Message("only root may do that".to_owned()));
    }
    while let Some(line) = call.streams.input.line().await? {
        let Some((login, password)) = line.split_once(':') else {
            return Err(Fail::Message("a line is not of the form login:password".to_owned()));
        };
        if !call.shell.host.set_password(login, SecretString::from(password)) {
            return Err(Fail::Message(format!("{login} has no password on this host")));
        }
    }
    Ok(0)
}

pub(super) async fn stty(call: &mut Call<'_>) -> Outcome {
    let Some(tty) = call.shell.tty.clone() else {
        return Err(Fail::Message("standard input is not a terminal".to_owned()));
    };
    let (columns, rows) = tty.size();
    if call.arguments.is_empty() || call.arguments.iter().any(|word| word == "-a") {
        let mode = tty.mode();
        let sign = |on| if on { "" } else { "-" };
        let text = format!(
            "speed 38400 baud; rows {rows}; columns {columns};\n{}icanon {}echo\n",
            sign(mode.lines),
            sign(mode.echo)
        );
        call.print(text).await?;
        return Ok(0);
    }
    for word in call.arguments {
        let mode = tty.mode();
        match word.as_str() {
            "size" => call.print(format!("{rows} {columns}\n")).await?,
            "echo" => tty.set_mode(Mode { echo: true, ..mode }),
            "-echo" => tty.set_mode(Mode { echo: false, ..mode }),
            "raw" | "-icanon" => tty.set_mode(Mode { lines: false, ..mode }),
            "sane" | "icanon" => tty.set_mode(Mode::COMMAND),
            _ => return Err(Fail::Message(format!("invalid argument '{word}'"))),
        }
    }
    Ok(0)
}

pub(super) async fn tput(call: &mut Call<'_>) -> Outcome {
    let (columns, rows) = call.shell.tty.as_ref().map_or((80, 24), |tty| tty.size());
    let text = match call.arguments.first().map(String::as_str) {
        Some("cols") => format!("{columns}\n"),
        Some("lines") => format!("{rows}\n"),
        Some("clear") => "\x1b[H\x1b[2J".to_owned(),
        Some("bold") => "\x1b[1m".to_owned(),
        Some("sgr0") => "\x1b[m".to_owned(),
        Some("civis") => "\x1b[?25l".to_owned(),
        Some("cnorm") => "\x1b[?25h".to_owned(),
        other => return Err(Fail::Message(format!("unknown capability '{}'", other.unwrap_or_default()))),
    };
    call.print(text).await?;
    Ok(0)
}

/// Redraws each second until `q`; with `-b -n COUNT` it prints so many frames and ends.
pub(super) async fn top(call: &mut Call<'_>) -> Outcome {
    let options = call.options("b", "nd")?;
    let frames = options.value('n').map(number).transpose()?;
    let batch = options.has('b');
    let Some(tty) = call.shell.tty.clone().filter(|_| !batch) else {
        if !batch {
            return Err(Fail::Message("failed tty get".to_owned()));
        }
        for tick in 0..frames.unwrap_or(1) {
            if tick > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            call.print(frame(call, tick, 80, 40) + "\n").await?;
        }
        return Ok(0);
    };
    let _raw = ModeGuard::set(&tty, Mode { lines: false, echo: false, history: false });
    call.print("\x1b[?1049h\x1b[?25l").await?;
    let outcome = redraw(call, &tty, frames.unwrap_or(u64::MAX)).await;
    call.print("\x1b[?25h\x1b[?1049l").await?;
    outcome
}

async fn redraw(call: &Call<'_>, tty: &Tty, frames: u64) -> Outcome {
    for tick in 0..frames {
        let (columns, rows) = tty.size();
        let text = frame(call, tick, columns as usize, rows as usize);
        call.print(format!("\x1b[H\x1b[2J{text}")).await?;
        let pause = tokio::time::sleep(Duration::from_secs(1));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                key = call.streams.input.read(1) => match key?.first() {
                    None | Some(b'q' | b'Q') => return Ok(0),
                    Some(_) => {}
                },
            }
        }
    }
    Ok(0)
}

/// One picture: made-up but steady figures that wander with `tick`.
fn frame(call: &Call<'_>, tick: u64, columns: usize, rows: usize) -> String {
    let wander = |span: u64, by: u64| (tick * by) % span;
    let mut lines = vec![
        format!("top -{},  1 user,  load average: 0.0{}, 0.11, 0.09", up_since(call), wander(10, 3)),
        "Tasks:  61 total,   1 running,  60 sleeping,   0 stopped,   0 zombie".to_owned(),
        format!("%Cpu(s):  {}.{} us,  0.7 sy,  0.0 ni, 95.1 id", 3 + wander(4, 3), wander(10, 7)),
        "MiB Mem :   1987.4 total,    902.1 free,    511.8 used,    573.5 buff/cache".to_owned(),
        String::new(),
        "  PID USER      PR  NI    RES  %CPU  %MEM     TIME+ COMMAND".to_owned(),
    ];
    let mut units: Vec<_> = call.shell.host.units().values().filter(|unit| unit.active).cloned().collect();
    units.sort_by_key(|unit| unit.pid);
    for (index, unit) in (0_u64..).zip(units) {
        let name = unit.command.split(' ').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        lines.push(format!(
            "{:>5} root      20   0 {:>5}m  {:>2}.{}  {:>4}  {:>3}:{:02}.{:02} {name}",
            unit.pid,
            38 - index * 7,
            4 - index,
            wander(10, 3 + index),
            "1.9",
            412 - index * 97,
            tick % 60,
            wander(100, 37),
        ));
    }
    lines.truncate(rows.saturating_sub(1).max(1));
    let cut: Vec<String> = lines.into_iter().map(|line| line.chars().take(columns).collect()).collect();
    cut.join("\n")
}

#[cfg(test)]
mod tests {
    use crate::demo::pump_hmi::shell::tests::{host, run, run_with};

    #[tokio::test]
    async fn a_password_is_changed_only_when_typed_twice_alike() {
        let (_dir, host) = host();
        assert!(host.password_fits("root", "old"));
        assert_eq!(run_with(&host, "passwd", "new\nnwe\n").await.2, 1);
        assert!(host.password_fits("root", "old"));
        let (_, err, status) = run_with(&host, "passwd root", "new\nnew\n").await;
        assert!(status == 0 && err.contains("updated"), "{err}");
        assert!(host.password_fits("root", "new") && !host.password_fits("root", "old"));
        assert_eq!(run_with(&host, "echo root:third | chpasswd", "").await.2, 0);
        assert!(host.password_fits("root", "third"));
    }

    #[tokio::test]
    async fn top_prints_frames_in_batch_and_wants_a_terminal_otherwise() {
        let (out, _, _) = run("top -b -n 1").await;
        assert_eq!(out.matches("Tasks:").count(), 1);
        assert!(out.contains("hmi-server"));
        assert_eq!(run("top").await.1, "top: failed tty get\n");
        assert_eq!(run("stty size").await.2, 1);
        assert_eq!(run("tput cols").await.0, "80\n");
    }
}
