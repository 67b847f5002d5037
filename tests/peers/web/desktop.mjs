// Vera opens the demo's desktop in her browser, works on it, has it suspended and ended, and reads both.
// COFFERDAM_SESSIONS, COFFERDAM_MESSAGE, COFFERDAM_SUSPEND, COFFERDAM_KILL: command lines, JSON; all but the first take a session's id.
import assert from "node:assert/strict";
import { barriers, command, picture, seat, story, until } from "./lib.mjs";
import { CLICKED, FIRST_KEY, MARKS, PANEL, atTheDesktop, click, colour, openChoice, openHere, reason, sessions, shownToClients } from "./desk.mjs";

await story(async (browser) => {
  const vera = await seat(browser, "vera");
  const { page } = vera;
  const response = await openChoice(page);
  const policy = response.headers()["content-security-policy"];
  assert(policy.includes("script-src 'self' 'wasm-unsafe-eval';"), policy);
  assert(policy.includes("connect-src 'self';") && !/unsafe-inline|'unsafe-eval'|blob:/.test(policy), policy);
  const elsewhere = await page.request.get("/account");
  assert(!elsewhere.headers()["content-security-policy"].includes("wasm"), "only on the page of a desktop");

  assert((await page.content()).includes(`<code>${await shownToClients()}</code>`), "the fingerprint of what clients are shown");

  const token = await page.locator("[data-token]").innerText();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("websocket", (socket) => asked.push(socket.url()));
  const keyboard = page.getByLabel("My keyboard");
  assert.equal(await keyboard.inputValue(), "1033", "the one of the browser's language");
  await keyboard.selectOption({ label: "German" });
  await openHere(page);
  const took = await atTheDesktop(page);
  assert(!(await page.content()).includes(token), "the token is still in the page");
  assert(asked.some((url) => url.endsWith("/desktop/socket?keyboard=1031")) && !asked.some((url) => url.includes(token)), String(asked));
  assert.equal(await page.locator("[data-state]").innerText(), "recorded");

  await until("the picture", 10_000, async () => (await colour(page, FIRST_KEY)) === PANEL);
  const marked = (n, key) =>
    until(`the mark of ${key}`, 5_000, async () => (await colour(page, [FIRST_KEY[0] + 16 * n, FIRST_KEY[1]])) === MARKS[key]);
  await page.keyboard.press("k");
  await marked(0, "k");
  await page.getByRole("button", { name: "Windows key" }).click();
  await marked(1, "Windows");
  // The button has given the keyboard back to the screen.
  await page.keyboard.press("Delete");
  await marked(2, "Delete");
  await page.getByRole("button", { name: "Ctrl+Alt+Del" }).click();
  await marked(3, "Control");
  await marked(4, "Alt");
  await marked(5, "Delete");
  await click(page, [500, 300]);
  await until("the click's mark", 5_000, async () => (await colour(page, [503, 303])) === CLICKED);
  await page.getByRole("button", { name: "Actual size" }).click();
  await click(page, [300, 200]);
  await until("a click's mark in actual size", 5_000, async () => (await colour(page, [303, 203])) === CLICKED);
  await page.getByRole("button", { name: "Actual size" }).click();
  assert.deepEqual(await barriers(page), []);
  await picture(page, "desktop");
  await page.setViewportSize({ width: 390, height: 844 });
  const spare = await page.evaluate(() => document.documentElement.clientWidth - document.documentElement.scrollWidth);
  assert(spare >= 0, `on a phone, the page is ${-spare} pixels wider than the window`);

  const [session] = await sessions();
  assert.equal(session.protocol, "rdp");
  const told = await command("COFFERDAM_MESSAGE", session.id, "stop the pump first");
  assert.equal(told.code, 0, told.err);
  await page.locator("#says").getByText("stop the pump first").waitFor({ timeout: 5_000 });
  await picture(page, "desktop-told");
  await page.setViewportSize({ width: 390, height: 844 });
  await command("COFFERDAM_SUSPEND", session.id);
  await page.getByText("The desktop stands still.").waitFor({ timeout: 5_000 });
  assert.match(await page.locator("#frozen").innerText(), /suspended by .+ what you type meanwhile is not sent/);

  const killed = await command("COFFERDAM_KILL", session.id);
  assert.equal(killed.code, 0, killed.err);
  const begin = performance.now();
  const why = await reason(page);
  const cut = performance.now() - begin;
  assert.match(why, /killed by .+: end-to-end test/);
  await picture(page, "desktop-over");
  console.log(`on the canvas after ${took | 0} ms, cut shown after ${cut | 0} ms`);
  assert(cut <= 1300, `shown ${cut} ms after the order`);

  // Looked at last: a token does not wait.
  await openChoice(page);
  assert.deepEqual(await barriers(page), []);
  await picture(page, "desktop-choice");
  vera.quiet();
});
