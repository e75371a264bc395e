// A Python environment of our own, for people who have none with CodeRL in it.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as vscode from "vscode";

import { inEnvironment, managedFolder } from "./program";
import { readSettings, SECTION } from "./settings";

const PYTHONS = process.platform === "win32" ? ["py", "python"] : ["python3.13", "python3.12", "python3.11", "python3"];
const NEW_ENOUGH = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";

/** Install CodeRL and its embedded model into the extension's storage, with progress. Returns whether it is there now. */
export async function install(context: vscode.ExtensionContext, log: vscode.LogOutputChannel): Promise<boolean> {
  const folder = managedFolder(context);
  const source = await sourceToInstall();
  if (!source) return false;
  return vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "CodeRL", cancellable: true },
    async (progress, token) => {
      const run = (command: string, args: string[]) => running(command, args, log, token);
      try {
        progress.report({ message: "looking for Python 3.11 or newer …" });
        const python = await firstOf(PYTHONS, (name) => run(name, ["-c", NEW_ENOUGH]));
        if (!python) throw new Error("Python 3.11 or newer with its venv module is needed; install it and try again.");
        fs.mkdirSync(path.dirname(folder), { recursive: true });
        progress.report({ message: "making an environment …", increment: 10 });
        await must(run(python, ["-m", "venv", folder]), "The environment could not be made");
        progress.report({ message: "installing the server …", increment: 20 });
        const pip = ["-m", "pip", "install", "--disable-pip-version-check", "--upgrade", source];
        await must(run(inEnvironment(folder, "python"), pip), "pip could not install CodeRL");
        progress.report({ message: "fetching the language model (98 MB) …", increment: 50 });
        await must(run(inEnvironment(folder, "coderl"), ["models", "install"]), "The model could not be installed");
        return true;
      } catch (error) {
        if (!token.isCancellationRequested) {
          const choice = await vscode.window.showErrorMessage(`CodeRL: ${message(error)} The log has the details.`, "Show Log");
          if (choice) log.show();
        }
        return false;
      }
    },
  );
}

/** What pip is to install: the setting, else what the user says, which is kept as the setting. */
async function sourceToInstall(): Promise<string | undefined> {
  const known = readSettings().installSource;
  if (known) return known;
  const said = (
    await vscode.window.showInputBox({
      title: "CodeRL: what should pip install?",
      prompt: "A folder with a checkout of CodeRL, a wheel, or a name and version that your package index knows.",
      ignoreFocusOut: true,
    })
  )?.trim();
  if (said) await vscode.workspace.getConfiguration(SECTION).update("installSource", said, vscode.ConfigurationTarget.Global);
  return said;
}

async function firstOf(names: readonly string[], works: (name: string) => Promise<boolean>): Promise<string | undefined> {
  for (const name of names) if (await works(name)) return name;
  return undefined;
}

async function must(done: Promise<boolean>, otherwise: string): Promise<void> {
  if (!(await done)) throw new Error(`${otherwise}.`);
}

/** Whether the program ended with 0. What it says goes to the log; cancelling ends it. */
function running(command: string, args: string[], log: vscode.LogOutputChannel, token: vscode.CancellationToken): Promise<boolean> {
  return new Promise((resolve) => {
    log.info(`${command} ${args.join(" ")}`);
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    const ended = token.onCancellationRequested(() => child.kill());
    const finish = (worked: boolean) => (ended.dispose(), resolve(worked));
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => log.info(data.toString().trimEnd()));
    child.on("error", () => finish(false));
    child.on("exit", (code) => finish(code === 0));
  });
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
