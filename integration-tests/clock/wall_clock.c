/* Moves the wall clock of the process that it is preloaded into (LD_PRELOAD) by as many nanoseconds as the file
 * WALL_CLOCK holds, in 8 bytes, which may change at any time. Monotonic clocks go on as they were.
 *
 * What waits until a time of the wall clock (as librdkafka does, by cnd_timedwait) waits longer when that is
 * set back, and wakes up early when it is set on: as in Linux. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
/* How soon who waits notices that the clock was moved. */
static const int64_t SLICE = 50000000;

static const volatile int64_t *off;

__attribute__((constructor)) static void map(void) {
  const char *file = getenv("WALL_CLOCK");
  int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
  void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) abort();
  close(fd);
  off = mapped;
}

static int64_t real(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return now.tv_sec * SECOND + now.tv_nsec;
}

/* Libraries may ask before the constructor has run. */
static int64_t moved(void) { return real() + (off ? *off : 0); }

static struct timespec as_timespec(int64_t ns) {
  return (struct timespec){.tv_sec = ns / SECOND, .tv_nsec = ns % SECOND};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
    return (int)syscall(SYS_clock_gettime, clock, now);
  }
  *now = as_timespec(moved());
  return 0;
}

int timespec_get(struct timespec *now, int base) {
  *now = as_timespec(moved());
  return base;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  int64_t ns = moved();
  *now = (struct timeval){.tv_sec = ns / SECOND, .tv_usec = ns % SECOND / 1000};
  return 0;
}

time_t time(time_t *to) {
  time_t now = moved() / SECOND;
  if (to) *to = now;
  return now;
}

/* glibc's cnd_t and mtx_t are its pthread_cond_t and pthread_mutex_t. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  int64_t end = until->tv_sec * SECOND + until->tv_nsec;
  for (;;) {
    int64_t left = end - moved();
    if (left <= 0) return thrd_timedout;
    struct timespec slice = as_timespec(real() + (left < SLICE ? left : SLICE));
    int done = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, &slice);
    if (done != ETIMEDOUT) return done == 0 ? thrd_success : thrd_error;
  }
}
