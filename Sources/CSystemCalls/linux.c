#define _GNU_SOURCE
#include "CSystemCalls.h"
#include <errno.h>

#if defined(__linux__)
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int lora_renameat2(const char *from, const char *to, unsigned int flags) {
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) == 0 ? 0 : -errno;
}

int64_t lora_copy_file_range(int from, int64_t from_offset, int to, int64_t to_offset,
                             size_t count) {
  off64_t source = from_offset, target = to_offset;
  ssize_t copied = copy_file_range(from, &source, to, &target, count, 0);
  return copied >= 0 ? copied : -errno;
}

int lora_open_direct(const char *path) {
  int file = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
  return file >= 0 ? file : -errno;
}

int lora_open_nameless(const char *folder) {
  int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  return file >= 0 ? file : -errno;
}

void lora_advise_huge_pages(void *memory, size_t count) { madvise(memory, count, MADV_HUGEPAGE); }

int lora_fallocate(int file, int64_t size) {
  return fallocate(file, 0, 0, size) == 0 ? 0 : -errno;
}

#else

int lora_open_direct(const char *path) { return -ENOSYS; }

int lora_open_nameless(const char *folder) { return -ENOSYS; }

void lora_advise_huge_pages(void *memory, size_t count) {}

int lora_fallocate(int file, int64_t size) { return -ENOSYS; }

int lora_renameat2(const char *from, const char *to, unsigned int flags) { return -ENOSYS; }

int64_t lora_copy_file_range(int from, int64_t from_offset, int to, int64_t to_offset,
                             size_t count) {
  return -ENOSYS;
}

#endif
