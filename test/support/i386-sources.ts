/**
 * Does everything that a gate has to stand, and writes a line for each that is the same under every gate: calls of every
 * number of arguments while a timer interrupts them, a file mapped, calls that are interrupted and made again, threads and
 * their cancellation, children, jumps out of a call. With the argument 10000 it makes so many calls of each kind.
 */
export const WORKLOAD = String.raw`
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static int many_calls = 1000;
static void set(int number, void (*handler)(int), int flags) {
  struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
  sigaction(number, &action, 0);
}
static void after(int first, int then) {
  struct itimerval timer = { { 0, then * 1000 }, { 0, first * 1000 } };
  setitimer(ITIMER_REAL, &timer, 0);
}
static volatile sig_atomic_t ticks, apart;
static char stack[65536];
static void tick(int number) {
  char here;
  ticks++;
  apart += &here >= stack && &here < stack + sizeof stack;
}
/* Many calls of each kind, while a timer interrupts them. */
static void many(void) {
  stack_t other = { .ss_sp = stack, .ss_size = sizeof stack };
  sigaltstack(&other, 0);
  set(SIGALRM, tick, SA_RESTART | SA_ONSTACK);
  int good[7] = { 0 }, file = open("/proc/self/exe", O_RDONLY);
  pid_t parent = getppid();
  after(1, 1);
  for (int i = 0; i < many_calls; i++) good[0] += getppid() == parent;
  for (int i = 0; i < many_calls; i++) good[1] += close(-1) == -1 && errno == EBADF;
  for (int i = 0; i < many_calls; i++) { struct rlimit limit; good[2] += getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 0; }
  for (int i = 0; i < many_calls; i++) { char head[4]; good[3] += lseek(file, 0, SEEK_SET) == 0 && read(file, head, 4) == 4 && !memcmp(head, "\177ELF", 4); }
  for (int i = 0; i < many_calls; i++) { sigset_t mask; good[4] += sigprocmask(SIG_BLOCK, 0, &mask) == 0; }
  for (int i = 0; i < many_calls; i++) { struct timeval none = { 0, 0 }; good[5] += select(0, 0, 0, 0, &none) == 0 || errno == EINTR; }
  for (int i = 0; i < many_calls; i++) { int word = 1; good[6] += syscall(SYS_futex, &word, 9 /* WAIT_BITSET */, 1, 0, 0, 0) == -1 && errno == EINVAL; }
  after(0, 0);
  printf("many:");
  for (int i = 0; i < 7; i++) printf(" %s", good[i] == many_calls ? "all" : "not all");
  printf("\ninterrupted meanwhile: %d, on the other stack: %d\n", ticks > 0, apart == ticks);
  close(file);
}
static void mapping(void) {
  int file = open("/proc/self/exe", O_RDONLY);
  char page[4096];
  pread(file, page, sizeof page, 4096);
  char *mapped = mmap(0, sizeof page, PROT_READ, MAP_PRIVATE, file, 4096);
  printf("mmap2: %d", mapped != MAP_FAILED && !memcmp(mapped, page, sizeof page));
  mapped = mmap(0, sizeof page, PROT_READ, MAP_PRIVATE, 999, 0);
  printf(" %d\n", mapped == MAP_FAILED && errno == EBADF);
  close(file);
}
static int ends[2];
static void nothing(int number) {}
static void writes(int number) {
  static int written;
  if (!written++) write(ends[1], "x", 1);
}
static void restarts(void) {
  char byte = 0;
  pipe(ends);
  struct pollfd wait = { ends[0], POLLIN, 0 };
  set(SIGALRM, nothing, SA_RESTART);
  after(20, 20);
  int result = poll(&wait, 1, -1);
  printf("poll: %d %d\n", result, result < 0 && errno == EINTR);
  set(SIGALRM, writes, SA_RESTART);
  result = read(ends[0], &byte, 1);
  printf("read, restarted: %d %c\n", result, byte);
  set(SIGALRM, nothing, 0);
  result = read(ends[0], &byte, 1);
  printf("read, interrupted: %d %d\n", result, result < 0 && errno == EINTR);
  after(0, 0);
  /* The set of bits is the sixth argument: it has to be there again when the call is made again. */
  int status, *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t child = fork();
  if (child == 0) {
    int others, woken = 0;
    usleep(50000);
    others = syscall(SYS_futex, word, 10 /* WAKE_BITSET */, 1, 0, 0, 8);
    for (int i = 0; i < 500 && woken == 0; i++) {
      usleep(10000);
      woken = syscall(SYS_futex, word, 10, 1, 0, 0, 4);
    }
    _exit(10 * others + woken);
  }
  ticks = 0;
  set(SIGALRM, tick, SA_RESTART);
  after(10, 10);
  result = syscall(SYS_futex, word, 9 /* WAIT_BITSET */, 0, 0, 0, 4);
  after(0, 0);
  waitpid(child, &status, 0);
  printf("futex, restarted: %d %d %d\n", result, ticks > 0, WEXITSTATUS(status));
  /* Stopped and continued, a call that waits for some time is restarted by restart_syscall. */
  child = fork();
  if (child == 0) {
    struct timespec start, end, pause = { 0, 150000000 };
    clock_gettime(CLOCK_MONOTONIC, &start);
    int slept = nanosleep(&pause, 0), polled = poll(&wait, 1, 150);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long passed = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    _exit(slept == 0 && polled == 0 && passed >= 299 && passed < 60000 ? 33 : 34);
  }
  for (int i = 0; i < 4; i++) {
    usleep(25000); kill(child, SIGSTOP); usleep(25000); kill(child, SIGCONT);
  }
  waitpid(child, &status, 0);
  printf("stopped and continued: %d\n", WEXITSTATUS(status));
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int total, present;
static void *thread(void *parent) {
  int good = 0;
  pthread_mutex_lock(&mutex);
  if (++present == 4) pthread_cond_broadcast(&condition);
  while (present < 4) pthread_cond_wait(&condition, &mutex);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < many_calls; i++) {
    good += getppid() == *(pid_t *)parent;
    if (i % 10 == 0) { pthread_mutex_lock(&mutex); total++; pthread_mutex_unlock(&mutex); }
  }
  return (void *)(long)good;
}
static int cleaned;
static void clean(void *at) { cleaned = 1; }
static void *blocked(void *at) {
  char byte;
  pthread_cleanup_push(clean, 0);
  read(ends[0], &byte, 1);
  pthread_cleanup_pop(0);
  return 0;
}
static void threads(void) {
  pthread_t all[4];
  pid_t parent = getppid();
  void *result;
  int good = 0;
  for (int i = 0; i < 4; i++) pthread_create(&all[i], 0, thread, &parent);
  for (int i = 0; i < 4; i++) { pthread_join(all[i], &result); good += (long)result; }
  printf("threads: %d %d\n", good == 4 * many_calls, total == 4 * many_calls / 10);
  pthread_create(&all[0], 0, blocked, 0);
  usleep(50000);
  pthread_cancel(all[0]);
  pthread_join(all[0], &result);
  printf("cancelled: %d %d\n", result == PTHREAD_CANCELED, cleaned);
}
static void children(void) {
  int status;
  pid_t child = vfork();
  if (child == 0) _exit(7);
  waitpid(child, &status, 0);
  printf("vfork: %d", WEXITSTATUS(status));
  child = fork();
  if (child == 0) { raise(SIGTERM); _exit(8); }
  waitpid(child, &status, 0);
  printf(" fork: %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
}
static sigjmp_buf before;
static volatile int jumps;
static void jump(int number) { jumps++; siglongjmp(before, 1); }
static void jumping(void) {
  char byte;
  set(SIGALRM, jump, 0);
  while (jumps < 20) {
    sigsetjmp(before, 1);
    if (jumps == 20) break;
    after(2, 0);
    read(ends[0], &byte, 1);
  }
  printf("jumps out of calls: %d\n", jumps);
}
static void clocks(void) {
  struct timespec now, then;
  struct timeval day;
  clock_gettime(CLOCK_REALTIME, &now);
  gettimeofday(&day, 0);
  time_t seconds = time(0);
  printf("clocks: %d %d", day.tv_sec - now.tv_sec <= 2, seconds - now.tv_sec <= 2 && now.tv_sec > 1500000000);
  int backwards = 0;
  clock_gettime(CLOCK_MONOTONIC, &then);
  for (int i = 0; i < 1000; i++) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    backwards += now.tv_sec < then.tv_sec || (now.tv_sec == then.tv_sec && now.tv_nsec < then.tv_nsec);
    then = now;
  }
  printf(" %d\n", backwards);
}
int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "10000")) many_calls = 10000;
  setvbuf(stdout, 0, _IONBF, 0);
  for (int i = 1; i < argc; i++) printf("argument: %s\n", argv[i]);
  const char *variable = getenv("VARIABLE");
  printf("environment: %s\n", variable ? variable : "none");
  mapping();
  many();
  restarts();
  threads();
  children();
  jumping();
  clocks();
  return 42;
}
`;

/** What it writes, without its arguments. */
export const WORKED = [
  "environment: value",
  "mmap2: 1 1",
  "many: all all all all all all all",
  "interrupted meanwhile: 1, on the other stack: 1",
  "poll: -1 1",
  "read, restarted: 1 x",
  "read, interrupted: -1 1",
  "futex, restarted: 0 1 1",
  "stopped and continued: 33",
  "threads: 1 1",
  "cancelled: 1 1",
  "vfork: 7 fork: 15",
  "jumps out of calls: 20",
  "clocks: 1 1 0",
  "",
].join("\n");

/**
 * Waits in a system call for a debugger (`call`, or in a signal handler, which returns through the C library, `handler`, or
 * through the image that it was told of, `restorer`), makes calls to be counted, shows its clocks, or ends by a signal.
 */
export const PROBE = String.raw`
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* An address that the image which the program was told of has a symbol for. */
static void *find(const char *name) {
  char *image = (char *)getauxval(AT_SYSINFO_EHDR), *load = image, *strings = 0;
  Elf32_Ehdr *header = (Elf32_Ehdr *)image;
  Elf32_Phdr *segments = (Elf32_Phdr *)(image + header->e_phoff);
  Elf32_Sym *symbols = 0;
  Elf32_Word *hash = 0;
  Elf32_Dyn *one = 0;
  for (int i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_LOAD) load = image - segments[i].p_vaddr;
  for (int i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_DYNAMIC) one = (Elf32_Dyn *)(load + segments[i].p_vaddr);
  for (; one->d_tag; one++) {
    if (one->d_tag == DT_STRTAB) strings = load + one->d_un.d_ptr;
    if (one->d_tag == DT_SYMTAB) symbols = (Elf32_Sym *)(load + one->d_un.d_ptr);
    if (one->d_tag == DT_HASH) hash = (Elf32_Word *)(load + one->d_un.d_ptr);
  }
  for (Elf32_Word i = 0; i < hash[1]; i++)
    if (!strcmp(strings + symbols[i].st_name, name)) return load + symbols[i].st_value;
  return 0;
}
static int fifo;
static volatile int handled;
__attribute__((noinline)) static int waits(void) {
  char byte;
  int result = read(fifo, &byte, 1);
  asm volatile("" ::: "memory");
  return result;
}
static void handler(int number, siginfo_t *info, void *context) { handled = waits(); }
struct action { void *handler; unsigned long flags; void *restorer; unsigned long mask[2]; };
static int wait_for_debugger(const char *where) {
  fifo = open("/tmp/fifo", O_RDWR);
  printf("%d\n", getpid());
  printf("image %lx gate %lx %lx\n", getauxval(AT_SYSINFO_EHDR), getauxval(AT_SYSINFO), (long)find("__kernel_vsyscall"));
  fflush(stdout);
  if (!strcmp(where, "call")) return waits() == 1 ? 5 : 6;
  int ours = !strcmp(where, "restorer");
  struct action action = { handler, SA_SIGINFO | (ours ? 0x04000000 : 0), ours ? find("__kernel_rt_sigreturn") : 0, { 0, 0 } };
  syscall(SYS_rt_sigaction, SIGUSR1, &action, 0, 8);
  kill(getpid(), SIGUSR1);
  return handled == 1 ? 5 : 6;
}
static int calls(void) {
  for (int i = 0; i < 10000; i++) getppid();
  for (int i = 0; i < 77; i++) syscall(SYS_getpgid, 0);
  for (int i = 0; i < 5; i++) read(-1, 0, 0);
  for (int i = 0; i < 3; i++) syscall(1500);
  return 3;
}
static void clocks(void) {
  struct timespec now = { 0, 0 };
  struct timeval day;
  long old[2];
  long long wide[2];
  clock_gettime(CLOCK_REALTIME, &now);
  printf("realtime %lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("monotonic %lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
  gettimeofday(&day, 0);
  printf("gettimeofday %lld.%06ld\n", (long long)day.tv_sec, (long)day.tv_usec);
  printf("time %lld\n", (long long)time(0));
  syscall(265, CLOCK_REALTIME, old);
  syscall(403, CLOCK_REALTIME, wide);
  printf("call %ld\ncall64 %lld\n", old[0], wide[0]);
}
int main(int argc, char **argv) {
  if (!strcmp(argv[1], "calls")) return calls();
  if (!strcmp(argv[1], "end")) raise(SIGTERM);
  if (strcmp(argv[1], "clocks")) return wait_for_debugger(argv[1]);
  clocks();
  usleep(100000);
  clocks();
  return 0;
}
`;

/** The like in Go. */
export const GO_WORKLOAD = String.raw`
package main

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func clocks() {
	for i := 0; i < 2; i++ {
		now := time.Now()
		os.Stdout.WriteString("realtime " + strconv.FormatInt(now.Unix(), 10) + "." + strconv.Itoa(1000000000 + now.Nanosecond())[1:] + "\n")
		time.Sleep(100 * time.Millisecond)
	}
}

func say(words ...string) { os.Stdout.WriteString(strings.Join(words, " ") + "\n") }

func main() {
	if len(os.Args) == 2 && os.Args[1] == "clocks" {
		clocks()
		return
	}
	for _, word := range os.Args[1:] {
		say("argument:", word)
	}
	say("environment:", os.Getenv("VARIABLE"))
	parent := syscall.Getppid()
	var group sync.WaitGroup
	var lock sync.Mutex
	good := 0
	for i := 0; i < 4; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			mine := 0
			for i := 0; i < 10000; i++ {
				if syscall.Getppid() == parent {
					mine++
				}
			}
			lock.Lock()
			good += mine
			lock.Unlock()
		}()
	}
	group.Wait()
	say("goroutines:", strconv.Itoa(good))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
	say("signal:", (<-signals).String())
	before := time.Now()
	time.Sleep(20 * time.Millisecond)
	passed := time.Since(before)
	say("slept:", strconv.FormatBool(passed >= 20*time.Millisecond && passed < 5*time.Second))
	say("year:", strconv.FormatBool(time.Now().UTC().Year() >= 2020))
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	page, err := syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_PRIVATE)
	say("mapped:", strconv.FormatBool(err == nil && string(page[1:4]) == "ELF"))
	func() {
		defer func() { say("recovered:", strconv.FormatBool(recover() != nil)) }()
		var none *int
		println(*none)
	}()
	os.Exit(43)
}
`;

/** What it writes, without its arguments. */
export const GO_WORKED = [
  "environment: value",
  "goroutines: 40000",
  "signal: user defined signal 1",
  "slept: true",
  "year: true",
  "mapped: true",
  "recovered: true",
  "",
].join("\n");
