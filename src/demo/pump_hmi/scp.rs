//! The old scp protocol, as `scp -O` and PuTTY's `pscp` speak it: `scp -t` receives, `scp -f` sends.
//!
//! There is no specification; what is done here is what OpenSSH's `scp.c` does.

use futures::future::BoxFuture;

use super::commands::Call;
use super::io::{Output, copy};
use super::shell::{Fail, Outcome};
use super::vfs::{Vfs, reason};

/// How deep folders may nest in one transfer.
const MAX_DEPTH: usize = 32;

/// Runs `scp -t` or `scp -f`; the client side is not offered on this host.
pub(super) async fn run(call: &mut Call<'_>) -> Outcome {
    let options = call.options("tfrpdqv", "")?;
    let recursive = options.has('r');
    match (options.has('t'), options.has('f'), options.rest.as_slice()) {
        (true, false, [target]) => receive(call, target, options.has('d')).await,
        (false, true, [_, ..]) => send(call, &options.rest, recursive).await,
        _ => Err(Fail::Message("this host has no scp client".to_owned())),
    }
}

async fn receive(call: &mut Call<'_>, target: &str, must_be_folder: bool) -> Outcome {
    let target = call.shell.path(target);
    if must_be_folder && !call.shell.host.vfs.is_folder(&target) {
        return refuse(call, &format!("{target}: Not a directory")).await;
    }
    let mut folders = vec![target];
    let mut status = 0;
    acknowledge(call).await?;
    while let Some(line) = call.streams.input.line().await? {
        let (kind, rest) = line.split_at_checked(1).unwrap_or((line.as_str(), ""));
        match kind {
            // Times are told only when the client wants them kept; the transfer is what matters here.
            "T" => acknowledge(call).await?,
            "E" => {
                folders.pop();
                if folders.is_empty() {
                    return refuse(call, "protocol error: unexpected end of a folder").await;
                }
                acknowledge(call).await?;
            }
            "C" | "D" => {
                let Some((mode, size, name)) = header(rest) else {
                    return refuse(call, "protocol error: bad header").await;
                };
                let parent = folders.last().cloned().unwrap_or_default();
                let path = if call.shell.host.vfs.is_folder(&parent) {
                    Vfs::absolute(&parent, name)
                } else {
                    parent
                };
                if kind == "D" {
                    if folders.len() >= MAX_DEPTH {
                        return refuse(call, "folders nest too deep").await;
                    }
                    if let Err(error) = call.shell.host.vfs.make_folders(&path) {
                        return refuse(call, &format!("{path}: {}", reason(&error))).await;
                    }
                    folders.push(path);
                    acknowledge(call).await?;
                } else if !receive_file(call, &path, mode, size).await? {
                    status = 1;
                }
            }
            _ => return refuse(call, "protocol error").await,
        }
    }
    Ok(status)
}

/// Mode, size and name from `0644 123 name`. A name with a folder in it is refused.
fn header(text: &str) -> Option<(u32, u64, &str)> {
    let mut parts = text.splitn(3, ' ');
    let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
    let size = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let fits = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    fits.then_some((mode, size, name))
}

async fn receive_file(call: &Call<'_>, path: &str, mode: u32, size: u64) -> Result<bool, Fail> {
    let output = match call.shell.open_output(path, false) {
        Ok(output) => output,
        Err(error) => {
            // The client leaves this file out and goes on.
            call.print(format!("\x01scp: {path}: {}\n", reason(&error))).await?;
            return Ok(false);
        }
    };
    acknowledge(call).await?;
    let copied = copy(&call.streams.input, &output, size).await?;
    output.flush().await?;
    if copied < size {
        return Err(Fail::Message(format!("{path}: connection lost")));
    }
    if matches!(output, Output::File(_)) {
        call.shell.host.vfs.set_mode(path, mode)?;
    }
    let sent_well = call.streams.input.exactly(1).await?.first() == Some(&0);
    acknowledge(call).await?;
    Ok(sent_well)
}

async fn send(call: &mut Call<'_>, names: &[String], recursive: bool) -> Outcome {
    answer(call).await?;
    let mut status = 0;
    for name in names {
        let path = call.shell.path(name);
        if !send_path(call, &path, recursive, 0).await? {
            status = 1;
        }
    }
    Ok(status)
}

fn send_path<'a>(
    call: &'a Call<'_>,
    path: &'a str,
    recursive: bool,
    depth: usize,
) -> BoxFuture<'a, Result<bool, Fail>> {
    Box::pin(async move {
        let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(".");
        let vfs = &call.shell.host.vfs;
        let refusal = match vfs.stat(path) {
            Ok(meta) if meta.is_dir() && recursive && depth < MAX_DEPTH => {
                call.print(format!("D0755 0 {name}\n")).await?;
                answer(call).await?;
                let mut well = true;
                for (child, _) in vfs.list(path)? {
                    well &= send_path(call, &Vfs::absolute(path, &child), true, depth + 1).await?;
                }
                call.print("E\n").await?;
                answer(call).await?;
                return Ok(well);
            }
            Ok(meta) if meta.is_dir() => "not a regular file".to_owned(),
            Ok(meta) => match call.shell.open_input(path) {
                Ok(input) => {
                    call.print(format!("C0644 {} {name}\n", meta.len())).await?;
                    answer(call).await?;
                    let copied = copy(&input, &call.streams.out, meta.len()).await?;
                    if copied < meta.len() {
                        return Err(Fail::Message(format!("{path}: the file became shorter")));
                    }
                    call.print("\0").await?;
                    answer(call).await?;
                    return Ok(true);
                }
                Err(error) => reason(&error),
            },
            Err(error) => reason(&error),
        };
        call.print(format!("\x01scp: {path}: {refusal}\n")).await?;
        Ok(false)
    })
}

async fn acknowledge(call: &Call<'_>) -> Result<(), Fail> {
    call.print("\0").await
}

/// Waits for the client's answer; anything but a zero byte ends the transfer.
async fn answer(call: &Call<'_>) -> Result<(), Fail> {
    match call.streams.input.exactly(1).await?.first() {
        Some(0) => Ok(()),
        _ => Err(Fail::Status(1)),
    }
}

async fn refuse(call: &Call<'_>, why: &str) -> Outcome {
    call.print(format!("\x01scp: {why}\n")).await?;
    Err(Fail::Status(1))
}

#[cfg(test)]
mod tests {
    use super::super::shell::tests::{host, run_with};

    #[tokio::test]
    async fn a_file_is_received_under_its_name() {
        let (_dir, host) = host();
        let (out, _, status) = run_with(&host, "scp -t /tmp", "C0644 3 f\nabc\0").await;
        assert_eq!((out.as_str(), status), ("\0\0\0", 0));
        assert_eq!(run_with(&host, "cat /tmp/f", "").await.0, "abc");
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["../f", "..", "a/b", ""] {
            let (_dir, host) = host();
            let (out, _, status) = run_with(&host, "scp -r -t /tmp", &format!("C0644 1 {name}\nx\0")).await;
            assert!(status == 1 && out.contains("bad header"), "{name}: {out}");
            let (out, _, _) = run_with(&host, "scp -r -t /tmp", &format!("D0755 0 {name}\n")).await;
            assert!(out.contains("bad header"), "{name}: {out}");
        }
    }

    #[tokio::test]
    async fn a_file_is_sent_with_its_length() {
        let (_dir, host) = host();
        let (out, _, status) = run_with(&host, "scp -f /etc/hostname", "\0\0\0").await;
        assert_eq!((out.as_str(), status), ("C0644 9 hostname\npump-hmi\n\0", 0));
        let (out, _, status) = run_with(&host, "scp -f /nothing", "\0").await;
        assert!(status == 1 && out.starts_with("\x01scp: /nothing: No such file"), "{out}");
    }
}
