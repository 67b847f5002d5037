// Ada has the sessions on pump-hmi watched. Vera's `ssh` then waits for olga, goes on while she watches in her browser, stands
// still when she leaves, and goes on when she is back. COFFERDAM_SSH: the command line of an interactive `ssh` as vera, JSON.
import assert from "node:assert/strict";
import { code, picture, prompted, seat, shell, story, until } from "./lib.mjs";

const sleep = (ms) => new Promise((next) => setTimeout(next, ms));
/** What a command prints, and its own text does not hold. */
const counted = (n) => ({ typed: `echo seen-$((${n}*7))\n`, printed: `seen-${n * 7}` });

await story(async (browser) => {
  const [ada, olga] = [await seat(browser, "ada"), await seat(browser, "olga")];
  await ada.page.goto("/assets/pump-hmi");
  await ada.page.getByRole("link", { name: "Have sessions watched" }).click();
  await picture(ada.page, "supervise-plan");
  await ada.page.getByLabel("Code from your authenticator").fill(code("ada"));
  await ada.page.getByRole("button", { name: "Apply" }).click();
  await ada.page.waitForURL(/\/assets\/pump-hmi$/);
  await ada.page.getByText("Let sessions go on unwatched").waitFor();
  await picture(ada.page, "asset-supervised");

  const live = shell();
  await olga.page.goto("/live");
  await until("the waiting session in olga's list", 60_000, () => olga.page.getByText("waits for a watcher").count());
  assert(!live.ended, live.err);
  await picture(olga.page, "live-waits");
  await sleep(1_000);
  assert(!prompted(live), `nobody watches, and there is a prompt: ${live.out}`);

  const session = await olga.page.locator("main a[href^='/live/']").first().getAttribute("href");
  await olga.page.goto(session);
  const { after: began } = await until("a prompt while olga watches", 30_000, () => prompted(live));
  const first = counted(6);
  live.child.stdin.write(first.typed);
  await until("a command while olga watches", 10_000, () => live.out.includes(first.printed));
  await until("the same on olga's screen", 10_000, async () =>
    (await olga.page.locator(".term-body").innerText()).includes(first.printed),
  );

  const told = () => live.err.split("this asset is supervised").length;
  const before = told();
  await olga.page.goto("/account");
  const { after: stopped } = await until("that it stands still", 5_000, () => told() > before);
  const second = counted(8);
  live.child.stdin.write(second.typed);
  await sleep(1_500);
  assert(!live.out.includes(second.printed), `nobody watches, and it goes on: ${live.out}`);
  assert(!live.ended, "it waits and does not end");

  await olga.page.goto(session);
  await until("that it goes on", 10_000, () => live.err.includes("resumed by olga"));
  const third = counted(9);
  live.child.stdin.write(`\n${third.typed}`);
  await until("a command while olga watches again", 10_000, () => live.out.includes(third.printed));
  live.child.stdin.write("exit\n");
  await until("the end", 20_000, () => live.ended);
  console.log(`a prompt ${began | 0} ms after olga looked, still ${stopped | 0} ms after she left`);
  for (const place of [ada, olga]) place.quiet();
});
