// What the user set, as the server wants it. The defaults stand in package.json, written from the server's own (`make docs`).
import * as vscode from "vscode";

export const SECTION = "coderl";

/** Settings of the extension itself; everything else in the section is the server's. */
const OWN: readonly string[] = ["path", "arguments", "showStatus", "installSource"];
/** What may be logged, the least first. */
const PRIVACY: readonly unknown[] = ["off", "metrics", "code"];

export interface Settings {
  /** The program, empty: look for it. */
  readonly path: string;
  readonly arguments: readonly string[];
  readonly showStatus: boolean;
  /** What pip installs, empty: ask. */
  readonly installSource: string;
}

export function readSettings(): Settings {
  const section = vscode.workspace.getConfiguration(SECTION);
  return {
    path: section.get<string>("path", "").trim(),
    arguments: section.get<string[]>("arguments", []),
    showStatus: section.get<boolean>("showStatus", true),
    installSource: section.get<string>("installSource", "").trim(),
  };
}

/**
 * The server's settings for one server process. What the user left alone is not sent, so that the server's own defaults hold;
 * what was sent once is sent for ever, because the server keeps it until it hears otherwise.
 */
export class ServerSettings {
  private readonly sent = new Set<string>();
  private readonly languages = new Set<string>();
  private readonly keys: readonly string[];

  /** `manifest`: the extension's package.json, which names all settings. */
  constructor(manifest: unknown) {
    const contributes = (manifest as { contributes?: { configuration?: { properties?: Record<string, unknown> } } }).contributes;
    this.keys = Object.keys(contributes?.configuration?.properties ?? {})
      .map((name) => name.slice(SECTION.length + 1))
      .filter((key) => !OWN.includes(key));
  }

  /** A new server process knows nothing. */
  forget(): void {
    this.sent.clear();
    this.languages.clear();
  }

  read(): Record<string, unknown> {
    const section = vscode.workspace.getConfiguration(SECTION);
    const found: Record<string, unknown> = {};
    for (const key of this.keys) {
      const there = section.inspect(key);
      const set = (there?.workspaceValue ?? there?.globalValue) !== undefined;
      if (set) this.sent.add(key);
      if (this.sent.has(key)) found[key] = section.get(key);
    }
    if ("languages" in found) found["languages"] = this.allLanguages(found["languages"]);
    if (!vscode.env.isTelemetryEnabled) quieten(section, found);
    return found;
  }

  /** A language that is no longer named is on; the server, which merges, must be told so. */
  private allLanguages(value: unknown): Record<string, unknown> {
    const named = value as Record<string, unknown>;
    for (const language of Object.keys(named)) this.languages.add(language);
    return { ...Object.fromEntries([...this.languages].map((language) => [language, true])), ...named };
  }
}

/** Telemetry is off: a workspace (somebody's repository) may lower what is logged, but only the user may raise it. */
function quieten(section: vscode.WorkspaceConfiguration, found: Record<string, unknown>): void {
  const there = section.inspect("privacy");
  const own = there?.globalValue ?? there?.defaultValue;
  if (PRIVACY.indexOf(found["privacy"]) > PRIVACY.indexOf(own)) found["privacy"] = own;
}

/** Where to change a setting so that the change counts: the workspace where it overrides the user's own. */
export function target(section: vscode.WorkspaceConfiguration, key: string): vscode.ConfigurationTarget {
  const overridden = section.inspect(key)?.workspaceValue !== undefined;
  return overridden ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global;
}
