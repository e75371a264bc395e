// What became of a suggestion, told to the server in Copilot's and our own words (docs/protocol.md).
//
// The stable API tells an extension nothing about what is on screen. So "shown" is approximated (answered, not cancelled, the
// cursor still there, and not at odds with the selected entry of the suggestion list), and accepting a word or a line and
// dismissing are seen by commands of ours on the editor's own keys. Where the host lets us use `inlineCompletionsAdditions`,
// the editor's own events are used instead.
import * as vscode from "vscode";
import type { LanguageClient } from "vscode-languageclient/node";

import { remaining, standing, type Placed } from "./parts";

export interface Suggestion extends Placed {
  readonly id: string;
  readonly uri: string;
}

/** Reports to the server; a server that is not running is told nothing. */
export class Reporter {
  constructor(private readonly client: () => LanguageClient | undefined) {}

  shown(id: string): void {
    this.tell("textDocument/didShowCompletion", { item: asItem(id) });
  }

  /** `units`: UTF-16 units from the start of the inserted text, cumulative. */
  partly(id: string, units: number): void {
    this.tell("textDocument/didPartiallyAcceptCompletion", { item: asItem(id), acceptedLength: units });
  }

  dismissed(id: string): void {
    this.tell("coderl/outcome", { id, kind: "dismissed" });
  }

  focused(uri: string): void {
    this.tell("textDocument/didFocus", { textDocument: { uri } });
  }

  private tell(method: string, params: object): void {
    // It may end at this very moment; then there is nobody to tell.
    this.client()?.sendNotification(method, params).catch(() => undefined);
  }
}

/** What is on screen, as far as the stable API lets one know. */
export class OnScreen {
  private current: Suggestion | undefined;

  /** Answered and not cancelled: it is drawn now. */
  answered(suggestion: Suggestion | undefined): void {
    this.current = suggestion;
  }

  /** The suggestion that is visible in an editor; undefined where there is none of ours. */
  visible(editor: vscode.TextEditor | undefined): Suggestion | undefined {
    const suggestion = this.current;
    if (!editor || !suggestion || editor.document.uri.toString() !== suggestion.uri || editor.selections.length !== 1) return undefined;
    const { text, cursor } = here(editor);
    return remaining(suggestion, text, cursor) ? suggestion : undefined;
  }
}

/** Run one of the editor's own commands, and tell how much of our suggestion is in the document then. */
export async function acceptPart(command: string, screen: OnScreen, reporter: Reporter): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const suggestion = screen.visible(editor);
  await vscode.commands.executeCommand(command);
  if (!editor || !suggestion) return;
  const { text, cursor } = here(editor);
  const units = standing(suggestion, text, cursor);
  // All of it: the editor has run the suggestion's own command.
  if (units !== undefined && units < suggestion.text.length) reporter.partly(suggestion.id, units);
}

export async function dismiss(screen: OnScreen, reporter: Reporter): Promise<void> {
  const suggestion = screen.visible(vscode.window.activeTextEditor);
  await vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
  screen.answered(undefined);
  if (suggestion) reporter.dismissed(suggestion.id);
}

function here(editor: vscode.TextEditor): { text: string; cursor: number } {
  return { text: editor.document.getText(), cursor: editor.document.offsetAt(editor.selection.active) };
}

function asItem(id: string): object {
  return { command: { arguments: [id] } };
}
