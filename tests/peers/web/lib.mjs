// What the browser scripts share: a browser that trusts the demo's authority, its people, their codes, and what is
// looked at on every page.
//
// Environment: COFFERDAM_DEMO names demo.json, COFFERDAM_SCRATCH a folder for the test's files, COFFERDAM_WEB_MODULES the
// folder with node_modules, COFFERDAM_SHOTS (if set) a folder for screenshots.
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import https from "node:https";
import { dirname, join } from "node:path";
import tls from "node:tls";
import { fileURLToPath } from "node:url";

const need = (name) => process.env[name] ?? assert.fail(`${name} is not set`);
const load = createRequire(join(need("COFFERDAM_WEB_MODULES"), "script.js"));
const { chromium } = load("playwright-core");
const axe = readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");
const peers = join(dirname(fileURLToPath(import.meta.url)), "..");

export const demo = JSON.parse(readFileSync(need("COFFERDAM_DEMO"), "utf8"));
export const authority = readFileSync(demo.ca_cert);
/** Passkeys are bound to a name: the demo's is `localhost`. */
export const base = new URL(demo.web);
base.hostname = "localhost";

/** Most bytes of a page with all that it loads, where there is no terminal or player. */
const HEAVIEST = 100 * 1024;
const PHONE = { width: 390, height: 844 };
const LAPTOP = { width: 1280, height: 800 };

/** A code of `person` that was not used before. */
export const code = (person) =>
  execFileSync(join(peers, "code"), {
    encoding: "utf8",
    env: {
      ...process.env,
      COFFERDAM_TOTP_SECRET: demo.users[person].totp_secret,
      COFFERDAM_TOTP_STATE: join(need("COFFERDAM_SCRATCH"), `codes-of-${person}`),
    },
  }).trim();

/** The digest of the server's key, after its certificate was checked against the demo's authority. */
const pinned = () =>
  new Promise((done, failed) => {
    const socket = tls.connect({ host: base.hostname, port: base.port, ca: authority, servername: base.hostname }, () => {
      const key = socket.getPeerX509Certificate().publicKey.export({ type: "spki", format: "der" });
      socket.end();
      done(createHash("sha256").update(key).digest("base64"));
    });
    socket.on("error", failed);
  });

/** Starts a browser. It trusts exactly the server's key, because passkeys work on no page with a certificate error. */
export const start = async () =>
  chromium.launch({
    executablePath: process.env.COFFERDAM_CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--ignore-certificate-errors-spki-list=${await pinned()}`,
    ],
  });

/** One person at one machine: a fresh profile, and everything that its pages complain about. */
export const sit = async (browser, options = {}) => {
  const context = await browser.newContext({ baseURL: base.href, viewport: LAPTOP, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    const text = message.text();
    // A refusal that a script meets is shown as a failed resource; what it means is tested by who expects it.
    if (message.type() === "error" && !text.startsWith("Failed to load resource")) complaints.push(text);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => {
    complaints.push(`a dialogue: ${dialog.message()}`);
    dialog.dismiss();
  });
  return { context, page, complaints, quiet: () => assert.deepEqual(complaints, []) };
};

/** Gives the page an authenticator that verifies its user. */
export const authenticator = async (page) => {
  const session = await page.context().newCDPSession(page);
  await session.send("WebAuthn.enable");
  const { authenticatorId } = await session.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  return {
    keys: async () => (await session.send("WebAuthn.getCredentials", { authenticatorId })).credentials,
    verifies: (isUserVerified) => session.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified }),
  };
};

/** Logs `person` in with password and code. */
export const logIn = async (page, person, next = "/account") => {
  await page.goto(`/login?next=${encodeURIComponent(next)}`);
  await page.getByLabel("Name").fill(person);
  await page.getByLabel("Password").fill(demo.users[person].password);
  await page.getByLabel("Code", { exact: true }).fill(code(person));
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.waitForURL((url) => !url.pathname.startsWith("/login"));
};

/** Sits `person` down, logged in. */
export const seat = async (browser, person, options) => {
  const place = await sit(browser, options);
  await logIn(place.page, person);
  return place;
};

/** Asks the interface without a browser: `{ status, headers, text, json }`. The certificate is checked. */
export const ask = (method, path, { headers = {}, body } = {}) =>
  new Promise((done, failed) => {
    const url = new URL(path, base);
    const request = https.request(url, { method, headers, ca: authority }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("end", () =>
        done({ status: response.statusCode, headers: response.headers, text, json: () => JSON.parse(text) }),
      );
    });
    request.on("error", failed);
    request.end(body);
  });

/** The same as a program with a token. */
export const api = (token, method, path, body) =>
  ask(method, path, {
    headers: { authorization: `Bearer ${token}`, ...(body ? { "content-type": "application/json" } : {}) },
    body: body && JSON.stringify(body),
  });

/** Makes a token on the account page; answers it. */
export const makeToken = async (page, person, scopes) => {
  await page.goto("/account");
  await page.locator("#tn").fill("end-to-end test");
  for (const scope of scopes) await page.locator(`input[name=scopes][value=${scope}]`).check();
  await page.locator("#code-token").fill(code(person));
  await page.getByRole("button", { name: "Make a token" }).click();
  return (await page.getByLabel("the new token").innerText()).trim();
};

/** What axe-core finds on the page that is serious or critical, one line each. */
export const barriers = async (page) => {
  // By the developer tools' own way in: the page's policy lets no other script run.
  const session = await page.context().newCDPSession(page);
  const run = async (expression) => {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    assert(!exceptionDetails, JSON.stringify(exceptionDetails));
    return result.value;
  };
  await run(axe);
  const found = await run(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
    .filter((v) => ["serious", "critical"].includes(v.impact))
    .map((v) => v.impact + " " + v.id + ": " + v.nodes.slice(0, 3).map((n) => n.html).join(" | ")))`);
  await session.detach();
  return found;
};

/** Opens `path` with an empty cache; answers what came and how many bytes were transferred. */
export const weigh = async (page, path) => {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0;
  const loaded = [];
  session.on("Network.responseReceived", ({ response }) => loaded.push(response.url));
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
  const response = await page.goto(path, { waitUntil: "load" });
  await page.waitForTimeout(100);
  await session.detach();
  return { response, bytes, loaded };
};

/** A page without terminal or player that is heavier than it may be. */
export const tooHeavy = ({ bytes, loaded }) =>
  bytes > HEAVIEST && !loaded.some((url) => /\/(xterm|player)\.js$/.test(url));

/** Takes the page as a phone and a laptop show it, light and dark, if screenshots are wanted. */
export const picture = async (page, name) => {
  const folder = process.env.COFFERDAM_SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  for (const [size, viewport] of Object.entries({ phone: PHONE, laptop: LAPTOP })) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(folder, `${name}-${size}-${colorScheme}.png`) });
    }
  }
  await page.setViewportSize(LAPTOP);
  await page.emulateMedia({ colorScheme: "light" });
};

/** Runs a command given as JSON (`[program, ...arguments]`) in the environment variable `name`. */
export const command = (name, ...more) => {
  const [program, ...rest] = JSON.parse(need(name));
  return new Promise((done) =>
    execFile(program, [...rest, ...more], { timeout: 60_000 }, (error, out, err) =>
      done({ code: error ? (error.code ?? -1) : 0, out, err }),
    ),
  );
};

/** A shell of vera's that stays: the command line in COFFERDAM_SSH. */
export const shell = () => {
  const [program, ...rest] = JSON.parse(need("COFFERDAM_SSH"));
  const child = spawn(program, rest, { stdio: ["pipe", "pipe", "pipe"] });
  // Apart: what comes by two pipes comes in no order.
  const state = { child, out: "", err: "", ended: undefined };
  child.stdout.on("data", (part) => (state.out += part));
  child.stderr.on("data", (part) => (state.err += part));
  child.on("exit", () => (state.ended = performance.now()));
  return state;
};

/** Whether the shell shows its prompt now. */
export const prompted = (live) => {
  assert(!live.ended, live.out + live.err);
  // Without colours and titles.
  return /[$#] *$/.test(live.out.replace(/\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07)/g, ""));
};

/** Waits until `probe` answers something; fails after `longest` milliseconds. Answers it and how long that took. */
export const until = async (what, longest, probe) => {
  const begin = performance.now();
  for (;;) {
    const found = await probe();
    if (found) return { found, after: performance.now() - begin };
    assert(performance.now() - begin < longest, `${what}: not within ${longest} ms`);
    await new Promise((next) => setTimeout(next, 50));
  }
};

/** Runs a script's story with a browser of its own, and says at the end that it was told to the end. */
export const story = async (tell) => {
  const browser = await start();
  try {
    await tell(browser);
  } finally {
    await browser.close();
  }
  console.log("story: told to the end");
};
