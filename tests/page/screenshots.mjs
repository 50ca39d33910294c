// Takes the pictures of the README: `npm run screenshots -- FOLDER`.
//
// An hour of life does not fit into a minute, so the charts begin empty at their left.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { browser, daemon, mock, open, receiver, until } from "./harness.mjs";

const folder = process.argv[2] ?? "screenshots";
const minutes = Number(process.env.MINUTES ?? 3);
await mkdir(folder, { recursive: true });

const steps = [];
const add = (step) => steps.push(step);
try {
  const upstream = await mock(add);
  const [app, crm, audit] = [await receiver(add), await receiver(add), await receiver(add)];
  const sink = (name, { url }) => `[sinks.${name}]\ntype = "webhook"\nurl = "${url}"\n`;
  const server = await daemon(add, upstream, sink("app", app) + sink("crm", crm) + sink("audit", audit));
  const teams = ["billing", "claims", "onboarding"];
  const end = Date.now() + minutes * 60_000;
  let last;
  for (let number = 1; Date.now() < end; number++) {
    // One receiver is down for the last third.
    if (Date.now() > end - minutes * 20_000) audit.answer = [503, '{"error":"maintenance"}'];
    const seconds = 2 + ((number * 7) % 19);
    const outcome = number % 11 === 0 ? "failed" : "completed";
    const endpoint = number % 3 ? "/v1/extractions" : "/v1/parses";
    const id = await upstream.create({ endpoint, metadata: { mock_duration: `${seconds}s`, mock_outcome: outcome, order: String(4000 + number) } });
    await server.watch(id, { labels: { team: teams[number % 3], env: "prod" } });
    if (Date.now() < end - 25_000) last = id;
    await new Promise((resolve) => setTimeout(resolve, 400 + ((number * 311) % 1500)));
  }
  await until("the job is told", async () => (await server.call("GET", `/v1/watches/retab/${last}`)).finished_at !== null);
  const chrome = await browser(add);
  const views = { overview: "", jobs: "#/jobs", job: `#/jobs/retab/${last}`, deliveries: "#/deliveries", source: "#/sources/retab" };
  for (const colorScheme of ["light", "dark"]) {
    for (const [width, height] of [
      [1280, 860],
      [390, 844],
    ]) {
      const page = await open(add, chrome, `${server.url}/`, { colorScheme, viewport: { width, height } });
      for (const [name, hash] of Object.entries(views)) {
        await page.goto(`${server.url}/${hash}`);
        await page.getByRole("heading", { level: 1 }).first().waitFor();
        await page.getByText("live", { exact: true }).first().waitFor();
        await until("it has loaded", async () => (await page.getByText("Loading …").count()) === 0);
        await page.screenshot({ path: join(folder, `${name}-${colorScheme}-${width}.png`) });
      }
    }
  }
} finally {
  for (const step of steps.reverse()) await step();
}
