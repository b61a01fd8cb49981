// A disk that goes bad while a process runs: preloaded before the C library, it
// fails what SQLite asks of the journal's files as long as the file exists that
// LABGATE_BAD_DISK names. That file says how: full, readonly or sync.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char mode(int fd) {
	const char *trigger = getenv("LABGATE_BAD_DISK");
	if (!trigger || access(trigger, F_OK) != 0) return 0;
	char link[64], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n <= 0) return 0;
	path[n] = 0;
	if (!strstr(path, "/journal.db")) return 0;
	char how = 0;
	FILE *f = fopen(trigger, "r");
	if (f) {
		if (fread(&how, 1, 1, f) != 1) how = 0;
		fclose(f);
	}
	return how;
}

static int writing(int fd) {
	switch (mode(fd)) {
	case 'f': errno = ENOSPC; return -1;
	case 'r': errno = EROFS; return -1;
	}
	return 0;
}

static int syncing(int fd) {
	if (mode(fd) != 's') return 0;
	errno = EIO;
	return -1;
}

ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) {
	static ssize_t (*real)(int, const void *, size_t, off64_t);
	if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
	return writing(fd) ? -1 : real(fd, b, n, at);
}

ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
	static ssize_t (*real)(int, const void *, size_t, off_t);
	if (!real) real = dlsym(RTLD_NEXT, "pwrite");
	return writing(fd) ? -1 : real(fd, b, n, at);
}

ssize_t write(int fd, const void *b, size_t n) {
	static ssize_t (*real)(int, const void *, size_t);
	if (!real) real = dlsym(RTLD_NEXT, "write");
	return writing(fd) ? -1 : real(fd, b, n);
}

int fsync(int fd) {
	static int (*real)(int);
	if (!real) real = dlsym(RTLD_NEXT, "fsync");
	return syncing(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
	static int (*real)(int);
	if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
	return syncing(fd) ? -1 : real(fd);
}
