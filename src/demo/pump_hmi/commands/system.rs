//! Commands about the host itself.

use std::time::Duration;

use super::Call;
use crate::demo::pump_hmi::host::{HOSTNAME, Unit};
use crate::demo::pump_hmi::seed::timestamp;
use crate::demo::pump_hmi::shell::{Fail, Outcome};

/// The longest `sleep`, in seconds.
const MAX_SLEEP: f64 = 7.0 * 24.0 * 3600.0;

pub(super) async fn sleep(call: &mut Call<'_>) -> Outcome {
    let mut total = 0.0;
    for text in call.arguments {
        let (digits, scale) = match text.chars().last() {
            Some('s') => (text.trim_end_matches('s'), 1.0),
            Some('m') => (text.trim_end_matches('m'), 60.0),
            Some('h') => (text.trim_end_matches('h'), 3600.0),
            _ => (text.as_str(), 1.0),
        };
        let seconds: f64 =
            digits.parse().map_err(|_| Fail::Message(format!("invalid time interval '{text}'")))?;
        total += seconds * scale;
    }
    if !(0.0..=MAX_SLEEP).contains(&total) {
        return Err(Fail::Message("invalid time interval".to_owned()));
    }
    tokio::time::sleep(Duration::from_secs_f64(total)).await;
    Ok(0)
}

pub(super) async fn id(call: &mut Call<'_>) -> Outcome {
    let options = call.options("ung", "")?;
    let login = &call.shell.login;
    let number = if login == "root" { 0 } else { 1000 };
    let text = match (options.has('u') || options.has('g'), options.has('n')) {
        (true, true) => format!("{login}\n"),
        (true, false) => format!("{number}\n"),
        _ => format!("uid={number}({login}) gid={number}({login}) groups={number}({login})\n"),
    };
    call.print(text).await?;
    Ok(0)
}

pub(super) async fn uname(call: &mut Call<'_>) -> Outcome {
    let options = call.options("asnrmv", "")?;
    let text = if options.has('a') {
        format!("Linux {HOSTNAME} 6.1.0-hmi #1 SMP x86_64 GNU/Linux\n")
    } else {
        let mut parts = Vec::new();
        for (letter, part) in
            [('s', "Linux"), ('n', HOSTNAME), ('r', "6.1.0-hmi"), ('v', "#1 SMP"), ('m', "x86_64")]
        {
            if options.has(letter) {
                parts.push(part);
            }
        }
        if parts.is_empty() { "Linux\n".to_owned() } else { parts.join(" ") + "\n" }
    };
    call.print(text).await?;
    Ok(0)
}

pub(super) async fn date(call: &mut Call<'_>) -> Outcome {
    let format =
        call.arguments.iter().find_map(|word| word.strip_prefix('+')).unwrap_or("%a %b %e %H:%M:%S UTC %Y");
    let now = jiff::Timestamp::from_microsecond((call.shell.host.clock)())
        .map_err(|_| Fail::Message("the clock is out of range".to_owned()))?;
    let text = jiff::fmt::strtime::format(format, now)
        .map_err(|_| Fail::Message(format!("invalid format '{format}'")))?;
    call.print(text + "\n").await?;
    Ok(0)
}

pub(super) async fn env(call: &mut Call<'_>) -> Outcome {
    if let Some(name) = call.arguments.first() {
        return match call.shell.variables.get(name) {
            Some(value) => call.print(format!("{value}\n")).await.map(|()| 0),
            None => Err(Fail::Status(1)),
        };
    }
    let text: String = call.shell.variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    call.print(text).await?;
    Ok(0)
}

pub(super) async fn export(call: &mut Call<'_>) -> Outcome {
    for word in call.arguments {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fits {
            return Err(Fail::Message(format!("{name}: not a valid identifier")));
        }
        // Every variable here is passed on to commands; without a value there is nothing left to do.
        if word.contains('=') && !call.shell.set(name, value.to_owned()) {
            call.complain("export", "too many variables").await?;
            return Err(Fail::Status(1));
        }
    }
    Ok(0)
}

pub(super) fn unset(call: &mut Call<'_>) -> Outcome {
    for name in call.arguments {
        call.shell.variables.remove(name);
    }
    Ok(0)
}

/// `41 days,  5:00`, and the time of day.
pub(super) fn up_since(call: &Call<'_>) -> String {
    let now = (call.shell.host.clock)();
    let minutes = (now - call.shell.host.booted) / 60_000_000;
    let clock = timestamp(now);
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    format!(" {} up {days} days, {hours:>2}:{minutes:02}", clock.get(11..19).unwrap_or_default())
}

pub(super) async fn uptime(call: &mut Call<'_>) -> Outcome {
    call.print(format!("{},  1 user,  load average: 0.08, 0.11, 0.09\n", up_since(call))).await?;
    Ok(0)
}

pub(super) async fn ps(call: &mut Call<'_>) -> Outcome {
    let mut text = String::from("  PID USER     COMMAND\n    1 root     /sbin/init\n");
    let mut units: Vec<Unit> = call.shell.host.units().values().filter(|unit| unit.active).cloned().collect();
    units.sort_by_key(|unit| unit.pid);
    for unit in units {
        text.push_str(&format!("{:>5} root     {}\n", unit.pid, unit.command));
    }
    text.push_str(&format!(" 4242 {:<8} -sh\n 4243 {:<8} ps\n", call.shell.login, call.shell.login));
    call.print(text).await?;
    Ok(0)
}

pub(super) async fn systemctl(call: &mut Call<'_>) -> Outcome {
    let words: Vec<&str> =
        call.arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let (verb, name) = match words.as_slice() {
        [] | ["list-units"] => return list_units(call).await,
        [verb, name, ..] => {
            (*verb, if name.ends_with(".service") { (*name).to_owned() } else { format!("{name}.service") })
        }
        [verb] => return Err(Fail::Message(format!("{verb}: a unit is missing"))),
    };
    let (unit, status) = match change(call, verb, &name)? {
        Some(found) => found,
        None => {
            call.streams.err.write(format!("Unit {name} could not be found.\n")).await?;
            return Err(Fail::Status(4));
        }
    };
    match verb {
        "status" => call.print(describe(&name, &unit)).await?,
        "is-active" => call.print(if unit.active { "active\n" } else { "inactive\n" }).await?,
        _ => {}
    }
    Ok(status)
}

/// Does what the verb says to the unit of this name; the unit afterwards and the exit status.
fn change(call: &Call<'_>, verb: &str, name: &str) -> Result<Option<(Unit, u8)>, Fail> {
    let now = (call.shell.host.clock)();
    let mut units = call.shell.host.units();
    let Some(unit) = units.get_mut(name) else { return Ok(None) };
    let wanted = match verb {
        "start" => Some(true),
        "stop" => Some(false),
        "restart" => {
            unit.active = false;
            Some(true)
        }
        "status" | "is-active" => None,
        _ => return Err(Fail::Message(format!("unknown command verb {verb}"))),
    };
    if let Some(active) = wanted.filter(|active| *active != unit.active) {
        unit.active = active;
        unit.since = now;
        unit.pid += u32::from(active) * 1000;
    }
    Ok(Some((unit.clone(), if wanted.is_some() || unit.active { 0 } else { 3 })))
}

async fn list_units(call: &Call<'_>) -> Outcome {
    let text: String = {
        let units = call.shell.host.units();
        let line = |(name, unit): (&&str, &Unit)| {
            let state = if unit.active { "active   running" } else { "inactive dead   " };
            format!("{name:<24} loaded {state} {}\n", unit.description)
        };
        units.iter().map(line).collect()
    };
    call.print(text).await?;
    Ok(0)
}

fn describe(name: &str, unit: &Unit) -> String {
    let since = timestamp(unit.since);
    let (mark, state) = if unit.active { ("●", "active (running)") } else { ("○", "inactive (dead)") };
    let mut text = format!(
        "{mark} {name} - {}\n     Loaded: loaded (/etc/systemd/system/{name}; enabled)\n     Active: {state} since {since}\n",
        unit.description
    );
    if unit.active {
        text.push_str(&format!("   Main PID: {} ({})\n", unit.pid, unit.command));
    }
    text
}

/// The last lines of the pump's log, with services' changes as the newest.
pub(super) async fn journalctl(call: &mut Call<'_>) -> Outcome {
    let arguments: Vec<String> =
        call.arguments.iter().filter(|word| !word.starts_with("--")).cloned().collect();
    let call = &mut Call { shell: call.shell, arguments: &arguments, streams: call.streams };
    let options = call.options("xeq", "nu")?;
    let keep = super::number(options.value('n').unwrap_or("20"))?;
    let keep = usize::try_from(keep).unwrap_or(usize::MAX).min(2000);
    let input = call.shell.open_input("/var/log/pump.log")?;
    let mut lines: Vec<String> = Vec::new();
    while let Some(line) = input.line().await? {
        if let Some((time, text)) = line.split_once(' ') {
            lines.push(format!("{time} {HOSTNAME} hmi[612]: {text}\n"));
        }
        if lines.len() > 4000 {
            lines.drain(..2000);
        }
    }
    let start = lines.len().saturating_sub(keep);
    call.print(lines.split_off(start).concat()).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use crate::demo::pump_hmi::shell::tests::{host, run, run_with};

    #[tokio::test]
    async fn services_keep_their_state() {
        let (_dir, host) = host();
        assert!(run_with(&host, "systemctl status hmi", "").await.0.contains("active (running)"));
        assert_eq!(run_with(&host, "systemctl stop hmi; systemctl is-active hmi", "").await.0, "inactive\n");
        assert_eq!(run_with(&host, "systemctl status hmi.service", "").await.2, 3);
        assert!(!run_with(&host, "ps", "").await.0.contains("hmi-server"));
        assert_eq!(run_with(&host, "systemctl start hmi && systemctl is-active hmi", "").await.0, "active\n");
        assert_eq!(run_with(&host, "systemctl status nothing", "").await.2, 4);
    }

    #[tokio::test]
    async fn the_host_knows_itself() {
        assert_eq!(run("hostname; whoami; id -u; uname").await.0, "pump-hmi\nroot\n0\nLinux\n");
        assert_eq!(run("date +%Y-%m-%d").await.0, "2026-11-23\n");
        assert!(run("uptime").await.0.contains("up 41 days"));
        assert_eq!(run("journalctl -n 3 --no-pager | wc -l").await.0, "3\n");
    }

    #[tokio::test]
    async fn sleeping_has_its_limits() {
        assert_eq!(run("sleep 0").await.2, 0);
        for wrong in ["x", "-- -1", "nan", "9999999", "1e308h"] {
            assert_eq!(run(&format!("sleep {wrong}")).await.2, 1, "{wrong}");
        }
    }
}
