import { spawnSync } from "node:child_process";

/**
 * What is done at a terminal, in order: keys are typed; a text is waited for (a regular expression, looked for behind
 * the last one that was found); time passes; the window gets another size.
 */
export type Act =
  | { readonly type: string }
  | { readonly see: string }
  | { readonly wait: number }
  | { readonly rows: number; readonly columns: number };

const DRIVER = `
import fcntl, json, os, pty, re, select, signal, struct, sys, termios, time
words, acts = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(PS1="ready> ", TERM="xterm", HISTFILE="")
    os.execvp(words[0], words)
seen, at = b"", 0
def read(seconds):
    global seen
    ready, _, _ = select.select([terminal], [], [], seconds)
    if not ready: return True
    try: more = os.read(terminal, 65536)
    except OSError: more = b""
    seen += more
    return more != b""
failure = None
for act in acts:
    if "type" in act: os.write(terminal, act["type"].encode())
    elif "wait" in act:
        until = time.monotonic() + act["wait"] / 1000
        while time.monotonic() < until and read(max(0, until - time.monotonic())): pass
    elif "rows" in act: fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", act["rows"], act["columns"], 0, 0))
    else:
        until = time.monotonic() + 6
        while True:
            match = re.compile(act["see"].encode(), re.M).search(seen, at)
            if match:
                at = match.end()
                break
            if time.monotonic() > until or not read(0.2):
                failure = act["see"]
                break
    if failure: break
os.kill(pid, signal.SIGHUP)
os.kill(pid, signal.SIGKILL)
os.close(terminal)
print(json.dumps([failure, seen.decode("latin1")]))
`;

/**
 * Starts a program on a terminal of its own, and acts on it; gives all that was written there.
 *
 * Throws, with that, where a text that is waited for does not come within 6 s.
 */
export function atTerminal(words: readonly string[], acts: readonly Act[]): string {
  // The system's own Python, where there is another one before it, starts sooner.
  const env = { ...process.env, PATH: `/usr/bin:${process.env.PATH}` };
  const run = spawnSync("python3", ["-c", DRIVER, JSON.stringify([words, acts])], { encoding: "utf8", env });
  if (run.status !== 0) throw new Error(`the terminal's driver: ${run.stderr}`);
  const [failure, text] = JSON.parse(run.stdout) as [string | null, string];
  if (failure !== null) throw new Error(`${failure} was not seen, but:\n${text}`);
  return text;
}
