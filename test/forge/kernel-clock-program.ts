/**
 * Writes the functions of its own vDSO (`NAME ADDRESS`, and an empty line), reads where the image is that was made for
 * these, and how it changes the clocks: `FILE RATE`, and a line `CLOCK REAL SHOWN` for each, with the numbers' upper and
 * lower 64 bits. Then it calls both in four threads with signal handlers on top, and checks that what ours shows lies
 * between what must be shown of the kernel's reading before and after.
 */
export const KERNEL_CLOCK_PROGRAM = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
typedef __int128 wide;
typedef int (*get_t)(int, struct timespec *);
static get_t kernel_get, our_get;
static int (*our_day)(struct timeval *, struct timezone *);
static long (*our_time)(long *);
static long long rate;
static int count;
static struct { int clock; wide real, shown; } changes[20];
static wide shown(int clock, wide real) {
  for (int i = 0; i < count; i++)
    if (changes[i].clock == clock) return changes[i].shown + (((real - changes[i].real) * rate) >> 32);
  return real;
}
static wide ns(struct timespec *t) { return (wide)t->tv_sec * 1000000000 + t->tv_nsec; }
static _Atomic long good, bad, handled;
static void check(int ok) { if (ok) good++; else bad++; }
static void look(int clock) {
  struct timespec before, ours, after;
  kernel_get(clock, &before);
  int status = our_get(clock, &ours);
  kernel_get(clock, &after);
  check(status == 0 && ours.tv_nsec >= 0 && ours.tv_nsec < 1000000000 &&
        shown(clock, ns(&before)) <= ns(&ours) && ns(&ours) <= shown(clock, ns(&after)));
}
static void look_all(void) {
  static const int clocks[] = { 0, 1, 2, 4, 5, 6, 7, 11 };
  struct timespec before, after;
  struct timeval tv;
  for (int i = 0; i < 8; i++) look(clocks[i]);
  kernel_get(0, &before);
  our_day(&tv, 0);
  kernel_get(0, &after);
  wide us = (wide)tv.tv_sec * 1000000 + tv.tv_usec;
  check(shown(0, ns(&before)) - 1000 < us * 1000 && us * 1000 <= shown(0, ns(&after)));
  kernel_get(5, &before);
  long second = our_time(0);
  kernel_get(5, &after);
  check(shown(5, ns(&before)) - 1000000000 < (wide)second * 1000000000 && (wide)second * 1000000000 <= shown(5, ns(&after)));
}
static void handler(int number) { look_all(); handled++; }
static void *work(void *unused) {
  for (int i = 0; i < 10000; i++) look_all();
  return 0;
}
int main(void) {
  static const char *names[] = { "clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu", "getrandom" };
  void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  for (int i = 0; i < 6; i++) {
    char name[40];
    snprintf(name, sizeof name, "__vdso_%s", names[i]);
    if (dlsym(vdso, name)) printf("%s %lx\\n%s %lx\\n", name, (long)dlsym(vdso, name), names[i], (long)dlsym(vdso, name));
  }
  puts("");
  fflush(stdout);
  char path[300];
  unsigned long long parts[4];
  if (scanf("%299s %lld", path, &rate) != 2) return 1;
  while (scanf("%d %llu %llu %llu %llu", &changes[count].clock, parts, parts + 1, parts + 2, parts + 3) == 5) {
    changes[count].real = (wide)parts[0] << 64 | parts[1];
    changes[count++].shown = (wide)parts[2] << 64 | parts[3];
  }
  void *image = dlopen(path, RTLD_NOW);
  if (!image) { puts(dlerror()); return 1; }
  kernel_get = dlsym(vdso, "__vdso_clock_gettime");
  our_get = dlsym(image, "clock_gettime");
  our_day = dlsym(image, "gettimeofday");
  our_time = dlsym(image, "time");
  struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
  sigaction(SIGALRM, &action, 0);
  struct itimerval often = { { 0, 500 }, { 0, 500 } };
  setitimer(ITIMER_REAL, &often, 0);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
  setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, 0);
  printf("good %d, bad %ld, handled %d\\n", good >= 400000, bad, handled > 0);
  return 0;
}
`;
