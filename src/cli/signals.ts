import { readFileSync } from "node:fs";
import { constants } from "node:os";

/** What is passed on to a program that runs in this one's place. */
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/** What a terminal's keys send, to all processes in its foreground at once. */
const FROM_KEYS: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT"];

/** Signals that this process receives and passes on. */
export interface Forwarding {
  /** Those received so far, in order. */
  readonly received: readonly NodeJS.Signals[];
  /** Passes what is received from now on, and what was received before, to a process. */
  to(pid: number): void;
  /** Ends it: signals do to this process what they do to others. */
  stop(): void;
}

/** Begins to receive the signals that are meant for the program which is about to be started. */
export function forwardSignals(): Forwarding {
  const received: NodeJS.Signals[] = [];
  let target: number | undefined;
  const pass = (signal: NodeJS.Signals): void => {
    if (target === undefined || (FROM_KEYS.includes(signal) && isForeground())) return;
    try {
      process.kill(target, signal);
    } catch {
      // It has ended, or has become a user's who is none of ours.
    }
  };
  const receive = (signal: NodeJS.Signals): void => {
    received.push(signal);
    pass(signal);
  };
  for (const signal of FORWARDED) process.on(signal, receive);
  return {
    received,
    to: (pid) => {
      target = pid;
      received.forEach(pass);
    },
    stop: () => {
      for (const signal of FORWARDED) process.off(signal, receive);
    },
  };
}

/** Whether this process is in the foreground of its terminal: the program then gets what keys send from there. */
function isForeground(): boolean {
  const stat = readFileSync("/proc/self/stat", "latin1");
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return group === foreground;
}

/** Longest wait for a signal to end this process. */
const END_MS = 1000;

/** Ends this process by a signal; resolves to the status that shells give for it, should it not have that effect. */
export async function endBySignal(signal: NodeJS.Signals): Promise<number> {
  const nothing = (): void => {};
  try {
    // Node ignores some signals from its start: to listen and to stop restores what the system does with them.
    process.on(signal, nothing);
    process.off(signal, nothing);
  } catch {
    // SIGKILL: nobody can listen.
  }
  process.kill(process.pid, signal);
  await new Promise((resolve) => setTimeout(resolve, END_MS));
  return 128 + constants.signals[signal];
}
