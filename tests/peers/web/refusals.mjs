// Who may not approve what, on the page and by the API: the requester, the same person twice, a wrong duty, a changed text.
// COFFERDAM_WINDOW: a window that vera asked for.
import assert from "node:assert/strict";
import { api, base, code, demo, makeToken, seat, story } from "./lib.mjs";

const id = process.env.COFFERDAM_WINDOW;
const page_of = `/approvals/${id}`;
const api_of = `/api/v1/windows/${id}`;

/** Sends the page's form as its own script would, with the proof of a page of this person. */
const send = async (place, digest, given) => {
  await place.page.goto("/account");
  const proof = await place.page.locator("input[name=form]").first().inputValue();
  return place.context.request.post(`${page_of}/approve`, {
    form: { form: proof, digest, code: given },
    headers: { origin: base.origin, "sec-fetch-site": "same-origin" },
    maxRedirects: 0,
  });
};

await story(async (browser) => {
  const places = {};
  const tokens = {};
  for (const person of ["vera", "emil", "olga", "sam", "ada"]) {
    places[person] = await seat(browser, person);
    tokens[person] = await makeToken(places[person].page, person, ["read", "decide"]);
  }
  const now = async () => (await api(tokens.olga, "GET", api_of)).json();
  const { digest } = await now();
  const other = digest.replace(/^./, (c) => (c === "0" ? "1" : "0"));
  /** Refused on the page and by the API, for the rule's reason and not for the code's; nothing changed. */
  const refused = async (person, text, status, why) => {
    const before = await now();
    const on_page = await send(places[person], text, "000000");
    assert.equal(on_page.status(), status, `${person} on the page: ${await on_page.text()}`);
    assert.match(await on_page.text(), why, person);
    const by_api = await api(tokens[person], "POST", `${api_of}/approve`, { digest: text, code: "000000" });
    assert.equal(by_api.status, status, `${person} by the API: ${by_api.text}`);
    assert.match(by_api.text, why, person);
    assert.deepEqual((await now()).approvals, before.approvals);
  };

  const rule = /other duties than yours/;
  for (const person of ["vera", "emil", "ada"]) await refused(person, digest, 403, rule);
  await refused("olga", other, 409, /text|changed|digest/i);
  // A code is bound to what it was given for: wrong ones approve nothing.
  const wrong = await send(places.olga, digest, "000000");
  assert.equal(wrong.status(), 403);
  assert.match(await wrong.text(), /code is wrong/);

  assert.equal((await send(places.olga, digest, code("olga"))).status(), 303);
  assert.deepEqual((await now()).approvals.map((a) => a.by), ["olga"]);
  await refused("olga", digest, 409, /already/);
  await places.olga.page.goto(page_of);
  assert((await places.olga.page.locator("main").innerText()).includes("Not yours to decide"));
  await refused("sam", other, 409, /text|changed|digest/i);

  // The second approval by the API, with a code that works once.
  const given = code("sam");
  const done = await api(tokens.sam, "POST", `${api_of}/approve`, { digest, code: given });
  assert.equal(done.status, 200, done.text);
  assert.equal((await now()).state, "approved");
  assert.deepEqual((await now()).approvals.map((a) => a.digest), [digest, digest]);
  await refused("sam", digest, 409, /./);
  assert.equal(Object.keys(demo.users).length, 6);
});
