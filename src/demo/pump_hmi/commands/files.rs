//! Commands on files and folders.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use super::Call;
use crate::demo::pump_hmi::io::copy;
use crate::demo::pump_hmi::shell::{Fail, Outcome};
use crate::demo::pump_hmi::vfs::{Access, Vfs, reason};

pub(super) async fn cat(call: &mut Call<'_>) -> Outcome {
    let options = call.options("u", "")?;
    let names = if options.rest.is_empty() { vec!["-".to_owned()] } else { options.rest };
    let mut status = 0;
    for name in &names {
        if name == "-" {
            copy(&call.streams.input, &call.streams.out, u64::MAX).await?;
            continue;
        }
        match call.shell.open_input(name) {
            Ok(input) => {
                copy(&input, &call.streams.out, u64::MAX).await?;
            }
            Err(error) => {
                call.complain("cat", &format!("{name}: {}", reason(&error))).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

pub(super) fn cd(call: &mut Call<'_>) -> Outcome {
    let name = match call.arguments.first().map(String::as_str) {
        None => call.shell.variables.get("HOME").cloned().unwrap_or_else(|| "/".to_owned()),
        Some("-") => call.shell.variables.get("OLDPWD").cloned().unwrap_or_else(|| call.shell.cwd.clone()),
        Some(name) => name.to_owned(),
    };
    let path = call.shell.path(&name);
    let meta = call
        .shell
        .host
        .vfs
        .stat(&path)
        .map_err(|error| Fail::Message(format!("{name}: {}", reason(&error))))?;
    if !meta.is_dir() {
        return Err(Fail::Message(format!("{name}: Not a directory")));
    }
    let before = std::mem::replace(&mut call.shell.cwd, path);
    call.shell.set("OLDPWD", before);
    Ok(0)
}

pub(super) async fn cp(call: &mut Call<'_>) -> Outcome {
    let options = call.options("fpv", "")?;
    let Some((target, sources)) = options.rest.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(Fail::Message("missing file operand".to_owned()));
    };
    for source in sources {
        let input = call.shell.open_input(source).map_err(|error| said(source, &error))?;
        let to = into(call, target, source)?;
        if to == call.shell.path(source) {
            return Err(Fail::Message(format!("'{source}' and '{target}' are the same file")));
        }
        let output = call.shell.open_output(&to, false).map_err(|error| said(&to, &error))?;
        copy(&input, &output, u64::MAX).await?;
        output.flush().await?;
    }
    Ok(0)
}

pub(super) fn mv(call: &mut Call<'_>) -> Outcome {
    let options = call.options("fv", "")?;
    let Some((target, sources)) = options.rest.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(Fail::Message("missing file operand".to_owned()));
    };
    for source in sources {
        let to = into(call, target, source)?;
        call.shell.host.vfs.rename(&call.shell.path(source), &to).map_err(|error| said(source, &error))?;
    }
    Ok(0)
}

/// The absolute name that `source` gets at `target`: below it when it is a folder.
fn into(call: &Call<'_>, target: &str, source: &str) -> Result<String, Fail> {
    let path = call.shell.path(target);
    if !call.shell.host.vfs.is_folder(&path) {
        return Ok(path);
    }
    let from = call.shell.path(source);
    match from.rsplit('/').next() {
        Some(name) if !name.is_empty() => Ok(Vfs::absolute(&path, name)),
        _ => Err(Fail::Message(format!("cannot use '{source}'"))),
    }
}

pub(super) async fn rm(call: &mut Call<'_>) -> Outcome {
    let options = call.options("rRfv", "")?;
    let force = options.has('f');
    let mut status = 0;
    for name in &options.rest {
        let path = call.shell.path(name);
        let vfs = &call.shell.host.vfs;
        let result = match vfs.stat(&path) {
            Ok(meta) if meta.is_dir() && (options.has('r') || options.has('R')) => vfs.remove_tree(&path),
            Ok(meta) if meta.is_dir() => Err(std::io::ErrorKind::IsADirectory.into()),
            Ok(_) => vfs.remove_file(&path),
            Err(error) if force && error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            call.complain("rm", &format!("cannot remove '{name}': {}", reason(&error))).await?;
            status = 1;
        }
    }
    Ok(status)
}

pub(super) fn rmdir(call: &mut Call<'_>) -> Outcome {
    for name in call.arguments {
        call.shell.host.vfs.remove_folder(&call.shell.path(name)).map_err(|error| said(name, &error))?;
    }
    Ok(0)
}

pub(super) async fn mkdir(call: &mut Call<'_>) -> Outcome {
    let options = call.options("pv", "m")?;
    let mut status = 0;
    for name in &options.rest {
        let path = call.shell.path(name);
        let vfs = &call.shell.host.vfs;
        let result = if options.has('p') { vfs.make_folders(&path) } else { vfs.make_folder(&path) };
        if let Err(error) = result {
            call.complain("mkdir", &format!("cannot create directory '{name}': {}", reason(&error))).await?;
            status = 1;
        }
    }
    Ok(status)
}

pub(super) fn touch(call: &mut Call<'_>) -> Outcome {
    for name in call.arguments.iter().filter(|name| !name.starts_with('-')) {
        let file = call.shell.host.vfs.open(&call.shell.path(name), Access::APPEND);
        let file = file.map_err(|error| said(name, &error))?;
        let micros = u64::try_from((call.shell.host.clock)()).unwrap_or(0);
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_micros(micros))?;
    }
    Ok(0)
}

/// `test` for files and texts: `-e -f -d -r -w -x -s -n -z`, `=`, `!=` and `!`.
pub(super) fn test(call: &mut Call<'_>, bracket: bool) -> Outcome {
    let mut words: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
    if bracket && words.pop() != Some("]") {
        return Err(Fail::Message("missing ']'".to_owned()));
    }
    let negated = words.first() == Some(&"!") && words.len() > 1;
    let holds = match if negated { words.get(1..).unwrap_or_default() } else { words.as_slice() } {
        [] => false,
        [text] => !text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [flag, name] => {
            let meta = call.shell.host.vfs.stat(&call.shell.path(name)).ok();
            match *flag {
                "-e" | "-r" | "-w" => meta.is_some(),
                "-f" => meta.is_some_and(|meta| meta.is_file()),
                "-d" => meta.is_some_and(|meta| meta.is_dir()),
                "-s" => meta.is_some_and(|meta| meta.len() > 0),
                "-x" => meta.is_some_and(|meta| meta.mode() & 0o111 != 0),
                _ => return Err(Fail::Message(format!("{flag}: unknown operator"))),
            }
        }
        [a, "=", b] => a == b,
        [a, "!=", b] => a != b,
        _ => return Err(Fail::Message("too many arguments".to_owned())),
    };
    Ok(u8::from(holds == negated))
}

pub(super) async fn ls(call: &mut Call<'_>) -> Outcome {
    let options = call.options("1ahlAFtdr", "")?;
    let names = if options.rest.is_empty() { vec![".".to_owned()] } else { options.rest.clone() };
    let mut status = 0;
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for name in names {
        let path = call.shell.path(&name);
        match call.shell.host.vfs.stat(&path) {
            Ok(meta) if meta.is_dir() && !options.has('d') => folders.push((name, path)),
            Ok(meta) => files.push((name, meta)),
            Err(error) => {
                call.complain("ls", &format!("cannot access '{name}': {}", reason(&error))).await?;
                status = 2;
            }
        }
    }
    let long = options.has('l');
    let several = folders.len() + files.len() > 1;
    show(call, &files, long, options.has('1')).await?;
    for (index, (name, path)) in folders.into_iter().enumerate() {
        if several {
            let gap = if index > 0 || !files.is_empty() { "\n" } else { "" };
            call.print(format!("{gap}{name}:\n")).await?;
        }
        match call.shell.host.vfs.list(&path) {
            Ok(mut entries) => {
                entries.retain(|(name, _)| options.has('a') || options.has('A') || !name.starts_with('.'));
                if options.has('t') {
                    entries.sort_by_key(|(_, meta)| std::cmp::Reverse(meta.mtime()));
                }
                if options.has('r') {
                    entries.reverse();
                }
                show(call, &entries, long, options.has('1')).await?;
            }
            Err(error) => {
                call.complain("ls", &format!("cannot open '{name}': {}", reason(&error))).await?;
                status = 2;
            }
        }
    }
    Ok(status)
}

async fn show(call: &Call<'_>, entries: &[(String, Metadata)], long: bool, single: bool) -> Result<(), Fail> {
    if long {
        for (name, meta) in entries {
            call.print(format!("{} {name}\n", long_form(meta))).await?;
        }
    } else if let (false, Some(tty)) = (single, terminal(call)) {
        let columns = usize::try_from(tty.size().0).unwrap_or(80);
        let width = entries.iter().map(|(name, _)| name.chars().count() + 2).max().unwrap_or(1);
        for row in entries.chunks((columns / width).max(1)) {
            let line: String = row.iter().map(|(name, _)| format!("{name:<width$}")).collect();
            call.print(format!("{}\n", line.trim_end())).await?;
        }
    } else {
        for (name, _) in entries {
            call.print(format!("{name}\n")).await?;
        }
    }
    Ok(())
}

/// The terminal, when standard output goes to it.
fn terminal(call: &Call<'_>) -> Option<std::sync::Arc<crate::demo::pump_hmi::tty::Tty>> {
    let there = matches!(call.streams.out, crate::demo::pump_hmi::io::Output::Terminal(_));
    call.shell.tty.clone().filter(|_| there)
}

/// Type, permissions, owner, size and time, as in `ls -l`.
pub(in crate::demo::pump_hmi) fn long_form(meta: &Metadata) -> String {
    let mut mode = String::from(if meta.is_dir() { "d" } else { "-" });
    for (bit, letter) in (0..9).rev().zip("rwxrwxrwx".chars()) {
        mode.push(if meta.mode() & (1 << bit) == 0 { '-' } else { letter });
    }
    let time = jiff::Timestamp::from_second(meta.mtime())
        .map(|time| time.strftime("%b %e %H:%M").to_string())
        .unwrap_or_default();
    format!("{mode} {:>2} root root {:>10} {time}", meta.nlink(), meta.len())
}

fn said(name: &str, error: &std::io::Error) -> Fail {
    Fail::Message(format!("{name}: {}", reason(error)))
}

#[cfg(test)]
mod tests {
    use crate::demo::pump_hmi::shell::tests::run;

    #[tokio::test]
    async fn files_are_copied_moved_and_removed() {
        let (out, err, _) = run(
            "cd /tmp; mkdir -p a/b; cp /etc/hostname a/b; mv a/b/hostname a/h; cat a/h; rmdir a/b; rm -r a; ls",
        )
        .await;
        assert_eq!((out.as_str(), err.as_str()), ("pump-hmi\n", ""));
    }

    #[tokio::test]
    async fn what_does_not_work_says_why_in_the_usual_words() {
        let (_, err, status) = run("rm /etc").await;
        assert_eq!((err.as_str(), status), ("rm: cannot remove '/etc': Is a directory\n", 1));
        assert_eq!(run("cd /nowhere").await.1, "cd: /nowhere: No such file or directory\n");
        assert_eq!(run("rm -rf /").await.1, "rm: cannot remove '/': Permission denied\n");
        assert_eq!(run("nonsense").await, (String::new(), "sh: nonsense: not found\n".into(), 127));
    }

    #[tokio::test]
    async fn folders_are_listed() {
        assert_eq!(run("ls /opt/hmi").await.0, "config.toml\n");
        assert!(run("ls -l /etc").await.0.contains("-rw-r--r--  1 root root          9"));
        assert_eq!(run("[ -f /etc/hostname ] && test ! -d /etc/hostname && echo ok").await.0, "ok\n");
    }
}
