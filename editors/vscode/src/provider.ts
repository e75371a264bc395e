// Ghost text: asks the server, hands its items to the editor, and follows them.
import * as vscode from "vscode";
import { InlineCompletionRequest, type LanguageClient } from "vscode-languageclient/node";

import type { OnScreen, Reporter, Suggestion } from "./outcomes";
import { SELECTOR } from "./server";

/** What the proposed API calls, as far as it is used here (`vscode.proposed.inlineCompletionsAdditions.d.ts`). */
interface Additions {
  handleDidShowCompletionItem(item: vscode.InlineCompletionItem): void;
  handleDidPartiallyAcceptCompletionItem(item: vscode.InlineCompletionItem, info: unknown): void;
  handleEndOfLifetime(item: vscode.InlineCompletionItem, reason: { kind: number }): void;
}

/** `InlineCompletionEndOfLifeReasonKind.Rejected` */
const REJECTED = 1;

/** Told what becomes of every request; the status bar item is one. */
export interface Watcher {
  asked(): void;
  answered(document: vscode.TextDocument, items: number): void;
  /** The request came to nothing: typed on, cancelled, or the server has ended. */
  superseded(): void;
  /** Nothing was asked, for a reason of ours. */
  declined(why: string): void;
}

export class Provider implements vscode.InlineCompletionItemProvider {
  /** The editor's own events come; nothing is approximated. */
  exact = false;

  constructor(
    private readonly client: () => LanguageClient | undefined,
    private readonly screen: OnScreen,
    private readonly reporter: Reporter,
    private readonly watcher: Watcher,
  ) {}

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[]> {
    const client = this.client();
    if (!client) return [];
    const unwanted = whyNot(document);
    if (unwanted) {
      this.watcher.declined(unwanted);
      return [];
    }
    this.watcher.asked();
    const version = document.version;
    const items = await ask(client, document, position, context, token);
    if (!items || token.isCancellationRequested || document.version !== version) {
      this.watcher.superseded();
      return [];
    }
    this.watcher.answered(document, items.length);
    if (!this.exact) this.drawn(document, position, context, items[0]);
    return items;
  }

  /** Register; with the proposed API where the host lets us. */
  register(): vscode.Disposable {
    const provider: vscode.InlineCompletionItemProvider = {
      provideInlineCompletionItems: (...asked) => this.provideInlineCompletionItems(...asked),
    };
    try {
      const registered = vscode.languages.registerInlineCompletionItemProvider(SELECTOR, { ...provider, ...this.additions() });
      this.exact = true;
      return registered;
    } catch {
      // Stable VS Code refuses proposals; that is the ordinary case and no failure.
      return vscode.languages.registerInlineCompletionItemProvider(SELECTOR, provider);
    }
  }

  /** The editor has the answer: is it drawn now? */
  private drawn(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    item: vscode.InlineCompletionItem | undefined,
  ): void {
    const editor = vscode.window.activeTextEditor;
    const suggestion = item && suggestionOf(document, position, item);
    const selected = context.selectedCompletionInfo;
    const fits = !selected || (item && insertText(item).startsWith(selected.text));
    const there = editor?.document === document && editor.selections.length === 1 && editor.selection.active.isEqual(position);
    const visible = suggestion && fits && there ? suggestion : undefined;
    this.screen.answered(visible);
    if (visible) this.reporter.shown(visible.id);
  }

  private additions(): Additions {
    return {
      handleDidShowCompletionItem: (item) => {
        const id = idOf(item);
        if (id) this.reporter.shown(id);
      },
      handleDidPartiallyAcceptCompletionItem: (item, info) => {
        // Called twice: with a number (the older form), and with what is read here.
        const id = idOf(item);
        const length = (info as { acceptedLength?: unknown } | undefined)?.acceptedLength;
        if (id && typeof length === "number") this.reporter.partly(id, length);
      },
      handleEndOfLifetime: (item, reason) => {
        // Superseded displays end too, again and again while typing through: only a "no" is told, the text says the rest.
        const id = idOf(item);
        if (id && reason.kind === REJECTED) this.reporter.dismissed(id);
      },
    };
  }
}

/** The server's items; undefined where the request was cancelled or the server has ended. */
async function ask(
  client: LanguageClient,
  document: vscode.TextDocument,
  position: vscode.Position,
  context: vscode.InlineCompletionContext,
  token: vscode.CancellationToken,
): Promise<vscode.InlineCompletionItem[] | undefined> {
  try {
    const params = client.code2ProtocolConverter.asInlineCompletionParams(document, position, context);
    const answer = await client.sendRequest(InlineCompletionRequest.type, params, token);
    const result = await client.protocol2CodeConverter.asInlineCompletionResult(answer, token);
    return Array.isArray(result) ? result : (result?.items ?? []);
  } catch (error) {
    // Nothing of it is news to the user: cancelled, superseded, or the server is gone, which is told where it is noticed.
    return undefined;
  }
}

/** Why nothing is asked here; undefined where it is. Read-only editors are never asked for by the editor itself. */
function whyNot(document: vscode.TextDocument): string | undefined {
  const editor = vscode.window.activeTextEditor;
  if (editor?.document !== document) return undefined;
  if (editor.selections.length > 1) return "Several cursors are active.";
  const input = vscode.window.tabGroups.activeTabGroup.activeTab?.input;
  const compares = input instanceof vscode.TabInputTextDiff && input.modified.toString() === document.uri.toString();
  return compares ? "This is a comparison." : undefined;
}

function suggestionOf(
  document: vscode.TextDocument,
  position: vscode.Position,
  item: vscode.InlineCompletionItem,
): Suggestion | undefined {
  const id = idOf(item);
  if (!id) return undefined;
  return { id, uri: document.uri.toString(), text: insertText(item), start: document.offsetAt(item.range?.start ?? position) };
}

function insertText(item: vscode.InlineCompletionItem): string {
  return typeof item.insertText === "string" ? item.insertText : item.insertText.value;
}

/** Our id of an item: the argument of its command. */
function idOf(item: vscode.InlineCompletionItem): string | undefined {
  const first: unknown = item.command?.arguments?.[0];
  return typeof first === "string" ? first : undefined;
}
