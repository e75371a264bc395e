// The status bar item: a sign for the state, the reason of the last silence in its tooltip, `coderl/why` on a click.
import * as vscode from "vscode";
import type { LanguageClient } from "vscode-languageclient/node";

import { asMarkdown } from "./parts";
import type { Watcher } from "./provider";

type State = "stopped" | "off" | "snoozed" | "ready" | "asking" | "shown" | "silent";

const LOOKS: Readonly<Record<State, { icon: string; text: string }>> = {
  stopped: { icon: "$(warning)", text: "the server is not running" },
  off: { icon: "$(circle-slash)", text: "suggestions are off here" },
  snoozed: { icon: "$(bell-slash)", text: "suggestions are snoozed" },
  ready: { icon: "$(lightbulb-empty)", text: "ready" },
  asking: { icon: "$(loading~spin)", text: "thinking" },
  shown: { icon: "$(lightbulb)", text: "a suggestion is shown" },
  silent: { icon: "$(lightbulb-empty)", text: "silent" },
};
/** Reasons (docs/protocol.md) that are states rather than judgements. */
const STATES: Readonly<Record<string, State>> = {
  disabled: "off",
  never_shown: "off",
  secret_file: "off",
  too_large: "off",
  no_model: "off",
  snoozed: "snoozed",
};
/** Shorter waits are not worth a sign that turns. */
const THINKING_MS = 400;
const ASK_WHY_MS = 300;

/** The part of the answer to `coderl/why` that is read here. */
export interface Why {
  readonly text?: string;
  readonly notices?: readonly string[];
  readonly decision?: { readonly fields?: { readonly reason?: string } } | null;
}

export class Status implements vscode.Disposable, Watcher {
  private readonly item: vscode.StatusBarItem;
  private timer: NodeJS.Timeout | undefined;
  private waking: NodeJS.Timeout | undefined;
  private state: State = "stopped";

  constructor(private readonly client: () => LanguageClient | undefined) {
    this.item = vscode.window.createStatusBarItem("coderl.status", vscode.StatusBarAlignment.Right, 90);
    this.item.name = "CodeRL";
    this.item.command = "coderl.why";
    this.set("stopped");
  }

  visible(wanted: boolean): void {
    if (wanted) this.item.show();
    else this.item.hide();
  }

  set(state: State, why = ""): void {
    clearTimeout(this.timer);
    this.state = state;
    const look = LOOKS[state];
    this.item.text = `${look.icon} CodeRL`;
    const tooltip = new vscode.MarkdownString(`**CodeRL**: ${look.text}`);
    if (why) tooltip.appendMarkdown(`\n\n${asMarkdown(why)}`);
    tooltip.appendMarkdown("\n\n[Why?](command:coderl.why) · [Speak less or more](command:coderl.eagerness)");
    tooltip.isTrusted = { enabledCommands: ["coderl.why", "coderl.eagerness"] };
    this.item.tooltip = tooltip;
    this.item.accessibilityInformation = { label: `CodeRL: ${look.text}. ${why}`.trim(), role: "button" };
  }

  /** Snoozed for so many seconds from now; 0: no longer. */
  snoozed(seconds: number): void {
    clearTimeout(this.waking);
    this.set(seconds > 0 ? "snoozed" : "ready");
    if (seconds > 0) this.waking = setTimeout(() => this.state === "snoozed" && this.set("ready"), seconds * 1000);
  }

  asked(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.set("asking"), THINKING_MS);
  }

  answered(document: vscode.TextDocument, items: number): void {
    clearTimeout(this.timer);
    if (items) this.set("shown");
    else this.timer = setTimeout(() => void this.explain(document.uri), ASK_WHY_MS);
  }

  superseded(): void {
    clearTimeout(this.timer);
    if (this.state === "asking") this.timer = setTimeout(() => this.set("ready"), THINKING_MS);
  }

  declined(why: string): void {
    this.set("silent", why);
  }

  dispose(): void {
    clearTimeout(this.timer);
    clearTimeout(this.waking);
    this.item.dispose();
  }

  private async explain(uri: vscode.Uri): Promise<void> {
    const answer = await askWhy(this.client(), uri);
    if (answer) this.set(STATES[answer.decision?.fields?.reason ?? ""] ?? "silent", answer.text ?? "");
  }
}

/** Why the last request in a document (or at all) ended as it did; undefined where there is no server to say it. */
export async function askWhy(client: LanguageClient | undefined, uri: vscode.Uri | undefined): Promise<Why | undefined> {
  const params = client && uri ? { textDocument: { uri: client.code2ProtocolConverter.asUri(uri) } } : {};
  try {
    return await client?.sendRequest<Why>("coderl/why", params);
  } catch {
    return undefined;
  }
}
