//! What the disk holds when the host is new.

use std::io::{self, Write as _};

use super::host::{HOSTNAME, home};
use super::vfs::{Access, Vfs};

const CONFIG: &str = "# Pump station 1, operator panel\n[station]\nname = \"Pump station 1\"\nasset = \"pump-hmi\"\n\n\
[plc]\naddress = \"plc-7\"\nport = 502\npoll_ms = 250\n\n\
[limits]\nspeed_max_rpm = 800\npressure_max_bar = 6.5\n\n\
[tags]\nP-101 = \"main pump\"\nP-102 = \"standby pump\"\nPT-110 = \"discharge pressure\"\n";

const OS_RELEASE: &str =
    "PRETTY_NAME=\"Pump HMI OS 4.2 (emulated)\"\nNAME=\"Pump HMI OS\"\nVERSION_ID=\"4.2\"\nID=pumphmi\n";

/// Puts files in place that are not there yet; what a person changed stays.
pub(super) fn seed(vfs: &Vfs, logins: &[&str], now: i64) -> io::Result<()> {
    for folder in ["/etc", "/var/log", "/var/lib/historian", "/opt/hmi", "/tmp", "/dev", "/home", "/root"] {
        vfs.make_folders(folder)?;
    }
    let mut passwd =
        String::from("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n");
    for (number, login) in logins.iter().filter(|login| **login != "root").enumerate() {
        vfs.make_folders(&home(login))?;
        let id = 1000 + number;
        passwd.push_str(&format!("{login}:x:{id}:{id}::{}:/bin/sh\n", home(login)));
    }
    put(vfs, "/etc/hostname", format!("{HOSTNAME}\n").as_bytes())?;
    put(vfs, "/etc/os-release", OS_RELEASE.as_bytes())?;
    put(vfs, "/etc/passwd", passwd.as_bytes())?;
    put(vfs, "/etc/motd", b"Pump station 1, operator panel. Changes need a work order.\n")?;
    put(vfs, "/opt/hmi/config.toml", CONFIG.as_bytes())?;
    put(vfs, "/root/README", b"Setpoints: /opt/hmi/config.toml. Log: /var/log/pump.log. Service: hmi.\n")?;
    put(vfs, "/var/log/pump.log", log(now).as_bytes())?;
    put(vfs, "/var/lib/historian/today.csv", history(now).as_bytes())?;
    for device in ["/dev/null", "/dev/zero", "/dev/urandom"] {
        put(vfs, device, b"")?;
    }
    Ok(())
}

fn put(vfs: &Vfs, name: &str, content: &[u8]) -> io::Result<()> {
    if vfs.stat(name).is_ok() {
        return Ok(());
    }
    vfs.open(name, Access::REPLACE)?.write_all(content)
}

/// Writes `second` (UTC) as `2026-11-23T06:00:00Z`.
pub(super) fn timestamp(microseconds: i64) -> String {
    jiff::Timestamp::from_microsecond(microseconds)
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// Two hundred entries, one each half minute up to `now`.
fn log(now: i64) -> String {
    let mut out = String::new();
    for entry in 0..200_i64 {
        let at = timestamp(now - (200 - entry) * 30_000_000);
        let (speed, pressure) = reading(entry);
        let text = match entry % 40 {
            0 => "INFO hmi: historian flushed 1440 samples".to_owned(),
            27 => "WARN P-102: standby pump not exercised for 30 days".to_owned(),
            _ => format!(
                "INFO P-101: running speed={speed}rpm pressure={}.{}bar",
                pressure / 10,
                pressure % 10
            ),
        };
        out.push_str(&format!(
            "{at} {text}
"
        ));
    }
    out
}

fn history(now: i64) -> String {
    let mut out = String::from("time,speed_rpm,pressure_bar\n");
    for entry in 0..480_i64 {
        let at = timestamp(now - (480 - entry) * 60_000_000);
        let (speed, pressure) = reading(entry);
        out.push_str(&format!("{at},{speed},{}.{}\n", pressure / 10, pressure % 10));
    }
    out
}

/// A pump that hunts a little: speed in rpm, pressure in tenths of a bar.
fn reading(entry: i64) -> (i64, i64) {
    (640 + (entry * 7) % 23 - 11, 41 + (entry * 5) % 9 - 4)
}
