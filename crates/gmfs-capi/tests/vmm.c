/*
 * What a VMM does with a file of a region: finds it, locks it, maps it, and lets a guest write into it.
 *
 *     vmm IMAGE REGION|- PATH
 *
 * The memory is expected to hold, in each byte, the number of its block plus 1. It prints the numbers of bytes and of extents.
 */
#include <gmfs.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BLOCK (2u << 20)

static int failed(void)
{
	fprintf(stderr, "vmm: %s\n", gmfs_error());
	return 1;
}

/* Each call that cannot work says why, and harms nothing. */
static int misuse(struct gmfs_image *image, struct gmfs_file *file)
{
	if (gmfs_open(NULL) || !strstr(gmfs_error(), "a path of an image is missing"))
		return 1;
	if (gmfs_open("/nowhere/region.img") || !strstr(gmfs_error(), "/nowhere/region.img does not exist"))
		return 2;
	if (gmfs_find(NULL, NULL) != -1 || !strstr(gmfs_error(), "no image was given"))
		return 3;
	if (gmfs_find(image, "much") != -1 || !strstr(gmfs_error(), "much"))
		return 4;
	if (gmfs_file(image, NULL) || gmfs_file(NULL, "/a"))
		return 5;
	if (gmfs_file(image, "/none") || !strstr(gmfs_error(), "there is no '/none' in the region"))
		return 6;
	if (gmfs_lock(NULL) != -1 || gmfs_map(NULL) || gmfs_size(NULL) || gmfs_extents(NULL))
		return 7;
	if (gmfs_map(file) || !strstr(gmfs_error(), "call gmfs_lock first"))
		return 8;
	gmfs_release(NULL);
	gmfs_close(NULL);
	return 0;
}

int main(int argc, char **argv)
{
	struct gmfs_image *image;
	struct gmfs_file *file, *again;
	unsigned char *memory;
	uint64_t size, at;
	int wrong;

	if (argc != 4)
		return 2;
	if (strcmp(gmfs_error(), "") != 0 || gmfs_survive_bus_errors() != 0)
		return failed();
	image = gmfs_open(argv[1]);
	if (!image || gmfs_find(image, strcmp(argv[2], "-") ? argv[2] : NULL) != 0)
		return failed();
	file = gmfs_file(image, argv[3]);
	again = gmfs_file(image, argv[3]);
	if (!file || !again)
		return failed();
	wrong = misuse(image, file);
	if (wrong) {
		fprintf(stderr, "vmm: misuse %d: %s\n", wrong, gmfs_error());
		return 1;
	}
	gmfs_close(image);

	if (gmfs_lock(file) != 0)
		return failed();
	if (gmfs_lock(file) != -1 || gmfs_lock(again) != -1 || !strstr(gmfs_error(), "in use")) {
		fprintf(stderr, "vmm: two locks on one file\n");
		return 1;
	}
	memory = gmfs_map(file);
	if (!memory || gmfs_map(file) != (void *)memory)
		return failed();
	size = gmfs_size(file);
	for (at = 0; at < size; at += 4096) {
		if (memory[at] != (unsigned char)(at / BLOCK + 1)) {
			fprintf(stderr, "vmm: byte %" PRIu64 " is %d\n", at, memory[at]);
			return 1;
		}
	}
	/* A guest writes over the edge of two blocks. */
	memcpy(memory + BLOCK - 3, "guest", 5);
	printf("%" PRIu64 " bytes, %" PRIu64 " extents\n", size, gmfs_extents(file));
	fflush(stdout);
	gmfs_release(file);
	/* Nobody has it any more. */
	if (gmfs_lock(again) != 0)
		return failed();
	gmfs_release(again);
	return 0;
}
