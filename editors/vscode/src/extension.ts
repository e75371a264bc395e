// Wires the parts; nothing is decided here.
import * as vscode from "vscode";

import { registerCommands } from "./commands";
import { install } from "./install";
import { OnScreen, Reporter } from "./outcomes";
import { findProgram } from "./program";
import { Provider } from "./provider";
import { Server } from "./server";
import { readSettings, SECTION, ServerSettings } from "./settings";
import { Status } from "./status";

let stop: (() => Promise<void>) | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel("CodeRL", { log: true });
  const status = new Status(() => server.running);
  const server: Server = new Server(() => findProgram(context), new ServerSettings(context.extension.packageJSON), log, {
    started: () => status.set("ready"),
    stopped: (why) => status.set("stopped", why),
    crashed: (pauseMs) => void tellCrash(pauseMs, log),
    missing: (why) => void offer(why),
  });
  const client = () => server.running;
  const screen = new OnScreen();
  const reporter = new Reporter(client);
  const provider = new Provider(client, screen, reporter, status);
  context.subscriptions.push(log, status, provider.register());
  // Word, line and Escape go through our commands only where the editor does not tell us by itself.
  await vscode.commands.executeCommand("setContext", "coderl.approximates", !provider.exact);

  const installed = async () => {
    if (await install(context, log)) await server.restart();
  };
  context.subscriptions.push(
    registerCommands({ server, screen, reporter, status, log, install: installed }),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (!event.affectsConfiguration(SECTION)) return;
      status.visible(readSettings().showStatus);
      const other = ["path", "arguments"].some((key) => event.affectsConfiguration(`${SECTION}.${key}`));
      void (other ? server.restart() : server.configure());
    }),
    vscode.env.onDidChangeTelemetryEnabled(() => void server.configure()),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      if (editor) reporter.focused(editor.document.uri.toString());
    }),
  );
  status.visible(readSettings().showStatus);
  stop = () => server.dispose();
  void server.restart();
}

export function deactivate(): Promise<void> | undefined {
  return stop?.();
}

async function tellCrash(pauseMs: number, log: vscode.LogOutputChannel): Promise<void> {
  const text = `CodeRL: the server has ended by itself and is started again in ${pauseMs / 1000} s.`;
  if (await vscode.window.showWarningMessage(text, "Show Log")) log.show();
}

async function offer(why: string): Promise<void> {
  const choice = await vscode.window.showInformationMessage(`CodeRL: ${why}`, "Install It for This Extension", "Settings");
  if (choice) await vscode.commands.executeCommand(choice === "Settings" ? "coderl.openSettings" : "coderl.install");
}
