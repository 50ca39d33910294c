// What the page costs: scripting with 10,000 rows as a share of a limit, and the daemon's CPU time for a hundred tabs beside none.
//
// `npm run bench`; TABS, SECONDS and ROWS change the sizes.

import { readFile } from "node:fs/promises";

import { browser, daemon, mock, open, until } from "./harness.mjs";

const [tabs, seconds, rows] = [Number(process.env.TABS ?? 100), Number(process.env.SECONDS ?? 30), Number(process.env.ROWS ?? 10_000)];
/** Milliseconds of scripting that a scroll and a filter may take together. */
const LIMIT = 100;

const steps = [];
const add = (step) => steps.push(step);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** CPU seconds and resident KiB of a process. */
async function usage(pid) {
  const stat = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1].split(" ");
  const rss = (await readFile(`/proc/${pid}/status`, "utf8")).match(/VmRSS:\s+(\d+)/)[1];
  return { cpu: (Number(stat[11]) + Number(stat[12])) / 100, rss: Number(rss) };
}

async function cost(pid) {
  const before = await usage(pid);
  await wait(seconds * 1000);
  const after = await usage(pid);
  return { cpu: (100 * (after.cpu - before.cpu)) / seconds, rss: after.rss };
}

try {
  const upstream = await mock(add);
  const server = await daemon(add, upstream);
  const watches = Array.from({ length: rows }, (_, index) => ({ job_id: `job_${String(index).padStart(5, "0")}`, labels: { odd: String(index % 2) } }));
  const chrome = await browser(add);
  for (let at = 0; at < watches.length; at += 5000) await server.call("POST", "/v1/watches/batch", { watches: watches.slice(at, at + 5000) });
  const page = await open(add, chrome, `${server.url}/#/jobs`);
  await page.locator(".rows .body .row").first().waitFor();
  await until(
    "all rows are loaded",
    async () => {
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      const more = page.getByRole("button", { name: "Read on" });
      if (await more.count()) await more.click();
      return page.getByRole("link", { name: "job_00000" }).isVisible();
    },
    180_000,
  );
  const client = await page.context().newCDPSession(page);
  // The time of the thread, so that other processes of the machine do not count.
  await client.send("Performance.enable", { timeDomain: "threadTicks" });
  const scripting = async () => 1000 * (await client.send("Performance.getMetrics")).metrics.find(({ name }) => name === "ScriptDuration").value;
  const start = await scripting();
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight / 2));
  await page.waitForFunction(() => document.querySelectorAll(".rows .body .row").length > 0);
  await wait(300);
  const scrolled = await scripting();
  await page.locator("#search").fill("job_04242");
  await until("one row is left", async () => (await page.locator(".rows .body .row").count()) === 1);
  const filtered = await scripting();
  const share = ((filtered - start) / LIMIT).toFixed(2);
  console.log(`${rows} rows loaded: scroll ${(scrolled - start).toFixed(0)} ms, filter ${(filtered - scrolled).toFixed(0)} ms of scripting; ${share} of the limit`);
  await page.close();

  // Half of a second between two changes, so that every tab refreshes once a second: the most that it ever does.
  const idle = await cost(server.pid);
  const open_tabs = [];
  for (let tab = 0; tab < tabs; tab++) {
    const context = tab % 5 === 0 ? await chrome.newContext() : open_tabs.at(-1).context();
    const one = await context.newPage();
    open_tabs.push(one);
    await one.goto(`${server.url}/`);
  }
  await wait(2000);
  const readers = async () => Number((await (await fetch(`${server.url}/metrics`)).text()).match(/^tidings_event_readers (\d+)/m)[1]);
  const still = await cost(server.pid);
  let busy = true;
  const load = (async () => {
    while (busy) {
      const id = await upstream.create({ metadata: { mock_duration: "1s" } });
      await server.watch(id);
      await wait(500);
    }
  })();
  const changing = await cost(server.pid);
  busy = false;
  await load;
  console.log(`${tabs} tabs, ${await readers()} of them with a stream: ${still.cpu.toFixed(1)}% of a core at rest (${idle.cpu.toFixed(1)}% without), ${changing.cpu.toFixed(1)}% while two jobs a second come and go`);
  console.log(`resident: ${(idle.rss / 1024).toFixed(1)} MiB before, ${(changing.rss / 1024).toFixed(1)} MiB with them`);
} finally {
  for (const step of steps.reverse()) await Promise.resolve(step()).catch((error) => console.error(error));
}
