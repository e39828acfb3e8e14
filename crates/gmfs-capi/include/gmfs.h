/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The C interface of gmfs: a file of a region as the memory of a guest, in one range of addresses, locked as memory in use.
 *
 *     gmfs_survive_bus_errors();
 *     image = gmfs_open("/dev/dax0.0");
 *     gmfs_find(image, NULL);
 *     file = gmfs_file(image, "/vms/a/mem");
 *     gmfs_lock(file);
 *     memory = gmfs_map(file);
 *
 * Each of them can fail: gmfs_error() says why. Pass to a function only what another one returned and what was not freed
 * since, or NULL; and use an image or a file in one thread at a time. A test makes this file from crates/gmfs-capi/src/lib.rs.
 */
#ifndef GMFS_H
#define GMFS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * An image: a region file, a block device, /dev/mem or a devdax device.
 */
struct gmfs_image;

/*
 * A file of a region, and how far it has come.
 */
struct gmfs_file;

/*
 * Says what the last call in this thread that failed was doing, and why it failed. The text is in UTF-8, and is valid until
 * the next call in this thread fails.
 */
const char *gmfs_error(void);

/*
 * Makes the process survive bus errors of memory that this library reads, by a handler for SIGBUS for the whole process and
 * its whole life. Call it before you open a device: without it, devices are refused. For other bus errors, for example of
 * a guest's memory, the handler does what the process did before.
 *
 * Returns 0, or -1 if it fails.
 */
int gmfs_survive_bus_errors(void);

/*
 * Opens an image: a region file, a block device, /dev/mem or a devdax device. Nothing stays open or locked.
 *
 * Returns the image, which gmfs_close frees, or NULL if it fails.
 */
struct gmfs_image *gmfs_open(const char *path);

/*
 * Finds the region in an image. `region` says where it is, as the kernel's parameter does: "SIZE:BASE", for example
 * "64G:0x1000000000". If it is NULL, the whole file or device is the region, and in /dev/mem the region is searched for.
 * Waits up to 10 seconds for a writer.
 *
 * Returns 0, or -1 if it fails.
 */
int gmfs_find(struct gmfs_image *image, const char *region);

/*
 * Finds a file by its path in the region, for example "/vms/a/mem". Each byte of it must have memory: a file with holes, or
 * in blocks with hardware errors, is refused. The image can be closed afterwards.
 *
 * Returns the file, which gmfs_release frees, or NULL if it fails.
 */
struct gmfs_file *gmfs_file(const struct gmfs_image *image, const char *path);

/*
 * Says how large a file is, in bytes; 0 for NULL. gmfs_lock looks at the file again: what counts is the size after it.
 */
uint64_t gmfs_size(const struct gmfs_file *file);

/*
 * Says how many extents a file has; 0 for NULL.
 */
uint64_t gmfs_extents(const struct gmfs_file *file);

/*
 * Locks a file as memory in use, until it is released or the process ends: gmfs does not free or overwrite its blocks, and
 * nobody else gets the lock. Other files of the region can still be changed. Fails if a process has mapped or locked the
 * file already. A process that is forked holds the lock as well.
 *
 * Returns 0, or -1 if it fails.
 */
int gmfs_lock(struct gmfs_file *file);

/*
 * Maps all of a file that is locked, readable, writable and shared: gmfs_size bytes, extent after extent. The memory is valid
 * until the file is released. An access raises SIGBUS if the memory fails.
 *
 * Returns the address of the first byte, or NULL if it fails; then the file is not locked any more. Of a file that is
 * mapped already, it returns the same address again.
 */
void *gmfs_map(struct gmfs_file *file);

/*
 * Unmaps, unlocks and frees a file. NULL is no error.
 */
void gmfs_release(struct gmfs_file *file);

/*
 * Frees an image. Files that were found in it remain. NULL is no error.
 */
void gmfs_close(struct gmfs_image *image);

#ifdef __cplusplus
}
#endif

#endif
