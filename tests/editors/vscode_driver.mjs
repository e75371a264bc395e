// Hands and eyes for the tests: one Chromium, told by lines of JSON on stdin, answers by lines on stdout.
// A line is {"do": NAME, "page": NAME, …}; the answer {"value": …} or {"error": "…"}.
// usage: node vscode_driver.mjs FOLDER_WITH_PLAYWRIGHT CHROMIUM
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const [folder, chromium] = process.argv.slice(2);
const playwright = createRequire(path.join(folder, "package.json"))("playwright-core");
const browser = await playwright.chromium.launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows"],
});
const pages = new Map();

const actions = {
  async open({ page, url, width, height, scale }) {
    const made = await browser.newPage({ viewport: { width, height }, deviceScaleFactor: scale ?? 1 });
    pages.set(page, made);
    await made.goto(url);
  },
  async press({ page, key }) {
    await pages.get(page).keyboard.press(key);
  },
  /** As fast as it goes with delay 0; each character is a key. */
  async type({ page, text, delay }) {
    await pages.get(page).keyboard.type(text, { delay });
  },
  /** In one piece, as from an input method. */
  async insert({ page, text }) {
    await pages.get(page).keyboard.insertText(text);
  },
  async click({ page, selector, modifiers }) {
    await pages.get(page).click(selector, { timeout: 10000, modifiers: modifiers ?? [] });
  },
  /** Press a key, and another as soon as the expression is not empty: how many ms that was after it was so. */
  async glimpse({ page, key, expression, against }) {
    const one = pages.get(page);
    const seen = one.waitForFunction(`(${expression}) !== "" && performance.now()`, undefined, { polling: "raf", timeout: 10000 });
    await one.keyboard.type(key);
    const from = await (await seen).jsonValue();
    await one.keyboard.type(against);
    return (await one.evaluate("performance.now()")) - from;
  },
  async hover({ page, selector }) {
    await pages.get(page).hover(selector, { timeout: 10000 });
  },
  async front({ page }) {
    await pages.get(page).bringToFront();
  },
  /** The value of a JavaScript expression in the page; once more where the page was loaded anew meanwhile. */
  async evaluate({ page, expression }) {
    const one = pages.get(page);
    try {
      return await one.evaluate(expression);
    } catch (error) {
      if (!String(error).includes("Execution context was destroyed")) throw error;
      await one.waitForLoadState();
      return await one.evaluate(expression);
    }
  },
  /** `clip`: {x, y, width, height} in the page's pixels; without it all of the window. */
  async screenshot({ page, file, clip }) {
    await pages.get(page).screenshot({ path: file, clip });
  },
  async close({ page }) {
    await pages.get(page).close();
    pages.delete(page);
  },
};

console.log(JSON.stringify({ value: browser.version() }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  try {
    console.log(JSON.stringify({ value: (await actions[told.do](told)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error).split("\n")[0] }));
  }
}
await browser.close();
