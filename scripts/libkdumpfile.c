/* Reads a dump by libkdumpfile: all of its first MIB MiB, or 4 KiB at 256 MiB ("first"). cc -O2 ... -lkdumpfile */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <libkdumpfile/kdumpfile.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	int first = !strcmp(argv[2], "first");
	unsigned long long at = first ? 256ULL << 20 : 0;
	unsigned long long end = first ? at + 4096 : strtoull(argv[2], NULL, 10) << 20;
	size_t piece = first ? 4096 : 1 << 20;
	char *buffer = malloc(piece);
	double started = now();
	kdump_ctx_t *dump = kdump_new();

	if (kdump_open_fd(dump, open(argv[1], O_RDONLY)) != KDUMP_OK) {
		fprintf(stderr, "open: %s\n", kdump_get_err(dump));
		return 1;
	}
	kdump_set_string_attr(dump, "arch.name", "x86_64");
	double opened = now();

	for (; at < end; at += piece) {
		size_t length = piece;

		if (kdump_read(dump, KDUMP_MACHPHYSADDR, at, buffer, &length) != KDUMP_OK) {
			fprintf(stderr, "read %#llx: %s\n", at, kdump_get_err(dump));
			return 1;
		}
	}
	printf("opened in %.3f ms, read in %.3f ms\n", opened - started, now() - opened);
	return 0;
}
