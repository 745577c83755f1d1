/**
 * Does something every so many seconds until the program is told to stop (SIGINT, SIGTERM), which ends the wait and
 * lets what is being done come to its end. Throws what `look` throws.
 */
export async function everySoOften(seconds: number, look: () => Promise<void>): Promise<void> {
  let stopped = false;
  let wake = () => {};
  const stop = () => {
    stopped = true;
    wake();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    while (!stopped) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, seconds * 1000);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!stopped) await look();
    }
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
}
