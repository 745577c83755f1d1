/*
 * Measures the calls that `linux-gate bench` measures, with loops that a compiler makes and times that the kernel tells:
 * a referee that has nothing in common with it but the question. Prints a line for each: the call, the way, nanoseconds.
 *
 *   gcc -O2 -o measure-calls measure-calls.c -ldl        (or with -m32)
 *   ./measure-calls CPU ROUNDS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum way { FUNCTION, SYSCALL, INT80, GATE, EMPTY_FUNCTION, EMPTY_ENTRY };

struct entry {
  char call[64];
  const char *via;
  enum way way;
  long (*function)(long, long, long);
  long number, args[3];
  int calls;
};

static char buffer[64] __attribute__((aligned(16)));
static struct entry entries[128];
static int count;

__attribute__((noinline, noclone)) static long nothing(long a, long b, long c) {
  __asm__ volatile("" : : : "memory");
  return a;
}

#ifdef __x86_64__
#define ENTER(instruction, entry)                                                                                  \
  ({                                                                                                               \
    long result = (entry)->number;                                                                                 \
    __asm__ volatile(instruction                                                                                   \
                     : "+a"(result)                                                                                \
                     : "D"((entry)->args[0]), "S"((entry)->args[1]), "d"((entry)->args[2])                         \
                     : "rcx", "r11", "memory");                                                                    \
    result;                                                                                                        \
  })
#else
static unsigned long gate;
#define ENTER(instruction, entry)                                                                                  \
  ({                                                                                                               \
    long result = (entry)->number;                                                                                 \
    __asm__ volatile(instruction                                                                                   \
                     : "+a"(result)                                                                                \
                     : "b"((entry)->args[0]), "c"((entry)->args[1]), "d"((entry)->args[2])                         \
                     : "memory");                                                                                  \
    result;                                                                                                        \
  })
#endif

static void repeat(const struct entry *entry, int calls) {
  switch (entry->way) {
  case FUNCTION:
  case EMPTY_FUNCTION:
    for (int i = 0; i < calls; i++) entry->function(entry->args[0], entry->args[1], entry->args[2]);
    break;
#ifdef __x86_64__
  case SYSCALL:
    for (int i = 0; i < calls; i++) ENTER("syscall", entry);
    break;
#else
  case INT80:
    for (int i = 0; i < calls; i++) ENTER("int $0x80", entry);
    break;
  case GATE:
    for (int i = 0; i < calls; i++) ENTER("call *gate", entry);
    break;
#endif
  default:
    for (int i = 0; i < calls; i++) ENTER("", entry);
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static int ascending(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return difference < 0 ? -1 : difference > 0;
}

static struct entry *add(const char *call, const char *via, enum way way, void *function, long number) {
  struct entry *entry = &entries[count++];
  snprintf(entry->call, sizeof entry->call, "%s", call);
  entry->via = via;
  entry->way = way;
  entry->function = (long (*)(long, long, long))function;
  entry->number = number;
  entry->calls = way == FUNCTION || way >= EMPTY_FUNCTION ? 200 : 100;
  return entry;
}

static void with(struct entry *entry, long a, long b, long c) {
  entry->args[0] = a;
  entry->args[1] = b;
  entry->args[2] = c;
}

/** The function of the vDSO, where there is one, and the real system calls. */
static void ways(void *image, const char *call, const char *name, long number, long a, long b, long c) {
  char symbol[64];
  snprintf(symbol, sizeof symbol, "__vdso_%s", name);
  void *function = image && *name ? dlsym(image, symbol) : 0;
  if (function) with(add(call, "vdso", FUNCTION, function, 0), a, b, c);
#ifdef __x86_64__
  with(add(call, "syscall", SYSCALL, 0, number), a, b, c);
#else
  if (gate) with(add(call, "gate", GATE, 0, number), a, b, c);
  with(add(call, "int80", INT80, 0, number), a, b, c);
#endif
}

static void clocks(void *image, const char *name, long number) {
  static const struct { const char *name; int clock; } all[] = {
    { "REALTIME", 0 }, { "MONOTONIC", 1 }, { "REALTIME_COARSE", 5 }, { "MONOTONIC_COARSE", 6 },
    { "MONOTONIC_RAW", 4 }, { "BOOTTIME", 7 }, { "TAI", 11 }, { "PROCESS_CPUTIME_ID", 2 }, { "THREAD_CPUTIME_ID", 3 },
  };
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
    char call[64];
    snprintf(call, sizeof call, "%s(%s)", name, all[i].name);
    ways(image, call, name, number, all[i].clock, (long)buffer, 0);
  }
}

int main(int argc, char **argv) {
  int cpu = argc > 1 ? atoi(argv[1]) : 0, rounds = argc > 2 ? atoi(argv[2]) : 201;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set)) perror("sched_setaffinity");
#ifdef __x86_64__
  void *image = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
#else
  void *image = dlopen("linux-gate.so.1", RTLD_NOW | RTLD_NOLOAD);
  gate = getauxval(AT_SYSINFO);
#endif
  struct entry *empty_function = add("empty", "vdso", EMPTY_FUNCTION, nothing, 0);
  struct entry *empty_entry = add("empty", "syscall", EMPTY_ENTRY, 0, 0);
  ways(image, "null", "", SYS_getppid, 0, 0, 0);
  clocks(image, "clock_gettime", SYS_clock_gettime);
#ifdef SYS_clock_gettime64
  clocks(image, "clock_gettime64", SYS_clock_gettime64);
#endif
  ways(image, "gettimeofday", "gettimeofday", SYS_gettimeofday, (long)buffer, 0, 0);
  ways(image, "time", "time", SYS_time, 0, 0, 0);
  ways(image, "clock_getres(MONOTONIC)", "clock_getres", SYS_clock_getres, CLOCK_MONOTONIC, (long)buffer, 0);
  ways(image, "getcpu", "getcpu", SYS_getcpu, (long)buffer, (long)buffer + 8, 0);
  ways(image, "getrandom(16)", "", SYS_getrandom, (long)buffer, 16, 0);

  double *taken = calloc((size_t)count * rounds, sizeof *taken);
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < count; i++) {
      repeat(&entries[i], entries[i].calls / 10);
      double start = now();
      repeat(&entries[i], entries[i].calls);
      taken[i * rounds + round] = (now() - start) / entries[i].calls;
    }
  }
  double medians[128];
  for (int i = 0; i < count; i++) {
    qsort(taken + i * rounds, rounds, sizeof *taken, ascending);
    medians[i] = taken[i * rounds + rounds / 2];
  }
  for (int i = 2; i < count; i++) {
    double loop = medians[entries[i].way == FUNCTION ? empty_function - entries : empty_entry - entries];
    printf("%s %s %.3f\n", entries[i].call, entries[i].via, medians[i] - loop);
  }
  return 0;
}
