import { afterAll, describe, expect, it } from "vitest";
import { ExecVerb } from "../support/exec-verb.js";
import { everyGate } from "../support/gates.js";
import { runsHere } from "../support/native.js";
import { type BuiltProgram, Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

const workshop = new Workshop();
const verb = await ExecVerb.bundle();
afterAll(() => {
  verb.remove();
  workshop.remove();
});

/**
 * Eight threads call each function of the vDSO ten thousand times, while a signal arrives every 100 µs, whose handler
 * has a stack of its own and calls too, and while the first thread starts processes in every way there is.
 */
const C_SOURCE = `
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 8
#define CALLS 10000
#define STACK 65536
#define MUST(what) do { if (!(what)) { printf("line %d: %s, errno %d\\n", __LINE__, #what, errno); _exit(1); } } while (0)

extern char **environ;
static __thread char *stack;
static volatile sig_atomic_t signals;
static volatile int done;

static int is_before(struct timespec a, struct timespec b) {
  return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}
static void handler(int signal) {
  char here;
  struct timespec now;
  int saved = errno;
  MUST(stack && &here >= stack && &here < stack + STACK);
  MUST(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  signals++;
  errno = saved;
}
static int processor(unsigned *cpu) {
#ifdef __GLIBC__
  return getcpu(cpu, 0);
#else
  *cpu = sched_getcpu();
  return *cpu == -1u;
#endif
}
static void *calls(void *unused) {
  struct timespec last = {0}, now;
  struct timeval last_val = {0}, val;
  time_t last_time = 0;
  unsigned cpu;
  long processors = sysconf(_SC_NPROCESSORS_CONF);
  stack = malloc(STACK);
  stack_t own = {.ss_sp = stack, .ss_size = STACK};
  MUST(sigaltstack(&own, 0) == 0);
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  MUST(pthread_sigmask(SIG_UNBLOCK, &alarm, 0) == 0);
  for (int i = 0; i < CALLS; i++) {
    errno = 77;
    MUST(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && !is_before(now, last) && now.tv_nsec < 1000000000);
    last = now;
    MUST(gettimeofday(&val, 0) == 0 && val.tv_usec < 1000000);
    MUST(val.tv_sec > last_val.tv_sec || (val.tv_sec == last_val.tv_sec && val.tv_usec >= last_val.tv_usec));
    last_val = val;
    time_t second = time(0);
    MUST(second >= last_time && labs((long)(second - val.tv_sec)) < 2);
    last_time = second;
    MUST(clock_getres(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec == 0 && now.tv_nsec > 0);
    MUST(processor(&cpu) == 0 && cpu < processors);
    MUST(errno == 77);
    if (i % 100) continue;
    MUST(clock_gettime(9999, &now) == -1 && errno == EINVAL);
    errno = 77;
    MUST(clock_getres(9999, &now) == -1 && errno == EINVAL);
  }
  return 0;
}
static void ended(pid_t pid) {
  int status;
  MUST(pid > 0);
  while (waitpid(pid, &status, 0) < 0) MUST(errno == EINTR);
  MUST(status == 0);
}
static void *processes(void *unused) {
  char *words[] = {"/bin/true", 0};
  pid_t pid;
  for (int i = 0; i < 10; i++) {
    pid = vfork();
    if (pid == 0) {
      execve(words[0], words, environ);
      _exit(1);
    }
    ended(pid);
    MUST(posix_spawn(&pid, words[0], 0, 0, words, environ) == 0);
    ended(pid);
    pid = fork();
    if (pid == 0) {
      struct timespec now;
      for (int n = 0; n < 100; n++) MUST(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
      _exit(0);
    }
    ended(pid);
  }
  return 0;
}
int main(void) {
  pthread_t threads[THREADS + 1];
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  // Who starts processes is not interrupted: a fork that takes longer than 100 us would never be done.
  MUST(pthread_sigmask(SIG_BLOCK, &alarm, 0) == 0);
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};
  MUST(sigaction(SIGALRM, &action, 0) == 0);
  struct itimerval often = {{0, 100}, {0, 100}};
  MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
  for (int i = 0; i < THREADS; i++) MUST(pthread_create(&threads[i], 0, calls, 0) == 0);
  MUST(pthread_create(&threads[THREADS], 0, processes, 0) == 0);
  for (int i = 0; i <= THREADS; i++) MUST(pthread_join(threads[i], 0) == 0);
  printf("%d threads, %d calls, %s\\n", THREADS, CALLS, signals > 10 ? "interrupted" : "too few signals");
  return 0;
}
`;

const GO_SOURCE = `
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func must(ok bool, what string) {
	if !ok {
		fmt.Println(what)
		os.Exit(1)
	}
}

func main() {
	runtime.GOMAXPROCS(8)
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			last := time.Now()
			for i := 0; i < 10000; i++ {
				now := time.Now()
				must(!now.Before(last), "backward")
				last = now
			}
		}()
	}
	for i := 0; i < 10; i++ {
		runtime.GC()
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, nil)
		must(err == nil, "ForkExec")
		var status syscall.WaitStatus
		_, err = syscall.Wait4(pid, &status, 0, nil)
		must(err == nil && status == 0, "Wait4")
		time.Sleep(time.Millisecond)
	}
	all.Wait()
	fmt.Println("8 goroutines, 10000 calls")
}
`;

function programs(): (BuiltProgram & { readonly says: string })[] {
  const built = workshop
    .cPrograms(C_SOURCE, "-O1", "-pthread")
    .map((one) => ({ ...one, says: "8 threads, 10000 calls, interrupted\n" }));
  if (!needs("go", "golang-go")) return built;
  const go = { name: "Go", path: workshop.goProgram("load", GO_SOURCE), says: "8 goroutines, 10000 calls\n" };
  return [...built, go];
}

const built = programs();
if (built.length === 0) it.skip("programs that no compiler here makes, under load");

describe.skipIf(!runsHere("x86_64")).each(built)("under load, $name", ({ path, says }) => {
  // Where addresses lie makes no difference to what is done here.
  const gates = everyGate(workshop.folder).filter(({ options }) => !options.includes("--aslr"));
  it.each(gates)("is the same under $name", ({ options }) => {
    const run = verb.run(...options, "--", path);
    expect([run.text, run.errors, run.status]).toEqual([says, "", 0]);
  });
});
