// A desktop that waits for a watcher: olga comes, it begins; she leaves, it stands still and says so; she comes back, it goes on.
// COFFERDAM_PRESS presses a key at the person's client, COFFERDAM_WORDS tells the colour where it shows the gateway's words.
import assert from "node:assert/strict";
import { command, picture, seat, story, until } from "./lib.mjs";
import { FIRST_KEY, PANEL, TANK, WATER, waiting, watched } from "./desk.mjs";

const press = async () => assert.equal((await command("COFFERDAM_PRESS")).code, 0);
const words = async () => (await command("COFFERDAM_WORDS")).out.trim() === "1b 26 31";

await story(async (browser) => {
  const olga = await seat(browser, "olga");
  const { page } = olga;
  const session = await waiting(page);
  const seen = (place) => watched(page, place);
  const mark = (n) => [FIRST_KEY[0] + 16 * n, FIRST_KEY[1]];
  const begins = () => until("the desktop on her screen", 20_000, async () => (await seen(TANK)) === WATER);

  await page.goto(session);
  await begins();
  assert.equal(await seen(mark(0)), PANEL);
  await press();
  await until("a key's mark", 5_000, async () => (await seen(mark(0))) !== PANEL);
  await picture(page, "desktop-supervised");

  await page.goto("/account");
  await until("the person is told that it stands still", 5_000, words);
  await press();
  await new Promise((next) => setTimeout(next, 1_000));

  await page.goto(session);
  await begins();
  assert.notEqual(await seen(mark(0)), PANEL);
  assert.equal(await seen(mark(1)), PANEL, "a key passed that nobody watched");
  await until("a key's mark once she watches", 10_000, async () => {
    await press();
    return (await seen(mark(1))) !== PANEL;
  });
  olga.quiet();
});
