// The language server: started, restarted one at a time, brought back after a crash with growing pauses.
import { spawn, type ChildProcess } from "node:child_process";
import * as vscode from "vscode";
import { CloseAction, ErrorAction, LanguageClient, RevealOutputChannelOn, State } from "vscode-languageclient/node";

import { NoProgram, type Program } from "./program";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** A server that has run this long has recovered. */
const RECOVERED_MS = 5 * 60_000;
const START_MS = 60_000;
const STOP_MS = 5_000;

/** The documents that suggestions may come in: files and what is not saved yet. No output, review or notebook. */
export const SELECTOR: { scheme: string }[] = [{ scheme: "file" }, { scheme: "untitled" }];

export interface ServerEvents {
  started(): void;
  /** It does not run; `why` in words. */
  stopped(why: string): void;
  /** It ended by itself and comes back; called once until it has recovered. */
  crashed(pauseMs: number): void;
  /** There is no program to start; called once per start that was asked for. */
  missing(why: string): void;
}

export class Server {
  private client: LanguageClient | undefined;
  private child: ChildProcess | undefined;
  private work: Promise<void> = Promise.resolve();
  private queued = false;
  private crashes = 0;
  private startedAt = 0;
  private timer: NodeJS.Timeout | undefined;
  private disposed = false;

  constructor(
    private readonly find: () => Promise<Program>,
    private readonly settings: { forget(): void; read(): Record<string, unknown> },
    private readonly log: vscode.LogOutputChannel,
    private readonly events: ServerEvents,
  ) {}

  /** The running client. */
  get running(): LanguageClient | undefined {
    return this.client?.state === State.Running ? this.client : undefined;
  }

  /** Start, or start anew. One at a time: while one is under way, at most one more waits. */
  restart(): Promise<void> {
    if (!this.queued) {
      this.queued = true;
      this.work = this.work.then(async () => {
        this.queued = false;
        await this.stop();
        if (!this.disposed) await this.start();
      });
    }
    return this.work;
  }

  /** Settings changed: the server takes them over at once. */
  async configure(): Promise<void> {
    await this.running?.sendNotification("workspace/didChangeConfiguration", { settings: { coderl: this.settings.read() } });
  }

  dispose(): Promise<void> {
    this.disposed = true;
    return this.work.then(() => this.stop());
  }

  private async start(): Promise<void> {
    try {
      const program = await this.find();
      this.log.info(`Starting ${program.command} (${program.found}).`);
      this.settings.forget();
      this.client = this.made(program);
      const late = setTimeout(() => this.child?.kill(), START_MS);
      await this.client.start().finally(() => clearTimeout(late));
      this.startedAt = Date.now();
      this.events.started();
    } catch (error) {
      this.log.error(error instanceof NoProgram ? error.message : `The server did not start: ${String(error)}`);
      if (error instanceof NoProgram) {
        this.events.stopped(error.message);
        this.events.missing(error.message);
      } else {
        this.again();
      }
    }
  }

  private made(program: Program): LanguageClient {
    return new LanguageClient("coderl", "CodeRL", () => this.spawned(program), {
      documentSelector: SELECTOR,
      initializationOptions: { coderl: this.settings.read() },
      outputChannel: this.log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      // Our own provider asks, and follows what it was answered.
      middleware: { provideInlineCompletionItems: () => [] },
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          this.again();
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
    });
  }

  private spawned(program: Program): Promise<ChildProcess> {
    return new Promise((resolve, reject) => {
      const child = spawn(program.command, [...program.args], { stdio: "pipe", windowsHide: true });
      this.child = child;
      child.once("spawn", () => resolve(child));
      child.once("error", reject);
      child.once("exit", (code, signal) => this.log.info(`The server has ended (${signal ?? `code ${code}`}).`));
    });
  }

  /** It ended by itself: start it anew after a pause, which grows. */
  private again(): void {
    if (this.disposed || this.timer !== undefined) return;
    if (this.startedAt && Date.now() - this.startedAt > RECOVERED_MS) this.crashes = 0;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.crashes);
    this.crashes += 1;
    this.startedAt = 0;
    this.log.warn(`The server is started again in ${pause / 1000} s.`);
    this.events.stopped(`the server has ended and is started again in ${pause / 1000} s.`);
    if (this.crashes === 1) this.events.crashed(pause);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.restart();
    }, pause);
  }

  private async stop(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    const client = this.client;
    this.client = undefined;
    if (client?.state === State.Running) {
      await client.stop(STOP_MS).catch((error: unknown) => this.log.warn(`The server did not end in time: ${String(error)}`));
    }
    this.child?.kill();
    this.child = undefined;
  }
}
