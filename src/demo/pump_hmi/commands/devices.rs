//! Commands that move bulk data.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};

use super::{Call, number};
use crate::demo::pump_hmi::io::{CHUNK, Input, Output, copy};
use crate::demo::pump_hmi::shell::{Fail, Outcome};
use crate::demo::pump_hmi::vfs::reason;

/// `dd if= of= bs= count=`; other operands are refused.
pub(super) async fn dd(call: &mut Call<'_>) -> Outcome {
    let (mut input, mut output) = (call.streams.input.clone(), call.streams.out.clone());
    let (mut block, mut count) = (512_u64, None);
    for operand in call.arguments {
        let Some((key, value)) = operand.split_once('=') else {
            return Err(Fail::Message(format!("unrecognized operand '{operand}'")));
        };
        let failed =
            |error: std::io::Error| Fail::Message(format!("failed to open '{value}': {}", reason(&error)));
        match key {
            "if" => input = call.shell.open_input(value).map_err(failed)?,
            "of" => output = call.shell.open_output(value, false).map_err(failed)?,
            "bs" => block = number(value)?.max(1),
            "count" => count = Some(number(value)?),
            "status" | "conv" | "iflag" | "oflag" => {}
            _ => return Err(Fail::Message(format!("unrecognized operand '{operand}'"))),
        }
    }
    let limit = count.map_or(u64::MAX, |count: u64| count.saturating_mul(block));
    let copied = copy(&input, &output, limit).await?;
    output.flush().await?;
    let partial = u8::from(copied % block != 0);
    let whole = copied / block;
    let records =
        format!("{whole}+{partial} records in\n{whole}+{partial} records out\n{copied} bytes copied\n");
    call.streams.err.write(records).await?;
    Ok(0)
}

pub(super) async fn tee(call: &mut Call<'_>) -> Outcome {
    let options = call.options("ai", "")?;
    let mut files: Vec<Output> = Vec::new();
    for name in &options.rest {
        let file = call.shell.open_output(name, options.has('a'));
        files.push(file.map_err(|error| Fail::Message(format!("{name}: {}", reason(&error))))?);
    }
    loop {
        let bytes = call.streams.input.read(CHUNK).await?;
        if bytes.is_empty() {
            break;
        }
        for file in &files {
            file.write(bytes.clone()).await?;
        }
        call.streams.out.write(bytes).await?;
    }
    for file in &files {
        file.flush().await?;
    }
    Ok(0)
}

pub(super) async fn yes(call: &mut Call<'_>) -> Outcome {
    let line = match call.arguments {
        [] => "y\n".to_owned(),
        words => format!("{}\n", words.join(" ")),
    };
    let block = Bytes::from(line.repeat((CHUNK / line.len()).max(1)));
    loop {
        call.streams.out.write(block.clone()).await?;
    }
}

pub(super) async fn sha256sum(call: &mut Call<'_>) -> Outcome {
    let options = call.options("b", "")?;
    let names = if options.rest.is_empty() { vec!["-".to_owned()] } else { options.rest };
    let mut status = 0;
    for name in names {
        let input = if name == "-" { Ok(call.streams.input.clone()) } else { call.shell.open_input(&name) };
        match input {
            Ok(input) => {
                let sum = hash(&input).await?;
                call.print(format!("{sum}  {name}\n")).await?;
            }
            Err(error) => {
                call.complain("sha256sum", &format!("{name}: {}", reason(&error))).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

async fn hash(input: &Input) -> std::io::Result<String> {
    let mut context = Context::new(&SHA256);
    loop {
        let bytes = input.read(CHUNK).await?;
        if bytes.is_empty() {
            return Ok(hex::encode(context.finish()));
        }
        context.update(&bytes);
    }
}

pub(super) async fn base64(call: &mut Call<'_>) -> Outcome {
    let options = call.options("d", "w")?;
    let input = match options.rest.first() {
        Some(name) if name != "-" => call.shell.open_input(name)?,
        _ => call.streams.input.clone(),
    };
    let mut waiting = BytesMut::new();
    // Three bytes are four letters; 57 of them are a line.
    let unit = if options.has('d') { 4 } else { 57 };
    loop {
        let bytes = input.read(CHUNK).await?;
        let end = bytes.is_empty();
        if options.has('d') {
            waiting.extend(bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
        } else {
            waiting.extend_from_slice(&bytes);
        }
        let ready = if end { waiting.len() } else { waiting.len() / unit * unit };
        let part = waiting.split_to(ready);
        if options.has('d') {
            let decoded = STANDARD.decode(&part).map_err(|_| Fail::Message("invalid input".to_owned()))?;
            call.print(decoded).await?;
        } else {
            call.print(lines(part.freeze(), options.value('w') == Some("0"))).await?;
        }
        if end {
            return Ok(0);
        }
    }
}

fn lines(mut part: Bytes, single: bool) -> String {
    let mut out = String::with_capacity(part.len() / 57 * 77 + 80);
    while part.has_remaining() {
        let line = part.split_to(part.len().min(57));
        STANDARD.encode_string(&line, &mut out);
        if !single {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::demo::pump_hmi::shell::tests::{host, run, run_with};

    #[tokio::test]
    async fn dd_counts_blocks() {
        let (out, err, status) = run("dd if=/dev/zero bs=1K count=3 | wc -c").await;
        assert_eq!((out.as_str(), status), ("3072\n", 0));
        assert!(err.contains("3+0 records in"), "{err}");
        assert_eq!(
            run("dd if=/dev/urandom of=/tmp/r bs=1000 count=2 2>/dev/null; wc -c < /tmp/r").await.0,
            "2000\n"
        );
        assert_eq!(run("dd if=/dev/zero of=/dev/null bs=1M count=64").await.2, 0);
    }

    #[tokio::test]
    async fn sums_and_encodings_are_the_real_ones() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(run("printf abc | sha256sum").await.0, format!("{abc}  -\n"));
        assert_eq!(run("printf 'hello world' | base64").await.0, "aGVsbG8gd29ybGQ=\n");
        let through =
            "head -c 200000 /dev/urandom > /tmp/r; sha256sum < /tmp/r; base64 /tmp/r | base64 -d | sha256sum";
        let (out, _, _) = run(through).await;
        let sums: Vec<&str> = out.lines().collect();
        assert_eq!(sums[0], sums[1]);
    }

    #[tokio::test]
    async fn tee_writes_both_ways() {
        let (_dir, host) = host();
        let (out, _, _) = run_with(&host, "tee /tmp/t | wc -c; cat /tmp/t", "abc").await;
        assert_eq!(out, "3\nabc");
    }
}
