import { closeSync, openSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { isatty } from "node:tty";

/** What is passed on to a program that runs in this one's place. */
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/** What a terminal's keys send, to all processes in its foreground at once. */
const FROM_KEYS: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGTSTP"];

/** Signals that this process receives and passes on. */
export interface Forwarding {
  /** Those received so far, in order. */
  readonly received: readonly NodeJS.Signals[];
  /** The child is there: what keys of the terminal send reaches it by itself from now on. */
  begun(): void;
  /**
   * Passes what is received from now on, and what was received before, to a child of this process; stops when that is
   * stopped, and makes it go on when this does, so that a shell sees one job. The terminal is then the child's: this
   * process, when it ends, leaves it as it finds it.
   */
  to(pid: number): void;
  /** Ends it: signals do to this process what they do to others. */
  stop(): void;
}

/** Begins to receive the signals that are meant for the program which is about to be started. */
export function forwardSignals(): Forwarding {
  const received: NodeJS.Signals[] = [];
  let target: number | undefined;
  /** How many had been received when the child was there. */
  let before = Number.POSITIVE_INFINITY;
  const send = (signal: NodeJS.Signals): void => {
    if (target === undefined) return;
    try {
      process.kill(target, signal);
    } catch {
      // It has ended, or has become a user's who is none of ours.
    }
  };
  const pass = (signal: NodeJS.Signals): void => {
    if (!(FROM_KEYS.includes(signal) && isForeground())) send(signal);
  };
  const receive = (signal: NodeJS.Signals): void => {
    received.push(signal);
    pass(signal);
  };
  // Whether this stops is for the program to say, which may ignore the key or first put the terminal in order.
  const suspend = (): void => pass("SIGTSTP");
  // Tells of stops too.
  const follow = (): void => {
    if (target === undefined || statOf(target)?.state !== "T" || statOf("self")?.terminal === "0") return;
    process.off("SIGTSTP", suspend);
    process.kill(process.pid, "SIGTSTP");
    // Here it goes on.
    process.on("SIGTSTP", suspend);
  };
  // The program has been made to go on too, unless this was alone.
  const resume = (): void => {
    if (target !== undefined && statOf(target)?.state === "T") send("SIGCONT");
  };
  for (const signal of FORWARDED) process.on(signal, receive);
  return {
    received,
    begun: () => {
      // What came before the child did is heard of a turn later, when the turn in which it was started is over.
      setImmediate(() =>
        setImmediate(() => {
          before = received.length;
        }),
      );
    },
    to: (pid) => {
      target = pid;
      received.forEach((signal, i) => {
        if (i < before) send(signal);
        else pass(signal);
      });
      process.on("SIGTSTP", suspend);
      process.on("SIGCHLD", follow);
      process.on("SIGCONT", resume);
      process.once("exit", leaveTerminal);
      // It may have been stopped before anybody listened.
      follow();
    },
    stop: () => {
      for (const signal of FORWARDED) process.off(signal, receive);
      process.off("SIGTSTP", suspend);
      process.off("SIGCHLD", follow);
      process.off("SIGCONT", resume);
    },
  };
}

/** Whether this process is in the foreground of its terminal: the program then gets what keys send from there. */
function isForeground(): boolean {
  const stat = statOf("self");
  return stat !== undefined && stat.group === stat.foreground;
}

/**
 * What /proc tells of a process: its state as a letter, its process group, the device of its terminal (`0` where it has
 * none), and the group in the foreground of that; absent where it has ended.
 */
function statOf(pid: number | "self") {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    // It has ended.
    return undefined;
  }
  const [state, , group, , terminal, foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { state, group, terminal, foreground };
}

/**
 * Parts this process from its terminal. Node, when it exits, gives the terminal of its standard streams the modes that it
 * had when Node started, which would undo what the program changed, and what another one does that has it by then.
 */
function leaveTerminal(): void {
  for (const fd of [0, 1, 2]) {
    if (!isatty(fd)) continue;
    closeSync(fd);
    // The lowest descriptor that is free is this one.
    openSync("/dev/null", "r+");
  }
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
