#pragma once
#include <stddef.h>
#include <stdint.h>

/* Linux calls that glibc declares only for GNU sources, which Swift's view of it is not. Where a system has none, each
   fails with ENOSYS. The result is 0 or a count, or the negative errno. */

/* Renames; flags of linux/fs.h: 1 refuses to replace, 2 exchanges both paths. */
int lora_renameat2(const char *from, const char *to, unsigned int flags);

/* Reserves disk space from the start of a file and extends the file to it. */
int lora_fallocate(int file, int64_t size);

/* Copies bytes between files inside the kernel and returns how many. */
int64_t lora_copy_file_range(int from, int64_t from_offset, int to, int64_t to_offset, size_t count);

/* Opens an existing file for writes past the page cache; the result is the descriptor. */
int lora_open_direct(const char *path);

/* Opens a new file in a folder that never gets a name; the result is the descriptor. */
int lora_open_nameless(const char *folder);

/* Asks for large pages under memory that the kernel will often look up page by page; advice, so nothing is returned. */
void lora_advise_huge_pages(void *memory, size_t count);
