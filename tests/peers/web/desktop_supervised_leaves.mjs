// A desktop that is slow to answer: olga comes, leaves while it is dialled, and comes back, when it begins.
import { seat, story, until } from "./lib.mjs";
import { BLUE, MIDDLE, waiting, watched } from "./desk.mjs";

await story(async (browser) => {
  const olga = await seat(browser, "olga");
  const { page } = olga;
  const session = await waiting(page);
  const pause = (milliseconds) => new Promise((next) => setTimeout(next, milliseconds));
  for (let times = 0; times < 2; times += 1) {
    await page.goto(session);
    await pause(1_500);
    await page.goto("/account");
    await pause(1_000);
  }
  await page.goto(session);
  await until("the desktop on her screen", 20_000, async () => (await watched(page, MIDDLE)) === BLUE);
  olga.quiet();
});
