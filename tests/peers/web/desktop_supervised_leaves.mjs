// A desktop that is slow to answer: olga comes, leaves while it is dialled, and comes back, when it begins.
import { seat, story, until } from "./lib.mjs";
import { BLUE, MIDDLE, watched } from "./desk.mjs";

await story(async (browser) => {
  const olga = await seat(browser, "olga");
  const { page } = olga;
  await page.goto("/live");
  await until("the waiting session in her list", 20_000, () => page.getByText("waits for a watcher").count());
  const session = await page.locator("main a[href^='/live/']").first().getAttribute("href");
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
