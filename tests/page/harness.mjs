// Real processes for the tests of the page: the daemon, the mock of the job API, receivers, and Chromium.
//
// TIDINGS is the binary, CHROMIUM the browser; both have defaults.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const BINARY = process.env.TIDINGS ?? fileURLToPath(new URL("../../target/debug/tidings", import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Stops what a test started, the latest first. */
export function cleanup(test) {
  const steps = [];
  test.after(async () => {
    const errors = [];
    for (const step of steps.reverse()) await (async () => step())().catch((error) => errors.push(error));
    if (errors.length) throw errors[0];
  });
  return (step) => steps.push(step);
}

/** Starts a program and waits until a line of its output matches. */
async function started(args, pattern, folder) {
  const child = spawn(BINARY, args, { cwd: folder, env: { HOME: folder, PATH: process.env.PATH }, stdio: ["ignore", "pipe", "pipe"] });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const log = [];
  const match = await new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        log.push(line);
        const found = line.match(pattern);
        if (found) resolve(found);
      });
    }
    child.once("error", reject);
    void exited.then((code) => reject(new Error(`${args.join(" ")} ended with ${code}:\n${log.join("\n")}`)));
  });
  const stop = async (signal = "SIGTERM") => {
    child.kill(signal);
    await exited;
  };
  return { match, stop, log, pid: child.pid };
}

/** The mock of Retab's API, whose jobs take `mock_duration` and end as `mock_outcome` says. */
export async function mock(add, args = []) {
  const folder = await mkdtemp(join(tmpdir(), "tidings-mock-"));
  add(() => rm(folder, { recursive: true, force: true }));
  const { match, stop } = await started(["mock", "--listen", "127.0.0.1:0", ...args], /listens at (\S+)/, folder);
  add(stop);
  const url = match[1];
  return {
    url,
    create: async (body = {}) => {
      const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ endpoint: "/v1/extractions", request: {}, ...body }) };
      return (await (await fetch(`${url}/v1/jobs`, init)).json()).id;
    },
  };
}

/** A receiver of webhooks that answers what `answer` says at that time: a status, or `[status, body]`. */
export async function receiver(add, answer = 204) {
  const state = { answer, requests: [] };
  const server = createServer((incoming, outgoing) => {
    const parts = [];
    incoming.on("data", (part) => parts.push(part));
    incoming.on("end", () => {
      state.requests.push({ headers: incoming.headers, body: Buffer.concat(parts).toString() });
      const [status, body] = [state.answer].flat();
      outgoing.writeHead(status).end(body);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  add(() => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))));
  state.url = `http://127.0.0.1:${server.address().port}/hook`;
  return state;
}

/** The daemon, with a source `retab` at the mock and these further lines of configuration. */
export async function daemon(add, upstream, config = "", { token, listen = "127.0.0.1:0" } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "tidings-page-"));
  add(() => rm(folder, { recursive: true, force: true }));
  const text = `
[server]
listen = "${listen}"
${token ? `token = "${token}"` : ""}
[store]
path = "${folder}/data"
[sources.retab]
type = "retab"
base_url = "${upstream.url}"
api_key = "key"
${config}`;
  await writeFile(join(folder, "tidings.toml"), text);
  const self = { folder, token };
  self.start = async () => {
    const args = ["run", "--config", join(folder, "tidings.toml")];
    // The port stays the same when a test starts the daemon again.
    if (self.url) args.push("--listen", new URL(self.url).host);
    const { match, stop, pid, log } = await started(args, /listening address=(\S+)/, folder);
    Object.assign(self, { url: `http://${match[1]}`, pid, log });
    let running = true;
    self.stop = async (signal) => {
      if (running) await stop(signal);
      running = false;
    };
    await until("it is ready", async () => (await fetch(`${self.url}/readyz`)).ok);
  };
  await self.start();
  add(() => self.stop());
  self.call = async (method, path, body) => {
    const headers = { accept: "application/json", ...(body ? { "content-type": "application/json" } : {}), ...(token ? { authorization: `Bearer ${token}` } : {}) };
    const answer = await fetch(self.url + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  };
  self.watch = (job_id, rest = {}) => self.call("POST", "/v1/watches", { job_id, ...rest });
  self.phase = (job_id, phase) =>
    until(`${job_id} is ${phase}`, async () => (await self.call("GET", `/v1/watches/retab/${encodeURIComponent(job_id)}`)).phase === phase);
  return self;
}

/** A reverse proxy that serves `to` below `prefix`, which it strips. */
export async function prefixed(add, to, prefix) {
  const target = new URL(to);
  const server = createServer((incoming, outgoing) => {
    if (!incoming.url.startsWith(prefix)) return outgoing.writeHead(404).end();
    const path = incoming.url.slice(prefix.length) || "/";
    const headers = { ...incoming.headers, "x-forwarded-prefix": prefix };
    const onward = request({ host: target.hostname, port: target.port, method: incoming.method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => onward.destroy());
    incoming.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  add(() => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))));
  return `http://127.0.0.1:${server.address().port}${prefix}`;
}

/** Waits until something is true; the error of the last try says what was not. */
export async function until(what, check, limit = 30_000) {
  const end = Date.now() + limit;
  let last;
  while (Date.now() < end) {
    try {
      if (await check()) return;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`not within ${limit / 1000} s: ${what}${last ? ` (${last})` : ""}`);
}

/** Chromium without a window, and without anything of its own in the background. */
export async function browser(add) {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const chrome = await chromium.launch({ executablePath: CHROMIUM, args });
  add(() => chrome.close());
  return chrome;
}

/**
 * Opens the page. What a page must never do, fails the test at its end: an error in a script, a request to another
 * origin, a violation of the content security policy, a dialog.
 */
export async function open(add, chrome, url, options = {}) {
  const context = await chrome.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", timezoneId: "Europe/Berlin", ...options });
  const page = await context.newPage();
  const faults = [];
  const origin = new URL(url).origin;
  page.on("pageerror", (error) => faults.push(`error: ${error.stack ?? error}`));
  page.on("console", (message) => {
    // Requests that fail are the daemon's answers; tests look at what the page makes of them.
    if (message.type() === "error" && !/Failed to load resource|net::ERR_/.test(message.text())) faults.push(`console: ${message.text()}`);
  });
  page.on("request", (sent) => {
    if (!sent.url().startsWith("blob:") && new URL(sent.url()).origin !== origin) faults.push(`a request to ${sent.url()}`);
  });
  page.on("dialog", (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.faults = faults;
  add(async () => {
    await context.close();
    if (faults.length) throw new Error(faults.join("\n"));
  });
  await page.goto(url, { waitUntil: "domcontentloaded" });
  return page;
}
