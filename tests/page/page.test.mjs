// The page in a real browser, before a real daemon, a real upstream and real receivers.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { browser, cleanup, daemon, mock, open, prefixed, receiver, until } from "./harness.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const webhook = (name, url, more = "") => `[sinks.${name}]\ntype = "webhook"\nurl = "${url}"\n${more}\n`;
const address = (server, hash) => `${server.url}/${hash}`;
const job = (id) => `#/jobs/retab/${encodeURIComponent(id)}`;
const seen = (locator) => locator.first().waitFor({ state: "visible" });
const gone = (locator) => locator.first().waitFor({ state: "detached" });

test("the life of a job is followed live, from the first curl to its delivery", async (t) => {
  const add = cleanup(t);
  const [upstream, app] = [await mock(add), await receiver(add)];
  const server = await daemon(add, upstream, webhook("app", app.url));
  const page = await open(add, await browser(add), address(server, ""));
  await seen(page.getByText("No job is watched yet"));
  await seen(page.locator("pre", { hasText: `${server.url}/v1/watches` }));
  const id = await upstream.create({ metadata: { mock_duration: "3s", order: "7" } });
  await server.watch(id, { labels: { team: "billing" } });
  // Nobody reloads: the overview shows the watch, the list has its row, the row leads to the job.
  await gone(page.getByText("No job is watched yet"));
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Jobs" }).click();
  await page.getByRole("link", { name: id }).click();
  await seen(page.getByRole("heading", { level: 1, name: id }));
  await seen(page.getByText(/The next poll is/));
  await seen(page.getByRole("region", { name: "What happened" }).getByText(/registered/i));
  // It ends, and is delivered, before one's eyes.
  await seen(page.getByRole("region", { name: "Deliveries" }).getByText("delivered"));
  await seen(page.getByText("completed").first());
  assert.equal(await page.getByText(/The next poll is/).count(), 0);
  const story = await page.getByRole("region", { name: "What happened" }).innerText();
  for (const part of [/registered/i, /noticed|ended|completed/i, /app/, /204/]) assert.match(story, part);
  await seen(page.getByRole("region", { name: "Labels" }).getByText("billing"));
  await seen(page.getByRole("region", { name: "Metadata of the job" }).getByText("7", { exact: true }));
  assert.equal(app.requests.length, 1);
});

test("a dead letter is sent again from the page, one and all that match", async (t) => {
  const add = cleanup(t);
  const [upstream, app] = [await mock(add), await receiver(add, [410, "no <b>such</b> order"])];
  const server = await daemon(add, upstream, webhook("app", app.url));
  const ids = [];
  for (let index = 0; index < 3; index++) ids.push(await upstream.create({ metadata: { mock_duration: "0s" } }));
  for (const id of ids) await server.watch(id);
  for (const id of ids) await server.phase(id, "dead");
  const page = await open(add, await browser(add), address(server, "#/deliveries?state=dead"));
  const row = page.getByRole("row").filter({ hasText: ids[0] });
  await seen(row);
  await row.locator("a.cover").click();
  await seen(page.getByText("no <b>such</b> order"));
  app.answer = 204;
  await page.getByRole("dialog").getByRole("button", { name: /again|redeliver/i }).click();
  await server.phase(ids[0], "done");
  await page.keyboard.press("Escape");
  await gone(page.getByRole("dialog"));
  await page.getByRole("button", { name: "Send dead letters again…" }).click();
  const question = page.getByRole("dialog", { name: "Send 2 dead letters again?" });
  await seen(question);
  await question.getByRole("button", { name: /^Send/ }).click();
  for (const id of ids) await server.phase(id, "done");
  assert.equal(new Set(app.requests.map(({ headers }) => headers["webhook-id"])).size, 3);
});

test("a search finds a job by the beginning of its id, and filters stay in the address", async (t) => {
  const add = cleanup(t);
  const upstream = await mock(add);
  const server = await daemon(add, upstream);
  const watches = Array.from({ length: 300 }, (_, index) => ({ job_id: `job_${String(index).padStart(4, "0")}`, labels: { team: index % 2 ? "claims" : "billing" } }));
  await server.call("POST", "/v1/watches/batch", { watches });
  const page = await open(add, await browser(add), address(server, "#/jobs"));
  await seen(page.locator(".rows .body .row"));
  await page.keyboard.press("/");
  await page.waitForFunction(() => document.activeElement?.id === "search");
  await page.keyboard.type("job_0017");
  await until("one row is left", async () => (await page.locator(".rows .body .row").count()) === 1);
  await seen(page.getByRole("link", { name: "job_0017" }));
  assert.match(page.url(), /q=job_0017/);
  await page.goto(address(server, "#/jobs?q=job_000&label.team=claims"));
  await until("five rows are left", async () => (await page.locator(".rows .body .row").count()) === 5);
  await page.goto(address(server, "#/jobs?q=nothing"));
  await seen(page.getByText(/No job|no watch|matches/i));
});

test("the token is asked for once, and nothing is shown without it", async (t) => {
  const add = cleanup(t);
  const upstream = await mock(add);
  const server = await daemon(add, upstream, "", { token: "correct-horse-battery-staple" });
  await server.watch(await upstream.create({ metadata: { mock_duration: "1h" } }));
  const page = await open(add, await browser(add), address(server, "#/jobs"));
  await seen(page.getByRole("heading", { name: "This daemon has a token" }));
  assert.equal(await page.locator(".rows").count(), 0);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Continue" }).click();
  await seen(page.getByText("The daemon does not accept this token."));
  await page.getByLabel("Token").fill("correct-horse-battery-staple");
  await page.keyboard.press("Enter");
  await seen(page.locator(".rows .body .row"));
  await page.reload();
  await seen(page.locator(".rows .body .row"));
  const kept = await page.evaluate(() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]);
  assert.match(kept[0], /correct-horse/);
  assert.doesNotMatch(kept[1] + kept[2], /correct-horse/);
});

test("what a job, a receiver or a caller wrote is shown as text, and never runs", async (t) => {
  const add = cleanup(t);
  const attack = `<script>alert(1)</script><img src=x onerror=alert(1)>"'\u202Egnp.exe`;
  const [upstream, app] = [await mock(add), await receiver(add, [410, attack])];
  const server = await daemon(add, upstream, webhook("app", app.url));
  const id = await upstream.create({ metadata: { mock_duration: "0s", note: attack, __proto__x: "javascript:alert(1)" } });
  const odd = `../<b>${"x".repeat(20)}</b>?q=1#'"%2e%2e/`;
  await server.watch(id, { labels: { note: attack } });
  await server.watch(odd, { labels: { note: attack } });
  await server.phase(id, "dead");
  const chrome = await browser(add);
  const page = await open(add, chrome, address(server, job(id)));
  const text = async (part) => until(`“${part}” is shown`, async () => (await page.evaluate(() => document.body.textContent)).includes(part));
  await text("<script>alert(1)</script><img src=x");
  for (const hash of ["#/jobs", job(odd), "#/deliveries", "#/", "#/sources/retab", `#/jobs/${encodeURIComponent(attack)}/x`, "#/%", `#/jobs?q=${encodeURIComponent(attack)}`]) {
    await page.goto(address(server, hash));
    await seen(page.getByRole("heading", { level: 1 }));
  }
  await page.goto(address(server, "#/jobs"));
  await page.getByRole("link", { name: odd }).click();
  await seen(page.getByRole("heading", { level: 1, name: odd }));
  // The one script is ours.
  assert.equal(await page.locator("script").count(), 1);
  assert.equal(await page.locator("main img, main script, main b:text-is('xxxxxxxxxxxxxxxxxxxx')").count(), 0);
});

test("10,000 watches stay a short document, and scrolling reaches the last", async (t) => {
  const add = cleanup(t);
  const upstream = await mock(add);
  const server = await daemon(add, upstream);
  const watches = Array.from({ length: 10_000 }, (_, index) => ({ job_id: `job_${String(index).padStart(5, "0")}` }));
  await server.call("POST", "/v1/watches/batch", { watches });
  const page = await open(add, await browser(add), address(server, "#/jobs"));
  await seen(page.getByRole("link", { name: "job_09999" }));
  await until(
    "the oldest is in view",
    async () => {
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      const more = page.getByRole("button", { name: "Read on" });
      if (await more.count()) await more.click();
      return page.getByRole("link", { name: "job_00000" }).isVisible();
    },
    120_000,
  );
  assert.ok((await page.locator(".rows .body .row").count()) < 100);
  await page.locator("#search").fill("job_04242");
  await until("one row is left", async () => (await page.locator(".rows .body .row").count()) === 1);
});

test("a daemon that is gone is said so, and the page recovers by itself", async (t) => {
  const add = cleanup(t);
  const upstream = await mock(add);
  const server = await daemon(add, upstream);
  const first = await upstream.create({ metadata: { mock_duration: "1h" } });
  await server.watch(first);
  const page = await open(add, await browser(add), address(server, "#/jobs"));
  await seen(page.getByRole("link", { name: first }));
  await page.keyboard.press("g");
  await server.stop("SIGKILL");
  await seen(page.getByText(/The daemon does not answer/));
  await seen(page.getByText(/from .*ago|is from/));
  await seen(page.getByRole("link", { name: first }));
  // What the page shows in between does not part the two keys of a shortcut.
  await page.keyboard.press("s");
  await seen(page.getByRole("heading", { level: 1, name: "Sources" }));
  await page.keyboard.press("g");
  await page.keyboard.press("j");
  await seen(page.getByRole("heading", { level: 1, name: "Jobs" }));
  await server.start();
  await until("the banner is gone", async () => (await page.getByText(/The daemon does not answer/).count()) === 0);
  const second = await upstream.create({ metadata: { mock_duration: "1h" } });
  await server.watch(second);
  await seen(page.getByRole("link", { name: second }));
});

test("the page works below a path prefix, with the token", async (t) => {
  const add = cleanup(t);
  const upstream = await mock(add);
  const server = await daemon(add, upstream, "", { token: "secret" });
  const id = await upstream.create({ metadata: { mock_duration: "1h" } });
  await server.watch(id);
  const proxy = await prefixed(add, server.url, "/team/tidings");
  const chrome = await browser(add);
  for (const start of [`${proxy}/`, proxy]) {
    const page = await open(add, chrome, start);
    await page.getByLabel("Token").fill("secret");
    await page.keyboard.press("Enter");
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Jobs" }).click();
    await page.getByRole("link", { name: id }).click();
    await seen(page.getByRole("heading", { level: 1, name: id }));
    await seen(page.getByText("live", { exact: true }));
  }
});

test("a hidden tab asks for nothing, and is up to date when it is seen again", async (t) => {
  const add = cleanup(t);
  const upstream = await mock(add);
  const server = await daemon(add, upstream);
  const page = await open(add, await browser(add), address(server, "#/jobs"));
  await seen(page.getByText("live", { exact: true }));
  const hide = (hidden) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (value ? "hidden" : "visible") });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  const readers = async () => Number((await (await fetch(`${server.url}/metrics`)).text()).match(/^tidings_event_readers (\d+)/m)[1]);
  await until("one reader", async () => (await readers()) === 1);
  await hide(true);
  await until("no reader", async () => (await readers()) === 0);
  let requests = 0;
  page.on("request", () => requests++);
  const id = await upstream.create({ metadata: { mock_duration: "1h" } });
  await server.watch(id);
  assert.equal(requests, 0);
  await hide(false);
  await seen(page.getByRole("link", { name: id }));
});

test("everything can be reached and done by keyboard", async (t) => {
  const add = cleanup(t);
  const [upstream, app] = [await mock(add), await receiver(add)];
  const server = await daemon(add, upstream, webhook("app", app.url));
  const id = await upstream.create({ metadata: { mock_duration: "1h" } });
  await server.watch(id);
  const page = await open(add, await browser(add), address(server, ""));
  await seen(page.getByText("live", { exact: true }));
  await page.keyboard.press("?");
  await seen(page.getByRole("dialog", { name: "Keyboard" }));
  await page.keyboard.press("Escape");
  await gone(page.getByRole("dialog", { name: "Keyboard" }));
  await page.keyboard.press("g");
  await page.keyboard.press("j");
  await seen(page.getByRole("heading", { level: 1, name: "Jobs" }));
  await seen(page.getByRole("link", { name: id }));
  const focused = () => page.evaluate(() => document.querySelector("a:focus, button:focus")?.textContent ?? "");
  const tabTo = async (name) => {
    for (let presses = 0; presses < 60; presses++) {
      await page.keyboard.press("Tab");
      if (name.test(await focused())) return;
    }
    assert.fail(`Tab does not reach ${name}`);
  };
  await tabTo(new RegExp(id.slice(4, 14)));
  await page.keyboard.press("Enter");
  await seen(page.getByRole("heading", { level: 1, name: id }));
  await tabTo(/Stop watching/);
  await page.keyboard.press("Enter");
  await seen(page.getByRole("dialog", { name: "Stop watching this job?" }));
  await page.keyboard.press("Escape");
  await gone(page.getByRole("dialog", { name: "Stop watching this job?" }));
  await server.call("GET", `/v1/watches/retab/${id}`);
  // The focus is back where it was.
  assert.match(await focused(), /Stop watching/);
  await page.keyboard.press("Enter");
  await seen(page.getByRole("dialog"));
  await tabTo(/^Stop watching$/);
  await page.keyboard.press("Enter");
  await until("it is removed", async () => (await fetch(`${server.url}/v1/watches/retab/${id}`)).status === 404);
});

test("axe-core finds nothing serious in any view, light or dark, wide or narrow", async (t) => {
  const add = cleanup(t);
  const [upstream, app, dead] = [await mock(add), await receiver(add), await receiver(add, 410)];
  const server = await daemon(add, upstream, webhook("app", app.url) + webhook("dead", dead.url));
  const ended = await upstream.create({ metadata: { mock_duration: "0s" } });
  await server.watch(ended, { group: "nightly", labels: { team: "billing" } });
  await server.watch(await upstream.create({ metadata: { mock_duration: "1h" } }));
  await server.phase(ended, "dead");
  const { data } = await server.call("GET", "/v1/deliveries");
  const views = ["", "#/jobs", "#/jobs?view=groups", "#/jobs?q=none", job(ended), "#/deliveries", `#/deliveries/${data[0].id}`, "#/sources", "#/sources/retab"];
  const chrome = await browser(add);
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 360]) {
      const page = await open(add, chrome, address(server, ""), { colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
      for (const view of views) {
        await page.goto(address(server, view));
        await seen(page.getByRole("heading", { level: 1 }));
        await page.waitForLoadState("load");
        await until("it has loaded", async () => (await page.getByText("Loading …").count()) === 0);
        if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
        const found = await page.evaluate(async () => (await window.axe.run(document)).violations);
        const serious = found.filter(({ impact }) => impact === "serious" || impact === "critical");
        const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
        assert.deepEqual(told, [], `${view || "#/"} ${colorScheme} ${width}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(wide <= 0, `${view || "#/"} is wider than ${width} px`);
      }
    }
  }
});

test("the page is at most 150 KiB over the wire", async (t) => {
  const add = cleanup(t);
  const server = await daemon(add, await mock(add));
  const html = await (await fetch(`${server.url}/`, { headers: { accept: "text/html" } })).text();
  const files = ["", ...[...html.matchAll(/(?:src|href)="\.\/(ui\/[^"]+)"/g)].map(([, path]) => path)];
  assert.ok(files.length >= 4, html);
  let total = 0;
  for (const path of files) {
    const answer = await fetch(`${server.url}/${path}`, { headers: { accept: "text/html", "accept-encoding": "gzip" } });
    assert.equal(answer.status, 200, path);
    total += Number(answer.headers.get("content-length"));
  }
  t.diagnostic(`${(total / 1024).toFixed(1)} KiB over the wire`);
  assert.ok(total > 0 && total <= 150 * 1024, String(total));
});
