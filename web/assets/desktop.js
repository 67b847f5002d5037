// A desktop in the browser: an RDP client in WebAssembly draws on a canvas, keys and pointer go to it, and the gateway's own
// words (why it stands still, why it ended) come beside RDP on the same WebSocket. The token is read once and is gone from the page.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const place = document.querySelector("[data-desktop]");
  if (!place) return;
  /** Bytes of RDP that are acknowledged together. */
  const ACK = 128 * 1024;
  /** Bytes of one message: the gateway takes twice as many. */
  const PIECE = 32 * 1024;
  /** How long the gateway may take to say why, milliseconds. */
  const LAST_WORDS = 2500;
  /** How long a message stays, milliseconds. */
  const SAYS = 15000;
  /** The smallest desktop that is asked for: programs of machines expect at least so much. */
  const SMALLEST = { width: 1024, height: 768 };
  /** The longest side, and the most pixels, that the gateway lets anybody ask for. */
  const LONGEST = 8192;
  const MOST_PIXELS = 2 * 3840 * 2160;
  /** How often a size is asked for that the machine does not take, and how long it has for it, milliseconds. */
  const ASKS = 3;
  const ANSWER = 4000;

  // Places of keys (`KeyboardEvent.code`) by their scan codes (set 1), in rows of codes that follow each other.
  const ROWS = [
    [0x01, "Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace"],
    [0x0f, "Tab KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter"],
    [0x1d, "ControlLeft KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote"],
    [0x2a, "ShiftLeft Backslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight"],
    [0x37, "NumpadMultiply AltLeft Space CapsLock F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock"],
    [0x47, "Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal"],
    [0x56, "IntlBackslash F11 F12 NumpadEqual"],
    [0x64, "F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23"],
    [0x70, "KanaMode Lang2 Lang1 IntlRo"],
    [0x79, "Convert"],
    [0x7b, "NonConvert"],
    [0x7d, "IntlYen NumpadComma"],
    [0xe01c, "NumpadEnter ControlRight"],
    [0xe035, "NumpadDivide"],
    [0xe037, "PrintScreen AltRight"],
    [0xe046, "Pause Home ArrowUp PageUp"],
    [0xe04b, "ArrowLeft"],
    [0xe04d, "ArrowRight"],
    [0xe04f, "End ArrowDown PageDown Insert Delete"],
    [0xe05b, "MetaLeft MetaRight ContextMenu"],
  ];
  const scanCodes = new Map(ROWS.flatMap(([first, row]) => row.split(" ").map((key, n) => [key, first + n])));
  const isLock = (code) => ["CapsLock", "NumLock", "ScrollLock", "KanaMode"].includes(code);
  const isModifier = (code) => /^(Control|Shift|Alt|Meta)/.test(code);

  const canvas = place.querySelector("canvas");
  const body = place.querySelector("[data-body]");
  const frozen = document.getElementById("frozen");
  const says = document.getElementById("says");
  let saysFor;
  const button = (name) => place.querySelector(`[data-${name}]`);
  const { state, end, gone } = openEnd(() => {
    frozen.hidden = true;
    says.hidden = true;
    for (const one of place.querySelectorAll("button, input")) one.disabled = true;
    if (document.fullscreenElement) document.exitFullscreen();
    document.getElementById("over").focus();
  });

  let rdp;
  let session;
  let socket;

  /** What the RDP client takes for a WebSocket: the gateway's own words are taken out, and its end is waited for. */
  const Carrier = class extends WebSocket {
    #taken = 0;

    constructor(...address) {
      super(...address);
      socket = this;
      this.addEventListener("message", (event) => {
        if (typeof event.data === "string") {
          event.stopImmediatePropagation();
          return hear(JSON.parse(event.data));
        }
        this.#taken += event.data.byteLength;
        if (this.#taken >= ACK) {
          this.send(JSON.stringify({ ack: this.#taken }));
          this.#taken = 0;
        }
      });
      // The client drops its socket with an event of its own making.
      this.addEventListener("close", (event) => event.isTrusted && gone());
    }

    send(bytes) {
      if (this.readyState === WebSocket.OPEN) super.send(bytes);
    }

    close() {
      setTimeout(() => this.hangUp(), LAST_WORDS);
    }

    hangUp() {
      super.close();
    }
  };

  const hear = (message) => {
    if (message.frozen !== undefined) {
      frozen.hidden = message.frozen === "";
      frozen.querySelector("[data-why]").textContent = message.frozen;
      state.textContent = message.frozen ? "stands still" : "recorded";
      compare();
    }
    if (message.says !== undefined) {
      says.textContent = message.says;
      says.hidden = false;
      clearTimeout(saysFor);
      saysFor = setTimeout(() => { says.hidden = true; }, SAYS);
    }
    if (message.ended !== undefined) end(message.ended);
  };

  // Input.

  const send = (...events) => {
    if (!session) return;
    const transaction = new rdp.InputTransaction();
    for (const event of events) transaction.addEvent(event);
    session.applyInputs(transaction);
  };
  const stroke = (...codes) =>
    send(
      ...codes.map((code) => rdp.DeviceEvent.keyPressed(code)),
      ...codes.toReversed().map((code) => rdp.DeviceEvent.keyReleased(code)),
    );
  const type = (text) => {
    for (const character of text) {
      if (character === "\n") stroke(scanCodes.get("Enter"));
      else send(rdp.DeviceEvent.unicodePressed(character), rdp.DeviceEvent.unicodeReleased(character));
    }
  };
  const locks = (event) =>
    session?.synchronizeLockKeys(...["ScrollLock", "NumLock", "CapsLock", "KanaMode"].map((lock) => event.getModifierState(lock)));

  let characters = false;
  const onKey = (event) => {
    if (event.ctrlKey && event.shiftKey && event.code === "End") {
      event.preventDefault();
      if (event.type === "keydown") document.getElementById("after").focus();
      return;
    }
    event.preventDefault();
    if (!session || (event.repeat && (isModifier(event.code) || isLock(event.code)))) return;
    if (isLock(event.code)) return locks(event);
    const down = event.type === "keydown";
    const shortcut = (event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState("AltGraph");
    if (characters && !shortcut && [...event.key].length === 1) {
      return send(down ? rdp.DeviceEvent.unicodePressed(event.key) : rdp.DeviceEvent.unicodeReleased(event.key));
    }
    const code = scanCodes.get(event.code);
    if (code) send(down ? rdp.DeviceEvent.keyPressed(code) : rdp.DeviceEvent.keyReleased(code));
  };
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("keyup", onKey);
  canvas.addEventListener("blur", () => session?.releaseAllInputs());

  /** The picture keeps its proportions in whatever room the canvas has. */
  const spot = (event) => {
    const room = canvas.getBoundingClientRect();
    const scale = Math.min(room.width / canvas.width, room.height / canvas.height);
    const on = (at, start, size, whole) =>
      Math.min(whole - 1, Math.max(0, Math.round((at - start - (size - whole * scale) / 2) / scale)));
    return rdp.DeviceEvent.mouseMove(
      on(event.clientX, room.left, room.width, canvas.width),
      on(event.clientY, room.top, room.height, canvas.height),
    );
  };
  canvas.addEventListener("pointermove", (event) => session && send(spot(event)));
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    if (!session) return;
    canvas.setPointerCapture(event.pointerId);
    locks(event);
    send(spot(event), rdp.DeviceEvent.mouseButtonPressed(event.button));
  });
  for (const up of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(up, (event) => {
      if (session) send(spot(event), rdp.DeviceEvent.mouseButtonReleased(Math.max(0, event.button)));
    });
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const upright = event.deltaY !== 0;
      if (session) send(rdp.DeviceEvent.wheelRotations(upright, -(upright ? event.deltaY : event.deltaX), event.deltaMode));
    },
    { passive: false },
  );

  // What the bar does.

  const press = (name, act) => button(name)?.addEventListener("click", () => (act(), canvas.focus({ preventScroll: true })));
  const toggle = (name, act) =>
    press(name, () => {
      const on = button(name).getAttribute("aria-pressed") !== "true";
      button(name).setAttribute("aria-pressed", on);
      act(on);
    });
  press("ctrl-alt-del", () => stroke(scanCodes.get("ControlLeft"), scanCodes.get("AltLeft"), scanCodes.get("Delete")));
  press("meta", () => stroke(scanCodes.get("MetaLeft")));
  toggle("actual", (on) => body.classList.toggle("actual", on));
  toggle("characters", (on) => (characters = on));
  press("full", async () => {
    if (document.fullscreenElement) return document.exitFullscreen();
    await place.requestFullscreen();
    // Where the browser can, keys that are its own or the system's go to the desktop, too.
    navigator.keyboard?.lock?.().catch(() => {});
  });
  button("end").addEventListener("click", () => {
    end("You ended the session.");
    session?.shutdown();
    socket?.hangUp();
  });

  // Phones bring up their keyboard for a field only; it has no keys, but text.
  const field = button("type");
  field.addEventListener("input", () => {
    if (session) type(field.value);
    field.value = "";
  });
  field.addEventListener("keydown", (event) => {
    if (!["Enter", "Backspace"].includes(event.key) || !session) return;
    event.preventDefault();
    stroke(scanCodes.get(event.key));
  });

  // The clipboard, by a click for each text, and only where the asset allows it: else the client does not know of one.

  const clipboard = (builder) => {
    if (!button("paste-in") && !button("copy-out")) return;
    let copied = "";
    builder.remoteClipboardChangedCallback((data) => {
      copied = data.items().find((item) => item.mimeType().startsWith("text/"))?.value() ?? "";
      if (button("copy-out")) button("copy-out").disabled = copied === "";
    });
    builder.forceClipboardUpdateCallback(() => session?.onClipboardPaste(new rdp.ClipboardData()));
    press("copy-out", () => navigator.clipboard.writeText(copied));
    press("paste-in", async () => {
      const data = new rdp.ClipboardData();
      data.addText("text/plain", await navigator.clipboard.readText());
      await session?.onClipboardPaste(data);
    });
  };

  const size = () => {
    const side = (pixels, least) => Math.min(LONGEST, Math.max(least, Math.floor(pixels / 4) * 4));
    const width = side(body.clientWidth, SMALLEST.width);
    const room = document.fullscreenElement ? body.clientHeight : innerHeight * 0.8;
    const height = side(Math.min(room, MOST_PIXELS / width), SMALLEST.height);
    return { width, height };
  };
  const fill = () => {
    const { width, height } = session.desktopSize();
    [canvas.width, canvas.height] = [width, height];
  };
  // What is asked for before the machine listens, or while the session stands still, is lost: it is asked for again.
  let compare = () => {};
  const follow = () => {
    let later;
    let asked = "";
    let times = 0;
    const ask = () => {
      const { width, height } = size();
      if (!session || (width === canvas.width && height === canvas.height)) return;
      if (asked !== `${width} ${height}`) [asked, times] = [`${width} ${height}`, 0];
      if (times >= ASKS) return;
      times += 1;
      session.resize(width, height);
      later = setTimeout(ask, ANSWER);
    };
    compare = () => {
      clearTimeout(later);
      later = setTimeout(ask, 300);
    };
    new ResizeObserver(compare).observe(body);
    for (const [who, what] of [[window, "resize"], [document, "fullscreenchange"]]) who.addEventListener(what, compare);
  };

  const cursor = (kind, image, x, y) => {
    canvas.style.cursor =
      kind === "url" ? `url(${image}) ${Math.round(x)} ${Math.round(y)}, default` : kind === "hidden" ? "none" : "default";
  };

  const open = async (token) => {
    const client = await import(place.dataset.client);
    await client.init("off");
    rdp = client.Backend;
    const { width, height } = size();
    globalThis.WebSocket = Carrier;
    const address = new URL(socketAddress(place.dataset.desktop));
    if (keyboard.value) address.searchParams.set("keyboard", keyboard.value);
    const builder = new rdp.SessionBuilder()
      .proxyAddress(String(address))
      .destination(`${place.dataset.asset}:3389`)
      // The gateway knows who asks by the log-in; this is said only because the message has a place for it.
      .authToken("browser")
      .serverDomain("")
      .username(place.dataset.user)
      .password(token)
      .desktopSize(new rdp.DesktopSize(width, height))
      .renderCanvas(canvas)
      .setCursorStyleCallbackContext(null)
      .setCursorStyleCallback(cursor)
      .canvasResizedCallback(() => session && fill())
      .extension(client.outboundMessageSizeLimit(PIECE))
      .extension(client.displayControl(place.dataset.resize === "true"));
    clipboard(builder);
    session = await builder.connect();
    fill();
    state.textContent = "recorded";
    if (place.dataset.resize === "true") follow();
    canvas.focus({ preventScroll: true });
    await session.run();
  };

  const choice = document.querySelector("[data-choice]");
  const keyboard = choice.querySelector("[data-keyboard]");
  {
    // The one of the browser's language and region, else of its language alone.
    const spoken = navigator.language.toLowerCase();
    const options = [...keyboard.options].filter((option) => option.dataset.language);
    const of = (language) => options.find((option) => option.dataset.language.toLowerCase() === language);
    const likely = of(spoken) ?? of(spoken.split("-")[0]);
    if (likely) keyboard.value = likely.value;
  }
  choice.querySelector("[data-open]").addEventListener("click", async () => {
    const token = choice.querySelector("[data-token]").textContent.trim();
    // A token works once; neither this page nor one from the browser's memory tries it again.
    choice.remove();
    place.hidden = false;
    place.scrollIntoView();
    document.getElementById("after").hidden = false;
    try {
      await open(token);
    } catch {
      if (!socket) return end("The RDP client could not be loaded: reload the page, or use another client.");
    } finally {
      session = undefined;
    }
    setTimeout(gone, LAST_WORDS);
  });
});
