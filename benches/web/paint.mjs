// When the approval queue is painted in a browser that has never been here: milliseconds from the request on, one number a round.
import assert from "node:assert/strict";
import { base, sit, start } from "../../tests/peers/web/lib.mjs";

const ROUNDS = 20;
const browser = await start();
const took = [];
for (let n = 0; n < ROUNDS; n += 1) {
  const { context, page } = await sit(browser);
  const cookie = { name: "__Host-cofferdam", value: process.env.COFFERDAM_COOKIE, url: base.href, secure: true, httpOnly: true };
  await context.addCookies([cookie]);
  await page.goto("/approvals");
  const paint = await page.evaluate(
    () =>
      new Promise((done) => {
        const observer = new PerformanceObserver((list) => {
          const first = list.getEntries().find((entry) => entry.name === "first-contentful-paint");
          if (first) done(first.startTime);
        });
        observer.observe({ type: "paint", buffered: true });
      }),
  );
  assert((await page.locator("table tbody tr").count()) > 0, "the queue is there");
  took.push(paint);
  await context.close();
}
await browser.close();
console.log(JSON.stringify(took));
