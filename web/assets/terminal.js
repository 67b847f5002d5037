// The terminal's page: xterm.js on one side, a WebSocket on the other. Neither side is sent more than it can take: what the
// screen has shown is acknowledged, and what the server has not taken is kept here.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const place = document.querySelector("[data-terminal]");
  if (!place) return;
  const MOST = 64 * 1024;
  const PIECE = 16 * 1024;
  const ACK = 16 * 1024;

  // A ticket works once; a page from the browser's memory must not try it again.
  const ticket = place.dataset.ticket;
  delete place.dataset.ticket;

  const { terminal, socket, state, say, end } = openScreen(place, place.dataset.terminal, {
    cursorBlink: true,
    fontSize: 14,
    scrollback: 5000,
    screenReaderMode: matchMedia("(forced-colors: active)").matches,
    onEnd: () => {
      terminal.options.cursorBlink = false;
      terminal.options.disableStdin = true;
      document.querySelector("[data-end]").disabled = true;
    },
  });
  socket.binaryType = "arraybuffer";
  const fit = new FitAddon.FitAddon();
  terminal.loadAddon(fit);
  fit.fit();
  terminal.focus();

  const encoder = new TextEncoder();
  const kept = [];
  let underWay = 0;
  const push = (bytes) => {
    for (let at = 0; at < bytes.length; at += PIECE) kept.push(bytes.subarray(at, at + PIECE));
    flow();
  };
  const flow = () => {
    while (kept.length > 0 && underWay + kept[0].length <= MOST && socket.readyState === WebSocket.OPEN) {
      const piece = kept.shift();
      underWay += piece.length;
      socket.send(piece);
    }
  };

  let shown = 0;
  const show = (bytes) =>
    terminal.write(bytes, () => {
      shown += bytes.length;
      if (shown >= ACK || bytes.length < ACK) {
        say({ ack: shown });
        shown = 0;
      }
    });

  socket.addEventListener("open", () => say({ ticket, columns: terminal.cols, rows: terminal.rows }));
  socket.addEventListener("message", (event) => {
    if (event.data instanceof ArrayBuffer) return show(new Uint8Array(event.data));
    const message = JSON.parse(event.data);
    if (message.open) state.textContent = "recorded";
    if (message.took) {
      underWay -= message.took;
      flow();
    }
    if (message.ended !== undefined) end(message.ended);
  });

  terminal.onData((text) => push(encoder.encode(text)));
  terminal.onBinary((text) => push(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => say({ size: [cols, rows] }));
  new ResizeObserver(() => fit.fit()).observe(place);

  terminal.attachCustomKeyEventHandler((event) => {
    if (event.ctrlKey && event.shiftKey && event.key === "End") {
      document.getElementById("after").focus();
      return false;
    }
    return true;
  });
  document.querySelector("[data-end]").addEventListener("click", () => {
    end("You ended the session.");
    socket.close();
  });
});
