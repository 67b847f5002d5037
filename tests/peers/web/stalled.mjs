// A browser that does not read: vera's terminal prints without end while nothing is taken from its WebSocket. What is on its
// way stays bounded, the gateway's memory stays flat, and the session goes on when she reads again.
// COFFERDAM_PID: the gateway's process.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import tls from "node:tls";
import { authority, base, code, seat, story, until } from "./lib.mjs";

/** Most bytes ahead of the screen, and what one message may add. */
const AHEAD = 256 * 1024 + 64 * 1024;
/** What a page, a recording's buffers and the sockets may take besides. */
const SLACK_KIB = 24 * 1024;
const sleep = (ms) => new Promise((next) => setTimeout(next, ms));
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${process.env.COFFERDAM_PID}/status`, "utf8"))[1]);

/** A WebSocket (RFC 6455) whose reading can be stopped: no browser lets one do that. */
const connect = (path, cookie) =>
  new Promise((done, failed) => {
    const socket = tls.connect({ host: base.hostname, port: base.port, ca: authority, servername: base.hostname, ALPNProtocols: ["http/1.1"] });
    let buffer = Buffer.alloc(0);
    let open = false;
    const state = { said: [], text: "", bytes: 0, closed: false };
    const frame = (opcode, payload) => {
      const mask = randomBytes(4);
      const head = payload.length < 126 ? [0x80 | opcode, 0x80 | payload.length] : [0x80 | opcode, 0x80 | 126, payload.length >> 8, payload.length & 255];
      const masked = Buffer.from(payload.map((byte, n) => byte ^ mask[n % 4]));
      socket.write(Buffer.concat([Buffer.from(head), mask, masked]));
    };
    state.say = (what) => frame(1, Buffer.from(JSON.stringify(what)));
    state.type = (text) => frame(2, Buffer.from(text));
    state.pause = () => socket.pause();
    state.resume = () => socket.resume();
    state.end = () => socket.destroy();
    const take = () => {
      for (;;) {
        if (buffer.length < 2) return;
        const opcode = buffer[0] & 15;
        let length = buffer[1] & 127;
        let at = 2;
        if (length === 126) [length, at] = [buffer.length < 4 ? Infinity : buffer.readUInt16BE(2), 4];
        else if (length === 127) [length, at] = [buffer.length < 10 ? Infinity : Number(buffer.readBigUInt64BE(2)), 10];
        if (buffer.length < at + length) return;
        const payload = buffer.subarray(at, at + length);
        buffer = buffer.subarray(at + length);
        if (opcode === 1) state.said.push(JSON.parse(payload.toString()));
        if (opcode === 2) {
          state.bytes += payload.length;
          state.text = (state.text + payload.toString("latin1")).slice(-4096);
        }
        if (opcode === 8) state.closed = true;
      }
    };
    socket.on("secureConnect", () =>
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: ${base.host}\r\nOrigin: ${base.origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
          `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-Fetch-Site: same-origin\r\nCookie: ${cookie}\r\n\r\n`,
      ),
    );
    socket.on("data", (part) => {
      buffer = Buffer.concat([buffer, part]);
      if (!open) {
        const end = buffer.indexOf("\r\n\r\n");
        if (end < 0) return;
        const head = buffer.subarray(0, end).toString();
        if (!head.startsWith("HTTP/1.1 101")) return failed(new Error(head));
        buffer = buffer.subarray(end + 4);
        open = true;
        done(state);
      }
      take();
    });
    socket.on("close", () => (state.closed = true));
    socket.on("error", failed);
  });

await story(async (browser) => {
  // Without JavaScript the page shows its ticket and does not use it up.
  const vera = await seat(browser, "vera", { javaScriptEnabled: false });
  await vera.page.goto("/");
  await vera.page.locator("a[href^='/terminal/pump-hmi/']").first().click();
  await vera.page.getByLabel("Code from your authenticator").fill(code("vera"));
  await vera.page.getByRole("button", { name: "Open the terminal" }).click();
  const ticket = await vera.page.locator("[data-ticket]").getAttribute("data-ticket");
  const cookies = await vera.context.cookies();
  const terminal = await connect("/terminal/socket", cookies.map((c) => `${c.name}=${c.value}`).join("; "));
  terminal.say({ ticket, columns: 80, rows: 24 });
  await until("the terminal", 30_000, () => terminal.said.some((s) => s.open));
  await until("a prompt", 60_000, () => /[$#] /.test(terminal.text));

  // It reads, but its screen shows nothing: only so much is sent ahead.
  terminal.say({ ack: terminal.bytes });
  const shown = terminal.bytes;
  terminal.type("yes no-end\r");
  await until("that it stands still", 30_000, async () => {
    const before = terminal.bytes;
    await sleep(700);
    return terminal.bytes > shown && terminal.bytes === before;
  });
  const ahead = terminal.bytes - shown;
  assert(ahead <= AHEAD, `${ahead} bytes ahead of a screen that shows nothing`);

  // It says that all was shown, and does not read a byte of what follows.
  const resting = memory();
  terminal.pause();
  terminal.say({ ack: 1 << 30 });
  let most = 0;
  for (let n = 0; n < 20; n += 1) {
    await sleep(250);
    most = Math.max(most, memory());
  }
  assert(most - resting < SLACK_KIB, `memory grew from ${resting} to ${most} KiB while nothing was read`);
  const before = terminal.bytes;
  terminal.resume();
  await until("that it goes on", 10_000, () => terminal.bytes > before + 2 * AHEAD || (terminal.say({ ack: 1 << 20 }), false));

  terminal.type("\x03");
  // What was under way before the key is shown first.
  await until("the end of it", 30_000, () => (terminal.say({ ack: 1 << 20 }), /\^C[^]*[$#] $/.test(terminal.text)));
  terminal.type("echo still-$((6*7))\r");
  await until("the next command", 10_000, () => terminal.text.includes("still-42"));
  assert(!terminal.closed);
  console.log(`${ahead} bytes ahead, memory ${resting} to ${most} KiB`);
  terminal.end();
  vera.quiet();
});
