// Which program is started: the setting, the active Python environment, the managed one, the PATH. In this order.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as vscode from "vscode";

import { readSettings } from "./settings";

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  /** How it was found, in words. */
  readonly found: string;
}

/** There is none; the message says what to do, in words for the user. */
export class NoProgram extends Error {}

const WINDOWS = process.platform === "win32";
const SCRIPTS = WINDOWS ? "Scripts" : "bin";
const EXECUTABLE = WINDOWS ? ".exe" : "";

/** The folder in which the managed environment lives. */
export function managedFolder(context: vscode.ExtensionContext): string {
  return path.join(context.globalStorageUri.fsPath, "environment");
}

export function inEnvironment(folder: string, name: string): string {
  return path.join(folder, SCRIPTS, name + EXECUTABLE);
}

/** The program to start. Rejects with `NoProgram`. */
export async function findProgram(context: vscode.ExtensionContext): Promise<Program> {
  const settings = readSettings();
  const args = ["lsp", ...settings.arguments];
  if (settings.path) {
    const command = path.basename(settings.path) === settings.path ? which(settings.path) : expanded(settings.path);
    if (command && fs.existsSync(command)) return { command, args, found: "the setting coderl.path" };
    throw new NoProgram(`the setting coderl.path names ${settings.path}, which does not exist.`);
  }
  const active = await activeEnvironment();
  if (active && fs.existsSync(inEnvironment(active, "coderl"))) {
    return { command: inEnvironment(active, "coderl"), args, found: "the active Python environment" };
  }
  const managed = inEnvironment(managedFolder(context), "coderl");
  if (fs.existsSync(managed)) return { command: managed, args, found: "the environment that this extension keeps" };
  const onPath = which("coderl");
  if (onPath) return { command: onPath, args, found: "the PATH" };
  throw new NoProgram("no server was found in the active Python environment or on the PATH.");
}

/** The folder of the environment that the Python extension has selected, else of the one the editor was started in. */
async function activeEnvironment(): Promise<string | undefined> {
  const python = vscode.extensions.getExtension("ms-python.python");
  if (!python) return process.env["VIRTUAL_ENV"];
  const api: unknown = python.isActive ? python.exports : await python.activate();
  const environments = (api as { environments?: { getActiveEnvironmentPath?(): { path?: string } } } | undefined)?.environments;
  const interpreter = environments?.getActiveEnvironmentPath?.().path;
  if (!interpreter || !fs.existsSync(interpreter)) return undefined;
  return fs.statSync(interpreter).isDirectory() ? interpreter : path.dirname(path.dirname(interpreter));
}

function expanded(program: string): string {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? "";
  return program.replace(/^~(?=[/\\])/, os.homedir()).replaceAll("${workspaceFolder}", folder);
}

function which(name: string): string | undefined {
  const names = WINDOWS ? [name + EXECUTABLE, name] : [name];
  return (process.env["PATH"] ?? "")
    .split(path.delimiter)
    .flatMap((folder) => names.map((one) => path.join(folder, one)))
    .find((file) => fs.existsSync(file));
}
