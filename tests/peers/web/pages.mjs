// Every page that a person can get to by links: no barrier that axe-core calls serious or critical, no complaint in the
// console (a broken content security policy is one), not heavier than it may be, not broken on a phone or in the dark.
// COFFERDAM_PEOPLE: whose pages, separated by commas.
import assert from "node:assert/strict";
import { barriers, picture, seat, sit, story, tooHeavy, weigh } from "./lib.mjs";

const people = process.env.COFFERDAM_PEOPLE.split(",");
/** Most pages of one kind (`/windows/{id}`) that are looked at. */
const ENOUGH = 2;

/** The kind of a page: its path without ids and names of things. */
const kind = (path) =>
  path
    .split("?")[0]
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "ID")
    .replace(/\/\d+(?=\/|$)/g, "/N")
    .replace(/^\/(assets|people|zones|accounts)\/.+/, "/$1/NAME");

/** Links of the page to others of ours that show something. */
const links = async (page) => {
  const found = await page.locator("a[href]").evaluateAll((all) =>
    // A link in a picture of SVG has no plain `href`.
    all.filter((a) => !a.hasAttribute("download")).map((a) => new URL(a.getAttribute("href"), a.baseURI).href),
  );
  return found
    .map((href) => new URL(href))
    .filter((url) => url.origin === new URL(page.url()).origin)
    .filter((url) => !/^\/(assets\/[0-9a-f]{16}\/|enrol\/|api\/)|\.(rdp|cast|zip|tar|json|csv|jsonl)$|\/(download|export)/.test(url.pathname))
    .map((url) => url.pathname + url.search);
};

/** What is wrong with one page, in lines. */
const look = async (place, path, name) => {
  const { page, complaints } = place;
  const weight = await weigh(page, path);
  const problems = [];
  if (weight.response.status() >= 400) problems.push(`status ${weight.response.status()}`);
  if (tooHeavy(weight)) problems.push(`${weight.bytes} bytes transferred: ${weight.loaded.join(" ")}`);
  for (const [scheme, width] of [["light", 1280], ["dark", 390]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 800 });
    problems.push(...(await barriers(page)).map((b) => `${scheme}, ${width} wide: ${b}`));
    const wide = await page.locator("html").evaluate((html) => html.scrollWidth - html.clientWidth);
    if (wide > 0) problems.push(`${width} wide: scrolls sideways by ${wide}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 800 });
  if ((await page.locator("h1").count()) !== 1) problems.push("not exactly one h1");
  problems.push(...complaints.splice(0));
  await picture(page, name);
  return problems.map((p) => `${path}: ${p}`);
};

await story(async (browser) => {
  const problems = [];
  const nobody = await sit(browser);
  problems.push(...(await look(nobody, "/login", "login")));
  for (const person of people) {
    const place = await seat(browser, person);
    const queue = ["/", "/account"];
    const seen = new Set();
    const kinds = new Map();
    while (queue.length) {
      const path = queue.shift();
      const count = kinds.get(kind(path)) ?? 0;
      if (seen.has(path) || count >= ENOUGH) continue;
      seen.add(path);
      kinds.set(kind(path), count + 1);
      const name = `${person}${kind(path).replaceAll("/", "-").replace(/-$/, "-start")}${count ? `-${count + 1}` : ""}`;
      problems.push(...(await look(place, path, name)).map((p) => `${person}: ${p}`));
      queue.push(...(await links(place.page)));
    }
    console.log(`${person}: ${[...seen].join(" ")}`);
    assert(seen.size >= 3, `${person} gets to ${seen.size} pages only`);
    await place.context.close();
  }
  assert.deepEqual(problems, [], problems.join("\n"));
});
