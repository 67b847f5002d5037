// What scripts about desktops in the browser share.
import assert from "node:assert/strict";
import net from "node:net";
import tls from "node:tls";
import { authority, code, command, demo, seat, until } from "./lib.mjs";

/** Places and colours of the demo's desktop: water in its tank, and where the first key leaves its mark. */
export const TANK = [200, 510];
export const FIRST_KEY = [48, 670];
export const WATER = "2080D0";
export const PANEL = "E8ECEF";
/** Its marks: of keys by their scan codes, and of a click. */
export const MARKS = { k: "113D3F", Windows: "1D5B51", Delete: "7A5339", Backspace: "5D331A", Control: "7E5537", Alt: "745C38" };
export const CLICKED = "D04020";

/** A place on the desktops of real targets, and its colour. */
export const MIDDLE = [700, 500];
export const BLUE = "335577";

/** Takes vera to the page with the token, by a fresh code; answers what the gateway sent. */
export const openChoice = async (page) => {
  await page.goto("/");
  await page.locator("a[href^='/desktop/eng-ws/']").first().click();
  await page.getByLabel("Code from your authenticator").fill(code("vera"));
  const posted = page.waitForResponse((r) => r.request().method() === "POST" && r.url().includes("/desktop/"));
  await page.getByRole("button", { name: "Open the desktop" }).click();
  const response = await posted;
  await page.locator("[data-token]").waitFor();
  return response;
};

/** The SHA-256 fingerprint of the certificate that clients are shown: behind a request for TLS and NLA, and its answer. */
export const shownToClients = () =>
  new Promise((done, failed) => {
    const [host, port] = demo.rdp.split(":");
    const plain = net.connect({ host, port }, () => plain.write(Buffer.from("030000130ee000000000000100080003000000", "hex")));
    plain.on("error", failed);
    plain.once("data", () => {
      const socket = tls.connect({ socket: plain, ca: authority, servername: "localhost" }, () => {
        done(socket.getPeerCertificate().fingerprint256.toLowerCase());
        socket.destroy();
      });
      socket.on("error", failed);
    });
  });

export const openHere = (page) => page.getByRole("button", { name: "Open in the browser" }).click();

/** The colour of one pixel of a canvas, `RRGGBB`. */
const pixel = (canvas, place) =>
  canvas.evaluate((canvas, [x, y]) => {
    const pixel = canvas.getContext("2d").getImageData(x, y, 1, 1).data;
    return [...pixel.slice(0, 3)].map((b) => b.toString(16).padStart(2, "0").toUpperCase()).join("");
  }, place);

/** The same of the desktop. */
export const colour = (page, place) => pixel(page.locator("[data-body] canvas"), place);

/** The same of what a watcher sees. */
export const watched = (page, place) => pixel(page.locator("[data-watch] canvas").first(), place);

/** Clicks there on the picture, at whatever size it is shown. */
export const click = async (page, [x, y]) => {
  const canvas = page.locator("[data-body] canvas");
  const { width, height } = await canvas.boundingBox();
  await canvas.click({ position: { x: ((x + 0.5) * width) / 1024, y: ((y + 0.5) * height) / 768 } });
};

/** Whether two colours are the same as far as 16 bits tell: more the browser's client does not ask of real targets. */
export const alike = (one, other) =>
  [0, 2, 4].every((at) => Math.abs(parseInt(one.slice(at, at + 2), 16) - parseInt(other.slice(at, at + 2), 16)) < 8);

/** Waits until a desktop shows that colour there; answers how long it took. */
export const atADesktop = async (page, place, wanted) => {
  let seen;
  const shown = until("the desktop on the canvas", 30_000, async () => {
    const over = page.locator("#over");
    assert(!(await over.isVisible()), await over.innerText());
    seen = await colour(page, place);
    return alike(seen, wanted);
  });
  const { after } = await shown.catch((error) => assert.fail(`${error.message}; there it shows ${seen}`));
  return after;
};

/** The same for the demo's desktop. */
export const atTheDesktop = (page) => atADesktop(page, TANK, WATER);

/** The sentence with which the desktop ended, once it is shown. */
export const reason = async (page) => {
  await page.locator("#over").waitFor({ timeout: 20_000 });
  return page.locator("#over [data-why]").innerText();
};

/** All sessions that there were, newest first. COFFERDAM_SESSIONS lists them. */
export const sessions = async () => {
  const { code: failed, out, err } = await command("COFFERDAM_SESSIONS");
  assert(!failed, err);
  return JSON.parse(out);
};

/** Vera at a real desktop, in a browser that lets pages use its clipboard. All that her browser hears of it is kept. */
export const atARealDesktop = async (browser) => {
  const vera = await seat(browser, "vera", { permissions: ["clipboard-read", "clipboard-write"] });
  vera.heard = [];
  vera.page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => vera.heard.push(Buffer.from(payload))));
  await openChoice(vera.page);
  await openHere(vera.page);
  await atADesktop(vera.page, MIDDLE, BLUE);
  return vera;
};

/** The target's secret (COFFERDAM_TARGET_SECRET) never came to her browser, where a text that did is found in the same way. */
export const neverHeardTheSecret = ({ heard }, text) => {
  const secret = process.env.COFFERDAM_TARGET_SECRET ?? assert.fail("COFFERDAM_TARGET_SECRET is not set");
  const all = Buffer.concat(heard);
  assert(all.includes(Buffer.from(text, "utf16le")), `${all.length} bytes were heard, and not ${text}`);
  for (const form of ["utf8", "utf16le"]) {
    const said = Buffer.from(secret, form);
    for (const code of [said, said.toString("base64").slice(0, -4), said.toString("hex")]) assert(!all.includes(code), form);
  }
};

/** What the target's side says to a command of the environment. */
export const target = async (name, ...more) => (await command(name, ...more)).out.trim();

/** Where olga, who is at `page`, watches the session that waits for a watcher. */
export const waiting = async (page) => {
  await page.goto("/live");
  await until("the waiting session in her list", 20_000, () => page.getByText("waits for a watcher").count());
  return page.locator("main a[href^='/live/']").first().getAttribute("href");
};
