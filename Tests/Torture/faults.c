// Stands between the program and the C library, and breaks promises of the latter as FAULTS says:
//
//   short=N              every write to a regular file takes N bytes at most
//   lie=K                the Kth such write says it took all, and leaves out the last byte
//   power=SEED:K         at the Kth call that changes files the power fails: what was not flushed is gone in part
//   signal=CALL:N:SIG    the process gets a signal before the Nth CALL; signal=CALL:N:SIG:2 gets it twice
//   pause=CALL:N:PATH    before the Nth CALL makes PATH and waits until it is gone
//   count=PATH           writes at the end how many calls changed files
//
// strace does the rest; it cannot send a signal to the process, only to a thread.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static char kind[16], call_name[32], path[4096];
static long number, amount, times = 1;
static unsigned seed;
static long changes, calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct range {
  dev_t device;
  ino_t inode;
  int file;
  off_t start;
  size_t size;
};
struct entry {
  dev_t device;
  ino_t inode;
  int folder;
  char name[256];
};
static struct range ranges[1 << 16];
static struct entry entries[1 << 10];
static size_t range_count, entry_count;

__attribute__((constructor)) static void read_faults(void) {
  const char *text = getenv("FAULTS");
  if (!text) return;
  if (sscanf(text, "short=%ld", &amount) == 1) strcpy(kind, "short");
  else if (sscanf(text, "lie=%ld", &number) == 1) strcpy(kind, "lie");
  else if (sscanf(text, "power=%u:%ld", &seed, &number) == 2) strcpy(kind, "power");
  else if (sscanf(text, "signal=%31[^:]:%ld:%ld:%ld", call_name, &number, &amount, &times) >= 3) strcpy(kind, "signal");
  else if (sscanf(text, "pause=%31[^:]:%ld:%4095s", call_name, &number, path) == 3) strcpy(kind, "pause");
  else if (sscanf(text, "count=%4095s", path) == 1) strcpy(kind, "count");
  else abort();
}

__attribute__((destructor)) static void write_count(void) {
  if (strcmp(kind, "count")) return;
  FILE *file = fopen(path, "w");
  if (file) {
    fprintf(file, "%ld\n", changes);
    fclose(file);
  }
}

static int is_regular(int file, struct stat *status) {
  return fstat(file, status) == 0 && S_ISREG(status->st_mode);
}

static void lose_power(void) {
  srand(seed);
  for (size_t i = 0; i < range_count; i++)
    for (size_t done = 0; done < ranges[i].size; done += 4096) {
      static const char zeros[4096];
      size_t size = ranges[i].size - done < 4096 ? ranges[i].size - done : 4096;
      if (rand() % 2) REAL(pwrite)(ranges[i].file, zeros, size, ranges[i].start + done);
    }
  for (size_t i = 0; i < range_count; i++)
    if (rand() % 8 == 0) REAL(ftruncate)(ranges[i].file, ranges[i].start);
  for (size_t i = 0; i < entry_count; i++)
    if (rand() % 2) unlinkat(entries[i].folder, entries[i].name, 0);
  _exit(137);
}

// Called, with the lock held, before a call that changes files.
static void change(void) {
  changes++;
  if (!strcmp(kind, "power") && changes == number) lose_power();
}

static void wrote(int file, off_t start, size_t size) {
  struct stat status;
  if (strcmp(kind, "power") || !is_regular(file, &status)) return;
  int own = -1;
  for (size_t i = 0; i < range_count && own < 0; i++)
    if (ranges[i].device == status.st_dev && ranges[i].inode == status.st_ino) own = ranges[i].file;
  if (own < 0) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    own = REAL(open)(name, O_WRONLY | O_CLOEXEC);
  }
  if (own < 0 || range_count == sizeof ranges / sizeof *ranges) abort();
  ranges[range_count++] = (struct range){status.st_dev, status.st_ino, own, start, size};
}

static void named(const char *at) {
  if (strcmp(kind, "power")) return;
  char folder[4096];
  snprintf(folder, sizeof folder, "%s", at);
  char *slash = strrchr(folder, '/');
  if (slash) *slash = 0;
  struct entry *entry = &entries[entry_count];
  struct stat status;
  entry->folder = REAL(open)(slash ? (slash == folder ? "/" : folder) : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (entry->folder < 0 || fstat(entry->folder, &status) || entry_count + 1 == sizeof entries / sizeof *entries) return;
  entry->device = status.st_dev;
  entry->inode = status.st_ino;
  snprintf(entry->name, sizeof entry->name, "%s", slash ? at + (slash - folder) + 1 : at);
  entry_count++;
}

static void flushed(int file) {
  struct stat status;
  if (strcmp(kind, "power") || fstat(file, &status)) return;
  size_t kept = 0;
  for (size_t i = 0; i < range_count; i++)
    if (ranges[i].device != status.st_dev || ranges[i].inode != status.st_ino) ranges[kept++] = ranges[i];
  range_count = kept;
  kept = 0;
  for (size_t i = 0; i < entry_count; i++)
    if (entries[i].device != status.st_dev || entries[i].inode != status.st_ino) entries[kept++] = entries[i];
  entry_count = kept;
}

// Before every call that a signal or a pause can wait for.
static void before(const char *name) {
  if (strcmp(name, call_name) || __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != number) return;
  if (!strcmp(kind, "pause")) {
    close(REAL(open)(path, O_WRONLY | O_CREAT, 0600));
    while (access(path, F_OK) == 0) usleep(2000);
    return;
  }
  for (long i = 0; i < times; i++) {
    kill(getpid(), (int)amount);
    usleep(40000);
  }
}

static size_t permitted(int file, size_t size, int *lies) {
  struct stat status;
  *lies = 0;
  if (!is_regular(file, &status)) return size;
  if (!strcmp(kind, "short") && size > (size_t)amount) return (size_t)amount;
  if (!strcmp(kind, "lie")) *lies = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == number;
  return size;
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t start) {
  int lies;
  before("pwrite");
  size = permitted(file, size, &lies);
  pthread_mutex_lock(&lock);
  change();
  ssize_t done = REAL(pwrite)(file, bytes, size - lies, start);
  if (done > 0) wrote(file, start, done);
  pthread_mutex_unlock(&lock);
  return done < 0 ? done : done + lies;
}

ssize_t write(int file, const void *bytes, size_t size) {
  struct stat status;
  if (!is_regular(file, &status)) return REAL(write)(file, bytes, size);
  int lies;
  before("write");
  size = permitted(file, size, &lies);
  pthread_mutex_lock(&lock);
  change();
  ssize_t done = REAL(write)(file, bytes, size - lies);
  if (done > 0) wrote(file, lseek(file, 0, SEEK_CUR) - done, done);
  pthread_mutex_unlock(&lock);
  return done < 0 ? done : done + lies;
}

ssize_t copy_file_range(int from, off64_t *from_start, int to, off64_t *to_start, size_t size, unsigned flags) {
  int lies;
  before("copy_file_range");
  size = permitted(to, size, &lies);
  pthread_mutex_lock(&lock);
  change();
  off_t start = to_start ? *to_start : lseek(to, 0, SEEK_CUR);
  ssize_t done = REAL(copy_file_range)(from, from_start, to, to_start, size - lies, flags);
  if (done > 0) wrote(to, start, done);
  pthread_mutex_unlock(&lock);
  return done < 0 ? done : done + lies;
}

int fsync(int file) {
  before("fsync");
  pthread_mutex_lock(&lock);
  change();
  int result = REAL(fsync)(file);
  if (result == 0) flushed(file);
  pthread_mutex_unlock(&lock);
  return result;
}

int open(const char *at, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  before("open");
  pthread_mutex_lock(&lock);
  int is_new = flags & O_CREAT && access(at, F_OK) != 0;
  if (is_new) change();
  int file = REAL(open)(at, flags, mode);
  if (file >= 0 && is_new) named(at);
  pthread_mutex_unlock(&lock);
  return file;
}

#define CHANGING(name, parameters, arguments, after) \
  int name parameters {                              \
    before(#name);                                   \
    pthread_mutex_lock(&lock);                       \
    change();                                        \
    int result = REAL(name) arguments;               \
    if (result == 0) after;                          \
    pthread_mutex_unlock(&lock);                     \
    return result;                                   \
  }

CHANGING(mkdir, (const char *at, mode_t mode), (at, mode), (void)0)
CHANGING(unlink, (const char *at), (at), (void)0)
CHANGING(rename, (const char *from, const char *to), (from, to), (void)0)
CHANGING(renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags), (void)0)
CHANGING(linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), named(to))
CHANGING(fchmod, (int file, mode_t mode), (file, mode), (void)0)
CHANGING(ftruncate, (int file, off_t size), (file, size), (void)0)
CHANGING(fallocate, (int file, int mode, off_t start, off_t size), (file, mode, start, size), (void)0)

ssize_t pread(int file, void *bytes, size_t size, off_t start) {
  before("pread");
  return REAL(pread)(file, bytes, size, start);
}
