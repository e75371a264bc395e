// What of a suggestion is in the document already. Pure, no editor: tested by itself.

/** A suggestion as it was answered: `text` replaces the line from `start` on, at offsets of the whole document. */
export interface Placed {
  readonly text: string;
  readonly start: number;
}

/** UTF-16 units of the suggestion that stand in `document` between its start and `cursor`; undefined where they differ from it. */
export function standing(suggestion: Placed, document: string, cursor: number): number | undefined {
  if (cursor < suggestion.start) return undefined;
  const there = unix(document.slice(suggestion.start, cursor));
  const text = unix(suggestion.text);
  if (!text.startsWith(there)) return undefined;
  return unitsBefore(suggestion.text, there.length);
}

/** What remains of the suggestion behind `cursor`; empty where it does not fit there (any more). */
export function remaining(suggestion: Placed, document: string, cursor: number): string {
  const units = standing(suggestion, document, cursor);
  return units === undefined ? "" : suggestion.text.slice(units);
}

/** Text as Markdown that reads the same. (The editor's own `appendText` glues the words together, and lines break anywhere.) */
export function asMarkdown(text: string): string {
  return text.replace(/[!-/:-@[-`{-~]/g, "\\$&");
}

function unix(text: string): string {
  return text.replaceAll("\r\n", "\n");
}

/** Index in `text` of the character that is number `count` once each \r\n counts as one. */
function unitsBefore(text: string, count: number): number {
  let at = 0;
  for (let left = count; left > 0 && at < text.length; left--) at += text.startsWith("\r\n", at) ? 2 : 1;
  return at;
}
