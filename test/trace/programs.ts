/** Makes known numbers of clock calls in known ways; the first argument says which. */
export const CLOCK_PROGRAM = `
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static struct timespec ts;
static struct timeval tv;
__attribute__((noinline)) void raw_calls(int n) {
  for (int i = 0; i < n; i++) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
}
__attribute__((noinline)) void other_raw_calls(int n) {
  for (int i = 0; i < n; i++) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
}
__attribute__((noinline)) void library_calls(int n) {
  for (int i = 0; i < n; i++) {
    clock_gettime(CLOCK_REALTIME, &ts);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    gettimeofday(&tv, 0);
    clock_getres(CLOCK_THREAD_CPUTIME_ID, &ts);
  }
}
static void *thread(void *n) { raw_calls(*(int *)n); library_calls(10); return 0; }
static pthread_barrier_t start, end;
static void *waiting(void *n) {
  for (;;) { pthread_barrier_wait(&start); other_raw_calls(*(int *)n); pthread_barrier_wait(&end); }
  return 0;
}
static void on_signal(int signal) { (void)signal; syscall(SYS_time, 0); }
int main(int argc, char **argv) {
  int n = argc > 2 ? atoi(argv[2]) : 100;
  const char *mode = argv[1];
  pthread_barrier_init(&start, 0, 2);
  pthread_barrier_init(&end, 0, 2);
  if (!strcmp(mode, "mixed")) {
    raw_calls(n);
    other_raw_calls(2 * n);
    library_calls(n);
    unsigned cpu;
    syscall(SYS_getcpu, &cpu, 0, 0);
    syscall(SYS_time, 0);
    syscall(SYS_clock_getres, CLOCK_BOOTTIME, &ts);
    return 7;
  }
  if (!strcmp(mode, "threads")) {
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) pthread_create(threads + i, 0, thread, &n);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], 0);
    return 0;
  }
  if (!strcmp(mode, "children")) {
    for (int i = 0; i < 4; i++) {
      pid_t pid = i % 2 ? fork() : vfork();
      if (pid == 0) { execl(argv[0], argv[0], "mixed", argv[2], (char *)0); _exit(9); }
      waitpid(pid, 0, 0);
      raw_calls(n);
    }
    pid_t pid = fork();
    if (pid == 0) { raw_calls(n); _exit(0); }
    waitpid(pid, 0, 0);
    return 0;
  }
  if (!strcmp(mode, "signals")) {
    signal(SIGUSR1, on_signal);
    for (int i = 0; i < n; i++) { raise(SIGUSR1); raw_calls(1); }
    return 0;
  }
  if (!strcmp(mode, "killed")) { raw_calls(n); raise(SIGTERM); }
  if (!strcmp(mode, "rounds")) {
    /* A round for each SIGUSR1: known calls of the first thread, of one that was there, and of three that are new. */
    sigset_t set;
    int signal, few = n / 2;
    pthread_t threads[3], there;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    pthread_create(&there, 0, waiting, &n);
    puts("ready");
    fflush(stdout);
    for (;;) {
      sigwait(&set, &signal);
      raw_calls(n);
      pthread_barrier_wait(&start);
      for (int i = 0; i < 3; i++) pthread_create(threads + i, 0, thread, &few);
      for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
      pthread_barrier_wait(&end);
      puts("done");
      fflush(stdout);
      if (argc > 3) execl(argv[0], argv[0], "mixed", argv[2], (char *)0);
    }
  }
  return 4;
}
`;

/** Reads the monotonic clock by the runtime, and 50 times by a system call. */
export const GO_PROGRAM = `package main

import (
	"syscall"
	"time"
	"unsafe"
)

func main() {
	var ts syscall.Timespec
	done := make(chan bool)
	for g := 0; g < 2; g++ {
		go func() {
			for i := 0; i < 25; i++ {
				syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&ts)), 0)
				_ = time.Now()
			}
			done <- true
		}()
	}
	<-done
	<-done
}
`;

/** Waits without a limit, for what comes when a byte is read; says of each wait how it ended. */
export const WAITING_PROGRAM = `
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>
static int fds[2], epoll, semaphore;
static sigset_t set;
static long waited[3];
static void *on_epoll(void *a) { struct epoll_event e; waited[0] = epoll_wait(epoll, &e, 1, -1); return a; }
static void *on_signal(void *a) { waited[1] = sigwaitinfo(&set, 0); return a; }
static void *on_semaphore(void *a) { struct sembuf op = {0, -1, 0}; waited[2] = semop(semaphore, &op, 1); return a; }
int main(void) {
  pthread_t threads[3];
  char byte = 1;
  struct epoll_event event = {.events = EPOLLIN};
  struct sembuf up = {0, 1, 0};
  epoll = epoll_create1(0);
  if (pipe(fds)) return 1;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &event);
  semaphore = semget(IPC_PRIVATE, 1, 0600);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, 0);
  pthread_create(threads, 0, on_epoll, 0);
  pthread_create(threads + 1, 0, on_signal, 0);
  pthread_create(threads + 2, 0, on_semaphore, 0);
  puts("ready");
  fflush(stdout);
  if (read(0, &byte, 1) != 1) return 2;
  if (write(fds[1], &byte, 1) != 1) return 3;
  kill(getpid(), SIGUSR2);
  semop(semaphore, &up, 1);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  semctl(semaphore, 0, IPC_RMID);
  printf("%ld %d %ld\\n", waited[0], waited[1] == SIGUSR2, waited[2]);
  return 0;
}
`;

/** Keeps what it becomes from installing filters: seccomp(2) fails. */
export const CONFINING_PROGRAM = `
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sock_filter rules[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, rules};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;
  execvp(argv[1], argv + 1);
  return 98;
}
`;
