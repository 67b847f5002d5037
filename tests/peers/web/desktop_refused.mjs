// Who gets no desktop in the browser: without a log-in, from another site's page, with another person's token, with a token that
// was used; and who logs out loses theirs. COFFERDAM_SESSIONS: a command line, JSON.
import assert from "node:assert/strict";
import { ask, base, logIn, seat, story, until } from "./lib.mjs";
import { atTheDesktop, openChoice, openHere, reason, sessions } from "./desk.mjs";

const NO_TOKEN = /No token that is open fits/;

/** The head of a WebSocket's request. */
const upgrade = (more) =>
  ask("GET", "/desktop/socket", {
    headers: {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      ...more,
    },
  });
const asHeader = (cookies) => cookies.map((c) => `${c.name}=${c.value}`).join("; ");

await story(async (browser) => {
  const [vera, emil] = [await seat(browser, "vera"), await seat(browser, "emil")];
  const own = await vera.context.cookies();
  const refused = async (what, headers) => {
    const { status } = await upgrade(headers);
    assert(status !== 101 && status >= 300, `${what}: ${status}`);
  };
  await refused("without a log-in", { origin: base.origin, "sec-fetch-site": "same-origin" });
  await refused("without an origin", { cookie: asHeader(own) });
  await refused("from another site", { cookie: asHeader(own), origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" });

  // Her token on a page that emil's log-in carries.
  await openChoice(vera.page);
  await vera.context.clearCookies();
  await vera.context.addCookies(await emil.context.cookies());
  await openHere(vera.page);
  assert.match(await reason(vera.page), NO_TOKEN);
  assert.deepEqual(await sessions(), []);

  await vera.context.clearCookies();
  await vera.context.addCookies(own);
  await openChoice(vera.page);
  const token = await vera.page.locator("[data-token]").innerText();
  await openHere(vera.page);
  await atTheDesktop(vera.page);
  const other = await vera.context.newPage();
  await other.goto("/account");
  await other.evaluate(() => document.querySelector("form[action='/logout']").requestSubmit());
  assert.match(await reason(vera.page), /Your log-in is over/);
  await until("the session's end", 5_000, async () => (await sessions()).every((s) => String(s.state).startsWith("ended")));

  await logIn(vera.page, "vera");
  await openChoice(vera.page);
  await vera.page.evaluate((used) => (document.querySelector("[data-token]").textContent = used), token);
  await openHere(vera.page);
  assert.match(await reason(vera.page), NO_TOKEN);
  assert.equal((await sessions()).length, 1, "a used token opened another session");
  vera.quiet();
});
