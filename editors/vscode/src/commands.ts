// What the command palette offers.
import * as path from "node:path";
import * as vscode from "vscode";
import type { LanguageClient } from "vscode-languageclient/node";

import { acceptPart, dismiss, type OnScreen, type Reporter } from "./outcomes";
import type { Server } from "./server";
import { SECTION, target } from "./settings";
import { askWhy, type Status } from "./status";

export interface Parts {
  readonly server: Server;
  readonly screen: OnScreen;
  readonly reporter: Reporter;
  readonly status: Status;
  readonly log: vscode.LogOutputChannel;
  readonly install: () => Promise<void>;
}

const SNOOZE_MIN = 10;
const EAGERNESS: readonly { label: string; value: number; description: string }[] = [
  { label: "−1", value: -1, description: "speaks least" },
  { label: "−0.5", value: -0.5, description: "speaks less" },
  { label: "0", value: 0, description: "the gate's own judgement" },
  { label: "0.5", value: 0.5, description: "speaks more" },
  { label: "1", value: 1, description: "speaks most" },
];

export function registerCommands(parts: Parts): vscode.Disposable {
  const { server, screen, reporter, status } = parts;
  const run = vscode.commands.executeCommand;
  const commands: Readonly<Record<string, (argument: unknown) => unknown>> = {
    "coderl.acceptWord": () => acceptPart("editor.action.inlineSuggest.acceptNextWord", screen, reporter),
    "coderl.acceptLine": () => acceptPart("editor.action.inlineSuggest.acceptNextLine", screen, reporter),
    "coderl.dismiss": () => dismiss(screen, reporter),
    "coderl.trigger": () => run("editor.action.inlineSuggest.trigger"),
    "coderl.toggle": () => toggle(),
    "coderl.toggleLanguage": () => toggleLanguage(),
    "coderl.toggleHere": () => toggleHere(),
    "coderl.snooze": (minutes) => snooze(server.running, typeof minutes === "number" ? minutes : SNOOZE_MIN, status),
    "coderl.eagerness": () => eagerness(),
    "coderl.why": () => why(server.running),
    "coderl.showLog": () => parts.log.show(),
    "coderl.restart": () => server.restart(),
    "coderl.install": () => parts.install(),
    "coderl.openSettings": () => run("workbench.action.openSettings", "@ext:coderl.coderl"),
  };
  return vscode.Disposable.from(
    ...Object.entries(commands).map(([name, command]) => vscode.commands.registerCommand(name, command)),
  );
}

async function toggle(): Promise<void> {
  const section = vscode.workspace.getConfiguration(SECTION);
  const on = section.get<boolean>("enabled", true);
  await section.update("enabled", !on, target(section, "enabled"));
  say(`suggestions are ${on ? "off" : "on"} everywhere.`);
}

async function toggleLanguage(): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  if (!language) return say("there is no active editor.");
  const section = vscode.workspace.getConfiguration(SECTION);
  const on = section.get<Record<string, boolean>>("languages", {})[language] !== false;
  const where = target(section, "languages");
  await section.update("languages", { ...written(section.inspect("languages"), where), [language]: !on }, where);
  say(`suggestions are ${on ? "off" : "on"} in ${language}.`);
}

async function toggleHere(): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  if (!document) return say("there is no active editor.");
  const section = vscode.workspace.getConfiguration(SECTION);
  const glob = globOf(document.uri);
  const globs = section.get<string[]>("disableGlobs", []);
  const off = globs.includes(glob);
  const where = vscode.workspace.workspaceFolders ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global;
  await section.update("disableGlobs", off ? globs.filter((one) => one !== glob) : [...globs, glob], where);
  say(`suggestions are ${off ? "on" : "off"} in ${glob}.`);
}

/** What stands in the settings file of a target itself, without the defaults and other levels. */
function written(inspected: { globalValue?: unknown; workspaceValue?: unknown } | undefined, where: vscode.ConfigurationTarget): object {
  const value = where === vscode.ConfigurationTarget.Workspace ? inspected?.workspaceValue : inspected?.globalValue;
  return (value as object | undefined) ?? {};
}

/** One file as a pattern: the workspace folder's name and the way from there, wildcards taken literally. */
function globOf(uri: vscode.Uri): string {
  const folder = vscode.workspace.getWorkspaceFolder(uri);
  const relative = folder ? path.posix.relative(path.posix.dirname(folder.uri.path), uri.path) : uri.path.split("/").slice(-2).join("/");
  return relative.replace(/[[*?]/g, "[$&]").replace(/^(?=[!#])/, "**/");
}

async function snooze(client: LanguageClient | undefined, minutes: number, status: Status): Promise<void> {
  if (!client) return say("the server is not running.");
  const answer = await client.sendRequest<{ snoozed_s: number }>("coderl/snooze", { minutes });
  status.snoozed(answer.snoozed_s);
  if (answer.snoozed_s <= 0) return say("the snooze is over.");
  const choice = await vscode.window.showInformationMessage(`CodeRL: snoozed for ${minutes} minutes.`, "Wake Up");
  if (choice) await vscode.commands.executeCommand("coderl.snooze", 0);
}

async function eagerness(): Promise<void> {
  const section = vscode.workspace.getConfiguration(SECTION);
  const now = section.get<number>("eagerness", 0);
  const picked = await vscode.window.showQuickPick(
    EAGERNESS.map((one) => ({ ...one, description: one.description + (one.value === now ? " (now)" : "") })),
    { title: "CodeRL: how much it speaks", matchOnDescription: true },
  );
  if (picked) await section.update("eagerness", picked.value, target(section, "eagerness"));
}

async function why(client: LanguageClient | undefined): Promise<void> {
  const answer = await askWhy(client, vscode.window.activeTextEditor?.document.uri);
  const next: Readonly<Record<string, string>> = answer
    ? { "Speak Less or More": "coderl.eagerness", "Snooze 10 Minutes": "coderl.snooze", Settings: "coderl.openSettings" }
    : { Install: "coderl.install", Restart: "coderl.restart", "Show Log": "coderl.showLog" };
  const text = answer ? [answer.text ?? "", ...(answer.notices ?? [])].join(" ") : "The server is not running.";
  const choice = await vscode.window.showInformationMessage(`CodeRL: ${text}`, ...Object.keys(next));
  const command = choice && next[choice];
  if (command) await vscode.commands.executeCommand(command);
}

function say(text: string): void {
  void vscode.window.showInformationMessage(`CodeRL: ${text}`);
}
